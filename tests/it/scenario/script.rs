//! The language that conversations are written in: one step a line.

use std::time::Duration;

use serde_json::Value;

use crate::harness::Mode;

/// One step of a conversation.
#[derive(Debug)]
pub(crate) enum Step {
    /// The fixture of that number (from 0) sends something.
    Send(usize, Sent),
    /// The station says this to the fixture of that number.
    Expect { fixture: usize, pattern: Value, after: After },
    /// The station says all of these, in whatever order.
    ExpectAll(usize, Vec<Value>),
    /// The station writes these bytes to the scanner of that number.
    Written(usize, Vec<u8>),
    /// For so long the station says nothing to the fixture of that number but `pull` and `hello`.
    Silence(usize, Duration),
    /// Something happens around the conversation.
    Do(Deed),
    /// Something holds.
    Check(Fact),
}

/// What may come before what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing at all.
    Nothing,
    /// `pull` and `hello`.
    Asking,
    /// So many others, `pull` and `hello` among them.
    Others(usize),
}

#[derive(Debug)]
pub(crate) enum Sent {
    Frame(Value),
    /// Goes out in one write with what follows.
    Held(Value),
    WrongCrc(Value),
    Cut(usize, Value),
    /// A frame of so many bytes, with blanks before its end.
    Padded(usize, Value),
    Raw(Vec<u8>),
    /// A frame's JSON, spelt as it stands; a CR at its end goes behind the CRC.
    Text(Vec<u8>),
    Noise(usize),
    Flood(usize),
}

#[derive(Debug)]
pub(crate) enum Deed {
    Start,
    Kill,
    Terminate,
    Ended(i32),
    Greet(u64),
    Replug,
    Unplug,
    /// Two fixtures change their cables.
    Swap,
    Cloud(Mode),
    /// A command that ends with 0.
    Order(Vec<String>),
    /// A file beside the configuration.
    File(String, String),
    Policy(String, Value),
    Thing(String, String),
}

#[derive(Debug)]
pub(crate) enum Fact {
    Device(String, String, Value),
    Status(String, Value),
    Account(Vec<String>),
    Active(u64),
    NoKeys,
    /// A line of the log has this, and another time none has.
    Logged(String, bool),
    Delivered(String),
    Missing(String),
    /// An event of that name has this at that place.
    Event(String, String, Value),
    /// A file beside the configuration has this text.
    File(String, String),
}

/// The steps with their line numbers.
pub(crate) fn parse(text: &str) -> Vec<(usize, Step)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let steps = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    steps
        .map(|(at, line)| (at, step(line).unwrap_or_else(|| panic!("line {at} is not understood: {line}"))))
        .collect()
}

fn step(line: &str) -> Option<Step> {
    if let Some(rest) = line.strip_prefix("! ") {
        return deed(rest).map(Step::Do);
    }
    if let Some(rest) = line.strip_prefix("? ") {
        return fact(rest).map(Step::Check);
    }
    let digits = line.len() - line.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let fixture = if digits == 0 { 0 } else { line[..digits].parse::<usize>().ok()? - 1 };
    let (verb, rest) = line[digits..].split_once(' ')?;
    let json = || serde_json::from_str::<Value>(rest).ok();
    Some(match verb {
        "<" => Step::Expect { fixture, pattern: json()?, after: After::Asking },
        "<next" => Step::Expect { fixture, pattern: json()?, after: After::Nothing },
        "<within" => {
            let (count, json) = rest.split_once(' ')?;
            let after = After::Others(count.parse().ok()?);
            Step::Expect { fixture, pattern: serde_json::from_str(json).ok()?, after }
        }
        "<raw" => Step::Written(fixture, unescape(rest)?),
        "<silence" => Step::Silence(fixture, Duration::from_millis(rest.parse().ok()?)),
        "<set" => Step::ExpectAll(fixture, serde_json::from_str(rest).ok()?),
        "<other" => Step::Expect { fixture, pattern: json()?, after: After::Others(usize::MAX) },
        ">" => Step::Send(fixture, Sent::Frame(json()?)),
        ">&" => Step::Send(fixture, Sent::Held(json()?)),
        ">crc" => Step::Send(fixture, Sent::WrongCrc(json()?)),
        ">cut" => {
            let (length, json) = rest.split_once(' ')?;
            Step::Send(fixture, Sent::Cut(length.parse().ok()?, serde_json::from_str(json).ok()?))
        }
        ">padded" => {
            let (length, json) = rest.split_once(' ')?;
            Step::Send(fixture, Sent::Padded(length.parse().ok()?, serde_json::from_str(json).ok()?))
        }
        ">text" => Step::Send(fixture, Sent::Text(unescape(rest)?)),
        ">raw" => Step::Send(fixture, Sent::Raw(unescape(rest)?)),
        ">noise" => Step::Send(fixture, Sent::Noise(rest.parse().ok()?)),
        ">flood" => Step::Send(fixture, Sent::Flood(rest.parse().ok()?)),
        _ => return None,
    })
}

fn deed(text: &str) -> Option<Deed> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match verb {
        "start" => Deed::Start,
        "kill" => Deed::Kill,
        "terminate" => Deed::Terminate,
        "ended" => Deed::Ended(rest.parse().ok()?),
        "greet" => Deed::Greet(rest.parse().ok()?),
        "replug" => Deed::Replug,
        "unplug" => Deed::Unplug,
        "swap" => Deed::Swap,
        "order" => Deed::Order(rest.split_whitespace().map(str::to_owned).collect()),
        "file" => {
            let (name, content) = rest.split_once(' ')?;
            Deed::File(name.to_owned(), String::from_utf8(unescape(content)?).ok()?)
        }
        "cloud" => Deed::Cloud(match rest {
            "on" => Mode::On,
            "off" => Mode::Off,
            "deny" => Mode::Deny,
            "skew" => Mode::Skew,
            "full" => Mode::Full,
            "throttle" => Mode::Throttle,
            "refuse" => Mode::Refuse,
            _ => return None,
        }),
        "policy" => {
            let (name, json) = rest.split_once(' ')?;
            Deed::Policy(name.to_owned(), serde_json::from_str(json).ok()?)
        }
        "thing" => {
            let (name, station) = rest.split_once(' ')?;
            Deed::Thing(name.to_owned(), station.to_owned())
        }
        _ => return None,
    })
}

fn fact(text: &str) -> Option<Fact> {
    let (subject, rest) = text.split_once(' ').unwrap_or((text, ""));
    let pointed = || {
        let (pointer, json) = rest.split_once(' ')?;
        Some((pointer.to_owned(), serde_json::from_str::<Value>(json).ok()?))
    };
    Some(match subject {
        "account" => Fact::Account(rest.split_whitespace().map(str::to_owned).collect()),
        "active" => Fact::Active(rest.parse().ok()?),
        "no-keys" => Fact::NoKeys,
        "log" => Fact::Logged(rest.to_owned(), true),
        "not-logged" => Fact::Logged(rest.to_owned(), false),
        "delivered" => Fact::Delivered(rest.to_owned()),
        "events" => {
            let mut words = rest.splitn(3, ' ').map(str::to_owned);
            let (name, pointer) = (words.next()?, words.next()?);
            Fact::Event(name, pointer, serde_json::from_str(&words.next()?).ok()?)
        }
        "file" => {
            let (name, text) = rest.split_once(' ')?;
            Fact::File(name.to_owned(), text.to_owned())
        }
        "missing" => Fact::Missing(rest.to_owned()),
        "status" => pointed().map(|(pointer, value)| Fact::Status(pointer, value))?,
        serial => pointed().map(|(pointer, value)| Fact::Device(serial.to_owned(), pointer, value))?,
    })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[test]
fn escapes_stand_for_bytes() {
    assert_eq!(unescape(r"a\x00\xffb\r\n\\"), Some(b"a\x00\xffb\r\n\\".to_vec()));
    assert_eq!(unescape(r"\q"), None);
}
