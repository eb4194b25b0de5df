//! For the board: one file without script and without network, for the screen in light and dark and for A4.
//! First what a line lead has to know, last what an auditor has.

mod sections;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::model::{Ratio, Report};
use super::text::{remarks, title};
use super::{counted, local, number, percent, plain, span, takt};

const STYLE: &str = include_str!("report.css");

/// Characters of somebody else's sentence.
const MAX_WORDS: usize = 200;

/// The report as a page.
#[must_use]
pub fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title(report)) " · " (report.station.id) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                (verdict(report))
                (tiles(report))
                (handover(report))
                div class="two" { (balance(report)) (yields(report)) }
                (sections::pace(report))
                div class="two" { (sections::times(report)) (sections::downtime(report)) }
                (sections::reasons(report, "Failures", &report.failures))
                @if !report.deferrals.is_empty() {
                    (sections::reasons(report, "Deferred, not failed", &report.deferrals))
                }
                (sections::exceptions(report))
                (sections::cloud(report))
                div class="two" { (sections::certificates(report)) (sections::headroom_of(report)) }
                (sections::quota(report))
                (sections::stations(report))
                (sign(report))
                (origin(report))
            }
        }
    };
    page.into_string()
}

fn head(it: &Report) -> Markup {
    let span = &it.selection;
    html! {
        header {
            div {
                h1 { (title(it)) }
                p { "Station " b { (it.station.id) } " · products " (list(&it.products)) " · fixtures " (list(&it.fixtures)) }
                @if !it.batches.is_empty() { p { "Batches " (list(&it.batches)) } }
            }
            div class="end" {
                p { (span.begin_local) }
                p { "to " (span.end_local) }
                p { (span.timezone) }
            }
        }
    }
}

fn list(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let all: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {}", number(*count))).collect();
    if all.is_empty() { "–".to_owned() } else { all.join(", ") }
}

fn verdict(it: &Report) -> Markup {
    let class = |good: bool, more: &str| format!("headline{more} {}", if good { "good" } else { "bad" });
    let sign = |good: bool| if good { "✔ " } else { "✖ " };
    html! {
        p class=(class(it.balance.closes, "")) { (sign(it.balance.closes)) (it.balance.headline()) }
        @if let Some((agrees, headline)) = it.cloud_headline() {
            p class=(class(agrees, " second")) { (sign(agrees)) (headline) }
        }
        @for remark in remarks(it) { p class="note" { (remark) } }
    }
}

/// The figures that are read from three steps away.
fn tiles(it: &Report) -> Markup {
    let (balance, pace) = (&it.balance, &it.pace);
    let late = pace.takt_ms.zip(pace.actual_ms).is_some_and(|(takt, actual)| actual > takt);
    let show = |it: Option<u64>| it.map_or_else(|| "–".to_owned(), span);
    let down = it.downtime.first();
    let actions = it.handover.actions.len();
    let takt = match takt(pace, "").as_str() {
        "" => "no takt set".to_owned(),
        takt => format!("takt {takt}"),
    };
    let tile = |class: &str, figure: String, words: String| {
        html! { div class=(class) { b { (figure) } span { (words) } } }
    };
    html! {
        div class="tiles" {
            (tile("", number(balance.total), balance.of.clone()))
            (tile("fine", number(balance.good()), "good".to_owned()))
            (tile(warn(balance.sum > balance.good()), number(balance.sum - balance.good()), "not good yet, or never".to_owned()))
            (tile("", percent(it.yields.first_pass.share), "first-pass yield".to_owned()))
            (tile("", percent(it.yields.last.share), "final yield".to_owned()))
            (tile(warn(late), show(pace.actual_ms), format!("a good device, {takt}")))
            (tile(warn(down.is_some()), down.map_or_else(|| "none".to_owned(), |it| span(it.ms)), down.map_or_else(|| "downtime".to_owned(), |it| format!("down: {}", cause(it)))))
            (tile(warn(actions > 0), actions.to_string(), "to do".to_owned()))
        }
    }
}

const fn warn(it: bool) -> &'static str {
    if it { "warn" } else { "" }
}

fn cause(it: &super::super::model::Downtime) -> String {
    it.of.as_ref().map_or_else(|| it.cause.clone(), |of| format!("{} {of}", it.cause))
}

fn balance(it: &Report) -> Markup {
    let balance = &it.balance;
    let ordered = balance.of == "ordered";
    let row = |word: &str, count: u64| {
        html! { tr class=(if count == 0 { "nil" } else { "" }) { td { (word) } td class="n" { (number(count)) } } }
    };
    html! {
        section class="whole" {
            h2 { "Balance" }
            table {
                @for (word, count) in balance.rows() {
                    @if word != "missing" || ordered { (row(word, count)) }
                }
                tr class="sum" { td { "sum" } td class="n" { (number(balance.sum)) } }
                tr class="sum" {
                    td { (balance.of) ": " span class=(if balance.closes { "good" } else { "bad" }) { (if balance.closes { "the same" } else { "NOT THE SAME" }) } }
                    td class="n" { (number(balance.total)) }
                }
                tr class="apart" { td colspan="2" { "apart from that" } }
                @if ordered {
                    (row("not on the order", balance.extras))
                } @else {
                    (row("presented earlier, passed here", balance.from_earlier))
                    (row("presented here, passed after its end", balance.passed_after))
                }
                @for (word, count) in balance.absent() { (row(word, count)) }
                (row(&format!("presented again after passing ({})", counted(balance.duplicated_devices, "device")), balance.duplicates))
            }
        }
    }
}

fn yields(it: &Report) -> Markup {
    let all = &it.yields;
    let row = |word: &str, it: &Ratio| {
        html! {
            tr { td { b { (word) } br; small { (it.definition) } } td class="n" { b { (percent(it.share)) } br; small { (number(it.part)) " of " (number(it.whole)) } } }
        }
    };
    html! {
        section class="whole" {
            h2 { "Yield" }
            table {
                (row("First-pass yield", &all.first_pass))
                (row("Final yield", &all.last))
                (row("Of attempts", &all.attempts))
                (row("Re-tested", &all.retest))
                (row("Reworked and good", &all.rework))
            }
        }
    }
}

fn handover(it: &Report) -> Markup {
    let handover = &it.handover;
    html! {
        section class="whole" {
            h2 { "To do, and hand-over" }
            @if let Some(state) = &handover.state {
                p {
                    "The station is " b { (state) } ", " (number(handover.backlog.unwrap_or(0))) " devices unfinished"
                    @if let Some(oldest) = handover.oldest_s { ", the oldest for " (span(oldest * 1000)) }
                    "."
                }
            }
            @if handover.actions.is_empty() { p { "Nothing is left to do." } }
            ul class="todo" { @for action in &handover.actions { li { (commands(&plain(action, 4 * MAX_WORDS))) } } }
        }
    }
}

/// A sentence with what is between backticks as code.
fn commands(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn sign(it: &Report) -> Markup {
    html! {
        section class="sign" {
            h2 { "Sign-off" }
            p { "Prepared by linemint at " (it.station.id) ", " (local(it, it.made_at)) "." }
            p { "Handed over to" span class="line" {} "by" span class="line" {} }
            p { "Reviewed by" span class="line" {} "at" span class="line short" {} }
        }
    }
}

/// What it was made from.
fn origin(it: &Report) -> Markup {
    let journal = &it.journal;
    if !it.stations.is_empty() {
        return html! {
            footer {
                p { "Made " (it.made_at) " by linemint " (it.station.software) " of the stations' signed reports, each of which names its own journal and configuration." }
            }
        };
    }
    let config = it.station.config.get(..16).unwrap_or(&it.station.config);
    html! {
        footer {
            p { "Report version " (it.version) ", made " (it.made_at) " by linemint " (it.station.software) ", configuration " code { (config) } "." }
            p { "Journal " code { (journal.id) } ", records " (journal.first) "–" (journal.last) ", head " (journal.head) ": " code { (journal.head_hash) } }
            p { "The JSON of this report is signed by the station; " code { "linemint report --verify" } " checks it." }
        }
    }
}
