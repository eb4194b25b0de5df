//! Policies: a name is taken for good, whatever the document.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, Done, Moment, Outcome, Policy, seconds};
use super::attachments::is_hidden;
use super::check::{Page, Tag, encode_token, iot_tags, policy_name};
use super::refusal::Refusal;
use super::request::Request;
use crate::cloud::Service;

/// Longest document, characters without white space (AWS General Reference).
const MAX_DOCUMENT: usize = 2048;
/// Longest document on the wire, characters.
const MAX_DOCUMENT_ON_WIRE: usize = 404_600;

/// `CreatePolicy`.
#[derive(Debug)]
pub(crate) struct CreatePolicy {
    pub(crate) name: String,
    pub(crate) document: String,
    pub(crate) tagged: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    policy_document: Option<String>,
    tags: Option<Vec<Tag>>,
}

impl CreatePolicy {
    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let name = policy_name(request)?;
        let members: Members = request.members()?;
        let document =
            members.policy_document.ok_or_else(|| request.invalid("policyDocument is required"))?;
        let tags = members.tags.unwrap_or_default();
        let tagged = !tags.is_empty();
        iot_tags(request, tags)?;
        check_document(&document)?;
        Ok(Self { name, document, tagged })
    }
}

fn check_document(document: &str) -> Result<(), Refusal> {
    let malformed = |why: String| {
        Refusal::new("MalformedPolicyException", 400, format!("Policy document is Malformed: {why}"))
    };
    if document.len() > MAX_DOCUMENT_ON_WIRE {
        return Err(malformed("it is longer than 404,600 characters".to_owned()));
    }
    if document.chars().filter(|it| !it.is_whitespace()).count() > MAX_DOCUMENT {
        return Err(malformed("it is longer than 2,048 characters".to_owned()));
    }
    serde_json::from_str::<BTreeMap<String, Value>>(document)
        .map(|_| ())
        .map_err(|error| malformed(error.to_string()))
}

impl Account {
    pub(crate) fn create_policy(&mut self, command: CreatePolicy, at: Moment<'_>) -> Outcome {
        let CreatePolicy { name, document, .. } = command;
        let arn = self.arn(at.region, &format!("policy/{name}"));
        if self.policies.contains_key(&name) {
            let message = format!("Policy cannot be created - name already exists (name={name})");
            return Err(Refusal::exists(message, name, arn));
        }
        let body = json!({
            "policyName": name, "policyArn": arn, "policyDocument": document, "policyVersionId": "1",
        });
        let policy = Policy {
            document,
            created: at.now.wall,
            attachable_from: at.now.mono + at.delay,
            targets: BTreeSet::new(),
        };
        self.policies.insert(name, policy);
        Ok(Done::with(body, true))
    }

    pub(crate) fn get_policy(&self, name: &str, at: Moment<'_>) -> Outcome {
        let policy = self.policies.get(name).ok_or_else(|| no_policy(name))?;
        Ok(Done::read(json!({
            "policyName": name,
            "policyArn": self.arn(at.region, &format!("policy/{name}")),
            "policyDocument": policy.document,
            "defaultVersionId": "1",
            "creationDate": seconds(policy.created),
            "lastModifiedDate": seconds(policy.created),
            "generationId": self.digits(&format!("policy {name}")),
        })))
    }

    /// By name; AWS lists by time of creation, which nothing may rely on.
    pub(crate) fn list_policies(&self, page: &Page, at: Moment<'_>) -> Outcome {
        let start = page.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let shown = |(_, it): &(&String, &Policy)| !is_hidden(it.attachable_from, at);
        let all = self.policies.range::<str, _>((start, Bound::Unbounded));
        let mut rest = all.filter(shown).map(|(name, _)| name);
        let names: Vec<_> = rest.by_ref().take(page.limit).collect();
        let items: Vec<_> = names
            .iter()
            .map(|it| json!({ "policyName": it, "policyArn": self.arn(at.region, &format!("policy/{it}")) }))
            .collect();
        let mut body = json!({ "policies": items });
        if let (Some(last), Some(_)) = (names.last(), rest.next()) {
            body["nextMarker"] = encode_token(Service::Iot, last).into();
        }
        Ok(Done::read(body))
    }

    pub(crate) fn delete_policy(&mut self, name: &str) -> Outcome {
        let policy = self.policies.get(name).ok_or_else(|| no_policy(name))?;
        if !policy.targets.is_empty() {
            let message =
                format!("Cannot delete the policy because it has one or more targets (name={name})");
            return Err(Refusal::new("DeleteConflictException", 409, message));
        }
        self.policies.remove(name);
        Ok(Done::empty(true))
    }
}

/// There is no such policy.
pub(crate) fn no_policy(name: &str) -> Refusal {
    Refusal::not_found(format!("Policy not found: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_does_not_count_against_the_length_of_a_document() {
        let document = |filler: &str| format!("{{\"Version\": \"{filler}\"}}");
        assert_eq!(check_document(&document(&" ".repeat(10_000))), Ok(()));
        assert_eq!(check_document(&document(&"x".repeat(2034))), Ok(()));
        let too_long = check_document(&document(&"x".repeat(2035))).unwrap_err();
        assert_eq!((too_long.code, too_long.status), ("MalformedPolicyException", 400));
    }

    #[test]
    fn a_document_that_is_no_json_object_is_malformed() {
        for bad in ["", "[]", "{", "\"x\"", "{} x"] {
            assert_eq!(check_document(bad).unwrap_err().code, "MalformedPolicyException", "{bad}");
        }
    }
}
