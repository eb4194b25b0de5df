//! `[station] takt` and `report_…`.

use std::path::Path;
use std::time::Duration;

use super::Reports;
use super::table::Table;

const DAY: Duration = Duration::from_secs(86_400);

/// Arguments of a hook at most, and characters of each.
const MAX_ARGUMENTS: usize = 32;
const MAX_ARGUMENT: usize = 1_000;

/// The planned time for a device, if there is one.
pub(super) fn takt(table: &Table<'_>) -> Option<Duration> {
    let given = table.has("takt");
    let takt = table.duration("takt", Duration::from_secs(30), Duration::from_millis(100)..=DAY);
    given.then_some(takt)
}

pub(super) fn reports(table: &Table<'_>) -> Option<Reports> {
    let grace = table.duration("report_grace", Duration::from_secs(600), Duration::ZERO..=DAY);
    let dir = table.path("report_dir").map(|at| at.value);
    let keep = table.whole("report_keep", 100, 1..=10_000) as usize;
    let hook = hook(table);
    let url = url(table);
    for key in ["report_hook", "report_url"] {
        if dir.is_none() && table.has(key) {
            let hint = "set report_dir: a report is written there first";
            table.problem(&table.place_of(key), "needs report_dir", hint);
        }
    }
    Some(Reports { grace, dir, keep, hook: hook?, url: url? })
}

fn hook(table: &Table<'_>) -> Option<Vec<String>> {
    let hint = "write report_hook = [\"/usr/local/bin/mail-report\", \"--to\", \"line3\"]: a program and its arguments, no shell";
    let Some(list) = table.list("report_hook", hint)? else { return Some(Vec::new()) };
    let place = table.place_of("report_hook");
    let bad = |it: &str| it.is_empty() || it.contains('\0') || it.chars().count() > MAX_ARGUMENT;
    let message = match list.first() {
        None => "names no program",
        Some(first) if !Path::new(first.value).is_absolute() => {
            "has to begin with the full path of a program"
        }
        _ if list.len() > MAX_ARGUMENTS => "has more than 32 arguments",
        _ if list.iter().any(|it| bad(it.value)) => "has an argument that is empty, too long or no text",
        _ => return Some(list.into_iter().map(|it| it.value.to_owned()).collect()),
    };
    table.problem(&place, message, hint);
    None
}

#[expect(clippy::option_option, reason = "none is no mistake, and a mistake is not none")]
fn url(table: &Table<'_>) -> Option<Option<String>> {
    let Some(at) = table.text("report_url") else {
        return (!table.has("report_url")).then_some(None);
    };
    let uri = at.value.parse::<hyper::Uri>().ok();
    let sound = uri.is_some_and(|it| {
        let authority = it.authority().map_or("", |it| it.as_str());
        matches!(it.scheme_str(), Some("http" | "https"))
            && it.host().is_some_and(|it| !it.is_empty())
            && !authority.contains('@')
    });
    if sound {
        return Some(Some(at.value.to_owned()));
    }
    let message = "is not an http or https URL without a name and password";
    table.problem(&at.place, message, "write https://HOST/PATH");
    None
}
