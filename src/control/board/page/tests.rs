use super::*;
use crate::control::tally::Folder;
use crate::control::tests::{admitted_at, nest_event};
use crate::control::{Backlog, FixtureStatus, OperationStatus, RefusedUnit, SharedLimitStatus};
use crate::device::event::{Event, Waited};
use crate::device::serial::SerialNumber;
use crate::fixture::FailCode;
use crate::journal::{Record, What};
use crate::shift::Calendar;
use crate::shift::Shift;

fn now() -> Timestamp {
    "2026-11-22T09:00:00Z".parse().unwrap()
}

fn fixture(name: &str, state: &str) -> FixtureStatus {
    FixtureStatus { name: name.to_owned(), state: state.to_owned(), ..FixtureStatus::default() }
}

fn shown(status: Status, events: Vec<(&str, Event)>) -> Shown {
    let calendar =
        Calendar { shifts: vec![Shift::whole_day()], timezone: TimeZone::UTC, days_off: Default::default() };
    let mut folder = Folder::new(calendar, 0, 0, now());
    for (seq, (serial, event)) in (1..).zip(events) {
        let serial = Some(SerialNumber::parse(serial).unwrap());
        folder.fold(&Record { seq, at: now(), serial, what: What::Device(event) });
    }
    let tally = Arc::new(folder.tally().clone());
    Shown { status: Arc::new(status), tally, now: now(), takt: None, timezone: TimeZone::UTC }
}

fn ready() -> Status {
    Status {
        station: "L3-S07".to_owned(),
        state: StationState::Ready,
        fixtures: vec![fixture("nest-1", "ready")],
        ..Status::default()
    }
}

fn part(shown: &Shown, name: &str) -> String {
    let parts = shown.parts();
    parts.into_iter().find(|it| it.0 == name).unwrap().1.into_string()
}

fn failed(id: u64) -> Event {
    let message = "no <answer>".to_owned();
    Event::Failed { presentation: nest_event(id), code: FailCode::WriteFailed, message }
}

#[test]
fn a_nest_tells_its_verdict_by_word_sign_and_sentence() {
    let passed = Event::Passed {
        presentation: nest_event(2),
        directory: None,
        label: false,
        waited: Waited::default(),
    };
    let shown = shown(
        ready(),
        vec![
            ("SN-1", admitted_at(1, Some("A"), None)),
            ("SN-1", failed(1)),
            ("SN-2", admitted_at(2, Some("B"), None)),
            ("SN-2", passed),
            ("SN-3", admitted_at(3, Some("C"), None)),
        ],
    );
    let nests = part(&shown, "nests");
    for (nest, word, sign, todo) in [
        ("nest-1 · A", "FAIL", "✖", "Seat the unit again and present it once more. (no &lt;answer&gt;)"),
        ("nest-1 · B", "PASS", "✔", "Take it out: it is done."),
        ("nest-1 · C", "WAIT", "…", "Leave it in. Its identity is being made."),
    ] {
        let (_, from) = nests.split_once(&format!("data-nest=\"{nest}\"")).unwrap();
        let article = from.split_once("</article>").unwrap().0;
        assert!(article.contains(&format!("{nest}: {word}. SN-")), "{article}");
        assert!(article.contains(&format!(">{sign}</span><span class=\"text\">{word}</span>")), "{article}");
        assert!(article.contains(&format!("<p class=\"todo\">{todo}</p>")), "{article}");
    }
    let recent = part(&shown, "recent");
    assert!(recent.contains("✔ PASS") && recent.contains("✖ FAIL write-failed"), "{recent}");
    let numbers = part(&shown, "numbers");
    assert!(numbers.contains("<dt>Yield</dt><dd>50.0 %</dd>") && !numbers.contains("Deferred"), "{numbers}");
}

#[test]
fn a_unit_that_goes_to_the_rack_hears_fail_and_is_counted_as_deferred() {
    let (presentation, waited) = (nest_event(1), Waited::default());
    let (code, message) = (FailCode::Offline, String::new());
    let deferred = Event::Deferred { presentation, code, message, waited };
    let shown = shown(ready(), vec![("SN-1", admitted_at(1, Some("A"), None)), ("SN-1", deferred)]);
    let (nests, numbers) = (part(&shown, "nests"), part(&shown, "numbers"));
    assert!(nests.contains("nest-1 · A: FAIL. SN-1"), "the nest says what the unit was told: {nests}");
    let counts = "<dt>Failed</dt><dd>0</dd></div><div><dt>Deferred</dt><dd>1</dd></div>";
    assert!(numbers.contains(counts), "{numbers}");
    assert!(numbers.contains("<dt>Yield</dt><dd>–</dd>"), "{numbers}");
    let recent = part(&shown, "recent");
    assert!(recent.contains("✖ FAIL offline, deferred"), "{recent}");
}

fn refused(serial: &str, nest: Option<&str>, is_final: bool) -> RefusedUnit {
    let (code, message) = match is_final {
        true => ("not-expected", "Put the unit <aside>."),
        false => ("busy", "Wait, then present the unit again."),
    };
    let nest = nest.map(str::to_owned);
    let (since, at) = (now(), now());
    RefusedUnit {
        nest,
        serial: serial.to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
        is_final,
        since,
        at,
    }
}

fn with(refused: Vec<RefusedUnit>) -> Status {
    Status { fixtures: vec![FixtureStatus { refused, ..fixture("nest-1", "ready") }], ..ready() }
}

fn passed(id: u64) -> Event {
    let (presentation, waited) = (nest_event(id), Waited::default());
    Event::Passed { presentation, directory: None, label: false, waited }
}

#[test]
fn a_unit_that_is_not_taken_has_its_word_instead_of_the_one_before_it() {
    let events = || vec![("SN-1", admitted_at(1, Some("A"), None)), ("SN-1", passed(1))];
    let nests = part(&shown(with(vec![refused("SN-2", Some("A"), true)]), events()), "nests");
    assert!(nests.contains("nest-1 · A: NOT TAKEN. SN-2 Put the unit &lt;aside&gt;."), "{nests}");
    assert!(
        nests.contains(">✖</span><span class=\"text\">NOT TAKEN</span>") && !nests.contains("PASS"),
        "{nests}"
    );
    let nests = part(&shown(with(vec![refused("SN-2", Some("A"), false)]), events()), "nests");
    assert!(
        nests.contains("nest-1 · A: WAIT. SN-2 Wait, then present") && !nests.contains("PASS"),
        "{nests}"
    );
    // In a nest of which nothing else is known, and in one that has no name.
    let none = with(vec![refused("SN-3", Some("B"), true), refused("SN-4", None, true)]);
    let nests = part(&shown(none, events()), "nests");
    for wanted in ["nest-1: NOT TAKEN. SN-4", "nest-1 · A: PASS. SN-1", "nest-1 · B: NOT TAKEN. SN-3"] {
        assert!(nests.contains(wanted), "{wanted} in {nests}");
    }
    // What was said or presented since is newer.
    let mut before = refused("SN-2", Some("A"), true);
    before.at = now() - jiff::Span::new().seconds(1);
    let nests = part(&shown(with(vec![before]), events()), "nests");
    assert!(nests.contains("nest-1 · A: PASS. SN-1"), "{nests}");
}

#[test]
fn where_nests_have_no_names_who_waits_is_not_hidden() {
    let both = || vec![("SN-1", admitted_at(1, None, None)), ("SN-2", admitted_at(2, None, None))];
    let nests = part(&shown(ready(), [both(), vec![("SN-2", passed(2))]].concat()), "nests");
    assert!(nests.contains("nest-1: WAIT. SN-1 Leave it in."), "{nests}");
    assert!(nests.contains("SN-2 has passed: take that one out."), "{nests}");
    let nests = part(&shown(with(vec![refused("SN-3", None, true)]), both()), "nests");
    assert!(nests.contains("nest-1: NOT TAKEN. SN-3"), "{nests}");
    assert!(nests.contains("SN-2 still waits: leave it in."), "{nests}");
}

#[test]
fn a_verdict_says_too_that_no_other_unit_is_taken() {
    let status = Status { state: StationState::Draining, ..ready() };
    let nests =
        part(&shown(status, vec![("SN-1", admitted_at(1, None, None)), ("SN-1", passed(1))]), "nests");
    assert!(
        nests.contains("Take it out: it is done. Present nothing: the station takes no new units."),
        "{nests}"
    );
}

#[test]
fn an_empty_nest_says_what_to_do_by_what_the_station_can_do() {
    let empty = |state, link: &str| {
        let status = Status { state, fixtures: vec![fixture("nest-1", link)], ..ready() };
        part(&shown(status, vec![]), "nests")
    };
    assert!(empty(StationState::Ready, "ready").contains("Present a unit."));
    assert!(empty(StationState::Ready, "closed").contains("The fixture is not there (closed)"));
    assert!(
        empty(StationState::Draining, "ready").contains("Present nothing: the station takes no new units.")
    );
    assert!(empty(StationState::Stopped, "ready").contains("Present nothing: the station waits for help."));
}

#[test]
fn trouble_is_told_in_words_and_nothing_foreign_becomes_markup() {
    let throttled = OperationStatus {
        operation: "create-policy".to_owned(),
        calls: 9,
        throttled: 4,
        limit: Some(4.5),
        ceiling: Some(10.0),
        ..OperationStatus::default()
    };
    let status = Status {
        state: StationState::Degraded,
        reasons: vec!["AWS said <script>alert(1)</script>".to_owned()],
        operations: vec![throttled],
        backlog: Backlog { devices: 7, buffered: 3, oldest_s: Some(600) },
        ..ready()
    };
    let page = shown(status, vec![]).document().into_string();
    assert!(page.contains("AWS said &lt;script&gt;") && !page.contains("<script>alert"));
    for wanted in ["⚠ degraded", "⚠ AWS holds calls back", "4.5 of 10.0", "3, oldest 10 min"] {
        assert!(page.contains(wanted), "{wanted} in {page}");
    }
}

#[test]
fn a_limit_over_the_whole_account_is_shown_while_it_holds_back() {
    let used =
        OperationStatus { operation: "create-thing".to_owned(), calls: 3, ..OperationStatus::default() };
    let account = SharedLimitStatus {
        name: "account".to_owned(),
        limit: Some(15.04),
        learned: true,
        rate: 14.6,
        waiting: 12,
        ..SharedLimitStatus::default()
    };
    let said = |account: SharedLimitStatus| {
        let status = Status { operations: vec![used.clone()], shared_limits: vec![account], ..ready() };
        part(&shown(status, Vec::new()), "cloud")
    };
    let page = said(account.clone());
    for wanted in ["⚠ AWS holds calls back", "⚠ account", "<td>14.6</td><td>15.0</td><td>12</td>"] {
        assert!(page.contains(wanted), "{wanted} in {page}");
    }
    let page = said(SharedLimitStatus { limit: None, learned: false, ..account });
    assert!(page.contains("✔") && !page.contains("account"), "{page}");
}

#[test]
fn the_pace_is_held_against_the_takt() {
    let mut today = Today { pace_s: Some(15.0), takt_s: Some(15.0), ..Today::default() };
    assert_eq!((pace(&today).as_str(), pace_class(&today)), ("one in 15.0 s, takt 15.0 s", ""));
    today.pace_s = Some(17.0);
    assert_eq!((pace(&today).as_str(), pace_class(&today)), ("⚠ one in 17.0 s, takt 15.0 s", "warn"));
    today.takt_s = None;
    assert_eq!((pace(&today).as_str(), pace_class(&today)), ("one in 17.0 s", ""));
}

#[test]
fn the_page_needs_nobody_else_and_nothing_that_its_policy_forbids() {
    let fixtures = (0..8).map(|it| fixture(&format!("nest-{it}"), "ready")).collect();
    let admitted = (1..=40).flat_map(|id| [("SN-1", admitted_at(id, Some("A"), None)), ("SN-1", failed(id))]);
    let shown = shown(Status { fixtures, ..ready() }, admitted.collect());
    let page = shown.document().into_string();
    let (style, script) = (super::super::STYLE, super::super::SCRIPT);
    assert!(page.len() + style.len() + script.len() < 100_000, "{} bytes", page.len());
    for text in [&page, style, script] {
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("url("));
    }
    assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick"));
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("✖ FAIL").count(), 20, "the last twenty");
    // Each place that the script fills by a part's name is there once.
    for (name, _) in shown.parts() {
        assert_eq!(page.matches(&format!(" id=\"{name}\"")).count(), 1, "{name}");
    }
}

#[test]
fn a_cloud_that_does_not_answer_is_not_said_to_be_well() {
    let used =
        OperationStatus { operation: "create-thing".to_owned(), calls: 3, ..OperationStatus::default() };
    let reasons = |it: &str| vec![it.to_owned()];
    let well = Status { operations: vec![used], ..ready() };
    let said = |status: &Status| part(&shown(status.clone(), Vec::new()), "cloud");
    assert!(said(&well).contains("✔"), "{}", said(&well));
    let disk = Status { reasons: reasons("the station's disk is nearly full: x"), ..well.clone() };
    assert!(said(&disk).contains("✔"), "{}", said(&disk));
    let away = Status { reasons: reasons("CreateThing: AWS cannot be reached: refused"), ..well };
    assert!(said(&away).contains("⚠ It does not answer") && !said(&away).contains("✔"), "{}", said(&away));
}

#[test]
fn nests_of_a_fixture_that_is_not_configured_any_more_are_not_shown() {
    let all = shown(ready(), vec![("SN-1", admitted_at(1, Some("A"), None))]);
    assert!(part(&all, "nests").contains("nest-1 · A"));
    let others = Status { fixtures: vec![fixture("nest-2", "ready")], ..ready() };
    let less = part(&shown(others, vec![("SN-1", admitted_at(1, Some("A"), None))]), "nests");
    assert!(!less.contains("nest-1") && less.contains("nest-2"), "{less}");
}
