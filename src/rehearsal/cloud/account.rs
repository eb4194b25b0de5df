//! What the simulated account holds. Each kind of resource has its own file with the rules that
//! AWS documents for it; here is what they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::refusal::Refusal;
use super::x509::Certificate;
use crate::clock::Now;
use crate::cloud::Service;
use crate::pki::Fingerprint;

/// A credential locker. Names are not unique.
#[derive(Debug)]
pub(crate) struct Locker {
    pub(crate) name: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
}

/// What a client token was used for.
#[derive(Debug)]
pub(crate) struct TokenUse {
    pub(crate) locker: String,
    pub(crate) created: Timestamp,
    /// Hash of the parameters.
    pub(crate) parameters: Fingerprint,
}

/// A policy. The document is kept as it was sent.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) document: String,
    pub(crate) created: Timestamp,
    /// From this monotonic time on `AttachPolicy` finds it.
    pub(crate) attachable_from: Duration,
    pub(crate) targets: BTreeSet<Fingerprint>,
}

/// A registered device certificate.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) certificate: Certificate,
    pub(crate) status: &'static str,
    /// Common name of the certificate or of the CSR: whose it is.
    pub(crate) owner: Option<String>,
    pub(crate) ca: Option<Fingerprint>,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    /// Place in the order of registration.
    pub(crate) order: u64,
    /// Attached policies, with the monotonic time from which the lists show them.
    pub(crate) policies: BTreeMap<String, Duration>,
    pub(crate) things: BTreeSet<String>,
    /// Bound to its one thing (`EXCLUSIVE_THING`).
    pub(crate) exclusive: bool,
    /// From this monotonic time on `ListCertificates` shows it.
    pub(crate) listed_from: Duration,
}

/// The subject of every certificate that AWS IoT issues.
pub(crate) const ISSUED_HERE: &str = "AWS IoT Certificate";

impl Registered {
    /// Whether AWS has issued it.
    pub(crate) fn is_issued_here(&self) -> bool {
        self.ca.is_none() && self.certificate.common_name.as_deref() == Some(ISSUED_HERE)
    }
}

/// A registered CA.
#[derive(Debug)]
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    pub(crate) active: bool,
    pub(crate) auto_registration: bool,
    pub(crate) mode: &'static str,
    pub(crate) registration_config: Option<Value>,
    pub(crate) created: Timestamp,
}

/// A thing.
#[derive(Debug)]
pub(crate) struct Thing {
    pub(crate) id: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// From this monotonic time on `AttachThingPrincipal` finds it.
    pub(crate) attachable_from: Duration,
    /// Attached certificates, with the monotonic time from which the lists show them.
    pub(crate) principals: BTreeMap<Fingerprint, Duration>,
}

/// A managed thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedThing {
    /// What authenticates it.
    pub material: String,
    /// Its locker's id.
    pub locker: Option<String>,
    /// AWS's word for its role.
    pub role: String,
}

/// The account.
#[derive(Debug)]
pub(crate) struct Account {
    /// Twelve digits.
    pub(crate) id: String,
    pub(crate) seed: u64,
    /// Most lockers; AWS has such a quota and does not publish it.
    pub(crate) max_lockers: Option<usize>,
    pub(crate) lockers: BTreeMap<String, Locker>,
    pub(crate) tokens: HashMap<String, TokenUse>,
    /// Managed things by id, and which one each token has made, with what parameters.
    pub(crate) managed_things: BTreeMap<String, ManagedThing>,
    pub(crate) managed_tokens: HashMap<String, (String, Fingerprint)>,
    pub(crate) policies: BTreeMap<String, Policy>,
    pub(crate) certificates: HashMap<Fingerprint, Registered>,
    pub(crate) certificate_order: BTreeMap<u64, Fingerprint>,
    pub(crate) cas: BTreeMap<Fingerprint, Ca>,
    pub(crate) things: BTreeMap<String, Thing>,
    counter: u64,
}

/// When and where a request takes effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Now,
    /// The Region that the request is signed for.
    pub(crate) region: &'a str,
    /// How long what is made now does not show.
    pub(crate) delay: Duration,
    /// Nothing may be invisible to this request.
    pub(crate) must_see: bool,
}

/// A success.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    pub(crate) status: u16,
    /// `None` for the operations that answer nothing.
    pub(crate) body: Option<Value>,
    /// The account is another one than before.
    pub(crate) effect: bool,
}

impl Done {
    /// Answers `body`; nothing has changed.
    pub(crate) fn read(body: Value) -> Self {
        Self { status: 200, body: Some(body), effect: false }
    }

    /// Answers `body`; `effect` says whether something has changed.
    pub(crate) fn with(body: Value, effect: bool) -> Self {
        Self { status: 200, body: Some(body), effect }
    }

    /// Answers nothing.
    pub(crate) fn empty(effect: bool) -> Self {
        Self { status: 200, body: None, effect }
    }
}

/// What an operation comes to.
pub(crate) type Outcome = Result<Done, Refusal>;

impl Account {
    /// An empty account.
    pub(crate) fn new(id: String, seed: u64, max_lockers: Option<usize>) -> Self {
        Self {
            id,
            seed,
            max_lockers,
            lockers: BTreeMap::new(),
            tokens: HashMap::new(),
            managed_things: BTreeMap::new(),
            managed_tokens: HashMap::new(),
            policies: BTreeMap::new(),
            certificates: HashMap::new(),
            certificate_order: BTreeMap::new(),
            cas: BTreeMap::new(),
            things: BTreeMap::new(),
            counter: 0,
        }
    }

    /// Forgets every client token, as AWS does after a time that it does not tell.
    pub(crate) fn forget_tokens(&mut self) {
        self.tokens.clear();
        self.managed_tokens.clear();
    }

    /// The next number of a kind of resource: positive, never repeated.
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// 64 hex digits that belong to this account and `what`.
    pub(crate) fn digits(&self, what: &str) -> String {
        Fingerprint::of(format!("{} {} {what}", self.id, self.seed).as_bytes()).to_string()
    }

    /// ARN of something of `iot`: `cert/…`, `policy/…`.
    pub(crate) fn arn(&self, region: &str, what: &str) -> String {
        format!("arn:aws:iot:{region}:{}:{what}", self.id)
    }

    /// The certificate that a principal's or target's ARN names. The Region is not looked at.
    ///
    /// # Errors
    /// `InvalidRequestException` if it is no certificate's ARN, `ResourceNotFoundException` if it
    /// is another account's or of no certificate that is registered.
    pub(crate) fn principal(&self, arn: &str) -> Result<Fingerprint, Refusal> {
        let fields: Vec<&str> = arn.splitn(6, ':').collect();
        let (account, id) = match fields.as_slice() {
            ["arn", partition, "iot", _, account, resource] if partition.starts_with("aws") => {
                (*account, resource.strip_prefix("cert/").and_then(|it| it.parse().ok()))
            }
            _ => ("", None),
        };
        let id: Fingerprint =
            id.ok_or_else(|| Refusal::invalid(Service::Iot, format!("not a certificate's ARN: {arn}")))?;
        if account == self.id && self.certificates.contains_key(&id) {
            Ok(id)
        } else {
            Err(Refusal::not_found(format!("Principal {arn} does not exist")))
        }
    }

    /// Whose certificate this is, or else its id.
    pub(crate) fn certificate_label(&self, id: &str) -> String {
        let owner = id.parse().ok().and_then(|it| self.certificates.get(&it)?.owner.clone());
        owner.unwrap_or_else(|| id.to_owned())
    }

    /// Whose certificate an ARN names, or else the ARN.
    pub(crate) fn principal_label(&self, arn: &str) -> String {
        match arn.rsplit_once("cert/") {
            Some((_, id)) => self.certificate_label(id),
            None => arn.to_owned(),
        }
    }
}

/// A time as AWS's JSON has it: seconds since 1970, with milliseconds.
pub(crate) fn seconds(at: Timestamp) -> Value {
    // Milliseconds since 1970 are exact in a double.
    #[expect(clippy::cast_precision_loss, reason = "41 bits fit")]
    let seconds = at.as_millisecond() as f64 / 1000.0;
    Value::from(seconds)
}
