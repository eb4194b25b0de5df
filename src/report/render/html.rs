//! For the board: one file without script and without network, for the screen in light and dark and for A4.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::model::{Listed, Ratio, Report};
use super::text::{remarks, title};
use super::{milli, number, percent, plain, shares_of_time, span, svg};

const STYLE: &str = include_str!("report.css");

/// Characters of somebody else's sentence.
const MAX_WORDS: usize = 200;

/// The report as a page.
#[must_use]
pub fn render(report: &Report) -> String {
    let closes = report.balance.closes;
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
                header {
                    h1 { (title(report)) span { " · station " (report.station.id) } }
                    p class=(if closes { "headline good" } else { "headline bad" }) { (report.balance.headline()) }
                    @for remark in remarks(report) { p class="note" { (remark) } }
                }
                (head(report))
                section class="two" { (balance(report)) (yields(report)) }
                (pace(report))
                (times(report))
                section class="two" { (downtime(report)) (certificates(report)) }
                (failures(report))
                (exceptions(report))
                (quota(report))
                (stations(report))
                (handover(report))
            }
        }
    };
    page.into_string()
}

fn head(it: &Report) -> Markup {
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let all: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {}", number(*count))).collect();
        if all.is_empty() { "–".to_owned() } else { all.join(", ") }
    };
    html! {
        dl {
            dt { "From" } dd { (it.selection.begin_local) " (" (it.selection.timezone) ")" }
            dt { "To" } dd { (it.selection.end_local) }
            dt { "Products" } dd { (list(&it.products)) }
            dt { "Fixtures" } dd { (list(&it.fixtures)) }
            @if !it.batches.is_empty() { dt { "Batches" } dd { (list(&it.batches)) } }
            dt { "Made" } dd { (it.made_at) ", linemint " (it.station.software) ", configuration " code { (it.station.config.get(..16).unwrap_or(&it.station.config)) } }
            dt { "Journal" } dd { (it.journal.id) ", records " (it.journal.first) "–" (it.journal.last) ", head " (it.journal.head) " " code { (it.journal.head_hash) } }
        }
    }
}

fn balance(it: &Report) -> Markup {
    let balance = &it.balance;
    let ordered = balance.of == "ordered";
    html! {
        div {
            h2 { "Balance" }
            table {
                @for (word, count) in balance.rows() {
                    @if word != "missing" || ordered { tr { td { (word) } td class="n" { (number(count)) } } }
                }
                tr class="sum" { td { "sum" } td class="n" { (number(balance.sum)) } }
                tr class=(if balance.closes { "sum good" } else { "sum bad" }) { td { (balance.of) } td class="n" { (number(balance.total)) } }
                tr class="apart" { td colspan="2" { "apart from that" } }
                @if ordered {
                    tr { td { "not on the order" } td class="n" { (number(balance.extras)) } }
                } @else {
                    tr { td { "presented earlier, passed here" } td class="n" { (number(balance.from_earlier)) } }
                    tr { td { "presented here, passed after its end" } td class="n" { (number(balance.passed_after)) } }
                }
                tr { td { "presented again after passing (" (number(balance.duplicated_devices)) " devices)" } td class="n" { (number(balance.duplicates)) } }
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
        div {
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

fn pace(it: &Report) -> Markup {
    let pace = &it.pace;
    let show = |it: Option<u64>| it.map_or_else(|| "–".to_owned(), span);
    html! {
        section {
            h2 { "Pace" }
            p {
                "Takt " b { (show(pace.takt_ms)) } ", actual " b { (show(pace.actual_ms)) } " a passed device, longest gap " b { (span(pace.longest_gap_ms)) }
                @if let Some(at) = pace.longest_gap_at { " from " (format!("{at:.0}")) }
                "."
            }
            (svg::hours(&pace.hours))
            p class="key" {
                span class="presented" {} " presented  " span class="passed" {} " passed  "
                @if pace.takt_ms.is_some() { span class="target" {} " target" }
            }
        }
    }
}

fn times(it: &Report) -> Markup {
    let show = |it: Option<u64>| it.map_or_else(|| "–".to_owned(), span);
    let parts = shares_of_time(&it.times);
    let sum: u64 = parts.iter().map(|(_, ms)| ms).sum();
    html! {
        section {
            h2 { "Time, presentation to PASS" }
            p { "p50 " b { (show(it.times.p50_ms)) } "   p95 " b { (show(it.times.p95_ms)) } "   p99 " b { (show(it.times.p99_ms)) } "   of " (number(it.times.devices)) " devices" }
            (svg::parts(&parts))
            table {
                @for ((word, ms), class) in parts.iter().zip(["operator", "fixture", "making"]) {
                    tr { td { span class=(format!("key {class}")) {} " " (word) } td class="n" { (span(*ms)) } td class="n" { (percent((ms * 10_000).checked_div(sum))) } }
                }
            }
        }
    }
}

fn downtime(it: &Report) -> Markup {
    html! {
        div {
            h2 { "Downtime" }
            @if it.downtime.is_empty() { p { "None." } }
            table {
                @for row in &it.downtime {
                    tr { td { (row.cause) @if let Some(of) = &row.of { " " (of) } } td class="n" { (number(row.times)) " ×" } td class="n" { (span(row.ms)) } }
                }
            }
            @if it.crashes > 0 {
                p class="note" { "The daemon ended " (it.crashes) " times without saying so; how long it was away then is not known." }
            }
        }
    }
}

fn certificates(it: &Report) -> Markup {
    let all = &it.certificates;
    let rows = [
        ("certificates issued", all.issued),
        ("active in the cloud", all.active),
        ("revoked", all.revoked),
        ("private keys destroyed here", all.keys_destroyed),
        ("private keys waiting for delivery", all.keys_waiting),
        ("passed without an active certificate", all.passed_without_active),
        ("active without a pass", all.active_without_pass),
    ];
    html! {
        div {
            h2 { "Certificates and keys" }
            table { @for (word, count) in rows { tr { td { (word) } td class="n" { (number(count)) } } } }
        }
    }
}

fn failures(it: &Report) -> Markup {
    if it.failures.is_empty() {
        return html! { section { h2 { "Failures" } p { "None." } } };
    }
    html! {
        section {
            h2 { "Failures" }
            (svg::pareto(&it.failures))
            table {
                tr { th { "code" } th class="n" { "times" } th class="n" { "devices" } th class="n" { "share" } th class="n" { "cumulative" } th { "what to do" } }
                @for row in &it.failures {
                    tr {
                        td { (row.code) } td class="n" { (number(row.failures)) } td class="n" { (number(row.devices)) }
                        td class="n" { (percent(Some(row.share))) } td class="n" { (percent(Some(row.cumulative))) } td { (row.remedy) }
                    }
                }
            }
        }
    }
}

fn exceptions(it: &Report) -> Markup {
    let lists = it.exceptions.lists();
    let some = lists.iter().any(|(_, it)| it.count > 0);
    html! {
        section {
            h2 { "Exceptions" }
            @if !some { p { "None." } }
            @for (word, listed) in lists { @if listed.count > 0 { (list(word, listed)) } }
        }
    }
}

fn list(word: &str, listed: &Listed) -> Markup {
    let more = listed.count - listed.devices.len() as u64;
    html! {
        h3 { (word) ": " (number(listed.count)) }
        table class="list" {
            @for it in &listed.devices {
                tr {
                    td { code { (plain(&it.serial, MAX_WORDS)) } }
                    td { @if let Some(at) = it.at { (format!("{at:.0}")) } }
                    td { @if let Some(code) = &it.code { (code) } }
                    td { (plain(&it.why, MAX_WORDS)) }
                }
            }
        }
        @if more > 0 { p class="note" { "These are the first " (listed.devices.len()) "; " (number(more)) " more are in the CSV." } }
    }
}

fn quota(it: &Report) -> Markup {
    let Some(quota) = &it.quota else { return html! {} };
    html! {
        section {
            h2 { "AWS limits" @if let Some(since) = quota.since { ", since " (format!("{since:.0}")) } }
            @if let Some(operation) = &quota.binding {
                p {
                    "Bound by " b { (operation) } ", " (percent(Some(quota.binding_share))) " of the time"
                    @if let Some(more) = quota.more_stations_milli { "; it would carry " (milli(Some(more))) " such stations more" }
                    "."
                }
            }
            table {
                tr { th { "operation" } th class="n" { "limit 1/s" } th class="n" { "calls" } th class="n" { "throttled" } th class="n" { "errors" } th class="n" { "bound" } }
                @for row in &quota.operations {
                    tr {
                        td { (row.operation) } td class="n" { (milli(row.limit_milli)) } td class="n" { (number(row.calls)) }
                        td class="n" { (number(row.throttled)) } td class="n" { (number(row.errors)) } td class="n" { (percent(Some(row.bound_share))) }
                    }
                }
            }
        }
    }
}

fn stations(it: &Report) -> Markup {
    if it.stations.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Stations" }
            table {
                tr { th { "station" } th class="n" { "total" } th class="n" { "good" } th class="n" { "first-pass" } th class="n" { "scrapped" } th class="n" { "quarantined" } th class="n" { "open" } th { "balance" } }
                @for row in &it.stations {
                    tr {
                        td { (row.id) } td class="n" { (number(row.total)) } td class="n" { (number(row.good)) } td class="n" { (number(row.first_pass)) }
                        td class="n" { (number(row.scrapped)) } td class="n" { (number(row.quarantined)) } td class="n" { (number(row.open)) }
                        td { @if row.closes { "closes" } @else { b { "does not close" } } }
                    }
                }
            }
            @for it in &it.twice { p class="note" { code { (plain(&it.serial, MAX_WORDS)) } " is at " (it.stations.join(" and ")) } }
        }
    }
}

fn handover(it: &Report) -> Markup {
    html! {
        section {
            h2 { "Hand-over" }
            @if let Some(state) = &it.handover.state {
                p {
                    "The station is " b { (state) } ", " (number(it.handover.backlog.unwrap_or(0))) " devices unfinished"
                    @if let Some(oldest) = it.handover.oldest_s { ", the oldest for " (span(oldest * 1000)) }
                    "."
                }
            }
            @if it.handover.actions.is_empty() { p { "Nothing is left to do." } }
            ul class="todo" { @for action in &it.handover.actions { li { (plain(action, 4 * MAX_WORDS)) } } }
        }
        section class="sign" {
            h2 { "Sign-off" }
            p { "Prepared by linemint at " (it.station.id) "." }
            p { "Reviewed by " span class="line" {} " at " span class="line" {} }
        }
    }
}
