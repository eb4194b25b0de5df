//! Credentials go to the nest, and a verdict ends the presentation.

use super::link::{LinkState, Offer};
use super::{Action, Line, Timer};
use crate::cloud::{FailureKind, StopCause};
use crate::device::event::{Event, Outcome};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::device::{KeyState, State, plan};
use crate::fixture::{Credentials, FailCode, StationMessage};
use crate::journal::KnownPresentation;
use crate::pki::{Fingerprint, to_pem};

/// A fixture says a unit again every five periods (the protocol's figure); after so many it has not got it.
const UNSAID_PERIODS: u32 = 11;

impl Line {
    /// Where the device is open: fixture and id.
    pub(super) fn place_of(&self, serial: &SerialNumber) -> Option<(usize, u64)> {
        let key = &self.works.get(serial)?.device.presentation.key;
        let fixture = self.links.iter().position(|it| it.settings.name == key.fixture)?;
        let open = self.links[fixture].open.get(&key.id)?;
        (open.serial == *serial).then_some((fixture, key.id))
    }

    /// Takes up what a fixture has in its nests after it has said `hello`.
    pub(super) fn offer_open(&mut self, fixture: usize) {
        let serials: Vec<_> = self.links[fixture].open.values().map(|it| it.serial.clone()).collect();
        for serial in serials {
            self.progress(&serial);
        }
    }

    /// Offers a complete device's credentials where it is open, or has them put into their directory.
    pub(super) fn offer(&mut self, serial: &SerialNumber) {
        if let Some(directory) = self.directory_of(serial) {
            return self.deliver(serial, directory);
        }
        let Some((fixture, id)) = self.place_of(serial) else { return };
        let link = &self.links[fixture];
        let may = link.open.get(&id).is_some_and(|it| it.acked && it.offer.is_none());
        if link.state != LinkState::Ready || !may {
            return;
        }
        let presentation = link.key(id);
        let waited = self.waited(serial);
        if !self.record(serial, Event::Offered { presentation, waited }) {
            return;
        }
        let number = self.next_epoch();
        if let Some(open) = self.links[fixture].open.get_mut(&id) {
            open.offer = Some(Offer { number, leaves_at: None, first_sent: false, copy: 0 });
        }
        self.send_credentials(fixture, id, serial);
    }

    /// The unit was presented again under the same id: one more copy, if none is on its way.
    pub(super) fn offer_again(&mut self, fixture: usize, id: u64) {
        let now = self.now.mono;
        let Some(open) = self.links[fixture].open.get_mut(&id) else { return };
        let serial = open.serial.clone();
        match &mut open.offer {
            Some(offer) if !offer.is_queued(now) => {
                offer.leaves_at = None;
                self.send_credentials(fixture, id, &serial);
            }
            Some(_) => {}
            None => self.progress(&serial),
        }
    }

    /// A copy of the credentials is leaving the port.
    pub(super) fn offer_sent(&mut self, fixture: usize, id: u64, leaves_in: std::time::Duration) {
        let copy = self.next_epoch();
        let left = self.now.mono + leaves_in;
        let link = &mut self.links[fixture];
        let (resend, answer_within) = (link.settings.resend, link.settings.answer_within);
        let Some(open) = link.open.get_mut(&id) else { return };
        let Some(offer) = &mut open.offer else { return };
        offer.leaves_at = Some(left);
        offer.copy = copy;
        let number = offer.number;
        let first = !std::mem::replace(&mut offer.first_sent, true);
        self.later_for((fixture, id), leaves_in + resend, Timer::Resend(fixture, id, copy));
        if first {
            self.later_for(
                (fixture, id),
                leaves_in + answer_within,
                Timer::AnswerWithin(fixture, id, number),
            );
        }
    }

    pub(super) fn resend_due(&mut self, fixture: usize, id: u64, copy: u64) {
        let link = &self.links[fixture];
        let due = link.open.get(&id).and_then(|it| it.offer.as_ref()).is_some_and(|it| it.copy == copy);
        if due && link.state == LinkState::Ready {
            self.offer_again(fixture, id);
        }
    }

    pub(super) fn answer_overdue(&mut self, fixture: usize, id: u64, number: u64) {
        let link = &self.links[fixture];
        let Some(open) = link.open.get(&id) else { return };
        let stale = open.offer.as_ref().is_none_or(|it| it.number != number);
        if stale || link.state != LinkState::Ready {
            return;
        }
        let serial = open.serial.clone();
        let presentation = link.key(id);
        let code = FailCode::Timeout;
        self.record(&serial, Event::Failed { presentation, code, message: String::new() });
        self.end(fixture, id, &serial, &Outcome::failed(code, ""));
        self.may_leave(&serial);
    }

    /// A unit has waited long enough in the nest: it may go to the rack, the work goes on.
    pub(super) fn patience_over(&mut self, fixture: usize, id: u64, epoch: u64) {
        let link = &self.links[fixture];
        let Some(open) = link.open.get(&id).filter(|it| it.epoch == epoch && it.offer.is_none()) else {
            return;
        };
        let serial = open.serial.clone();
        let is_complete = self.works.get(&serial).is_some_and(|it| plan::is_complete(&it.device, &it.rules));
        if is_complete && self.directory_of(&serial).is_none() {
            // It waits for its fixture, whose absence has a limit of its own.
            self.unsaid_since_restart(fixture, id, epoch);
            return;
        }
        let presentation = link.key(id);
        let (code, detail) = self.why_waiting(&serial);
        let (message, waited) = (detail.clone(), self.waited(&serial));
        self.record(&serial, Event::Deferred { presentation, code, message, waited });
        self.end(fixture, id, &serial, &Outcome::failed(code, &detail));
        self.may_leave(&serial);
    }

    /// A complete device waits for its fixture, whose absence has a limit of its own. One that is there, and
    /// has not said a unit again that it had before a restart, does not have it any more: it would have
    /// by now. If it says it after all, it hears that its time is over.
    fn unsaid_since_restart(&mut self, fixture: usize, id: u64, epoch: u64) {
        let link = &self.links[fixture];
        let Some(open) = link.open.get(&id).filter(|it| !it.acked) else { return };
        let limit = link.settings.patience.max(link.settings.resend * UNSAID_PERIODS);
        let left = (open.since + limit).saturating_sub(self.now.mono);
        if link.state != LinkState::Ready || !left.is_zero() {
            let wait = left.max(link.settings.patience);
            self.later_for((fixture, id), wait, Timer::Patience(fixture, id, epoch));
            return;
        }
        let (serial, presentation) = (open.serial.clone(), link.key(id));
        let (code, waited) = (FailCode::Timeout, self.waited(&serial));
        self.record(&serial, Event::Deferred { presentation, code, message: String::new(), waited });
        self.forget_open(fixture, id, &serial, &Outcome::failed(code, ""));
        self.may_leave(&serial);
    }

    /// Ends an open presentation with a verdict.
    pub(super) fn end(&mut self, fixture: usize, id: u64, serial: &SerialNumber, outcome: &Outcome) {
        self.forget_open(fixture, id, serial, outcome);
        self.say_outcome(fixture, id, serial.as_str(), outcome);
    }

    /// Notes an open presentation as ended.
    pub(super) fn forget_open(&mut self, fixture: usize, id: u64, serial: &SerialNumber, outcome: &Outcome) {
        let open = self.links[fixture].open.remove(&id);
        if let Some(open) = &open {
            self.forget_timers(open);
        }
        let link = &mut self.links[fixture];
        let nest = open.and_then(|it| it.nest).unwrap_or_default();
        link.remember(id, KnownPresentation { serial: serial.clone(), outcome: Some(outcome.clone()) });
        let verdict = match outcome {
            Outcome::Passed { .. } => "pass",
            Outcome::Failed { code, .. } => code.as_str(),
            Outcome::Closed => return,
        };
        link.last_verdict = Some((format!("{serial} {verdict}"), nest));
    }

    /// Answers with what was decided.
    pub(super) fn say_outcome(&mut self, fixture: usize, id: u64, serial: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Passed { again } => {
                let pass = StationMessage::Pass { id, serial: serial.to_owned(), again: *again };
                self.say(fixture, pass, None);
                self.nest_freed(fixture);
            }
            Outcome::Failed { code, message } => self.fail(fixture, id, serial, *code, message),
            Outcome::Closed => {}
        }
    }

    /// Puts a device aside for good; if it is open somewhere, that ends with `fail`.
    pub(super) fn quarantine(&mut self, serial: &SerialNumber, code: FailCode, detail: &str) {
        let Some(work) = self.works.get(serial) else { return };
        if matches!(work.device.state, State::Quarantined | State::Scrapped) {
            return;
        }
        // Also what it waits for now, and no more from here on.
        let waited = self.waited(serial);
        if let Some(work) = self.works.get_mut(serial) {
            work.keep_calls_only();
        }
        self.leave_shared(serial);
        let place = self.place_of(serial);
        let presentation = place.map(|(fixture, id)| self.links[fixture].key(id));
        let message = detail.to_owned();
        self.record(serial, Event::Quarantined { presentation, code, message, waited });
        tracing::warn!(serial = %serial, %code, detail, "the device is in quarantine");
        if let Some((fixture, id)) = place {
            self.end(fixture, id, serial, &Outcome::failed(code, detail));
        }
        self.progress(serial);
        self.may_leave(serial);
    }

    fn send_credentials(&mut self, fixture: usize, id: u64, serial: &SerialNumber) {
        let Some((credentials, key)) = self.credentials(id, serial) else { return };
        let after = self.seq;
        let serial = serial.clone();
        self.out.push(Action::Offer { fixture, credentials: Box::new(credentials), key, serial, after });
    }

    pub(super) fn credentials(
        &self,
        id: u64,
        serial: &SerialNumber,
    ) -> Option<(Credentials, Option<Fingerprint>)> {
        let work = self.works.get(serial)?;
        let certificate = work.device.certificate.as_ref()?;
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let mut pem = to_pem("CERTIFICATE", &certificate.der).to_string();
        if certificate.public_key.is_none() {
            // Above what AWS has issued there is nothing of ours.
            pem.push_str(self.ca_of(&work.device).1);
        }
        let key = (certificate.key == KeyState::Sealed).then(|| certificate.key_id());
        let credentials = Credentials {
            id,
            serial: serial.as_str().to_owned(),
            thing: subject.thing_name(),
            certificate: pem,
            certificate_sha256: certificate.fingerprint.to_string(),
            private_key: None,
            ca: work.rules.roots.clone(),
            endpoint: work.rules.endpoint.clone(),
            locker_id: subject.locker_id(),
        };
        Some((credentials, key))
    }

    /// Why the cloud keeps a unit waiting: the worst of what its steps have met.
    fn why_waiting(&self, serial: &SerialNumber) -> (FailCode, String) {
        let Some(work) = self.works.get(serial) else { return (FailCode::Internal, String::new()) };
        if let Some(trouble) = self.deliveries.trouble(serial) {
            return (FailCode::Internal, trouble);
        }
        match work.running.get(&Step::Issue).and_then(|it| it.last.clone()) {
            Some((FailureKind::Stop(StopCause::Clock), message)) => return (FailCode::Clock, message),
            Some((_, message)) => return (FailCode::Internal, message),
            None => {}
        }
        // Who waits for what others share waits for what its maker has met.
        let makers = self.makers_steps(serial);
        let worst = work
            .running
            .values()
            .chain(makers)
            .flat_map(|it| {
                let held = it.parked().and_then(|call| self.breakers.cause(call.operation()));
                it.last.clone().into_iter().chain(held)
            })
            .max_by_key(|(kind, _)| rank(*kind));
        let Some((kind, message)) = worst else { return (FailCode::Throttled, String::new()) };
        let code = match kind {
            FailureKind::Stop(StopCause::Quota) => FailCode::Quota,
            FailureKind::Stop(StopCause::Clock) => FailCode::Clock,
            FailureKind::Stop(_) => FailCode::Unauthorized,
            FailureKind::Unreachable | FailureKind::Unknown => FailCode::Offline,
            // AWS is there, and has answered: it takes its time.
            FailureKind::Throttled | FailureKind::NotFound => FailCode::Throttled,
            FailureKind::Exists | FailureKind::Conflict | FailureKind::Refused => FailCode::Internal,
        };
        (code, message)
    }
}

fn rank(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Stop(_) => 4,
        FailureKind::Unreachable => 3,
        FailureKind::Unknown | FailureKind::NotFound => 2,
        FailureKind::Throttled => 1,
        FailureKind::Exists | FailureKind::Conflict | FailureKind::Refused => 5,
    }
}
