//! For the terminal: at most 100 columns, readable in two minutes, the headline first.

use std::fmt::{self, Write};

use super::super::model::{FailureRow, Report};
use super::{
    at_work, cloud_remarks, counted, delta, headroom, hundredths, is_notable, limit, local, meaning, milli,
    number, percent, plain, quiet, rest_of, shares_of_time, span, takt, unsaid,
};

/// Widest line, characters.
pub const WIDTH: usize = 100;

/// Devices of a list that are shown.
const SHOWN: usize = 10;

/// Orders of people to the station that are shown.
const ORDERS_SHOWN: usize = 16;

/// The column at which the times of failures begin.
const TIMES_AT: usize = 58;

/// Columns of the longest bar.
const BAR: u64 = 10;

/// The report as text.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    // Whatever came in from outside: no line is wider than the terminal.
    let lines = text.lines().map(|line| plain(line.trim_end(), WIDTH));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn write(out: &mut String, it: &Report) -> fmt::Result {
    head(out, it)?;
    balance(out, it)?;
    yields(out, it)?;
    pace(out, it)?;
    times(out, it)?;
    stops(out, it)?;
    section(out, "failures")?;
    reasons(out, it, &it.failures)?;
    // Only where there are any: most shifts have no outage.
    if !it.deferrals.is_empty() {
        section(out, "deferred, not failed")?;
        reasons(out, it, &it.deferrals)?;
    }
    exceptions(out, it)?;
    certificates(out, it)?;
    cloud(out, it)?;
    quota(out, it)?;
    stations(out, it)?;
    handover(out, it)
}

/// A sentence over as many lines as it needs, the further ones with an indent.
fn wrapped(text: &str, indent: usize) -> String {
    fill(String::new(), indent, text, indent)
}

/// A sentence behind something on its line, and over as many lines as it needs.
fn behind(before: String, text: &str, indent: usize) -> String {
    let used = before.chars().count();
    fill(before, used, text, indent)
}

/// Words behind what has so many columns already. What is longer than a line is cut into several.
fn fill(mut out: String, mut used: usize, text: &str, indent: usize) -> String {
    let mut at_begin = true;
    for word in text.split_whitespace() {
        let letters: Vec<_> = word.chars().collect();
        for piece in letters.chunks(WIDTH - indent) {
            let blank = usize::from(!at_begin);
            if used + blank + piece.len() > WIDTH && used > indent {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                used = indent;
            } else if !at_begin {
                out.push(' ');
                used += 1;
            }
            out.extend(piece);
            used += piece.len();
            at_begin = false;
        }
    }
    out
}

/// What the report is of, in a few words.
pub(super) fn title(it: &Report) -> String {
    let name = it.selection.name.as_deref().unwrap_or_default();
    match it.selection.kind.as_str() {
        "shift" => format!("Shift {name}"),
        "batch" => format!("Batch {name}"),
        _ => "Report".to_owned(),
    }
}

/// Whether clocks change in it, and whether it is over.
pub(super) fn remarks(it: &Report) -> Vec<String> {
    let mut all = Vec::new();
    let span = &it.selection;
    if span.extra_minutes != 0 {
        let hours = |minutes: i64| format!("{} h {:02} min", minutes / 60, minutes % 60);
        let (real, usual) = (hours(span.minutes), hours(span.minutes - span.extra_minutes));
        all.push(format!("the clocks change in this shift: it has {real} instead of {usual}"));
    }
    all.extend(span.odd_days.iter().map(|(day, hours)| format!("{day} has {hours} hours")));
    if let Some(outside) = &it.outside {
        let devices = counted(outside.devices, "device");
        all.push(format!(
            "presented outside every shift since {}: {devices}, in no shift's report",
            local(it, outside.since)
        ));
    }
    if !span.over {
        all.push("it is not over yet: these are the figures up to now".to_owned());
    }
    if let Some(old) = &it.corrects {
        all.push(format!("version {}, corrects the report {old}", it.version));
    }
    all
}

fn list(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let all: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {}", number(*count))).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn head(out: &mut String, it: &Report) -> fmt::Result {
    writeln!(out, "{}  ·  station {}", title(it), it.station.id)?;
    writeln!(out, "{}", wrapped(&it.balance.headline(), 2))?;
    if let Some((_, headline)) = it.cloud_headline() {
        writeln!(out, "{}", wrapped(&headline, 2))?;
    }
    writeln!(out)?;
    let span = &it.selection;
    writeln!(out, "  from      {}  ({})", span.begin_local, span.timezone)?;
    writeln!(out, "  to        {}", span.end_local)?;
    for remark in remarks(it) {
        writeln!(out, "  note      {}", wrapped(&remark, 12))?;
    }
    writeln!(out, "  products  {}", wrapped(&list(&it.products), 12))?;
    writeln!(out, "  fixtures  {}", wrapped(&list(&it.fixtures), 12))?;
    if !it.batches.is_empty() {
        writeln!(out, "  batches   {}", wrapped(&list(&it.batches), 12))?;
    }
    if !it.stations.is_empty() {
        writeln!(out, "  made      {} by linemint {}", it.made_at, it.station.software)?;
        return writeln!(out, "  journal   each station's own: its report names it");
    }
    writeln!(
        out,
        "  made      {} by linemint {}, configuration {:.16}",
        it.made_at, it.station.software, it.station.config
    )?;
    let journal = &it.journal;
    writeln!(
        out,
        "  journal   {}, records {} to {}, head {}",
        journal.id, journal.first, journal.last, journal.head
    )?;
    writeln!(out, "            {}", journal.head_hash)
}

fn section(out: &mut String, name: &str) -> fmt::Result {
    writeln!(out, "\n{}", name.to_uppercase())
}

fn balance(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "balance")?;
    let balance = &it.balance;
    for (word, count) in balance.rows() {
        if word != "missing" || balance.of == "ordered" {
            writeln!(out, "  {word:<44}{:>10}", number(count))?;
        }
    }
    writeln!(out, "  {:<44}{:>10}", "sum", number(balance.sum))?;
    writeln!(
        out,
        "  {:<44}{:>10}  {}",
        balance.of,
        number(balance.total),
        if balance.closes { "the same" } else { "NOT THE SAME" }
    )?;
    writeln!(out, "  apart from that:")?;
    if balance.of == "ordered" {
        writeln!(out, "    {:<42}{:>10}", "not on the order", number(balance.extras))?;
    } else {
        writeln!(out, "    {:<42}{:>10}", "presented earlier, passed here", number(balance.from_earlier))?;
        writeln!(
            out,
            "    {:<42}{:>10}",
            "presented here, passed after its end",
            number(balance.passed_after)
        )?;
    }
    for (word, count) in balance.absent() {
        writeln!(out, "    {word:<42}{:>10}", number(count))?;
    }
    let duplicates = format!("of {}", counted(balance.duplicated_devices, "device"));
    writeln!(
        out,
        "    {:<42}{:>10}  {duplicates}",
        "presented again after they had passed",
        number(balance.duplicates)
    )
}

fn yields(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "yield")?;
    let all = &it.yields;
    let rows = [
        ("first-pass", &all.first_pass),
        ("final", &all.last),
        ("of attempts", &all.attempts),
        ("re-tested", &all.retest),
        ("reworked and good", &all.rework),
    ];
    for (word, ratio) in rows {
        let of = format!("{} of {}", number(ratio.part), number(ratio.whole));
        writeln!(out, "  {word:<18}{:>9}   {of}", percent(ratio.share))?;
        writeln!(out, "    = {}", ratio.definition)?;
    }
    Ok(())
}

fn pace(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "pace")?;
    let pace = &it.pace;
    let takt = takt(pace, "none set");
    let actual = pace.actual_ms.map_or_else(|| "-".to_owned(), span);
    let since = pace.longest_gap_at.map_or_else(String::new, |at| format!(" from {}", local(it, at)));
    let gap = span(pace.longest_gap_ms);
    let all = format!("takt {takt}, actual {actual} a passed device, longest gap {gap}{since}");
    writeln!(out, "  {}", wrapped(&all, 4))?;
    writeln!(
        out,
        "  {:<14}{:>9}{:>8}{:>8}{:>7}{:>8}{:>13}",
        "from", "presented", "passed", "target", "", "failed", "down"
    )?;
    let most = pace.hours.iter().map(|it| it.passed.max(it.target.unwrap_or(0))).max().unwrap_or(0);
    for hour in &pace.hours {
        let target = hour.target.map_or_else(|| "-".to_owned(), number);
        let bar = usize::try_from((hour.passed * BAR).checked_div(most).unwrap_or(0)).unwrap_or(0);
        let down = if hour.down_ms > 0 { span(hour.down_ms) } else { "-".to_owned() };
        let (presented, passed, failed) = (number(hour.presented), number(hour.passed), number(hour.failed));
        writeln!(
            out,
            "  {:<14}{presented:>9}{passed:>8}{target:>8}{:>7}{failed:>8}{down:>13}  {:<10} {}",
            hour.label,
            delta(hour),
            "#".repeat(bar),
            hour.cause.as_deref().unwrap_or_default()
        )?;
    }
    Ok(())
}

fn times(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "time, presentation to pass")?;
    let times = &it.times;
    let show = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), span);
    writeln!(
        out,
        "  p50 {}   p95 {}   p99 {}   of {} devices",
        show(times.p50_ms),
        show(times.p95_ms),
        show(times.p99_ms),
        number(times.devices)
    )?;
    let parts = shares_of_time(times);
    let sum: u64 = parts.iter().map(|it| it.2).sum();
    for (word, meaning, ms) in parts {
        let share = percent((ms * 10_000).checked_div(sum));
        writeln!(out, "  {word:<10}{meaning:<42}{:>14}{share:>11}", span(ms))?;
    }
    Ok(())
}

fn stops(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "downtime")?;
    for row in &it.downtime {
        let cause = match &row.of {
            Some(of) => format!("{} {of}", row.cause),
            None => row.cause.clone(),
        };
        let (times, ms) = (number(row.times), span(row.ms));
        writeln!(out, "  {cause:<44}{times:>6} x  {ms:>14}   {}", meaning(row))?;
    }
    if it.downtime.is_empty() {
        writeln!(out, "  none")?;
    }
    if it.crashes > 0 {
        writeln!(out, "  {}", wrapped(&unsaid(it.crashes), 4))?;
    }
    Ok(())
}

fn reasons(out: &mut String, it: &Report, rows: &[FailureRow]) -> fmt::Result {
    if rows.is_empty() {
        return writeln!(out, "  none");
    }
    writeln!(
        out,
        "  {:<16}{:>7}{:>9}{:>10}{:>12}  first and last",
        "code", "times", "devices", "share", "cumulative"
    )?;
    for (rank, row) in rows.iter().enumerate() {
        let (share, cumulative) = (percent(Some(row.share)), percent(Some(row.cumulative)));
        let times: Vec<_> = row.first.into_iter().chain(row.last).map(|at| local(it, at)).collect();
        let mut times = times.join(" - ");
        if TIMES_AT + times.chars().count() > WIDTH {
            times = times.replace(" - ", &format!(" -\n{}", " ".repeat(TIMES_AT)));
        }
        writeln!(
            out,
            "  {:<16}{:>7}{:>9}{share:>10}{cumulative:>12}  {times}",
            row.code,
            number(row.failures),
            number(row.devices)
        )?;
        if rank < 3 {
            writeln!(out, "    {}", wrapped(&row.remedy, 6))?;
        }
    }
    Ok(())
}

fn exceptions(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "exceptions")?;
    let mut none = true;
    for (word, listed) in it.exceptions.lists().into_iter().filter(|(_, it)| it.count > 0) {
        none = false;
        writeln!(out, "  {word}: {}", number(listed.count))?;
        for device in listed.devices.iter().take(SHOWN) {
            let at = device.at.map_or_else(String::new, |at| format!("{} ", local(it, at)));
            let code = device.code.as_ref().map_or_else(String::new, |it| format!("{it}: "));
            let begin = format!("    {:<24} ", plain(&device.serial, 50));
            writeln!(out, "{}", behind(begin, &format!("{at}{code}{}", device.why), 6))?;
        }
        let more = listed.count.saturating_sub(SHOWN.min(listed.devices.len()) as u64);
        if more > 0 {
            writeln!(out, "    and {} more: see {}", number(more), rest_of(it, word))?;
        }
    }
    if it.overridden() > 0 {
        none = false;
        writeln!(out, "  orders to the station, against one of its rules: {}", number(it.overridden()))?;
    }
    for order in it.overrides.iter().take(ORDERS_SHOWN) {
        let at = local(it, order.at);
        let told = format!("{at} by {}: {} ({})", plain(&order.who, 30), order.what, order.why);
        writeln!(out, "    {}", wrapped(&told, 6))?;
    }
    let more = it.overridden().saturating_sub(ORDERS_SHOWN.min(it.overrides.len()) as u64);
    if more > 0 {
        writeln!(out, "    and {} more: see the journal", number(more))?;
    }
    if none { writeln!(out, "  none") } else { Ok(()) }
}

fn certificates(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "certificates and keys")?;
    let all = &it.certificates;
    writeln!(
        out,
        "  issued {}, active {}, revoked {}; private keys destroyed {}, waiting for delivery {}",
        number(all.issued),
        number(all.active),
        number(all.revoked),
        number(all.keys_destroyed),
        number(all.keys_waiting)
    )?;
    if all.passed_without_active + all.active_without_pass > 0 {
        writeln!(
            out,
            "  passed without an active certificate {}, active without a pass {}",
            number(all.passed_without_active),
            number(all.active_without_pass)
        )?;
    }
    Ok(())
}

/// What the account was found to hold.
fn cloud(out: &mut String, it: &Report) -> fmt::Result {
    let Some(cloud) = &it.cloud else { return Ok(()) };
    section(out, &format!("cloud, as it was at {}", local(it, cloud.at)))?;
    writeln!(
        out,
        "  {} devices selected, {} held against the account, {} in flight, {} could not be read",
        number(cloud.selected),
        number(cloud.compared),
        number(cloud.in_flight),
        number(cloud.unread)
    )?;
    for remark in cloud_remarks(cloud) {
        writeln!(out, "  {remark}")?;
    }
    for found in cloud.devices.iter().take(SHOWN) {
        let serial = plain(found.serial.as_deref().unwrap_or("-"), 24);
        let told = format!("{}: {}: {}", found.class, found.resource, found.held);
        writeln!(out, "{}", behind(format!("    {serial:<24} "), &told, 6))?;
        writeln!(out, "      {}", wrapped(&found.remedy, 6))?;
    }
    let found: u64 = cloud.findings.values().sum();
    match found.saturating_sub(SHOWN.min(cloud.devices.len()) as u64) {
        0 => Ok(()),
        more => writeln!(out, "    and {} more: see `linemint reconcile`", number(more)),
    }
}

fn quota(out: &mut String, it: &Report) -> fmt::Result {
    let Some(quota) = &it.quota else { return Ok(()) };
    section(out, "aws limits")?;
    for sentence in headroom(quota) {
        writeln!(out, "  {}", wrapped(&sentence, 4))?;
    }
    if quota.operations.iter().any(is_notable) {
        writeln!(
            out,
            "  {:<36}{:>10}{:>10}{:>9}{:>11}{:>8}{:>11}",
            "operation", "limit 1/s", "busiest", "calls", "throttled", "errors", "bound"
        )?;
    }
    for row in quota.operations.iter().filter(|it| is_notable(it)) {
        let (limit, bound) =
            (milli(limit(row)), percent(Some(at_work(quota, row.bound_ms, row.bound_share).0)));
        let (calls, throttled, errors) = (number(row.calls), number(row.throttled), number(row.errors));
        let peak = hundredths(row.peak_milli);
        writeln!(
            out,
            "  {:<36}{limit:>10}{peak:>10}{calls:>9}{throttled:>11}{errors:>8}{bound:>11}",
            row.operation
        )?;
    }
    match quiet(quota) {
        Some(sentence) => writeln!(out, "  {sentence}"),
        None => Ok(()),
    }
}

fn stations(out: &mut String, it: &Report) -> fmt::Result {
    if it.stations.is_empty() {
        return Ok(());
    }
    section(out, "stations")?;
    writeln!(
        out,
        "  {:<20}{:>8}{:>8}{:>11}{:>9}{:>12}{:>7}  {:<10}cloud",
        "station", "total", "good", "first-pass", "scrapped", "quarantined", "open", "balance"
    )?;
    for row in &it.stations {
        let [total, good, first, scrapped, quarantined, open] =
            [row.total, row.good, row.first_pass, row.scrapped, row.quarantined, row.open].map(number);
        let closes = if row.closes { "closes" } else { "DOES NOT" };
        let cloud = row.cloud.as_ref().map_or("-", |it| match (it.agrees, it.open) {
            (true, _) => "agrees",
            (false, 0) => "NOT SEEN",
            (false, _) => "DIFFERS",
        });
        writeln!(
            out,
            "  {:<20}{total:>8}{good:>8}{first:>11}{scrapped:>9}{quarantined:>12}{open:>7}  {closes:<10}{cloud}",
            plain(&row.id, 19)
        )?;
    }
    for it in &it.twice {
        writeln!(out, "  {}", wrapped(&format!("{} is at {}", it.serial, it.stations.join(" and ")), 4))?;
    }
    Ok(())
}

fn handover(out: &mut String, it: &Report) -> fmt::Result {
    section(out, "hand-over")?;
    let handover = &it.handover;
    if let Some(state) = &handover.state {
        let oldest =
            handover.oldest_s.map_or_else(String::new, |it| format!(", the oldest for {}", span(it * 1000)));
        let backlog = number(handover.backlog.unwrap_or(0));
        writeln!(out, "  the station is {state}, {backlog} devices unfinished{oldest}")?;
    }
    for action in &handover.actions {
        writeln!(out, "  [ ] {}", wrapped(action, 6))?;
    }
    if handover.actions.is_empty() {
        writeln!(out, "  nothing is left to do")?;
    }
    section(out, "sign-off")?;
    writeln!(out, "  prepared by linemint at {}", it.station.id)?;
    writeln!(out, "  reviewed by ______________________________   at ____________________")
}
