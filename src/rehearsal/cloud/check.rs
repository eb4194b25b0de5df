//! The documented constraints on names, tags and pages.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

use super::refusal::Refusal;
use super::request::Request;
use crate::cloud::Service;

/// Most tags of one resource.
const MAX_TAGS: usize = 50;

/// A tag in the shape of `iot`; managed integrations has a map instead.
#[derive(Debug, Deserialize)]
pub(crate) struct Tag {
    #[serde(rename = "Key")]
    key: Option<String>,
    #[serde(rename = "Value")]
    value: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// Start behind this key.
    pub(crate) after: Option<String>,
    /// At most this many, from 1.
    pub(crate) limit: usize,
    /// Oldest first.
    pub(crate) ascending: bool,
}

/// Where a list operation keeps its paging members: AWS has three fashions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paging {
    pub(crate) token: &'static str,
    pub(crate) size: &'static str,
    pub(crate) max: usize,
    pub(crate) default: usize,
}

/// `marker` and `pageSize`: policies, certificates.
pub(crate) const MARKER: Paging = Paging { token: "marker", size: "pageSize", max: 250, default: 25 };
/// `nextToken` and `maxResults`: things, principals.
pub(crate) const NEXT_TOKEN: Paging =
    Paging { token: "nextToken", size: "maxResults", max: 250, default: 25 };
/// `NextToken` and `MaxResults`: managed integrations.
pub(crate) const LOCKERS: Paging = Paging { token: "NextToken", size: "MaxResults", max: 1000, default: 100 };

impl Page {
    /// Reads a page's members from the query.
    pub(crate) fn of(request: &Request, paging: Paging) -> Result<Self, Refusal> {
        let limit = match request.query(paging.size) {
            None => paging.default,
            Some(text) => {
                text.parse().ok().filter(|it| (1..=paging.max).contains(it)).ok_or_else(|| {
                    request.invalid(format!("{} has to be 1 to {}", paging.size, paging.max))
                })?
            }
        };
        let after = request
            .query(paging.token)
            .map(|it| {
                decode_token(it).ok_or_else(|| request.invalid(format!("{} is not valid", paging.token)))
            })
            .transpose()?;
        Ok(Self { after, limit, ascending: request.flag("isAscendingOrder")? })
    }
}

/// Makes the token that continues behind `key`, in the alphabet that the service's model allows.
pub(crate) fn encode_token(service: Service, key: &str) -> String {
    match service {
        Service::Iot => STANDARD.encode(key),
        Service::ManagedIntegrations => URL_SAFE.encode(key),
    }
}

fn decode_token(token: &str) -> Option<String> {
    let bytes = STANDARD.decode(token).or_else(|_| URL_SAFE.decode(token)).ok()?;
    String::from_utf8(bytes).ok()
}

/// Takes a policy's name: 1–128 of `[\w+=,.@-]`.
pub(crate) fn policy_name(request: &Request) -> Result<String, Refusal> {
    named(request, "policyName", |it| is_word(it) || b"+=,.@-".contains(&it))
}

/// Takes a thing's name: 1–128 of `[a-zA-Z0-9:_-]`.
pub(crate) fn thing_name(request: &Request) -> Result<String, Refusal> {
    named(request, "thingName", |it| is_word(it) || b":-".contains(&it))
}

/// Takes a locker's identifier: 1–64 of `[a-zA-Z0-9]`.
pub(crate) fn locker_id(request: &Request) -> Result<String, Refusal> {
    let id = &request.route.name;
    if (1..=64).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_alphanumeric()) {
        Ok(id.clone())
    } else {
        Err(request.invalid("Identifier has to be 1 to 64 letters and digits"))
    }
}

/// Takes a managed thing's identifier: 1–64 of `[a-zA-Z0-9:_-]`.
pub(crate) fn managed_id(request: &Request) -> Result<String, Refusal> {
    named(request, "Identifier", |it| is_word(it) || b":-".contains(&it)).and_then(|it| {
        if it.len() <= 64 { Ok(it) } else { Err(request.invalid("Identifier has to be 1 to 64 characters")) }
    })
}

/// Checks `text` for its length in bytes and its ASCII alphabet.
pub(crate) fn is_text(text: &str, min: usize, max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (min..=max).contains(&text.len()) && text.bytes().all(allowed)
}

/// ASCII `\w`.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Checks the tags of `iot`.
pub(crate) fn iot_tags(request: &Request, tags: Vec<Tag>) -> Result<BTreeMap<String, String>, Refusal> {
    let mut map = BTreeMap::new();
    for tag in tags {
        let key = tag.key.ok_or_else(|| request.invalid("a tag has no Key"))?;
        if map.insert(key, tag.value.unwrap_or_default()).is_some() {
            return Err(request.invalid("two tags have the same Key"));
        }
    }
    check_tags(request, &map)?;
    Ok(map)
}

/// Checks tags for number, length and alphabet.
pub(crate) fn check_tags(request: &Request, tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if tags.len() > MAX_TAGS {
        return Err(request.invalid("a resource has at most 50 tags"));
    }
    // Only `iot` restricts the alphabet of the key.
    let allowed = |it: char| it.is_alphanumeric() || it == ' ' || "_.:/=+-@".contains(it);
    for (key, value) in tags {
        let alphabet = request.service() != Service::Iot || key.chars().all(allowed);
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 || !alphabet {
            return Err(request.invalid(format!("the tag {key:?} is not valid")));
        }
    }
    Ok(())
}

fn named(request: &Request, member: &str, allowed: impl Fn(u8) -> bool) -> Result<String, Refusal> {
    let name = &request.route.name;
    if is_text(name, 1, 128, allowed) {
        Ok(name.clone())
    } else {
        Err(request.invalid(format!("1 validation error detected: value at '{member}' is not valid")))
    }
}
