//! One thing wrong, and the rule that finds it; no other may.

use std::collections::{HashMap, HashSet};

use super::crooked::Fault;
use super::*;
use crate::fixture::frame::{Decoded, encode};
use crate::fixture::{FixtureMessage, NakCode, StationMessage, Unit};

/// Runs a whole check with the fault, and expects that exactly `rule` is broken.
fn finds(rule: &str, fault: impl Fault + 'static) {
    finds_with(rule, fault, CheckOptions::default());
}

fn finds_with(rule: &str, fault: impl Fault + 'static, options: CheckOptions) {
    let (report, _) = checked(Fixture::with(fault), options);
    assert_eq!(of(&report, Verdict::Failed), [rule], "{}", told(&report));
}

/// A fault of functions.
struct Wrong<H, S> {
    heard: H,
    said: S,
}

impl<H, S> Fault for Wrong<H, S>
where
    H: FnMut(StationMessage, Duration) -> Option<StationMessage>,
    S: FnMut(FixtureMessage, Duration) -> Vec<FixtureMessage>,
{
    fn heard(&mut self, message: StationMessage, now: Duration) -> Option<StationMessage> {
        (self.heard)(message, now)
    }

    fn said(&mut self, message: FixtureMessage, now: Duration) -> Vec<FixtureMessage> {
        (self.said)(message, now)
    }
}

fn hears(heard: impl FnMut(StationMessage) -> Option<StationMessage>) -> impl Fault {
    let mut heard = heard;
    Wrong { heard: move |message, _| heard(message), said: |message, _| vec![message] }
}

fn says(said: impl FnMut(FixtureMessage) -> Vec<FixtureMessage>) -> impl Fault {
    let mut said = said;
    Wrong { heard: |message, _| Some(message), said: move |message, _| said(message) }
}

/// A fault in the reading of bytes.
struct Reads<F>(F);

impl<F: FnMut(&[u8]) -> Vec<u8>> Fault for Reads<F> {
    fn bytes_in(&mut self, bytes: &[u8]) -> Vec<u8> {
        (self.0)(bytes)
    }
}

fn has(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|it| it == part.as_bytes())
}

/// Reads nothing more for one write after such a line.
fn deaf_after(part: &'static str) -> impl Fault {
    let mut is_deaf = false;
    Reads(move |bytes: &[u8]| {
        let was_deaf = std::mem::replace(&mut is_deaf, has(bytes, part));
        if was_deaf { Vec::new() } else { bytes.to_vec() }
    })
}

/// A fault in the frames that are sent: a line before each.
struct Before(Vec<u8>);

impl Fault for Before {
    fn frame(&mut self, frame: Vec<u8>) -> Vec<u8> {
        [self.0.as_slice(), &frame].concat()
    }
}

#[test]
fn in_its_hello() {
    let mut hellos = 0;
    finds(
        "hello-answered",
        hears(move |message| {
            hellos += usize::from(matches!(message, StationMessage::Hello { .. }));
            (hellos != 2 || !matches!(message, StationMessage::Hello { .. })).then_some(message)
        }),
    );
    finds("hello-right", says(|message| vec![hello(message, |protocol, _| *protocol = 2)]));
    let named = CheckOptions { name: Some("nest-2".into()), ..CheckOptions::default() };
    finds_with("hello-right", says(|message| vec![message]), named);
    let mut resets = 0;
    let changes = says(move |message| {
        resets += 1;
        vec![hello(message, |_, boot| *boot += resets)]
    });
    finds("boot-kept", changes);
    let resets = CheckOptions { reset: true, ..CheckOptions::default() };
    finds_with("boot-differs-after-reset", says(|message| vec![hello(message, |_, boot| *boot = 7)]), resets);
    let twice = says(|message| match message {
        FixtureMessage::Hello { .. } => vec![message.clone(), message],
        _ => vec![message],
    });
    finds("answers-not-repeated", twice);
}

fn hello(mut message: FixtureMessage, change: impl FnOnce(&mut u64, &mut u64)) -> FixtureMessage {
    if let FixtureMessage::Hello { protocol, boot, .. } = &mut message {
        change(protocol, boot);
    }
    message
}

#[test]
fn in_reading_good_frames() {
    let whole_reads = |bytes: &[u8]| if bytes.ends_with(b"\n") { bytes.to_vec() } else { Vec::new() };
    finds("frame-in-pieces-read", Reads(whole_reads));
    let no_cr = |bytes: &[u8]| if bytes.ends_with(b"\r\n") { Vec::new() } else { bytes.to_vec() };
    finds("spellings-accepted", Reads(no_cr));
    let strict = |bytes: &[u8]| if has(bytes, "colour") { Vec::new() } else { bytes.to_vec() };
    finds("unknown-members-ignored", Reads(strict));
}

#[test]
fn in_reading_bad_ones() {
    finds("garbage-tolerated", deaf_after("AT+CGMI"));
    finds("bad-json-tolerated", deaf_after("[1,2,3]"));
    finds("unknown-type-ignored", deaf_after("weather"));
    let begins_anew = |bytes: &[u8]| bytes.get(16_384..).unwrap_or(bytes).to_vec();
    finds("overlong-tolerated", Reads(begins_anew));
    let trusting = |bytes: &[u8]| {
        let lines = bytes.split_inclusive(|it| *it == b'\n').map(|line| match line.len() {
            11..200 if line.starts_with(b"{") && line[line.len() - 10] == b'*' => {
                let json = &line[..line.len() - 10];
                [json, format!("*{:08X}\n", crc32fast::hash(json)).as_bytes()].concat()
            }
            _ => line.to_vec(),
        });
        lines.flatten().collect()
    };
    finds("wrong-crc-ignored", Reads(trusting));
}

/// Answers its own `hello`.
struct AnswersEchoes;

impl Fault for AnswersEchoes {
    fn answers(&mut self, message: &Decoded<StationMessage>) -> Vec<FixtureMessage> {
        let hello = FixtureMessage::Hello { protocol: 1, fixture: "nest-1".into(), boot: 1, firmware: None };
        if *message == Decoded::Echo { vec![hello] } else { Vec::new() }
    }
}

#[test]
fn in_what_it_makes_of_an_echo() {
    // Its answer has another boot, which is the echo's fault here.
    let (report, _) = checked(Fixture::with(AnswersEchoes), CheckOptions::default());
    assert_eq!(of(&report, Verdict::Failed), ["boot-kept", "echo-tolerated"], "{}", told(&report));
}

#[test]
fn in_its_frames() {
    finds("crc-right", Before(b"{\"type\":\"idle\"}*00000000\n".to_vec()));
    finds("frames-well-formed", Before(encode(&serde_json::json!({ "type": "status" })).unwrap().to_vec()));
    finds("own-types-only", Before(encode(&serde_json::json!({ "type": "pull" })).unwrap().to_vec()));
}

fn unit(mut message: FixtureMessage, change: impl FnOnce(&mut Unit)) -> FixtureMessage {
    if let FixtureMessage::Unit(unit) = &mut message {
        change(unit);
    }
    message
}

#[test]
fn in_how_it_presents_units() {
    finds("idle-or-unit-answers-pull", hears(|it| (!matches!(it, StationMessage::Pull)).then_some(it)));
    finds("unit-well-formed", says(|it| vec![unit(it, |unit| unit.mac = Some("00:1B:44".into()))]));
    finds("key-as-told", says(|it| vec![unit(it, |unit| unit.csr = Some("-----BEGIN".into()))]));
    let keys = CheckOptions { device_key: Some(true), ..CheckOptions::default() };
    finds_with("key-as-told", says(|it| vec![it]), keys);
    let serial = CheckOptions { serial: Some(Regex::new("^[a-z]+$").unwrap()), ..CheckOptions::default() };
    finds_with("unit-well-formed", says(|it| vec![it]), serial);
    finds(
        "holds-right",
        says(|it| vec![unit(it, |unit| unit.holds = unit.holds.take().map(|_| String::new()))]),
    );
}

#[test]
fn in_how_it_repeats_units() {
    finds("unit-repeated-until-ack", OnceUnlessAsked { seen: HashSet::new(), is_asked: false });
    let doubled = says(|it| match it {
        FixtureMessage::Unit(_) => vec![it.clone(), it],
        _ => vec![it],
    });
    finds("never-two-copies", doubled);
    finds("repeat-after-ack-slow", hears(|it| (!matches!(it, StationMessage::Ack { .. })).then_some(it)));
    finds("id-kept-while-waiting", NewIdEachTime::default());
    finds("ids-never-repeat", OldIdAgain::default());
}

struct OnceUnlessAsked {
    seen: HashSet<u64>,
    is_asked: bool,
}

impl Fault for OnceUnlessAsked {
    fn heard(&mut self, message: StationMessage, _now: Duration) -> Option<StationMessage> {
        self.is_asked |= matches!(message, StationMessage::Pull);
        Some(message)
    }

    fn said(&mut self, message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        match &message {
            FixtureMessage::Unit(unit) if !self.seen.insert(unit.id) && !self.is_asked => Vec::new(),
            FixtureMessage::Unit(_) => {
                self.is_asked = false;
                vec![message]
            }
            _ => vec![message],
        }
    }
}

/// Gives a waiting unit another id whenever it says it.
#[derive(Default)]
struct NewIdEachTime {
    next: u64,
    shown: HashMap<u64, u64>,
    meant: HashMap<u64, u64>,
}

/// The id of a message of the station.
fn id_of(message: &mut StationMessage) -> Option<&mut u64> {
    match message {
        StationMessage::Ack { id }
        | StationMessage::Pass { id, .. }
        | StationMessage::Fail { id, .. }
        | StationMessage::Nak { id: Some(id), .. } => Some(id),
        StationMessage::Credentials(it) => Some(&mut it.id),
        _ => None,
    }
}

/// The id of a message of the fixture.
fn said_id(message: &mut FixtureMessage) -> Option<&mut u64> {
    match message {
        FixtureMessage::Written { id, .. }
        | FixtureMessage::WriteFailed { id, .. }
        | FixtureMessage::Removed { id, .. } => Some(id),
        FixtureMessage::Unit(unit) => Some(&mut unit.id),
        _ => None,
    }
}

impl Fault for NewIdEachTime {
    fn heard(&mut self, mut message: StationMessage, _now: Duration) -> Option<StationMessage> {
        if let Some(id) = id_of(&mut message) {
            *id = self.meant.get(id).copied().unwrap_or(*id);
        }
        Some(message)
    }

    fn said(&mut self, mut message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        let is_unit = matches!(message, FixtureMessage::Unit(_));
        if let Some(id) = said_id(&mut message) {
            if is_unit {
                self.next += 1;
                self.shown.insert(*id, 1_000 + self.next);
                self.meant.insert(1_000 + self.next, *id);
            }
            *id = self.shown.get(id).copied().unwrap_or(*id);
        }
        vec![message]
    }
}

/// A unit that comes again has the id that it had.
#[derive(Default)]
struct OldIdAgain {
    first: HashMap<String, u64>,
    now: HashMap<u64, u64>,
}

impl Fault for OldIdAgain {
    fn heard(&mut self, mut message: StationMessage, _now: Duration) -> Option<StationMessage> {
        if let Some(id) = id_of(&mut message) {
            *id = self.now.get(id).copied().unwrap_or(*id);
        }
        Some(message)
    }

    fn said(&mut self, mut message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        if let FixtureMessage::Unit(unit) = &message {
            let first = *self.first.entry(unit.serial.clone()).or_insert(unit.id);
            self.now.insert(first, unit.id);
        }
        let shown = self.now.iter().map(|(first, now)| (*now, *first)).collect::<HashMap<_, _>>();
        if let Some(id) = said_id(&mut message) {
            *id = shown.get(id).copied().unwrap_or(*id);
        }
        vec![message]
    }
}

fn nak_as(taken: NakCode, for_what: NakCode) -> impl Fault {
    hears(move |message| match message {
        StationMessage::Nak { id, code, message } if code == taken => {
            Some(StationMessage::Nak { id, code: for_what, message })
        }
        other => Some(other),
    })
}

#[test]
fn in_what_it_takes_for_final() {
    finds("busy-not-final", nak_as(NakCode::Busy, NakCode::Duplicate));
    finds("draining-not-final", nak_as(NakCode::Draining, NakCode::Duplicate));
    finds("bad-frame-not-final", nak_as(NakCode::BadFrame, NakCode::Duplicate));
    finds("final-nak-ends", nak_as(NakCode::Duplicate, NakCode::BadFrame));
    finds("pass-ends", hears(|it| (!matches!(it, StationMessage::Pass { .. })).then_some(it)));
    finds("fail-ends", hears(|it| (!matches!(it, StationMessage::Fail { .. })).then_some(it)));
    let stubborn = hears(|message| match message {
        StationMessage::Fail { id, serial, code, message, .. } => {
            Some(StationMessage::Fail { id, serial, code, message, retry: true })
        }
        other => Some(other),
    });
    finds("fail-retry-false-respected", stubborn);
}

#[test]
fn in_its_patience_when_the_station_is_busy() {
    finds("busy-not-final", AtOnce::default());
}

/// Says a unit again as soon as the station is busy.
#[derive(Default)]
struct AtOnce {
    newest: HashMap<u64, FixtureMessage>,
}

impl Fault for AtOnce {
    fn answers(&mut self, message: &Decoded<StationMessage>) -> Vec<FixtureMessage> {
        match message {
            Decoded::Message(StationMessage::Nak { id: Some(id), code: NakCode::Busy, .. }) => {
                self.newest.get(id).cloned().into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn said(&mut self, message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        if let FixtureMessage::Unit(unit) = &message {
            self.newest.insert(unit.id, message.clone());
        }
        vec![message]
    }
}

/// Serial numbers by the ids under which they were presented.
type Presented = HashMap<u64, String>;

fn note(presented: &mut Presented, message: &FixtureMessage) {
    if let FixtureMessage::Unit(unit) = message {
        presented.insert(unit.id, unit.serial.clone());
    }
}

/// Knows what it has presented, and changes what it hears or says by it.
struct Knowing<H, S> {
    presented: Presented,
    heard: H,
    said: S,
}

impl<H, S> Fault for Knowing<H, S>
where
    H: FnMut(&Presented, StationMessage) -> Option<StationMessage>,
    S: FnMut(&Presented, FixtureMessage) -> Option<FixtureMessage>,
{
    fn heard(&mut self, message: StationMessage, _now: Duration) -> Option<StationMessage> {
        (self.heard)(&self.presented, message)
    }

    fn said(&mut self, message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        note(&mut self.presented, &message);
        (self.said)(&self.presented, message).into_iter().collect()
    }
}

fn knowing(
    heard: impl FnMut(&Presented, StationMessage) -> Option<StationMessage>,
    said: impl FnMut(&Presented, FixtureMessage) -> Option<FixtureMessage>,
) -> impl Fault {
    Knowing { presented: Presented::new(), heard, said }
}

#[test]
fn in_whom_it_takes_credentials_for() {
    let silent_about_ids = |presented: &Presented, it: FixtureMessage| match &it {
        FixtureMessage::Removed { id, .. } if !presented.contains_key(id) => None,
        _ => Some(it),
    };
    finds("wrong-id-refused", knowing(|_, it| Some(it), silent_about_ids));
    let silent_about_serials = |presented: &Presented, it: FixtureMessage| match &it {
        FixtureMessage::Removed { id, .. } if presented.contains_key(id) => None,
        _ => Some(it),
    };
    finds("wrong-serial-refused", knowing(|_, it| Some(it), silent_about_serials));
    let by_serial = |presented: &Presented, it: StationMessage| match it {
        StationMessage::Credentials(mut given) if !presented.contains_key(&given.id) => {
            let own = presented.iter().find(|(_, serial)| **serial == given.serial);
            given.id = own.map_or(given.id, |it| *it.0);
            Some(StationMessage::Credentials(given))
        }
        other => Some(other),
    };
    finds("wrong-id-refused", knowing(by_serial, |_, it| Some(it)));
    let by_id = |presented: &Presented, it: StationMessage| match it {
        StationMessage::Credentials(mut given) if presented.contains_key(&given.id) => {
            given.serial.clone_from(&presented[&given.id]);
            Some(StationMessage::Credentials(given))
        }
        other => Some(other),
    };
    finds("wrong-serial-refused", knowing(by_id, |_, it| Some(it)));
    let any_verdict = |presented: &Presented, it: StationMessage| match it {
        StationMessage::Pass { id, again, .. } if presented.contains_key(&id) => {
            Some(StationMessage::Pass { id, serial: presented[&id].clone(), again })
        }
        other => Some(other),
    };
    finds("foreign-verdict-ignored", knowing(any_verdict, |_, it| Some(it)));
}

#[test]
fn in_what_it_does_with_credentials() {
    let drops_its_own = |presented: &Presented, it: StationMessage| match &it {
        StationMessage::Credentials(given) if presented.get(&given.id) == Some(&given.serial) => None,
        _ => Some(it),
    };
    finds("credentials-answered", knowing(drops_its_own, |_, it| Some(it)));
    let cannot_store = says(|message| match message {
        FixtureMessage::Written { id, serial, .. } => {
            vec![FixtureMessage::WriteFailed { id, serial, reason: "no flash".into() }]
        }
        other => vec![other],
    });
    finds("credentials-answered", cannot_store);
    let zeros = says(|message| match message {
        FixtureMessage::Written { id, serial, .. } => {
            vec![FixtureMessage::Written { id, serial, certificate_sha256: "0".repeat(64) }]
        }
        other => vec![other],
    });
    finds("certificate-hash-right", zeros);
    finds("written-repeated-until-verdict", SaysWrittenOnce { is_asked: false });
    let mut given = HashSet::new();
    let forgetful = hears(move |message| match &message {
        StationMessage::Credentials(it) if !given.insert(it.certificate_sha256.clone()) => None,
        _ => Some(message),
    });
    finds("same-certificate-again-answered-written", forgetful);
}

struct SaysWrittenOnce {
    is_asked: bool,
}

impl Fault for SaysWrittenOnce {
    fn heard(&mut self, message: StationMessage, _now: Duration) -> Option<StationMessage> {
        self.is_asked |= matches!(message, StationMessage::Credentials(_));
        Some(message)
    }

    fn said(&mut self, message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        match message {
            FixtureMessage::Written { .. } if !std::mem::take(&mut self.is_asked) => Vec::new(),
            _ => vec![message],
        }
    }
}

#[test]
fn in_its_nests() {
    finds("nests-independent", Mute { muted: None, busy_with: None });
}

/// While it works at one unit it forgets the others.
struct Mute {
    muted: Option<Duration>,
    busy_with: Option<u64>,
}

impl Fault for Mute {
    fn heard(&mut self, message: StationMessage, now: Duration) -> Option<StationMessage> {
        if let StationMessage::Credentials(it) = &message
            && self.muted.is_none()
        {
            (self.muted, self.busy_with) = (Some(now + Duration::from_secs(8)), Some(it.id));
        }
        Some(message)
    }

    fn said(&mut self, message: FixtureMessage, now: Duration) -> Vec<FixtureMessage> {
        let is_muted = self.muted.is_some_and(|it| now < it);
        match &message {
            FixtureMessage::Unit(unit) if is_muted && Some(unit.id) != self.busy_with => Vec::new(),
            _ => vec![message],
        }
    }
}

#[test]
fn in_how_often_it_answers() {
    let twice = says(|message| match message {
        FixtureMessage::Removed { .. } => vec![message.clone(), message],
        _ => vec![message],
    });
    finds("answers-not-repeated", twice);
}

/// After the final nak nobody seats a unit for a while.
#[derive(Default)]
struct Pausing {
    until: Option<Duration>,
    pulls: usize,
}

impl Fault for Pausing {
    fn heard(&mut self, message: StationMessage, now: Duration) -> Option<StationMessage> {
        match message {
            StationMessage::Pull => self.pulls += 1,
            StationMessage::Nak { code: NakCode::Duplicate, .. } => {
                self.until = Some(now + CheckOptions::default().patience + Duration::from_secs(10));
            }
            _ => {}
        }
        Some(message)
    }

    fn said(&mut self, message: FixtureMessage, now: Duration) -> Vec<FixtureMessage> {
        let asked = std::mem::take(&mut self.pulls) > 0;
        match message {
            FixtureMessage::Unit(_) if self.until.is_some_and(|until| now < until) => {
                asked.then_some(FixtureMessage::Idle).into_iter().collect()
            }
            other => vec![other],
        }
    }
}

#[test]
fn what_was_not_tried_is_not_said_to_be_kept() {
    let (report, _) = checked(Fixture::of_one_nest(Pausing::default()), CheckOptions::default());
    let of_rule = |id: &str| report.checks.iter().find(|it| it.id == id).unwrap().status;
    assert_eq!(of_rule("fail-retry-true-comes-again"), Verdict::Ok, "{}", told(&report));
    assert_eq!(of_rule("fail-retry-false-respected"), Verdict::Skipped, "{}", told(&report));
}
