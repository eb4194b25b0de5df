//! What is attached to what. Attaching and detaching may be repeated; the lists lag behind.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::account::{Account, Done, Moment, Outcome};
use super::check::{Page, encode_token, policy_name, thing_name};
use super::policies::no_policy;
use super::refusal::Refusal;
use super::request::Request;
use super::things::no_thing;
use crate::cloud::Service;

/// Most policies of one certificate (AWS General Reference).
const MAX_POLICIES: usize = 10;

/// `AttachPolicy` and `DetachPolicy`.
#[derive(Debug)]
pub(crate) struct PolicyTarget {
    pub(crate) policy: String,
    pub(crate) target: String,
}

impl PolicyTarget {
    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Members {
            target: Option<String>,
        }
        let policy = policy_name(request)?;
        let members: Members = request.members()?;
        let target = members.target.ok_or_else(|| request.invalid("target is required"))?;
        Ok(Self { policy, target })
    }
}

/// `AttachThingPrincipal` and `DetachThingPrincipal`.
#[derive(Debug)]
pub(crate) struct ThingPrincipal {
    pub(crate) thing: String,
    pub(crate) principal: String,
    exclusive: bool,
}

impl ThingPrincipal {
    /// Attached beside others.
    pub(crate) fn new(thing: String, principal: String) -> Self {
        Self { thing, principal, exclusive: false }
    }

    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let exclusive = match request.query("thingPrincipalType") {
            None | Some("NON_EXCLUSIVE_THING") => false,
            Some("EXCLUSIVE_THING") => true,
            Some(_) => return Err(request.invalid("thingPrincipalType is not valid")),
        };
        Ok(Self { thing: thing_name(request)?, principal: principal_of(request)?, exclusive })
    }
}

/// Takes the header `x-amzn-principal`.
pub(crate) fn principal_of(request: &Request) -> Result<String, Refusal> {
    request.principal.clone().ok_or_else(|| request.invalid("principal is required"))
}

/// Cuts the page out of `names`, which are in order, and adds the token under `token`.
fn paged(member: &str, token: &str, page: &Page, mut names: impl Iterator<Item = String>) -> Done {
    let behind = |it: &String| page.after.as_ref().is_none_or(|after| it > after);
    let mut rest = names.by_ref().filter(behind);
    let part: Vec<String> = rest.by_ref().take(page.limit).collect();
    let mut body = json!({ member: part });
    if let (Some(last), Some(_)) = (part.last(), rest.next()) {
        body[token] = encode_token(Service::Iot, last).into();
    }
    Done::read(body)
}

impl Account {
    pub(crate) fn attach_policy(&mut self, command: &PolicyTarget, at: Moment<'_>) -> Outcome {
        let id = self.principal(&command.target)?;
        let name = &command.policy;
        let policy = self.policies.get_mut(name).ok_or_else(|| no_policy(name))?;
        if is_hidden(policy.attachable_from, at) {
            return Err(Refusal::not_visible_yet(no_policy(name).message));
        }
        let Some(certificate) = self.certificates.get_mut(&id) else { return Err(no_policy(name)) };
        if certificate.policies.contains_key(name) {
            return Ok(Done::empty(false));
        }
        if certificate.policies.len() >= MAX_POLICIES {
            let message = "The maximum number of policies that can be attached to a target is 10";
            return Err(Refusal::new("LimitExceededException", 410, message));
        }
        certificate.policies.insert(name.clone(), at.now.mono + at.delay);
        policy.targets.insert(id);
        Ok(Done::empty(true))
    }

    /// `ResourceNotFoundException` is not modelled here: detaching what is not there succeeds.
    pub(crate) fn detach_policy(&mut self, command: &PolicyTarget) -> Outcome {
        let id = match self.principal(&command.target) {
            Err(refusal) if refusal.status == 404 => return Ok(Done::empty(false)),
            other => other?,
        };
        let certificate = self.certificates.get_mut(&id);
        let was_there = certificate.is_some_and(|it| it.policies.remove(&command.policy).is_some());
        if let Some(policy) = self.policies.get_mut(&command.policy) {
            policy.targets.remove(&id);
        }
        Ok(Done::empty(was_there))
    }

    pub(crate) fn list_attached_policies(&self, target: &str, page: &Page, at: Moment<'_>) -> Outcome {
        let id = self.principal(target)?;
        let names = self.certificates.get(&id).into_iter().flat_map(|it| &it.policies);
        let visible = names.filter(|(_, from)| !is_hidden(**from, at)).map(|(name, _)| name.clone());
        let mut done = paged("policies", "nextMarker", page, visible);
        if let Some(policies) = done.body.as_mut().and_then(|it| it["policies"].as_array_mut()) {
            for policy in policies {
                let name = policy.as_str().unwrap_or_default().to_owned();
                let arn = self.arn(at.region, &format!("policy/{name}"));
                *policy = json!({ "policyName": name, "policyArn": arn });
            }
        }
        Ok(done)
    }

    pub(crate) fn list_targets(&self, name: &str, page: &Page, at: Moment<'_>) -> Outcome {
        let policy = self.policies.get(name).ok_or_else(|| no_policy(name))?;
        let shown = policy.targets.iter().filter(|id| {
            let from = self.certificates.get(id).and_then(|it| it.policies.get(name));
            from.is_some_and(|from| !is_hidden(*from, at))
        });
        let arns = shown.map(|id| self.arn(at.region, &format!("cert/{id}")));
        Ok(paged("targets", "nextMarker", page, arns))
    }

    pub(crate) fn attach_thing_principal(&mut self, command: &ThingPrincipal, at: Moment<'_>) -> Outcome {
        let name = &command.thing;
        let thing = self.things.get(name).ok_or_else(|| no_thing(name))?;
        if is_hidden(thing.attachable_from, at) {
            return Err(Refusal::not_visible_yet(no_thing(name).message));
        }
        let id = self.principal(&command.principal)?;
        let (Some(thing), Some(certificate)) = (self.things.get_mut(name), self.certificates.get_mut(&id))
        else {
            return Err(no_thing(name));
        };
        if thing.principals.contains_key(&id) {
            return Ok(Done::empty(false));
        }
        if !certificate.things.is_empty() && (command.exclusive || certificate.exclusive) {
            let message = "The principal is attached to another thing, and one of them is exclusive";
            return Err(Refusal::invalid(Service::Iot, message));
        }
        certificate.exclusive = command.exclusive;
        certificate.things.insert(name.clone());
        thing.principals.insert(id, at.now.mono + at.delay);
        Ok(Done::empty(true))
    }

    pub(crate) fn detach_thing_principal(&mut self, command: &ThingPrincipal) -> Outcome {
        let id = self.principal(&command.principal)?;
        let name = &command.thing;
        let thing = self.things.get_mut(name).ok_or_else(|| no_thing(name))?;
        let was_there = thing.principals.remove(&id).is_some();
        if let Some(certificate) = self.certificates.get_mut(&id) {
            certificate.things.remove(name);
        }
        Ok(Done::empty(was_there))
    }

    pub(crate) fn list_thing_principals(&self, name: &str, page: &Page, at: Moment<'_>) -> Outcome {
        let thing = self.things.get(name).ok_or_else(|| no_thing(name))?;
        let shown = thing.principals.iter().filter(|(_, from)| !is_hidden(**from, at));
        let arns = shown.map(|(id, _)| self.arn(at.region, &format!("cert/{id}")));
        Ok(paged("principals", "nextToken", page, arns))
    }

    pub(crate) fn list_principal_things(&self, principal: &str, page: &Page, at: Moment<'_>) -> Outcome {
        let id = self.principal(principal)?;
        let names = self.certificates.get(&id).into_iter().flat_map(|it| &it.things);
        let shown = names.filter(|name| {
            let from = self.things.get(*name).and_then(|it| it.principals.get(&id));
            from.is_some_and(|from| !is_hidden(*from, at))
        });
        Ok(paged("things", "nextToken", page, shown.cloned()))
    }
}

/// Whether what was made a moment ago does not show yet.
pub(crate) fn is_hidden(visible_from: Duration, at: Moment<'_>) -> bool {
    !at.must_see && at.now.mono < visible_from
}
