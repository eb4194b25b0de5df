//! A work order: a person opens a batch with a strict list, closes it and opens it again, and the station may end
//! at each of its records. What is on disk of it says who may be taken, and into which batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::plan::PRODUCT;
use super::world::{Event, World};
use crate::batch::{BatchId, Order, Terms};
use crate::device::Device;
use crate::device::operator::{Operator, Refusal};
use crate::device::serial::SerialNumber;
use crate::journal::{Record, StationEvent, What};

/// How often a person does something about the batch, in thousandths of the occasions.
const ORDERED: u32 = 400;

/// The batch of the story.
fn batch() -> BatchId {
    BatchId::parse("WO-1").unwrap()
}

/// What a person has ordered and not heard of yet, by ticket: the newest record on disk at that time.
pub(super) type Waiting = BTreeMap<u64, u64>;

/// What is on disk of the batch, as nobody in the station knows it.
#[derive(Debug, Default)]
pub(super) struct Shelved {
    lists: BTreeMap<u64, BTreeSet<SerialNumber>>,
    /// The batch's own, if it has one.
    list: Option<BTreeSet<SerialNumber>>,
    is_known: bool,
    is_open: bool,
    /// The newest record of it.
    newest: u64,
    /// The batch that each device was admitted into.
    batch_of: HashMap<SerialNumber, Option<String>>,
}

impl Shelved {
    /// A record is on disk; the device after it.
    pub(super) fn on_disk(&mut self, record: &Record, device: Option<&Device>) -> Result<(), String> {
        match &record.what {
            What::Station(event) => self.station(record.seq, event),
            What::Device(event) => {
                let Some(device) = device else { return Ok(()) };
                let known = self.batch_of.get(&device.serial);
                if known.is_some_and(|it| *it != device.batch) {
                    return Err(format!("{} was of batch {known:?} and is of another now", device.serial));
                }
                if known.is_none() {
                    // What was never presented is kept, and is of no batch if none takes it.
                    let presented = event.admission().is_none_or(|it| !it.presentation.is_none());
                    self.admitted(device, presented)?;
                    self.batch_of.insert(device.serial.clone(), device.batch.clone());
                }
                Ok(())
            }
        }
    }

    fn station(&mut self, seq: u64, event: &StationEvent) -> Result<(), String> {
        match event {
            StationEvent::BatchOpening { .. } => drop(self.lists.insert(seq, BTreeSet::new())),
            StationEvent::BatchSerials { list, serials } => match self.lists.get_mut(list) {
                Some(it) => it.extend(serials.iter().cloned()),
                None => return Err(format!("serial numbers for list {list}, which is not begun")),
            },
            StationEvent::BatchDropped { list, .. } => drop(self.lists.remove(list)),
            StationEvent::BatchOpened(it) if self.is_known => {
                return Err(format!("{} is opened twice", it.terms.batch));
            }
            StationEvent::BatchOpened(it) => {
                self.list = it.list.and_then(|list| self.lists.remove(&list));
                match &self.list {
                    None if it.list.is_some() => {
                        return Err("a batch is opened with a list that was dropped".to_owned());
                    }
                    Some(list) if list.len() as u64 != it.terms.expected => {
                        return Err(format!("{} are on the list, not {}", list.len(), it.terms.expected));
                    }
                    _ => {}
                }
                (self.is_known, self.is_open, self.newest) = (true, true, seq);
            }
            StationEvent::BatchClosed { .. } => (self.is_open, self.newest) = (false, seq),
            StationEvent::BatchReopened { .. } => (self.is_open, self.newest) = (true, seq),
            _ => {}
        }
        Ok(())
    }

    /// A device is new on disk.
    fn admitted(&self, device: &Device, presented: bool) -> Result<(), String> {
        let serial = &device.serial;
        let Some(list) = &self.list else {
            return match &device.batch {
                Some(batch) if !self.is_open => {
                    Err(format!("{serial} comes into {batch}, which is not open on disk"))
                }
                _ => Ok(()),
            };
        };
        let is_listed = list.contains(serial);
        match (&device.batch, self.is_open) {
            (Some(batch), false) => Err(format!("{serial} comes into {batch}, which is not open on disk")),
            (Some(batch), true) if !is_listed || device.extra => {
                Err(format!("{serial} comes into {batch}, and is not on its list"))
            }
            (None, true) if is_listed => Err(format!("{serial} is on the list, and comes into no batch")),
            (None, true) if presented => Err(format!("{serial} is taken, and is not on the list")),
            _ => Ok(()),
        }
    }
}

impl World {
    /// A person does what comes next about the batch. When all is well it is closed, so that what is not on its list
    /// comes to its end too.
    pub(super) fn order_batches(&mut self) {
        let shelved = &self.truth.shelved;
        let (is_known, is_open) = (shelved.is_known, shelved.is_open);
        if self.healed {
            if is_open {
                self.order(Order::Close(batch()), Duration::ZERO);
            }
            return;
        }
        if !self.happens(ORDERED) {
            return;
        }
        match (is_known, is_open) {
            (true, true) => self.order(Order::Close(batch()), Duration::ZERO),
            (true, false) => self.order(Order::Reopen(batch()), Duration::ZERO),
            (false, _) => self.open_list(),
        }
    }

    /// The list comes in parts. All but the last of the units are on it, and two that never come.
    fn open_list(&mut self) {
        let listed = self.plan.serials.len().saturating_sub(1).max(1);
        let units = self.plan.serials[..listed].iter().map(String::as_str).chain(["SN8", "SN9"]);
        let parts: Vec<_> = units.map(|it| vec![SerialNumber::parse(it).unwrap()]).collect();
        let (product, fixtures) = (PRODUCT.to_owned(), Vec::new());
        let terms = Terms { batch: batch(), product, strict: true, fixtures, expected: 0 };
        let mut at = Duration::ZERO;
        self.order(Order::Begin(terms), at);
        for part in parts {
            at += self.millis(30);
            self.order(Order::Serials(batch(), part), at);
        }
        at += self.millis(30);
        self.order(Order::Finish(batch()), at);
    }

    fn order(&mut self, order: Order, by: Duration) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.tell(|| format!("a person orders {order:?}"));
        if matches!(order, Order::Finish(_) | Order::Close(_) | Order::Reopen(_)) {
            self.waiting.insert(ticket, self.truth.seq);
        }
        let who = Operator { uid: 1001, name: "ada".to_owned(), reason: "as planned".to_owned() };
        let input = crate::line::Input::Batch { order, by: who, ticket };
        self.after(by, Event::Input(self.lives, input));
    }

    /// An order is answered: what was said to be done is on disk.
    pub(super) fn answered_order(&mut self, ticket: u64, result: &Result<(), Refusal>) -> Result<(), String> {
        let Some(then) = self.waiting.remove(&ticket) else { return Ok(()) };
        if result.is_ok() && self.truth.shelved.newest <= then {
            return Err("an order is said to be carried out, and is not on disk".to_owned());
        }
        Ok(())
    }
}
