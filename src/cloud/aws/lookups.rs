//! The calls by which a certificate from a CSR or a locker is made anew or found again: those that
//! AWS would do twice if they were repeated blindly, and the lists of what the account holds.

use aws_sdk_iot::types::{Certificate, CertificateStatus as IotStatus};
use aws_sdk_iotmanagedintegrations::types::{AuthMaterialType, Role, WiFiSimpleSetupConfiguration};

use super::super::{Call, CloudError, FailureKind, ListedCertificate, ListedThing, Operation, Reply};
use super::AwsCloud;
use super::answers::Exam;
use super::classify::bare;
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

    /// A hub provisions others, whatever else is provisioned by one: that is said along with the role.
    pub(super) async fn create_managed_thing(&self, call: &Call) -> Outcome {
        let operation = call.operation();
        let Call::CreateManagedThing { controller, serial, material, locker, client_token } = call else {
            return Err(bare(operation, FailureKind::Refused, "it makes no managed thing"));
        };
        let setup = WiFiSimpleSetupConfiguration::builder();
        let (role, setup) = if *controller {
            (Role::Controller, setup.enable_as_provisioner(true))
        } else {
            (Role::Device, setup.enable_as_provisionee(true))
        };
        let request = self.managed_integrations.create_managed_thing().role(role);
        let request = request.authentication_material_type(AuthMaterialType::WifiSetupQrBarCode);
        let request = request.authentication_material(material).serial_number(serial);
        let request = request.wi_fi_simple_setup_configuration(setup.build());
        let request = request.set_credential_locker_id(locker.clone()).client_token(client_token);
        let (output, exam) = self.examine(operation, request.send().await)?;
        let id = exam.member("Id", output.id)?;
        let arn = exam.arn("Arn", output.arn, &format!("managed-thing/{id}"))?;
        Ok(exam.passed(Reply::ManagedThing { id, arn }))
    }

    pub(super) async fn get_managed_thing(&self, wanted: &str) -> Outcome {
        let request = self.managed_integrations.get_managed_thing().identifier(wanted);
        let (output, exam) = self.examine(Operation::GetManagedThing, request.send().await)?;
        let id = exam.same("Id", output.id, wanted)?;
        let arn = exam.arn("Arn", output.arn, &format!("managed-thing/{id}"))?;
        let locker = output.credential_locker_id.filter(|it| !it.is_empty());
        Ok(exam.passed(Reply::ManagedThingDescription { id, arn, locker }))
    }

    pub(super) async fn list_certificates(&self, marker: Option<String>) -> Outcome {
        let request = self.iot.list_certificates().set_marker(marker);
        let request = request.page_size(PAGE).ascending_order(false);
        let (output, exam) = self.examine(Operation::ListCertificates, request.send().await)?;
        let items = listed(&exam, output.certificates)?;
        Ok(exam.passed(Reply::Certificates { items, next: continued(output.next_marker) }))
    }

    pub(super) async fn list_certificates_by_ca(&self, ca: &str, marker: Option<String>) -> Outcome {
        let request = self.iot.list_certificates_by_ca().ca_certificate_id(ca).set_marker(marker);
        let request = request.page_size(PAGE).ascending_order(false);
        let (output, exam) = self.examine(Operation::ListCertificatesByCa, request.send().await)?;
        let items = listed(&exam, output.certificates)?;
        Ok(exam.passed(Reply::Certificates { items, next: continued(output.next_marker) }))
    }

    pub(super) async fn list_policies(&self, marker: Option<String>) -> Outcome {
        let request = self.iot.list_policies().set_marker(marker).page_size(PAGE);
        let (output, exam) = self.examine(Operation::ListPolicies, request.send().await)?;
        let mut names = Vec::new();
        for it in exam.list("policies", output.policies)? {
            exam.home(it.policy_arn.as_deref().unwrap_or_default())?;
            names.push(exam.member("policyName", it.policy_name)?);
        }
        Ok(exam.passed(Reply::Policies { names, next: continued(output.next_marker) }))
    }

    pub(super) async fn list_things(&self, token: Option<String>) -> Outcome {
        let request = self.iot.list_things().set_next_token(token).max_results(PAGE);
        let (output, exam) = self.examine(Operation::ListThings, request.send().await)?;
        let mut items = Vec::new();
        for it in exam.list("things", output.things)? {
            exam.home(it.thing_arn.as_deref().unwrap_or_default())?;
            let name = exam.member("thingName", it.thing_name)?;
            let attributes = it.attributes.unwrap_or_default().into_iter().collect();
            items.push(ListedThing { name, attributes });
        }
        Ok(exam.passed(Reply::Things { items, next: continued(output.next_token) }))
    }

    pub(super) async fn list_principal_things(&self, principal: &str, token: Option<String>) -> Outcome {
        let request = self.iot.list_principal_things().principal(principal);
        let request = request.set_next_token(token).max_results(PAGE);
        let (output, exam) = self.examine(Operation::ListPrincipalThings, request.send().await)?;
        let names = exam.list("things", output.things)?;
        Ok(exam.passed(Reply::ThingNames { names, next: continued(output.next_token) }))
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

fn listed(
    exam: &Exam<'_>,
    certificates: Option<Vec<Certificate>>,
) -> Result<Vec<ListedCertificate>, CloudError> {
    let examined = |it: Certificate| {
        let names = (it.certificate_id, it.certificate_arn);
        let status = it.status.as_ref().map(IotStatus::as_str);
        exam.listed_certificate(names, status, it.creation_date)
    };
    exam.list("certificates", certificates)?.into_iter().map(examined).collect()
}
