//! The table of metrics. A name that is here stays: collectors, dashboards and alerts rely on it.

use super::{Family, Kind, Labels, Samples, Snapshot};
use crate::control::{FixtureStatus, OperationStatus, SharedLimitStatus, StationState};
use crate::device::State;
use crate::histogram::Buckets;

/// A metric without labels.
macro_rules! plain {
    ($kind:ident, $stem:literal, $unit:expr, $help:literal, $read:expr) => {
        Family { stem: $stem, unit: $unit, kind: Kind::$kind, help: $help, labels: &[], read: $read }
    };
}

/// A metric with labels.
macro_rules! labelled {
    ($kind:ident, $stem:literal, $unit:expr, [$($label:literal),+], $help:literal, $read:expr) => {
        Family { stem: $stem, unit: $unit, kind: Kind::$kind, help: $help, labels: &[$($label),+], read: $read }
    };
}

const SECONDS: Option<&str> = Some("seconds");
const BYTES: Option<&str> = Some("bytes");
const RATIO: Option<&str> = Some("ratio");

/// Every metric.
pub(in super::super) const FAMILIES: &[Family] = &[
    labelled!(
        Info,
        "linemint_build",
        None,
        ["version", "station"],
        "The daemon: its version and its station's id.",
        build
    ),
    labelled!(
        Gauge,
        "linemint_state",
        None,
        ["state"],
        "1 for the state that the station is in: starting, ready, degraded, stopped, draining.",
        state
    ),
    plain!(Gauge, "linemint_uptime", SECONDS, "Time since the daemon's start.", |it| number(
        it.status.uptime_s as f64
    )),
    labelled!(Gauge, "linemint_devices", None, ["state"], "Devices in the journal by state.", devices),
    labelled!(
        Gauge,
        "linemint_shift_devices",
        None,
        ["result"],
        "Devices of the running shift by their last word: passed, failed, or deferred (told fail while the work on them goes on: not failed); passed_at_once are part of passed.",
        shift
    ),
    plain!(Gauge, "linemint_backlog_devices", None, "Devices that are not finished.", |it| number(
        it.status.backlog.devices as f64
    )),
    plain!(
        Gauge,
        "linemint_backlog_buffered_devices",
        None,
        "Devices in no nest that the cloud still owes something.",
        |it| number(it.status.backlog.buffered as f64)
    ),
    plain!(
        Gauge,
        "linemint_backlog_oldest",
        SECONDS,
        "Age of the oldest device that the cloud still owes something; 0 without one.",
        |it| number(it.status.backlog.oldest_s.unwrap_or(0) as f64)
    ),
    labelled!(
        Counter,
        "linemint_steps",
        None,
        ["step", "outcome"],
        "Steps by outcome: done, adopted (it was there already), undone (it was gone again), trouble (a few of each device at most).",
        steps
    ),
    labelled!(
        Counter,
        "linemint_calls",
        None,
        ["operation", "outcome"],
        "Calls to AWS by outcome: ok, throttled, error.",
        calls
    ),
    labelled!(
        Histogram,
        "linemint_call_duration",
        SECONDS,
        ["operation"],
        "Time that a call to AWS took, without the wait for its turn.",
        |it| Samples::Histograms(
            it.figures
                .calls
                .iter()
                .map(|(operation, it)| (vec![(*operation).to_owned()], it.clone()))
                .collect()
        )
    ),
    labelled!(
        Gauge,
        "linemint_calls_waiting",
        None,
        ["operation"],
        "Calls that wait for their turn.",
        |it| of_operations(it, |it| Some(it.waiting as f64))
    ),
    labelled!(
        Gauge,
        "linemint_devices_waiting",
        None,
        ["operation"],
        "Devices that wait for an operation, those whose call is under way among them.",
        |it| of_operations(it, |it| Some(it.waiting_devices as f64))
    ),
    labelled!(
        Gauge,
        "linemint_call_rate_per_second",
        None,
        ["operation"],
        "Calls a second in the last ten seconds.",
        |it| of_operations(it, |it| Some(it.rate))
    ),
    labelled!(
        Gauge,
        "linemint_call_limit_per_second",
        None,
        ["operation"],
        "Calls a second that are allowed now, less than the ceiling while AWS throttles; none if unlimited.",
        |it| of_operations(it, |it| it.limit)
    ),
    labelled!(
        Gauge,
        "linemint_call_ceiling_per_second",
        None,
        ["operation"],
        "Calls a second that the configuration allows; none if unlimited.",
        |it| of_operations(it, |it| it.ceiling)
    ),
    labelled!(
        Gauge,
        "linemint_call_bound",
        RATIO,
        ["operation"],
        "Part of the daemon's time in which calls had to wait for their turn.",
        |it| of_operations(it, |it| Some(it.bound_share))
    ),
    labelled!(
        Gauge,
        "linemint_shared_limit_per_second",
        None,
        ["limit"],
        "Calls a second that a limit shared by operations allows now: device-certificates, or account while AWS is found to throttle whatever is called; none if unlimited.",
        |it| of_shared(it, |it| it.limit)
    ),
    labelled!(
        Gauge,
        "linemint_shared_limit_rate_per_second",
        None,
        ["limit"],
        "Calls a second in the last ten seconds of all operations under a shared limit.",
        |it| of_shared(it, |it| Some(it.rate))
    ),
    labelled!(
        Gauge,
        "linemint_shared_limit_waiting",
        None,
        ["limit"],
        "Calls that wait for their turn because of a shared limit.",
        |it| of_shared(it, |it| Some(it.waiting as f64))
    ),
    labelled!(
        Gauge,
        "linemint_shared_limit_bound",
        RATIO,
        ["limit"],
        "Part of the daemon's time in which calls had to wait because of a shared limit.",
        |it| of_shared(it, |it| Some(it.bound_share))
    ),
    plain!(
        Histogram,
        "linemint_journal_commit_duration",
        SECONDS,
        "Time that a commit to the journal took, its sync included.",
        |it| histogram(it.figures.commits.as_ref())
    ),
    plain!(Histogram, "linemint_journal_commit_records", None, "Records in a commit to the journal.", |it| {
        histogram(it.figures.commit_records.as_ref())
    }),
    plain!(Gauge, "linemint_journal_sequence", None, "Number of the newest record on disk.", |it| number(
        it.status.journal.durable as f64
    )),
    plain!(Gauge, "linemint_journal_size", BYTES, "The journal on disk, log and index.", |it| number(
        it.status.journal.bytes as f64
    )),
    plain!(Gauge, "linemint_journal_log_size", BYTES, "The journal's log on disk.", |it| number(
        it.figures.log_bytes as f64
    )),
    labelled!(
        Gauge,
        "linemint_fixture_up",
        None,
        ["fixture"],
        "1 if the fixture has said hello and may present units.",
        |it| of_fixtures(it, |it| f64::from(u8::from(it.state == "ready")))
    ),
    labelled!(Gauge, "linemint_fixture_units", None, ["fixture"], "Units in the fixture's nests.", |it| {
        of_fixtures(it, |it| it.nests.len() as f64)
    }),
    labelled!(
        Counter,
        "linemint_fixture_frames",
        None,
        ["fixture", "direction"],
        "Good frames, in and out.",
        frames
    ),
    labelled!(
        Counter,
        "linemint_fixture_bad_frames",
        None,
        ["fixture"],
        "Frames dropped for a wrong checksum, form or length.",
        |it| of_fixtures(it, |it| it.bad_frames as f64)
    ),
    labelled!(Counter, "linemint_fixture_echoes", None, ["fixture"], "Own frames that came back.", |it| {
        of_fixtures(it, |it| it.echoes as f64)
    }),
    labelled!(
        Counter,
        "linemint_fixture_naks",
        None,
        ["fixture", "code"],
        "Units and frames that were refused with nak.",
        naks
    ),
    labelled!(
        Counter,
        "linemint_fixture_outages",
        None,
        ["fixture"],
        "How often the port was away or could not be opened.",
        |it| of_fixtures(it, |it| it.outages as f64)
    ),
    labelled!(
        Counter,
        "linemint_fixture_outage",
        SECONDS,
        ["fixture"],
        "How long the port was away.",
        |it| of_fixtures(it, |it| it.outage_s as f64)
    ),
    plain!(
        Gauge,
        "linemint_certificate_remaining",
        SECONDS,
        "Life left of the device certificate that was issued last, which is cut to its CA's end; none before the first of this shift.",
        certificate
    ),
    plain!(
        Gauge,
        "linemint_ca_remaining",
        SECONDS,
        "Life left of the station's CA certificate, below 0 once it is over; none without a CA.",
        ca
    ),
];

fn number(value: f64) -> Samples {
    Samples::Numbers(vec![(Labels::new(), value)])
}

fn histogram(it: Option<&Buckets>) -> Samples {
    Samples::Histograms(it.map(|it| (Labels::new(), it.clone())).into_iter().collect())
}

fn build(it: &Snapshot) -> Samples {
    let labels = vec![it.status.version.clone(), it.status.station.clone()];
    Samples::Numbers(vec![(labels, 1.0)])
}

fn state(it: &Snapshot) -> Samples {
    use StationState::{Degraded, Draining, Ready, Starting, Stopped};
    let is = |state: StationState| f64::from(u8::from(it.status.state == state));
    let all = [Starting, Ready, Degraded, Stopped, Draining];
    Samples::Numbers(all.map(|state| (vec![state.as_str().to_owned()], is(state))).to_vec())
}

fn devices(it: &Snapshot) -> Samples {
    let of = |state: State| (vec![state.as_str().to_owned()], it.status.counts.of(state) as f64);
    Samples::Numbers(State::ALL.map(of).to_vec())
}

fn shift(it: &Snapshot) -> Samples {
    let today = it.tally.today(it.now, None);
    let results = [
        ("passed", today.passed),
        ("passed_at_once", today.passed_at_once),
        ("failed", today.failed),
        ("deferred", today.deferred),
    ];
    let labels = |result: &str| vec![result.to_owned()];
    Samples::Numbers(results.map(|(result, count)| (labels(result), count as f64)).to_vec())
}

fn steps(it: &Snapshot) -> Samples {
    let of =
        |step: &str, outcome: &str, count: u64| (vec![step.to_owned(), outcome.to_owned()], count as f64);
    let steps = it.tally.steps.iter().flat_map(|(step, counts)| {
        let step = step.to_string();
        [
            of(&step, "done", counts.done),
            of(&step, "adopted", counts.adopted),
            of(&step, "undone", counts.undone),
            of(&step, "trouble", counts.trouble),
        ]
    });
    Samples::Numbers(steps.collect())
}

fn calls(it: &Snapshot) -> Samples {
    let calls = it.status.operations.iter().flat_map(|it| {
        [("ok", it.ok), ("throttled", it.throttled), ("error", it.errors)].map(|(outcome, count)| {
            let labels = vec![it.operation.clone(), outcome.to_owned()];
            (labels, count as f64)
        })
    });
    Samples::Numbers(calls.collect())
}

fn of_operations(it: &Snapshot, value: fn(&OperationStatus) -> Option<f64>) -> Samples {
    let operations = it.status.operations.iter();
    let samples = operations.filter_map(|it| Some((vec![it.operation.clone()], value(it)?)));
    Samples::Numbers(samples.collect())
}

fn of_shared(it: &Snapshot, value: fn(&SharedLimitStatus) -> Option<f64>) -> Samples {
    let limits = it.status.shared_limits.iter();
    Samples::Numbers(limits.filter_map(|it| Some((vec![it.name.clone()], value(it)?))).collect())
}

fn of_fixtures(it: &Snapshot, value: fn(&FixtureStatus) -> f64) -> Samples {
    let fixtures = it.status.fixtures.iter();
    Samples::Numbers(fixtures.map(|it| (vec![it.name.clone()], value(it))).collect())
}

fn frames(it: &Snapshot) -> Samples {
    let fixtures = it.status.fixtures.iter().flat_map(|it| {
        [("in", it.frames_in), ("out", it.frames_out)].map(|(direction, count)| {
            let labels = vec![it.name.clone(), direction.to_owned()];
            (labels, count as f64)
        })
    });
    Samples::Numbers(fixtures.collect())
}

fn naks(it: &Snapshot) -> Samples {
    let of = |it: &FixtureStatus| {
        let name = it.name.clone();
        it.naks_by_code.clone().into_iter().map(move |(code, count)| (vec![name.clone(), code], count as f64))
    };
    Samples::Numbers(it.status.fixtures.iter().flat_map(of).collect())
}

fn certificate(it: &Snapshot) -> Samples {
    remaining(it, it.tally.certificate_not_after)
}

fn ca(it: &Snapshot) -> Samples {
    remaining(it, it.status.ca.as_ref().map(|ca| ca.not_after))
}

fn remaining(it: &Snapshot, end: Option<jiff::Timestamp>) -> Samples {
    let left = end.map(|end| end.as_second() - it.now.as_second());
    Samples::Numbers(left.map(|it| (Labels::new(), it as f64)).into_iter().collect())
}
