//! Batches: work orders, each of which says what product is made, how many, and perhaps which serial numbers.
//!
//! At most one batch of a product is open. A device that is admitted meanwhile belongs to it for good: names and
//! tags with `{batch}` are filled from the device, never from what is open now.
//!
//! # How a list of serial numbers is kept
//!
//! A list may have a million of them. It comes in ascending order, so that twice the same is noticed without
//! keeping it in memory, and is journaled piece by piece: `batch-opening`, any number of `batch-serials`, then
//! `batch-opened`, with which it counts. What a crash has cut off before that is given up by the next start
//! (`batch-dropped`). A piece is also a row of the index, under the number of its `batch-opening` and its first
//! serial number, so that whether one is on the list takes one look.

mod list;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::device::State;
use crate::device::operator::Operator;
use crate::device::serial::SerialNumber;

pub use self::list::{BadList, BadPlace, List, read_list};

/// Longest id, characters.
pub const MAX_ID_LEN: usize = 64;

/// Most serial numbers on a list.
pub const MAX_LISTED: u64 = 1_000_000;

/// Most devices that a batch can be ordered for by number.
pub const MAX_COUNT: u64 = 1_000_000_000;

/// Serial numbers in one record at most, and their characters: such a record, and the row made of it, stays below
/// 4 KiB.
const PIECE_SERIALS: usize = 256;
const PIECE_CHARACTERS: usize = 2_800;

/// The id of a batch: `[A-Za-z0-9_-]{1,64}`, so that it fits every name that AWS may be given with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BatchId(String);

/// The text is no id of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a batch's id has 1 to {MAX_ID_LEN} letters, digits, - and _, as in WO-4711")]
pub struct BadBatchId;

impl BatchId {
    /// Takes `text` if it is one.
    ///
    /// # Errors
    /// Empty, too long, or with other characters: they would not fit into AWS's names.
    pub fn parse(text: &str) -> Result<Self, BadBatchId> {
        let good = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
        let fits = (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(good);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadBatchId) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<BatchId> for String {
    fn from(it: BatchId) -> Self {
        it.0
    }
}

impl TryFrom<String> for BatchId {
    type Error = BadBatchId;

    fn try_from(text: String) -> Result<Self, BadBatchId> {
        Self::parse(&text)
    }
}

/// What a batch is opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Its id.
    pub batch: BatchId,
    /// What is made.
    pub product: String,
    /// Whether a serial number that is not on its list is refused. Only with a list.
    pub strict: bool,
    /// Fixtures that present this product while it is open, whatever the configuration says of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixtures: Vec<String>,
    /// Devices that are ordered: the length of the list, where there is one.
    pub expected: u64,
}

/// What a person tells the station to do with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Open one for a number of devices.
    Open(Terms),
    /// Open one with a list, which follows in [`Order::Serials`]; `expected` is not known yet.
    Begin(Terms),
    /// A part of the list, in ascending order and behind what came before.
    Serials(BatchId, Vec<SerialNumber>),
    /// The list is complete: the batch is open.
    Finish(BatchId),
    /// The list does not come to its end: nothing is opened.
    Drop(BatchId),
    /// Close one.
    Close(BatchId),
    /// Open one again that was closed.
    Reopen(BatchId),
}

/// Devices of a batch by state, those that are not on its list apart. A batch without a list has none of those.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// On the list, or of a batch without one.
    #[serde(default)]
    pub ordered: BTreeMap<State, u64>,
    /// Not on the list.
    #[serde(default)]
    pub extra: BTreeMap<State, u64>,
}

impl Tally {
    /// A device is in another state than before, or new.
    fn moves(&mut self, extra: bool, before: Option<State>, after: State) {
        let counts = if extra { &mut self.extra } else { &mut self.ordered };
        if let Some(before) = before {
            let count = counts.entry(before).or_default();
            *count = count.saturating_sub(1);
        }
        *counts.entry(after).or_default() += 1;
    }

    /// Devices in `state`, on the list or not.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        [&self.ordered, &self.extra].iter().filter_map(|it| it.get(&state)).sum()
    }

    /// Devices on the list, in any state.
    #[must_use]
    pub fn on_list(&self) -> u64 {
        self.ordered.values().sum()
    }

    /// Devices not on the list, in any state.
    #[must_use]
    pub fn beside_list(&self) -> u64 {
        self.extra.values().sum()
    }
}

/// A batch as its records have made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// What it was opened with.
    #[serde(flatten)]
    pub terms: Terms,
    /// The number of the record that its list begins with, if it has a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<u64>,
    /// When it was opened first.
    pub opened_at: Timestamp,
    /// Who has opened it first, and why.
    pub opened_by: Operator,
    /// When it was opened again, and by whom, the newest time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopened: Option<(Timestamp, Operator)>,
    /// When it was closed, and by whom; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<(Timestamp, Operator)>,
    /// Its devices.
    #[serde(default)]
    pub tally: Tally,
    /// The newest record that has changed it.
    pub last_seq: u64,
}

impl Batch {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &BatchId {
        &self.terms.batch
    }

    /// Whether devices are admitted to it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Ordered devices that have not been presented.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.terms.expected.saturating_sub(self.tally.on_list())
    }

    /// Devices beyond the order: those that are not on the list, or, without one, those above the number.
    #[must_use]
    pub fn extra(&self) -> u64 {
        self.tally.on_list().saturating_sub(self.terms.expected) + self.tally.beside_list()
    }

    /// Devices presented: `expected - missing + extra`.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.tally.on_list() + self.tally.beside_list()
    }

    /// One of its devices is in another state than before, or new.
    pub fn moves(&mut self, seq: u64, extra: bool, before: Option<State>, after: State) {
        self.last_seq = seq;
        self.tally.moves(extra, before, after);
    }
}

/// The pieces in which serial numbers are journaled.
#[must_use]
pub fn pieces(serials: Vec<SerialNumber>) -> Vec<Vec<SerialNumber>> {
    let (mut pieces, mut piece, mut characters) = (Vec::new(), Vec::new(), 0);
    for serial in serials {
        let text = serial.as_str();
        // These two take two characters each in JSON.
        let length = text.len() + text.bytes().filter(|it| matches!(it, b'"' | b'\\')).count();
        if piece.len() == PIECE_SERIALS || characters + length > PIECE_CHARACTERS {
            pieces.push(std::mem::take(&mut piece));
            characters = 0;
        }
        characters += length;
        piece.push(serial);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serials(count: usize, length: usize) -> Vec<SerialNumber> {
        (0..count).map(|it| SerialNumber::parse(&format!("{it:\\<length$}")).unwrap()).collect()
    }

    #[test]
    fn an_id_fits_every_name_of_aws() {
        for good in ["WO-4711", "a", "_", &"x".repeat(64)] {
            assert_eq!(BatchId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "WO 1", "WO/1", "WO.1", "Ä", &"x".repeat(65)] {
            assert!(BatchId::parse(bad).is_err(), "{bad}");
            assert!(serde_json::from_value::<BatchId>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn pieces_are_short_and_lose_nothing() {
        for (count, length) in [(0, 5), (1, 128), (256, 3), (257, 3), (1_000, 12), (500, 128)] {
            let all = serials(count, length);
            let pieces = pieces(all.clone());
            assert_eq!(pieces.concat(), all);
            for piece in pieces {
                assert!(!piece.is_empty() && serde_json::to_vec(&piece).unwrap().len() <= 3_600);
            }
        }
    }

    fn batch(expected: u64, list: Option<u64>) -> Batch {
        let id = BatchId::parse("WO-1").unwrap();
        let product = "lamp".to_owned();
        let terms = Terms { batch: id, product, strict: false, fixtures: Vec::new(), expected };
        let by = Operator { uid: 0, name: "root".to_owned(), reason: String::new() };
        let opened_at = Timestamp::UNIX_EPOCH;
        let tally = Tally::default();
        Batch { terms, list, opened_at, opened_by: by, reopened: None, closed: None, tally, last_seq: 1 }
    }

    #[test]
    fn seen_is_what_was_expected_less_what_is_missing_and_more_what_is_extra() {
        let mut listed = batch(3, Some(1));
        listed.moves(2, false, None, State::Admitted);
        listed.moves(2, false, Some(State::Admitted), State::Passed);
        listed.moves(2, true, None, State::Admitted);
        assert_eq!((listed.seen(), listed.missing(), listed.extra()), (2, 2, 1));
        assert_eq!((listed.tally.of(State::Passed), listed.tally.of(State::Admitted)), (1, 1));
        let mut counted = batch(1, None);
        for _ in 0..3 {
            counted.moves(2, false, None, State::Admitted);
        }
        assert_eq!((counted.seen(), counted.missing(), counted.extra()), (3, 0, 2));
        for it in [listed, counted] {
            assert_eq!(it.seen(), it.terms.expected - it.missing() + it.extra());
        }
    }
}
