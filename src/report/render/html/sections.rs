//! The sections of the page, each a heading with a chart or a table.

use maud::{Markup, html};

use super::super::super::model::{CloudFinding, FailureRow, Listed, Report};
use super::super::{
    at_work, cloud_remarks, counted, headroom, hundredths, is_notable, limit, local, meaning, milli, number,
    percent, plain, quiet, rest_of, shares_of_time, span, svg, takt, unsaid,
};
use super::{MAX_WORDS, cause};

pub(super) fn pace(it: &Report) -> Markup {
    let pace = &it.pace;
    let show = |it: Option<u64>| it.map_or_else(|| "–".to_owned(), span);
    let lost = pace.hours.iter().any(|it| it.down_ms > 0);
    html! {
        section class="whole" {
            h2 { "Pace" }
            p {
                "Takt " b { (takt(pace, "–")) } ", actual " b { (show(pace.actual_ms)) } " a passed device, longest gap " b { (span(pace.longest_gap_ms)) }
                @if let Some(at) = pace.longest_gap_at { " from " (local(it, at)) }
                "."
            }
            (svg::hours(&pace.hours))
            p class="key" {
                i class="presented" {} "presented" i class="passed" {} "passed"
                @if pace.takt_ms.is_some() { i class="target" {} "target, and how far from it" }
                @if lost { i class="down" {} "down" }
            }
            (bad_hours(it))
        }
    }
}

/// The hours in which something was lost: what a lead is asked about.
fn bad_hours(it: &Report) -> Markup {
    let bad = |it: &&super::super::super::model::Hour| it.down_ms > 0 || it.failed + it.deferred > 0;
    let rows: Vec<_> = it.pace.hours.iter().filter(bad).collect();
    html! {
        @if !rows.is_empty() && rows.len() <= 24 {
            table {
                tr { th { "from" } th class="n" { "passed" } th class="n" { "target" } th class="n" { "failed" } th class="n" { "deferred" } th class="n" { "down" } th { "mostly" } }
                @for row in rows {
                    tr {
                        td { (row.label) } td class="n" { (number(row.passed)) } td class="n" { (row.target.map_or_else(|| "–".to_owned(), number)) }
                        td class="n" { (number(row.failed)) } td class="n" { (number(row.deferred)) } td class="n" { @if row.down_ms > 0 { (span(row.down_ms)) } @else { "–" } }
                        td { (row.cause.as_deref().unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

pub(super) fn times(it: &Report) -> Markup {
    let show = |it: Option<u64>| it.map_or_else(|| "–".to_owned(), span);
    let parts = shares_of_time(&it.times);
    let sum: u64 = parts.iter().map(|it| it.2).sum();
    html! {
        section class="whole" {
            h2 { "Time, presentation to PASS" }
            p { "p50 " b { (show(it.times.p50_ms)) } " · p95 " b { (show(it.times.p95_ms)) } " · p99 " b { (show(it.times.p99_ms)) } " of " (number(it.times.devices)) " devices; all together:" }
            (svg::parts(&parts))
            table {
                @for (word, meaning, ms) in parts {
                    tr class=(if ms == 0 { "nil" } else { "" }) {
                        td { i class=(word) {} b { (word) } " " small { (meaning) } }
                        td class="n" { (span(ms)) } td class="n" { (percent((ms * 10_000).checked_div(sum))) }
                    }
                }
            }
        }
    }
}

pub(super) fn downtime(it: &Report) -> Markup {
    let most = it.downtime.first().map_or(0, |it| it.ms);
    html! {
        section class="whole" {
            h2 { "Downtime" }
            @if it.downtime.is_empty() { p { "None." } }
            table {
                @for row in &it.downtime {
                    tr { td { (cause(row)) @if !meaning(row).is_empty() { br; small { (meaning(row)) } } } td class="bar" { (svg::bar("down", row.ms, most)) } td class="n" { (number(row.times)) " ×" } td class="n" { (span(row.ms)) } }
                }
            }
            @if it.downtime.len() > 1 { p class="note" { "What overlaps counts each for itself." } }
            @if it.crashes > 0 {
                p class="note" { (unsaid(it.crashes)) }
            }
        }
    }
}

pub(super) fn reasons(it: &Report, title: &str, rows: &[FailureRow]) -> Markup {
    if rows.is_empty() {
        return html! { section { h2 { (title) } p { "None." } } };
    }
    let most = rows.first().map_or(0, |it| it.failures);
    let when = |row: &FailureRow| {
        let times: Vec<_> = row.first.into_iter().chain(row.last).map(|at| local(it, at)).collect();
        times.join(" – ")
    };
    html! {
        section {
            h2 { (title) }
            table {
                tr { th { "code" } th {} th class="n" { "times" } th class="n" { "devices" } th class="n" { "share" } th class="n" { "cumulative" } th { "first and last" } th { "what to do" } }
                @for (rank, row) in rows.iter().enumerate() {
                    tr {
                        td class="code" { b { (row.code) } } td class="bar" { (svg::bar("failed", row.failures, most)) }
                        td class="n" { (number(row.failures)) } td class="n" { (number(row.devices)) }
                        td class="n" { (percent(Some(row.share))) } td class="n" { (percent(Some(row.cumulative))) }
                        td class="when" { (when(row)) } td { @if rank < 3 { (row.remedy) } }
                    }
                }
            }
        }
    }
}

pub(super) fn exceptions(it: &Report) -> Markup {
    let lists = it.exceptions.lists();
    let more = it.overridden().saturating_sub(it.overrides.len() as u64);
    let some = it.overridden() > 0 || lists.iter().any(|(_, it)| it.count > 0);
    html! {
        section {
            h2 { "Exceptions" }
            @if !some { p { "None." } }
            @for (word, listed) in lists { @if listed.count > 0 { (list(it, word, listed)) } }
            @if it.overridden() > 0 {
                h3 { "Orders to the station, against one of its rules: " (number(it.overridden())) }
                table class="list wide" {
                    @for order in &it.overrides {
                        tr {
                            td { (local(it, order.at)) } td { (plain(&order.who, MAX_WORDS)) }
                            td { (plain(&order.what, MAX_WORDS)) " (" (plain(&order.why, MAX_WORDS)) ")" }
                        }
                    }
                }
                @if more > 0 { p class="note" { (number(more)) " more are in the journal." } }
            }
        }
    }
}

fn list(report: &Report, word: &str, listed: &Listed) -> Markup {
    let more = listed.count - listed.devices.len() as u64;
    html! {
        h3 { (word) ": " (number(listed.count)) }
        table class="list" {
            @for it in &listed.devices {
                tr {
                    td { code { (plain(&it.serial, MAX_WORDS)) } }
                    td { @if let Some(at) = it.at { (local(report, at)) } }
                    td { @if let Some(code) = &it.code { (code) } }
                    td { (plain(&it.why, MAX_WORDS)) }
                }
            }
        }
        @if more > 0 { p class="note" { "These are the first " (listed.devices.len()) "; " (number(more)) " more: see " (rest_of(report, word)) "." } }
    }
}

/// What the account was found to hold.
pub(super) fn cloud(it: &Report) -> Markup {
    let Some(cloud) = &it.cloud else { return html! {} };
    let found: u64 = cloud.findings.values().sum();
    let more = found.saturating_sub(cloud.devices.len() as u64);
    html! {
        section {
            h2 { "Cloud, as it was at " (local(it, cloud.at)) }
            p {
                (number(cloud.selected)) " devices selected, " b { (number(cloud.compared)) } " held against the account, "
                (number(cloud.in_flight)) " in flight, " (number(cloud.unread)) " could not be read, "
                b { (counted(found, "finding")) } ", " (number(cloud.repaired)) " of them repaired."
            }
            @for remark in cloud_remarks(cloud) { p class="note" { (remark) } }
            @if !cloud.devices.is_empty() {
                table class="list wide" {
                    tr { th { "serial" } th { "class" } th { "expected, what is there, and what to do" } }
                    @for it in &cloud.devices { (finding(it)) }
                }
            }
            @if more > 0 { p class="note" { (number(more)) " more are told by linemint reconcile." } }
        }
    }
}

fn finding(it: &CloudFinding) -> Markup {
    let words = |text: &str| plain(text, MAX_WORDS);
    html! {
        tr {
            td { code { (words(it.serial.as_deref().unwrap_or("–"))) } } td { (it.class) }
            td { (words(&it.resource)) ": " (words(&it.expected)) " – " b { (words(&it.held)) } ". " (words(&it.remedy)) }
        }
    }
}

pub(super) fn certificates(it: &Report) -> Markup {
    let all = &it.certificates;
    let rows = [
        ("certificates issued", all.issued, false),
        ("active in the cloud", all.active, false),
        ("revoked", all.revoked, false),
        ("private keys destroyed here", all.keys_destroyed, false),
        ("private keys waiting for delivery", all.keys_waiting, false),
        ("passed without an active certificate", all.passed_without_active, true),
        ("active without a pass", all.active_without_pass, true),
    ];
    html! {
        section class="whole" {
            h2 { "Certificates and keys" }
            table {
                @for (word, count, wrong) in rows {
                    tr class=(if count == 0 { "nil" } else { "" }) {
                        td { (word) } td class="n" { @if wrong && count > 0 { b class="bad" { (number(count)) } } @else { (number(count)) } }
                    }
                }
            }
        }
    }
}

/// What the limits would carry.
pub(super) fn headroom_of(it: &Report) -> Markup {
    html! {
        section class="whole" {
            h2 { "Headroom" }
            @match &it.quota {
                None => p { "No call of AWS is recorded in this time." },
                Some(quota) => {
                    @for sentence in headroom(quota) { p { (sentence) } }
                    p { "Devices waited for AWS for " (span(quota.busy_ms)) " of the time." }
                    @if let Some(sentence) = quiet(quota) { p { (sentence) } }
                },
            }
        }
    }
}

/// The operations that are worth a line; the others are summed up beside the headroom.
pub(super) fn quota(it: &Report) -> Markup {
    let Some(quota) = &it.quota else { return html! {} };
    let rows: Vec<_> = quota.operations.iter().filter(|it| is_notable(it)).collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "AWS limits" }
            table {
                tr { th { "operation" } th class="n" { "limit 1/s" } th class="n" { "busiest five minutes" } th class="n" { "calls" } th class="n" { "throttled" } th class="n" { "errors" } th class="n" { "waited for their turn" } }
                @for row in rows {
                    tr {
                        td { (row.operation) } td class="n" { (milli(limit(row))) } td class="n" { (hundredths(row.peak_milli)) } td class="n" { (number(row.calls)) }
                        td class="n" { (number(row.throttled)) } td class="n" { (number(row.errors)) } td class="n" { (percent(Some(at_work(quota, row.bound_ms, row.bound_share).0))) }
                    }
                }
            }
        }
    }
}

pub(super) fn stations(it: &Report) -> Markup {
    if it.stations.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Stations" }
            table {
                tr { th { "station" } th class="n" { "total" } th class="n" { "good" } th class="n" { "first-pass" } th class="n" { "scrapped" } th class="n" { "quarantined" } th class="n" { "open" } th { "balance" } th { "cloud" } }
                @for row in &it.stations {
                    tr {
                        td { (row.id) } td class="n" { (number(row.total)) } td class="n" { (number(row.good)) } td class="n" { (number(row.first_pass)) }
                        td class="n" { (number(row.scrapped)) } td class="n" { (number(row.quarantined)) } td class="n" { (number(row.open)) }
                        td { @if row.closes { "closes" } @else { b { "does not close" } } }
                        td { @match &row.cloud { Some(it) if it.agrees => "agrees", Some(it) => b { (it.headline) }, None => "–" } }
                    }
                }
            }
            @for it in &it.twice { p class="note" { code { (plain(&it.serial, MAX_WORDS)) } " is at " (it.stations.join(" and ")) } }
        }
    }
}
