//! A unit that contradicts what is known of its presentation: its fixture may have been reset and its
//! `hello` lost, so that its ids stand for other units now. It says that once; so it is asked again, and
//! the unit is taken for what it seems to be only if the fixture still names the same `boot`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::Link;
use super::{JournalError, Line, Shelf};
use crate::device::event::Outcome;
use crate::device::serial::SerialNumber;
use crate::fixture::{NakCode, Unit};
use crate::journal::KnownPresentation;
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

/// Contradictions that one fixture is asked about at a time: it has no more nests.
const MAX_DOUBTED: usize = 256;

/// What a fixture is asked about.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// By id: the serial that contradicts, and whether the fixture has named the same boot since.
    units: BTreeMap<u64, (String, bool)>,
    hello: Asked,
}

/// Whether the fixture was asked who it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    /// The `hello` waits for the port.
    Queued,
    /// It will have left the port then, monotonic.
    LeavesAt(Duration),
}

impl Doubts {
    /// The fixture has named the boot that it is known by.
    pub(super) fn same_boot(&mut self) {
        self.units.values_mut().for_each(|(_, confirmed)| *confirmed = true);
        self.hello = Asked::No;
    }

    /// The `hello` that asks leaves the port then.
    pub(super) fn asked(&mut self, left: Duration) {
        if self.hello == Asked::Queued {
            self.hello = Asked::LeavesAt(left);
        }
    }

    /// Whether the fixture may be asked now: one period after it was asked last.
    fn may_ask(&self, now: Duration, resend: Duration) -> bool {
        match self.hello {
            Asked::No => true,
            Asked::Queued => false,
            Asked::LeavesAt(left) => now >= left + resend,
        }
    }
}

/// How a unit contradicts what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// Its id is another serial's.
    Serial,
    /// Its serial is the same, but what else it says is not what became of that presentation.
    Rest,
}

impl Line {
    /// Whether `unit` can be the presentation that its id is known for.
    pub(super) fn contradicts(
        &mut self,
        fixture: usize,
        unit: &Unit,
        known: &KnownPresentation,
        shelf: &dyn Shelf,
    ) -> Result<Option<Contradiction>, JournalError> {
        if known.serial.as_str() != unit.serial {
            return Ok(Some(Contradiction::Serial));
        }
        if self.links[fixture].boot == Some(0) {
            // It tells no resets: there is nothing to ask for.
            return Ok(None);
        }
        let other = match &known.outcome {
            None => self.links[fixture].is_in_another_nest(unit),
            Some(Outcome::Passed { .. }) => self.holds_another(&known.serial, unit, shelf)?,
            Some(_) => false,
        };
        Ok(other.then_some(Contradiction::Rest))
    }

    /// Whether a unit whose presentation has passed says that it holds something else than what passed.
    fn holds_another(
        &mut self,
        serial: &SerialNumber,
        unit: &Unit,
        shelf: &dyn Shelf,
    ) -> Result<bool, JournalError> {
        let held = match unit.holds.as_deref() {
            None => return Ok(false),
            Some("") => None,
            Some(text) => match text.parse::<Fingerprint>() {
                Ok(it) => Some(it),
                Err(_) => return Ok(false),
            },
        };
        Ok(self.fetch(serial, shelf)? && self.works[serial].device.fingerprint() != held)
    }

    /// Answers a unit that contradicts. Whether it is answered: if not, the fixture has been asked and it is
    /// what it seems to be.
    pub(super) fn doubted(&mut self, fixture: usize, unit: &Unit, what: Contradiction) -> bool {
        let (now, link) = (self.now.mono, &mut self.links[fixture]);
        let doubts = &mut link.doubts;
        let confirmed = sabotaged!(ContradictionFinal)
            || doubts.units.get(&unit.id).is_some_and(|(it, confirmed)| *it == unit.serial && *confirmed);
        if confirmed {
            doubts.units.remove(&unit.id);
            if what == Contradiction::Rest {
                return false;
            }
            self.nak(fixture, Some(unit.id), NakCode::BadUnit, "this id stands for another serial already");
            return true;
        }
        if doubts.units.len() >= MAX_DOUBTED {
            doubts.units.clear();
        }
        doubts.units.insert(unit.id, (unit.serial.clone(), false));
        let asks = doubts.may_ask(now, link.settings.resend);
        if asks {
            doubts.hello = Asked::Queued;
            tracing::warn!(
                fixture = link.settings.name,
                id = unit.id,
                "a unit contradicts what is known of its id: the fixture is asked whether it was reset"
            );
        }
        let detail = "this id stands for another unit: the fixture is asked whether it was reset";
        self.nak(fixture, Some(unit.id), NakCode::Busy, detail);
        if asks {
            self.ask_again(fixture);
        }
        true
    }
}

impl Link {
    /// Whether the presentation of that id is open in another nest than the unit is in.
    fn is_in_another_nest(&self, unit: &Unit) -> bool {
        let nest = self.open.get(&unit.id).and_then(|it| it.nest.as_ref());
        nest.is_some() && unit.nest.is_some() && nest != unit.nest.as_ref()
    }
}
