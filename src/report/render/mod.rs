//! How a report looks: for a terminal, for programs, for a spreadsheet, for the board.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::limits::CERTIFICATES;
use super::model::{CloudCheck, Downtime, Hour, OperationRow, Pace, Quota, Report, Times};
use crate::cloud::ACCOUNT;

pub mod csv;
pub mod html;
pub mod json;
mod svg;
pub mod text;

/// A share of ten-thousandths as it is read: `92.50 %`.
fn percent(share: Option<u64>) -> String {
    match share {
        Some(it) => format!("{}.{:02} %", it / 100, it % 100),
        None => "-".to_owned(),
    }
}

/// A span as it is read: `340 ms`, `12.3 s`, `4 min 5 s`, `3 h 5 min`.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// So many of them: `1 device`, `2 devices`.
fn counted(count: u64, one: &str) -> String {
    format!("{} {one}{}", number(count), if count == 1 { "" } else { "s" })
}

/// Where the devices of a list are that it does not show. The CSV has a line for what was presented, and so none for
/// what is missing.
fn rest_of(report: &Report, list: &str) -> String {
    match (list, report.selection.name.as_deref()) {
        ("missing", Some(batch)) => format!("`linemint batch show {batch} --missing`"),
        _ => "the CSV".to_owned(),
    }
}

/// The planned time for a device; of several stations each has its own.
fn takt(pace: &Pace, none: &str) -> String {
    match pace.takt_ms {
        Some(ms) => span(ms),
        None if pace.hours.iter().any(|it| it.target.is_some()) => "of each station its own".to_owned(),
        None => none.to_owned(),
    }
}

/// Ends that the daemon has not told, and what follows for the downtime.
fn unsaid(crashes: u64) -> String {
    format!(
        "the daemon ended {} without saying so: what was away before counts up to the last record, how long anything \
         was away after it is not known",
        counted(crashes, "time")
    )
}

/// What a cause of downtime means to somebody who does not know its name.
fn meaning(it: &Downtime) -> &'static str {
    match (it.cause.as_str(), it.of.as_deref()) {
        ("line-stopped", Some("CA")) => "the CA does not issue",
        ("line-stopped", _) => "nothing goes through",
        ("offline", _) => "AWS does not answer",
        ("throttled", _) => "AWS is called too often",
        ("fixture-away", _) => "no port, or no hello",
        ("disk", _) => "too little room is left",
        ("clock", _) => "it cannot be right",
        ("station-off", _) => "the daemon was stopped",
        _ => "",
    }
}

/// A number with its thousands apart: `1,184`.
fn number(it: u64) -> String {
    let digits = it.to_string();
    let mut text = String::with_capacity(digits.len() + 6);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Without control characters, and no longer than it may be: what others have said must not move a cursor.
fn plain(text: &str, max_chars: usize) -> String {
    let plain = |it: char| if it.is_control() || is_direction(it) { '?' } else { it };
    let mut short: String = text.chars().map(plain).take(max_chars).collect();
    if text.chars().count() > max_chars {
        short.pop();
        short.push('…');
    }
    short
}

/// Characters that turn the direction of what follows, or that nobody sees.
fn is_direction(it: char) -> bool {
    matches!(it, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What the time went to: a word, what it means, milliseconds.
fn shares_of_time(it: &Times) -> [(&'static str, &'static str, u64); 6] {
    let of = |it: Option<u64>| it.unwrap_or(0);
    let waited = of(it.cloud_ms) + of(it.quota_ms) + of(it.journal_ms);
    [
        ("operator", "out of the nest, until it comes again", it.operator_ms),
        ("fixture", "storing and reading back", it.fixture_ms),
        ("cloud", "AWS's answers, or AWS not reached", of(it.cloud_ms)),
        ("quota", "a call's turn under AWS's limits", of(it.quota_ms)),
        ("journal", "records on their way to the disk", of(it.journal_ms)),
        // The one is told by the wall's clock, the other by one that only goes forward.
        ("station", "issuing, and what is not recorded", it.making_ms.saturating_sub(waited)),
    ]
}

/// A time on the station's wall: with its day where that is not the one on which the report begins, and with
/// its offset where that wall shows the same time twice.
fn local(report: &Report, at: Timestamp) -> String {
    let Ok(zone) = TimeZone::get(&report.selection.timezone) else { return format!("{at:.0}") };
    let (begin, at) = (report.selection.begin.to_zoned(zone.clone()), at.to_zoned(zone.clone()));
    // No instant lies in a time that the clocks skip: what is ambiguous here comes twice.
    let twice = zone.to_ambiguous_timestamp(at.datetime()).is_ambiguous();
    let form = match (begin.date() == at.date(), twice) {
        (true, false) => "%H:%M:%S",
        (true, true) => "%H:%M:%S %:z",
        (false, false) => "%Y-%m-%d %H:%M:%S",
        (false, true) => "%Y-%m-%d %H:%M:%S %:z",
    };
    at.strftime(form).to_string()
}

/// How an hour did against its target: `+2`, `-3`; nothing where it was met, or there is none.
fn delta(hour: &Hour) -> String {
    match hour.target {
        Some(target) if hour.passed < target => format!("-{}", number(target - hour.passed)),
        Some(target) if hour.passed > target => format!("+{}", number(hour.passed - target)),
        _ => String::new(),
    }
}

/// How near the limits were, and what they would carry, a sentence each.
fn headroom(it: &Quota) -> Vec<String> {
    let mut all = Vec::new();
    if let (Some(operation), Some(share)) = (&it.tightest, it.tightest_share) {
        let row = it.operations.iter().find(|it| it.operation == *operation);
        let learned = row.and_then(|it| it.learned_milli);
        let more = it.more_stations_milli.map_or_else(String::new, |it| {
            if let Some(learned) = learned {
                let learned = milli(Some(learned));
                return format!(
                    ": the account would carry no such station besides, since AWS gives less than is configured, {learned} calls a second at most"
                );
            }
            let more = if it >= 100_000 { "a hundred and more".to_owned() } else { milli(Some(it)) };
            format!(": the account would carry {more} such stations besides")
        });
        let share = percent(Some(share));
        all.push(format!(
            "The tightest limit was {operation}, {share} of this station's part in use in the busiest five minutes{more}."
        ));
    }
    all.push(match &it.binding {
        Some(operation) => {
            let (share, of) = at_work(it, it.binding_ms, it.binding_share);
            format!("Calls waited for their turn longest at {operation}, {} {of}.", percent(Some(share)))
        }
        None => "No call had to wait for its turn.".to_owned(),
    });
    all
}

/// The share of a wait, and of what: of the time in which devices waited for AWS, where both are known. Most of a
/// shift a station may have nothing to call.
fn at_work(it: &Quota, ms: Option<u64>, share: u64) -> (u64, &'static str) {
    match ms.and_then(|ms| (ms * 10_000).checked_div(it.busy_ms)) {
        Some(share) => (share.min(10_000), "of the time in which devices waited for AWS"),
        None => (share, "of the time"),
    }
}

/// Whether it sums up other rows.
fn is_shared(it: &OperationRow) -> bool {
    [CERTIFICATES, ACCOUNT].contains(&it.operation.as_str())
}

/// What was allowed: what AWS was found to allow where that is less than configured.
fn limit(it: &OperationRow) -> Option<u64> {
    it.learned_milli.or(it.limit_milli)
}

/// Whether an operation is worth a line.
fn is_notable(it: &OperationRow) -> bool {
    let near = limit(it).is_some_and(|limit| it.peak_milli * 10 >= limit);
    near || it.throttled + it.errors + it.bound_share + it.bound_ms.unwrap_or(0) > 0
}

/// The operations that are not, in a sentence.
fn quiet(it: &Quota) -> Option<String> {
    // The limit that several operations share is a row of its own, and its calls are theirs.
    let of: Vec<_> = it.operations.iter().filter(|it| !is_shared(it)).collect();
    let rows: Vec<_> = of.iter().filter(|it| !is_notable(it)).collect();
    let calls = number(rows.iter().map(|it| it.calls).sum());
    let of = if rows.len() == of.len() { "operations" } else { "other operations" };
    // Reports of before do not have a wait of less than a ten-thousandth of their time.
    let waited = it.binding.is_some() && rows.iter().any(|it| it.bound_ms.is_none());
    let none = if waited { "none refused" } else { "none refused or waiting" };
    (!rows.is_empty())
        .then(|| format!("{} {of}: {calls} calls, {none}, all below a tenth of their limits.", rows.len()))
}

/// What is to be known of a look at the account.
fn cloud_remarks(it: &CloudCheck) -> Vec<&'static str> {
    let mut all = Vec::new();
    if it.quick {
        all.push("only existence and status were looked at, no attachments and documents");
    }
    if it.listed.is_none() {
        all.push("the account's lists were not read: extras and duplicated lockers were not looked for");
    }
    if it.unexamined > 0 {
        all.push("not every certificate that the journal does not know was looked into");
    }
    all
}

/// A thousandth as a decimal of two places: `0.25`.
fn hundredths(it: u64) -> String {
    format!("{}.{:02}", it / 1000, it % 1000 / 10)
}

/// A thousandth as a decimal: `9.5`.
fn milli(it: Option<u64>) -> String {
    it.map_or_else(|| "unlimited".to_owned(), |it| format!("{}.{}", it / 1000, it % 1000 / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_people_write_them() {
        assert_eq!([0, 999, 1_184, 1_000_000].map(number), ["0", "999", "1,184", "1,000,000"]);
        assert_eq!(
            [0, 999, 12_345, 245_000, 11_100_000].map(span),
            ["0 ms", "999 ms", "12.3 s", "4 min 5 s", "3 h 5 min"]
        );
        assert_eq!(
            [Some(9_250), Some(5), Some(10_000), None].map(percent),
            ["92.50 %", "0.05 %", "100.00 %", "-"]
        );
        assert_eq!(plain("a\u{1b}[2J\u{202e}b", 20), "a?[2J?b");
        assert_eq!(plain("abcdef", 4), "abc…");
        assert_eq!(milli(Some(9_500)), "9.5");
    }

    #[test]
    fn a_time_that_the_wall_shows_twice_has_its_offset_and_no_other_has() {
        let (_, mut report) = super::super::tests::shifts::clocks_set_back();
        report.selection.timezone = "Europe/Berlin".to_owned();
        let mut of = |begin: &str, at: &str| {
            report.selection.begin = begin.parse().unwrap();
            local(&report, at.parse().unwrap())
        };
        let night = "2026-10-24T20:00:00Z";
        for (at, shown) in [
            ("2026-10-24T23:59:59Z", "2026-10-25 01:59:59"),
            ("2026-10-25T00:00:00Z", "2026-10-25 02:00:00 +02:00"),
            ("2026-10-25T00:30:00Z", "2026-10-25 02:30:00 +02:00"),
            ("2026-10-25T00:59:59.999Z", "2026-10-25 02:59:59 +02:00"),
            ("2026-10-25T01:00:00Z", "2026-10-25 02:00:00 +01:00"),
            ("2026-10-25T01:30:00Z", "2026-10-25 02:30:00 +01:00"),
            ("2026-10-25T01:59:59.999Z", "2026-10-25 02:59:59 +01:00"),
            ("2026-10-25T02:00:00Z", "2026-10-25 03:00:00"),
        ] {
            assert_eq!(of(night, at), shown);
        }
        // On the day itself it is without the day.
        let day = "2026-10-25T00:00:00Z";
        let both = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"].map(|at| of(day, at));
        assert_eq!(both, ["02:30:00 +02:00", "02:30:00 +01:00"]);
        // In spring an hour is skipped, and none comes twice.
        let spring = ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"].map(|at| of(at, at));
        assert_eq!(spring, ["01:59:59", "03:00:00"]);
    }

    #[test]
    fn what_aws_does_not_give_is_not_promised_to_another_station() {
        let account = OperationRow {
            operation: ACCOUNT.to_owned(),
            learned_milli: Some(15_040),
            peak_milli: 14_800,
            ..OperationRow::default()
        };
        let quota = Quota {
            operations: vec![account],
            tightest: Some(ACCOUNT.to_owned()),
            tightest_share: Some(9_840),
            more_stations_milli: Some(0),
            binding: Some(ACCOUNT.to_owned()),
            ..Quota::default()
        };
        let said = &headroom(&quota)[0];
        assert!(
            said.ends_with("no such station besides, since AWS gives less than is configured, 15.0 calls a second at most."),
            "{said}"
        );
        assert_eq!((limit(&quota.operations[0]), is_notable(&quota.operations[0])), (Some(15_040), true));
    }

    #[test]
    fn what_calls_waited_is_of_the_time_at_work_and_then_none_is_said_not_to_have() {
        // Nine seconds in a day of which AWS was wanted for half a minute.
        let row = |operation: &str, bound_ms| OperationRow {
            operation: operation.to_owned(),
            limit_milli: Some(10_000),
            bound_ms,
            ..OperationRow::default()
        };
        let mut quota = Quota {
            operations: vec![row("create-thing", Some(9_000)), row("create-policy", Some(0))],
            binding: Some("create-thing".to_owned()),
            binding_share: 1,
            binding_ms: Some(9_000),
            busy_ms: 30_000,
            ..Quota::default()
        };
        let said = headroom(&quota).join(" ");
        let wanted = "longest at create-thing, 30.00 % of the time in which devices waited for AWS.";
        assert!(said.ends_with(wanted), "{said}");
        assert!(is_notable(&quota.operations[0]) && !is_notable(&quota.operations[1]));
        assert!(quiet(&quota).unwrap().starts_with("1 other operations: 0 calls, none refused or waiting"));
        // A report of before does not say how long; which of them waited is not known.
        (quota.binding_ms, quota.operations) = (None, vec![row("create-thing", None)]);
        assert!(headroom(&quota).join(" ").ends_with("longest at create-thing, 0.01 % of the time."));
        assert!(quiet(&quota).unwrap().contains("0 calls, none refused, all"));
    }

    #[test]
    fn what_a_shared_limit_sums_up_is_counted_once() {
        let row = |operation: &str, calls, throttled| OperationRow {
            operation: operation.to_owned(),
            calls,
            throttled,
            ..OperationRow::default()
        };
        let mut quota = Quota {
            operations: vec![
                row("create-policy", 39, 0),
                row(ACCOUNT, 119, 0),
                row(CERTIFICATES, 80, 0),
                row("register-certificate", 41, 0),
                row("register-certificate-without-ca", 39, 0),
            ],
            ..Quota::default()
        };
        let rest = "none refused or waiting, all below a tenth of their limits.";
        assert_eq!(quiet(&quota), Some(format!("3 operations: 119 calls, {rest}")));
        quota.operations[0].throttled = 1;
        assert_eq!(quiet(&quota), Some(format!("2 other operations: 80 calls, {rest}")));
        quota.operations.truncate(3);
        assert_eq!(quiet(&quota), None);
    }
}
