//! Tells the service manager how the station is. The watchdog is fed by the work itself: by each picture
//! that the line publishes, and only while the journal's writer gets on with what it was given, and so do the
//! threads that issue certificates and destroy keys. So a line that hangs, a disk or a runtime that hangs
//! all starve it; a clock alone feeds nothing. Deliveries into directories do not count: a network share may hang
//! for as long as it likes, it delays its own devices only, and a restart would not mend it. Nor does the CA's
//! token: whoever asks it waits for a bounded time and says so, and the station goes on with all else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::TimeSource;
use crate::control::{StationState, Status};
use crate::line::LineStatus;
use crate::service_manager;

use super::reporter::Reported;
use super::vault::Hands;

/// A status that has changed is told no sooner than that after the one before.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Feeds a watchdog, and says what the station does.
pub(super) struct Herald {
    pub(super) clock: Arc<dyn TimeSource>,
    /// The line's own pictures, which come by its heartbeat.
    pub(super) line: watch::Receiver<Arc<LineStatus>>,
    pub(super) status: watch::Receiver<Arc<Status>>,
    /// The threads that issue and destroy.
    pub(super) hands: Hands,
    /// What came of the newest report.
    pub(super) reported: watch::Receiver<Option<Reported>>,
}

impl Herald {
    /// Ends with the line.
    pub(super) async fn run(mut self) {
        let mut pulse = service_manager::watchdog().map(Pulse::new);
        let mut told = (Duration::ZERO, String::new());
        loop {
            let line = self.line.borrow_and_update().clone();
            let now = self.clock.now().mono;
            if let Some(pulse) = &mut pulse
                && pulse.beats(&line, self.hands.lasts(now), now)
            {
                service_manager::feed();
            }
            let sentence = sentence(&self.status.borrow().clone(), &self.reported.borrow());
            if told.1 != sentence && now.saturating_sub(told.0) >= TOLD_EVERY {
                service_manager::status(&sentence);
                told = (now, sentence);
            }
            if self.line.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Whether the watchdog is to be fed.
#[derive(Debug)]
struct Pulse {
    within: Duration,
    fed: Option<Duration>,
    /// The newest record on disk, and since when it has been that while others wait.
    durable: u64,
    since: Option<Duration>,
}

impl Pulse {
    fn new(within: Duration) -> Self {
        Self { within, fed: None, durable: 0, since: None }
    }

    /// Four times within the time that is given, unless the journal's writer has stood still for half of it, or
    /// another thread has been at one and the same thing for longer than that: `lasts`.
    fn beats(&mut self, line: &LineStatus, lasts: Duration, now: Duration) -> bool {
        let waits = line.seq > line.durable;
        if !waits || line.durable != self.durable {
            self.since = None;
        }
        self.durable = line.durable;
        if waits {
            let since = *self.since.get_or_insert(now);
            if now.saturating_sub(since) > self.within / 2 {
                return false;
            }
        }
        if lasts > self.within / 2 {
            return false;
        }
        let due = self.fed.is_none_or(|it| now.saturating_sub(it) >= self.within / 4);
        if due {
            self.fed = Some(now);
        }
        due
    }
}

/// The station in one sentence, for `systemctl status`.
pub(super) fn sentence(status: &Status, reported: &Option<Reported>) -> String {
    let station = station_in_words(status);
    match reported {
        Some(it) => format!("{station}; {}", it.sentence),
        None => station,
    }
}

fn station_in_words(status: &Status) -> String {
    let state = match status.state {
        StationState::Starting => "starting",
        StationState::Ready => "ready",
        StationState::Degraded => "degraded",
        StationState::Stopped => "STOPPED",
        StationState::Draining => "draining",
    };
    let ready = status.fixtures.iter().filter(|it| it.state == "ready").count();
    let counts = format!(
        "{ready} of {} fixtures ready, {} devices in work, {} passed",
        status.fixtures.len(),
        status.backlog.devices,
        status.counts.passed
    );
    match status.reasons.split_first() {
        None => format!("{state}: {counts}"),
        Some((first, [])) => format!("{state}: {first}; {counts}"),
        Some((first, others)) => format!("{state}: {first} (and {} more); {counts}", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(40);

    fn line(seq: u64, durable: u64) -> LineStatus {
        LineStatus { seq, durable, ..LineStatus::default() }
    }

    fn second(it: u64) -> Duration {
        Duration::from_secs(it)
    }

    #[test]
    fn a_line_that_publishes_feeds_it_four_times_in_its_time() {
        let mut pulse = Pulse::new(WITHIN);
        let fed: Vec<u64> =
            (0..60).filter(|at| pulse.beats(&line(7, 7), Duration::ZERO, second(*at))).collect();
        assert_eq!(fed, [0, 10, 20, 30, 40, 50]);
    }

    #[test]
    fn a_thread_that_is_at_one_thing_for_half_of_the_time_starves_it() {
        let mut pulse = Pulse::new(WITHIN);
        let busy_since = |since: u64, at: u64| second(at.saturating_sub(since));
        let fed: Vec<u64> =
            (0..200).filter(|at| pulse.beats(&line(7, 7), busy_since(5, *at), second(*at))).collect();
        assert_eq!(fed, [0, 10, 20]);
        assert!(pulse.beats(&line(7, 7), Duration::ZERO, second(200)), "it has got on");
        let mut pulse = Pulse::new(WITHIN);
        let slow = (0..200).filter(|at| pulse.beats(&line(7, 7), second(at % 20), second(*at))).count();
        assert_eq!(slow, 20, "it is slow, and gets on");
    }

    #[test]
    fn a_journal_that_stands_still_starves_it_and_one_that_is_slow_does_not() {
        let mut pulse = Pulse::new(WITHIN);
        let slow =
            (0..200).filter(|at| pulse.beats(&line(at + 5, at / 10), Duration::ZERO, second(*at))).count();
        assert_eq!(slow, 20);
        let mut pulse = Pulse::new(WITHIN);
        let stuck: Vec<u64> =
            (0..200).filter(|at| pulse.beats(&line(8, 7), Duration::ZERO, second(*at))).collect();
        assert_eq!(stuck, [0, 10, 20]);
        assert!(pulse.beats(&line(8, 8), Duration::ZERO, second(200)), "it has got on");
    }
}
