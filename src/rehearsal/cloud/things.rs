//! Things: creating one again as it is succeeds, as another one does not.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, Done, Moment, Outcome, Thing};
use super::attachments::is_hidden;
use super::check::{Page, encode_token, is_text, is_word, thing_name};
use super::refusal::Refusal;
use super::request::Request;
use crate::cloud::Service;

/// Most attributes of a thing without a thing type.
const MAX_ATTRIBUTES: usize = 3;

/// `CreateThing`.
#[derive(Debug)]
pub(crate) struct CreateThing {
    pub(crate) name: String,
    attributes: BTreeMap<String, String>,
    thing_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    thing_type_name: Option<String>,
    attribute_payload: Option<AttributePayload>,
}

#[derive(Deserialize)]
struct AttributePayload {
    attributes: Option<BTreeMap<String, String>>,
}

impl CreateThing {
    /// One that bears the attribute of a station.
    pub(crate) fn of_station(name: &str, station: &str) -> Self {
        let attributes = BTreeMap::from([("linemint".to_owned(), station.to_owned())]);
        Self { name: name.to_owned(), attributes, thing_type: None }
    }

    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let name = thing_name(request)?;
        let members: Members = request.members()?;
        let attributes = members.attribute_payload.and_then(|it| it.attributes).unwrap_or_default();
        for (key, value) in &attributes {
            let key_ok = is_text(key, 1, 128, |it| is_word(it) || b".,@/:#-".contains(&it));
            let value_ok = is_text(value, 0, 800, |it| is_word(it) || b".,@/:#=[]-".contains(&it));
            if !key_ok || !value_ok {
                return Err(request.invalid(format!("the attribute {key:?} is not valid")));
            }
        }
        if attributes.len() > MAX_ATTRIBUTES && members.thing_type_name.is_none() {
            return Err(request.invalid("a thing without a thing type has at most 3 attributes"));
        }
        Ok(Self { name, attributes, thing_type: members.thing_type_name })
    }
}

/// `ListThings`.
#[derive(Debug)]
pub(crate) struct ListThings {
    page: Page,
    /// Name and value, if only things with this attribute are asked for.
    attribute: Option<(String, String)>,
}

impl ListThings {
    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request, page: Page) -> Result<Self, Refusal> {
        let attribute = match (request.query("attributeName"), request.query("attributeValue")) {
            (Some(name), Some(value)) => Some((name.to_owned(), value.to_owned())),
            (None, None) => None,
            _ => return Err(request.invalid("attributeName and attributeValue belong together")),
        };
        Ok(Self { page, attribute })
    }
}

impl Account {
    pub(crate) fn create_thing(&mut self, command: CreateThing, at: Moment<'_>) -> Outcome {
        let CreateThing { name, attributes, thing_type } = command;
        if let Some(thing_type) = thing_type {
            // Thing types cannot be made here, so there is none.
            return Err(Refusal::not_found(format!("Thing type not found: {thing_type}")));
        }
        let arn = self.arn(at.region, &format!("thing/{name}"));
        if let Some(existing) = self.things.get(&name) {
            if existing.attributes != attributes {
                let message =
                    format!("Thing {name} already exists in account with different tags or attributes");
                return Err(Refusal::exists(message, existing.id.clone(), arn));
            }
            let body = json!({ "thingName": name, "thingArn": arn, "thingId": existing.id });
            return Ok(Done::with(body, false));
        }
        let number = self.next();
        let id = uuid(&self.digits(&format!("thing {number}")));
        let body = json!({ "thingName": name, "thingArn": arn, "thingId": id });
        let thing =
            Thing { id, attributes, attachable_from: at.now.mono + at.delay, principals: BTreeMap::new() };
        self.things.insert(name, thing);
        Ok(Done::with(body, true))
    }

    pub(crate) fn describe_thing(&self, name: &str, at: Moment<'_>) -> Outcome {
        let thing = self.things.get(name).ok_or_else(|| no_thing(name))?;
        Ok(Done::read(json!({
            "defaultClientId": name,
            "thingName": name,
            "thingId": thing.id,
            "thingArn": self.arn(at.region, &format!("thing/{name}")),
            "attributes": thing.attributes,
            "version": 1,
        })))
    }

    pub(crate) fn list_things(&self, command: &ListThings, at: Moment<'_>) -> Outcome {
        let start = command.page.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = |it: &Thing| match &command.attribute {
            _ if is_hidden(it.attachable_from, at) => false,
            Some((name, value)) => it.attributes.get(name) == Some(value),
            None => true,
        };
        let mut rest = self.things.range::<str, _>((start, Bound::Unbounded)).filter(|(_, it)| wanted(it));
        let part: Vec<_> = rest.by_ref().take(command.page.limit).collect();
        let items: Vec<Value> = part
            .iter()
            .map(|(name, it)| {
                json!({
                    "thingName": name,
                    "thingArn": self.arn(at.region, &format!("thing/{name}")),
                    "attributes": it.attributes,
                    "version": 1,
                })
            })
            .collect();
        let mut body = json!({ "things": items });
        if let (Some((last, _)), Some(_)) = (part.last(), rest.next()) {
            body["nextToken"] = encode_token(Service::Iot, last).into();
        }
        Ok(Done::read(body))
    }

    /// Deleting a thing that is not there succeeds (API reference).
    pub(crate) fn delete_thing(&mut self, name: &str, expected_version: Option<&str>) -> Outcome {
        let Some(thing) = self.things.get(name) else { return Ok(Done::empty(false)) };
        if expected_version.is_some_and(|it| it != "1") {
            let message = format!("The version of {name} is 1");
            return Err(Refusal::new("VersionConflictException", 409, message));
        }
        if !thing.principals.is_empty() {
            let message = format!("Cannot delete. Thing {name} is still attached to one or more principals");
            return Err(Refusal::invalid(Service::Iot, message));
        }
        self.things.remove(name);
        Ok(Done::empty(true))
    }
}

/// There is no such thing.
pub(crate) fn no_thing(name: &str) -> Refusal {
    Refusal::not_found(format!("Thing {name} not found"))
}

/// Cuts hex digits into the shape of a UUID.
pub(crate) fn uuid(digits: &str) -> String {
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}
