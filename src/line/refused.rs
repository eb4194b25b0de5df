//! Units that were not taken. No device and no record comes of a `nak`, so what was said of such a unit is kept
//! here, for whoever stands before the nest and for the log; the next unit in that nest takes its place.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Line;
use crate::device::serial::SerialNumber;
use crate::fixture::sample::Sample;
use crate::fixture::{NakCode, Unit};
use crate::journal::{JournalError, Shelf};

/// Refused units that are kept of one fixture: it has no more nests.
const MAX_KEPT: usize = 64;

/// A unit that was answered `nak`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedUnit {
    /// The nest, where the fixture has named one.
    pub nest: Option<String>,
    /// The serial number as it was told; of what is none of this product the first bytes, escaped.
    pub serial: String,
    /// Why.
    pub code: NakCode,
    /// What the operator was told to do.
    pub message: String,
    /// When it was refused for this reason first.
    pub since: Timestamp,
    /// When it was refused last.
    pub at: Timestamp,
}

/// What one fixture was answered `nak`.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Answers so far, by code.
    pub(super) counts: BTreeMap<NakCode, u64>,
    /// What was said since the present unit came.
    newest: Option<(NakCode, String)>,
    /// The units, the newest last: one for each nest, and where nests are not named one for each serial.
    units: Vec<(u64, RefusedUnit)>,
}

impl Refused {
    /// `nak` is answered.
    pub(super) fn said(&mut self, code: NakCode, message: &str) {
        *self.counts.entry(code).or_default() += 1;
        self.newest = Some((code, message.to_owned()));
    }

    /// The newest unit of each nest.
    pub(super) fn newest(&self) -> Vec<RefusedUnit> {
        let mut of_nest = BTreeMap::new();
        for (_, it) in &self.units {
            of_nest.insert(&it.nest, it);
        }
        of_nest.into_values().cloned().collect()
    }

    /// Keeps a unit. Whether this is news: a fixture repeats by itself what it may present again later, and one
    /// that repeats more than that has nothing new to tell either.
    fn keep(&mut self, id: u64, mut unit: RefusedUnit) -> bool {
        let is_same_place =
            |it: &RefusedUnit| it.nest == unit.nest && (unit.nest.is_some() || it.serial == unit.serial);
        let before = self.units.iter().position(|(_, it)| is_same_place(it));
        let before = before.map(|at| self.units.remove(at));
        let repeated = before.filter(|(old_id, old)| {
            let is_same = old.serial == unit.serial && old.code == unit.code;
            is_same && (*old_id == id || !unit.code.is_final())
        });
        if let Some((_, old)) = &repeated {
            unit.since = old.since;
        }
        if self.units.len() >= MAX_KEPT {
            self.units.remove(0);
        }
        self.units.push((id, unit));
        repeated.is_none()
    }

    /// The unit of that serial was taken: its place has a new word, and others have none any more. One that has the
    /// same serial number in another nest is still to be looked at.
    fn taken(&mut self, serial: &str, nest: Option<&String>, is_here: bool) {
        self.units.retain(|(_, it)| {
            let is_place = is_here && it.nest.as_ref() == nest;
            !is_place && (it.serial != serial || it.code == NakCode::Elsewhere)
        });
    }
}

impl Line {
    /// A unit is presented: it is answered, and kept for whoever looks if it is not taken.
    pub(super) fn unit_presented(
        &mut self,
        fixture: usize,
        unit: Unit,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        let (id, serial, nest) = (unit.id, unit.serial.clone(), unit.nest.clone());
        self.links[fixture].refused.newest = None;
        self.unit(fixture, unit, shelf)?;
        match self.links[fixture].refused.newest.take() {
            Some((code, message)) => {
                let (serial, at) = (self.as_told(fixture, &serial), self.now.wall);
                self.not_taken(fixture, id, RefusedUnit { nest, serial, code, message, since: at, at });
            }
            None => {
                for (number, link) in self.links.iter_mut().enumerate() {
                    link.refused.taken(&serial, nest.as_ref(), number == fixture);
                }
            }
        }
        Ok(())
    }

    fn not_taken(&mut self, fixture: usize, id: u64, unit: RefusedUnit) {
        let link = &mut self.links[fixture];
        let RefusedUnit { nest, serial, code, message, .. } = unit.clone();
        if link.refused.keep(id, unit) {
            let name = &link.settings.name;
            tracing::info!(serial, fixture = name, nest, %code, sentence = message, "NOT TAKEN");
        }
    }

    /// A serial number as it may be shown: what is not of the product may be anything.
    fn as_told(&self, fixture: usize, serial: &str) -> String {
        let product = self.settings.products.get(self.presents(fixture));
        match product.map(|it| SerialNumber::parse_as(serial, &it.serial)) {
            Some(Ok(serial)) => serial.to_string(),
            _ => Sample::of(serial.as_bytes()).to_string(),
        }
    }
}
