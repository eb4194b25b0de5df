//! A request as one typed value, and the one place where it reaches the account.

use serde_json::json;

use super::account::{Account, Done, Moment, Outcome};
use super::attachments::{PolicyTarget, ThingPrincipal, principal_of};
use super::authority::Authority;
use super::cas::{RegisterCa, ca_status};
use super::certificates::{KeepIssued, RegisterCertificate, parse_csr, parse_id, settable_status};
use super::check::{LOCKERS, MARKER, NEXT_TOKEN, Page, locker_id, managed_id, policy_name, thing_name};
use super::lockers::CreateLocker;
use super::managed::CreateManagedThing;
use super::policies::CreatePolicy;
use super::refusal::Refusal;
use super::request::Request;
use super::things::{CreateThing, ListThings};
use crate::cloud::{Operation, Service};
use crate::pki::Fingerprint;

/// An operation with its members, checked.
#[derive(Debug)]
pub(crate) enum Command {
    CreateLocker(CreateLocker),
    GetLocker(String),
    ListLockers(Page),
    DeleteLocker(String),
    CreateManagedThing(CreateManagedThing),
    GetManagedThing(String),
    DeleteManagedThing(String),
    CreatePolicy(CreatePolicy),
    GetPolicy(String),
    ListPolicies(Page),
    DeletePolicy(String),
    ListTargets(String, Page),
    RegisterCa(RegisterCa),
    RegistrationCode,
    DescribeCa(Fingerprint),
    UpdateCa(Fingerprint, Option<bool>),
    RegisterCertificate(RegisterCertificate),
    KeepIssued(KeepIssued),
    DescribeCertificate(Fingerprint),
    UpdateCertificate(Fingerprint, &'static str),
    DeleteCertificate(Fingerprint, bool),
    ListCertificates(Page),
    ListCertificatesByCa(Fingerprint, Page),
    CreateThing(CreateThing),
    DescribeThing(String),
    DeleteThing(String, Option<String>),
    ListThings(ListThings),
    AttachPolicy(PolicyTarget),
    DetachPolicy(PolicyTarget),
    ListAttachedPolicies(String, Page),
    AttachThingPrincipal(ThingPrincipal),
    DetachThingPrincipal(ThingPrincipal),
    ListThingPrincipals(String, Page),
    ListPrincipalThings(String, Page),
    DescribeEndpoint(&'static str),
}

/// What issuing from a CSR takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issuing<'a> {
    pub(crate) authority: &'a Authority,
    /// Another one for each request.
    pub(crate) number: u64,
    pub(crate) now_unix_seconds: i64,
}

impl Command {
    /// Reads a request. Does all that is slow (parsing, signing) before the account is locked.
    ///
    /// # Errors
    /// A documented constraint is broken.
    pub(crate) fn parse(request: &Request, issuing: Issuing<'_>) -> Result<Self, Refusal> {
        use Operation as O;
        Ok(match request.route.operation {
            O::CreateCredentialLocker => Self::CreateLocker(CreateLocker::parse(request)?),
            O::GetCredentialLocker => Self::GetLocker(locker_id(request)?),
            O::ListCredentialLockers => Self::ListLockers(Page::of(request, LOCKERS)?),
            O::DeleteCredentialLocker => Self::DeleteLocker(locker_id(request)?),
            O::CreateManagedThing => Self::CreateManagedThing(CreateManagedThing::parse(request)?),
            O::GetManagedThing => Self::GetManagedThing(managed_id(request)?),
            O::DeleteManagedThing => Self::DeleteManagedThing(managed_id(request)?),
            O::CreatePolicy => Self::CreatePolicy(CreatePolicy::parse(request)?),
            O::GetPolicy => Self::GetPolicy(policy_name(request)?),
            O::ListPolicies => Self::ListPolicies(Page::of(request, MARKER)?),
            O::DeletePolicy => Self::DeletePolicy(policy_name(request)?),
            O::ListTargetsForPolicy => Self::ListTargets(policy_name(request)?, Page::of(request, MARKER)?),
            O::CreateThing => Self::CreateThing(CreateThing::parse(request)?),
            O::DescribeThing => Self::DescribeThing(thing_name(request)?),
            O::DeleteThing => {
                Self::DeleteThing(thing_name(request)?, request.query("expectedVersion").map(str::to_owned))
            }
            O::ListThings => Self::ListThings(ListThings::parse(request, Page::of(request, NEXT_TOKEN)?)?),
            O::DescribeEndpoint => Self::DescribeEndpoint(endpoint(request)?),
            _ => return Self::parse_certificate(request, issuing),
        })
    }

    fn parse_certificate(request: &Request, issuing: Issuing<'_>) -> Result<Self, Refusal> {
        use Operation as O;
        Ok(match request.route.operation {
            O::RegisterCaCertificate => Self::RegisterCa(RegisterCa::parse(request)?),
            O::GetRegistrationCode => Self::RegistrationCode,
            O::DescribeCaCertificate => Self::DescribeCa(parse_id(request)?),
            O::UpdateCaCertificate => Self::UpdateCa(parse_id(request)?, ca_status(request)?),
            O::RegisterCertificate | O::RegisterCertificateWithoutCa => {
                Self::RegisterCertificate(RegisterCertificate::parse(request)?)
            }
            O::CreateCertificateFromCsr => Self::issue(request, issuing)?,
            O::DescribeCertificate => Self::DescribeCertificate(parse_id(request)?),
            O::UpdateCertificate => {
                let status = request.query("newStatus");
                let status = status.ok_or_else(|| request.invalid("newStatus is required"))?;
                Self::UpdateCertificate(parse_id(request)?, settable_status(status)?)
            }
            O::DeleteCertificate => Self::DeleteCertificate(parse_id(request)?, request.flag("forceDelete")?),
            O::ListCertificates => Self::ListCertificates(Page::of(request, MARKER)?),
            O::ListCertificatesByCa => {
                Self::ListCertificatesByCa(parse_id(request)?, Page::of(request, MARKER)?)
            }
            O::AttachPolicy => Self::AttachPolicy(PolicyTarget::parse(request)?),
            O::DetachPolicy => Self::DetachPolicy(PolicyTarget::parse(request)?),
            O::ListAttachedPolicies => {
                Self::ListAttachedPolicies(request.route.name.clone(), Page::of(request, MARKER)?)
            }
            O::AttachThingPrincipal => Self::AttachThingPrincipal(ThingPrincipal::parse(request)?),
            O::DetachThingPrincipal => Self::DetachThingPrincipal(ThingPrincipal::parse(request)?),
            O::ListThingPrincipals => {
                Self::ListThingPrincipals(thing_name(request)?, Page::of(request, NEXT_TOKEN)?)
            }
            O::ListPrincipalThings => {
                Self::ListPrincipalThings(principal_of(request)?, Page::of(request, NEXT_TOKEN)?)
            }
            // The routes lead to no other operation.
            _ => return Err(Refusal::internal(Service::Iot)),
        })
    }

    fn issue(request: &Request, issuing: Issuing<'_>) -> Result<Self, Refusal> {
        let (csr, active) = parse_csr(request)?;
        let Issuing { authority, number, now_unix_seconds } = issuing;
        let certificate = Box::new(authority.issue(&csr, number, now_unix_seconds)?);
        Ok(Self::KeepIssued(KeepIssued { certificate, owner: csr.common_name, active }))
    }

    /// The name that the request is about: the same in every run, so never a certificate's id
    /// where its owner is known.
    pub(crate) fn label(&self, account: &Account) -> String {
        match self {
            Self::CreateLocker(it) => it.name.clone().or(it.client_token.clone()).unwrap_or_default(),
            Self::CreateManagedThing(it) => it.serial_number.clone().unwrap_or_default(),
            Self::CreatePolicy(it) => it.name.clone(),
            Self::CreateThing(it) => it.name.clone(),
            Self::GetLocker(name)
            | Self::DeleteLocker(name)
            | Self::GetManagedThing(name)
            | Self::DeleteManagedThing(name)
            | Self::GetPolicy(name)
            | Self::DeletePolicy(name)
            | Self::ListTargets(name, _)
            | Self::DescribeThing(name)
            | Self::DeleteThing(name, _)
            | Self::ListThingPrincipals(name, _) => name.clone(),
            Self::RegisterCa(it) => it.certificate.common_name.clone().unwrap_or_default(),
            Self::RegisterCertificate(it) => {
                let owner = it.certificate.common_name.clone();
                owner.unwrap_or_else(|| it.certificate.fingerprint.to_string())
            }
            Self::KeepIssued(it) => it.owner.clone().unwrap_or_default(),
            Self::DescribeCa(id) | Self::UpdateCa(id, _) | Self::ListCertificatesByCa(id, _) => {
                id.to_string()
            }
            Self::DescribeCertificate(id)
            | Self::UpdateCertificate(id, _)
            | Self::DeleteCertificate(id, _) => account.certificate_label(&id.to_string()),
            Self::AttachPolicy(it) | Self::DetachPolicy(it) => {
                format!("{} -> {}", it.policy, account.principal_label(&it.target))
            }
            Self::AttachThingPrincipal(it) | Self::DetachThingPrincipal(it) => {
                format!("{} -> {}", account.principal_label(&it.principal), it.thing)
            }
            Self::ListAttachedPolicies(arn, _) | Self::ListPrincipalThings(arn, _) => {
                account.principal_label(arn)
            }
            Self::DescribeEndpoint(_)
            | Self::ListLockers(_)
            | Self::ListPolicies(_)
            | Self::ListCertificates(_)
            | Self::ListThings(_)
            | Self::RegistrationCode => String::new(),
        }
    }

    /// Whether it gives tags to what it makes.
    pub(crate) fn is_tagged(&self) -> bool {
        match self {
            Self::CreateLocker(it) => it.is_tagged(),
            Self::CreatePolicy(it) => it.tagged,
            _ => false,
        }
    }

    /// Takes effect.
    ///
    /// # Errors
    /// AWS would not do it.
    pub(crate) fn apply(self, account: &mut Account, at: Moment<'_>) -> Outcome {
        match self {
            Self::CreateLocker(it) => account.create_locker(it, at),
            Self::GetLocker(id) => account.get_locker(&id, at),
            Self::ListLockers(page) => account.list_lockers(&page, at),
            Self::DeleteLocker(id) => account.delete_locker(&id),
            Self::CreateManagedThing(it) => account.create_managed_thing(it, at),
            Self::GetManagedThing(id) => account.get_managed_thing(&id, at),
            Self::DeleteManagedThing(id) => account.delete_managed_thing(&id),
            Self::CreatePolicy(it) => account.create_policy(it, at),
            Self::GetPolicy(name) => account.get_policy(&name, at),
            Self::ListPolicies(page) => account.list_policies(&page, at),
            Self::DeletePolicy(name) => account.delete_policy(&name),
            Self::ListTargets(name, page) => account.list_targets(&name, &page, at),
            Self::RegisterCa(it) => account.register_ca(it, at),
            Self::RegistrationCode => {
                Ok(Done::read(json!({ "registrationCode": account.registration_code() })))
            }
            Self::DescribeCa(id) => account.describe_ca(id, at),
            Self::UpdateCa(id, active) => account.update_ca(id, active),
            Self::RegisterCertificate(it) => account.register_certificate(it, at),
            Self::KeepIssued(it) => account.keep_issued(it, at),
            Self::DescribeCertificate(id) => account.describe_certificate(id, at),
            Self::UpdateCertificate(id, status) => account.update_certificate(id, status, at),
            Self::DeleteCertificate(id, force) => account.delete_certificate(id, force),
            Self::ListCertificates(page) => account.list_certificates(None, &page, at),
            Self::ListCertificatesByCa(ca, page) => account.list_certificates(Some(ca), &page, at),
            Self::CreateThing(it) => account.create_thing(it, at),
            Self::DescribeThing(name) => account.describe_thing(&name, at),
            Self::DeleteThing(name, version) => account.delete_thing(&name, version.as_deref()),
            Self::ListThings(it) => account.list_things(&it, at),
            Self::AttachPolicy(it) => account.attach_policy(&it, at),
            Self::DetachPolicy(it) => account.detach_policy(&it),
            Self::ListAttachedPolicies(target, page) => account.list_attached_policies(&target, &page, at),
            Self::AttachThingPrincipal(it) => account.attach_thing_principal(&it, at),
            Self::DetachThingPrincipal(it) => account.detach_thing_principal(&it),
            Self::ListThingPrincipals(name, page) => account.list_thing_principals(&name, &page, at),
            Self::ListPrincipalThings(arn, page) => account.list_principal_things(&arn, &page, at),
            Self::DescribeEndpoint(kind) => {
                let prefix = &account.digits("endpoint")[..14];
                let address = format!("{prefix}{kind}.{}.amazonaws.com", at.region);
                Ok(Done::read(json!({ "endpointAddress": address })))
            }
        }
    }
}

/// What stands between the account's prefix and the Region in an endpoint's name.
fn endpoint(request: &Request) -> Result<&'static str, Refusal> {
    match request.query("endpointType") {
        None | Some("iot:Data") => Ok(".iot"),
        Some("iot:Data-ATS") => Ok("-ats.iot"),
        Some("iot:CredentialProvider") => Ok(".credentials.iot"),
        Some("iot:Jobs") => Ok(".jobs.iot"),
        Some(other) => Err(request.invalid(format!("there is no endpoint of type {other:?}"))),
    }
}
