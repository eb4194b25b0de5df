//! What keeps the station from its work is journaled, so that a report can tell how long and why. What
//! lasts only a moment is not: ports that come and go would fill the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Line;
use super::link::LinkState;
use crate::clock::Now;
use crate::journal::{Cause, StationEvent};

/// How long something lasts before it is journaled.
const AFTER: Duration = Duration::from_secs(5);

/// Which part of the station stops the line where its CA, or the token that holds its key, does not issue.
const CA: &str = "CA";
/// How long AWS counts as throttling after it has said so: one refused call now and then, by which the
/// limiter finds out how far it may go, is none of it.
const THROTTLED: Duration = Duration::from_secs(5);

/// What keeps the station from its work now.
#[derive(Debug, Default)]
pub(super) struct Hindrances(BTreeMap<(Cause, Option<String>), Since>);

#[derive(Debug)]
struct Since {
    began: Now,
    journaled: bool,
}

impl Line {
    /// Looks what keeps the station from its work; to be called some times a second.
    pub(super) fn note_hindrances(&mut self) {
        let present = self.hindrances_now();
        let over: Vec<_> =
            self.hindrances.0.keys().filter(|it| !present.contains_key(*it)).cloned().collect();
        for (cause, of) in over {
            if self.hindrances.0.remove(&(cause, of.clone())).is_some_and(|it| it.journaled) {
                self.station_event(StationEvent::Unhindered { cause, of });
            }
        }
        for ((cause, of), message) in present {
            let now = self.now;
            let since = self.hindrances.0.entry((cause, of.clone()));
            let it = since.or_insert(Since { began: now, journaled: false });
            if !it.journaled && now.mono.saturating_sub(it.began.mono) >= AFTER {
                it.journaled = true;
                let since = it.began.wall;
                self.station_event(StationEvent::Hindered { cause, of, since, message });
            }
        }
    }

    fn hindrances_now(&self) -> BTreeMap<(Cause, Option<String>), String> {
        let mut all = BTreeMap::new();
        let ca = || (Cause::LineStopped, Some(CA.to_owned()));
        all.extend(self.issuer_stops().map(|it| (ca(), it.to_owned())));
        all.extend(self.gate.iter().map(|it| ((Cause::Disk, None), it.clone())));
        all.extend(self.breakers.outages().take(1).map(|it| ((Cause::Offline, None), it.to_owned())));
        let throttled = self.calls.throttled.filter(|it| self.now.mono.saturating_sub(*it) < THROTTLED);
        // Once the limit is known hardly a call is refused, and they wait for it all the same.
        let held_up = self.calls.throttles.told().next();
        let told = throttled.map(|_| "AWS answers that it is called too often".to_owned());
        all.extend(held_up.or(told).map(|it| ((Cause::Throttled, None), it)));
        for link in &self.links {
            let name = &link.settings.name;
            if matches!(link.state, LinkState::Closed | LinkState::AwaitHello) {
                let message = format!("fixture {name} is not there");
                all.insert((Cause::FixtureAway, Some(name.clone())), message);
            }
        }
        all
    }

    /// The daemon ends in good order: what is left to be journaled.
    #[must_use]
    pub fn stop(&mut self, now: Now) -> Vec<super::Action> {
        self.now = now;
        self.journal_calls();
        self.station_event(StationEvent::Stopped);
        std::mem::take(&mut self.out)
    }
}
