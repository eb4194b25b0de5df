//! What is due at a time.

use std::time::Duration;

use super::Line;
use super::link::Open;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::pki::Fingerprint;

/// When something is due, on the monotonic clock, and its number.
pub(super) type Due = (Duration, u64);

/// Something that is due at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// `hello` again, if none has come.
    Hello(usize, u64),
    /// `pull` (again).
    Pull(usize, u64),
    /// `credentials` again.
    Resend(usize, u64, u64),
    /// The fixture has had its time for storing them.
    AnswerWithin(usize, u64, u64),
    /// The unit has waited long enough for the cloud.
    Patience(usize, u64, u64),
    /// A step is tried again.
    Retry(SerialNumber, Step, u32),
    /// A delivery into a directory is tried again.
    Deliver(SerialNumber, u64),
    /// A label is tried again.
    Label(SerialNumber, u64),
    /// A look at the whole account goes on.
    Survey(u64),
    /// The fixture has been away for too long.
    Away(usize, u64),
    /// A key that could not be destroyed is tried again.
    Destroy(SerialNumber, Fingerprint),
    /// A call that is held back may try whether calls go through again.
    Probe,
}

impl Line {
    /// Does what is due.
    pub(super) fn fire_timers(&mut self) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > self.now.mono {
                return;
            }
            match entry.remove() {
                Timer::Hello(fixture, epoch) => self.hello_due(fixture, epoch),
                Timer::Pull(fixture, epoch) => self.pull_due(fixture, epoch),
                Timer::Resend(fixture, id, epoch) => self.resend_due(fixture, id, epoch),
                Timer::AnswerWithin(fixture, id, epoch) => self.answer_overdue(fixture, id, epoch),
                Timer::Patience(fixture, id, epoch) => self.patience_over(fixture, id, epoch),
                Timer::Retry(serial, step, generation) => self.retry_due(&serial, step, generation),
                Timer::Deliver(serial, number) => self.deliver_due(&serial, number),
                Timer::Label(serial, number) => self.label_due(&serial, number),
                Timer::Survey(number) => self.survey_due(number),
                Timer::Away(fixture, epoch) => self.away_too_long(fixture, epoch),
                Timer::Destroy(serial, fingerprint) => self.destroy_again(&serial, fingerprint),
                Timer::Probe => self.probe(),
            }
        }
    }

    /// Does that later by so much, unless the presentation has ended by then. A station that passes hundreds a second would
    /// else keep a hundred thousand such timers, each until a unit's patience is over.
    pub(super) fn later_for(&mut self, (fixture, id): (usize, u64), by: Duration, timer: Timer) {
        let due = (self.now.mono + by, self.next_epoch());
        self.timers.insert(due, timer);
        if let Some(open) = self.links[fixture].open.get_mut(&id) {
            open.timers.retain(|it| self.timers.contains_key(it));
            open.timers.push(due);
        }
    }

    /// Nothing is due any more of a presentation that has ended.
    pub(super) fn forget_timers(&mut self, open: &Open) {
        for due in &open.timers {
            self.timers.remove(due);
        }
    }

    /// Does that later by so much.
    pub(super) fn later(&mut self, by: Duration, timer: Timer) {
        let key = (self.now.mono + by, self.next_epoch());
        self.timers.insert(key, timer);
    }
}
