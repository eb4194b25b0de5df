//! What is seen on a fixture's port, as `GET /v1/fixtures/{name}/traffic` shows it. Private keys, certificates and
//! signing requests are never part of it: what is never put in cannot leak.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fixture::sample::Sample;
use crate::fixture::scanner::Reading;
use crate::fixture::{Credentials, FixtureMessage, StationMessage};

/// What stands in the place of a key, a certificate or a signing request.
pub const REMOVED: &str = "(removed)";

/// Members that hold one.
const SECRET: [&str; 4] = ["private_key", "certificate", "ca", "csr"];

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The fixture's name.
    pub fixture: String,
    /// What was seen on its port.
    #[serde(flatten)]
    pub sighting: Sighting,
}

/// Something that was seen on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When: its last byte was read, or the kernel had taken its last one.
    pub at: Timestamp,
    /// Which way it went; `null` for what does not go over the line.
    pub direction: Option<Direction>,
    /// What it was.
    #[serde(flatten)]
    pub seen: Seen,
}

/// Which way something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the fixture.
    In,
    /// To the fixture.
    Out,
}

/// What can be seen on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "kebab-case")]
pub enum Seen {
    /// A frame, with the members that the protocol knows.
    Frame {
        /// It, less keys and certificates.
        message: Map<String, Value>,
    },
    /// A scanner's line, or what is written to one.
    Line {
        /// It, less what is trimmed.
        text: String,
        /// The serial number in it; `null` in what is written.
        serial: Option<String>,
        /// The MAC address in it.
        mac: Option<String>,
    },
    /// The serial number of the line before is in its window still: it is no new presentation.
    Duplicate,
    /// What the station has sent has come back.
    Echo,
    /// What is neither a frame nor a line that matches.
    Noise {
        /// What is wrong with it.
        reason: String,
        /// Its bytes up to the line's end, or to where it was cut for its length.
        len: usize,
        /// The first 256 of them, two hexadecimal digits each, up to where a key or certificate may begin.
        hex: String,
        /// Whether some of these are left out because they may be a part of a key or certificate.
        withheld: bool,
    },
    /// The port was opened.
    Opened {
        /// By this path.
        port: String,
    },
    /// The port is lost.
    Lost {
        /// Why.
        reason: String,
    },
    /// This reader was too slow for what came here.
    Gap {
        /// So much of it is missing.
        missed: u64,
    },
}

impl Seen {
    /// A frame from a fixture.
    #[must_use]
    pub fn received(message: &FixtureMessage) -> Self {
        Self::frame(serde_json::to_value(message))
    }

    /// A frame to a fixture. A private key in it is not copied.
    #[must_use]
    pub fn sent(message: &StationMessage) -> Self {
        Self::frame(match message {
            StationMessage::Credentials(it) => serde_json::to_value(StationMessage::Credentials(shell(it))),
            other => serde_json::to_value(other),
        })
    }

    fn frame(message: serde_json::Result<Value>) -> Self {
        // They are texts and numbers: it cannot fail.
        let Ok(Value::Object(mut message)) = message else { return Self::Frame { message: Map::new() } };
        for (name, value) in &mut message {
            remove_secrets(name, value);
        }
        Self::Frame { message }
    }

    /// A scanner's line that matches.
    #[must_use]
    pub fn line(text: &str, reading: Option<Reading>) -> Self {
        let (serial, mac) = reading.map_or((None, None), |it| (Some(it.serial), it.mac));
        Self::Line { text: without_pem(text), serial, mac }
    }

    /// What cannot be used.
    #[must_use]
    pub fn noise(reason: &str, sample: &Sample) -> Self {
        let hex = sample.bytes().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self::Noise { reason: reason.to_owned(), len: sample.line_len(), hex, withheld: sample.is_withheld() }
    }
}

/// Credentials without what makes them such.
fn shell(it: &Credentials) -> Credentials {
    let removed = || REMOVED.to_owned();
    Credentials {
        id: it.id,
        serial: it.serial.clone(),
        thing: it.thing.clone(),
        certificate: removed(),
        certificate_sha256: it.certificate_sha256.clone(),
        private_key: it.private_key.as_ref().map(|_| removed().into()),
        ca: it.ca.as_ref().map(|_| removed()),
        endpoint: it.endpoint.clone(),
        locker_id: it.locker_id.clone(),
    }
}

/// What a member may not show, by its name or because it is a PEM where none belongs.
fn remove_secrets(name: &str, value: &mut Value) {
    match value {
        Value::String(text) if SECRET.contains(&name) => *text = REMOVED.to_owned(),
        Value::String(text) => *text = without_pem(text),
        Value::Object(members) => members.iter_mut().for_each(|(name, it)| remove_secrets(name, it)),
        Value::Array(elements) => elements.iter_mut().for_each(|it| remove_secrets(name, it)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn without_pem(text: &str) -> String {
    if text.contains("-----BEGIN") || text.contains("-----END") {
        REMOVED.to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::Unit;

    const PEM: &str = "-----BEGIN X-----\nMIGHAgEAMBMGByqGSM49\n-----END X-----\n";

    fn message(seen: &Seen) -> Value {
        let Seen::Frame { message } = seen else { panic!("{seen:?}") };
        assert!(!serde_json::to_string(message).unwrap().contains("MIGH"), "{message:?}");
        Value::Object(message.clone())
    }

    #[test]
    fn credentials_are_shown_without_key_and_certificates() {
        let credentials = Credentials {
            id: 7,
            serial: "SN".to_owned(),
            thing: "SN".to_owned(),
            certificate: PEM.to_owned(),
            certificate_sha256: "ab".to_owned(),
            private_key: Some(PEM.to_owned().into()),
            ca: Some(PEM.to_owned()),
            endpoint: None,
            locker_id: Some("L".to_owned()),
        };
        let shown = json!({
            "type": "credentials", "id": 7, "serial": "SN", "thing": "SN", "certificate": REMOVED,
            "certificate_sha256": "ab", "private_key": REMOVED, "ca": REMOVED, "locker_id": "L",
        });
        assert_eq!(message(&Seen::sent(&StationMessage::Credentials(credentials))), shown);
    }

    #[test]
    fn a_pem_is_shown_nowhere() {
        let unit = Unit {
            id: 1,
            serial: "SN".to_owned(),
            csr: Some("short".to_owned()),
            mac: Some(PEM.to_owned()),
            attributes: [("a".to_owned(), PEM.to_owned()), ("ca".to_owned(), "x".to_owned())].into(),
            ..Unit::default()
        };
        let shown = json!({
            "type": "unit", "id": 1, "serial": "SN", "mac": REMOVED, "csr": REMOVED,
            "attributes": { "a": REMOVED, "ca": REMOVED },
        });
        assert_eq!(message(&Seen::received(&FixtureMessage::Unit(unit))), shown);
        let reason = PEM.to_owned();
        let told = FixtureMessage::WriteFailed { id: 1, serial: "SN".to_owned(), reason };
        assert_eq!(message(&Seen::received(&told))["reason"], REMOVED);
        let Seen::Line { text, .. } = Seen::line(PEM, None) else { unreachable!() };
        assert_eq!(text, REMOVED);
    }

    #[test]
    fn each_kind_of_line_is_one_flat_object_and_comes_back() {
        let at: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let noise = Seen::noise("why", &Sample::of(b"\x00Ab"));
        for (direction, seen, wanted) in [
            (
                Some(Direction::In),
                Seen::received(&FixtureMessage::Idle),
                json!({ "direction": "in", "seen": "frame", "message": { "type": "idle" } }),
            ),
            (
                Some(Direction::In),
                noise,
                json!({ "direction": "in", "seen": "noise", "reason": "why", "len": 3, "hex": "004162", "withheld": false }),
            ),
            (
                Some(Direction::Out),
                Seen::line("\u{6}", None),
                json!({ "direction": "out", "seen": "line", "text": "\u{6}", "serial": null, "mac": null }),
            ),
            (None, Seen::Gap { missed: 3 }, json!({ "direction": null, "seen": "gap", "missed": 3 })),
        ] {
            let traffic = Traffic { fixture: "n".to_owned(), sighting: Sighting { at, direction, seen } };
            let mut wanted = wanted;
            wanted["fixture"] = json!("n");
            wanted["at"] = json!("2026-11-22T08:00:00Z");
            let value = serde_json::to_value(&traffic).unwrap();
            assert_eq!(value, wanted);
            assert_eq!(serde_json::from_value::<Traffic>(value).unwrap(), traffic);
        }
    }
}
