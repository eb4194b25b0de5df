//! A device's story as text: what it is, then a line for each thing that happened to it.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cli::text::{Table, plain, span};
use crate::control::{Device, DeviceStory, Event};

/// The whole story.
pub(super) fn render(story: &DeviceStory) -> String {
    let mut text = header(&story.device);
    text.push('\n');
    if story.history_cut {
        text.push_str("(older records are left out)\n");
    }
    let mut rows = Vec::with_capacity(story.history.len());
    let mut before: Option<Timestamp> = None;
    for event in &story.history {
        let since = before.map_or_else(String::new, |it| gap(it, event.at));
        rows.push([format!("{:.3}", event.at), since, event.event.clone(), details(event)]);
        before = Some(event.at);
    }
    text.push_str(&Table::new("").lines(&rows));
    text
}

fn header(it: &Device) -> String {
    let mut text = format!("{}  {}\n", plain(&it.serial), it.state.as_str());
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| [name.to_owned(), value]));
    };
    row("failure", it.failure.as_ref().map(|it| format!("{}: {}", it.code, it.message)));
    row("product", Some(it.product.clone()));
    let extra = if it.extra { " (not on its list)" } else { "" };
    row("batch", it.batch.as_ref().map(|it| format!("{it}{extra}")));
    row("mac", it.mac.clone());
    row("generation", Some(it.generation.to_string()));
    row("admitted", Some(it.admitted_at.to_string()));
    let first = it.passed_at.filter(|_| it.generation == 1 && it.presentations == 1);
    let took = first.map(|passed| format!(", after {}", gap(it.admitted_at, passed).trim_start_matches('+')));
    row("passed", it.passed_at.map(|passed| format!("{passed}{}", took.unwrap_or_default())));
    row("presented", Some(presented(it)));
    if let Some(certificate) = &it.certificate {
        row("certificate", Some(certificate.fingerprint.clone()));
        row("  serial", Some(certificate.serial_number.clone()));
        row("  until", Some(certificate.not_after.to_string()));
        row("  arn", certificate.arn.clone());
        let key = serde_json::to_value(certificate.key).ok();
        row("  key", key.as_ref().and_then(Value::as_str).map(str::to_owned));
    }
    row("certificates issued", Some(it.certificates_issued.to_string()));
    row("thing", it.thing.clone());
    row("policy", it.policy.clone());
    row("locker", it.locker_id.clone());
    text.push_str(&Table::new("  ").lines(&rows));
    text
}

fn presented(it: &Device) -> String {
    let last = &it.presentation;
    let nest = last.nest.as_ref().map_or_else(String::new, |nest| format!(", nest {nest}"));
    let times = match it.presentations {
        0 => return "never".to_owned(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    let outcome = last.outcome.as_deref().unwrap_or("open");
    format!("{times}, last at {}{nest}: {outcome}", last.fixture)
}

/// The time between two events: `+0.412 s`, `+14 min`. The wall clock may have been set back.
fn gap(from: Timestamp, to: Timestamp) -> String {
    let millis = to.as_millisecond() - from.as_millisecond();
    let sign = if millis < 0 { '-' } else { '+' };
    let millis = millis.unsigned_abs();
    if millis < 60_000 {
        return format!("{sign}{}.{:03} s", millis / 1_000, millis % 1_000);
    }
    format!("{sign}{}", span(millis / 1_000))
}

/// An event's own members in one line: `step thing, adopted`. What it is about goes by its name: a
/// presentation by fixture, reset and number, a certificate by its fingerprint.
fn details(event: &Event) -> String {
    let mut line = String::new();
    write_members(&event.members, &mut line);
    line
}

fn write_members(members: &Map<String, Value>, line: &mut String) {
    for (name, value) in members {
        let told = match value {
            Value::Null | Value::Bool(false) => continue,
            Value::Bool(true) => name.replace('_', " "),
            Value::String(text) if name == "message" => format!("{text:?}"),
            Value::String(text) => format!("{name} {text}"),
            Value::Object(it) if name == "presentation" => format!("at {}", presentation(it)),
            Value::Object(it) if it.contains_key("fingerprint") => {
                format!("{name} {}", it["fingerprint"].as_str().unwrap_or("?"))
            }
            Value::Object(it) if it.is_empty() => continue,
            Value::Object(it) => {
                let mut inner = String::new();
                write_members(it, &mut inner);
                // What a step leaves behind is told without the word for it.
                if name == "output" && inner == "made nothing" {
                    continue;
                }
                format!("{name} ({inner})")
            }
            other => format!("{name} {other}"),
        };
        let comma = if line.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(line, "{comma}{told}");
    }
}

fn presentation(it: &Map<String, Value>) -> String {
    let text = |name| it.get(name).map_or_else(|| "?".to_owned(), ToString::to_string);
    let fixture = it.get("fixture").and_then(Value::as_str).unwrap_or("?");
    format!("{fixture}/{}/{}", text("boot"), text("id"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story() -> DeviceStory {
        serde_json::from_value(json!({
            "serial": "SN-1", "product": "lamp", "batch": "B1", "mac": null, "state": "passed", "generation": 1,
            "admitted_at": "2026-11-03T06:00:00.25Z", "updated_at": "2026-11-03T06:00:02.5Z",
            "passed_at": "2026-11-03T06:00:02.5Z", "presentations": 1, "certificates_issued": 1,
            "presentation": {"fixture": "nest-1", "boot": 3, "id": 9, "nest": "A", "outcome": "passed"},
            "certificate": {"fingerprint": "ab12", "serial_number": "0a", "not_after": "2036-11-03T06:00:00Z",
                "arn": "arn:aws:iot:eu-west-1:1:cert/ab12", "key": "destroyed"},
            "thing": "SN-1", "policy": "SN-1", "locker_id": "L1", "failure": null,
            "history": [
                {"seq": 7, "at": "2026-11-03T06:00:00.25Z", "serial": "SN-1", "event": "admitted", "product": "lamp",
                    "presentation": {"fixture": "nest-1", "boot": 3, "id": 9}, "nest": "A"},
                {"seq": 8, "at": "2026-11-03T06:00:00.27Z", "serial": "SN-1", "event": "issued",
                    "certificate": {"fingerprint": "ab12", "serial_number": "0a"}},
                {"seq": 9, "at": "2026-11-03T06:00:01.27Z", "serial": "SN-1", "event": "step-done", "step": "thing",
                    "output": {"made": "nothing"}, "adopted": true, "request_id": "r-1"},
                {"seq": 10, "at": "2026-11-03T06:14:01.27Z", "serial": "SN-1", "event": "trouble", "step": "locker",
                    "message": "AWS said\u{1b}[2J no", "attempt": 2},
                {"seq": 11, "at": "2026-11-03T06:00:02.5Z", "serial": "SN-1", "event": "passed",
                    "presentation": {"fixture": "nest-1", "boot": 3, "id": 9}},
            ],
            "history_cut": false,
        }))
        .unwrap()
    }

    #[test]
    fn the_story_is_a_header_and_a_line_for_each_event() {
        let expected = r#"SN-1  passed
  product              lamp
  batch                B1
  generation           1
  admitted             2026-11-03T06:00:00.25Z
  passed               2026-11-03T06:00:02.5Z, after 2.250 s
  presented            once, last at nest-1, nest A: passed
  certificate          ab12
    serial             0a
    until              2036-11-03T06:00:00Z
    arn                arn:aws:iot:eu-west-1:1:cert/ab12
    key                destroyed
  certificates issued  1
  thing                SN-1
  policy               SN-1
  locker               L1

2026-11-03T06:00:00.250Z            admitted   product lamp, at nest-1/3/9, nest A
2026-11-03T06:00:00.270Z  +0.020 s  issued     certificate ab12
2026-11-03T06:00:01.270Z  +1.000 s  step-done  step thing, adopted, request_id r-1
2026-11-03T06:14:01.270Z  +14 min   trouble    step locker, "AWS said\u{1b}[2J no", attempt 2
2026-11-03T06:00:02.500Z  -13 min   passed     at nest-1/3/9
"#;
        assert_eq!(render(&story()), expected);
    }

    #[test]
    fn a_story_that_was_cut_says_so() {
        let cut = DeviceStory { history_cut: true, ..story() };
        assert!(render(&cut).contains("(older records are left out)\n"));
    }
}
