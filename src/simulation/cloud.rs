//! AWS as its API reference describes it: what repeats, what conflicts, what shows only later.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;

use super::plan::{BEGIN, STATION};
use crate::cloud::testing::failure;
use crate::cloud::{Call, CertificateStatus, CloudError, FailureKind, ListedLocker, Operation, Reply};
use crate::device::steps::STATION_ATTRIBUTE;
use crate::pki::Fingerprint;

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails; nothing was done.
    Before(FailureKind),
    /// It was done, but the answer is lost.
    After,
    /// It is given up; it is done later all the same.
    Late,
    /// It was done, and answered without a request id.
    Unsigned,
    /// Somebody else answers with an empty 2xx; nothing was done.
    Proxy,
}

impl Fault {
    /// Each kind once.
    pub(super) const ALL: [Self; 9] = [
        Self::Before(FailureKind::Throttled),
        Self::Before(FailureKind::Unknown),
        Self::Before(FailureKind::Unreachable),
        Self::Before(FailureKind::NotFound),
        Self::Before(FailureKind::Stop(crate::cloud::StopCause::Credentials)),
        Self::After,
        Self::Late,
        Self::Unsigned,
        Self::Proxy,
    ];
}

#[derive(Debug, Default, Clone)]
pub(super) struct Thing {
    pub(super) attributes: BTreeMap<String, String>,
    /// ARNs of certificates, with the time from which lists show them.
    pub(super) principals: BTreeMap<String, Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) status: CertificateStatus,
    /// Whose it is, by its content.
    pub(super) owner: String,
    pub(super) policies: BTreeMap<String, Duration>,
    pub(super) made: Made,
}

/// How a certificate came to be in the account.
#[derive(Debug, Default, Clone)]
pub(super) struct Made {
    /// Place in the order of creation.
    pub(super) number: u64,
    pub(super) at: Duration,
    /// Lists show it from then on.
    pub(super) shows_from: Duration,
    /// The certificate, if AWS has issued it.
    pub(super) pem: Option<String>,
}

impl Registered {
    pub(super) fn new(status: CertificateStatus, owner: &str, made: Made) -> Self {
        Self { status, owner: owner.to_owned(), policies: BTreeMap::new(), made }
    }
}

/// One account.
#[derive(Debug, Default, Clone)]
pub(super) struct Account {
    pub(super) things: BTreeMap<String, Thing>,
    /// Documents, with the time from which the policy can be attached.
    pub(super) policies: BTreeMap<String, (String, Duration)>,
    /// By id.
    pub(super) certificates: BTreeMap<String, Registered>,
    /// Names by id.
    pub(super) lockers: BTreeMap<String, String>,
    /// Serial numbers of managed things, by id.
    pub(super) managed_things: BTreeMap<String, String>,
    managed_tokens: BTreeMap<String, String>,
    /// How many certificates were ever in it.
    pub(super) made: u64,
    tokens: BTreeMap<String, (String, BTreeMap<String, String>, String)>,
}

/// When a call takes effect, and how long until what it did shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    /// For whom it is made.
    pub(super) serial: &'a str,
    pub(super) now: Duration,
    pub(super) lag: Duration,
}

pub(super) fn arn(id: &str) -> String {
    format!("arn:aws:iot:eu-west-1:123456789012:cert/{id}")
}

/// The DER in a PEM; only the first block counts.
pub(super) fn der_of(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().skip(1).take_while(|it| !it.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default()
}

/// Whose certificate it is: the simulated CA writes `leaf NUMBER of SERIAL`.
fn owner_of(der: &[u8]) -> String {
    let text = String::from_utf8_lossy(der);
    text.rsplit(' ').next().unwrap_or_default().to_owned()
}

impl Account {
    pub(super) fn act(&mut self, call: &Call, at: Moment<'_>) -> Result<Reply, CloudError> {
        let says = |kind| failure(call.operation(), kind);
        match call {
            Call::CreateCredentialLocker { name, client_token, tags } => {
                self.create_locker(name, client_token, tags).ok_or_else(|| says(FailureKind::Conflict))
            }
            Call::CreateManagedThing { serial, client_token, .. } => {
                self.create_managed_thing(serial, client_token).ok_or_else(|| says(FailureKind::Conflict))
            }
            Call::GetManagedThing { id } => {
                let found = self.managed_things.contains_key(id).then(|| managed_description(id));
                found.ok_or_else(|| says(FailureKind::NotFound))
            }
            Call::ListCredentialLockers { .. } => Ok(self.list_lockers()),
            Call::GetCredentialLocker { id } => {
                let made = self.tokens.values().find(|it| it.2 == *id && self.lockers.contains_key(id));
                let (_, tags, _) = made.ok_or_else(|| says(FailureKind::NotFound))?;
                let (id, arn, tags) = (id.clone(), format!("arn:aws:locker/{id}"), tags.clone());
                Ok(Reply::LockerDescription { id, arn, tags })
            }
            Call::CreatePolicy { name, document, .. } => {
                if self.policies.contains_key(name) {
                    return Err(says(FailureKind::Exists));
                }
                self.policies.insert(name.clone(), (document.clone(), at.now + at.lag));
                Ok(policy(name, document))
            }
            Call::GetPolicy { name } => match self.policies.get(name) {
                Some((document, _)) => Ok(policy(name, document)),
                None => Err(says(FailureKind::NotFound)),
            },
            Call::CreateThing { name, attributes } => {
                let thing = self.things.entry(name.clone());
                let thing =
                    thing.or_insert_with(|| Thing { attributes: attributes.clone(), ..Thing::default() });
                if thing.attributes != *attributes {
                    return Err(says(FailureKind::Exists));
                }
                Ok(Reply::Thing { name: name.clone(), arn: format!("arn:aws:thing/{name}") })
            }
            Call::DescribeThing { name } => match self.things.get(name) {
                Some(it) => Ok(Reply::ThingDescription {
                    name: name.clone(),
                    arn: format!("arn:aws:thing/{name}"),
                    attributes: it.attributes.clone(),
                }),
                None => Err(says(FailureKind::NotFound)),
            },
            Call::RegisterCertificate { certificate_pem, .. }
            | Call::RegisterCertificateWithoutCa { certificate_pem } => {
                self.register(call.operation(), certificate_pem, at)
            }
            Call::CreateCertificateFromCsr { csr_pem } => {
                self.issue(csr_pem, at).ok_or_else(|| says(FailureKind::Refused))
            }
            Call::ListCertificates { marker } => Ok(self.list(marker.as_deref(), at.now)),
            Call::DeleteCertificate { id } => self.delete(call, id),
            Call::DeleteThing { .. }
            | Call::DeletePolicy { .. }
            | Call::DeleteCredentialLocker { .. }
            | Call::DeleteManagedThing { .. } => self.delete_rest(call).map_err(says),
            _ => self.attach(call, at).ok_or_else(|| says(FailureKind::NotFound)),
        }
    }

    fn create_locker(&mut self, name: &str, token: &str, tags: &BTreeMap<String, String>) -> Option<Reply> {
        if let Some((before, their_tags, id)) = self.tokens.get(token) {
            let same = before == name && their_tags == tags;
            return same.then(|| Reply::Locker { id: id.clone(), arn: format!("arn:aws:locker/{id}") });
        }
        let id = format!("locker{}", self.tokens.len() + 1);
        self.tokens.insert(token.to_owned(), (name.to_owned(), tags.clone(), id.clone()));
        self.lockers.insert(id.clone(), name.to_owned());
        Some(Reply::Locker { arn: format!("arn:aws:locker/{id}"), id })
    }

    fn list_lockers(&self) -> Reply {
        let listed = |(id, name): (&String, &String)| ListedLocker {
            id: id.clone(),
            arn: format!("arn:aws:locker/{id}"),
            name: Some(name.clone()),
            created: BEGIN,
        };
        Reply::Lockers { items: self.lockers.iter().map(listed).collect(), next: None }
    }

    /// A token makes one, and a serial number is one's once.
    fn create_managed_thing(&mut self, serial: &str, token: &str) -> Option<Reply> {
        if let Some(id) = self.managed_tokens.get(token) {
            return Some(managed(id));
        }
        if self.managed_things.values().any(|it| it == serial) {
            return None;
        }
        let id = format!("managed{}", self.managed_tokens.len() + 1);
        self.managed_tokens.insert(token.to_owned(), id.clone());
        self.managed_things.insert(id.clone(), serial.to_owned());
        Some(managed(&id))
    }

    fn register(&mut self, operation: Operation, pem: &str, at: Moment<'_>) -> Result<Reply, CloudError> {
        let der = der_of(pem);
        let id = Fingerprint::of(&der).to_string();
        if self.certificates.contains_key(&id) {
            let mut error = failure(operation, FailureKind::Exists);
            error.resource_id = Some(id);
            return Err(error);
        }
        self.made += 1;
        let made = Made { number: self.made, at: at.now, shows_from: at.now, pem: None };
        let certificate = Registered::new(CertificateStatus::Active, &owner_of(&der), made);
        self.certificates.insert(id.clone(), certificate);
        Ok(Reply::Certificate { arn: arn(&id), id })
    }

    /// The operations whose one failure is that something is not there.
    fn attach(&mut self, call: &Call, at: Moment<'_>) -> Option<Reply> {
        let shows_from = at.now + at.lag;
        match call {
            Call::DescribeCertificate { id } => {
                let Registered { status, made, .. } = self.certificates.get(id)?;
                return Some(Reply::CertificateDescription {
                    id: id.clone(),
                    arn: arn(id),
                    status: *status,
                    pem: made.pem.clone(),
                });
            }
            Call::UpdateCertificate { id, status } => self.certificates.get_mut(id)?.status = *status,
            Call::AttachPolicy { policy, target } => {
                let (_, from) = self.policies.get(policy)?;
                let certificate = self.certificates.get_mut(target.rsplit('/').next()?)?;
                if *from > at.now {
                    return None;
                }
                certificate.policies.entry(policy.clone()).or_insert(shows_from);
            }
            Call::DetachPolicy { policy, target } => {
                self.certificates.get_mut(target.rsplit('/').next()?)?.policies.remove(policy);
            }
            Call::ListAttachedPolicies { target, marker } => {
                let certificate = self.certificates.get(target.rsplit('/').next()?)?;
                let (names, next) = page(&certificate.policies, marker.as_ref(), at.now);
                return Some(Reply::Policies { names, next });
            }
            Call::AttachThingPrincipal { thing, principal } => {
                self.certificates.get(principal.rsplit('/').next()?)?;
                let thing = self.things.get_mut(thing)?;
                thing.principals.entry(principal.clone()).or_insert(shows_from);
            }
            Call::DetachThingPrincipal { thing, principal } => {
                self.things.get_mut(thing)?.principals.remove(principal);
            }
            Call::ListThingPrincipals { thing, next_token } => {
                let (arns, next) = page(&self.things.get(thing)?.principals, next_token.as_ref(), at.now);
                return Some(Reply::Principals { arns, next });
            }
            _ => unreachable!("answered by act"),
        }
        Some(Reply::Empty)
    }

    /// Nothing goes while something hangs on it.
    fn delete_rest(&mut self, call: &Call) -> Result<Reply, FailureKind> {
        match call {
            Call::DeleteThing { name } => {
                if self.things.get(name).is_some_and(|it| !it.principals.is_empty()) {
                    return Err(FailureKind::Refused);
                }
                // To delete what is not there succeeds.
                self.things.remove(name);
            }
            Call::DeletePolicy { name } => {
                if self.certificates.values().any(|it| it.policies.contains_key(name)) {
                    return Err(FailureKind::Conflict);
                }
                self.policies.remove(name).ok_or(FailureKind::NotFound)?;
            }
            Call::DeleteManagedThing { id } => {
                self.managed_things.remove(id).ok_or(FailureKind::NotFound)?;
            }
            Call::DeleteCredentialLocker { id } => {
                self.lockers.remove(id).ok_or(FailureKind::NotFound)?;
            }
            _ => unreachable!("another's"),
        }
        Ok(Reply::Empty)
    }

    /// What a station that lost its journal has left behind for a serial.
    pub(super) fn plant_earlier_life(&mut self, serial: &str, document: &str, certificates: usize) {
        let mut principals = BTreeMap::new();
        for number in 0..certificates {
            let id = Fingerprint::of(format!("an earlier life of {serial}, {number}").as_bytes()).to_string();
            self.made += 1;
            let made = Made { number: self.made, ..Made::default() };
            let mut certificate = Registered::new(CertificateStatus::Active, serial, made);
            certificate.policies.insert(serial.to_owned(), Duration::ZERO);
            principals.insert(arn(&id), Duration::ZERO);
            self.certificates.insert(id, certificate);
        }
        self.policies.insert(serial.to_owned(), (document.to_owned(), Duration::ZERO));
        let attributes = BTreeMap::from([(STATION_ATTRIBUTE.to_owned(), STATION.to_owned())]);
        self.things.insert(serial.to_owned(), Thing { attributes, principals });
    }

    /// What belongs to somebody else, under the name that a serial's own would have.
    pub(super) fn plant_foreign(&mut self, serial: &str, thing: bool) {
        if thing {
            let attributes = BTreeMap::from([(STATION_ATTRIBUTE.to_owned(), "L9-S99".to_owned())]);
            self.things.insert(serial.to_owned(), Thing { attributes, principals: BTreeMap::new() });
        } else {
            let document = r#"{"Version":"2012-10-17","Statement":["theirs"]}"#.to_owned();
            self.policies.insert(serial.to_owned(), (document, Duration::ZERO));
        }
    }
}

/// Names on one page: few, so that paging is met.
pub(super) const PAGE: usize = 2;

fn page(
    all: &BTreeMap<String, Duration>,
    after: Option<&String>,
    now: Duration,
) -> (Vec<String>, Option<String>) {
    let shown = all.iter().filter(|(_, from)| **from <= now).map(|(name, _)| name);
    let mut rest = shown.filter(|it| after.is_none_or(|after| *it > after)).cloned();
    let names: Vec<String> = rest.by_ref().take(PAGE).collect();
    let next = rest.next().and(names.last().cloned());
    (names, next)
}

fn managed(id: &str) -> Reply {
    Reply::ManagedThing { id: id.to_owned(), arn: format!("arn:aws:managed-thing/{id}") }
}

fn managed_description(id: &str) -> Reply {
    let arn = format!("arn:aws:managed-thing/{id}");
    Reply::ManagedThingDescription { id: id.to_owned(), arn, locker: None }
}

fn policy(name: &str, document: &str) -> Reply {
    Reply::Policy {
        name: name.to_owned(),
        arn: format!("arn:aws:policy/{name}"),
        document: document.to_owned(),
    }
}
