//! What has to go: certificates whose key was kept too long, and all that a scrapped device has.
//!
//! A scrapped device is cleared away one step at a time, in the order that AWS forces:
//!
//! | step | call | what makes it wait |
//! |---|---|---|
//! | principals | as for a new device, if it is known to AWS from an earlier life | |
//! | deactivate, detach-policy, detach-thing | as for a certificate that was replaced | |
//! | delete, where AWS has issued | as for a certificate that was replaced | |
//! | delete-certificate | `DeleteCertificate`, without force | an attachment: detaching takes seconds |
//! | delete-managed-thing, where it or its product has one | `DeleteManagedThing` | |
//! | delete-thing | `DescribeThing`, then `DeleteThing` | the same |
//! | delete-policy | `GetPolicy` where it is not recorded as made, then `DeletePolicy` | "up to five minutes" after it was detached (API reference); further versions, which a person has to delete |
//! | delete-locker | `DeleteCredentialLocker` | |
//! | sweep, if AWS has issued | as for a device that has passed | until nothing can come any more of a call whose answer was lost |
//!
//! A thing that bears another station's attribute, or none of linemint's, is left as it is, and so is
//! the policy that may belong to it. Policies and lockers that are not the device's own (`product`,
//! `given`) are never deleted. What AWS does not find is gone. What the device had under another name,
//! before its rules were changed, is detached and stays: `replaces_thing` in the journal names it.
//!
//! What AWS refuses to delete is detached once more first (`device::lingering`).
//!
//! Where no answer has told the locker's id, the call that makes it is repeated first: by its token it
//! finds the one that an unanswered call has made. If that call is over an hour old, the locker is looked
//! for before (`line::lockers`); what is found is recorded, and deleted by its id. With just in time provisioning AWS may have attached
//! to the certificate what its template says; then the certificate is deactivated, and stays.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{Outcome, Output, PresentationKey};
use super::rules::{LockerRule, PolicyRule};
use super::steps::{STATION_ATTRIBUTE, Step, Subject, Verdict, done, same_json};
use super::{Device, Failure, KeyState, State, Superseded};
use crate::cloud::{Answer, Call, CloudError, FailureKind, Reply};
use crate::fixture::FailCode;
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

/// How far a device has been cleared away. Certificates tell it themselves ([`Superseded::retired`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scrap {
    /// Its thing is gone, or was left.
    pub thing: bool,
    /// Its thing is another's and was left.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
    /// Its policy is gone, was left, or never was its own.
    pub policy: bool,
    /// Its locker is gone, or never was its own.
    pub locker: bool,
    /// Its managed thing has still to be deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed_thing: bool,
}

impl Step {
    /// Whether it belongs to the clearing away of a scrapped device only.
    #[must_use]
    pub const fn clears(self) -> bool {
        matches!(
            self,
            Self::DeleteCertificate
                | Self::DeleteThing
                | Self::DeletePolicy
                | Self::DeleteLocker
                | Self::DeleteManagedThing
        )
    }

    /// Whether it takes away something that was there, so that "not found" means that it is done.
    #[must_use]
    pub const fn retires(self) -> bool {
        self.clears()
            || matches!(self, Self::Deactivate | Self::DetachPolicy | Self::DetachThing | Self::Delete)
    }
}

impl Device {
    /// Whether it is given up, but not all of it is gone yet.
    #[must_use]
    pub fn is_scrapping(&self) -> bool {
        self.scrap.is_some() && self.state != State::Scrapped
    }

    /// Whether it holds a certificate that it has proved, though a person has put it back: presented
    /// again, it passes with that one or gets another.
    #[must_use]
    pub fn has_passed_before(&self) -> bool {
        self.state == State::Failed && self.certificate.as_ref().is_some_and(super::Certificate::is_confirmed)
    }

    /// The superseded certificate that has to be retired next: a spare, and one whose key was kept too
    /// long, at once, the others not before the new one is confirmed or the device is scrapped.
    ///
    /// Which one it is changes only by an answer about it, so that an answer is never taken for
    /// another certificate's.
    #[must_use]
    pub fn to_retire(&self) -> Option<&Superseded> {
        self.retiring().map(|at| &self.superseded[at])
    }

    fn retiring(&self) -> Option<usize> {
        let find = |wanted: &dyn Fn(&Superseded) -> bool| self.superseded.iter().position(wanted);
        let all = self.state == State::Passed || self.is_scrapping() || sabotaged!(OldRetiredEarly);
        find(&|it| it.goes_at_once() && !it.is_retired())
            .or_else(|| find(&|it| !it.is_retired()).filter(|_| all))
            .or_else(|| find(&|it| !it.is_deleted()).filter(|_| self.is_scrapping()))
    }

    /// The next step of retiring, if there is one.
    #[must_use]
    pub fn next_retiring(&self) -> Option<Step> {
        let old = self.to_retire()?;
        old.next_step().or_else(|| self.is_scrapping().then_some(Step::DeleteCertificate))
    }

    /// The next step of clearing away; none when all of it is gone from the cloud.
    #[must_use]
    pub fn next_clearing(&self) -> Option<Step> {
        let scrap = self.scrap.filter(|_| self.is_scrapping())?;
        if self.done.thing && self.done.met && !self.done.principals && !scrap.thing {
            return Some(Step::Principals);
        }
        if let Some(step) = self.next_retiring() {
            return Some(step);
        }
        let steps = [
            (!scrap.managed_thing, Step::DeleteManagedThing),
            (scrap.thing, Step::DeleteThing),
            (scrap.policy, Step::DeletePolicy),
            (scrap.locker, Step::DeleteLocker),
        ];
        let next = steps.into_iter().find(|(done, _)| !done).map(|(_, step)| step);
        // Last, since it waits for a quarter of an hour. What it finds is retired before anything else.
        next.or_else(|| self.needs_sweep().then_some(Step::Sweep))
    }

    /// Whether nothing of it is left in the cloud, nor a private key here.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.next_clearing().is_none() && self.keys_to_destroy().next().is_none()
    }

    pub(super) fn expire(&mut self, key: Fingerprint, policy: Option<&String>, message: &str) {
        if self.fingerprint() == Some(key) {
            self.supersede(policy);
            if let Some(old) = self.superseded.last_mut() {
                old.expired = true;
            }
        } else {
            self.give_up_request();
        }
        if self.state != State::Quarantined {
            self.presentation.settle();
            self.state = State::Failed;
            self.failure = Some(Failure { code: FailCode::Timeout, message: message.to_owned() });
        }
    }

    pub(super) fn retry(&mut self) {
        // With a certificate that it has proved there is nothing to provide: it waits to be presented.
        if self.state == State::Failed && !self.has_passed_before() {
            self.state = State::Provisioning;
            self.failure = None;
        }
    }

    pub(super) fn release(&mut self) {
        self.state = State::Failed;
        self.allowance += 1;
        self.released = true;
    }

    /// Into quarantine, in a nest or not: what it was told before is the last word then.
    pub(super) fn put_aside(
        &mut self,
        presentation: Option<&PresentationKey>,
        code: FailCode,
        message: &str,
    ) {
        if let Some(presentation) = presentation {
            self.close(presentation, Outcome::failed(code, message));
        }
        self.presentation.settle();
        self.state = State::Quarantined;
        self.failure = Some(Failure { code, message: message.to_owned() });
    }

    pub(super) fn begin_scrap(
        &mut self,
        presentation: Option<&PresentationKey>,
        policy: Option<&String>,
        message: &str,
        managed_thing: bool,
    ) {
        self.supersede(policy);
        self.put_aside(presentation, FailCode::Quarantined, message);
        self.scrap = Some(Scrap { managed_thing, ..Scrap::default() });
        // One that was being made again is known by its token alone. One that waited for its locker was not asked for.
        if self.mend.take().is_some_and(|it| it.ready().contains(&Step::ManagedThing)) {
            self.done.managed_thing = None;
        }
    }

    /// AWS has named a certificate that was put among the old ones while the call was out.
    pub(super) fn named_late(&mut self, arn: &str) {
        let id = arn.rsplit_once(":cert/").map(|(_, id)| id);
        let named = self.superseded.iter_mut().find(|it| id == Some(it.fingerprint.to_string().as_str()));
        if let Some(old) = named {
            old.arn = Some(arn.to_owned());
        }
    }

    pub(super) fn retired(&mut self, step: Step) {
        if let Some(at) = self.retiring() {
            self.superseded[at].retired = Some(step);
        }
    }

    pub(super) fn cleared(&mut self, step: Step, output: &Output) {
        let Some(scrap) = &mut self.scrap else { return };
        match step {
            Step::DeleteThing => (scrap.thing, scrap.left) = (true, *output == Output::Left),
            Step::DeletePolicy => scrap.policy = true,
            Step::DeleteLocker => scrap.locker = true,
            Step::DeleteManagedThing => scrap.managed_thing = false,
            _ => {}
        }
    }

    /// Since when a key has been waiting here that its device may still fetch: the present certificate's, or
    /// that of a request that nobody follows up before the device is presented again.
    #[must_use]
    pub fn waits_since(&self) -> Option<Timestamp> {
        let Some(certificate) = &self.certificate else {
            let request = self.request.as_ref().filter(|it| it.key == KeyState::Sealed)?;
            let put_aside = matches!(self.state, State::Failed | State::Quarantined) && self.scrap.is_none();
            return put_aside.then(|| request.made_at.unwrap_or(self.updated_at));
        };
        let undelivered = certificate.key == KeyState::Sealed
            && !certificate.is_confirmed()
            && !matches!(self.state, State::Passed | State::Scrapped);
        // Records of an earlier version do not say when; its newest event is no earlier.
        undelivered.then(|| self.issued_at.unwrap_or(self.updated_at))
    }
}

impl Subject<'_> {
    /// The request with which a step of clearing away begins.
    pub(super) fn clearing_call(&self, step: Step) -> Option<Call> {
        match step {
            Step::DeleteCertificate => {
                Some(Call::DeleteCertificate { id: self.device.to_retire()?.fingerprint.to_string() })
            }
            Step::DeleteThing => Some(Call::DescribeThing { name: self.thing_name() }),
            Step::DeletePolicy => {
                let name = self.own_policy()?;
                let made = self.device.done.policy;
                Some(if made { Call::DeletePolicy { name } } else { Call::GetPolicy { name } })
            }
            Step::DeleteManagedThing => match &self.device.done.managed_thing {
                Some(id) => Some(Call::DeleteManagedThing { id: id.clone() }),
                None => self.create_managed_thing(),
            },
            Step::DeleteLocker => match &self.device.done.locker {
                Some(id) => self.own_locker().then(|| Call::DeleteCredentialLocker { id: id.clone() }),
                None => self.create_locker(),
            },
            _ => None,
        }
    }

    /// Whether a step of clearing away is done without asking anyone.
    #[must_use]
    pub fn is_nothing(&self, step: Step) -> bool {
        match step {
            Step::DeletePolicy => self.own_policy().is_none() || self.device.scrap.is_some_and(|it| it.left),
            // What could not be asked for yet is not there.
            Step::DeleteManagedThing => {
                let known = self.device.done.managed_thing.is_some();
                !known && (self.create_managed_thing().is_none() || self.device.presentation.key.is_none())
            }
            // Number 0 is that of no presentation: nothing was ever asked for.
            Step::DeleteLocker => {
                !self.own_locker()
                    || (self.device.done.locker.is_none() && self.device.presentation.key.is_none())
            }
            _ => false,
        }
    }

    fn own_policy(&self) -> Option<String> {
        matches!(self.rules.policy, PolicyRule::Device { .. }).then(|| self.policy_name()).flatten()
    }

    /// Whether its locker is the device's alone, as far as its rules tell. By others it may have been given a batch's:
    /// which those are is known to the line.
    fn own_locker(&self) -> bool {
        match self.rules.locker {
            LockerRule::Device { .. } => true,
            LockerRule::Batch { .. } => false,
            // Such rules make none: it was made by those of before, unless it is the very one that they give.
            LockerRule::Given { ref id } => self.device.done.locker.as_ref().is_some_and(|it| it != id),
            LockerRule::None => self.device.done.locker.is_some(),
        }
    }

    /// What the answer to a call of clearing away means.
    pub(super) fn judge_clearing(
        &self,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Verdict {
        match result {
            Ok(answer) => self.judge_cleared(step, call, answer),
            Err(error) => self.judge_uncleared(step, call, error),
        }
    }

    fn judge_cleared(&self, step: Step, call: &Call, answer: &Answer) -> Verdict {
        match (&answer.reply, call) {
            (Reply::ThingDescription { name, attributes, .. }, _) => {
                if attributes.get(STATION_ATTRIBUTE) == Some(&self.rules.station) {
                    Verdict::Ask(Call::DeleteThing { name: name.clone() })
                } else {
                    done(Output::Left)
                }
            }
            (Reply::Policy { document, .. }, Call::GetPolicy { name }) => match &self.rules.policy {
                PolicyRule::Device { document: ours, .. } if same_json(ours, document) => {
                    Verdict::Ask(Call::DeletePolicy { name: name.clone() })
                }
                _ => done(Output::Left),
            },
            (Reply::Locker { id, .. }, _) if step == Step::DeleteLocker => {
                Verdict::Ask(Call::DeleteCredentialLocker { id: id.clone() })
            }
            (Reply::ManagedThing { id, .. }, _) => Verdict::Ask(Call::DeleteManagedThing { id: id.clone() }),
            (Reply::Empty, _) if answer.request_id.is_some() => done(Output::Nothing),
            // It may be a proxy's: a deletion is repeated until AWS itself answers.
            _ => Verdict::Later,
        }
    }

    fn judge_uncleared(&self, step: Step, call: &Call, error: &CloudError) -> Verdict {
        match error.kind {
            FailureKind::NotFound
                if step == Step::DeleteThing && matches!(call, Call::DescribeThing { .. }) =>
            {
                // Recorded as made, so that it may only not show: deleting what is not there succeeds.
                if self.device.done.thing {
                    Verdict::Ask(Call::DeleteThing { name: self.thing_name() })
                } else {
                    done(Output::Nothing)
                }
            }
            // It is the locker that does not show: whether an earlier call has made one is not known by that.
            FailureKind::NotFound if matches!(call, Call::CreateManagedThing { .. }) => Verdict::Again,
            FailureKind::NotFound => done(Output::Nothing),
            // The call that would have made it is refused: there is none.
            FailureKind::Conflict | FailureKind::Refused
                if matches!(call, Call::CreateCredentialLocker { .. }) =>
            {
                done(Output::Nothing)
            }
            // AWS has one of that serial and article number that no token of ours has made.
            FailureKind::Conflict | FailureKind::Refused
                if matches!(call, Call::CreateManagedThing { .. }) =>
            {
                done(Output::Left)
            }
            FailureKind::Conflict | FailureKind::Refused => self.refused(step),
            _ => Verdict::Again,
        }
    }
}
