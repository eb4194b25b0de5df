//! The calls by which a certificate from a CSR or a locker is made anew or found again: those that
//! AWS would do twice if they were repeated blindly, and the lists in which their effect is looked for.

use aws_sdk_iot::types::CertificateStatus as IotStatus;

use super::super::{Operation, Reply};
use super::AwsCloud;
use super::requests::{Outcome, PAGE, continued};

/// Lockers on a page, AWS's maximum.
const LOCKERS_PAGE: i32 = 1000;

impl AwsCloud {
    pub(super) async fn create_from_csr(&self, csr_pem: &str) -> Outcome {
        let request = self.iot.create_certificate_from_csr();
        let request = request.certificate_signing_request(csr_pem).set_as_active(false);
        let (output, exam) = self.examine(Operation::CreateCertificateFromCsr, request.send().await)?;
        let names = (output.certificate_id, output.certificate_arn);
        let reply = exam.issued(names, output.certificate_pem)?;
        Ok(exam.passed(reply))
    }

    pub(super) async fn list_certificates(&self, marker: Option<String>) -> Outcome {
        let request = self.iot.list_certificates().set_marker(marker);
        let request = request.page_size(PAGE).ascending_order(false);
        let (output, exam) = self.examine(Operation::ListCertificates, request.send().await)?;
        let mut items = Vec::new();
        for it in exam.list("certificates", output.certificates)? {
            let names = (it.certificate_id, it.certificate_arn);
            let status = it.status.as_ref().map(IotStatus::as_str);
            items.push(exam.listed_certificate(names, status, it.creation_date)?);
        }
        Ok(exam.passed(Reply::Certificates { items, next: continued(output.next_marker) }))
    }

    pub(super) async fn get_credential_locker(&self, id: &str) -> Outcome {
        let request = self.managed_integrations.get_credential_locker().identifier(id);
        let (output, exam) = self.examine(Operation::GetCredentialLocker, request.send().await)?;
        let reply = exam.locker_description(id, (output.id, output.arn), output.tags)?;
        Ok(exam.passed(reply))
    }

    pub(super) async fn list_credential_lockers(&self, token: Option<String>) -> Outcome {
        let request = self.managed_integrations.list_credential_lockers();
        let request = request.set_next_token(token).max_results(LOCKERS_PAGE);
        let (output, exam) = self.examine(Operation::ListCredentialLockers, request.send().await)?;
        let mut items = Vec::new();
        for it in exam.list("Items", output.items)? {
            items.push(exam.listed_locker((it.id, it.arn), it.name, it.created_at)?);
        }
        Ok(exam.passed(Reply::Lockers { items, next: continued(output.next_token) }))
    }
}
