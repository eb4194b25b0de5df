//! The keys of `[[fixture]]` that belong to `driver = "scanner"`.

use std::time::Duration;

use super::table::Table;
use crate::fixture::scanner::{BadPattern, LinePattern, Poll, Replies, ReplyTemplate, ScannerOptions};

pub(super) const SCANNER_KEYS: [&str; 7] =
    ["pattern", "poll", "poll_interval", "reply_ack", "reply_pass", "reply_fail", "debounce"];

/// The default window: scanners that have lost an answer send a code again within a second or two.
const DEBOUNCE: Duration = Duration::from_secs(3);

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The longest question, bytes: instruments drop a longer line whole (field facts, SCPI).
const MAX_POLL: usize = 128;

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn scanner(table: &Table<'_>) -> Option<ScannerOptions> {
    let pattern = pattern(table);
    let poll = poll(table);
    let ack = reply(table, "reply_ack");
    let pass = reply(table, "reply_pass");
    let fail = reply(table, "reply_fail");
    let debounce = table.duration("debounce", DEBOUNCE, Duration::ZERO..=10 * MINUTE);
    let replies = Replies { ack: ack?, pass: pass?, fail: fail? };
    Some(ScannerOptions { pattern: pattern?, poll: poll?, replies, debounce })
}

fn pattern(table: &Table<'_>) -> Option<LinePattern> {
    let at = table.need_text("pattern", "(?<serial>[A-Z0-9]{12,50})")?;
    let error = match LinePattern::new(at.value) {
        Ok(pattern) => return Some(pattern),
        Err(error) => error,
    };
    let (message, hint) = match &error {
        BadPattern::NoSerial => {
            (error.to_string(), "mark what is the serial number, as in \"SN:(?<serial>[A-Z0-9]+)\"")
        }
        BadPattern::Syntax(source) => {
            // regex draws the place of the error over several lines; its last line says what it is.
            let source = source.to_string();
            let last = source.lines().last().unwrap_or_default().trim_start_matches("error: ");
            (format!("{error}: {last}"), "write a regular expression for the whole line")
        }
    };
    table.problem(&at.place, message, hint);
    None
}

/// The question, if there is one; none if it is wrong.
fn poll(table: &Table<'_>) -> Option<Option<Poll>> {
    let range = Duration::from_millis(100)..=60 * MINUTE;
    let interval = table.duration("poll_interval", POLL_INTERVAL, range);
    let Some(at) = table.text("poll") else {
        if table.has("poll_interval") && !table.has("poll") {
            let message = "means nothing without poll: nothing is asked";
            table.problem(&table.place_of("poll_interval"), message, "add poll = \"…\", or remove it");
        }
        return Some(None);
    };
    if at.value.is_empty() || at.value.len() > MAX_POLL {
        let message = format!("has to have 1 to {MAX_POLL} bytes");
        table.problem(&at.place, message, "write the question with its terminator, as in \"SYST:SER?\\n\"");
        return None;
    }
    Some(Some(Poll { text: at.value.to_owned(), interval }))
}

/// The reply, if there is one; none if it is wrong.
fn reply(table: &Table<'_>, key: &'static str) -> Option<Option<ReplyTemplate>> {
    let Some(at) = table.text(key) else { return Some(None) };
    match ReplyTemplate::parse(at.value) {
        Ok(reply) => Some(Some(reply)),
        Err(error) => {
            let hint = "write a text with {serial}, {code} and {message}; {{ and }} are braces";
            table.problem(&at.place, error.to_string(), hint);
            None
        }
    }
}
