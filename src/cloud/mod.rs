//! What the station asks of AWS, and how an answer is to be taken.
//!
//! A [`Call`] is one HTTP request and nothing more: no retry, no adoption. Whoever
//! calls decides what an error means for the device (`device::steps`, `device::retry`).
//! Calls are values, so that they can be paced, counted, replayed and made to fail
//! in one place each.

mod operation;
mod urgency;

pub mod aws;
pub mod handshake;
pub mod pace;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

use crate::pki::Fingerprint;

pub use operation::{
    ACCOUNT, DEVICE_CERTIFICATES, DEVICE_CERTIFICATES_QUOTA, Operation, Service, UnknownOperation,
};
pub use urgency::{Class, Nest, Urgency};

/// One request to AWS. Member names are those of the API reference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members are AWS's, named as in its API reference")]
pub enum Call {
    CreateCredentialLocker {
        name: String,
        client_token: String,
        tags: BTreeMap<String, String>,
    },
    GetCredentialLocker {
        id: String,
    },
    ListCredentialLockers {
        next_token: Option<String>,
    },
    CreatePolicy {
        name: String,
        document: String,
        tags: BTreeMap<String, String>,
    },
    GetPolicy {
        name: String,
    },
    ListPolicies {
        marker: Option<String>,
    },
    RegisterCertificateWithoutCa {
        certificate_pem: String,
    },
    RegisterCertificate {
        certificate_pem: String,
        ca_certificate_pem: String,
    },
    /// Always with `setAsActive` false: a certificate that nobody has recorded lets nobody in.
    CreateCertificateFromCsr {
        csr_pem: String,
    },
    /// Newest first.
    ListCertificates {
        marker: Option<String>,
    },
    /// Newest first; only those whose CA is registered in the account and is this one.
    ListCertificatesByCa {
        ca: String,
        marker: Option<String>,
    },
    DescribeCertificate {
        id: String,
    },
    DeleteCertificate {
        id: String,
    },
    UpdateCertificate {
        id: String,
        status: CertificateStatus,
    },
    CreateThing {
        name: String,
        attributes: BTreeMap<String, String>,
    },
    DescribeThing {
        name: String,
    },
    ListThings {
        next_token: Option<String>,
    },
    AttachPolicy {
        policy: String,
        target: String,
    },
    DetachPolicy {
        policy: String,
        target: String,
    },
    ListAttachedPolicies {
        target: String,
        marker: Option<String>,
    },
    AttachThingPrincipal {
        thing: String,
        principal: String,
    },
    DetachThingPrincipal {
        thing: String,
        principal: String,
    },
    ListThingPrincipals {
        thing: String,
        next_token: Option<String>,
    },
    ListPrincipalThings {
        principal: String,
        next_token: Option<String>,
    },
    DeleteThing {
        name: String,
    },
    DeletePolicy {
        name: String,
    },
    DeleteCredentialLocker {
        id: String,
    },
    /// Role `CONTROLLER` or `DEVICE`, with the material of Wi-Fi Simple Setup.
    CreateManagedThing {
        controller: bool,
        serial: String,
        material: String,
        locker: Option<String>,
        client_token: String,
    },
    GetManagedThing {
        id: String,
    },
    DeleteManagedThing {
        id: String,
    },
}

impl Call {
    /// The operation that is called.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::CreateCredentialLocker { .. } => Operation::CreateCredentialLocker,
            Self::GetCredentialLocker { .. } => Operation::GetCredentialLocker,
            Self::ListCredentialLockers { .. } => Operation::ListCredentialLockers,
            Self::CreatePolicy { .. } => Operation::CreatePolicy,
            Self::GetPolicy { .. } => Operation::GetPolicy,
            Self::ListPolicies { .. } => Operation::ListPolicies,
            Self::RegisterCertificateWithoutCa { .. } => Operation::RegisterCertificateWithoutCa,
            Self::RegisterCertificate { .. } => Operation::RegisterCertificate,
            Self::CreateCertificateFromCsr { .. } => Operation::CreateCertificateFromCsr,
            Self::ListCertificates { .. } => Operation::ListCertificates,
            Self::ListCertificatesByCa { .. } => Operation::ListCertificatesByCa,
            Self::DescribeCertificate { .. } => Operation::DescribeCertificate,
            Self::DeleteCertificate { .. } => Operation::DeleteCertificate,
            Self::UpdateCertificate { .. } => Operation::UpdateCertificate,
            Self::CreateThing { .. } => Operation::CreateThing,
            Self::DescribeThing { .. } => Operation::DescribeThing,
            Self::ListThings { .. } => Operation::ListThings,
            Self::AttachPolicy { .. } => Operation::AttachPolicy,
            Self::DetachPolicy { .. } => Operation::DetachPolicy,
            Self::ListAttachedPolicies { .. } => Operation::ListAttachedPolicies,
            Self::AttachThingPrincipal { .. } => Operation::AttachThingPrincipal,
            Self::DetachThingPrincipal { .. } => Operation::DetachThingPrincipal,
            Self::ListThingPrincipals { .. } => Operation::ListThingPrincipals,
            Self::ListPrincipalThings { .. } => Operation::ListPrincipalThings,
            Self::DeleteThing { .. } => Operation::DeleteThing,
            Self::DeletePolicy { .. } => Operation::DeletePolicy,
            Self::DeleteCredentialLocker { .. } => Operation::DeleteCredentialLocker,
            Self::CreateManagedThing { .. } => Operation::CreateManagedThing,
            Self::GetManagedThing { .. } => Operation::GetManagedThing,
            Self::DeleteManagedThing { .. } => Operation::DeleteManagedThing,
        }
    }
}

/// A certificate's status in AWS IoT, as far as the station tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateStatus {
    /// Accepted at connection.
    Active,
    /// Not accepted; can be made active.
    Inactive,
    /// Not accepted for good.
    Revoked,
    /// Any other (`PENDING_TRANSFER`, `REGISTER_INACTIVE`, `PENDING_ACTIVATION`, …).
    Other,
}

impl CertificateStatus {
    /// AWS's word for it; `Other` is not sent to AWS.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
            Self::Other => "OTHER",
        }
    }
}

/// What AWS answered to a [`Call`] that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The content.
    pub reply: Reply,
    /// AWS's id of the request, for support cases. An answer without one may come from a
    /// proxy: where it has no content either ([`Reply::Empty`]) it proves nothing.
    pub request_id: Option<String>,
}

/// The content of an [`Answer`]. Only members that the station uses; each was present and not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members are AWS's, named as in its API reference")]
pub enum Reply {
    /// `CreateCredentialLocker`.
    Locker { id: String, arn: String },
    /// `CreateManagedThing`.
    ManagedThing { id: String, arn: String },
    /// `GetManagedThing`: the locker that it names, where AWS tells one.
    ManagedThingDescription { id: String, arn: String, locker: Option<String> },
    /// `GetCredentialLocker`.
    LockerDescription { id: String, arn: String, tags: BTreeMap<String, String> },
    /// `ListCredentialLockers`: one page.
    Lockers { items: Vec<ListedLocker>, next: Option<String> },
    /// `CreatePolicy`, `GetPolicy`: the document is the one now in force.
    Policy { name: String, arn: String, document: String },
    /// `RegisterCertificate`, `RegisterCertificateWithoutCA`: 64 lower-case hex digits.
    Certificate { id: String, arn: String },
    /// `CreateCertificateFromCsr`: the PEM is that of the certificate whose id it is.
    IssuedCertificate { id: String, arn: String, pem: String },
    /// `DescribeCertificate`. The PEM, where it came, is that of the certificate whose id it is.
    CertificateDescription { id: String, arn: String, status: CertificateStatus, pem: Option<String> },
    /// `ListCertificates`, `ListCertificatesByCA`: one page.
    Certificates { items: Vec<ListedCertificate>, next: Option<String> },
    /// `CreateThing`.
    Thing { name: String, arn: String },
    /// `DescribeThing`.
    ThingDescription { name: String, arn: String, attributes: BTreeMap<String, String> },
    /// `ListThings`: one page.
    Things { items: Vec<ListedThing>, next: Option<String> },
    /// `ListPrincipalThings`: one page of names.
    ThingNames { names: Vec<String>, next: Option<String> },
    /// `ListPolicies`, `ListAttachedPolicies`: one page of policy names.
    Policies { names: Vec<String>, next: Option<String> },
    /// `ListThingPrincipals`: one page of ARNs.
    Principals { arns: Vec<String>, next: Option<String> },
    /// A 2xx of an operation that answers nothing (`Attach…`, `Detach…`, `Delete…`,
    /// `UpdateCertificate`).
    Empty,
}

/// A certificate in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCertificate {
    /// Its id.
    pub id: Fingerprint,
    /// Its status.
    pub status: CertificateStatus,
    /// When it was made, by AWS's clock.
    pub created: Timestamp,
}

/// A thing in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedThing {
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A locker in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLocker {
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// Its name, if it has one. Several lockers may have the same.
    pub name: Option<String>,
    /// When it was made, by AWS's clock.
    pub created: Timestamp,
}

/// Why a call brought no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudError {
    /// What was called.
    pub operation: Operation,
    /// What kind of failure it is; the one thing that decisions hang on.
    pub kind: FailureKind,
    /// AWS's error code (`ThrottlingException`), where one came.
    pub code: Option<String>,
    /// The HTTP status, where one came.
    pub status: Option<u16>,
    /// AWS's or the transport's words, without secrets; at most 500 characters.
    pub message: String,
    /// AWS's request id, where one came.
    pub request_id: Option<String>,
    /// `x-amz-retry-after` or `Retry-After`, where one came.
    pub retry_after: Option<Duration>,
    /// `resourceId` of an "already exists".
    pub resource_id: Option<String>,
    /// `resourceArn` of an "already exists".
    pub resource_arn: Option<String>,
}

impl CloudError {
    /// One of which nothing is known but these words.
    pub fn new(operation: Operation, kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            operation,
            kind,
            code: None,
            status: None,
            message: message.into(),
            request_id: None,
            retry_after: None,
            resource_id: None,
            resource_arn: None,
        }
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        match (&self.code, self.status) {
            (Some(code), _) => write!(f, "{code}")?,
            (None, Some(status)) => write!(f, "HTTP {status}")?,
            (None, None) => write!(f, "{}", self.kind)?,
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

impl std::error::Error for CloudError {}

/// The kinds of failure, told apart by error code and never by status alone: AWS IoT throttles with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Too many calls: come back later, without bound.
    Throttled,
    /// The request never left: connection refused, name not found.
    Unreachable,
    /// 5xx, a reset, a time-out, a cut body, an answer that is not AWS's: it may or may not have been done.
    Unknown,
    /// 404: not there, or not visible yet.
    NotFound,
    /// 409: a resource of that name exists.
    Exists,
    /// 409 of another kind: the account holds something that contradicts the request.
    Conflict,
    /// Nothing will go through until a person has changed something.
    Stop(StopCause),
    /// The request itself is wrong for AWS: repeating it cannot help.
    Refused,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttled => "throttled",
            Self::Unreachable => "AWS cannot be reached",
            Self::Unknown => "no answer that counts",
            Self::NotFound => "not found",
            Self::Exists => "exists already",
            Self::Conflict => "conflict",
            Self::Stop(cause) => return write!(f, "{cause}"),
            Self::Refused => "refused",
        })
    }
}

/// What a person has to change before the line can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopCause {
    /// No credentials, expired or unknown ones.
    Credentials,
    /// The credentials may not do this.
    Permission,
    /// The account holds as many as it may.
    Quota,
    /// Signatures are refused because the station's clock is wrong.
    Clock,
    /// The credentials belong to another account than the configured one.
    Account,
    /// The account does not have the CA that has signed, or not as active.
    Ca,
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "the AWS credentials are missing, expired or unknown",
            Self::Permission => "the AWS credentials do not permit this call",
            Self::Quota => "an account quota is used up",
            Self::Clock => "AWS refuses the signature; the station's clock may be wrong",
            Self::Account => "the AWS credentials belong to another account",
            Self::Ca => "AWS takes no certificates of the station's CA",
        })
    }
}

/// AWS, as the station sees it.
pub trait Cloud: Send + Sync {
    /// Sends one request, once, and waits at most the configured time for its answer.
    ///
    /// # Errors
    /// Whatever is not a complete, well-formed success of that very operation.
    fn call(&self, call: &Call) -> impl Future<Output = Result<Answer, CloudError>> + Send;

    /// The same, for somebody: matters only where calls wait for their turn.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    fn call_for(&self, class: Class, call: &Call) -> impl Future<Output = Result<Answer, CloudError>> + Send {
        let _ = class;
        self.call(call)
    }

    /// The same for somebody who may become more urgent meanwhile, or less; and how long the call waited for its
    /// turn before it was sent.
    fn call_timed(
        &self,
        urgency: &Urgency,
        call: &Call,
    ) -> impl Future<Output = (Result<Answer, CloudError>, Duration)> + Send {
        async move { (self.call_for(urgency.class(), call).await, Duration::ZERO) }
    }

    /// The limits that calls wait for now although the configuration allows more: AWS throttles below it, or has asked
    /// not to be called for a while.
    fn held_back(&self) -> Vec<HeldBack> {
        Vec::new()
    }
}

/// A limit below what is configured that calls wait for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldBack {
    /// An operation in kebab case, [`DEVICE_CERTIFICATES`], or [`ACCOUNT`].
    pub limit: &'static str,
    /// Calls a second that it was found to allow this station; none if it was not found to allow less than
    /// is configured.
    pub rate: Option<f64>,
    /// Calls a second that the configuration allows; none if it names no such limit.
    pub ceiling: Option<f64>,
    /// Until when AWS has asked not to be called, monotonic, if that is not over.
    pub paused_until: Option<Duration>,
}

impl<C: Cloud> Cloud for std::sync::Arc<C> {
    fn call(&self, call: &Call) -> impl Future<Output = Result<Answer, CloudError>> + Send {
        (**self).call(call)
    }

    fn call_for(&self, class: Class, call: &Call) -> impl Future<Output = Result<Answer, CloudError>> + Send {
        (**self).call_for(class, call)
    }

    fn call_timed(
        &self,
        urgency: &Urgency,
        call: &Call,
    ) -> impl Future<Output = (Result<Answer, CloudError>, Duration)> + Send {
        (**self).call_timed(urgency, call)
    }

    fn held_back(&self) -> Vec<HeldBack> {
        (**self).held_back()
    }
}

/// Calls a second that this station may make; a share is already taken off. What is not in it is unlimited.
#[derive(Debug, Clone, PartialEq)]
pub struct Quotas {
    /// By operation; each above zero.
    pub rates: BTreeMap<Operation, f64>,
    /// For all calls that register a device certificate, together; above zero.
    pub device_certificates: Option<f64>,
    /// The part of the account that these are, above 0 and at most 1: what the account allows is these by it.
    pub share: f64,
}

impl Default for Quotas {
    /// No limit at all.
    fn default() -> Self {
        Self { rates: BTreeMap::new(), device_certificates: None, share: 1.0 }
    }
}

impl Quotas {
    /// AWS's documented quotas, whole.
    #[must_use]
    pub fn aws_default() -> Self {
        Self {
            rates: Operation::ALL.iter().map(|it| (*it, it.default_quota())).collect(),
            device_certificates: Some(DEVICE_CERTIFICATES_QUOTA),
            share: 1.0,
        }
    }

    /// No limit at all.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// These quotas times `share`, the part of an account that is this station's.
    #[must_use]
    pub fn shared(mut self, share: f64) -> Self {
        self.rates.values_mut().for_each(|it| *it *= share);
        self.device_certificates = self.device_certificates.map(|it| it * share);
        self.share *= share;
        self
    }
}
