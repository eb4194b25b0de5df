//! One report of several stations: a line's, or a plant's.

use std::collections::{BTreeMap, BTreeSet};

use super::handover::with_actions;
use super::model::{
    Balance, Certificates, Downtime, Exceptions, FailureRow, Handover, Hour, JournalRange, Listed,
    MAX_LISTED, Outside, Pace, Ratio, Report, Span, StationCloud, StationRow, Times, Twice, Yields,
};
use crate::journal::Cause;

/// Of this downtime each fixture has its own.
const FIXTURE_AWAY: &str = Cause::FixtureAway.as_str();

/// Why reports cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum Unmergeable {
    #[error("there is nothing to merge: name two reports or more")]
    None,
    #[error("the report of {0} is there twice")]
    Same(String),
    #[error("the report of {0} is of {1} and that of {2} of {3}: merge reports of the same")]
    Others(String, String, String, String),
    #[error(
        "two reports of {0} are of {1}, and each device would count twice: name the newest version alone"
    )]
    Again(String, String),
    #[error("{0} counts what was ordered and {1} what was presented: merge reports of one kind")]
    Kinds(String, String),
}

/// Adds the reports up. `twice` are the serial numbers that were found at several stations, and how many
/// there are.
///
/// # Errors
/// They do not fit together.
pub fn merge(signed: &[(Report, String)], twice: (u64, Vec<Twice>)) -> Result<Report, Unmergeable> {
    let reports: Vec<_> = signed.iter().map(|(it, _)| it).collect();
    let [first, rest @ ..] = reports.as_slice() else { return Err(Unmergeable::None) };
    if rest.is_empty() {
        return Err(Unmergeable::None);
    }
    for (at, it) in reports.iter().enumerate() {
        let id = |it: &Report| it.station.id.clone();
        if signed[..at].iter().any(|(_, hash)| *hash == signed[at].1) {
            return Err(Unmergeable::Same(id(it)));
        }
        if !it.selection.is_like(&first.selection) {
            let (of, other) = (first.selection.words(), it.selection.words());
            return Err(Unmergeable::Others(id(first), of, id(it), other));
        }
        if reports[..at].iter().any(|old| id(old) == id(it) && old.selection.overlaps(&it.selection)) {
            return Err(Unmergeable::Again(id(it), it.selection.words()));
        }
        if it.balance.of != first.balance.of {
            return Err(Unmergeable::Kinds(id(first), id(it)));
        }
    }
    let mut sum = (*first).clone();
    sum.version = 1;
    sum.corrects = None;
    sum.quota = None;
    sum.cloud = None;
    sum.serials = None;
    sum.stations = signed.iter().map(row).collect();
    sum.exceptions = Exceptions::default();
    sum.handover = Handover::default();
    let equal = equal_fixtures(&reports);
    tell_apart(&mut sum, first, &equal);
    let ids: Vec<_> = reports.iter().map(|it| it.station.id.as_str()).collect();
    sum.station.id = ids.join(" ");
    let versions: BTreeSet<_> = reports.iter().map(|it| it.station.software.as_str()).collect();
    sum.station.software = versions.into_iter().collect::<Vec<_>>().join(" ");
    // One station's would pass for that of all. The rows have the hash of each report, which names its own.
    if rest.iter().any(|it| it.station.config != first.station.config) {
        sum.station.config = String::new();
    }
    sum.journal = JournalRange::default();
    for it in rest {
        let mut own = (*it).clone();
        tell_apart(&mut own, it, &equal);
        add(&mut sum, &own);
    }
    reports.iter().for_each(|it| list(&mut sum.exceptions, it));
    sum.balance.problems = problems(&reports, twice.0);
    sum.balance.closes = sum.balance.problems.is_empty();
    sum.yields = yields(&reports);
    sum.times = times(&reports);
    sum.failures = reasons(&reports, |it| &it.failures);
    sum.deferrals = reasons(&reports, |it| &it.deferrals);
    sum.twice = twice.1;
    sum.handover = with_actions(Handover::default(), &sum.balance, &sum.certificates);
    sum.handover.actions.extend(rest.iter().filter_map(|it| other_time(it, first)));
    sum.handover.actions.extend(reports.iter().flat_map(|it| left_to_do(it)));
    Ok(sum)
}

/// What a station leaves to do beside what follows from its figures, which are added up.
fn left_to_do(it: &Report) -> Vec<String> {
    let follows = with_actions(Handover::default(), &it.balance, &it.certificates).actions;
    let own = it.handover.actions.iter().filter(|action| !follows.contains(action));
    own.map(|action| format!("{}: {action}", it.station.id)).collect()
}

/// The names of fixtures that several stations have: each is another one.
fn equal_fixtures(reports: &[&Report]) -> BTreeSet<String> {
    let mut stations: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for it in reports {
        let away = it.downtime.iter().filter(|it| it.cause == FIXTURE_AWAY).filter_map(|it| it.of.as_ref());
        for name in it.fixtures.keys().chain(away) {
            stations.entry(name).or_default().insert(&it.station.id);
        }
    }
    let equal = stations.into_iter().filter(|(_, stations)| stations.len() > 1);
    equal.map(|(name, _)| name.to_owned()).collect()
}

/// Gives what would be mistaken for another station's its own station's name.
fn tell_apart(it: &mut Report, of: &Report, equal: &BTreeSet<String>) {
    let station = &of.station.id;
    let own = |name: &String| if equal.contains(name) { format!("{station} {name}") } else { name.clone() };
    it.fixtures = of.fixtures.iter().map(|(name, count)| (own(name), *count)).collect();
    for row in it.downtime.iter_mut().filter(|it| it.cause == FIXTURE_AWAY) {
        row.of = row.of.as_ref().map(own);
    }
    for order in &mut it.overrides {
        order.what = format!("{station}: {}", order.what);
    }
}

/// That a report is of other hours than the first one; a batch takes as long as it does at each station.
fn other_time(it: &Report, first: &Report) -> Option<String> {
    let (span, of) = (&it.selection, &first.selection);
    (span.kind != "batch" && (span.begin, span.end) != (of.begin, of.end)).then(|| {
        format!(
            "{} was reported from {} to {}, {} from {} to {}: the sums are of all of it",
            it.station.id, span.begin_local, span.end_local, first.station.id, of.begin_local, of.end_local
        )
    })
}

impl Span {
    /// What it is about, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.kind),
            None => format!("the time from {} to {}", self.begin_local, self.end_local),
        }
    }

    /// Whether both are of one shift, of one batch, or of any time.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }

    /// Whether a device may be in both.
    fn overlaps(&self, other: &Self) -> bool {
        self.name.is_some() || (self.begin < other.end && other.begin < self.end)
    }
}

fn row((it, hash): &(Report, String)) -> StationRow {
    StationRow {
        id: it.station.id.clone(),
        report: hash.clone(),
        total: it.balance.total,
        good: it.balance.good(),
        first_pass: it.balance.first_pass,
        scrapped: it.balance.scrapped,
        quarantined: it.balance.quarantined,
        open: it.balance.failed + it.balance.in_progress,
        closes: it.balance.closes,
        downtime_ms: it.downtime.iter().map(|it| it.ms).sum(),
        cloud: it.cloud.as_ref().map(|cloud| StationCloud {
            agrees: cloud.agrees,
            open: cloud.open(),
            headline: cloud.headline(),
        }),
    }
}

fn problems(reports: &[&Report], twice: u64) -> Vec<String> {
    let of = |it: &Report| format!("{}: {}", it.station.id, it.balance.problems.join("; "));
    let mut all: Vec<_> = reports.iter().filter(|it| !it.balance.closes).map(|it| of(it)).collect();
    if twice > 0 {
        all.push(format!("{twice} serial numbers are at several stations"));
    }
    all
}

fn add(sum: &mut Report, it: &Report) {
    let span = &mut sum.selection;
    if it.selection.begin < span.begin {
        (span.begin, span.begin_local) = (it.selection.begin, it.selection.begin_local.clone());
    }
    if it.selection.end > span.end {
        (span.end, span.end_local) = (it.selection.end, it.selection.end_local.clone());
    }
    span.minutes = (span.end.as_second() - span.begin.as_second()) / 60;
    span.over &= it.selection.over;
    span.odd_days.extend(it.selection.odd_days.clone());
    sum.made_at = sum.made_at.max(it.made_at);
    for (into, from) in [
        (&mut sum.products, &it.products),
        (&mut sum.fixtures, &it.fixtures),
        (&mut sum.batches, &it.batches),
    ] {
        from.iter().for_each(|(name, count)| *into.entry(name.clone()).or_default() += count);
    }
    add_balance(&mut sum.balance, &it.balance);
    sum.outside = match (sum.outside, it.outside) {
        (Some(a), Some(b)) => Some(Outside { since: a.since.min(b.since), devices: a.devices + b.devices }),
        (a, b) => a.or(b),
    };
    add_pace(&mut sum.pace, &it.pace);
    add_certificates(&mut sum.certificates, &it.certificates);
    for row in &it.downtime {
        add_downtime(&mut sum.downtime, row);
    }
    sum.downtime.sort_by_key(|it| (std::cmp::Reverse(it.ms), it.cause.clone(), it.of.clone()));
    sum.crashes += it.crashes;
    sum.overrides_count = sum.overridden() + it.overridden();
    let room = MAX_LISTED.saturating_sub(sum.overrides.len());
    sum.overrides.extend(it.overrides.iter().take(room).cloned());
}

fn add_balance(sum: &mut Balance, it: &Balance) {
    for (into, from) in [
        (&mut sum.total, it.total),
        (&mut sum.first_pass, it.first_pass),
        (&mut sum.after_retest, it.after_retest),
        (&mut sum.after_rework, it.after_rework),
        (&mut sum.scrapped, it.scrapped),
        (&mut sum.quarantined, it.quarantined),
        (&mut sum.failed, it.failed),
        (&mut sum.in_progress, it.in_progress),
        (&mut sum.missing, it.missing),
        (&mut sum.sum, it.sum),
        (&mut sum.extras, it.extras),
        (&mut sum.duplicates, it.duplicates),
        (&mut sum.duplicated_devices, it.duplicated_devices),
        (&mut sum.from_earlier, it.from_earlier),
        (&mut sum.passed_after, it.passed_after),
        (&mut sum.extras_deleted, it.extras_deleted),
        (&mut sum.never_presented, it.never_presented),
    ] {
        *into += from;
    }
}

fn add_downtime(all: &mut Vec<Downtime>, row: &Downtime) {
    match all.iter_mut().find(|it| (&it.cause, &it.of) == (&row.cause, &row.of)) {
        Some(it) => {
            it.times += row.times;
            it.ms += row.ms;
        }
        None => all.push(row.clone()),
    }
}

fn add_certificates(sum: &mut Certificates, it: &Certificates) {
    sum.issued += it.issued;
    sum.active += it.active;
    sum.revoked += it.revoked;
    sum.keys_destroyed += it.keys_destroyed;
    sum.keys_waiting += it.keys_waiting;
    sum.passed_without_active += it.passed_without_active;
    sum.active_without_pass += it.active_without_pass;
}

/// Hours that begin at the same instant are one. Takt and gaps are each station's own.
fn add_pace(sum: &mut Pace, it: &Pace) {
    (sum.takt_ms, sum.actual_ms) = (None, None);
    (sum.longest_gap_ms, sum.longest_gap_at) = (0, None);
    let mut hours: BTreeMap<_, Hour> =
        std::mem::take(&mut sum.hours).into_iter().map(|it| (it.begin, it)).collect();
    for hour in &it.hours {
        match hours.get_mut(&hour.begin) {
            Some(known) => {
                known.presented += hour.presented;
                known.passed += hour.passed;
                known.seconds = known.seconds.max(hour.seconds);
                known.failed += hour.failed;
                known.deferred += hour.deferred;
                // Of the stations together: it may be more than an hour.
                known.down_ms += hour.down_ms;
                known.cause = None;
                known.target = known.target.zip(hour.target).map(|(a, b)| a + b);
            }
            None => {
                hours.insert(hour.begin, hour.clone());
            }
        }
    }
    sum.hours = hours.into_values().collect();
}

fn yields(reports: &[&Report]) -> Yields {
    let of = |ratio: fn(&Yields) -> &Ratio| {
        let all = reports.iter().map(|it| ratio(&it.yields));
        let (part, whole) = all.fold((0, 0), |(part, whole), it| (part + it.part, whole + it.whole));
        Ratio::new(part, whole, reports.first().map_or("", |it| &ratio(&it.yields).definition))
    };
    Yields {
        first_pass: of(|it| &it.first_pass),
        last: of(|it| &it.last),
        attempts: of(|it| &it.attempts),
        retest: of(|it| &it.retest),
        rework: of(|it| &it.rework),
    }
}

/// Percentiles cannot be added: they are in the stations' own reports.
fn times(reports: &[&Report]) -> Times {
    let sum = |of: fn(&Times) -> u64| reports.iter().map(|it| of(&it.times)).sum();
    let known = |of: fn(&Times) -> Option<u64>| reports.iter().map(|it| of(&it.times)).sum();
    Times {
        devices: sum(|it| it.devices),
        operator_ms: sum(|it| it.operator_ms),
        fixture_ms: sum(|it| it.fixture_ms),
        making_ms: sum(|it| it.making_ms),
        cloud_ms: known(|it| it.cloud_ms),
        quota_ms: known(|it| it.quota_ms),
        journal_ms: known(|it| it.journal_ms),
        ..Times::default()
    }
}

fn reasons(reports: &[&Report], of: fn(&Report) -> &Vec<FailureRow>) -> Vec<FailureRow> {
    let mut rows: BTreeMap<String, FailureRow> = BTreeMap::new();
    for row in reports.iter().flat_map(|it| of(it)) {
        match rows.get_mut(&row.code) {
            Some(it) => {
                it.failures += row.failures;
                it.devices += row.devices;
                it.first = it.first.into_iter().chain(row.first).min();
                it.last = it.last.max(row.last);
            }
            None => {
                rows.insert(row.code.clone(), row.clone());
            }
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by_key(|it| std::cmp::Reverse(it.failures));
    let all: u64 = rows.iter().map(|it| it.failures).sum();
    let mut so_far = 0;
    for it in &mut rows {
        so_far += it.failures;
        it.share = (it.failures * 10_000).checked_div(all).unwrap_or(0);
        it.cumulative = (so_far * 10_000).checked_div(all).unwrap_or(0);
    }
    rows
}

fn list(sum: &mut Exceptions, it: &Report) {
    let Exceptions {
        missing,
        extras,
        quarantined,
        scrapped,
        failed,
        in_progress,
        often_retested,
        ordered,
        duplicates,
    } = &it.exceptions;
    for (into, from) in [
        (&mut sum.missing, missing),
        (&mut sum.extras, extras),
        (&mut sum.quarantined, quarantined),
        (&mut sum.scrapped, scrapped),
        (&mut sum.failed, failed),
        (&mut sum.in_progress, in_progress),
        (&mut sum.often_retested, often_retested),
        (&mut sum.ordered, ordered),
        (&mut sum.duplicates, duplicates),
    ] {
        add_list(into, from, &it.station.id);
    }
}

fn add_list(into: &mut Listed, from: &Listed, station: &str) {
    into.count += from.count;
    let room = MAX_LISTED.saturating_sub(into.devices.len());
    into.devices.extend(from.devices.iter().take(room).cloned().map(|mut it| {
        it.why = format!("{station}: {}", it.why);
        it
    }));
}
