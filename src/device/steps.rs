//! The steps that make a device's identity: what each asks of AWS, and what an answer means.
//!
//! | step | call | repeatable? | if it exists |
//! |---|---|---|---|
//! | issue | none: the station's CA | never repeated: the certificate is journaled first | |
//! | locker | `CreateCredentialLocker` | yes, by its client token | the token finds it |
//! | managed-thing, where the product has one | `CreateManagedThing` | yes, by its client token | the token finds it; without, it conflicts |
//! | policy | `CreatePolicy` | yes, it conflicts | `GetPolicy`, documents compared as JSON |
//! | thing | `CreateThing` | yes | `DescribeThing`, attribute `linemint` compared |
//! | certificate | `RegisterCertificate(WithoutCA)` | yes, the same bytes | id compared, `DescribeCertificate` |
//! | attach-policy | `AttachPolicy`, in a repair `GetPolicy` before it | yes | |
//! | attach-thing | `AttachThingPrincipal`, in a repair `DescribeThing` before it | yes | |
//! | principals | `ListThingPrincipals`, all pages, only if the device is known to AWS from an earlier life | yes | others than ours are retired after `passed` |
//! | deactivate | `UpdateCertificate` to `INACTIVE` | yes | |
//! | certificate, where AWS issues | `CreateCertificateFromCsr` | **no**: looked for first | the public key finds it |
//! | activate, where AWS issues | `UpdateCertificate` to `ACTIVE` | yes | |
//! | sweep | `ListCertificates`, `DescribeCertificate`, only if an answer was lost | yes | what is beside ours is deleted |
//! | verify, where the product says so | `DescribeThing`, `ListThingPrincipals`, `ListAttachedPolicies`, `DescribeCertificate` | reads | |
//! | connect, where the product says so | none: a TLS connection as the device | yes | |
//! | delete, where AWS issues | `DeleteCertificate` | yes | |
//! | detach-policy, detach-thing | `DetachPolicy`, `DetachThingPrincipal` | yes | |
//! | delete-managed-thing, delete-certificate, delete-thing, delete-policy, delete-locker | see [`scrap`](super::scrap) | yes | |
//!
//! Sources: the AWS API reference of each operation. Names and tokens follow from the rules, the
//! serial and the generation alone, so that a repetition is always the same request.

mod again;
mod from_csr;
mod managed;
mod proof;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::Output;
use super::rules::{Filling, LockerRule, PolicyRule, ProductRules, Register, Template};
use super::{Certificate, Device, Superseded};
use crate::cloud::{Answer, Call, CertificateStatus, CloudError, FailureKind, Reply};
use crate::fixture::FailCode;
use crate::pki::{Fingerprint, to_pem};
use crate::sabotage::sabotaged;

/// The attribute that says which station made a thing.
pub const STATION_ATTRIBUTE: &str = "linemint";

/// A step towards a device's identity, or of retiring an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the module's table says what each does")]
pub enum Step {
    Issue,
    Locker,
    Policy,
    Thing,
    Certificate,
    AttachPolicy,
    AttachThing,
    Principals,
    Deactivate,
    DetachPolicy,
    DetachThing,
    DeleteCertificate,
    DeleteThing,
    DeletePolicy,
    DeleteLocker,
    Activate,
    Sweep,
    Delete,
    Verify,
    Connect,
    ManagedThing,
    DeleteManagedThing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issue => "issue",
            Self::Locker => "locker",
            Self::Policy => "policy",
            Self::Thing => "thing",
            Self::Certificate => "certificate",
            Self::AttachPolicy => "attach-policy",
            Self::AttachThing => "attach-thing",
            Self::Principals => "principals",
            Self::Deactivate => "deactivate",
            Self::DetachPolicy => "detach-policy",
            Self::DetachThing => "detach-thing",
            Self::DeleteCertificate => "delete-certificate",
            Self::DeleteThing => "delete-thing",
            Self::DeletePolicy => "delete-policy",
            Self::DeleteLocker => "delete-locker",
            Self::Activate => "activate",
            Self::Sweep => "sweep",
            Self::Delete => "delete",
            Self::Verify => "verify",
            Self::Connect => "connect",
            Self::ManagedThing => "managed-thing",
            Self::DeleteManagedThing => "delete-managed-thing",
        })
    }
}

/// A device with its rules: all that a request to AWS depends on, but for the CA certificate.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The device.
    pub device: &'a Device,
    /// The rules under which it was admitted.
    pub rules: &'a ProductRules,
    /// The CA certificate in PEM, for [`Register::WithCa`].
    pub ca_pem: &'a str,
}

/// What an answer means for its step.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The step is done.
    Done {
        /// What is kept.
        output: Output,
        /// It was there already, and is ours.
        adopted: bool,
    },
    /// AWS has issued the certificate asked for.
    Issued {
        /// The certificate.
        certificate: Box<Certificate>,
        /// An earlier call had made it.
        adopted: bool,
    },
    /// Nobody knows whether it was done, and it must not be done twice: it has to be looked for.
    InDoubt,
    /// Something has to be looked up or set right first.
    Ask(Call),
    /// It is refused for what a call that was given up may have put back: that is taken away first. Once in a try; else as
    /// [`Again`](Self::Again).
    OnceMore(Call),
    /// Not this time; what is there does not show it yet. Tried again from the start.
    Later,
    /// It failed in a way that time can mend. Tried again.
    Again,
    /// It can never go through.
    Never {
        /// The code for the fixture.
        code: FailCode,
        /// A sentence for the operator.
        message: String,
    },
}

impl<'a> Subject<'a> {
    /// The request with which `step` begins; none for a step that the cloud has no part in, or
    /// whose needs are not met.
    #[must_use]
    pub fn call(&self, step: Step) -> Option<Call> {
        match step {
            // The CA's, a server's, and what a look at the whole account can tell.
            Step::Issue | Step::Sweep | Step::Connect => None,
            Step::Verify => Some(Call::DescribeThing { name: self.thing_name() }),
            Step::Locker => self.create_locker(),
            Step::ManagedThing => self.create_managed_thing(),
            Step::Policy => self.create_policy(),
            Step::Thing => Some(Call::CreateThing { name: self.thing_name(), attributes: self.attributes() }),
            Step::Certificate => self.register_certificate(),
            Step::AttachPolicy | Step::AttachThing => self.look_before(step).or_else(|| self.attaching(step)),
            Step::Principals => {
                Some(Call::ListThingPrincipals { thing: self.thing_name(), next_token: None })
            }
            Step::Deactivate => Some(Call::UpdateCertificate {
                id: self.device.to_retire()?.fingerprint.to_string(),
                status: CertificateStatus::Inactive,
            }),
            Step::Activate => Some(Call::UpdateCertificate {
                id: self.device.fingerprint()?.to_string(),
                status: CertificateStatus::Active,
            }),
            Step::Delete => {
                Some(Call::DeleteCertificate { id: self.device.to_retire()?.fingerprint.to_string() })
            }
            Step::DetachPolicy => {
                let Superseded { policy, arn, .. } = self.device.to_retire()?;
                Some(Call::DetachPolicy { policy: policy.clone()?, target: arn.clone()? })
            }
            Step::DetachThing => {
                let Superseded { thing, arn, .. } = self.device.to_retire()?;
                let thing = thing.clone().unwrap_or_else(|| self.thing_name());
                Some(Call::DetachThingPrincipal { thing, principal: arn.clone()? })
            }
            step => self.clearing_call(step),
        }
    }

    fn attaching(&self, step: Step) -> Option<Call> {
        let arn = self.certificate_arn()?;
        Some(match step {
            Step::AttachPolicy => Call::AttachPolicy { policy: self.policy_name()?, target: arn },
            _ => Call::AttachThingPrincipal { thing: self.thing_name(), principal: arn },
        })
    }

    /// What the result of `call`, made for `step`, means.
    #[must_use]
    pub fn judge(&self, step: Step, call: &Call, result: &Result<Answer, CloudError>) -> Verdict {
        if step == Step::Certificate && self.rules.certificate.register == Register::Aws {
            return self.judge_from_csr(call, result);
        }
        if step.retires()
            && let Some(verdict) = self.judge_lingering(step, call, result)
        {
            return verdict;
        }
        if let Some(verdict) = self.judge_look_before(step, call, result) {
            return verdict;
        }
        match result {
            result if step == Step::Verify => self.judge_proof(call, result),
            result if step.clears() => self.judge_clearing(step, call, result),
            Ok(answer) => self.judge_answer(step, call, answer),
            Err(error) => self.judge_error(step, call, error),
        }
    }

    /// The thing's name.
    #[must_use]
    pub fn thing_name(&self) -> String {
        self.fill(&self.rules.thing)
    }

    /// The certificate's subject.
    #[must_use]
    pub fn common_name(&self) -> String {
        self.fill(&self.rules.certificate.common_name)
    }

    /// The policy's name, if the device has one.
    #[must_use]
    pub fn policy_name(&self) -> Option<String> {
        match &self.rules.policy {
            PolicyRule::Device { name, .. } | PolicyRule::Product { name, .. } => Some(self.fill(name)),
            PolicyRule::Given { name } => Some(name.clone()),
            PolicyRule::None => None,
        }
    }

    /// The locker's id as far as it is known.
    #[must_use]
    pub fn locker_id(&self) -> Option<String> {
        match &self.rules.locker {
            LockerRule::Device { .. } | LockerRule::Batch { .. } => self.device.done.locker.clone(),
            LockerRule::Given { id } => Some(id.clone()),
            LockerRule::None => None,
        }
    }

    /// The name of the locker that is made for the device, or for its batch.
    #[must_use]
    pub fn locker_name(&self) -> Option<String> {
        match &self.rules.locker {
            LockerRule::Device { name, .. } | LockerRule::Batch { name, .. } => Some(self.fill(name)),
            LockerRule::Given { .. } | LockerRule::None => None,
        }
    }

    /// The client token of a batch's locker: whoever asks for it, the same product and name mean the same locker.
    fn batch_token(&self, name: &str) -> String {
        Fingerprint::of(format!("linemint/1/batch-locker/{}/{name}", self.rules.product).as_bytes())
            .to_string()
    }

    /// The client token of the device's locker: 64 hex digits that follow from the station, the
    /// serial, the generation and how often it had to be made again, so that the same device always names the same locker. Tags and
    /// names are left out on purpose: if they have changed meanwhile, AWS's conflict is better
    /// than a second locker.
    #[must_use]
    pub fn locker_token(&self) -> String {
        let Device { serial, generation, last_seq, .. } = self.device;
        let generation = if sabotaged!(LockerTokenRandom) { *last_seq } else { u64::from(*generation) };
        let mut of = format!("linemint/1/locker/{}/{serial}/{generation}", self.rules.station);
        if self.device.lockers_remade > 0 {
            of.push_str(&format!("/{}", self.device.lockers_remade));
        }
        Fingerprint::of(of.as_bytes()).to_string()
    }

    pub(super) fn create_locker(&self) -> Option<Call> {
        let name = self.locker_name()?;
        let (LockerRule::Device { tags, .. } | LockerRule::Batch { tags, .. }) = &self.rules.locker else {
            return None;
        };
        let client_token = match self.rules.locker {
            LockerRule::Batch { .. } => self.batch_token(&name),
            _ => self.locker_token(),
        };
        Some(Call::CreateCredentialLocker { name, client_token, tags: self.fill_all(tags) })
    }

    fn create_policy(&self) -> Option<Call> {
        let (PolicyRule::Device { name, document, tags } | PolicyRule::Product { name, document, tags }) =
            &self.rules.policy
        else {
            return None;
        };
        Some(Call::CreatePolicy {
            name: self.fill(name),
            document: document.clone(),
            tags: self.fill_all(tags),
        })
    }

    fn register_certificate(&self) -> Option<Call> {
        if self.rules.certificate.register == Register::Aws {
            return self.create_certificate();
        }
        let certificate_pem = to_pem("CERTIFICATE", self.device.der_to_register()?).to_string();
        match self.rules.certificate.register {
            Register::WithoutCa => Some(Call::RegisterCertificateWithoutCa { certificate_pem }),
            Register::WithCa => Some(Call::RegisterCertificate {
                certificate_pem,
                ca_certificate_pem: self.ca_pem.to_owned(),
            }),
            Register::Jitp | Register::Aws => None,
        }
    }

    fn judge_answer(&self, step: Step, call: &Call, answer: &Answer) -> Verdict {
        match (&answer.reply, call) {
            (Reply::Locker { id, arn }, _) => {
                done(Output::Locker { id: id.clone(), arn: Some(arn.clone()), others: Vec::new() })
            }
            (Reply::ManagedThing { id, arn }, _) => {
                done(Output::ManagedThing { id: id.clone(), arn: Some(arn.clone()) })
            }
            (Reply::Policy { document, .. }, Call::GetPolicy { name }) => self.judge_policy(name, document),
            (Reply::Policy { .. } | Reply::Thing { .. }, _) => done(Output::Nothing),
            (Reply::ThingDescription { name, attributes, .. }, _) => self.judge_thing(name, attributes),
            (Reply::Certificate { id, arn }, _) => self.judge_registered(id, arn),
            (Reply::CertificateDescription { id, arn, status, .. }, _) => {
                self.judge_certificate(step, id, arn, *status)
            }
            (Reply::Policies { names, next }, Call::ListAttachedPolicies { target, .. }) => {
                let ours = self.policy_name().is_some_and(|it| names.contains(&it));
                found(ours, next.as_ref(), |marker| Call::ListAttachedPolicies {
                    target: target.clone(),
                    marker: Some(marker),
                })
            }
            (Reply::Principals { arns, .. }, _) if step == Step::Principals => {
                let ours = self.certificate_arn();
                let others = arns.iter().filter(|it| Some(*it) != ours.as_ref()).cloned().collect();
                done(Output::Principals { others, policy: self.policy_name() })
            }
            (Reply::Principals { arns, next }, Call::ListThingPrincipals { thing, .. }) => {
                let ours = self.certificate_arn().is_some_and(|it| arns.contains(&it));
                found(ours, next.as_ref(), |token| Call::ListThingPrincipals {
                    thing: thing.clone(),
                    next_token: Some(token),
                })
            }
            (Reply::Empty, _) => self.judge_empty(step, call, answer.request_id.is_some()),
            (
                Reply::Policies { .. }
                | Reply::Principals { .. }
                | Reply::IssuedCertificate { .. }
                | Reply::Certificates { .. }
                | Reply::Lockers { .. }
                | Reply::LockerDescription { .. }
                | Reply::ManagedThingDescription { .. }
                | Reply::Things { .. }
                | Reply::ThingNames { .. },
                _,
            ) => Verdict::Again,
        }
    }

    fn judge_error(&self, step: Step, call: &Call, error: &CloudError) -> Verdict {
        if sabotaged!(LostTaken) && error.kind == FailureKind::Unknown && is_attaching(step) {
            return done(Output::Nothing);
        }
        let retiring = step.retires();
        match error.kind {
            FailureKind::NotFound if retiring => done(Output::Nothing),
            FailureKind::Throttled
            | FailureKind::Unreachable
            | FailureKind::Unknown
            | FailureKind::NotFound
            | FailureKind::Stop(_) => Verdict::Again,
            FailureKind::Exists => self.judge_existing(call, error),
            // The device has passed: what is left of its old identity is tried again, seldom.
            FailureKind::Conflict | FailureKind::Refused if retiring => self.refused(step),
            FailureKind::Conflict => never(FailCode::Conflict, &format!("AWS holds something else: {error}")),
            FailureKind::Refused => never(FailCode::Rejected, &format!("AWS refused for good: {error}")),
        }
    }

    fn judge_existing(&self, call: &Call, error: &CloudError) -> Verdict {
        match call {
            Call::CreatePolicy { .. } if sabotaged!(PolicyUnread) => done(Output::Nothing),
            Call::CreatePolicy { name, .. } => Verdict::Ask(Call::GetPolicy { name: name.clone() }),
            Call::CreateThing { name, .. } => Verdict::Ask(Call::DescribeThing { name: name.clone() }),
            Call::RegisterCertificate { .. } | Call::RegisterCertificateWithoutCa { .. } => {
                let Some(ours) = self.device.fingerprint().map(|it| it.to_string()) else {
                    return Verdict::Again;
                };
                match &error.resource_id {
                    Some(id) if !id.eq_ignore_ascii_case(&ours) => never(
                        FailCode::Conflict,
                        &format!("AWS says that this certificate is registered as another one, {id}"),
                    ),
                    _ => Verdict::Ask(Call::DescribeCertificate { id: ours }),
                }
            }
            _ => never(FailCode::Conflict, &format!("AWS holds something else: {error}")),
        }
    }

    fn judge_policy(&self, name: &str, document: &str) -> Verdict {
        let (PolicyRule::Device { document: ours, .. } | PolicyRule::Product { document: ours, .. }) =
            &self.rules.policy
        else {
            return Verdict::Again;
        };
        if same_json(ours, document) {
            Verdict::Done { output: Output::Nothing, adopted: true }
        } else {
            never(FailCode::Conflict, &format!("policy {name} exists in AWS with another document"))
        }
    }

    fn judge_thing(&self, name: &str, attributes: &BTreeMap<String, String>) -> Verdict {
        match attributes.get(STATION_ATTRIBUTE) {
            Some(station) if *station == self.rules.station || sabotaged!(ThingUncompared) => {
                Verdict::Done { output: Output::Nothing, adopted: true }
            }
            Some(station) => never(
                FailCode::Conflict,
                &format!(
                    "thing {name} exists in AWS and was made by station {station}, not by {}",
                    self.rules.station
                ),
            ),
            None => {
                never(FailCode::Conflict, &format!("thing {name} exists in AWS and was not made by linemint"))
            }
        }
    }

    fn judge_registered(&self, id: &str, arn: &str) -> Verdict {
        if self.device.fingerprint().is_some_and(|it| it.to_string() == id) {
            done(Output::Certificate { arn: arn.to_owned() })
        } else {
            never(FailCode::Conflict, &format!("AWS registered another certificate than was sent: {id}"))
        }
    }

    fn judge_certificate(&self, step: Step, id: &str, arn: &str, status: CertificateStatus) -> Verdict {
        if step == Step::Deactivate {
            return if status == CertificateStatus::Active { Verdict::Later } else { done(Output::Nothing) };
        }
        if step == Step::Activate && status == CertificateStatus::Inactive {
            return Verdict::Later;
        }
        match status {
            CertificateStatus::Active => {
                Verdict::Done { output: Output::Certificate { arn: arn.to_owned() }, adopted: true }
            }
            CertificateStatus::Inactive => self.left_inactive(step, id).unwrap_or_else(|| {
                Verdict::Ask(Call::UpdateCertificate { id: id.to_owned(), status: CertificateStatus::Active })
            }),
            CertificateStatus::Revoked | CertificateStatus::Other => {
                never(FailCode::Conflict, &format!("certificate {id} is in AWS but revoked or in transfer"))
            }
        }
    }

    /// A 2xx without content. Without a request id it may be a proxy's: only a read can tell.
    fn judge_empty(&self, step: Step, call: &Call, from_aws: bool) -> Verdict {
        match (step, call) {
            (Step::Certificate, Call::UpdateCertificate { id, .. }) => {
                Verdict::Ask(Call::DescribeCertificate { id: id.clone() })
            }
            (_, _) if from_aws || sabotaged!(UnsignedTaken) => done(Output::Nothing),
            (Step::Deactivate | Step::Activate, Call::UpdateCertificate { id, .. }) => {
                Verdict::Ask(Call::DescribeCertificate { id: id.clone() })
            }
            (_, Call::AttachPolicy { target, .. }) => {
                Verdict::Ask(Call::ListAttachedPolicies { target: target.clone(), marker: None })
            }
            (_, Call::AttachThingPrincipal { thing, .. }) => {
                Verdict::Ask(Call::ListThingPrincipals { thing: thing.clone(), next_token: None })
            }
            // A detaching or deletion that may not have happened is repeated until AWS itself answers.
            _ => Verdict::Later,
        }
    }

    fn certificate_arn(&self) -> Option<String> {
        self.device.certificate.as_ref()?.arn.clone()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(STATION_ATTRIBUTE.to_owned(), self.rules.station.clone())])
    }

    fn fill_all(&self, templates: &BTreeMap<String, Template>) -> BTreeMap<String, String> {
        templates.iter().map(|(key, value)| (key.clone(), self.fill(value))).collect()
    }

    /// A template filled for this device.
    #[must_use]
    pub fn fill(&self, template: &Template) -> String {
        template.fill(&Filling {
            serial: &self.device.serial,
            mac: self.device.mac.as_ref(),
            batch: self.device.batch.as_deref(),
            station: &self.rules.station,
            product: &self.rules.product,
        })
    }
}

pub(super) fn done(output: Output) -> Verdict {
    Verdict::Done { output, adopted: false }
}

fn never(code: FailCode, message: &str) -> Verdict {
    Verdict::Never { code, message: message.to_owned() }
}

/// One page of a list read after an attaching: it is there, or may be on the next page, or is
/// not visible yet.
fn found(ours: bool, next: Option<&String>, more: impl FnOnce(String) -> Call) -> Verdict {
    match next {
        _ if ours => Verdict::Done { output: Output::Nothing, adopted: true },
        Some(next) => Verdict::Ask(more(next.clone())),
        None if sabotaged!(EmptyListTaken) => never(FailCode::Rejected, "it is lost"),
        None => Verdict::Later,
    }
}

/// Whether the step attaches something to the certificate.
const fn is_attaching(step: Step) -> bool {
    matches!(step, Step::AttachPolicy | Step::AttachThing)
}

/// Whether two documents say the same, whatever their white space and the order of their members.
pub(crate) fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}
