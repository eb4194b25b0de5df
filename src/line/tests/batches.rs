//! Batches: what units find open, and what a person orders.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::harness::Harness;
use super::setup::{Setup, text, unit, unit_in};
use crate::batch::{BatchId, Order, Terms};
use crate::device::State;
use crate::device::operator::Refusal;
use crate::device::rules::{LockerRule, Repeat};
use crate::device::serial::SerialNumber;
use crate::device::testing::plain_rules;
use crate::journal::StationEvent;

fn id(text: &str) -> BatchId {
    BatchId::parse(text).unwrap()
}

fn terms(batch: &str, expected: u64) -> Terms {
    let product = "thermostat".to_owned();
    Terms { batch: id(batch), product, strict: false, fixtures: Vec::new(), expected }
}

fn strict(batch: &str) -> Terms {
    Terms { strict: true, ..terms(batch, 0) }
}

fn serials(all: &[&str]) -> Vec<SerialNumber> {
    all.iter().map(|it| SerialNumber::parse(it).unwrap()).collect()
}

impl Harness {
    /// An order that has to go well.
    fn does(&mut self, order: Order) {
        assert_eq!(self.batch(order.clone()), Some(Ok(())), "{order:?}");
    }

    /// What a refused order is answered.
    fn refused(&mut self, order: Order) -> String {
        self.batch(order).expect("it is answered").expect_err("it is refused").to_string()
    }

    fn open_list(&mut self, terms: Terms, listed: &[&str]) {
        let batch = terms.batch.clone();
        self.does(Order::Begin(terms));
        self.does(Order::Serials(batch.clone(), serials(listed)));
        self.does(Order::Finish(batch));
    }

    fn tally(&self, batch: &str) -> (u64, u64, u64, u64) {
        let it = &self.shelf.book.batches[&id(batch)];
        (it.seen(), it.tally.of(State::Passed), it.missing(), it.extra())
    }
}

fn requiring() -> Harness {
    Harness::ready_with(Setup::with(|it| {
        it.require_batch = true;
        it.thing = text("{serial}-{batch}");
        it.repeat = Repeat::Renew;
    }))
}

#[test]
fn where_a_batch_is_required_a_new_unit_needs_one_and_a_known_one_goes_on() {
    let mut h = requiring();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["nak no-batch 1"]);
    assert!(h.shelf.devices.is_empty());
    h.does(Order::Open(terms("WO-1", 2)));
    h.pass(0, 2, "SN1");
    assert_eq!(h.unit(0, unit_in(3, "SN2", "b")), ["ack 3", "credentials 3 SN2"]);
    h.does(Order::Close(id("WO-1")));
    assert_eq!(h.unit(0, unit_in(4, "SN3", "c")), ["nak no-batch 4"]);
    // In flight at the close: under its old id, and under a new one.
    assert_eq!(h.unit(0, unit_in(3, "SN2", "b")), ["ack 3", "credentials 3 SN2"]);
    assert_eq!(h.unit(0, unit_in(5, "SN2", "b")), ["ack 5", "credentials 5 SN2"]);
    assert_eq!(h.written(0, 5, "SN2"), ["pass 5 SN2"]);
    for serial in ["SN1", "SN2"] {
        assert_eq!(h.device(serial).batch.as_deref(), Some("WO-1"));
    }
    assert_eq!(h.tally("WO-1"), (2, 2, 0, 0));
}

#[test]
fn a_device_keeps_its_batch_and_the_names_made_with_it() {
    let mut h = requiring();
    h.does(Order::Open(terms("WO-1", 1)));
    h.pass(0, 1, "SN1");
    assert_eq!(h.credentials("SN1").thing, "SN1-WO-1");
    h.does(Order::Close(id("WO-1")));
    h.does(Order::Open(terms("WO-2", 1)));
    h.restart();
    h.hear(0);
    // A new certificate, in the time of another batch.
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.credentials("SN1").thing, "SN1-WO-1");
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    assert_eq!(h.device("SN1").batch.as_deref(), Some("WO-1"));
    h.pass(0, 3, "SN2");
    assert_eq!(h.credentials("SN2").thing, "SN2-WO-2");
    assert_eq!((h.tally("WO-1"), h.tally("WO-2")), ((1, 1, 0, 0), (1, 1, 0, 0)));
}

#[test]
fn what_is_not_on_a_strict_list_is_refused_and_nothing_is_journaled_of_it() {
    let mut h = Harness::ready();
    h.pass(0, 1, "OLD");
    h.open_list(strict("WO-1"), &["SN1", "SN2", "SN3"]);
    assert_eq!(h.unit(0, unit(2, "SN4")), ["nak not-expected 2"]);
    assert_eq!(h.unit(0, unit(3, "SN0")), ["nak not-expected 3"]);
    assert!(!h.shelf.devices.contains_key(&SerialNumber::parse("SN4").unwrap()));
    h.pass(0, 4, "SN2");
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(5, "SN4")), ["nak not-expected 5"]);
    h.pass(0, 6, "SN3");
    // What had passed before is answered as before; so is what passed with it.
    assert_eq!(h.unit(0, unit(7, "OLD")), ["pass 7 OLD again"]);
    assert_eq!(h.unit(0, unit(8, "SN2")), ["pass 8 SN2 again"]);
    assert_eq!(h.tally("WO-1"), (2, 2, 1, 0));
    assert_eq!(h.device("OLD").batch, None);
}

#[test]
fn what_is_not_on_a_lenient_list_is_taken_and_noted() {
    let mut h = Harness::ready();
    h.open_list(terms("WO-1", 0), &["SN1", "SN2"]);
    h.pass(0, 1, "SN9");
    h.pass(0, 2, "SN1");
    assert_eq!((h.device("SN9").extra, h.device("SN1").extra), (true, false));
    assert_eq!(h.tally("WO-1"), (2, 2, 1, 1));
    // By number alone, those above it are extra.
    h.does(Order::Close(id("WO-1")));
    h.does(Order::Open(terms("WO-2", 1)));
    h.pass(0, 3, "SN3");
    h.pass(0, 4, "SN4");
    assert_eq!(h.tally("WO-2"), (2, 2, 0, 1));
}

#[test]
fn one_batch_of_a_product_is_open_and_refusals_say_what_is_in_the_way() {
    let mut h = Harness::ready();
    h.does(Order::Open(terms("WO-1", 1)));
    let close_it = "WO-1 is open for thermostat: close it first (linemint batch close WO-1)";
    assert_eq!(h.refused(Order::Open(terms("WO-2", 1))), close_it);
    assert_eq!(h.refused(Order::Begin(strict("WO-2"))), close_it);
    assert_eq!(h.refused(Order::Open(terms("WO-1", 1))), "WO-1 is open already, for product thermostat");
    assert_eq!(h.refused(Order::Reopen(id("WO-1"))), "WO-1 is open already, for product thermostat");
    assert_eq!(h.batch(Order::Close(id("WO-9"))), Some(Err(Refusal::NoBatch(id("WO-9")))));
    assert_eq!(h.batch(Order::Reopen(id("WO-9"))), Some(Err(Refusal::NoBatch(id("WO-9")))));
    h.does(Order::Close(id("WO-1")));
    let closed = h.refused(Order::Close(id("WO-1")));
    assert!(closed.starts_with("WO-1 was closed at ") && closed.ends_with(" by ada"), "{closed}");
    assert!(h.refused(Order::Open(terms("WO-1", 1))).contains("to open it again give a reason"));
    let unknown = Terms { product: "lamp".to_owned(), ..terms("WO-2", 1) };
    assert_eq!(h.refused(Order::Open(unknown)), "there is no product lamp; this station has thermostat");
    assert!(h.refused(Order::Open(terms("WO-2", 0))).starts_with("a batch is of 1 to "));
    assert!(h.refused(Order::Open(Terms { expected: 1, ..strict("WO-2") })).starts_with("without a list"));
    let elsewhere = Terms { fixtures: vec!["jig-9".to_owned()], ..terms("WO-2", 1) };
    assert_eq!(h.refused(Order::Open(elsewhere)), "there is no fixture jig-9; this station has jig-1, jig-2");
}

#[test]
fn a_closed_batch_is_opened_again_with_what_it_had() {
    let mut h = Harness::ready();
    h.open_list(strict("WO-1"), &["SN1", "SN2"]);
    h.pass(0, 1, "SN1");
    h.does(Order::Close(id("WO-1")));
    h.restart();
    h.hear(0);
    h.does(Order::Reopen(id("WO-1")));
    assert_eq!(h.unit(0, unit(2, "SN3")), ["nak not-expected 2"]);
    h.pass(0, 3, "SN2");
    assert_eq!(h.tally("WO-1"), (2, 2, 0, 0));
    let batch = &h.shelf.book.batches[&id("WO-1")];
    assert_eq!(batch.reopened.as_ref().map(|(_, by)| by.reason.as_str()), Some("as planned"));
    h.restart();
    assert_eq!(h.line.status().batches.len(), 1);
}

/// A station whose second fixture is configured for the same product, and that knows another.
fn two_products() -> Harness {
    let setup = Setup { others: vec![plain_rules("lamp")], ..Setup::default() };
    let mut h = Harness::ready_with(setup);
    h.connect(1, 1);
    h.hear(1);
    h
}

#[test]
fn a_batch_says_what_a_fixture_presents_while_it_is_open() {
    let mut h = two_products();
    let lamp = |batch: &str, fixtures: &[&str]| {
        let fixtures = fixtures.iter().map(|it| (*it).to_owned()).collect();
        Order::Open(Terms { product: "lamp".to_owned(), fixtures, ..terms(batch, 5) })
    };
    assert_eq!(
        h.refused(lamp("WO-1", &[])),
        "no fixture presents lamp: say with --fixture which one is to do so for WO-1"
    );
    h.does(Order::Open(terms("WO-0", 5)));
    // Still in its nest when the fixture is changed over.
    assert_eq!(h.unit(1, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    h.does(lamp("WO-1", &["jig-2"]));
    h.restart();
    h.connect(1, 1);
    h.hear(1);
    assert_eq!(h.unit(1, unit_in(2, "SN2", "b")), ["ack 2", "credentials 2 SN2"]);
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN3")), ["ack 1", "credentials 1 SN3"]);
    let of = |h: &Harness, serial: &str| {
        let device = h.device(serial);
        (device.product.clone(), device.batch.clone().unwrap())
    };
    assert_eq!(of(&h, "SN2"), ("lamp".to_owned(), "WO-1".to_owned()));
    assert_eq!(of(&h, "SN3"), ("thermostat".to_owned(), "WO-0".to_owned()));
    let told: Vec<_> = h.line.status().links.iter().map(|it| it.product.clone()).collect();
    assert_eq!(told, ["thermostat", "lamp"]);
    // It goes on as what it is, where it was; elsewhere it would not be taken for another product.
    assert_eq!(h.unit(1, unit(3, "SN1")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.written(1, 3, "SN1"), ["pass 3 SN1"]);
    assert_eq!(
        h.refused(lamp("WO-2", &["jig-1"])),
        "WO-1 is open for lamp: close it first (linemint batch close WO-1)"
    );
    h.does(Order::Close(id("WO-1")));
    assert_eq!(h.unit(1, unit_in(4, "SN2", "b")), ["ack 4", "credentials 4 SN2"]);
    assert_eq!(h.written(1, 4, "SN2"), ["pass 4 SN2"]);
    assert_eq!(h.unit(1, unit_in(5, "SN4", "b")), ["ack 5", "credentials 5 SN4"]);
    assert_eq!(of(&h, "SN4"), ("thermostat".to_owned(), "WO-0".to_owned()));
    h.does(lamp("WO-2", &["jig-1"]));
    let thermostat = Terms { fixtures: vec!["jig-1".to_owned()], ..terms("WO-3", 1) };
    h.does(Order::Close(id("WO-0")));
    assert_eq!(h.refused(Order::Open(thermostat)), "fixture jig-1 is used for WO-2: close that first");
}

#[test]
fn an_opening_that_is_cut_off_is_given_up_by_the_next_start() {
    let mut h = Harness::ready();
    h.does(Order::Begin(strict("WO-1")));
    h.does(Order::Serials(id("WO-1"), serials(&["SN1", "SN2"])));
    assert_eq!(h.unit(0, unit(1, "SN9")), ["ack 1", "credentials 1 SN9"], "it is not open yet");
    assert_eq!(h.shelf.book.unfinished.len(), 1);
    h.restart();
    h.hear(0);
    assert!(h.shelf.book.unfinished.is_empty() && h.shelf.book.lists.is_empty());
    assert!(h.line.status().batches.is_empty());
    assert_eq!(h.refused(Order::Finish(id("WO-1"))), "WO-1 is not being opened");
    h.open_list(strict("WO-1"), &["SN3"]);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak not-expected 2"]);
    h.pass(0, 3, "SN3");
    h.restart();
    let dropped = |it: &&StationEvent| matches!(it, StationEvent::BatchDropped { .. });
    assert_eq!(h.shelf.station_events.iter().filter(dropped).count(), 1, "once is enough");
}

#[test]
fn a_list_that_cannot_be_taken_ends_the_opening() {
    for (part, why) in [
        (vec!["SN1", "SN3", "SN2"], "SN2 comes twice, or not in ascending order"),
        (vec!["SN1", "SN1"], "SN1 comes twice, or not in ascending order"),
        (vec!["SN0"], "SN0 comes twice, or not in ascending order"),
        (vec!["SN1", "sn2"], "sn2: the serial number does not match the product's pattern"),
    ] {
        let mut h = Harness::ready();
        h.does(Order::Begin(strict("WO-1")));
        assert_eq!(
            h.refused(Order::Open(terms("WO-2", 1))),
            "WO-1 is just being opened; try again when that is done"
        );
        h.does(Order::Serials(id("WO-1"), serials(&["SN0"])));
        let refusal = h.refused(Order::Serials(id("WO-1"), serials(&part)));
        assert!(refusal.starts_with(why), "{refusal}");
        assert!(h.shelf.book.unfinished.is_empty() && h.shelf.book.lists.is_empty());
        h.does(Order::Drop(id("WO-1")));
        h.does(Order::Open(terms("WO-2", 1)));
    }
    let mut h = Harness::ready();
    h.does(Order::Begin(strict("WO-1")));
    assert_eq!(h.refused(Order::Finish(id("WO-1"))), "there is no serial number on the list");
    assert!(h.shelf.book.unfinished.is_empty());
}

#[test]
fn a_batch_is_open_when_that_is_on_disk() {
    let mut h = Harness::ready();
    h.does(Order::Begin(strict("WO-1")));
    h.does(Order::Serials(id("WO-1"), serials(&["SN1"])));
    h.syncs = false;
    assert_eq!(h.batch(Order::Finish(id("WO-1"))), None, "it is answered when it is on disk");
    assert_eq!(h.batch(Order::Close(id("WO-1"))), None);
    assert!(h.unit(0, unit(1, "SN1")).is_empty());
    h.sync(usize::MAX);
    assert_eq!(h.hear(0), ["nak busy 1"]);
    h.syncs = true;
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    h.does(Order::Close(id("WO-1")));
}

#[test]
fn tags_are_filled_with_the_batch_of_the_admission() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.require_batch = true;
        it.locker = LockerRule::Device {
            name: text("{serial}"),
            tags: [("order".to_owned(), text("{batch}"))].into(),
        };
    }));
    h.answers = false;
    h.does(Order::Open(terms("WO-1", 1)));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h.does(Order::Close(id("WO-1")));
    h.does(Order::Open(terms("WO-2", 1)));
    h.restart();
    let tagged = |h: &Harness| {
        h.calls.iter().find_map(|it| match &it.call {
            crate::cloud::Call::CreateCredentialLocker { tags, .. } => tags.get("order").cloned(),
            _ => None,
        })
    };
    assert_eq!(tagged(&h).as_deref(), Some("WO-1"));
}

/// Something happens around batches.
#[derive(Debug, Clone)]
enum Op {
    Present {
        serial: usize,
        nest: usize,
    },
    /// The newest unit of a nest has stored its credentials.
    Confirm {
        nest: usize,
    },
    Open {
        which: usize,
        list: Option<u8>,
        strict: bool,
    },
    /// A list that is not brought to its end.
    Begin {
        which: usize,
    },
    Close {
        which: usize,
    },
    Reopen {
        which: usize,
    },
    /// What is decided from now on is on disk only later, if at all.
    Unsynced,
    Synced,
    Crash {
        kept: usize,
    },
}

const UNITS: [&str; 6] = ["SN1", "SN2", "SN3", "SN4", "SN5", "SN6"];
const BATCHES: [&str; 3] = ["WO-1", "WO-2", "WO-3"];

fn op() -> impl Strategy<Value = Op> {
    let which = 0..BATCHES.len();
    prop_oneof![
        8 => (0..UNITS.len(), 0..2_usize).prop_map(|(serial, nest)| Op::Present { serial, nest }),
        6 => (0..2_usize).prop_map(|nest| Op::Confirm { nest }),
        4 => (which.clone(), prop::option::of(1..64_u8), any::<bool>())
            .prop_map(|(which, list, strict)| Op::Open { which, list, strict }),
        1 => which.clone().prop_map(|which| Op::Begin { which }),
        3 => which.clone().prop_map(|which| Op::Close { which }),
        2 => which.prop_map(|which| Op::Reopen { which }),
        1 => Just(Op::Unsynced),
        1 => Just(Op::Synced),
        2 => (0..6_usize).prop_map(|kept| Op::Crash { kept }),
    ]
}

/// A station, and the newest presentation of each nest.
struct World {
    h: Harness,
    next_id: u64,
    nests: [Option<(u64, &'static str)>; 2],
    /// The batch that each device was in first, as it was on disk.
    first: std::collections::BTreeMap<String, Option<String>>,
}

impl World {
    fn happen(&mut self, op: &Op) {
        let h = &mut self.h;
        match *op {
            Op::Present { serial, nest } => {
                self.next_id += 1;
                self.nests[nest] = Some((self.next_id, UNITS[serial]));
                h.unit(0, unit_in(self.next_id, UNITS[serial], ["a", "b"][nest]));
            }
            Op::Confirm { nest } => {
                if let Some((id, serial)) = self.nests[nest]
                    && h.was_offered(serial)
                {
                    h.written(0, id, serial);
                }
            }
            // Refused or not: what it does to the rest is what counts.
            Op::Open { which, list: None, .. } => drop(h.batch(Order::Open(terms(BATCHES[which], 2)))),
            Op::Open { which, list: Some(list), strict } => {
                let of = |it: &usize| list >> it & 1 == 1;
                let listed: Vec<_> = (0..UNITS.len()).filter(of).map(|it| UNITS[it]).collect();
                let batch = id(BATCHES[which]);
                h.batch(Order::Begin(Terms { strict, ..terms(BATCHES[which], 0) }));
                h.batch(Order::Serials(batch.clone(), serials(&listed)));
                h.batch(Order::Finish(batch));
            }
            Op::Begin { which } => drop(h.batch(Order::Begin(strict(BATCHES[which])))),
            Op::Close { which } => drop(h.batch(Order::Close(id(BATCHES[which])))),
            Op::Reopen { which } => drop(h.batch(Order::Reopen(id(BATCHES[which])))),
            Op::Unsynced => h.syncs = false,
            Op::Synced => {
                h.syncs = true;
                h.sync(usize::MAX);
            }
            Op::Crash { kept } => {
                h.crash(kept);
                h.connect(0, 1);
                h.hear(0);
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let shelf = &self.h.shelf;
        for device in shelf.devices.values() {
            let first = self.first.entry(device.serial.to_string()).or_insert_with(|| device.batch.clone());
            if first.is_some() {
                assert_eq!(*first, device.batch, "{} has another batch than before", device.serial);
            }
            let Some(batch) = &device.batch else { continue };
            let batch = &shelf.book.batches[&id(batch)];
            let listed = batch.list.is_none_or(|it| shelf.book.is_listed(it, &device.serial));
            assert_eq!(device.extra, !listed, "{}", device.serial);
            assert!(listed || !batch.terms.strict, "{} is not on {}", device.serial, batch.id());
        }
        for batch in shelf.book.batches.values() {
            let of = |it: &&crate::device::Device| it.batch.as_deref() == Some(batch.id().as_str());
            let mut tally = crate::batch::Tally::default();
            for device in shelf.devices.values().filter(of) {
                let counts = if device.extra { &mut tally.extra } else { &mut tally.ordered };
                *counts.entry(device.state).or_default() += 1;
            }
            let counted = |it: &std::collections::BTreeMap<State, u64>| {
                it.iter().filter(|it| *it.1 > 0).map(|(state, it)| (*state, *it)).collect::<Vec<_>>()
            };
            assert_eq!(counted(&batch.tally.ordered), counted(&tally.ordered), "{}", batch.id());
            assert_eq!(counted(&batch.tally.extra), counted(&tally.extra), "{}", batch.id());
        }
        let open = shelf.book.batches.values().filter(|it| it.is_open()).count();
        assert!(open <= 1, "{open} batches of one product are open");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(4711),
        ..ProptestConfig::with_cases(200)
    })]

    /// Whatever is opened, closed, presented and cut off in between: a device keeps its batch, a strict list is
    /// kept to, and the numbers of a batch are those of its devices.
    #[test]
    fn a_batch_counts_its_devices_and_they_keep_it(
        ops in prop::collection::vec(op(), 1..60),
        required in any::<bool>(),
    ) {
        let setup = Setup::with(|it| {
            it.require_batch = required;
            it.repeat = Repeat::Renew;
            it.max_certificates = 1_000;
            if required {
                it.thing = text("{serial}-{batch}");
            }
        });
        let mut world =
            World { h: Harness::ready_with(setup), next_id: 0, nests: [None, None], first: Default::default() };
        for op in &ops {
            world.happen(op);
        }
        world.happen(&Op::Synced);
        world.happen(&Op::Crash { kept: usize::MAX });
        let open: Vec<_> = world.h.shelf.book.batches.values().filter(|it| it.is_open()).collect();
        let told: Vec<_> = world.h.line.status().batches.into_iter().map(|it| it.id).collect();
        prop_assert_eq!(told, open.iter().map(|it| it.id().clone()).collect::<Vec<_>>());
        prop_assert!(world.h.shelf.book.unfinished.is_empty());
        for device in world.h.shelf.devices.values() {
            prop_assert!(!required || device.batch.is_some(), "{} has no batch", device.serial);
        }
    }
}
