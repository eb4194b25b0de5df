//! A locker whose call was not answered. The client token makes a repetition harmless, but AWS does not
//! say for how long it remembers one. So what has been open for over an hour is looked for by its name
//! before the call is repeated. A batch's locker is looked for before it is asked for first.

use std::time::Duration;

use jiff::SignedDuration;

use super::Line;
use super::survey::{Extent, Kind, Seeker, Sight};
use crate::cloud::{Answer, Call, CloudError, FailureKind, ListedLocker, Reply};
use crate::device::event::Output;
use crate::device::request::CLOCKS_DIFFER;
use crate::device::rules::LockerRule;
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::fixture::FailCode;

/// A token that AWS may have seen longer ago than this is not relied on.
const TOKEN_IS_FRESH: Duration = Duration::from_secs(3600);

impl Line {
    /// Begins to look for the locker if its token can not be relied on. Whether it does.
    pub(super) fn seeks_locker(&mut self, serial: &SerialNumber, step: Step) -> bool {
        let (mono, wall) = (self.now.mono, self.now.wall);
        let number = self.next_epoch();
        let Some(work) = self.works.get_mut(serial) else { return false };
        if work.device.done.locker.is_some() {
            // It is known which one is to be deleted.
            return false;
        }
        let fresh = match work.locker_unsure {
            Some(since) => mono.saturating_sub(since) <= TOKEN_IS_FRESH,
            None => true,
        };
        // What an earlier process has asked is not known: nothing before the generation's beginning.
        let began = work.device.began_at();
        let recent =
            SignedDuration::try_from(TOKEN_IS_FRESH).is_ok_and(|it| began.duration_until(wall) <= it);
        // A batch's may have been asked for by another device, at any time: its first one looks.
        let batch = matches!(work.rules.locker, LockerRule::Batch { .. });
        let looks = !fresh || work.recovered && !recent || batch && work.locker_unsure.is_none();
        let running = work.running.entry(step).or_default();
        if !looks || running.in_vain {
            return false;
        }
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let Some(name) = subject.locker_name() else { return false };
        let since =
            if batch { jiff::Timestamp::MIN } else { began.checked_sub(CLOCKS_DIFFER).unwrap_or(began) };
        let seeker = Seeker {
            number,
            serial: serial.clone(),
            step,
            generation: work.device.generation,
            since,
            name: Some(name),
        };
        running.seeking = Some(number);
        self.seek(Kind::Lockers, seeker);
        true
    }

    pub(super) fn looked_for_locker(&mut self, seeker: &Seeker, sight: &Sight) {
        let Some(work) = self.works.get_mut(&seeker.serial) else { return };
        let (step, scrapping) = (seeker.step, work.device.is_scrapping());
        let Some(running) = work.running.get_mut(&step) else { return };
        let named = seeker.name.as_ref().and_then(|it| sight.lockers.get(it)).map_or(&[][..], Vec::as_slice);
        running.candidates = named.iter().filter(|it| it.created >= seeker.since).cloned().collect();
        if running.candidates.is_empty() && sight.extent == Extent::Cut {
            let detail = "whether AWS made a locker can no longer be told: the account has too many";
            if scrapping {
                tracing::error!(serial = %seeker.serial, "{detail}; if there is one, it is left");
                return self.step_done(&seeker.serial, step, Output::Left, false, None);
            }
            self.quarantine(&seeker.serial, FailCode::Conflict, detail);
            return;
        }
        self.next_candidate(&seeker.serial, step);
    }

    /// Takes the oldest locker that may be the device's, or asks for one again if there is none.
    fn next_candidate(&mut self, serial: &SerialNumber, step: Step) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&step) else { return };
        let tagged = matches!(
            &work.rules.locker,
            LockerRule::Device { tags, .. } | LockerRule::Batch { tags, .. } if !tags.is_empty()
        );
        match running.candidates.front().map(|it| it.id.clone()) {
            None => {
                // Until the next unanswered call the token is as good as new: it made nothing.
                running.in_vain = true;
                self.call_first(serial, step);
            }
            Some(id) if tagged => self.call(serial, step, Call::GetCredentialLocker { id }),
            Some(_) => self.adopt_locker(serial, step, None),
        }
    }

    /// The answer to a question for a locker's tags. Whether that was the question.
    pub(super) fn locker_described(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> bool {
        if !matches!(call, Call::GetCredentialLocker { .. }) {
            return false;
        }
        let Some(work) = self.works.get_mut(serial) else { return true };
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let ours = match result {
            Ok(Answer { reply: Reply::LockerDescription { tags, .. }, .. }) => subject.locker_tags_fit(tags),
            Err(error) if error.kind == FailureKind::NotFound => false,
            _ => return false,
        };
        if ours {
            let request_id = result.as_ref().ok().and_then(|it| it.request_id.clone());
            self.adopt_locker(serial, step, request_id);
            return true;
        }
        if let Some(running) = work.running.get_mut(&step) {
            running.candidates.pop_front();
        }
        self.next_candidate(serial, step);
        true
    }

    /// Records which one it is; what is to become of it follows from that.
    fn adopt_locker(&mut self, serial: &SerialNumber, step: Step, request_id: Option<String>) {
        let running = self.works.get_mut(serial).and_then(|it| it.running.get_mut(&step));
        let Some(mut candidates) = running.map(|it| std::mem::take(&mut it.candidates)) else { return };
        let Some(ListedLocker { id, arn, .. }) = candidates.pop_front() else { return };
        let others: Vec<String> = candidates.into_iter().map(|it| it.id).collect();
        if !others.is_empty() {
            tracing::warn!(serial = %serial, locker = id, ?others, "several lockers have this device's name; the oldest is taken");
        }
        self.forget_step(serial, step);
        self.step_done(serial, Step::Locker, Output::Locker { id, arn: Some(arn), others }, true, request_id);
    }

    /// Notes whether AWS may have seen the locker's token in a call that was not answered.
    pub(super) fn note_locker(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) {
        let mono = self.now.mono;
        let unknown = matches!(call, Call::CreateCredentialLocker { .. })
            && matches!(result, Err(error) if error.kind == FailureKind::Unknown);
        if let Some(work) = self.works.get_mut(serial).filter(|_| unknown) {
            work.locker_unsure.get_or_insert(mono);
            if let Some(running) = work.running.get_mut(&step) {
                running.in_vain = false;
            }
        }
    }
}
