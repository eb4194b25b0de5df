//! The page and its parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, html};

use crate::cloud::Operation;
use crate::control::tally::{Ending, Place, Tally, Today, Unit, Verdict};
use crate::control::{RefusedUnit, StationState, Status};
use crate::device::State;

/// What the board shows.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) status: Arc<Status>,
    pub(super) tally: Arc<Tally>,
    pub(super) now: Timestamp,
    pub(super) takt: Option<Duration>,
    pub(super) timezone: TimeZone,
}

/// What stands large in a nest: a word, a sign and a sentence, so that no colour is needed to tell them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    class: &'static str,
    word: &'static str,
    sign: &'static str,
    serial: Option<String>,
    sentence: String,
    since: Option<Timestamp>,
}

impl Shown {
    /// The whole page.
    pub(super) fn document(&self) -> Markup {
        let status = &self.status;
        html! {
            (DOCTYPE)
            html lang="en" data-version=(env!("CARGO_PKG_VERSION")) data-now=(self.now.as_millisecond()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (status.station) " – linemint" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href="board.css";
                    script src="board.js" defer {}
                }
                body {
                    a.skip href="#nests" { "To the nests" }
                    p #stale role="alert" {}
                    p #said.unseen role="status" aria-live="assertive" {}
                    @for (name, part) in self.parts() {
                        @match name {
                            "head" => header #head { (part) },
                            "nests" => main #nests aria-label="Nests" { (part) },
                            _ => section id=(name) aria-label=(title_of(name)) { (part) },
                        }
                    }
                    noscript { p.note { "Without its script this page does not follow: load it again to see what is new." } }
                }
            }
        }
    }

    /// The parts that change, by the names of their elements.
    pub(super) fn parts(&self) -> [(&'static str, Markup); 5] {
        [
            ("head", self.head()),
            ("nests", self.nests()),
            ("numbers", self.numbers()),
            ("cloud", self.cloud()),
            ("recent", self.recent()),
        ]
    }

    fn head(&self) -> Markup {
        let status = &self.status;
        html! {
            h1 { (status.station) }
            p.state.(status.state.as_str()) { (state_sign(status.state)) " " (status.state.as_str()) }
            @if let Some(batch) = &status.batch { p { "Batch " b { (batch) } } }
            @if let Some(shift) = &self.tally.today(self.now, None).shift { p { "Shift " b { (shift) } } }
            @if !status.reasons.is_empty() {
                ul.reasons { @for reason in &status.reasons { li { (reason) } } }
            }
        }
    }

    /// Every nest that is known of the fixtures that are configured, and every one of these of which none is.
    fn nests(&self) -> Markup {
        let places: Vec<(&str, &str, Option<&Place>)> = self.places();
        html! {
            div.nests.(format!("of{}", places.len().min(6))) {
                @for (fixture, nest, place) in places {
                    (self.nest(&name_of(fixture, nest), &self.said((fixture, nest), place)))
                }
            }
        }
    }

    fn places(&self) -> Vec<(&str, &str, Option<&Place>)> {
        // Before the first status nothing is known of the fixtures.
        let count = self.status.fixtures.len();
        let known = self.tally.places.iter();
        let mut places: BTreeMap<(&str, &str), Option<&Place>> = known
            .map(|((fixture, nest), it)| ((fixture.as_str(), nest.as_str()), Some(it)))
            .filter(|((fixture, _), _)| count == 0 || self.rank(fixture) < count)
            .collect();
        for fixture in &self.status.fixtures {
            for it in &fixture.refused {
                places.entry((&fixture.name, it.nest.as_deref().unwrap_or_default())).or_default();
            }
            if !places.keys().any(|(name, _)| *name == fixture.name) {
                places.insert((&fixture.name, ""), None);
            }
        }
        let mut places: Vec<_> =
            places.into_iter().map(|((fixture, nest), it)| (fixture, nest, it)).collect();
        places.sort_by_key(|(fixture, nest, _)| (self.rank(fixture), *nest));
        places
    }

    /// In the order of the configuration.
    fn rank(&self, fixture: &str) -> usize {
        let fixtures = &self.status.fixtures;
        fixtures.iter().position(|it| it.name == fixture).unwrap_or(fixtures.len())
    }

    fn nest(&self, name: &str, it: &Said) -> Markup {
        let serial = it.serial.as_deref().unwrap_or_default();
        let aloud = format!("{name}: {}. {serial} {}", it.word, it.sentence);
        html! {
            article.nest.(it.class) data-nest=(name) data-said=(aloud) {
                h2 { (name) }
                p.word { span.sign aria-hidden="true" { (it.sign) } span.text { (it.word) } }
                p.serial { @match &it.serial { Some(serial) => { (serial) }, None => { "no unit" } } }
                p.todo { (it.sentence) }
                p.since {
                    @if let Some(since) = it.since { (self.time(since)) } @else { "–" }
                }
            }
        }
    }

    /// A time of day that the script follows with how long ago that is.
    fn time(&self, at: Timestamp) -> Markup {
        let told = at.to_zoned(self.timezone.clone()).strftime("%H:%M:%S").to_string();
        html! { time datetime=(at) data-at=(at.as_millisecond()) { (told) } " " span.ago {} }
    }

    /// What stands large: the newest word of the nest.
    fn said(&self, (fixture, nest): (&str, &str), place: Option<&Place>) -> Said {
        let unit = place.and_then(Place::unit);
        let verdict = place.and_then(|it| it.verdict.as_ref());
        if let Some(refused) = self.refused(fixture, nest).filter(|it| is_newest(it, place)) {
            return self.not_taken(fixture, refused, unit);
        }
        match (unit, verdict) {
            (Some(unit), verdict) => self.waits(unit, verdict),
            (None, Some(verdict)) => self.judged(fixture, verdict),
            (None, None) => {
                let (word, sign, sentence) = self.empty(fixture);
                Said { class: "empty", word, sign, serial: None, sentence, since: None }
            }
        }
    }

    /// The newest unit that was not taken there.
    fn refused(&self, fixture: &str, nest: &str) -> Option<&RefusedUnit> {
        let fixture = self.status.fixtures.iter().find(|it| it.name == fixture)?;
        fixture.refused.iter().find(|it| it.nest.as_deref().unwrap_or_default() == nest)
    }

    /// It is no device of this station by now, or not yet: no verdict, and nothing that is in the journal.
    fn not_taken(&self, fixture: &str, it: &RefusedUnit, waits: Option<&Unit>) -> Said {
        let (class, word, sign) = match it.is_final {
            true => ("refused", "NOT TAKEN", "✖"),
            // The fixture presents it again by itself.
            false => ("wait", "WAIT", "…"),
        };
        let mut sentence = it.message.clone();
        match waits.filter(|unit| unit.serial != it.serial) {
            Some(unit) => sentence = format!("{sentence} {} still waits: leave it in.", unit.serial),
            None if it.is_final => sentence = self.and_then(fixture, sentence),
            None => {}
        }
        Said { class, word, sign, serial: Some(it.serial.clone()), sentence, since: Some(it.since) }
    }

    fn waits(&self, unit: &Unit, verdict: Option<&Verdict>) -> Said {
        let mut sentence = match (self.status.state, unit.state) {
            (StationState::Stopped, _) => "Leave it in. The station waits for help: see above.",
            (_, State::Delivering) => "Leave it in. It is being given its credentials.",
            _ => "Leave it in. Its identity is being made.",
        }
        .to_owned();
        // Where nests are not named, one waits on while another is done.
        if let Some(it) = verdict {
            sentence = match &it.ending {
                Ending::Pass { .. } => format!("{sentence} {} has passed: take that one out.", it.serial),
                Ending::Fail { sentence: told, .. } => format!("{sentence} {} has failed: {told}", it.serial),
            };
        }
        let (serial, since) = (Some(unit.serial.clone()), Some(unit.since));
        Said { class: "wait", word: "WAIT", sign: "…", serial, sentence, since }
    }

    fn judged(&self, fixture: &str, verdict: &Verdict) -> Said {
        let (class, word, sign, sentence) = match &verdict.ending {
            Ending::Pass { again: false } => ("pass", "PASS", "✔", "Take it out: it is done.".to_owned()),
            Ending::Pass { again: true } => {
                ("pass", "PASS", "✔", "Take it out: it was done before.".to_owned())
            }
            Ending::Fail { sentence, .. } => ("fail", "FAIL", "✖", sentence.clone()),
        };
        let sentence = self.and_then(fixture, sentence);
        let (serial, since) = (Some(verdict.serial.clone()), Some(verdict.at));
        Said { class, word, sign, serial, sentence, since }
    }

    /// What is to be known before the next unit is presented, where none is taken.
    fn and_then(&self, fixture: &str, sentence: String) -> String {
        match self.empty(fixture) {
            ("READY", ..) => sentence,
            (.., then) => format!("{sentence} {then}"),
        }
    }

    /// What is said of a nest in which nothing lies.
    fn empty(&self, fixture: &str) -> (&'static str, &'static str, String) {
        let link = self.status.fixtures.iter().find(|it| it.name == fixture);
        let away = link.filter(|it| it.state != "ready");
        match (self.status.state, away) {
            (_, Some(it)) => {
                ("AWAY", "⚠", format!("The fixture is not there ({}): check its cable and power.", it.state))
            }
            (StationState::Draining, _) => {
                ("STOP", "■", "Present nothing: the station takes no new units.".to_owned())
            }
            (StationState::Stopped, _) => {
                ("STOP", "■", "Present nothing: the station waits for help.".to_owned())
            }
            _ => ("READY", "▸", "Present a unit.".to_owned()),
        }
    }

    fn numbers(&self) -> Markup {
        let today = self.tally.today(self.now, self.takt);
        let backlog = &self.status.backlog;
        html! {
            h2 { "This shift" }
            dl {
                div.big { dt { "Passed" } dd { (today.passed) } }
                div { dt { "Failed" } dd { (today.failed) } }
                @if today.deferred > 0 { div { dt { "Deferred" } dd { (today.deferred) } } }
                div { dt { "Yield" } dd { (percent(today.yield_share())) } }
                div { dt { "Passed at once" } dd { (percent(today.first_pass_share())) } }
                div.(pace_class(&today)) { dt { "Pace" } dd { (pace(&today)) } }
                div { dt { "Not finished" } dd { (backlog.devices) } }
                @if backlog.buffered > 0 {
                    div.warn { dt { "Waiting for the cloud" } dd {
                        (backlog.buffered)
                        @if let Some(oldest) = backlog.oldest_s { ", oldest " (minutes(oldest)) }
                    } }
                }
            }
            (sparkline(&today))
        }
    }

    fn cloud(&self) -> Markup {
        let used: Vec<_> =
            self.status.operations.iter().filter(|it| it.calls > 0 || it.waiting > 0).collect();
        // Those that operations share are shown where they hold back.
        let shared = self.status.shared_limits.iter().filter(|it| it.learned);
        let shared: Vec<_> = shared.collect();
        let troubled = !shared.is_empty() || used.iter().any(|it| is_held_back(it.limit, it.ceiling));
        html! {
            h2 { "Cloud" }
            p { @if used.is_empty() { "Not called yet." }
                @else if self.status.state == StationState::Stopped { "■ Nothing goes through: see above." }
                @else if self.is_cloud_troubled() { "⚠ It does not answer as it should: see above." }
                @else if troubled { "⚠ AWS holds calls back: see below." }
                @else { "✔ Its quotas hold nothing back." }
            }
            @if !used.is_empty() {
                div.scroll tabindex="0" role="group" aria-label="Calls and quotas" {
                    table {
                        thead { tr { th scope="col" { "Call" } th scope="col" { "per s" } th scope="col" { "quota" }
                            th scope="col" { "wait" } th scope="col" { "throttled" } } }
                        tbody { @for it in used {
                            @let held_back = is_held_back(it.limit, it.ceiling);
                            tr.(if held_back { "warn" } else { "" }) {
                                th scope="row" { @if held_back { "⚠ " } (it.operation) }
                                td { (format!("{:.1}", it.rate)) }
                                td { (quota(it.limit, it.ceiling)) }
                                td { (it.waiting) }
                                td { (it.throttled) }
                            }
                        }
                        @for it in shared {
                            tr.warn {
                                th scope="row" { "⚠ " (it.name) }
                                td { (format!("{:.1}", it.rate)) }
                                td { (quota(it.limit, it.ceiling)) }
                                td { (it.waiting) }
                                td { "–" }
                            }
                        } }
                    }
                }
            }
        }
    }

    /// Whether a reason is about a call: it begins with the operation's name.
    fn is_cloud_troubled(&self) -> bool {
        let named = self.status.reasons.iter().filter_map(|it| it.split_once(": "));
        named.into_iter().any(|(name, _)| Operation::ALL.iter().any(|it| it.to_string() == name))
    }

    fn recent(&self) -> Markup {
        html! {
            h2 { "Last devices" }
            @if self.tally.recent.is_empty() { p { "None yet." } } @else {
                div.scroll tabindex="0" role="group" aria-label="Last devices" {
                    table {
                        thead { tr { th scope="col" { "When" } th scope="col" { "Device" } th scope="col" { "Nest" }
                            th scope="col" { "Verdict" } th scope="col" { "Took" } } }
                        tbody { @for it in &self.tally.recent { (self.row(it)) } }
                    }
                }
            }
        }
    }

    fn row(&self, it: &Verdict) -> Markup {
        let when = it.at.to_zoned(self.timezone.clone()).strftime("%H:%M:%S").to_string();
        let took = it.took_ms.map(|it| format!("{:.1} s", it as f64 / 1000.0));
        html! {
            tr {
                td { (when) }
                th scope="row" { (it.serial) }
                td { (name_of(&it.fixture, it.nest.as_deref().unwrap_or_default())) }
                @match &it.ending {
                    Ending::Pass { again } => { td.pass { "✔ PASS" @if *again { " again" } } }
                    Ending::Fail { code, deferred, .. } => {
                        td.fail { "✖ FAIL " (code.as_str()) @if *deferred { ", deferred" } }
                    }
                }
                td { (took.unwrap_or_else(|| "–".to_owned())) }
            }
        }
    }
}

/// Whether nothing was presented or said there since.
fn is_newest(refused: &RefusedUnit, place: Option<&Place>) -> bool {
    let presented = place.and_then(Place::unit).map(|it| it.since);
    let judged = place.and_then(|it| it.verdict.as_ref()).map(|it| it.at);
    presented.max(judged).is_none_or(|it| refused.at >= it)
}

fn title_of(part: &str) -> &'static str {
    match part {
        "numbers" => "This shift's figures",
        "cloud" => "Cloud and quotas",
        _ => "Last devices",
    }
}

fn name_of(fixture: &str, nest: &str) -> String {
    if nest.is_empty() { fixture.to_owned() } else { format!("{fixture} · {nest}") }
}

const fn state_sign(state: StationState) -> &'static str {
    match state {
        StationState::Ready => "✔",
        StationState::Starting => "…",
        StationState::Degraded => "⚠",
        StationState::Stopped | StationState::Draining => "■",
    }
}

fn is_held_back(limit: Option<f64>, ceiling: Option<f64>) -> bool {
    limit.zip(ceiling).is_some_and(|(limit, ceiling)| limit < ceiling * 0.99)
}

fn quota(limit: Option<f64>, ceiling: Option<f64>) -> String {
    match (limit, ceiling) {
        (Some(limit), Some(ceiling)) if limit < ceiling * 0.99 => format!("{limit:.1} of {ceiling:.1}"),
        (Some(limit), _) => format!("{limit:.1}"),
        (None, _) => "none".to_owned(),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |it| format!("{:.1} %", 100.0 * it))
}

/// Behind the takt by more than a tenth.
fn is_behind(today: &Today) -> bool {
    today.pace_s.zip(today.takt_s).is_some_and(|(pace, takt)| pace > takt * 1.1)
}

fn pace_class(today: &Today) -> &'static str {
    if is_behind(today) { "warn" } else { "" }
}

fn pace(today: &Today) -> String {
    let pace = today.pace_s.map_or_else(|| "–".to_owned(), |it| format!("one in {it:.1} s"));
    match today.takt_s {
        Some(takt) if is_behind(today) => format!("⚠ {pace}, takt {takt:.1} s"),
        Some(takt) => format!("{pace}, takt {takt:.1} s"),
        None => pace,
    }
}

fn minutes(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

/// Devices a minute over the last hour, as bars; in words for whoever does not see them.
fn sparkline(today: &Today) -> Markup {
    let most = today.minutes.iter().copied().max().unwrap_or(0).max(1);
    let sum: u64 = today.minutes.iter().sum();
    let bars = today.minutes.iter().enumerate().filter(|(_, count)| **count > 0);
    html! {
        svg viewBox="0 0 240 40" preserveAspectRatio="none" role="img"
            aria-label=(format!("{sum} devices passed in the last hour, at most {most} in a minute")) {
            @for (at, count) in bars {
                @let height = count * 38 / most + 2;
                rect x=(at * 4) y=(40 - height) width="3" height=(height) {}
            }
        }
        p.note { "Devices a minute over the last hour" }
    }
}

#[cfg(test)]
mod tests;
