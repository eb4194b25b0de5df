//! Judges by the way: whatever the fixture says, whenever it says it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::CheckOptions;
use super::desk::Findings;
use super::rules::{self, Rule};
use crate::fixture::frame::BadReason;
use crate::fixture::{Credentials, FixtureMessage, PROTOCOL, StationMessage, Unit};
use crate::pki::csr::check_csr;

/// What a fixture may tell of itself in `attributes`.
const MAX_ATTRIBUTES: usize = 16;

/// Longest serial number.
const MAX_SERIAL_LEN: usize = 128;

/// A presentation, as far as it has been heard of.
#[derive(Debug)]
pub(super) struct Presentation {
    pub(super) unit: Unit,
    /// When `unit` came.
    pub(super) offers: Vec<Duration>,
    /// When `written` came.
    pub(super) reports: Vec<Duration>,
    /// What the unit is to hold, once something was given for it.
    given: Option<String>,
    /// The reason of a `write-failed`.
    pub(super) write_failed: Option<String>,
    /// When it was told that it is over.
    ended_at: Option<Duration>,
    /// It was taken out, or another is in its nest.
    pub(super) is_gone: bool,
    /// The plan has used it.
    pub(super) is_taken: bool,
    /// The id that it goes by now.
    goes_by: Option<u64>,
}

impl Presentation {
    fn is_open(&self) -> bool {
        self.ended_at.is_none() && !self.is_gone
    }

    fn last_heard(&self) -> Duration {
        self.offers.last().copied().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Watch {
    options: Rc<CheckOptions>,
    pub(super) findings: Findings,
    /// Name, firmware and boot of the newest `hello`.
    pub(super) hello: Option<(String, Option<String>, u64)>,
    /// From here on what comes is judged: what was on the line before is nobody's.
    pub(super) is_greeted: bool,
    /// A person was asked to reset the fixture.
    pub(super) awaits_reset: bool,
    /// What is still to come in answer: `hello`, `idle`, and `removed` by id and serial.
    pub(super) hellos_owed: u32,
    idles_owed: u32,
    removals_owed: HashMap<(u64, String), u32>,
    pub(super) presentations: BTreeMap<u64, Presentation>,
    /// Certificates that no unit was to have, and the rule that this breaks.
    foreign: HashMap<String, &'static Rule>,
    /// What each unit has said that it stored.
    stored: HashMap<String, String>,
    /// Serial numbers that are not to come again, since when.
    given_up: HashMap<String, Duration>,
    judged_holds: u32,
    presented: u64,
    frames: u64,
    pub(super) bad_lines: u64,
    pub(super) newest_bad: Option<String>,
    pub(super) echoes: u64,
    csrs: HashSet<String>,
}

impl Watch {
    pub(super) fn new(options: Rc<CheckOptions>) -> Self {
        Self {
            options,
            findings: Findings::default(),
            hello: None,
            is_greeted: false,
            awaits_reset: false,
            hellos_owed: 0,
            idles_owed: 0,
            removals_owed: HashMap::new(),
            presentations: BTreeMap::new(),
            foreign: HashMap::new(),
            stored: HashMap::new(),
            given_up: HashMap::new(),
            judged_holds: 0,
            presented: 0,
            frames: 0,
            bad_lines: 0,
            newest_bad: None,
            echoes: 0,
            csrs: HashSet::new(),
        }
    }

    /// A line that is no frame. Its sample is escaped already.
    pub(super) fn hear_bad(&mut self, reason: BadReason, sample: &str) {
        self.bad_lines += 1;
        let seen = format!("{reason}: {sample}");
        if self.is_greeted {
            let is_crc = matches!(
                reason,
                BadReason::NoChecksum | BadReason::WrongChecksum | BadReason::TooLong | BadReason::NotUtf8
            );
            self.findings.failed(if is_crc { rules::CRC } else { rules::FRAMES }, &seen);
        }
        self.newest_bad = Some(seen);
    }

    pub(super) fn hear_echo(&mut self) {
        self.echoes += 1;
        if self.is_greeted {
            let seen = "a frame came that only stations send: the line echoes, or the fixture's program does";
            self.findings.failed(rules::OWN_TYPES, seen);
        }
    }

    /// Notes what the station is about to say.
    pub(super) fn said(&mut self, now: Duration, message: &StationMessage) {
        match message {
            StationMessage::Hello { .. } => self.hellos_owed += 1,
            StationMessage::Pull => self.idles_owed += 1,
            StationMessage::Credentials(given) => self.gave(given),
            StationMessage::Pass { id, serial, .. } | StationMessage::Fail { id, serial, .. } => {
                self.end(*id, Some(serial), now);
            }
            StationMessage::Nak { id: Some(id), code, .. } if code.is_final() => self.end(*id, None, now),
            StationMessage::Nak { .. } | StationMessage::Ack { .. } => {}
        }
    }

    fn end(&mut self, id: u64, serial: Option<&str>, now: Duration) {
        if let Some(it) = self.presentations.get_mut(&id)
            && serial.is_none_or(|serial| it.unit.serial == *serial)
        {
            it.ended_at.get_or_insert(now);
        }
    }

    fn gave(&mut self, given: &Credentials) {
        let is_its_own = |it: &&mut Presentation| it.unit.serial == given.serial;
        match self.presentations.get_mut(&given.id).filter(is_its_own) {
            Some(it) => it.given = Some(given.certificate_sha256.clone()),
            None => {
                *self.removals_owed.entry((given.id, given.serial.clone())).or_default() += 1;
                let is_known = self.presentations.contains_key(&given.id);
                let rule = if is_known { rules::WRONG_SERIAL } else { rules::WRONG_ID };
                self.foreign.insert(given.certificate_sha256.clone(), rule);
            }
        }
    }

    /// The unit is not to come again.
    pub(super) fn give_up(&mut self, serial: &str, now: Duration) {
        self.given_up.insert(serial.to_owned(), now);
    }

    pub(super) fn hear(&mut self, at: Duration, message: &FixtureMessage) {
        self.frames += 1;
        match message {
            FixtureMessage::Hello { protocol, fixture, boot, firmware } => {
                self.hear_hello(*protocol, fixture, *boot);
                self.hello = Some((fixture.clone(), firmware.clone(), *boot));
            }
            // A repeated unit may meet a pull on the way, whose answer is still to come: it takes none off.
            FixtureMessage::Unit(unit) => self.hear_unit(at, unit),
            FixtureMessage::Idle => match self.idles_owed.checked_sub(1) {
                Some(left) => self.idles_owed = left,
                None if self.is_greeted => self.findings.failed(rules::ONCE, "idle came without a pull"),
                None => {}
            },
            FixtureMessage::Written { id, serial, certificate_sha256 } => {
                self.hear_written(at, *id, serial, certificate_sha256);
            }
            FixtureMessage::WriteFailed { id, reason, .. } => {
                if let Some(it) = self.presentations.get_mut(id) {
                    it.write_failed = Some(reason.clone());
                }
            }
            FixtureMessage::Removed { id, serial } => self.hear_removed(*id, serial),
        }
    }

    fn hear_hello(&mut self, protocol: u64, name: &str, boot: u64) {
        if protocol != PROTOCOL {
            self.findings.failed(rules::HELLO_RIGHT, format!("hello tells protocol {protocol}"));
        }
        if let Some(wanted) = self.options.name.as_deref().filter(|it| *it != name) {
            self.findings.failed(rules::HELLO_RIGHT, format!("hello tells {name:?}, and not {wanted:?}"));
        }
        let (true, Some(before)) = (self.is_greeted, self.hello.as_ref().map(|it| it.2)) else { return };
        let was_asked = self.hellos_owed > 0;
        self.hellos_owed = self.hellos_owed.saturating_sub(1);
        match (was_asked, boot == before) {
            (true, true) => {}
            (true, false) => {
                let seen = format!("boot was {before} and is {boot} without a reset");
                self.findings.failed(rules::BOOT_KEPT, seen);
            }
            (false, _) if self.awaits_reset => {
                let seen = format!("boot {before} before, {boot} after");
                if boot == before {
                    self.findings.failed(rules::BOOT_DIFFERS, seen);
                } else {
                    self.findings.ok(rules::BOOT_DIFFERS, seen);
                }
                self.presentations.clear();
            }
            (false, true) => self.findings.failed(rules::ONCE, "hello came without being asked for"),
            (false, false) => {
                let seen = format!("the fixture was reset during the check: boot {before}, then {boot}");
                self.findings.failed(rules::BOOT_KEPT, seen);
                self.presentations.clear();
            }
        }
    }

    fn hear_unit(&mut self, at: Duration, unit: &Unit) {
        self.check_unit(unit);
        self.check_key(unit);
        self.check_holds(unit);
        if let Some(it) = self.presentations.get_mut(&unit.id) {
            let grace = self.options.resend / 2;
            let is_late = it.ended_at.is_some_and(|end| at > end + grace);
            let was_silent = at.saturating_sub(it.last_heard()) > self.options.resend.mul_f64(2.5);
            let is_another = it.unit.serial != unit.serial || it.unit.nest != unit.nest;
            if is_another || is_late && was_silent {
                let seen =
                    format!("id {} came for {:?}, and again for {:?}", unit.id, it.unit.serial, unit.serial);
                self.findings.failed(rules::IDS, seen);
                self.presentations.remove(&unit.id);
            } else {
                if it.unit != *unit && it.is_open() {
                    let seen = format!("unit {} was repeated with other members", unit.id);
                    self.findings.failed(rules::ID_KEPT, seen);
                    it.unit = unit.clone();
                }
                it.offers.push(at);
                return;
            }
        }
        self.new_presentation(at, unit);
    }

    fn new_presentation(&mut self, at: Duration, unit: &Unit) {
        if let Some(since) = self.given_up.get(&unit.serial)
            && at > *since + self.options.resend / 2
        {
            let seen = format!("{:?} was presented again as {}", unit.serial, unit.id);
            self.findings.failed(rules::FAIL_FINAL, seen);
        }
        let mut before = (Vec::new(), false);
        for (id, it) in &mut self.presentations {
            let same_place = it.unit.nest.is_some() && it.unit.nest == unit.nest;
            if !it.is_open() || !(same_place || it.unit.serial == unit.serial) {
                continue;
            }
            if it.unit.serial == unit.serial {
                let seen = format!(
                    "{:?} was unit {id} and came as {} with no end of the first",
                    unit.serial, unit.id
                );
                self.findings.failed(rules::ID_KEPT, seen);
                it.goes_by = Some(unit.id);
                before = (it.offers.clone(), it.is_taken);
            }
            it.is_gone = true;
        }
        self.presented += 1;
        let (mut offers, is_taken) = before;
        offers.push(at);
        let fresh = Presentation {
            unit: unit.clone(),
            offers,
            reports: Vec::new(),
            given: None,
            write_failed: None,
            ended_at: None,
            is_gone: false,
            is_taken,
            goes_by: None,
        };
        self.presentations.insert(unit.id, fresh);
    }

    /// The id that what was presentation `id` goes by now.
    pub(super) fn now_known_as(&self, mut id: u64) -> u64 {
        while let Some(next) = self.presentations.get(&id).and_then(|it| it.goes_by) {
            id = next;
        }
        id
    }

    /// A presentation that is open, still said, and has not been used.
    pub(super) fn fresh(&self, now: Duration) -> Option<u64> {
        let is_said = |it: &Presentation| now.saturating_sub(it.last_heard()) <= self.options.resend * 3;
        let fresh = |it: &Presentation| it.is_open() && !it.is_taken && is_said(it);
        self.presentations.iter().find(|(_, it)| fresh(it)).map(|(id, _)| *id)
    }

    fn check_unit(&mut self, unit: &Unit) {
        let serial = &unit.serial;
        let is_legal =
            |it: &str| (1..=MAX_SERIAL_LEN).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic());
        if !is_legal(serial) {
            let seen = format!("the serial {serial:?} is none");
            return self.findings.failed(rules::WELL_FORMED, seen);
        }
        if self.options.serial.as_ref().is_some_and(|it| !it.is_match(serial)) {
            let seen = format!("the serial {serial:?} does not match the pattern that was given");
            return self.findings.failed(rules::WELL_FORMED, seen);
        }
        let digits = |text: &str| text.chars().filter(|it| !matches!(it, ':' | '-')).collect::<String>();
        let is_hex =
            |text: &str, len: usize| text.len() == len && text.bytes().all(|it| it.is_ascii_hexdigit());
        if let Some(mac) = unit.mac.as_deref().filter(|it| !is_hex(&digits(it), 12)) {
            return self.findings.failed(rules::WELL_FORMED, format!("the MAC address {mac:?} is none"));
        }
        if let Some(holds) = unit.holds.as_deref().filter(|it| !it.is_empty() && !is_hex(it, 64)) {
            return self.findings.failed(rules::WELL_FORMED, format!("holds is {holds:?}"));
        }
        if unit.attributes.len() > MAX_ATTRIBUTES {
            let seen = format!("there are {} attributes", unit.attributes.len());
            self.findings.failed(rules::WELL_FORMED, seen);
        }
    }

    fn check_key(&mut self, unit: &Unit) {
        let Some(csr) = &unit.csr else {
            if self.options.device_key == Some(true) {
                self.findings.failed(rules::KEY, format!("unit {} brings no CSR", unit.id));
            }
            return;
        };
        if self.options.device_key == Some(false) {
            return self.findings.failed(rules::KEY, format!("unit {} brings a CSR", unit.id));
        }
        // A unit is repeated often, and a signature is dear.
        if self.csrs.insert(csr.clone())
            && let Err(error) = check_csr(csr)
        {
            self.findings.failed(rules::KEY, format!("unit {}: {error}", unit.id));
        }
    }

    fn check_holds(&mut self, unit: &Unit) {
        let Some(holds) = unit.holds.as_deref().map(str::to_ascii_lowercase) else { return };
        if let Some(rule) = self.foreign.get(&holds) {
            let seen = format!("{:?} holds the certificate that was sent for another unit", unit.serial);
            return self.findings.failed(rule, seen);
        }
        let Some(stored) = self.stored.get(&unit.serial) else { return };
        self.judged_holds += 1;
        if *stored != holds {
            let seen = format!("{:?} said that it stored {stored}, and holds {holds:?}", unit.serial);
            self.findings.failed(rules::HOLDS, seen);
        }
    }

    fn hear_written(&mut self, at: Duration, id: u64, serial: &str, sha256: &str) {
        let sha256 = sha256.to_ascii_lowercase();
        if let Some(rule) = self.foreign.get(&sha256) {
            let seen = format!("{serial:?} says that it stored what was sent for another unit");
            return self.findings.failed(rule, seen);
        }
        let Some(it) = self.presentations.get_mut(&id) else {
            return self.findings.failed(rules::HASH, format!("written names id {id}, which no unit has"));
        };
        it.reports.push(at);
        if it.unit.serial != serial {
            let seen = format!("written {id} names {serial:?}, and unit {id} is {:?}", it.unit.serial);
            return self.findings.failed(rules::HASH, seen);
        }
        match &it.given {
            Some(given) if *given == sha256 => {
                self.stored.insert(serial.to_owned(), sha256);
            }
            Some(given) => {
                let seen = format!("written {id} tells {sha256}, and the certificate's is {given}");
                self.findings.failed(rules::HASH, seen);
            }
            None => {
                let seen = format!("written {id} came before anything was given");
                self.findings.failed(rules::HASH, seen);
            }
        }
    }

    fn hear_removed(&mut self, id: u64, serial: &str) {
        let key = (id, serial.to_owned());
        if let Some(owed) = self.removals_owed.get_mut(&key) {
            match owed.checked_sub(1) {
                Some(left) => *owed = left,
                None => {
                    let seen = format!("removed {id} {serial:?} came more often than it was asked for");
                    self.findings.failed(rules::ONCE, seen);
                }
            }
        } else if let Some(it) = self.presentations.get_mut(&id) {
            it.is_gone |= it.unit.serial == serial;
        }
    }

    /// Says of the rules that are judged by the way that they were kept, where they were not broken.
    pub(super) fn conclude(&mut self) {
        if !self.is_greeted {
            return;
        }
        let found = &mut self.findings;
        found.ok(rules::HELLO_RIGHT, self.hello.as_ref().map_or(String::new(), |it| format!("{:?}", it.0)));
        found.ok(rules::BOOT_KEPT, self.hello.as_ref().map_or(String::new(), |it| it.2.to_string()));
        found.ok(rules::CRC, format!("{} frames", self.frames));
        found.ok(rules::FRAMES, format!("{} frames", self.frames));
        found.ok(rules::OWN_TYPES, format!("{} frames", self.frames));
        found.ok(rules::ONCE, "each came once");
        if self.presented > 0 {
            let count = self.presented;
            found.ok(rules::WELL_FORMED, format!("{count} presentations"));
            found.ok(rules::IDS, format!("{count} presentations"));
            let keys = if self.csrs.is_empty() {
                "no unit brings a CSR".to_owned()
            } else {
                format!("{} CSRs", self.csrs.len())
            };
            found.ok(rules::KEY, keys);
        }
        if !self.stored.is_empty() {
            found.ok(rules::HASH, format!("{} units", self.stored.len()));
        }
        if self.judged_holds > 0 {
            found.ok(rules::HOLDS, format!("told by {} units", self.judged_holds));
        } else {
            found.skipped(rules::HOLDS, "no unit came again and told what it holds");
        }
    }
}
