//! Device certificates: the id is a function of the bytes, so the same bytes meet themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, Done, Moment, Outcome, Registered, seconds};
use super::authority::SigningRequest;
use super::check::{Page, encode_token};
use super::refusal::Refusal;
use super::request::Request;
use super::x509::Certificate;
use crate::cloud::{Operation, Service};
use crate::pki::{Fingerprint, to_pem};

/// `RegisterCertificate` and `RegisterCertificateWithoutCA`.
#[derive(Debug)]
pub(crate) struct RegisterCertificate {
    pub(crate) certificate: Box<Certificate>,
    issuer: Issuer,
    status: &'static str,
}

impl RegisterCertificate {
    /// Active, and without a CA.
    pub(crate) fn without_ca(certificate: Certificate) -> Self {
        Self { certificate: Box::new(certificate), issuer: Issuer::Any, status: "ACTIVE" }
    }
}

/// What the caller says of the issuer.
#[derive(Debug)]
enum Issuer {
    /// It does not matter.
    Any,
    /// One of the registered ones, found by its name.
    Registered,
    /// This one.
    Given(Box<Certificate>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    certificate_pem: Option<String>,
    ca_certificate_pem: Option<String>,
    status: Option<String>,
}

impl RegisterCertificate {
    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let members: Members = request.members()?;
        let pem = members.certificate_pem.ok_or_else(|| request.invalid("certificatePem is required"))?;
        let with_ca = request.route.operation == Operation::RegisterCertificate;
        let set_as_active = with_ca && request.flag("setAsActive")?;
        let status = match members.status.as_deref() {
            None if set_as_active => "ACTIVE",
            None => "INACTIVE",
            Some(status) => settable_status(status)?,
        };
        let issuer = match members.ca_certificate_pem {
            _ if !with_ca => Issuer::Any,
            None => Issuer::Registered,
            Some(pem) => Issuer::Given(Box::new(Certificate::from_pem(&pem)?)),
        };
        Ok(Self { certificate: Box::new(Certificate::from_pem(&pem)?), issuer, status })
    }
}

/// `CreateCertificateFromCsr`, issued already.
#[derive(Debug)]
pub(crate) struct KeepIssued {
    pub(crate) certificate: Box<Certificate>,
    pub(crate) owner: Option<String>,
    pub(crate) active: bool,
}

/// Reads and checks the members of `CreateCertificateFromCsr`.
pub(crate) fn parse_csr(request: &Request) -> Result<(SigningRequest, bool), Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        certificate_signing_request: Option<String>,
    }
    let members: Members = request.members()?;
    let pem = members
        .certificate_signing_request
        .ok_or_else(|| request.invalid("certificateSigningRequest is required"))?;
    Ok((SigningRequest::from_pem(&pem)?, request.flag("setAsActive")?))
}

/// Takes a certificate's id: 64 hex digits.
pub(crate) fn parse_id(request: &Request) -> Result<Fingerprint, Refusal> {
    let id = request.route.name.as_str();
    let digits = id.strip_prefix("0x").unwrap_or(id);
    digits.parse().map_err(|_| request.invalid("certificateId has to be 64 hex digits"))
}

/// Takes a status that a caller may set.
pub(crate) fn settable_status(status: &str) -> Result<&'static str, Refusal> {
    match status {
        "ACTIVE" => Ok("ACTIVE"),
        "INACTIVE" => Ok("INACTIVE"),
        "REVOKED" => Ok("REVOKED"),
        _ => Err(Refusal::invalid(Service::Iot, format!("the status {status:?} cannot be set"))),
    }
}

impl Account {
    pub(crate) fn register_certificate(&mut self, command: RegisterCertificate, at: Moment<'_>) -> Outcome {
        let RegisterCertificate { certificate, issuer, status } = command;
        let id = certificate.fingerprint;
        let arn = self.arn(at.region, &format!("cert/{id}"));
        if self.certificates.contains_key(&id) {
            let message = "The certificate is already provisioned or registered";
            return Err(Refusal::exists(message, id.to_string(), arn));
        }
        let ca = match issuer {
            Issuer::Any => None,
            Issuer::Registered => Some(self.find_issuer(&certificate)?),
            Issuer::Given(ca) => Some(self.check_issuer(&certificate, &ca)?),
        };
        let owner = certificate.common_name.clone();
        self.keep(*certificate, owner, status, ca, at);
        Ok(Done::with(json!({ "certificateArn": arn, "certificateId": id.to_string() }), true))
    }

    pub(crate) fn keep_issued(&mut self, command: KeepIssued, at: Moment<'_>) -> Outcome {
        let id = command.certificate.fingerprint;
        let body = json!({
            "certificateArn": self.arn(at.region, &format!("cert/{id}")),
            "certificateId": id.to_string(),
            "certificatePem": *to_pem("CERTIFICATE", &command.certificate.der),
        });
        let status = if command.active { "ACTIVE" } else { "INACTIVE" };
        self.keep(*command.certificate, command.owner, status, None, at);
        Ok(Done::with(body, true))
    }

    fn keep(
        &mut self,
        certificate: Certificate,
        owner: Option<String>,
        status: &'static str,
        ca: Option<Fingerprint>,
        at: Moment<'_>,
    ) {
        let order = self.next();
        let id = certificate.fingerprint;
        self.certificate_order.insert(order, id);
        let registered = Registered {
            certificate,
            status,
            owner,
            ca,
            created: at.now.wall,
            modified: at.now.wall,
            order,
            policies: BTreeMap::new(),
            things: BTreeSet::new(),
            exclusive: false,
            listed_from: at.now.mono + at.delay,
        };
        self.certificates.insert(id, registered);
    }

    pub(crate) fn describe_certificate(&self, id: Fingerprint, at: Moment<'_>) -> Outcome {
        let it = self.certificates.get(&id).ok_or_else(|| no_certificate(id))?;
        let mut description = json!({
            "certificateArn": self.arn(at.region, &format!("cert/{id}")),
            "certificateId": id.to_string(),
            "status": it.status,
            "certificatePem": *to_pem("CERTIFICATE", &it.certificate.der),
            "ownedBy": self.id,
            "creationDate": seconds(it.created),
            "lastModifiedDate": seconds(it.modified),
            "customerVersion": 1,
            "generationId": self.digits(&format!("certificate {id}")),
            "validity": { "notBefore": it.certificate.not_before, "notAfter": it.certificate.not_after },
            "certificateMode": self.mode(it),
        });
        if let Some(ca) = it.ca {
            description["caCertificateId"] = ca.to_string().into();
        }
        Ok(Done::read(json!({ "certificateDescription": description })))
    }

    /// A certificate takes its CA's mode; without a CA it is `SNI_ONLY`, unless AWS issued it.
    fn mode(&self, it: &Registered) -> &'static str {
        match it.ca.and_then(|ca| self.cas.get(&ca)) {
            Some(ca) => ca.mode,
            None if it.is_issued_here() => "DEFAULT",
            None => "SNI_ONLY",
        }
    }

    pub(crate) fn update_certificate(
        &mut self,
        id: Fingerprint,
        status: &'static str,
        at: Moment<'_>,
    ) -> Outcome {
        let it = self.certificates.get_mut(&id).ok_or_else(|| no_certificate(id))?;
        if it.status == status {
            return Ok(Done::empty(false));
        }
        if it.status == "REVOKED" {
            let message = format!("Certificate {id} is revoked for good");
            return Err(Refusal::new("CertificateStateException", 406, message));
        }
        it.status = status;
        it.modified = at.now.wall;
        Ok(Done::empty(true))
    }

    /// With `force`, attached policies do not keep it; things always do.
    pub(crate) fn delete_certificate(&mut self, id: Fingerprint, force: bool) -> Outcome {
        let it = self.certificates.get(&id).ok_or_else(|| no_certificate(id))?;
        if it.status == "ACTIVE" {
            let message = format!("Certificate must be deactivated before deletion (id={id})");
            return Err(Refusal::new("CertificateStateException", 406, message));
        }
        if !it.things.is_empty() || (!it.policies.is_empty() && !force) {
            let message = format!("Things or policies must be detached before deletion (id={id})");
            return Err(Refusal::new("DeleteConflictException", 409, message));
        }
        if let Some(it) = self.certificates.remove(&id) {
            self.certificate_order.remove(&it.order);
            for policy in it.policies.keys() {
                if let Some(policy) = self.policies.get_mut(policy) {
                    policy.targets.remove(&id);
                }
            }
        }
        Ok(Done::empty(true))
    }

    /// Newest first, unless asked otherwise; all, or those that a registered CA has signed.
    pub(crate) fn list_certificates(&self, ca: Option<Fingerprint>, page: &Page, at: Moment<'_>) -> Outcome {
        let after = page.after.as_deref().map(str::parse::<u64>).transpose();
        let after = after.map_err(|_| Refusal::invalid(Service::Iot, "marker is not valid"))?;
        let limit = page.limit + 1;
        let signed = |(_, id): &(&u64, &Fingerprint)| {
            ca.is_none() || self.certificates.get(*id).is_some_and(|it| it.ca == ca)
        };
        let mut part: Vec<(&u64, &Fingerprint)> = if page.ascending {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            self.certificate_order.range((start, Bound::Unbounded)).filter(signed).take(limit).collect()
        } else {
            let end = after.map_or(Bound::Unbounded, Bound::Excluded);
            self.certificate_order.range((Bound::Unbounded, end)).rev().filter(signed).take(limit).collect()
        };
        let more = part.len() == limit;
        part.truncate(page.limit);
        let items: Vec<Value> = part
            .iter()
            .filter_map(|(_, id)| {
                let it = self.certificates.get(id)?;
                let shown = at.must_see || it.listed_from <= at.now.mono;
                shown.then(|| {
                    json!({
                        "certificateArn": self.arn(at.region, &format!("cert/{id}")),
                        "certificateId": id.to_string(),
                        "status": it.status,
                        "certificateMode": self.mode(it),
                        "creationDate": seconds(it.created),
                    })
                })
            })
            .collect();
        let mut body = json!({ "certificates": items });
        if let (Some((last, _)), true) = (part.last(), more) {
            body["nextMarker"] = encode_token(Service::Iot, &last.to_string()).into();
        }
        Ok(Done::read(body))
    }
}

fn no_certificate(id: Fingerprint) -> Refusal {
    Refusal::not_found(format!("Certificate {id} does not exist"))
}
