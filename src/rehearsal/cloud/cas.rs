//! Registered CAs, and what being issued by one means.

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::{Account, Ca, Done, Moment, Outcome, seconds};
use super::refusal::Refusal;
use super::request::Request;
use super::x509::Certificate;
use crate::pki::{Fingerprint, to_pem};

/// Most CAs with one subject (AWS General Reference).
const MAX_OF_ONE_SUBJECT: usize = 10;

/// `RegisterCACertificate`.
#[derive(Debug)]
pub(crate) struct RegisterCa {
    pub(crate) certificate: Box<Certificate>,
    verification: Option<Box<Certificate>>,
    active: bool,
    auto_registration: bool,
    mode: &'static str,
    registration_config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    ca_certificate: Option<String>,
    verification_certificate: Option<String>,
    certificate_mode: Option<String>,
    registration_config: Option<Value>,
}

impl RegisterCa {
    /// Registers `certificate` for clients that name their server, which takes no proof of possession.
    pub(crate) fn without_challenge(certificate: Certificate) -> Self {
        Self {
            certificate: Box::new(certificate),
            verification: None,
            active: true,
            auto_registration: false,
            mode: "SNI_ONLY",
            registration_config: None,
        }
    }

    /// Reads and checks the members.
    pub(crate) fn parse(request: &Request) -> Result<Self, Refusal> {
        let members: Members = request.members()?;
        let pem = members.ca_certificate.ok_or_else(|| request.invalid("caCertificate is required"))?;
        let mode = match members.certificate_mode.as_deref() {
            None | Some("DEFAULT") => "DEFAULT",
            Some("SNI_ONLY") => "SNI_ONLY",
            Some(_) => return Err(request.invalid("certificateMode has to be DEFAULT or SNI_ONLY")),
        };
        let certificate = Box::new(Certificate::from_pem(&pem)?);
        if !certificate.is_ca {
            return Err(not_valid("the certificate is not a CA's"));
        }
        let verification = members.verification_certificate;
        let verification = verification.map(|it| Certificate::from_pem(&it)).transpose()?.map(Box::new);
        Ok(Self {
            certificate,
            verification,
            active: request.flag("setAsActive")?,
            auto_registration: request.flag("allowAutoRegistration")?,
            mode,
            registration_config: members.registration_config,
        })
    }
}

/// Takes the status of `UpdateCACertificate`: active or not, if it is to change.
pub(crate) fn ca_status(request: &Request) -> Result<Option<bool>, Refusal> {
    match request.query("newStatus") {
        None => Ok(None),
        Some("ACTIVE") => Ok(Some(true)),
        Some("INACTIVE") => Ok(Some(false)),
        Some(other) => Err(request.invalid(format!("newStatus {other:?} is not ACTIVE or INACTIVE"))),
    }
}

impl Account {
    /// The code that a CA's owner has to certify, to show that he holds the CA's key.
    pub(crate) fn registration_code(&self) -> String {
        self.digits("registration code")
    }

    pub(crate) fn register_ca(&mut self, command: RegisterCa, at: Moment<'_>) -> Outcome {
        let certificate = *command.certificate;
        let id = certificate.fingerprint;
        let arn = self.arn(at.region, &format!("cacert/{id}"));
        if self.cas.contains_key(&id) {
            let message = "CA certificate is already registered";
            return Err(Refusal::exists(message, id.to_string(), arn));
        }
        if command.mode == "DEFAULT" {
            self.check_possession(&certificate, command.verification.as_deref())?;
        }
        let twins = self.cas.values().filter(|it| it.certificate.subject == certificate.subject).count();
        if twins >= MAX_OF_ONE_SUBJECT {
            let message = "10 CA certificates with this subject are registered";
            return Err(Refusal::new("LimitExceededException", 410, message));
        }
        let ca = Ca {
            certificate,
            active: command.active,
            auto_registration: command.auto_registration,
            mode: command.mode,
            registration_config: command.registration_config,
            created: at.now.wall,
        };
        self.cas.insert(id, ca);
        Ok(Done::with(json!({ "certificateArn": arn, "certificateId": id.to_string() }), true))
    }

    fn check_possession(&self, ca: &Certificate, verification: Option<&Certificate>) -> Result<(), Refusal> {
        let refuse = |message: &str| Err(Refusal::new("RegistrationCodeValidationException", 400, message));
        let Some(verification) = verification else {
            return refuse("a verification certificate is required in DEFAULT mode");
        };
        if verification.common_name.as_deref() != Some(self.registration_code().as_str()) {
            return refuse("the verification certificate's common name is not the registration code");
        }
        if !verification.is_issued_by(ca) {
            return Err(not_valid("the verification certificate is not signed by the CA"));
        }
        Ok(())
    }

    pub(crate) fn describe_ca(&self, id: Fingerprint, at: Moment<'_>) -> Outcome {
        let ca = self
            .cas
            .get(&id)
            .ok_or_else(|| Refusal::not_found(format!("CA certificate {id} does not exist")))?;
        let mut body = json!({ "certificateDescription": {
            "certificateArn": self.arn(at.region, &format!("cacert/{id}")),
            "certificateId": id.to_string(),
            "status": if ca.active { "ACTIVE" } else { "INACTIVE" },
            "certificatePem": *to_pem("CERTIFICATE", &ca.certificate.der),
            "ownedBy": self.id,
            "creationDate": seconds(ca.created),
            "lastModifiedDate": seconds(ca.created),
            "autoRegistrationStatus": if ca.auto_registration { "ENABLE" } else { "DISABLE" },
            "customerVersion": 1,
            "generationId": self.digits(&format!("CA {id}")),
            "validity": { "notBefore": ca.certificate.not_before, "notAfter": ca.certificate.not_after },
            "certificateMode": ca.mode,
        }});
        if let Some(config) = &ca.registration_config {
            body["registrationConfig"] = config.clone();
        }
        Ok(Done::read(body))
    }

    pub(crate) fn update_ca(&mut self, id: Fingerprint, active: Option<bool>) -> Outcome {
        let missing = || Refusal::not_found(format!("CA certificate {id} does not exist"));
        let ca = self.cas.get_mut(&id).ok_or_else(missing)?;
        let wanted = active.unwrap_or(ca.active);
        let effect = std::mem::replace(&mut ca.active, wanted) != wanted;
        Ok(Done::empty(effect))
    }

    /// The registered CA that issued `leaf`, found by its name.
    pub(crate) fn find_issuer(&self, leaf: &Certificate) -> Result<Fingerprint, Refusal> {
        let candidates: Vec<_> =
            self.cas.iter().filter(|(_, it)| it.certificate.subject == leaf.issuer).collect();
        match candidates.as_slice() {
            [] => Err(not_valid("the certificate's CA is not registered")),
            [(id, ca)] => check_issued_by(leaf, **id, ca),
            _ => {
                let message = "several registered CAs have the issuer's name: give caCertificatePem";
                Err(Refusal::new("CertificateConflictException", 409, message))
            }
        }
    }

    /// Checks that `given` is registered and issued `leaf`.
    pub(crate) fn check_issuer(
        &self,
        leaf: &Certificate,
        given: &Certificate,
    ) -> Result<Fingerprint, Refusal> {
        let id = given.fingerprint;
        let ca = self.cas.get(&id).ok_or_else(|| not_valid("the CA certificate is not registered"))?;
        check_issued_by(leaf, id, ca)
    }
}

fn check_issued_by(leaf: &Certificate, id: Fingerprint, ca: &Ca) -> Result<Fingerprint, Refusal> {
    if !ca.active {
        return Err(not_valid("the CA certificate is not active"));
    }
    if leaf.is_issued_by(&ca.certificate) {
        Ok(id)
    } else {
        Err(not_valid("the certificate is not signed by the CA"))
    }
}

fn not_valid(message: &str) -> Refusal {
    Refusal::new("CertificateValidationException", 400, message)
}
