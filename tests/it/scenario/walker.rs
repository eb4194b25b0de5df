//! Plays a scenario's steps on a station of its own.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::check::{self, Keys};
use super::script::{After, Deed, Fact, Sent, Step};
use crate::harness::{BASE, Deadline, PATIENCE, TestFixture, World, fits, frame, merged, put};

/// A station in the middle of a conversation.
pub(crate) struct Walker {
    world: World,
    fixtures: Vec<(String, TestFixture)>,
    /// Fixtures whose `hello` the station has heard since it opened the port.
    greeted: HashSet<usize>,
    /// What goes out together with the next frame.
    held: Vec<u8>,
    names: HashMap<String, Value>,
    keys: Keys,
}

impl Walker {
    /// A station with `overrides`, not started, and its fixtures.
    pub(crate) fn new(overrides: &str) -> Self {
        let world = World::new(overrides);
        let config: toml::Table = merged(BASE, overrides).parse().unwrap();
        let fixtures = config["fixture"].as_array().unwrap().iter().map(|it| {
            let name = it["name"].as_str().unwrap().to_owned();
            let is_scanner = it.get("driver").is_some_and(|it| it.as_str() == Some("scanner"));
            let link = world.path(&format!("{name}.tty"));
            (name, if is_scanner { TestFixture::plain_at(&link) } else { TestFixture::at(&link) })
        });
        let fixtures = fixtures.collect();
        Self {
            world,
            fixtures,
            greeted: HashSet::new(),
            held: Vec::new(),
            names: HashMap::new(),
            keys: Keys::default(),
        }
    }

    pub(crate) fn walk(mut self, steps: &[(usize, Step)]) {
        for (line, step) in steps {
            // Shown by the test runner if the step panics.
            eprintln!("conversation.txt:{line}");
            match step {
                Step::Send(fixture, sent) => self.send(*fixture, sent),
                Step::Expect { fixture, pattern, after } => self.expect(*fixture, pattern, *after),
                Step::Written(fixture, bytes) => self.fixtures[*fixture].1.next_bytes(bytes),
                Step::Silence(fixture, span) => self.fixtures[*fixture].1.is_silent_for(*span),
                Step::ExpectAll(fixture, patterns) => self.expect_all(*fixture, patterns),
                Step::Do(deed) => self.carry_out(deed),
                Step::Check(fact) => self.check(fact),
            }
        }
    }

    fn send(&mut self, fixture: usize, sent: &Sent) {
        let held = std::mem::take(&mut self.held);
        let bytes = match sent {
            Sent::Frame(it) => frame(&self.filled(it)),
            Sent::Held(it) => {
                self.held = [held, frame(&self.filled(it))].concat();
                return;
            }
            Sent::WrongCrc(it) => {
                let mut bytes = frame(&self.filled(it));
                let last = bytes.len() - 2;
                bytes[last] = if bytes[last] == b'0' { b'1' } else { b'0' };
                bytes
            }
            Sent::Cut(length, it) => frame(&self.filled(it))[..*length].to_vec(),
            Sent::Padded(length, it) => {
                let mut json = self.filled(it).to_string().into_bytes();
                let end = json.len() - 1;
                json.splice(end..end, vec![b' '; length - json.len() - "*00000000\n".len()]);
                spelt(&json)
            }
            Sent::Raw(bytes) => bytes.clone(),
            Sent::Text(text) => spelt(text),
            Sent::Noise(length) => noise(*length),
            Sent::Flood(length) => vec![b'A'; *length],
        };
        self.fixtures[fixture].1.send_raw(&[held, bytes].concat());
    }

    /// The station's next message, checked for what holds always.
    fn heard(&mut self, fixture: usize, deadline: &Deadline) -> Value {
        let message = self.fixtures[fixture].1.next_before(deadline);
        check::message(&message);
        if message["type"] == "pull" {
            self.greeted.insert(fixture);
        }
        // A unit whose id stands for another may come from a fixture that was reset: it is asked.
        if message["type"] == "nak" && message["code"] == "busy" {
            self.greeted.remove(&fixture);
        }
        let late_hello = message["type"] == "hello" && self.greeted.contains(&fixture);
        assert!(!late_hello, "the station says hello to a fixture that has");
        message
    }

    fn expect_all(&mut self, fixture: usize, patterns: &[Value]) {
        let deadline = Deadline::after(PATIENCE);
        let mut left = patterns.to_vec();
        while !left.is_empty() {
            let message = self.heard(fixture, &deadline);
            let found = left.iter().position(|pattern| {
                let mut names = HashMap::new();
                fits(&message, &learned(pattern, &message, &mut names))
            });
            match found {
                Some(at) => drop(learned(&left.remove(at), &message, &mut self.names)),
                None => assert_eq!(message["type"], "pull", "expected {left:?}"),
            }
        }
    }

    fn expect(&mut self, fixture: usize, pattern: &Value, after: After) {
        let deadline = Deadline::after(PATIENCE);
        for others in 0.. {
            let message = self.heard(fixture, &deadline);
            let pattern = learned(pattern, &message, &mut self.names);
            let wanted = self.filled(&pattern);
            if fits(&message, &wanted) {
                return;
            }
            let may_come = match after {
                After::Nothing => false,
                After::Asking => message["type"] == "pull" || message["type"] == "hello",
                After::Others(most) => others < most,
            };
            let mut shown = message.clone();
            shown["private_key"] = Value::Null;
            assert!(may_come, "expected {wanted}, but the station says {shown}");
        }
    }

    fn carry_out(&mut self, deed: &Deed) {
        match deed {
            Deed::Start => self.world.start(),
            Deed::Kill => {
                self.greeted.clear();
                self.world.kill9();
            }
            Deed::Terminate => self.world.terminate(),
            Deed::Ended(status) => {
                let (ended, log) = self.world.ended();
                assert_eq!(ended, *status, "{log}");
            }
            Deed::Greet(boot) => {
                for (name, fixture) in &mut self.fixtures {
                    fixture.hello(name, *boot);
                }
            }
            Deed::Replug => {
                self.greeted.remove(&0);
                self.fixtures[0].1.replug();
            }
            Deed::Unplug => {
                self.greeted.remove(&0);
                self.fixtures[0].1.unplug();
            }
            Deed::Swap => {
                self.greeted.clear();
                let [(_, one), (_, other), ..] = &mut self.fixtures[..] else { panic!("there are no two") };
                TestFixture::swap(one, other);
            }
            Deed::Order(words) => {
                let beside = self.world.path("").display().to_string();
                let words: Vec<_> = words.iter().map(|it| it.replace("$DIR/", &beside)).collect();
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                let (status, _, log) = self.world.command(&words);
                assert_eq!(status, 0, "{words:?}: {log}");
            }
            Deed::File(name, content) => {
                let path = self.world.path(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                put(&path, content.as_bytes());
            }
            Deed::Cloud(mode) => self.world.set_cloud(*mode),
            Deed::Policy(name, document) => {
                self.world
                    .seed(&format!("/policies/{name}"), &json!({ "policyDocument": document.to_string() }));
            }
            Deed::Thing(name, station) => {
                let attributes = json!({ "attributePayload": { "attributes": { "linemint": station } } });
                self.world.seed(&format!("/things/{name}"), &attributes);
            }
        }
    }

    fn check(&mut self, fact: &Fact) {
        match fact {
            Fact::Device(serial, pointer, wanted) => {
                let wanted = self.filled(wanted);
                self.world.becomes(&format!("/v1/devices/{serial}"), pointer, &wanted);
            }
            Fact::Status(pointer, wanted) => self.world.becomes("/v1/status", pointer, wanted),
            Fact::Account(serials) => self.world.eventually("the audit holds", |world| {
                let audit = world.audit(serials);
                if audit.ok { Ok(()) } else { Err(audit.problems) }
            }),
            Fact::Active(wanted) => self.world.eventually("the number of active certificates", |world| {
                let active = world.audit(&[""; 0]).active_certificates;
                if active == *wanted { Ok(()) } else { Err(active) }
            }),
            Fact::Logged(text, true) => drop(self.world.station().stderr.wait_for(text)),
            Fact::Logged(text, false) => {
                assert!(!self.world.station().stderr.text().contains(text), "{text} is in the log");
            }
            Fact::Delivered(serial) => {
                let manifest = self.world.path("out").join(serial).join("manifest.json");
                let text = std::fs::read_to_string(&manifest).unwrap_or_else(|it| panic!("{serial}: {it}"));
                let manifest: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(manifest["serial"], serial.as_str());
            }
            Fact::Missing(serial) => {
                let answer = self.world.get(&format!("/v1/devices/{serial}"));
                assert!(answer.is_err(), "the station knows {serial}: {answer:?}");
            }
            Fact::Event(name, pointer, wanted) => self.world.eventually(name, |world| {
                let page = world.get("/v1/events?limit=1000").map_err(|error| error.to_string())?;
                let events = page["events"].as_array().unwrap().iter().filter(|it| it["event"] == **name);
                let found = events.clone().any(|it| it.pointer(pointer) == Some(wanted));
                if found { Ok(()) } else { Err(format!("{:?}", events.collect::<Vec<_>>())) }
            }),
            Fact::File(name, text) => {
                let content = std::fs::read_to_string(self.world.path(name)).unwrap();
                assert!(content.contains(text), "{content}");
            }
            Fact::NoKeys => self.world.eventually("no private key is left", |world| {
                let keys = world.private_keys();
                if keys.is_empty() { Ok(()) } else { Err(keys) }
            }),
        }
    }

    /// Puts what names stand for in their place.
    fn filled(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix('$') {
                None => value.clone(),
                Some(name) => self.meant(name),
            },
            Value::Object(members) => {
                members.iter().map(|(key, value)| (key.clone(), self.filled(value))).collect()
            }
            _ => value.clone(),
        }
    }

    fn meant(&mut self, name: &str) -> Value {
        match name.split_once(':') {
            Some(("csr", key)) => self.keys.csr(key, false).into(),
            Some(("csr-ca", key)) => self.keys.csr(key, true).into(),
            Some(("serial", length)) => "S".repeat(length.parse().unwrap()).into(),
            _ => self.names.get(name).unwrap_or_else(|| panic!("nothing was taken for {name}")).clone(),
        }
    }
}

/// The pattern with each `"$=name"` replaced by what the message has there, which `name` then means.
fn learned(pattern: &Value, message: &Value, names: &mut HashMap<String, Value>) -> Value {
    match pattern {
        Value::Object(members) => members
            .iter()
            .map(|(key, pattern)| (key.clone(), learned(pattern, &message[key.as_str()], names)))
            .collect(),
        Value::String(text) => match text.strip_prefix("$=") {
            Some(name) if !message.is_null() => {
                names.insert(name.to_owned(), message.clone());
                message.clone()
            }
            // Not there: fits nothing.
            Some(_) => "*".into(),
            None => pattern.clone(),
        },
        _ => pattern.clone(),
    }
}

/// A frame whose JSON is spelt as it stands; a CR at its end goes behind the CRC.
fn spelt(text: &[u8]) -> Vec<u8> {
    let json = text.strip_suffix(b"\r").unwrap_or(text);
    let crc = format!("*{:08X}", crc32fast::hash(json));
    [json, crc.as_bytes(), &text[json.len()..], b"\n"].concat()
}

/// Bytes as a cable makes them, without a line end but for the last.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(|| random.u8(..)).filter(|it| *it != b'\n').take(length).collect();
    bytes.push(b'\n');
    bytes
}
