//! The probes that need units, in the order in which they need the fewest.

use std::time::Duration;

use super::desk::Desk;
use super::paper::Paper;
use super::rules::{self, Rule};
use super::watch::Presentation;
use crate::fixture::text::Messages;
use crate::fixture::{Credentials, FailCode, FixtureMessage, MAX_ID, NakCode, StationMessage, Unit};

/// What makes a serial number that is in no nest.
const STRANGER: &str = "FIXTURE-CHECK-STRANGER";

/// How long a unit may store its credentials (the station's `answer_within`).
const STORING: Duration = Duration::from_secs(60);

/// Units that are let pass while one is waited for.
const MAX_PASSED: usize = 50;

/// Why a rule about presentations was not looked at.
const NO_UNIT: &str = "no unit was there to try it with";

/// All of them.
pub(super) async fn all(desk: &Desk, paper: &Paper) {
    pull(desk).await;
    let Some(first) = next_unit(desk, desk.options.patience).await else {
        if !desk.state().watch.findings.has_failed(rules::PULL) {
            let seen = format!("none came within {} s", desk.options.patience.as_secs());
            desk.failed(rules::PRESENTED, seen);
        }
        return;
    };
    desk.ok(rules::PRESENTED, "they come");
    waiting(desk, first).await;
    nests(desk, paper, first).await;
    let Some(first) = postponed(desk, first).await else { return };
    acknowledged(desk, first).await;
    strangers(desk, paper, first).await;
    if stored(desk, paper, first).await {
        verdict(desk, first).await;
    }
    final_nak(desk).await;
    final_fail(desk).await;
    retried(desk, paper).await;
}

/// What is known of a presentation, by whatever id it goes now.
fn about<T>(desk: &Desk, id: u64, read: impl FnOnce(&Presentation) -> T) -> Option<T> {
    let state = desk.state();
    let id = state.watch.now_known_as(id);
    state.watch.presentations.get(&id).map(read)
}

fn unit_of(desk: &Desk, id: u64) -> Unit {
    about(desk, id, |it| it.unit.clone()).unwrap_or(Unit { id, ..Unit::default() })
}

/// A presentation that can be used for the next probe.
fn fresh(desk: &Desk) -> Option<u64> {
    let state = desk.state();
    state.watch.fresh(state.now)
}

/// When `unit` came since.
fn offers(desk: &Desk, id: u64, since: Duration) -> Vec<Duration> {
    let since = |it: &Presentation| it.offers.iter().copied().filter(|at| *at > since).collect();
    about(desk, id, since).unwrap_or_default()
}

/// When `written` came since.
fn reports(desk: &Desk, id: u64, since: Duration) -> Vec<Duration> {
    let since = |it: &Presentation| it.reports.iter().copied().filter(|at| *at > since).collect();
    about(desk, id, since).unwrap_or_default()
}

async fn pull(desk: &Desk) {
    desk.tell("asking for a unit");
    desk.pause(desk.periods(1.0)).await;
    desk.clear();
    let sent = desk.say(&StationMessage::Pull).await;
    let answers = |it: &FixtureMessage| matches!(it, FixtureMessage::Unit(_) | FixtureMessage::Idle);
    let heard = desk.first(sent + desk.answer_time(), answers).await;
    desk.judge(rules::PULL, heard.is_some(), if heard.is_some() { "answered" } else { "nothing came" });
}

/// An unused presentation. Asks for one as the station does, and a person if it takes long.
async fn next_unit(desk: &Desk, patience: Duration) -> Option<u64> {
    let end = desk.now() + patience;
    let mut is_told = false;
    loop {
        if let Some(id) = fresh(desk) {
            if let Some(it) = desk.state().watch.presentations.get_mut(&id) {
                it.is_taken = true;
            }
            return Some(id);
        }
        if desk.now() >= end {
            return None;
        }
        desk.say(&StationMessage::Pull).await;
        let until = (desk.now() + desk.periods(1.0)).min(end);
        while fresh(desk).is_none() && desk.hear(until).await.is_some() {}
        if !std::mem::replace(&mut is_told, true) && fresh(desk).is_none() {
            desk.tell(format!("put a unit into the fixture: it waits up to {} s", patience.as_secs()));
        }
    }
}

/// A second unit, if the fixture has one for another nest; then both are left waiting.
async fn waiting(desk: &Desk, first: u64) {
    if fresh(desk).is_none() {
        let sent = desk.say(&StationMessage::Pull).await;
        let until = sent + desk.periods(1.0);
        while fresh(desk).is_none() && desk.hear(until).await.is_some() {}
    }
    desk.tell("withholding ack");
    desk.pause(desk.periods(1.2)).await;
    let begin = desk.now();
    desk.pause(desk.periods(4.5)).await;
    let came = offers(desk, first, begin);
    let seen = format!("{} times in 4.5 periods", came.len());
    desk.judge(rules::UNIT_REPEATED, came.len() >= 2, &seen);
    one_copy(desk, "unit", &came);
    // What changes meanwhile is seen by the way.
    desk.ok(rules::ID_KEPT, seen);
}

fn one_copy(desk: &Desk, what: &str, came: &[Duration]) {
    let nearest = came.windows(2).map(|it| it[1] - it[0]).min();
    let Some(nearest) = nearest else { return };
    let seen = format!("{what} came again after {} ms", nearest.as_millis());
    desk.judge(rules::ONE_COPY, nearest >= desk.periods(1.0 / 3.0), seen);
}

/// Whether the fixture says it again within so many periods.
async fn says_again(desk: &Desk, id: u64, periods: f64) -> Option<Duration> {
    let begin = desk.now();
    let until = begin + desk.periods(periods).max(desk.answer_time());
    loop {
        if let Some(at) = offers(desk, id, begin).first() {
            return Some(*at);
        }
        desk.hear(until).await?;
    }
}

/// A second presentation goes its whole way while the first waits.
async fn nests(desk: &Desk, paper: &Paper, first: u64) {
    let Some(second) = fresh(desk) else {
        return desk.skipped(rules::NESTS, "no second unit came while the first was waiting");
    };
    desk.tell("a second nest, while the first waits");
    if let Some(it) = desk.state().watch.presentations.get_mut(&second) {
        it.is_taken = true;
    }
    if !pass_quickly(desk, paper, second).await {
        desk.failed(rules::CREDENTIALS, "the second unit was given its own and did not say written");
        return desk.skipped(rules::NESTS, "the second unit came to no end");
    }
    if desk.state().watch.findings.has_failed(rules::UNIT_REPEATED) {
        return desk.skipped(rules::NESTS, "the first unit is not repeated, so that nothing would show");
    }
    let goes_on = says_again(desk, first, 3.0).await.is_some();
    let seen = if goes_on { "both went on" } else { "while one went on the other was silent" };
    desk.judge(rules::NESTS, goes_on, seen);
}

/// The usual way of a unit, without a probe.
async fn pass_quickly(desk: &Desk, paper: &Paper, id: u64) -> bool {
    let unit = unit_of(desk, id);
    desk.say(&StationMessage::Ack { id: unit.id }).await;
    let Ok(credentials) = paper.credentials(&unit) else { return false };
    let is_written = give(desk, &credentials).await;
    if is_written {
        desk.say(&pass(&unit)).await;
    }
    is_written
}

fn pass(unit: &Unit) -> StationMessage {
    StationMessage::Pass { id: unit.id, serial: unit.serial.clone(), again: false }
}

fn fail(unit: &Unit, code: FailCode) -> StationMessage {
    let message = Messages::default().fail(code, "");
    StationMessage::Fail { id: unit.id, serial: unit.serial.clone(), code, message, retry: code.may_retry() }
}

fn nak(id: Option<u64>, code: NakCode) -> StationMessage {
    StationMessage::Nak { id, code, message: Messages::default().nak(code, "") }
}

/// Says `credentials` as the station does, until the unit has an answer. Whether it was `written`.
async fn give(desk: &Desk, credentials: &Credentials) -> bool {
    let id = credentials.id;
    let begin = desk.now();
    while desk.now() < begin + STORING {
        let sent = desk.say(&StationMessage::Credentials(credentials.clone())).await;
        let until = sent + desk.periods(1.0);
        loop {
            if !reports(desk, id, begin).is_empty() {
                return true;
            }
            if about(desk, id, |it| it.write_failed.is_some() || it.is_gone).unwrap_or(true) {
                return false;
            }
            if desk.hear(until).await.is_none() {
                break;
            }
        }
    }
    false
}

/// Answers that are not final. The unit to go on with: another one if the first took them for final.
async fn postponed(desk: &Desk, first: u64) -> Option<u64> {
    desk.tell("busy, draining, bad-frame");
    for (rule, code) in [
        (rules::BUSY, NakCode::Busy),
        (rules::DRAINING, NakCode::Draining),
        (rules::BAD_FRAME, NakCode::BadFrame),
    ] {
        // Just after it was said, so that a copy on its way is not taken for an answer.
        if says_again(desk, first, 3.0).await.is_none() {
            desk.skipped(rule, "the unit was not said any more");
            continue;
        }
        let said = desk.say(&nak(Some(unit_of(desk, first).id), code)).await;
        let again = says_again(desk, first, 3.0).await;
        match again.map(|at| at.saturating_sub(said)) {
            None => desk.failed(rule, "the unit was not said again"),
            Some(after) if after < desk.periods(1.0 / 3.0) && code != NakCode::BadFrame => {
                desk.failed(rule, format!("said again after {} ms: too soon", after.as_millis()));
            }
            Some(after) => desk.ok(rule, format!("said again after {} ms", after.as_millis())),
        }
    }
    let is_lost = [rules::BUSY, rules::DRAINING, rules::BAD_FRAME];
    let is_lost = is_lost.iter().any(|it| desk.state().watch.findings.has_failed(it));
    if is_lost && says_again(desk, first, 3.0).await.is_none() {
        return next_unit(desk, desk.options.patience).await;
    }
    Some(first)
}

async fn acknowledged(desk: &Desk, first: u64) {
    desk.tell("ack, and nothing after it");
    if says_again(desk, first, 3.0).await.is_none() {
        return desk.skipped(rules::ACKED_SLOWLY, "the unit was not said any more");
    }
    let said = desk.say(&StationMessage::Ack { id: unit_of(desk, first).id }).await;
    // One may have been on its way.
    let begin = said + desk.periods(1.0 / 3.0);
    let end = said + desk.periods(8.0);
    while offers(desk, first, begin).is_empty() && desk.hear(end).await.is_some() {}
    match offers(desk, first, begin).first().map(|at| *at - said) {
        None => desk.failed(rules::ACKED_SLOWLY, "the unit was not said again in 8 periods"),
        Some(after) => {
            let seen = format!("said again after {} ms", after.as_millis());
            desk.judge(rules::ACKED_SLOWLY, after > desk.periods(2.5), seen);
        }
    }
}

/// Credentials that are not for the unit in the nest.
async fn strangers(desk: &Desk, paper: &Paper, first: u64) {
    desk.tell("credentials for somebody else");
    let unit = unit_of(desk, first);
    let wrong_id = Unit { id: unused_id(desk), ..unit.clone() };
    let wrong_serial = Unit { serial: STRANGER.to_owned(), ..unit };
    for (rule, stranger) in [(rules::WRONG_ID, wrong_id), (rules::WRONG_SERIAL, wrong_serial)] {
        let Ok(credentials) = paper.credentials(&stranger) else { return };
        desk.clear();
        let sent = desk.say(&StationMessage::Credentials(credentials)).await;
        let wanted = |it: &FixtureMessage| matches!(it, FixtureMessage::Removed { id, serial } if *id == stranger.id && *serial == stranger.serial);
        let answer = desk.first(sent + desk.answer_time(), wanted).await;
        let seen = if answer.is_some() { "answered removed" } else { "removed did not come" };
        desk.judge(rule, answer.is_some(), seen);
        // An answer that is said again, or a certificate stored in the wrong unit, shows by the way.
        desk.pause(desk.periods(1.5)).await;
    }
}

fn unused_id(desk: &Desk) -> u64 {
    let state = desk.state();
    (1..MAX_ID).rev().find(|id| !state.watch.presentations.contains_key(id)).unwrap_or(MAX_ID)
}

/// The right credentials: stored, reported, reported again, and again when they come again.
async fn stored(desk: &Desk, paper: &Paper, first: u64) -> bool {
    desk.tell("credentials; then withholding the verdict");
    let unit = unit_of(desk, first);
    let Ok(credentials) = paper.credentials(&unit) else { return false };
    if !give(desk, &credentials).await {
        let reason = about(desk, first, |it| it.write_failed.clone()).flatten();
        desk.failed(
            rules::CREDENTIALS,
            reason.map_or("no written came".to_owned(), |it| format!("the unit could not store them: {it}")),
        );
        return false;
    }
    desk.ok(rules::CREDENTIALS, "written came");
    // A last copy of ours may be answered still.
    desk.pause(desk.periods(0.5)).await;
    let begin = desk.now();
    desk.pause(desk.periods(4.5)).await;
    let came = reports(desk, first, begin);
    desk.judge(rules::WRITTEN_REPEATED, came.len() >= 2, format!("{} times in 4.5 periods", came.len()));
    one_copy(desk, "written", &came);
    same_again(desk, &credentials).await;
    foreign_verdicts(desk, first).await
}

async fn same_again(desk: &Desk, credentials: &Credentials) {
    let id = credentials.id;
    reported_again(desk, id, 3.0).await;
    let begin = desk.now();
    let sent = desk.say(&StationMessage::Credentials(credentials.clone())).await;
    // Sooner than it would be repeated anyhow.
    let until = sent + desk.periods(0.8);
    while reports(desk, id, begin).is_empty() && desk.hear(until).await.is_some() {}
    let answered = !reports(desk, id, begin).is_empty();
    let seen = if answered { "answered written" } else { "not answered before the next repetition" };
    desk.judge(rules::SAME_AGAIN, answered, seen);
}

async fn reported_again(desk: &Desk, id: u64, periods: f64) -> bool {
    let begin = desk.now();
    let until = begin + desk.periods(periods).max(desk.answer_time());
    while reports(desk, id, begin).is_empty() && desk.hear(until).await.is_some() {}
    !reports(desk, id, begin).is_empty()
}

/// Verdicts for others. Whether the unit is still waiting for its own.
async fn foreign_verdicts(desk: &Desk, first: u64) -> bool {
    if desk.state().watch.findings.has_failed(rules::WRITTEN_REPEATED) {
        desk.skipped(rules::FOREIGN_VERDICT, "written is not repeated, so that nothing would show");
        return true;
    }
    let unit = unit_of(desk, first);
    let wrong_serial = Unit { serial: STRANGER.to_owned(), ..unit.clone() };
    let wrong_id = Unit { id: unused_id(desk), ..unit };
    for verdict in [pass(&wrong_serial), fail(&wrong_id, FailCode::Mismatch), pass(&wrong_id)] {
        desk.say(&verdict).await;
        // What was on its way.
        desk.pause(desk.periods(1.0 / 3.0)).await;
        if !reported_again(desk, first, 3.0).await {
            desk.failed(rules::FOREIGN_VERDICT, "a verdict for another unit was taken for its own");
            return false;
        }
    }
    desk.ok(rules::FOREIGN_VERDICT, "it went on");
    true
}

async fn verdict(desk: &Desk, first: u64) {
    desk.tell("pass");
    let said = desk.say(&pass(&unit_of(desk, first))).await;
    ends(desk, rules::PASS_ENDS, first, said).await;
}

/// Nothing may be said of the presentation any more.
async fn ends(desk: &Desk, rule: &Rule, id: u64, said: Duration) {
    desk.pause(desk.periods(3.0)).await;
    let begin = said + desk.periods(0.5);
    let late = offers(desk, id, begin).len() + reports(desk, id, begin).len();
    let seen = if late == 0 { "silence in 3 periods".to_owned() } else { format!("it went on {late} times") };
    desk.judge(rule, late == 0, seen);
}

async fn final_nak(desk: &Desk) {
    desk.tell("a final nak");
    let Some(id) = next_unit(desk, desk.options.patience).await else {
        return desk.skipped(rules::NAK_ENDS, NO_UNIT);
    };
    let said = desk.say(&nak(Some(id), NakCode::Duplicate)).await;
    ends(desk, rules::NAK_ENDS, id, said).await;
}

async fn final_fail(desk: &Desk) {
    desk.tell("fail without retry");
    let Some(id) = next_unit(desk, desk.options.patience).await else {
        return desk.skipped(rules::FAIL_FINAL, NO_UNIT);
    };
    let unit = unit_of(desk, id);
    let said = desk.say(&fail(&unit, FailCode::Rejected)).await;
    desk.state().watch.give_up(&unit.serial, said);
    ends(desk, rules::FAIL_ENDS, id, said).await;
}

/// `fail` with retry after the unit has stored something: it comes again, and says what it holds.
async fn retried(desk: &Desk, paper: &Paper) {
    desk.tell("fail with retry");
    let Some(id) = next_unit(desk, desk.options.patience).await else {
        return desk.skipped(rules::FAIL_AGAIN, NO_UNIT);
    };
    let unit = unit_of(desk, id);
    desk.say(&StationMessage::Ack { id }).await;
    if let Ok(credentials) = paper.credentials(&unit) {
        give(desk, &credentials).await;
    }
    let said = desk.say(&fail(&unit, FailCode::Timeout)).await;
    ends(desk, rules::FAIL_ENDS, id, said).await;
    desk.tell("waiting for it to come again");
    let wait = desk.options.patience.min(desk.periods(15.0));
    let end = desk.now() + wait;
    for _ in 0..MAX_PASSED {
        // Units that wait for a free nest may come first, and are let pass.
        match next_unit(desk, end.saturating_sub(desk.now())).await {
            Some(it) if unit_of(desk, it).serial == unit.serial => {
                desk.ok(rules::FAIL_AGAIN, "it came again");
                break;
            }
            Some(it) => drop(pass_quickly(desk, paper, it).await),
            None => {
                let seen =
                    format!("it did not come within {} s; a person may have to present it", wait.as_secs());
                desk.skipped(rules::FAIL_AGAIN, seen);
                break;
            }
        }
    }
    // What was given up has had all this time to come again.
    desk.pause(desk.periods(2.0)).await;
    let untold = desk.state().watch.findings.of(rules::FAIL_FINAL).is_none();
    if untold {
        desk.ok(rules::FAIL_FINAL, "it did not come again");
    }
}
