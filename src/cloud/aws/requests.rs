//! Each [`Call`] as one request of the SDK.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_iot::types::{AttributePayload, CertificateStatus as IotStatus, Tag};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;

use super::super::{Answer, Call, CertificateStatus, CloudError, FailureKind, Operation, Reply};
use super::AwsCloud;
use super::answers::Exam;
use super::classify::{bare, failure, one_line};

pub(super) type Outcome = Result<Answer, CloudError>;

/// A page of a list has at most this many entries, AWS's own maximum for the lists of `iot`.
pub(super) const PAGE: i32 = 250;

fn map(from: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!from.is_empty()).then(|| from.clone().into_iter().collect())
}

pub(super) fn continued(token: Option<String>) -> Option<String> {
    token.filter(|it| !it.is_empty())
}

impl AwsCloud {
    /// Sends the request of `call`.
    pub(super) async fn send(&self, call: &Call) -> Outcome {
        let operation = call.operation();
        match call {
            Call::CreateCredentialLocker { name, client_token, tags } => {
                self.create_credential_locker(name, client_token, tags).await
            }
            Call::GetCredentialLocker { id } => self.get_credential_locker(id).await,
            Call::ListCredentialLockers { next_token } => {
                self.list_credential_lockers(next_token.clone()).await
            }
            Call::CreatePolicy { name, document, tags } => self.create_policy(name, document, tags).await,
            Call::GetPolicy { name } => self.get_policy(name).await,
            Call::RegisterCertificateWithoutCa { certificate_pem } => {
                self.register_without_ca(certificate_pem).await
            }
            Call::RegisterCertificate { certificate_pem, ca_certificate_pem } => {
                self.register_with_ca(certificate_pem, ca_certificate_pem).await
            }
            Call::CreateCertificateFromCsr { csr_pem } => self.create_from_csr(csr_pem).await,
            Call::ListCertificates { marker } => self.list_certificates(marker.clone()).await,
            Call::ListCertificatesByCa { ca, marker } => {
                self.list_certificates_by_ca(ca, marker.clone()).await
            }
            Call::ListPolicies { marker } => self.list_policies(marker.clone()).await,
            Call::ListThings { next_token } => self.list_things(next_token.clone()).await,
            Call::ListPrincipalThings { principal, next_token } => {
                self.list_principal_things(principal, next_token.clone()).await
            }
            Call::DescribeCertificate { id } => self.describe_certificate(id).await,
            Call::UpdateCertificate { id, status } => self.update_certificate(id, *status).await,
            Call::CreateThing { name, attributes } => self.create_thing(name, attributes).await,
            Call::DescribeThing { name } => self.describe_thing(name).await,
            Call::AttachPolicy { policy, target } => {
                let request = self.iot.attach_policy().policy_name(policy).target(target);
                self.empty(operation, request.send().await)
            }
            Call::DetachPolicy { policy, target } => {
                let request = self.iot.detach_policy().policy_name(policy).target(target);
                self.empty(operation, request.send().await)
            }
            Call::ListAttachedPolicies { target, marker } => {
                self.list_attached_policies(target, marker.clone()).await
            }
            Call::AttachThingPrincipal { thing, principal } => {
                let request = self.iot.attach_thing_principal().thing_name(thing).principal(principal);
                self.empty(operation, request.send().await)
            }
            Call::DetachThingPrincipal { thing, principal } => {
                let request = self.iot.detach_thing_principal().thing_name(thing).principal(principal);
                self.empty(operation, request.send().await)
            }
            Call::ListThingPrincipals { thing, next_token } => {
                self.list_thing_principals(thing, next_token.clone()).await
            }
            Call::CreateManagedThing { .. } => self.create_managed_thing(call).await,
            Call::GetManagedThing { id } => self.get_managed_thing(id).await,
            Call::DeleteCertificate { .. }
            | Call::DeleteManagedThing { .. }
            | Call::DeleteThing { .. }
            | Call::DeletePolicy { .. }
            | Call::DeleteCredentialLocker { .. } => self.delete(call).await,
        }
    }

    /// Nothing is forced: what still hangs on it is to be detached first.
    async fn delete(&self, call: &Call) -> Outcome {
        let operation = call.operation();
        match call {
            Call::DeleteCertificate { id } => {
                self.empty(operation, self.iot.delete_certificate().certificate_id(id).send().await)
            }
            Call::DeleteThing { name } => {
                self.empty(operation, self.iot.delete_thing().thing_name(name).send().await)
            }
            Call::DeletePolicy { name } => {
                self.empty(operation, self.iot.delete_policy().policy_name(name).send().await)
            }
            Call::DeleteCredentialLocker { id } => {
                let request = self.managed_integrations.delete_credential_locker().identifier(id);
                self.empty(operation, request.send().await)
            }
            Call::DeleteManagedThing { id } => {
                let request = self.managed_integrations.delete_managed_thing().identifier(id);
                self.empty(operation, request.send().await)
            }
            _ => Err(bare(operation, FailureKind::Refused, "it deletes nothing")),
        }
    }

    /// The SDK's result as an output and the examination that it must pass.
    pub(super) fn examine<O, E>(
        &self,
        operation: Operation,
        result: Result<O, SdkError<E, HttpResponse>>,
    ) -> Result<(O, Exam<'_>), CloudError>
    where
        O: RequestId,
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let output = result.map_err(|it| failure(operation, &it))?;
        let request_id = output.request_id().map(one_line);
        Ok((output, Exam { operation, account: self.account.as_deref(), request_id }))
    }

    /// An operation that answers nothing: whoever called judges by the request id.
    fn empty<O, E>(&self, operation: Operation, result: Result<O, SdkError<E, HttpResponse>>) -> Outcome
    where
        O: RequestId,
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let (_, exam) = self.examine(operation, result)?;
        Ok(exam.passed(Reply::Empty))
    }

    async fn create_credential_locker(
        &self,
        name: &str,
        token: &str,
        tags: &BTreeMap<String, String>,
    ) -> Outcome {
        let request = self.managed_integrations.create_credential_locker();
        let request = request.name(name).client_token(token).set_tags(map(tags));
        let (output, exam) = self.examine(Operation::CreateCredentialLocker, request.send().await)?;
        let reply = exam.locker(output.id, output.arn)?;
        Ok(exam.passed(reply))
    }

    async fn create_policy(&self, name: &str, document: &str, tags: &BTreeMap<String, String>) -> Outcome {
        let operation = Operation::CreatePolicy;
        let mut request = self.iot.create_policy().policy_name(name).policy_document(document);
        for (key, value) in tags {
            let tag = Tag::builder().key(key).value(value).build();
            request = request.tags(tag.map_err(|it| bare(operation, FailureKind::Refused, &it.to_string()))?);
        }
        let (output, exam) = self.examine(operation, request.send().await)?;
        let reply = exam.policy(name, [output.policy_name, output.policy_arn, output.policy_document])?;
        Ok(exam.passed(reply))
    }

    async fn get_policy(&self, name: &str) -> Outcome {
        let request = self.iot.get_policy().policy_name(name);
        let (output, exam) = self.examine(Operation::GetPolicy, request.send().await)?;
        let reply = exam.policy(name, [output.policy_name, output.policy_arn, output.policy_document])?;
        Ok(exam.passed(reply))
    }

    async fn register_without_ca(&self, pem: &str) -> Outcome {
        let request = self.iot.register_certificate_without_ca();
        let request = request.certificate_pem(pem).status(IotStatus::Active);
        let (output, exam) = self.examine(Operation::RegisterCertificateWithoutCa, request.send().await)?;
        let (id, arn) = exam.certificate(output.certificate_id, output.certificate_arn)?;
        Ok(exam.passed(Reply::Certificate { id, arn }))
    }

    /// The CA's certificate goes along, since AWS refuses to choose between two CAs of one subject.
    async fn register_with_ca(&self, pem: &str, ca_pem: &str) -> Outcome {
        let request = self.iot.register_certificate().certificate_pem(pem).ca_certificate_pem(ca_pem);
        let request = request.status(IotStatus::Active);
        let (output, exam) = match self.examine(Operation::RegisterCertificate, request.send().await) {
            Ok(it) => it,
            Err(error) => return Err(self.whose_fault(error, ca_pem).await),
        };
        let (id, arn) = exam.certificate(output.certificate_id, output.certificate_arn)?;
        Ok(exam.passed(Reply::Certificate { id, arn }))
    }

    async fn describe_certificate(&self, id: &str) -> Outcome {
        let request = self.iot.describe_certificate().certificate_id(id);
        let (output, exam) = self.examine(Operation::DescribeCertificate, request.send().await)?;
        let (found, status, pem) = match output.certificate_description {
            Some(it) => ((it.certificate_id, it.certificate_arn), it.status, it.certificate_pem),
            None => ((None, None), None, None),
        };
        let reply = exam.described(id, found, status.as_ref().map(IotStatus::as_str), pem)?;
        Ok(exam.passed(reply))
    }

    async fn update_certificate(&self, id: &str, status: CertificateStatus) -> Outcome {
        let operation = Operation::UpdateCertificate;
        if status == CertificateStatus::Other {
            return Err(bare(operation, FailureKind::Refused, "no such status can be asked for"));
        }
        let request = self.iot.update_certificate().certificate_id(id);
        let request = request.new_status(IotStatus::from(status.as_str()));
        self.empty(operation, request.send().await)
    }

    async fn create_thing(&self, name: &str, attributes: &BTreeMap<String, String>) -> Outcome {
        let payload = map(attributes).map(|it| AttributePayload::builder().set_attributes(Some(it)).build());
        let request = self.iot.create_thing().thing_name(name).set_attribute_payload(payload);
        let (output, exam) = self.examine(Operation::CreateThing, request.send().await)?;
        let (name, arn) = exam.thing(name, output.thing_name, output.thing_arn)?;
        Ok(exam.passed(Reply::Thing { name, arn }))
    }

    async fn describe_thing(&self, name: &str) -> Outcome {
        let request = self.iot.describe_thing().thing_name(name);
        let (output, exam) = self.examine(Operation::DescribeThing, request.send().await)?;
        let thing = exam.thing(name, output.thing_name, output.thing_arn)?;
        let reply = exam.thing_description(thing, output.attributes);
        Ok(exam.passed(reply))
    }

    async fn list_attached_policies(&self, target: &str, marker: Option<String>) -> Outcome {
        let request = self.iot.list_attached_policies().target(target);
        let request = request.set_marker(marker).page_size(PAGE);
        let (output, exam) = self.examine(Operation::ListAttachedPolicies, request.send().await)?;
        let mut names = Vec::new();
        for policy in exam.list("policies", output.policies)? {
            exam.home(policy.policy_arn.as_deref().unwrap_or_default())?;
            names.push(exam.member("policyName", policy.policy_name)?);
        }
        Ok(exam.passed(Reply::Policies { names, next: continued(output.next_marker) }))
    }

    async fn list_thing_principals(&self, thing: &str, token: Option<String>) -> Outcome {
        let request = self.iot.list_thing_principals().thing_name(thing);
        let request = request.set_next_token(token).max_results(PAGE);
        let (output, exam) = self.examine(Operation::ListThingPrincipals, request.send().await)?;
        let arns = exam.list("principals", output.principals)?;
        arns.iter().try_for_each(|it| exam.home(it))?;
        Ok(exam.passed(Reply::Principals { arns, next: continued(output.next_token) }))
    }
}
