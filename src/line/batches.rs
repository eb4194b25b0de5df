//! Which batches are open, what a unit finds open when it is presented, and what a person orders about them.

use std::collections::BTreeMap;

use super::{Line, Product};
use crate::batch::{self, Batch, BatchId, MAX_COUNT, MAX_LISTED, Order, Terms};
use crate::device::operator::{Operator, Refusal};
use crate::device::serial::SerialNumber;
use crate::fixture::NakCode;
use crate::journal::{JournalError, Opened, Shelf, StationEvent};
use crate::sabotage::sabotaged;

/// The batches that concern the line.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: BTreeMap<BatchId, Open>,
    /// The one whose list is coming.
    opening: Option<Opening>,
    /// The newest record of a batch.
    newest: u64,
}

/// A batch that devices are admitted to.
#[derive(Debug)]
struct Open {
    batch: Batch,
    /// The record with which it became open; 0 if that was before the start.
    since: u64,
}

/// A batch whose list is coming. What is on it is in the journal already, but not what it is for.
#[derive(Debug)]
struct Opening {
    terms: Terms,
    list: u64,
    last: Option<SerialNumber>,
}

/// The batch that a device comes into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Joining {
    pub(super) batch: BatchId,
    /// It is not on the list.
    pub(super) extra: bool,
}

/// Whether a device comes into a batch; or why it is not taken.
pub(super) type Joined = Result<Option<Joining>, (NakCode, String)>;

/// An open batch, for whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStatus {
    /// Its id.
    pub id: BatchId,
    /// What is made.
    pub product: String,
}

impl Batches {
    pub(super) fn recovered(open: Vec<Batch>) -> Self {
        let open = if sabotaged!(BatchForgotten) { Vec::new() } else { open };
        let open = open.into_iter().map(|batch| (batch.id().clone(), Open { batch, since: 0 }));
        Self { open: open.collect(), ..Self::default() }
    }

    /// The open batch of a product.
    fn of(&self, product: &str) -> Option<&Open> {
        self.open.values().find(|it| it.batch.terms.product == product)
    }

    /// The open batch that says what a fixture presents.
    fn changing(&self, fixture: &str) -> Option<&Terms> {
        let names = |it: &&Terms| it.fixtures.iter().any(|name| name == fixture);
        self.open.values().map(|it| &it.batch.terms).find(names)
    }

    /// The open ones, the one that was opened last at the end.
    pub(super) fn told(&self) -> Vec<BatchStatus> {
        let mut open: Vec<&Batch> = self.open.values().map(|it| &it.batch).collect();
        open.sort_by_key(|it| it.reopened.as_ref().map_or(it.opened_at, |(at, _)| *at));
        open.iter().map(|it| BatchStatus { id: it.id().clone(), product: it.terms.product.clone() }).collect()
    }
}

fn not<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Not(why.into()))
}

impl Line {
    /// Gives up the lists that an earlier process has not brought to their end.
    pub(super) fn drop_lists(&mut self, lists: Vec<(u64, BatchId)>) {
        for (list, batch) in lists {
            tracing::warn!(%batch, "the opening of a batch was cut off; it has to be opened once more");
            self.station_event(StationEvent::BatchDropped { batch, list });
        }
    }

    /// What a fixture presents now: an open batch may say another product than its configuration.
    pub(super) fn presents(&self, fixture: usize) -> &str {
        let settings = &self.links[fixture].settings;
        let changed = self.batches.changing(&settings.name).map(|it| it.product.as_str());
        changed.filter(|it| self.settings.products.contains_key(*it)).unwrap_or(&settings.product)
    }

    /// The product that a fixture presents now.
    pub(super) fn product(&self, fixture: usize) -> &Product {
        &self.settings.products[self.presents(fixture)]
    }

    /// The batch that devices of the fixture come into now.
    pub(super) fn batch_at(&self, fixture: usize) -> Option<&BatchId> {
        self.batches.of(self.presents(fixture)).map(|it| it.batch.id())
    }

    /// The batch that a device of that product comes into, or why it is not taken.
    pub(super) fn joins(
        &self,
        product: &str,
        serial: &SerialNumber,
        shelf: &dyn Shelf,
    ) -> Result<Joined, JournalError> {
        let Some(open) = self.batches.of(product) else {
            let required = self.settings.products.get(product).is_some_and(|it| it.rules.require_batch);
            return Ok(if required { Err((NakCode::NoBatch, String::new())) } else { Ok(None) });
        };
        if open.since > self.durable {
            return Ok(Err((NakCode::Busy, "the batch is being opened".to_owned())));
        }
        let batch = open.batch.id().clone();
        let extra = match open.batch.list {
            Some(list) => !shelf.is_listed(list, open.since, serial)?,
            None => false,
        };
        if extra && open.batch.terms.strict && !sabotaged!(ListIgnored) {
            return Ok(Err((NakCode::NotExpected, format!("{serial} is not on {batch}"))));
        }
        Ok(Ok(Some(Joining { batch, extra })))
    }

    /// The batch that a device comes into with what it gets anew: it keeps the one that it has.
    pub(super) fn joins_late(
        &self,
        product: &str,
        serial: &SerialNumber,
        shelf: &dyn Shelf,
    ) -> Result<Joined, JournalError> {
        let device = &self.works[serial].device;
        let required = self.settings.products.get(product).is_some_and(|it| it.rules.require_batch);
        if device.batch.is_some() || !required {
            return Ok(Ok(None));
        }
        self.joins(product, serial, shelf)
    }

    /// Carries out an order about batches.
    pub(super) fn order_batch(
        &mut self,
        order: Order,
        by: Operator,
        shelf: &dyn Shelf,
    ) -> Result<Result<(), Refusal>, JournalError> {
        let changes = matches!(order, Order::Open(_) | Order::Begin(_) | Order::Close(_) | Order::Reopen(_));
        if changes && self.batches.newest > self.durable {
            return Ok(not("what was ordered before is not on disk yet; try again"));
        }
        Ok(match order {
            Order::Open(terms) => match self.may_open(&terms, shelf)? {
                Ok(()) if !(1..=MAX_COUNT).contains(&terms.expected) => {
                    not(format!("a batch is of 1 to {MAX_COUNT} devices"))
                }
                Ok(()) if terms.strict => {
                    not("without a list of serial numbers nothing can be refused for not being on it")
                }
                Ok(()) => {
                    self.opened(terms, None, by);
                    Ok(())
                }
                refused => refused,
            },
            Order::Begin(terms) => match self.may_open(&terms, shelf)? {
                Ok(()) => {
                    self.begin_list(terms);
                    Ok(())
                }
                refused => refused,
            },
            Order::Serials(batch, serials) => self.list_goes_on(&batch, serials),
            Order::Finish(batch) => self.finish_list(&batch, by),
            Order::Drop(batch) => {
                self.drop_list(&batch);
                Ok(())
            }
            Order::Close(batch) => self.close_batch(batch, by, shelf)?,
            Order::Reopen(batch) => self.reopen_batch(&batch, by, shelf)?,
        })
    }

    fn may_open(&self, terms: &Terms, shelf: &dyn Shelf) -> Result<Result<(), Refusal>, JournalError> {
        let id = &terms.batch;
        if let Some(known) = shelf.batch(id, self.batches.newest)? {
            let why = match &known.closed {
                None => format!("{id} is open already, for product {}", known.terms.product),
                Some((at, by)) => format!(
                    "{id} was closed at {at:.0} by {}; to open it again give a reason, and neither product nor number",
                    by.name
                ),
            };
            return Ok(not(why));
        }
        Ok(self.has_room(terms))
    }

    /// Whether nothing else is in the way of a batch.
    fn has_room(&self, terms: &Terms) -> Result<(), Refusal> {
        let Terms { batch: id, product, .. } = terms;
        if let Some(opening) = &self.batches.opening {
            return not(format!("{} is just being opened; try again when that is done", opening.terms.batch));
        }
        if let Some(reason) = &self.gate {
            return not(reason.clone());
        }
        if !self.settings.products.contains_key(product) {
            let names: Vec<&str> = self.settings.products.keys().map(String::as_str).collect();
            return not(format!("there is no product {product}; this station has {}", names.join(", ")));
        }
        if let Some(open) = self.batches.of(product) {
            let open = open.batch.id();
            return not(format!(
                "{open} is open for {product}: close it first (linemint batch close {open})"
            ));
        }
        for name in &terms.fixtures {
            if !self.links.iter().any(|it| it.settings.name == *name) {
                let names = self.links.iter().map(|it| it.settings.name.as_str());
                let names: Vec<&str> = names.filter(|it| !it.is_empty()).collect();
                return not(format!("there is no fixture {name}; this station has {}", names.join(", ")));
            }
            if let Some(other) = self.batches.changing(name) {
                return not(format!("fixture {name} is used for {}: close that first", other.batch));
            }
        }
        let presents = |it: &super::link::Link| {
            let name = &it.settings.name;
            terms.fixtures.contains(name)
                || !name.is_empty()
                    && it.settings.product == *product
                    && self.batches.changing(name).is_none()
        };
        if self.links.iter().any(presents) {
            return Ok(());
        }
        not(format!("no fixture presents {product}: say with --fixture which one is to do so for {id}"))
    }

    fn opened(&mut self, terms: Terms, list: Option<u64>, by: Operator) {
        tracing::info!(batch = %terms.batch, product = terms.product, expected = terms.expected,
            uid = by.uid, name = by.name, "a batch is opened");
        let opened = Opened { terms, list, by };
        self.station_event(StationEvent::BatchOpened(Box::new(opened.clone())));
        let Opened { terms, list, by } = opened;
        let batch = Batch {
            terms,
            list,
            opened_at: self.now.wall,
            opened_by: by,
            reopened: None,
            closed: None,
            tally: batch::Tally::default(),
            last_seq: self.seq,
        };
        self.is_open(batch);
    }

    fn is_open(&mut self, batch: Batch) {
        let since = self.seq;
        self.batches.newest = since;
        self.batches.open.insert(batch.id().clone(), Open { batch, since });
    }

    fn begin_list(&mut self, terms: Terms) {
        let (batch, product) = (terms.batch.clone(), terms.product.clone());
        self.station_event(StationEvent::BatchOpening { batch, product });
        let terms = Terms { expected: 0, ..terms };
        self.batches.opening = Some(Opening { terms, list: self.seq, last: None });
    }

    /// Takes a part of the list that is coming. What cannot be taken ends the opening.
    fn list_goes_on(&mut self, batch: &BatchId, serials: Vec<SerialNumber>) -> Result<(), Refusal> {
        let checked = self.check_part(batch, &serials);
        if let Err(refusal) = checked {
            self.drop_list(batch);
            return Err(refusal);
        }
        let Some(opening) = self.batches.opening.as_mut() else { return Ok(()) };
        let list = opening.list;
        opening.terms.expected += serials.len() as u64;
        opening.last = serials.last().cloned().or(opening.last.take());
        for serials in batch::pieces(serials) {
            self.station_event(StationEvent::BatchSerials { list, serials });
        }
        Ok(())
    }

    fn check_part(&self, batch: &BatchId, serials: &[SerialNumber]) -> Result<(), Refusal> {
        let Some(opening) = self.batches.opening.as_ref().filter(|it| it.terms.batch == *batch) else {
            return not(format!("{batch} is not being opened"));
        };
        if opening.terms.expected + serials.len() as u64 > MAX_LISTED {
            return not(format!("a batch can have {MAX_LISTED} serial numbers on its list"));
        }
        let product = &self.settings.products[&opening.terms.product];
        let mut last = opening.last.as_ref();
        for serial in serials {
            if last.is_some_and(|last| last >= serial) {
                return not(format!(
                    "{serial} comes twice, or not in ascending order (as sort -u puts it in LC_ALL=C)"
                ));
            }
            if let Err(error) = SerialNumber::parse_as(serial.as_str(), &product.serial) {
                return not(format!("{serial}: {error}"));
            }
            last = Some(serial);
        }
        Ok(())
    }

    fn finish_list(&mut self, batch: &BatchId, by: Operator) -> Result<(), Refusal> {
        let Some(opening) = self.batches.opening.take_if(|it| it.terms.batch == *batch) else {
            return not(format!("{batch} is not being opened"));
        };
        if opening.terms.expected == 0 {
            self.station_event(StationEvent::BatchDropped { batch: batch.clone(), list: opening.list });
            return not("there is no serial number on the list");
        }
        self.opened(opening.terms, Some(opening.list), by);
        Ok(())
    }

    fn drop_list(&mut self, batch: &BatchId) {
        if let Some(opening) = self.batches.opening.take_if(|it| it.terms.batch == *batch) {
            self.station_event(StationEvent::BatchDropped { batch: batch.clone(), list: opening.list });
        }
    }

    fn close_batch(
        &mut self,
        batch: BatchId,
        by: Operator,
        shelf: &dyn Shelf,
    ) -> Result<Result<(), Refusal>, JournalError> {
        if self.batches.open.remove(&batch).is_none() {
            let known = shelf.batch(&batch, self.batches.newest)?;
            return Ok(match known.and_then(|it| it.closed) {
                Some((at, by)) => not(format!("{batch} was closed at {at:.0} by {}", by.name)),
                None => Err(Refusal::NoBatch(batch)),
            });
        }
        tracing::info!(%batch, uid = by.uid, name = by.name, "a batch is closed");
        self.station_event(StationEvent::BatchClosed { batch, by });
        self.batches.newest = self.seq;
        Ok(Ok(()))
    }

    fn reopen_batch(
        &mut self,
        id: &BatchId,
        by: Operator,
        shelf: &dyn Shelf,
    ) -> Result<Result<(), Refusal>, JournalError> {
        let Some(batch) = shelf.batch(id, self.batches.newest)? else {
            return Ok(Err(Refusal::NoBatch(id.clone())));
        };
        if batch.is_open() {
            return Ok(not(format!("{id} is open already, for product {}", batch.terms.product)));
        }
        // A fixture that is no more keeps nothing from being finished.
        let known = |it: &String| self.links.iter().any(|link| link.settings.name == *it);
        let fixtures = batch.terms.fixtures.iter().filter(|it| known(it)).cloned().collect();
        if let Err(refusal) = self.has_room(&Terms { fixtures, ..batch.terms.clone() }) {
            return Ok(Err(refusal));
        }
        tracing::info!(batch = %id, uid = by.uid, name = by.name, reason = by.reason, "a batch is opened again");
        self.station_event(StationEvent::BatchReopened { batch: id.clone(), by: by.clone() });
        self.is_open(Batch { reopened: Some((self.now.wall, by)), closed: None, ..batch });
        Ok(Ok(()))
    }
}
