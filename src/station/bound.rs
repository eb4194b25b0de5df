//! Which limit holds devices up, for how much of the time, and how much of it is left.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::Operation;
use crate::cloud::pace::OperationStats;
use crate::control::Binding;

/// A gap between two looks that is longer than this was no work: the machine was suspended.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Looks at the pace some times a second, and sums up. What a call waits for less than a look's distance is
/// not seen each time, but as often as it is worth.
#[derive(Debug, Default)]
pub(super) struct Bound {
    looked: Option<Duration>,
    /// Time in which somebody looked.
    seen: Duration,
    /// Time in which any device waited for AWS.
    busy: Duration,
    held: BTreeMap<Operation, Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Time in which calls waited for their turn and devices for the calls.
    time: Duration,
    calls: u64,
    ceiling: Option<f64>,
}

impl Bound {
    /// Takes in what there is at the monotonic time `now`: devices that wait, and how each operation fares.
    pub(super) fn look(
        &mut self,
        now: Duration,
        waiting: &BTreeMap<Operation, u64>,
        paces: &[(Operation, OperationStats)],
    ) {
        let gap = self.looked.replace(now).map_or(Duration::ZERO, |it| now.saturating_sub(it));
        if gap > GAP_MAX {
            return;
        }
        self.seen += gap;
        self.busy += if waiting.is_empty() { Duration::ZERO } else { gap };
        for (operation, it) in paces.iter().filter(|(_, it)| it.calls > 0) {
            let held = self.held.entry(*operation).or_default();
            (held.calls, held.ceiling) = (it.calls, it.ceiling);
            if it.waiting > 0 && waiting.contains_key(operation) {
                held.time += gap;
            }
        }
    }

    /// The part of the time in which calls of `operation` had to wait for their turn.
    pub(super) fn share(&self, operation: Operation) -> f64 {
        self.held.get(&operation).map_or(0.0, |it| part(it.time, self.seen))
    }

    /// The limit that has held devices up for the longest, if any has.
    pub(super) fn binding(&self) -> Option<Binding> {
        let (operation, held) = self.held.iter().max_by_key(|(_, it)| it.time)?;
        if held.time.is_zero() {
            return None;
        }
        let mean_rate = part_of(held.calls as f64, self.busy);
        let more = |ceiling: f64| if mean_rate > 0.0 { (ceiling / mean_rate - 1.0).max(0.0) } else { 0.0 };
        Some(Binding {
            operation: operation.kebab().to_owned(),
            share: self.share(*operation),
            mean_rate,
            more_stations: held.ceiling.map(more),
        })
    }
}

fn part(time: Duration, all: Duration) -> f64 {
    part_of(time.as_secs_f64(), all)
}

fn part_of(it: f64, all: Duration) -> f64 {
    if all.is_zero() { 0.0 } else { it / all.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(calls: u64, waiting: u64) -> OperationStats {
        OperationStats { ceiling: Some(10.0), calls, waiting, ..OperationStats::default() }
    }

    /// Looks four times a second for `seconds`, with this going on.
    fn look(
        bound: &mut Bound,
        from: u64,
        seconds: u64,
        devices: u64,
        of: impl Fn(u64) -> [(Operation, OperationStats); 2],
    ) {
        for tick in 4 * from..4 * (from + seconds) {
            let waiting = if devices > 0 {
                BTreeMap::from([(Operation::CreatePolicy, devices), (Operation::CreateThing, devices)])
            } else {
                BTreeMap::new()
            };
            bound.look(Duration::from_millis(250 * tick), &waiting, &of(tick));
        }
    }

    #[test]
    fn the_limit_that_held_devices_up_for_the_longest_binds_and_tells_what_is_left() {
        let mut bound = Bound::default();
        assert_eq!(bound.binding(), None);
        let idle = |_| [(Operation::CreatePolicy, pace(0, 0)), (Operation::CreateThing, pace(0, 0))];
        look(&mut bound, 0, 50, 0, idle);
        assert_eq!(bound.binding(), None, "a station without work is bound by nothing");
        // Five policies a second of ten for 40 s; calls of them wait all the time, of things half of it.
        let work = |tick: u64| {
            let calls = 5 * (tick - 200) / 4;
            [(Operation::CreatePolicy, pace(calls, 3)), (Operation::CreateThing, pace(calls, tick % 2))]
        };
        look(&mut bound, 50, 40, 7, work);
        let binding = bound.binding().unwrap();
        assert_eq!(binding.operation, "create-policy");
        assert!((binding.share - 40.0 / 90.0).abs() < 0.01, "{binding:?}");
        assert!((binding.mean_rate - 5.0).abs() < 0.1, "{binding:?}");
        assert!((binding.more_stations.unwrap() - 1.0).abs() < 0.05, "{binding:?}");
        assert!((bound.share(Operation::CreateThing) - 20.0 / 90.0).abs() < 0.01);
        assert_eq!(bound.share(Operation::GetPolicy), 0.0);
    }

    #[test]
    fn a_station_that_slept_has_not_waited() {
        let mut bound = Bound::default();
        let work = |_| [(Operation::CreatePolicy, pace(9, 1)), (Operation::CreateThing, pace(9, 0))];
        look(&mut bound, 0, 10, 1, work);
        look(&mut bound, 3600, 10, 1, work);
        assert_eq!(bound.seen, Duration::from_millis(2 * 9_750));
    }
}
