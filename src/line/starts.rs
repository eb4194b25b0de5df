//! How many devices are begun at a time.
//!
//! A unit in a nest is begun at once. Of the backlog (devices that no nest waits for) only so many are
//! begun and unfinished as keep the account busy ([`Settings::in_progress`](super::Settings::in_progress)):
//! what is begun is finished before more is begun, in the order in which devices came. So the account
//! never holds thousands of halves, and a device that comes back to a nest finds it done or not begun.
//!
//! Who does not count: a device that makes no call for a while (its next try is minutes away, or it
//! waits for a look at the whole account). Else a few of these could keep all others waiting.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::Line;
use super::running::Running;
use super::work::Work;
use crate::device::plan;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;

/// The devices of the backlog.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// Who waits to be begun, the oldest first, and of one age who asked first. Those that are begun in a
    /// nest meanwhile are passed over.
    waiting: BTreeMap<(Timestamp, u64), SerialNumber>,
    /// Who is begun, or may be. Those that are done are taken out when somebody waits.
    begun: HashSet<SerialNumber>,
}

impl Starts {
    /// A call is made for a device: if it is of the backlog, it counts.
    pub(super) fn note(&mut self, serial: &SerialNumber, work: &Work) {
        if work.is_backlog() && !self.begun.contains(serial) {
            self.begun.insert(serial.clone());
        }
    }
}

impl Work {
    /// Whether it is not finished and no nest waits for it.
    pub(super) fn is_backlog(&self) -> bool {
        self.device.state.is_unfinished() && !self.device.is_open()
    }

    /// Whether it lacks something of what the cloud is to give it.
    pub(super) fn is_owed(&self) -> bool {
        self.device.state.is_unfinished() && !plan::is_complete(&self.device, &self.rules)
    }

    /// Whether AWS holds a part of it, or is being asked for one. What was asked for in vain counts for
    /// nothing, not even if AWS has not answered: each step may be begun anew at any time.
    fn is_begun(&self) -> bool {
        let is_open = self.device.request.as_ref().is_some_and(|it| it.open_since.is_some());
        let registered = self.device.certificate.as_ref().is_some_and(|it| it.arn.is_some());
        let asks =
            |(step, it): (&Step, &Running)| *step != Step::Issue && (it.is_out() || it.seeking.is_some());
        self.has_begun() || is_open || registered || self.running.iter().any(asks)
    }

    /// Whether it is one of those that are to be finished before others are begun.
    fn is_in_progress(&self) -> bool {
        let rests = !self.running.is_empty() && self.running.values().all(Running::rests);
        self.is_backlog() && self.is_owed() && !rests
    }
}

impl Line {
    /// Unfinished devices.
    pub(super) fn backlog(&self) -> usize {
        let count: u64 =
            self.counts.iter().filter(|(state, _)| state.is_unfinished()).map(|(_, count)| *count).sum();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Whether no more devices are taken in.
    pub(super) fn backlog_is_full(&self) -> bool {
        self.backlog() >= self.settings.backlog
    }

    /// Whether `step` has to wait because its device is not begun yet, and may not be.
    pub(super) fn must_wait_to_start(&mut self, serial: &SerialNumber, step: Step) -> bool {
        let Some(work) = self.works.get_mut(serial) else { return false };
        let concerned = step != Step::Issue && !step.retires() && work.is_backlog();
        if !concerned || self.starts.begun.contains(serial) || work.is_begun() {
            return false;
        }
        if std::mem::replace(&mut work.waits_to_start, true) {
            return true;
        }
        let admitted_at = work.device.admitted_at;
        let number = self.next_epoch();
        self.starts.waiting.insert((admitted_at, number), serial.clone());
        true
    }

    /// Takes back a step that is to be tried (again), if its device has come into the backlog and is not
    /// begun: it then waits like the others. Whether it was taken back.
    pub(super) fn put_off(&mut self, serial: &SerialNumber, step: Step) -> bool {
        // Others wait for the one that makes what they share.
        let makes_for_others = self.is_shared(serial, step);
        if makes_for_others || !self.must_wait_to_start(serial, step) {
            return false;
        }
        self.forget_step(serial, step);
        true
    }

    /// Begins a device that waits for it, whatever else is begun: a person says so.
    pub(super) fn start_now(&mut self, serial: &SerialNumber) {
        if let Some(work) = self.works.get(serial).filter(|it| it.waits_to_start) {
            self.starts.note(serial, work);
        }
    }

    /// Begins as many more as there is room for.
    pub(super) fn start_more(&mut self) {
        let room = self.settings.in_progress.max(1);
        // Nobody waits: looked through only now and then, so that it stays small.
        if self.starts.waiting.is_empty() && self.starts.begun.len() <= 4 * room {
            return;
        }
        let works = &self.works;
        self.starts.begun.retain(|it| works.get(it).is_some_and(Work::is_in_progress));
        while self.starts.begun.len() < room {
            let Some((_, serial)) = self.starts.waiting.pop_first() else { return };
            let Some(work) = self.works.get_mut(&serial) else { continue };
            work.waits_to_start = false;
            if work.is_backlog() {
                self.starts.note(&serial, work);
                self.progress(&serial);
            }
        }
    }
}
