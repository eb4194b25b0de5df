//! Which limit holds devices up, for how much of the time, and how much of it is left.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::Operation;
use crate::cloud::pace::{Paces, SharedLimit};
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
    /// Time in which calls waited for their turn and devices for the calls, whatever limit they waited for.
    waited: BTreeMap<Operation, Duration>,
    held: BTreeMap<Limit, Held>,
}

/// A limit that holds calls up. Of two that do so equally long the shared one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    Own(Operation),
    Shared(SharedLimit),
}

#[derive(Debug, Default)]
struct Held {
    /// Time in which calls waited for this limit and devices for the calls.
    time: Duration,
    /// Of that, while AWS gave less than is configured.
    less: Duration,
    /// Whether it gave less when calls waited for it last.
    is_less: bool,
    calls: u64,
    /// What the whole account is configured to allow, calls a second.
    ceiling: Option<f64>,
}

impl Bound {
    /// Takes in what there is at the monotonic time `now`: devices that wait, and how all limits fare.
    pub(super) fn look(&mut self, now: Duration, waiting: &BTreeMap<Operation, u64>, paces: &Paces) {
        let gap = self.looked.replace(now).map_or(Duration::ZERO, |it| now.saturating_sub(it));
        if gap > GAP_MAX {
            return;
        }
        self.seen += gap;
        self.busy += if waiting.is_empty() { Duration::ZERO } else { gap };
        let of_account = |ceiling: Option<f64>| ceiling.map(|it| it / paces.share);
        let mut holding = BTreeMap::new();
        for (operation, it) in paces.operations.iter().filter(|(_, it)| it.calls > 0) {
            let held = self.held.entry(Limit::Own(*operation)).or_default();
            (held.calls, held.ceiling) = (it.calls, of_account(it.ceiling));
            if it.waiting > 0 && waiting.contains_key(operation) {
                *self.waited.entry(*operation).or_default() += gap;
                let limit = it.held_by.map_or(Limit::Own(*operation), Limit::Shared);
                holding.insert(limit, it.learned);
            }
        }
        for (limit, it) in paces.shared.iter().filter(|(_, it)| it.calls > 0) {
            let held = self.held.entry(Limit::Shared(*limit)).or_default();
            (held.calls, held.ceiling) = (it.calls, of_account(it.ceiling));
            // Of those that wait for it, one may have a learned limit of its own as well.
            holding.entry(Limit::Shared(*limit)).and_modify(|less| *less = it.learned);
        }
        for (limit, less) in holding {
            let held = self.held.entry(limit).or_default();
            held.time += gap;
            held.less += if less { gap } else { Duration::ZERO };
            held.is_less = less;
        }
    }

    /// The part of the time in which calls of `operation` had to wait for their turn.
    pub(super) fn share(&self, operation: Operation) -> f64 {
        self.waited.get(&operation).map_or(0.0, |it| part(*it, self.seen))
    }

    /// The part of the time in which a shared limit was what calls waited for.
    pub(super) fn shared(&self, limit: SharedLimit) -> f64 {
        self.held.get(&Limit::Shared(limit)).map_or(0.0, |it| part(it.time, self.seen))
    }

    /// The limit that has held devices up for the longest, if any has.
    pub(super) fn binding(&self) -> Option<Binding> {
        let (limit, held) = self.held.iter().max_by_key(|(_, it)| it.time)?;
        if held.time.is_zero() {
            return None;
        }
        let mean_rate = part_of(held.calls as f64, self.busy);
        let more = |ceiling: f64| if mean_rate > 0.0 { (ceiling / mean_rate - 1.0).max(0.0) } else { 0.0 };
        // What AWS refuses this station it has not for another.
        let learned = held.is_less || held.less * 2 >= held.time;
        let name = match limit {
            Limit::Own(operation) => operation.kebab(),
            Limit::Shared(limit) => limit.kebab(),
        };
        Some(Binding {
            operation: name.to_owned(),
            share: part(held.time, self.seen),
            mean_rate,
            more_stations: if learned { Some(0.0) } else { held.ceiling.map(more) },
            learned,
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
    use std::sync::Mutex;

    use super::*;
    use crate::cloud::Quotas;
    use crate::cloud::pace::{OperationStats, SharedStats};
    use crate::rehearsal::cloud::Throttling;
    use crate::rehearsal::stations::{Stations, simulate_seen};

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
            let paces = Paces { operations: of(tick).to_vec(), shared: Vec::new(), share: 1.0 };
            bound.look(Duration::from_millis(250 * tick), &waiting, &paces);
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
    fn what_is_left_is_left_of_the_account_and_not_of_the_stations_share() {
        let mut bound = Bound::default();
        let waiting = BTreeMap::from([(Operation::CreatePolicy, 7)]);
        for tick in 0..120 {
            // Five of ten a second are this station's, and it uses them up: as much is left for one like it.
            let policy = OperationStats { ceiling: Some(5.0), ..pace(5 * tick / 4, 3) };
            let operations = vec![(Operation::CreatePolicy, policy)];
            let paces = Paces { operations, shared: Vec::new(), share: 0.5 };
            bound.look(Duration::from_millis(250 * tick), &waiting, &paces);
        }
        let binding = bound.binding().unwrap();
        assert!((binding.more_stations.unwrap() - 1.0).abs() < 0.05, "{binding:?}");
    }

    #[test]
    fn where_aws_gives_less_than_is_configured_there_is_room_for_no_other_station() {
        let mut bound = Bound::default();
        let work = |limit: f64| {
            move |tick: u64| {
                let calls = 5 * tick / 4;
                let learned = limit < 10.0;
                let policy = OperationStats { limit: Some(limit), learned, ..pace(calls, 3) };
                [(Operation::CreatePolicy, policy), (Operation::CreateThing, pace(calls, 0))]
            }
        };
        look(&mut bound, 0, 10, 7, work(5.0));
        let binding = bound.binding().unwrap();
        assert_eq!((binding.operation.as_str(), binding.learned), ("create-policy", true));
        assert_eq!(binding.more_stations, Some(0.0), "not the 1.0 that ten a second would carry");
        // It takes as long to be believed again.
        look(&mut bound, 10, 5, 7, work(10.0));
        assert_eq!(bound.binding().unwrap().more_stations, Some(0.0));
        look(&mut bound, 15, 15, 7, work(10.0));
        assert!(bound.binding().unwrap().more_stations.unwrap() > 0.9);
    }

    /// What a station says of itself that works for five minutes simulated at AWS's default quotas.
    fn said_after_five_minutes(throttling: Throttling) -> Binding {
        let end = Duration::from_secs(300);
        let bound = Mutex::new(Bound::default());
        let all = Operation::ALL.iter().map(|it| (*it, 1)).collect();
        let stations = Stations {
            shifts: vec![(Duration::ZERO, end)],
            nests: 32,
            quotas: Quotas::aws_default(),
            throttling,
            random: 0.0,
            rtt: Duration::from_millis(20),
            seed: 1,
        };
        simulate_seen(&stations, &|now, paces| bound.lock().unwrap().look(now, &all, paces));
        bound.into_inner().unwrap().binding().expect("it had more to do than it might")
    }

    #[test]
    fn a_hidden_limit_over_the_whole_account_is_what_binds_and_carries_no_other_station() {
        let throttling = Throttling { account: Some(15.0), ..Throttling::default() };
        let it = said_after_five_minutes(throttling);
        assert_eq!((it.operation.as_str(), it.learned, it.more_stations), ("account", true, Some(0.0)));
        assert!(it.share > 0.8 && (13.0..16.0).contains(&it.mean_rate), "{it:?}");
        // At the quotas alone it is the tightest of them, and it is used up.
        let it = said_after_five_minutes(Throttling::default());
        assert!(it.operation != "account" && !it.learned, "{it:?}");
        assert!(it.share > 0.8 && it.more_stations.unwrap() < 0.1, "{it:?}");
    }

    #[test]
    fn the_time_of_a_limit_that_two_wait_for_counts_once_and_only_its_own_rate_says_that_it_gives_less() {
        let mut bound = Bound::default();
        let waiting = BTreeMap::from([(Operation::CreatePolicy, 7), (Operation::CreateThing, 7)]);
        let held = |learned| OperationStats { held_by: Some(SharedLimit::Account), learned, ..pace(50, 3) };
        let account = SharedStats {
            ceiling: Some(20.0),
            limit: Some(20.0),
            calls: 100,
            waiting: 6,
            ..SharedStats::default()
        };
        for tick in 0..40 {
            // AWS gives fewer things than is configured, but the account is what both wait for.
            let operations =
                vec![(Operation::CreatePolicy, held(false)), (Operation::CreateThing, held(true))];
            let paces = Paces { operations, shared: vec![(SharedLimit::Account, account)], share: 1.0 };
            bound.look(Duration::from_millis(250 * tick), &waiting, &paces);
        }
        let binding = bound.binding().unwrap();
        assert_eq!((binding.operation.as_str(), binding.learned), ("account", false), "{binding:?}");
        assert!((binding.share - 1.0).abs() < 0.001, "{binding:?}");
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
