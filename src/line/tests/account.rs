//! AWS in memory, as its API reference describes it, and as it can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;

use super::issuing::{IssuedHere, LockerHere};

use crate::cloud::testing::failure;
use crate::cloud::{Answer, Call, CertificateStatus, CloudError, FailureKind, Operation, Reply};
use crate::pki::Fingerprint;

/// How a call goes wrong.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It fails; nothing was done.
    Fail(FailureKind),
    /// It was done, but the answer is lost.
    Lost,
    /// The answer is lost, and it is done later, when the account is told to.
    Late,
    /// Somebody else answers with an empty 2xx; nothing was done.
    Proxy,
    /// It was done, and answered without a request id.
    Unsigned,
    /// This is answered; nothing was done.
    Says(Reply),
}

/// One account.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) things: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) policies: BTreeMap<String, String>,
    pub(super) certificates: BTreeMap<String, CertificateStatus>,
    /// Name and id by client token.
    pub(super) lockers: BTreeMap<String, (String, String)>,
    /// Ids of lockers that are deleted; their tokens are remembered.
    pub(super) deleted_lockers: BTreeSet<String>,
    /// Policies by the certificate's ARN.
    pub(super) attached: BTreeMap<String, BTreeSet<String>>,
    /// ARNs of certificates by thing.
    pub(super) principals: BTreeMap<String, BTreeSet<String>>,
    /// What happens to the next calls of an operation.
    pub(super) faults: BTreeMap<Operation, VecDeque<Fault>>,
    /// What happens to all calls of an operation.
    pub(super) always: BTreeMap<Operation, Fault>,
    /// What happens to all calls.
    pub(super) down: Option<FailureKind>,
    /// Names on one page of a list; 0 for all.
    pub(super) page: usize,
    /// Every call that arrived.
    pub(super) log: Vec<Call>,
    /// The time.
    pub(super) now: Timestamp,
    /// Certificates that AWS has issued, by id.
    pub(super) issued: BTreeMap<String, IssuedHere>,
    /// Managed things by id: token, material, and whether it is there still.
    pub(super) managed_things: BTreeMap<String, (String, String, bool)>,
    /// Lockers by id.
    pub(super) lockers_made: BTreeMap<String, LockerHere>,
    /// How long what was made does not show in the lists.
    pub(super) lists_are_behind: Duration,
    /// Calls that were given up and have not arrived yet.
    pub(super) under_way: Vec<Call>,
}

pub(super) fn arn(id: &str) -> String {
    format!("arn:aws:iot:eu-west-1:123456789012:cert/{id}")
}

impl Account {
    /// The next call of `operation` goes wrong.
    pub(super) fn fault(&mut self, operation: Operation, fault: Fault) {
        self.faults.entry(operation).or_default().push_back(fault);
    }

    /// How often `operation` was called.
    pub(super) fn count(&self, operation: Operation) -> usize {
        self.log.iter().filter(|it| it.operation() == operation).count()
    }

    /// The operations called, in order.
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.log.iter().map(Call::operation).collect()
    }

    pub(super) fn answer(&mut self, call: &Call) -> Result<Answer, CloudError> {
        self.log.push(call.clone());
        let operation = call.operation();
        if let Some(kind) = self.down {
            return Err(failure(operation, kind));
        }
        let next = self.faults.get_mut(&operation).and_then(VecDeque::pop_front);
        let signed = |reply| Ok(Answer { reply, request_id: Some("req-1".to_owned()) });
        match next.or_else(|| self.always.get(&operation).cloned()) {
            None => self.act(call).and_then(signed),
            Some(Fault::Fail(kind)) => Err(failure(operation, kind)),
            Some(Fault::Lost) => {
                let _ = self.act(call);
                Err(failure(operation, FailureKind::Unknown))
            }
            Some(Fault::Late) => {
                self.under_way.push(call.clone());
                Err(failure(operation, FailureKind::Unknown))
            }
            Some(Fault::Proxy) => Ok(Answer { reply: Reply::Empty, request_id: None }),
            Some(Fault::Unsigned) => self.act(call).map(|reply| Answer { reply, request_id: None }),
            Some(Fault::Says(reply)) => signed(reply),
        }
    }

    pub(super) fn act(&mut self, call: &Call) -> Result<Reply, CloudError> {
        let not_found = || failure(call.operation(), FailureKind::NotFound);
        match call {
            Call::CreateCredentialLocker { name, client_token, tags } => {
                let id = format!("locker{}", self.lockers.len() + 1);
                if !self.lockers.contains_key(client_token) {
                    let it = LockerHere { name: name.clone(), created: self.now, tags: tags.clone() };
                    self.make_locker(&id, it);
                }
                let (_, id) = self.lockers.entry(client_token.clone()).or_insert((name.clone(), id));
                Ok(Reply::Locker { id: id.clone(), arn: format!("arn:aws:locker/{id}") })
            }
            Call::CreateManagedThing { material, client_token, .. } => {
                let next = format!("managed{}", self.managed_things.len() + 1);
                let known = self.managed_things.values().find(|it| it.1 == *material && it.2);
                if let Some((token, ..)) = known.filter(|it| it.0 != *client_token) {
                    assert_ne!(token, client_token);
                    return Err(failure(call.operation(), FailureKind::Conflict));
                }
                let made = self.managed_things.iter().find(|(_, it)| it.0 == *client_token);
                let id = made.map_or(next, |(id, _)| id.clone());
                let thing = (client_token.clone(), material.clone(), true);
                self.managed_things.entry(id.clone()).or_insert(thing);
                Ok(Reply::ManagedThing { arn: format!("arn:aws:managed-thing/{id}"), id })
            }
            Call::CreatePolicy { name, document, .. } => {
                if self.policies.contains_key(name) {
                    return Err(failure(call.operation(), FailureKind::Exists));
                }
                self.policies.insert(name.clone(), document.clone());
                Ok(policy(name, document))
            }
            Call::GetPolicy { name } => {
                self.policies.get(name).map(|it| policy(name, it)).ok_or_else(not_found)
            }
            Call::CreateThing { name, attributes } => match self.things.get(name) {
                Some(before) if before != attributes => Err(failure(call.operation(), FailureKind::Exists)),
                _ => {
                    self.things.insert(name.clone(), attributes.clone());
                    Ok(Reply::Thing { name: name.clone(), arn: format!("arn:aws:thing/{name}") })
                }
            },
            Call::DescribeThing { name } => {
                let attributes = self.things.get(name).cloned().ok_or_else(not_found)?;
                let arn = format!("arn:aws:thing/{name}");
                Ok(Reply::ThingDescription { name: name.clone(), arn, attributes })
            }
            Call::RegisterCertificate { certificate_pem, .. }
            | Call::RegisterCertificateWithoutCa { certificate_pem } => {
                self.register(call.operation(), certificate_pem)
            }
            Call::DescribeCertificate { id } => {
                let status = *self.certificates.get(id).ok_or_else(not_found)?;
                let pem = self.issued.get(id).map(|it| it.pem.clone());
                Ok(Reply::CertificateDescription { id: id.clone(), arn: arn(id), status, pem })
            }
            Call::UpdateCertificate { id, status } => {
                *self.certificates.get_mut(id).ok_or_else(not_found)? = *status;
                Ok(Reply::Empty)
            }
            _ => self.attach(call),
        }
    }

    fn attach(&mut self, call: &Call) -> Result<Reply, CloudError> {
        let not_found = || failure(call.operation(), FailureKind::NotFound);
        match call {
            Call::AttachPolicy { policy, target } => {
                if !self.policies.contains_key(policy) || !self.knows(target) {
                    return Err(not_found());
                }
                self.attached.entry(target.clone()).or_default().insert(policy.clone());
            }
            Call::DetachPolicy { policy, target } => {
                self.attached.entry(target.clone()).or_default().remove(policy);
            }
            Call::ListAttachedPolicies { target, marker } => {
                let all = self.attached.get(target).into_iter().flatten().cloned().collect();
                let (names, next) = self.page_of(all, marker.as_deref());
                return Ok(Reply::Policies { names, next });
            }
            Call::AttachThingPrincipal { thing, principal } => {
                if !self.things.contains_key(thing) || !self.knows(principal) {
                    return Err(not_found());
                }
                self.principals.entry(thing.clone()).or_default().insert(principal.clone());
            }
            Call::DetachThingPrincipal { thing, principal } => {
                self.principals.entry(thing.clone()).or_default().remove(principal);
            }
            Call::ListThingPrincipals { thing, next_token } => {
                let all = self.principals.get(thing).into_iter().flatten().cloned().collect();
                let (arns, next) = self.page_of(all, next_token.as_deref());
                return Ok(Reply::Principals { arns, next });
            }
            _ => return self.delete(call),
        }
        Ok(Reply::Empty)
    }

    /// Nothing goes while something hangs on it.
    fn delete(&mut self, call: &Call) -> Result<Reply, CloudError> {
        let fail = |kind| Err(failure(call.operation(), kind));
        match call {
            Call::DeleteCertificate { id } => {
                let arn = arn(id);
                match self.certificates.get(id) {
                    None => return fail(FailureKind::NotFound),
                    Some(CertificateStatus::Active) => return fail(FailureKind::Refused),
                    Some(_) => {}
                }
                let has_policy = self.attached.get(&arn).is_some_and(|it| !it.is_empty());
                if has_policy || self.principals.values().any(|it| it.contains(&arn)) {
                    return fail(FailureKind::Conflict);
                }
                self.certificates.remove(id);
                self.issued.remove(id);
            }
            Call::DeleteThing { name } => {
                if self.principals.get(name).is_some_and(|it| !it.is_empty()) {
                    return fail(FailureKind::Refused);
                }
                self.things.remove(name);
            }
            Call::DeletePolicy { name } => {
                if self.attached.values().any(|it| it.contains(name)) {
                    return fail(FailureKind::Conflict);
                }
                if self.policies.remove(name).is_none() {
                    return fail(FailureKind::NotFound);
                }
            }
            Call::DeleteManagedThing { id } => match self.managed_things.get_mut(id) {
                Some(it) if it.2 => it.2 = false,
                _ => return fail(FailureKind::NotFound),
            },
            Call::DeleteCredentialLocker { id } => {
                let known = self.lockers.values().any(|(_, it)| it == id);
                if !known || !self.deleted_lockers.insert(id.clone()) {
                    return fail(FailureKind::NotFound);
                }
                self.lockers_made.remove(id);
            }
            other => return self.look(other),
        }
        Ok(Reply::Empty)
    }

    /// Asserts that nothing of a scrapped device with these certificates is left.
    pub(super) fn assert_holds_nothing(&self, serial: &str, certificates: &[Fingerprint]) {
        assert_eq!(self.things.get(serial), None, "the thing of {serial}");
        assert_eq!(self.policies.get(serial), None, "the policy of {serial}");
        let lockers =
            self.lockers.values().filter(|(name, id)| name == serial && !self.deleted_lockers.contains(id));
        assert_eq!(lockers.count(), 0, "lockers of {serial}");
        for id in certificates {
            assert_eq!(self.certificates.get(&id.to_string()), None, "a certificate of {serial}");
        }
    }

    fn register(&mut self, operation: Operation, pem: &str) -> Result<Reply, CloudError> {
        let id = Fingerprint::of(&der_of(pem)).to_string();
        if self.certificates.contains_key(&id) {
            let mut error = failure(operation, FailureKind::Exists);
            error.resource_id = Some(id);
            return Err(error);
        }
        self.certificates.insert(id.clone(), CertificateStatus::Active);
        Ok(Reply::Certificate { arn: arn(&id), id })
    }

    fn knows(&self, certificate: &str) -> bool {
        self.certificates.keys().any(|id| arn(id) == certificate)
    }

    fn page_of(&self, all: Vec<String>, marker: Option<&str>) -> (Vec<String>, Option<String>) {
        let begin: usize = marker.map_or(0, |it| it.parse().unwrap());
        let size = if self.page == 0 { all.len() } else { self.page };
        let next = (begin + size < all.len()).then(|| (begin + size).to_string());
        (all.into_iter().skip(begin).take(size).collect(), next)
    }

    /// Asserts that the account holds exactly what a device is to have, with `certificate` as its only
    /// active one.
    pub(super) fn assert_holds(&self, serial: &str, certificate: Fingerprint) {
        assert_eq!(
            self.things.get(serial).and_then(|it| it.get("linemint")).map(String::as_str),
            Some("L3-S07")
        );
        assert_eq!(
            self.lockers
                .values()
                .filter(|(name, id)| name == serial && !self.deleted_lockers.contains(id))
                .count(),
            1,
            "lockers of {serial}"
        );
        let id = certificate.to_string();
        assert_eq!(self.certificates.get(&id), Some(&CertificateStatus::Active));
        assert_eq!(self.attached[&arn(&id)], BTreeSet::from([serial.to_owned()]));
        assert_eq!(self.principals[serial], BTreeSet::from([arn(&id)]));
    }
}

fn policy(name: &str, document: &str) -> Reply {
    Reply::Policy {
        name: name.to_owned(),
        arn: format!("arn:aws:policy/{name}"),
        document: document.to_owned(),
    }
}

pub(super) fn der_of(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|it| !it.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}
