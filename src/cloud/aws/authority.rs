//! The station's CA in the account: what a person does once, with `linemint ca register`. No device waits
//! for it, so it is no [`Call`](super::super::Call) and passes no limiter: a handful of requests.

use aws_sdk_iot::types::{CaCertificateStatus, CertificateMode, RegistrationConfig};

use super::super::{CloudError, FailureKind, Operation, StopCause};
use super::AwsCloud;
use super::classify::bare;
use crate::pki::Fingerprint;
use crate::pki::summary::name_of;

/// What AWS says of a certificate that it does not register, be it for the certificate's sake or for its CA's.
const NOT_VALID: &str = "CertificateValidationException";

/// How a CA's certificates are told apart by AWS IoT ([dev-ca] in the project's AWS facts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaMode {
    /// One account of a Region holds the CA, and proof of its key is asked for.
    Default,
    /// Several accounts may; devices have to name their server (SNI). No proof of the key.
    SniOnly,
}

impl CaMode {
    /// AWS's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::SniOnly => "SNI_ONLY",
        }
    }
}

/// A CA that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredCa {
    /// Its ARN.
    pub arn: String,
    /// Whether certificates that it has signed can be registered.
    pub active: bool,
    /// `DEFAULT` or `SNI_ONLY`.
    pub mode: String,
    /// Whether a device of it is registered at its first connection.
    pub auto_registration: bool,
}

/// What is registered.
#[derive(Debug, Clone, Copy)]
pub struct CaRegistration<'a> {
    /// The CA's certificate alone, PEM.
    pub ca_pem: &'a str,
    /// A certificate of the CA for the registration code, PEM; not with [`CaMode::SniOnly`].
    pub verification_pem: Option<&'a str>,
    /// The mode.
    pub mode: CaMode,
    /// The provisioning template for devices at their first connection; none: no such device is let in.
    pub jitp_template: Option<&'a str>,
}

impl AwsCloud {
    /// What the account knows of a CA; none if it does not know it.
    ///
    /// # Errors
    /// Whatever is not a complete success.
    pub async fn describe_ca(&self, id: &Fingerprint) -> Result<Option<RegisteredCa>, CloudError> {
        let operation = Operation::DescribeCaCertificate;
        let sent = self.iot.describe_ca_certificate().certificate_id(id.to_string()).send().await;
        let (output, exam) = match self.examine(operation, sent) {
            Err(error) if error.kind == FailureKind::NotFound => return Ok(None),
            other => other?,
        };
        let none = || bare(operation, FailureKind::Unknown, "the success is not AWS's: it describes nothing");
        let it = output.certificate_description.ok_or_else(none)?;
        let found = exam.same("certificateId", it.certificate_id, &id.to_string())?;
        let arn = exam.arn("certificateArn", it.certificate_arn, &format!("cacert/{found}"))?;
        let status = exam.member("status", it.status.map(|it| it.as_str().to_owned()))?;
        // Accounts of before the modes came answer none.
        let mode = it.certificate_mode.map_or_else(|| "DEFAULT".to_owned(), |it| it.as_str().to_owned());
        let auto_registration = it.auto_registration_status.is_some_and(|it| it.as_str() == "ENABLE");
        Ok(Some(RegisteredCa { arn, active: status == "ACTIVE", mode, auto_registration }))
    }

    /// AWS has one code for a certificate that is wrong and for a CA that it does not have, or has asleep. The one
    /// concerns a single device, the other every one: so AWS is asked for the CA before either is said.
    pub(super) async fn whose_fault(&self, error: CloudError, ca_pem: &str) -> CloudError {
        if error.code.as_deref() != Some(NOT_VALID) {
            return error;
        }
        let Some((id, subject)) = name_of(ca_pem) else { return error };
        let stop = |what: &str| CloudError {
            kind: FailureKind::Stop(StopCause::Ca),
            message: format!("{subject}, {id}, {what}"),
            ..error.clone()
        };
        match self.describe_ca(&id).await {
            Ok(None) => stop("is not registered in the account"),
            Ok(Some(ca)) if !ca.active => stop("is registered in the account, but not active"),
            Ok(Some(_)) => error,
            Err(asked) => match asked.kind {
                // Who may not ask knows no better than AWS's code says it.
                FailureKind::Stop(_) | FailureKind::Refused => CloudError {
                    message: format!("{}; whether AWS has the CA could not be asked: {asked}", error.message),
                    ..error
                },
                // Nothing was registered; with the next try it is asked again.
                kind => CloudError { kind, ..error },
            },
        }
    }

    /// The code that the CA has to certify, to show that whoever registers it holds its key.
    ///
    /// # Errors
    /// Whatever is not a complete success.
    pub async fn registration_code(&self) -> Result<String, CloudError> {
        let operation = Operation::GetRegistrationCode;
        let (output, exam) = self.examine(operation, self.iot.get_registration_code().send().await)?;
        let code = exam.member("registrationCode", output.registration_code)?;
        if code.len() == 64 && code.bytes().all(|it| it.is_ascii_hexdigit()) {
            Ok(code)
        } else {
            Err(bare(operation, FailureKind::Unknown, "the registration code is not 64 hex digits"))
        }
    }

    /// Registers a CA as active.
    ///
    /// # Errors
    /// Whatever is not a complete success; [`FailureKind::Exists`] if it is registered already.
    pub async fn register_ca(&self, it: &CaRegistration<'_>) -> Result<(), CloudError> {
        let mode = match it.mode {
            CaMode::Default => CertificateMode::Default,
            CaMode::SniOnly => CertificateMode::SniOnly,
        };
        let request = self.iot.register_ca_certificate().ca_certificate(it.ca_pem);
        let request = request.set_verification_certificate(it.verification_pem.map(str::to_owned));
        let request = request.certificate_mode(mode).set_as_active(true);
        let template = it.jitp_template.map(|it| RegistrationConfig::builder().template_name(it).build());
        let request = request.allow_auto_registration(template.is_some()).set_registration_config(template);
        let sent = request.send().await;
        let (output, exam) = self.examine(Operation::RegisterCaCertificate, sent)?;
        exam.member("certificateId", output.certificate_id).map(drop)
    }

    /// Makes a registered CA active.
    ///
    /// # Errors
    /// Whatever is not a complete success.
    pub async fn activate_ca(&self, id: &Fingerprint) -> Result<(), CloudError> {
        let request = self.iot.update_ca_certificate().certificate_id(id.to_string());
        let sent = request.new_status(CaCertificateStatus::Active).send().await;
        self.examine(Operation::UpdateCaCertificate, sent).map(drop)
    }
}
