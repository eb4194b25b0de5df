//! What a success must hold to be AWS's.
//!
//! The SDK takes `{}` for a success of any operation, with every member absent. A station that
//! recorded such an answer would hand out a device without a policy. So each member that a
//! [`Reply`] carries must be there, and must be about what was asked.

use std::collections::HashMap;

use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::super::{
    Answer, CertificateStatus, CloudError, FailureKind, ListedCertificate, ListedLocker, Operation, Reply,
    StopCause,
};
use super::classify::{bare, one_line};
use crate::pki::leaf::read_leaf;

/// One answer under examination.
pub(super) struct Exam<'a> {
    pub(super) operation: Operation,
    pub(super) account: Option<&'a str>,
    pub(super) request_id: Option<String>,
}

/// An ARN's account and resource, where it is one.
fn parts(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let scheme = parts.next()?;
    let account = parts.nth(3)?;
    let resource = parts.next()?;
    (scheme == "arn").then_some((account, resource))
}

impl Exam<'_> {
    /// Passes `reply`.
    pub(super) fn passed(self, reply: Reply) -> Answer {
        Answer { reply, request_id: self.request_id }
    }

    /// A 2xx that AWS would not have given: whether the call was carried out is not known.
    fn foreign(&self, what: &str) -> CloudError {
        let message = format!("the success is not AWS's: {what}");
        let error = bare(self.operation, FailureKind::Unknown, &message);
        CloudError { request_id: self.request_id.clone(), ..error }
    }

    /// A member that must be there and not empty.
    pub(super) fn member(&self, name: &str, value: Option<String>) -> Result<String, CloudError> {
        value.filter(|it| !it.is_empty()).ok_or_else(|| self.foreign(&format!("it has no {name}")))
    }

    /// A member that must repeat what was asked for.
    pub(super) fn same(&self, name: &str, value: Option<String>, asked: &str) -> Result<String, CloudError> {
        let value = self.member(name, value)?;
        if value == asked {
            Ok(value)
        } else {
            Err(self.foreign(&format!("{name} is another than the one asked")))
        }
    }

    /// The ARN of `resource` (`policy/NAME`), in the right account.
    pub(super) fn arn(
        &self,
        name: &str,
        value: Option<String>,
        resource: &str,
    ) -> Result<String, CloudError> {
        let value = self.member(name, value)?;
        match parts(&value) {
            Some((_, found)) if found.eq_ignore_ascii_case(resource) => self.home(&value)?,
            _ => return Err(self.foreign(&format!("{name} is not that of {resource}"))),
        }
        Ok(value)
    }

    /// Fails when `arn` belongs to another account than the configured one.
    pub(super) fn home(&self, arn: &str) -> Result<(), CloudError> {
        let (Some(expected), Some((found, _))) = (self.account, parts(arn)) else { return Ok(()) };
        if found == expected {
            return Ok(());
        }
        let message = format!("AWS answered for account {}, configured is {expected}", one_line(found));
        let error = bare(self.operation, FailureKind::Stop(StopCause::Account), &message);
        Err(CloudError { request_id: self.request_id.clone(), ..error })
    }

    /// `CreateCredentialLocker`.
    pub(super) fn locker(&self, id: Option<String>, arn: Option<String>) -> Result<Reply, CloudError> {
        let (id, arn) = self.locker_names(id, arn)?;
        Ok(Reply::Locker { id, arn })
    }

    /// `CreatePolicy`, `GetPolicy`; `asked` is the name, the members come in the order name, ARN, document.
    pub(super) fn policy(&self, asked: &str, members: [Option<String>; 3]) -> Result<Reply, CloudError> {
        let [name, arn, document] = members;
        let name = self.same("policyName", name, asked)?;
        let arn = self.arn("policyArn", arn, &format!("policy/{name}"))?;
        let document = self.member("policyDocument", document)?;
        Ok(Reply::Policy { name, arn, document })
    }

    /// The id and ARN of a certificate: 64 hex digits, here in lower case, and both the same.
    pub(super) fn certificate(
        &self,
        id: Option<String>,
        arn: Option<String>,
    ) -> Result<(String, String), CloudError> {
        let id = self.member("certificateId", id)?.to_ascii_lowercase();
        if id.len() != 64 || !id.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(self.foreign("certificateId is not 64 hex digits"));
        }
        let arn = self.arn("certificateArn", arn, &format!("cert/{id}"))?;
        Ok((id, arn))
    }

    /// `DescribeCertificate`, asked for the certificate `asked`.
    pub(super) fn described(
        &self,
        asked: &str,
        (id, arn): (Option<String>, Option<String>),
        status: Option<&str>,
        pem: Option<String>,
    ) -> Result<Reply, CloudError> {
        let (id, arn) = self.certificate(id, arn)?;
        if !id.eq_ignore_ascii_case(asked) {
            return Err(self.foreign("certificateId is another than the one asked"));
        }
        let status = self.status(status)?;
        if let Some(pem) = &pem {
            self.pem_of(&id, pem)?;
        }
        Ok(Reply::CertificateDescription { id, arn, status, pem })
    }

    fn status(&self, status: Option<&str>) -> Result<CertificateStatus, CloudError> {
        Ok(match self.member("status", status.map(str::to_owned))?.as_str() {
            "ACTIVE" => CertificateStatus::Active,
            "INACTIVE" => CertificateStatus::Inactive,
            "REVOKED" => CertificateStatus::Revoked,
            _ => CertificateStatus::Other,
        })
    }

    /// Fails unless `pem` is the certificate whose id is `id`: AWS's id is the hash of the DER.
    fn pem_of(&self, id: &str, pem: &str) -> Result<(), CloudError> {
        match read_leaf(pem) {
            Some(leaf) if leaf.fingerprint.to_string() == id => Ok(()),
            _ => Err(self.foreign("certificatePem is not the certificate of that id")),
        }
    }

    /// `CreateCertificateFromCsr`.
    pub(super) fn issued(
        &self,
        (id, arn): (Option<String>, Option<String>),
        pem: Option<String>,
    ) -> Result<Reply, CloudError> {
        let (id, arn) = self.certificate(id, arn)?;
        let pem = self.member("certificatePem", pem)?;
        self.pem_of(&id, &pem)?;
        Ok(Reply::IssuedCertificate { id, arn, pem })
    }

    /// One of `ListCertificates`.
    pub(super) fn listed_certificate(
        &self,
        (id, arn): (Option<String>, Option<String>),
        status: Option<&str>,
        created: Option<DateTime>,
    ) -> Result<ListedCertificate, CloudError> {
        let (id, _) = self.certificate(id, arn)?;
        let id = id.parse().map_err(|_| self.foreign("certificateId is not 64 hex digits"))?;
        let created = self.time("creationDate", created)?;
        Ok(ListedCertificate { id, status: self.status(status)?, created })
    }

    /// One of `ListCredentialLockers`.
    pub(super) fn listed_locker(
        &self,
        (id, arn): (Option<String>, Option<String>),
        name: Option<String>,
        created: Option<DateTime>,
    ) -> Result<ListedLocker, CloudError> {
        let (id, arn) = self.locker_names(id, arn)?;
        Ok(ListedLocker { id, arn, name, created: self.time("CreatedAt", created)? })
    }

    /// `GetCredentialLocker`, asked for the locker `asked`.
    pub(super) fn locker_description(
        &self,
        asked: &str,
        (id, arn): (Option<String>, Option<String>),
        tags: Option<HashMap<String, String>>,
    ) -> Result<Reply, CloudError> {
        let id = self.same("Id", id, asked)?;
        let (id, arn) = self.locker_names(Some(id), arn)?;
        Ok(Reply::LockerDescription { id, arn, tags: tags.unwrap_or_default().into_iter().collect() })
    }

    fn locker_names(&self, id: Option<String>, arn: Option<String>) -> Result<(String, String), CloudError> {
        let id = self.member("Id", id)?;
        let arn = self.arn("Arn", arn, &format!("credential-locker/{id}"))?;
        Ok((id, arn))
    }

    fn time(&self, name: &str, value: Option<DateTime>) -> Result<Timestamp, CloudError> {
        let time =
            value.and_then(|it| it.to_millis().ok()).and_then(|it| Timestamp::from_millisecond(it).ok());
        time.ok_or_else(|| self.foreign(&format!("it has no {name}")))
    }

    /// The name and ARN of the thing `asked`.
    pub(super) fn thing(
        &self,
        asked: &str,
        name: Option<String>,
        arn: Option<String>,
    ) -> Result<(String, String), CloudError> {
        let name = self.same("thingName", name, asked)?;
        let arn = self.arn("thingArn", arn, &format!("thing/{name}"))?;
        Ok((name, arn))
    }

    /// `DescribeThing`; a thing without attributes may come without the member.
    pub(super) fn thing_description(
        &self,
        (name, arn): (String, String),
        attributes: Option<HashMap<String, String>>,
    ) -> Reply {
        Reply::ThingDescription {
            name,
            arn,
            attributes: attributes.unwrap_or_default().into_iter().collect(),
        }
    }

    /// A list: an absent one is an empty one from AWS, and nothing at all from anybody else.
    pub(super) fn list<T>(&self, name: &str, value: Option<Vec<T>>) -> Result<Vec<T>, CloudError> {
        match value {
            None if self.request_id.is_none() => Err(self.foreign(&format!("it has no {name}"))),
            other => Ok(other.unwrap_or_default()),
        }
    }
}
