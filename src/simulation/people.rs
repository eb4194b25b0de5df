//! Fixtures at work, and the people who bring units, take them out and pull plugs.

use std::time::Duration;

use super::jig::{Fate, Noticed};
use super::plan::DOCUMENT_AGAIN;
use super::world::{Event, World};
use crate::device::operator::{Operator, Order, StationOrder};
use crate::device::rules::{PolicyRule, Register, Repeat};
use crate::device::serial::SerialNumber;
use crate::fixture::frame::{Decoded, encode_fixture};
use crate::fixture::{FailCode, FixtureMessage, NakCode};
use crate::line::Input;

/// How many of the fixtures' `hello`s are lost where that may be, in thousandths.
const LOST_HELLOS: u32 = 400;

/// How often a person gives a device up, in thousandths of the occasions.
const GIVEN_UP: u32 = 150;

/// A person has the station take new units again.
pub(super) fn resume() -> Input {
    let by = Operator { uid: 1001, name: "ada".to_owned(), reason: "lunch is over".to_owned() };
    Input::Station { order: StationOrder::Resume, by, ticket: 0 }
}

impl World {
    /// What the account holds before the station begins.
    pub(super) fn plant(&mut self) {
        let own_policy = |it: &crate::device::rules::ProductRules| {
            matches!(it.policy, PolicyRule::Device { .. }) && it.certificate.register != Register::Jitp
        };
        if !self.plan.rules.iter().all(own_policy) {
            return;
        }
        let rate = self.plan.rates.others;
        if self.plan.earlier_life {
            self.account.plant_earlier_life("SN1", DOCUMENT_AGAIN, 3);
        }
        for serial in self.plan.serials.clone() {
            if !self.happens(rate) {
                continue;
            }
            if self.rng.bool() {
                let certificates = self.rng.usize(1..=5);
                self.account.plant_earlier_life(&serial, DOCUMENT_AGAIN, certificates);
            } else {
                self.account.plant_foreign(&serial, self.rng.bool());
                self.truth.foreign.insert(serial);
            }
        }
    }

    /// A unit is brought to a fixture some time later.
    pub(super) fn bring(&mut self, piece: usize, within: u64) {
        let at = self.now + self.millis(within);
        let fixture = self.rng.usize(..self.jigs.len());
        self.jigs[fixture].waiting.push_back((at, piece));
        self.wake(fixture);
    }

    /// Something comes out of the cable at the fixture's end.
    pub(super) fn at_fixture(&mut self, fixture: usize, epoch: u64, bytes: &[u8]) -> Result<(), String> {
        let cable = &mut self.cables[fixture];
        if cable.epoch != epoch || self.jigs[fixture].up_from > self.now {
            return Ok(());
        }
        cable.decoder.push(bytes);
        self.look_into_folders();
        let cable = &mut self.cables[fixture];
        let lines: Vec<_> = cable.decoder.by_ref().collect();
        for line in lines {
            if let Decoded::Message(message) = line {
                let fate = self.fate();
                let now = self.now;
                if let Some(noticed) = self.jigs[fixture].hear(message, &mut self.pieces, fate, now) {
                    self.notice(fixture, noticed)?;
                }
            }
        }
        self.speak(fixture)
    }

    /// How the next storing goes.
    fn fate(&mut self) -> Fate {
        let rate = self.plan.rates.unit;
        let slow = self.happens(rate / 2);
        Fate {
            takes: if slow { self.millis(60_000) } else { self.millis(300) },
            fails: self.happens(rate / 2),
            removed: self.happens(rate / 2).then(|| self.rng.bool()),
            confused: self.happens(rate / 20),
        }
    }

    pub(super) fn jig_due(&mut self, fixture: usize) -> Result<(), String> {
        self.look_into_folders();
        let now = self.now;
        let jig = &mut self.jigs[fixture];
        if jig.wakes_at != Some(now) {
            return Ok(());
        }
        jig.wakes_at = None;
        if jig.up_from <= now {
            let stored = jig.on_time(&mut self.pieces, now);
            for (piece, certificate) in stored {
                let serial = self.pieces[piece].serial.clone();
                self.tell(|| format!("{serial} stores {certificate}"));
            }
        }
        self.speak(fixture)
    }

    /// What a fixture has to say goes on the cable.
    fn speak(&mut self, fixture: usize) -> Result<(), String> {
        while let Some(message) = self.jigs[fixture].out.pop_front() {
            self.tell(|| format!("jig-{} says {message:?}", fixture + 1));
            if let FixtureMessage::Written { certificate_sha256, serial, .. } = &message
                && *certificate_sha256 == crate::pki::Fingerprint::of(b"another").to_string()
            {
                self.truth.excused.insert(serial.clone());
            }
            if self.cables[fixture].is_open {
                let mut frame = encode_fixture(&message).map_err(|it| it.to_string())?.to_vec();
                // A reset is told once and not repeated.
                let is_hello = matches!(message, FixtureMessage::Hello { .. });
                if is_hello && self.plan.loses_hellos && self.happens(LOST_HELLOS) {
                    self.tell(|| "nobody hears it".to_owned());
                    continue;
                }
                let wire = self.plan.rates.wire;
                if is_hello && !self.plan.loses_hellos {
                    // Half a frame may stand before it.
                    frame.insert(0, b'\n');
                    self.plan.rates.wire = 0;
                }
                self.send(fixture, true, &frame);
                self.plan.rates.wire = wire;
            }
        }
        self.wake(fixture);
        Ok(())
    }

    /// Sees that a fixture wakes when something is due there.
    fn wake(&mut self, fixture: usize) {
        let now = self.now;
        let jig = &mut self.jigs[fixture];
        let Some(due) = jig.due().map(|it| it.max(jig.up_from).max(now)) else { return };
        if jig.wakes_at.is_none_or(|it| it > due) {
            jig.wakes_at = Some(due);
            self.after(due - now, Event::Jig(fixture));
        }
    }

    fn notice(&mut self, fixture: usize, noticed: Noticed) -> Result<(), String> {
        match noticed {
            Noticed::Wrong(what) => return Err(what),
            Noticed::Acked { id, piece } => {
                let serial = self.pieces[piece].serial.clone();
                self.tell(|| format!("jig-{} has ack {id} for {serial}", fixture + 1));
                self.truth.promised.insert(serial);
            }
            Noticed::Passed { piece, again, told_holds } => {
                let serial = self.pieces[piece].serial.clone();
                let stored = self.pieces[piece].stored;
                self.tell(|| format!("{serial} hears pass, again {again}, told {told_holds}"));
                self.truth.hears_pass(&serial, stored)?;
                self.stats.passes += 1;
                self.truth.passed.insert(serial);
                self.pieces[piece].passed = true;
                self.pieces[piece].is_out = true;
                self.come_back(piece);
            }
            Noticed::Failed { piece, code, retry } => {
                if retry || code == FailCode::Superseded {
                    self.pieces[piece].tells_holds = !self.healed && self.rng.u8(..4) == 0;
                    self.bring(piece, 5_000);
                } else {
                    self.pieces[piece].is_out = true;
                }
            }
            Noticed::Refused { piece, code } => match code {
                NakCode::Elsewhere | NakCode::NotExpected => self.bring(piece, 10_000),
                NakCode::Duplicate | NakCode::Quarantined => self.pieces[piece].is_out = true,
                code => return Err(format!("{} is refused: {code}", self.pieces[piece].serial)),
            },
        }
        Ok(())
    }

    /// A unit that has passed is brought again, as it is or with its credentials lost.
    fn come_back(&mut self, piece: usize) {
        let repeat = self.plan.rules_at(self.lives - 1).repeat;
        let sure = std::mem::take(&mut self.plan.comes_back);
        if !sure && (self.healed || self.pieces[piece].comebacks == 0 || self.rng.u8(..3) > 0) {
            return;
        }
        let it = &mut self.pieces[piece];
        it.comebacks = it.comebacks.saturating_sub(1);
        it.is_out = false;
        it.tells_holds = self.rng.bool();
        if repeat == Repeat::Renew && (sure || self.rng.bool()) {
            it.stored = None;
            it.tells_holds = true;
        }
        self.bring(piece, 8_000);
    }

    /// A person does something that people do.
    pub(super) fn operate(&mut self) {
        let pause = Duration::from_millis(500) + self.millis(4_000);
        self.after(if self.healed { Duration::from_secs(5) } else { pause }, Event::Operator);
        if self.plan.batches {
            self.order_batches();
        }
        if self.healed {
            return self.bring_what_is_left();
        }
        if self.plan.gives_up && self.happens(GIVEN_UP) {
            self.give_up();
        }
        let fixture = self.rng.usize(..self.jigs.len());
        let rate = self.plan.rates.unit;
        if !self.happens(rate) {
            return;
        }
        let now = self.now;
        match self.rng.u8(..6) {
            0 | 1 => {
                let nest = self.rng.usize(..self.plan.nests);
                self.jigs[fixture].pull_out(nest, &self.pieces, now);
            }
            2 | 3 => self.reset(fixture),
            4 => self.hang_up(fixture),
            _ => {
                let input = match self.rng.u8(..4) {
                    0 => Input::Drain,
                    1 => resume(),
                    2 => Input::Gate(Some("the disk is nearly full".to_owned())),
                    _ => Input::Gate(None),
                };
                self.after(Duration::ZERO, Event::Input(self.lives, input));
            }
        }
        // What it has to say goes out at its next waking.
        self.jigs[fixture].wakes_at = Some(now.max(self.jigs[fixture].up_from));
        let by = self.jigs[fixture].wakes_at.unwrap_or(now) - now;
        self.after(by, Event::Jig(fixture));
    }

    /// A device is given up. One that the account knows from an earlier life is not: what is attached to its
    /// thing is found out only after its own.
    fn give_up(&mut self) {
        let serial = self.rng.choice(&self.plan.serials).cloned().unwrap();
        if self.plan.rates.others > 0 || self.plan.earlier_life {
            return;
        }
        self.tell(|| format!("{serial} is given up"));
        let by = Operator { uid: 1001, name: "ada".to_owned(), reason: "it fell down".to_owned() };
        let serial = SerialNumber::parse(&serial).unwrap();
        let input = Input::Order { order: Order::Scrap, serial, by, ticket: 0 };
        self.after(Duration::ZERO, Event::Input(self.lives, input));
    }

    /// A fixture is reset. Its `hello` is said once: where it is lost and ids begin anew, the station has to
    /// find out.
    fn reset(&mut self, fixture: usize) {
        let quiet = Duration::from_secs(1) + self.millis(2_000);
        self.tell(|| format!("jig-{} is reset", fixture + 1));
        let (anew, now) = (self.plan.ids_begin_anew, self.now);
        let jig = &mut self.jigs[fixture];
        jig.reset(anew, quiet, now);
        jig.say_hello();
        self.cables[fixture].decoder.restart();
    }

    /// Whoever is nowhere and not done is brought again.
    fn bring_what_is_left(&mut self) {
        for piece in 0..self.pieces.len() {
            let nowhere = self.jigs.iter().all(|jig| {
                jig.waiting.iter().all(|(_, it)| *it != piece)
                    && jig.nests.iter().flatten().all(|it| it.piece != piece)
            });
            if nowhere && !self.pieces[piece].is_out {
                self.bring(piece, 100);
            }
        }
    }
}
