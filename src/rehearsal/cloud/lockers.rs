//! Credential lockers: names are not unique, client tokens make a repeat harmless.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::{Account, Done, Locker, Moment, Outcome, TokenUse, seconds};
use super::check::{Page, check_tags, encode_token, is_text, is_word};
use super::refusal::Refusal;
use super::request::Request;
use crate::cloud::Service;
use crate::pki::Fingerprint;

/// `CreateCredentialLocker`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateLocker {
    pub(crate) name: Option<String>,
    pub(crate) client_token: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

impl CreateLocker {
    /// One of that name, without token and tags.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), client_token: None, tags: None }
    }

    pub(crate) fn is_tagged(&self) -> bool {
        self.tags.is_some()
    }

    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let it: Self = request.members()?;
        let name_ok = |it: &str| is_text(it, 1, 128, |it| is_word(it) || b"- ".contains(&it));
        if !it.name.as_deref().is_none_or(name_ok) {
            return Err(request.invalid("Name has to be 1 to 128 of [A-Za-z0-9-_ ]"));
        }
        let token_ok = |it: &str| is_text(it, 1, 64, |it| is_word(it) || b"=-".contains(&it));
        if !it.client_token.as_deref().is_none_or(token_ok) {
            return Err(request.invalid("ClientToken has to be 1 to 64 of [a-zA-Z0-9=_-]"));
        }
        if let Some(tags) = &it.tags {
            if tags.is_empty() {
                return Err(request.invalid("Tags has to have at least one tag"));
            }
            check_tags(request, tags)?;
        }
        Ok(it)
    }

    fn parameters(&self) -> Fingerprint {
        let tags: Vec<_> = self.tags.iter().flatten().collect();
        Fingerprint::of(json!([self.name, tags]).to_string().as_bytes())
    }
}

impl Account {
    /// Same token and same parameters: the same answer, and nothing more.
    pub(crate) fn create_locker(&mut self, command: CreateLocker, at: Moment<'_>) -> Outcome {
        let parameters = command.parameters();
        if let Some(earlier) = command.client_token.as_ref().and_then(|it| self.tokens.get(it)) {
            if earlier.parameters != parameters {
                let message = "ClientToken was used with other parameters";
                return Err(Refusal::new("ConflictException", 409, message));
            }
            let body = self.locker_body(&earlier.locker, earlier.created, at);
            return Ok(Done { status: 201, body: Some(Value::Object(body)), effect: false });
        }
        if self.max_lockers.is_some_and(|it| self.lockers.len() >= it) {
            let message = "The account has as many credential lockers as it may.";
            return Err(Refusal::new("ServiceQuotaExceededException", 402, message));
        }
        let number = self.next();
        let id = self.digits(&format!("locker {number}"))[..32].to_owned();
        let created = at.now.wall;
        let body = self.locker_body(&id, created, at);
        if let Some(token) = command.client_token {
            self.tokens.insert(token, TokenUse { locker: id.clone(), created, parameters });
        }
        let tags = command.tags.unwrap_or_default();
        self.lockers.insert(id, Locker { name: command.name, tags, created });
        Ok(Done { status: 201, body: Some(Value::Object(body)), effect: true })
    }

    pub(crate) fn get_locker(&self, id: &str, at: Moment<'_>) -> Outcome {
        let locker = self.lockers.get(id).ok_or_else(|| no_locker(id))?;
        let mut body = self.locker_summary(id, locker, at);
        if !locker.tags.is_empty() {
            body.insert("Tags".to_owned(), json!(locker.tags));
        }
        Ok(Done::read(Value::Object(body)))
    }

    pub(crate) fn list_lockers(&self, page: &Page, at: Moment<'_>) -> Outcome {
        let start = page.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.lockers.range::<str, _>((start, Bound::Unbounded));
        let part: Vec<_> = rest.by_ref().take(page.limit).collect();
        let items: Vec<_> = part.iter().map(|(id, it)| self.locker_summary(id, it, at)).collect();
        let mut body = json!({ "Items": items });
        if let (Some((last, _)), Some(_)) = (part.last(), rest.next()) {
            body["NextToken"] = encode_token(Service::ManagedIntegrations, last).into();
        }
        Ok(Done::read(body))
    }

    pub(crate) fn delete_locker(&mut self, id: &str) -> Outcome {
        self.lockers.remove(id).map(|_| Done::empty(true)).ok_or_else(|| no_locker(id))
    }

    fn locker_summary(&self, id: &str, locker: &Locker, at: Moment<'_>) -> Map<String, Value> {
        let mut body = self.locker_body(id, locker.created, at);
        if let Some(name) = &locker.name {
            body.insert("Name".to_owned(), name.as_str().into());
        }
        body
    }

    fn locker_body(&self, id: &str, created: jiff::Timestamp, at: Moment<'_>) -> Map<String, Value> {
        let arn = format!("arn:aws:iotmanagedintegrations:{}:{}:credential-locker/{id}", at.region, self.id);
        let mut body = Map::new();
        body.insert("Id".to_owned(), id.into());
        body.insert("Arn".to_owned(), arn.into());
        body.insert("CreatedAt".to_owned(), seconds(created));
        body
    }
}

fn no_locker(id: &str) -> Refusal {
    Refusal::not_found(format!("There is no credential locker {id}"))
}
