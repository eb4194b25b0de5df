//! A run over a journal on disk and an account that holds little: what is told after a rotation of the CA and
//! where an earlier run is gone on with, and what is not repaired any more.

mod account;
mod ordered;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use self::account::Account;
use super::*;
use crate::clock::SystemClock;
use crate::cloud::testing::failure;
use crate::cloud::{CertificateStatus, ListedCertificate, ListedLocker, ListedThing};
use crate::device::event::{Admission, Event, Output, PresentationKey, Waited};
use crate::device::mend::{MendOrder, Orphan};
use crate::device::operator::Refusal;
use crate::device::rules::{LockerRule, ManagedRole, ManagedThingRule, PolicyRule, Register, Template};
use crate::device::steps::Step;
use crate::device::testing::{DOCUMENT, STATION, plain_rules};
use crate::device::{Certificate, KeyState};
use crate::fixture::FailCode;
use crate::journal::store::{JournalLock, Opened, StoreWriter, open};
use crate::journal::{Entry, Journal as _, Record, StationEvent, What};
use crate::pki::authority::make_root;
use crate::pki::issuer::StationIssuer;
use crate::pki::{Issuer as _, LeafKey, LeafRequest, to_pem};
use crate::reconcile::newest::Newest;
use crate::reconcile::{Class as Kind, Repair};

/// The devices that the journal and the account have.
const DEVICES: [&str; 2] = ["SN1", "SN2"];

fn arn_of(id: Fingerprint) -> String {
    format!("arn:aws:iot:x:1:cert/{id}")
}

fn der_of(serial: &SerialNumber) -> String {
    format!("the certificate of {serial}")
}

fn operator() -> Operator {
    Operator { uid: 0, name: "root".to_owned(), reason: "a test says so".to_owned() }
}

fn admission(rules: RulesId, batch: Option<&str>, presentation: PresentationKey) -> Admission {
    Admission { batch: batch.map(str::to_owned), ..Admission::of("lamp", rules, presentation) }
}

/// The journal as the station writes it.
struct Book {
    writer: StoreWriter,
    devices: BTreeMap<SerialNumber, Device>,
    seq: u64,
}

impl Book {
    fn commit(
        &mut self,
        serial: Option<SerialNumber>,
        what: What,
        device: Option<(Box<Device>, Option<crate::device::State>)>,
    ) {
        self.seq += 1;
        let record = Record { seq: self.seq, at: SystemClock::default().now().wall, serial, what };
        self.writer.commit(vec![Entry { record, device }]).unwrap();
    }

    fn happens(&mut self, serial: &SerialNumber, event: Event) {
        let (seq, now) = (self.seq + 1, SystemClock::default().now().wall);
        let before = self.devices.remove(serial);
        let state = before.as_ref().map(|it| it.state);
        let after = match before {
            None => Device::admit(serial, seq, now, &event).unwrap(),
            Some(mut it) => {
                it.apply(seq, now, &event).unwrap();
                it
            }
        };
        self.devices.insert(serial.clone(), after.clone());
        self.commit(Some(serial.clone()), What::Device(event), Some((Box::new(after), state)));
    }

    fn passes(&mut self, serial: &SerialNumber, rules: RulesId, batch: Option<&str>) {
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: self.seq };
        let admission = admission(rules, batch, presentation.clone());
        let der = der_of(serial).into_bytes();
        let certificate = Certificate {
            fingerprint: Fingerprint::of(&der),
            der,
            serial_number: "01".to_owned(),
            not_after: Timestamp::MAX,
            key: KeyState::Device,
            arn: None,
            public_key: None,
            issuer: None,
        };
        let arn = arn_of(certificate.fingerprint);
        let done = |step, output| Event::StepDone { step, output, adopted: false, request_id: None };
        self.happens(serial, Event::Admitted(Box::new(admission)));
        self.happens(serial, Event::Issued { certificate });
        let locker = format!("locker-{}", batch.unwrap_or(serial.as_str()));
        let locker = Output::Locker { id: locker, arn: None, others: Vec::new() };
        self.happens(serial, done(Step::Locker, locker));
        self.happens(serial, done(Step::Certificate, Output::Certificate { arn }));
        for step in [Step::Policy, Step::Thing, Step::AttachPolicy, Step::AttachThing] {
            self.happens(serial, done(step, Output::Nothing));
        }
        self.happens(
            serial,
            Event::Passed { presentation, directory: None, label: false, waited: Waited::default() },
        );
    }

    /// It comes into the journal without being presented, by a fixture's word alone.
    fn claimed(&mut self, serial: &SerialNumber, rules: RulesId, batch: Option<&str>) {
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: 0 };
        self.happens(serial, Event::Admitted(Box::new(admission(rules, batch, presentation.clone()))));
        let (code, message) = (FailCode::Mismatch, "was not issued for SN1".to_owned());
        let presentation = Some(presentation);
        self.happens(serial, Event::Quarantined { presentation, code, message, waited: Waited::default() });
    }

    /// The account held it and the journal did not: it came into that only to be deleted.
    fn deleted(&mut self, serial: &SerialNumber, rules: RulesId) {
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: 0 };
        self.happens(serial, Event::Admitted(Box::new(admission(rules, None, presentation.clone()))));
        let scrapping = Event::Scrapping {
            presentation: Some(presentation),
            by: operator(),
            policy: None,
            message: "cleared by root".to_owned(),
            asked: false,
            managed_thing: false,
        };
        self.happens(serial, scrapping);
        while let Some(step) = self.devices[serial].next_clearing() {
            let (output, adopted, request_id) = (Output::Nothing, false, None);
            self.happens(serial, Event::StepDone { step, output, adopted, request_id });
        }
        self.happens(serial, Event::Scrapped);
    }

    /// A certificate that it had before, and that is recorded as deleted.
    fn had_before(&mut self, serial: &SerialNumber, leaf: &Leaf) {
        let orphan = Orphan {
            fingerprint: leaf.id,
            public_key: Fingerprint::of(b"its key"),
            arn: arn_of(leaf.id),
            policy: None,
            thing: None,
        };
        self.happens(serial, Event::OrphanFound { by: operator(), orphan: Box::new(orphan) });
        for step in [Step::Deactivate, Step::DetachPolicy, Step::DetachThing, Step::Delete] {
            let (output, adopted, request_id) = (Output::Nothing, false, None);
            self.happens(serial, Event::StepDone { step, output, adopted, request_id });
        }
    }
}

/// A certificate in the account.
#[derive(Debug, Clone)]
struct Leaf {
    id: Fingerprint,
    pem: String,
}

/// A CA of this station's.
struct Ca(StationIssuer);

impl Ca {
    fn new(name: &str) -> Self {
        let now = SystemClock::default().now().wall;
        let root = make_root(name, now).unwrap();
        Self(
            StationIssuer::load(&root.certificate_pem, Zeroizing::new(root.key_pem.to_string()), now)
                .unwrap(),
        )
    }

    fn known(&self) -> (Fingerprint, String) {
        (self.0.ca(), self.0.ca_pem().to_owned())
    }

    fn leaf(&self, name: &str) -> Leaf {
        let request = LeafRequest { common_name: name.to_owned(), days: 30, key: LeafKey::Station };
        let issued = self.0.issue(&request, SystemClock::default().now().wall).unwrap();
        let pem = to_pem("CERTIFICATE", &issued.der).to_string();
        Leaf { id: Fingerprint::of(&issued.der), pem }
    }
}

/// A station of which the reconciliation is real, and the line is the test.
struct Bench {
    _dir: tempfile::TempDir,
    book: Arc<Mutex<Book>>,
    store: Store,
    /// What the line is told to do.
    orders: mpsc::Receiver<Command>,
    commands: mpsc::Sender<Command>,
}

impl Bench {
    fn new() -> Self {
        let mut rules = plain_rules("lamp");
        rules.certificate.register = Register::WithCa;
        Self::of(rules, None)
    }

    /// Two devices that have passed, of that batch.
    fn of(rules: ProductRules, batch: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let Opened { store, writer, .. } = open(JournalLock::take(dir.path()).unwrap()).unwrap();
        let mut book = Book { writer, devices: BTreeMap::new(), seq: 0 };
        let id = rules.id();
        book.commit(None, What::Station(StationEvent::Rules { id, rules: Box::new(rules) }), None);
        DEVICES.iter().for_each(|it| book.passes(&serial(it), id, batch));
        if let Some(batch) = batch {
            let (name, id) = (batch.to_owned(), format!("locker-{batch}"));
            book.commit(None, What::Station(StationEvent::LockerReady { name, id, arn: None }), None);
        }
        let (commands, orders) = mpsc::channel(8);
        Self { _dir: dir, book: Arc::new(Mutex::new(book)), store, orders, commands }
    }

    fn device(&self, name: &str) -> Device {
        self.book.lock().unwrap().devices[&serial(name)].clone()
    }

    fn start(&self, account: &Arc<Account>, cas: &[&Ca], wish: Wish) -> mpsc::Receiver<Told> {
        self.start_with(account, cas, BTreeMap::new(), wish)
    }

    fn start_with(
        &self,
        account: &Arc<Account>,
        cas: &[&Ca],
        products: BTreeMap<String, Product>,
        wish: Wish,
    ) -> mpsc::Receiver<Told> {
        let (durable, seq) = watch::channel(self.book.lock().unwrap().seq);
        drop(durable);
        let calendar = Calendar { shifts: Vec::new(), timezone: TimeZone::UTC, days_off: BTreeSet::new() };
        let reconciler = Reconciler {
            cloud: account.clone(),
            store: self.store.clone(),
            durable: seq,
            clock: Arc::new(SystemClock::default()),
            commands: self.commands.clone(),
            station: STATION.to_owned(),
            products,
            cas: cas.iter().map(|it| it.known()).collect(),
            calendar,
            turn: Arc::new(Semaphore::new(1)),
            foreign: Mutex::default(),
            newest: Newest::default(),
        };
        Arc::new(reconciler).start(wish, operator()).unwrap()
    }
}

fn serial(name: &str) -> SerialNumber {
    SerialNumber::parse(name).unwrap()
}

/// All that is told.
async fn told(mut heard: mpsc::Receiver<Told>) -> Vec<Told> {
    let mut all = Vec::new();
    while let Some(it) = heard.recv().await {
        all.push(it);
    }
    assert!(matches!(all.last(), Some(Told::Summary(_))), "{all:#?}");
    all
}

fn orphans(told: &[Told]) -> Vec<(String, bool)> {
    let found = told.iter().filter_map(|it| match it {
        Told::Finding(it) if it.class == Kind::OrphanedCertificate => Some(it),
        _ => None,
    });
    found.map(|it| (it.serial.clone().unwrap(), matches!(it.repair, Some(Repair::Retire(_))))).collect()
}

#[tokio::test]
async fn what_the_previous_ca_has_signed_is_the_stations_too() {
    let bench = Bench::new();
    let (new, old, other) = (Ca::new("Line 3, second"), Ca::new("Line 3"), Ca::new("Line 4"));
    let leaves = vec![old.leaf("SN1"), new.leaf("SN2"), other.leaf("SN2")];
    let account = Arc::new(Account { leaves, ..Account::default() });
    let heard = told(bench.start(&account, &[&new, &old], Wish::default())).await;
    assert_eq!(orphans(&heard), [("SN1".to_owned(), true), ("SN2".to_owned(), true)]);
    let asked = account.asked.lock().unwrap().clone();
    assert!(
        asked.contains(&Operation::ListCertificates) && !asked.contains(&Operation::ListCertificatesByCa)
    );

    let account = Arc::new(Account::default());
    told(bench.start(&account, &[&new], Wish::default())).await;
    let asked = account.asked.lock().unwrap().clone();
    assert!(asked.contains(&Operation::ListCertificatesByCa), "its list is the shorter one");
}

#[tokio::test]
async fn a_look_that_goes_on_tells_what_earlier_devices_had_before() {
    let bench = Bench::new();
    let ca = Ca::new("Line 3");
    let leaf = ca.leaf("SN1");
    bench.book.lock().unwrap().had_before(&serial("SN1"), &leaf);
    let account = Arc::new(Account { leaves: vec![leaf], ..Account::default() });
    let heard =
        told(bench.start(&account, &[], Wish { after: Some("SN1".to_owned()), ..Wish::default() })).await;
    assert_eq!(orphans(&heard), [("SN1".to_owned(), true)]);
    let Some(Told::Summary(summary)) = heard.last() else { unreachable!() };
    assert_eq!((summary.selected, summary.compared), (1, 1));
    assert!(heard.iter().any(|it| matches!(it, Told::Progress { after: Some(_), .. })));
}

#[tokio::test]
async fn where_nothing_tells_whose_a_certificate_is_none_is_counted_as_not_looked_into() {
    let bench = Bench::new();
    let ca = Ca::new("Line 3");
    let leaf = ca.leaf("another station's");
    for (cas, unexamined, orphaned) in [(vec![], 0, 0), (vec![&ca], 0, 1)] {
        let account = Arc::new(Account { leaves: vec![leaf.clone()], ..Account::default() });
        let heard = told(bench.start(&account, &cas, Wish::default())).await;
        let Some(Told::Summary(summary)) = heard.last() else { unreachable!() };
        let found = summary.findings.get(&Kind::OrphanedCertificate).copied().unwrap_or(0);
        assert_eq!((summary.unexamined, found), (unexamined, orphaned), "{heard:?}");
    }
}

/// Stations at one line may share a CA.
#[tokio::test]
async fn what_hangs_on_another_stations_thing_is_that_ones_whatever_its_name() {
    let bench = Bench::new();
    let ca = Ca::new("The line's");
    let claimed = serial("SN3");
    let rules = bench.device("SN1").rules;
    bench.book.lock().unwrap().claimed(&claimed, rules, None);
    let [at_its_thing, of_its_name, by_hand, own, unknown] =
        ["SN1", "SN3", "SN2", "SN2", "SN9"].map(|it| ca.leaf(it));
    let leaves = vec![at_its_thing.clone(), of_its_name, by_hand.clone(), own, unknown.clone()];
    let other = Some("S4".to_owned());
    let account = Arc::new(Account {
        leaves,
        others: vec![
            ("elsewhere".to_owned(), other.clone()),
            // The unit came here too, and the other station had made it: its certificate may not be attached yet.
            ("SN3".to_owned(), other.clone()),
            ("SN9".to_owned(), other),
            ("a-persons".to_owned(), None),
        ],
        attached: vec![
            (at_its_thing.id, "elsewhere".to_owned()),
            (unknown.id, "SN9".to_owned()),
            (by_hand.id, "a-persons".to_owned()),
        ],
        ..Account::default()
    });
    let heard = told(bench.start(&account, &[&ca], Wish::default())).await;
    // What a person may be using is told, and left to a person.
    let found = findings(&heard);
    assert!(found.iter().all(|it| it.class == Kind::OrphanedCertificate), "{found:#?}");
    let both = BTreeSet::from([("SN2".to_owned(), false), ("SN2".to_owned(), true)]);
    assert_eq!((orphans(&heard).into_iter().collect::<BTreeSet<_>>(), found.len()), (both, 2));
}

/// With an older journal a device has a certificate that this does not know, and lives by it.
#[tokio::test]
async fn what_a_device_may_live_by_is_told_and_not_deleted() {
    let bench = Bench::new();
    let ca = Ca::new("Line 3");
    let leaf = ca.leaf("SN1");
    for (inactive, retires) in [(false, true), (true, false)] {
        let attached = vec![(leaf.id, "SN1".to_owned())];
        let account =
            Arc::new(Account { leaves: vec![leaf.clone()], attached, inactive, ..Account::default() });
        let heard = told(bench.start(&account, &[&ca], Wish::default())).await;
        assert_eq!(orphans(&heard), [("SN1".to_owned(), retires)]);
    }
}

/// All that is at an extra is deleted with it.
#[tokio::test]
async fn an_extra_is_not_deleted_with_a_certificate_that_is_a_devices_or_at_another_thing() {
    let bench = Bench::new();
    let ca = Ca::new("Line 3");
    let leaf = ca.leaf("SN7");
    let at = |id, thing: &str| (id, thing.to_owned());
    let own = Account::own("SN1");
    for (attached, clears) in [
        (vec![at(leaf.id, "SN7")], true),
        (vec![at(leaf.id, "SN7"), at(own, "SN7")], false),
        (vec![at(leaf.id, "SN7"), at(leaf.id, "SN2")], false),
        (vec![at(leaf.id, "SN7"), at(leaf.id, "elsewhere")], false),
    ] {
        let others = vec![
            ("SN7".to_owned(), Some(STATION.to_owned())),
            ("elsewhere".to_owned(), Some("S4".to_owned())),
        ];
        let leaves = vec![leaf.clone()];
        let account = Arc::new(Account { leaves, others, attached: attached.clone(), ..Account::default() });
        let heard =
            told(bench.start_with(&account, &[&ca], ordered::lamps("{serial}"), Wish::default())).await;
        let extra: Vec<_> = findings(&heard).into_iter().filter(|it| it.class == Kind::Extra).collect();
        assert_eq!(extra.len(), 1, "{heard:#?}");
        assert_eq!(extra[0].repair.is_some(), clears, "{attached:?}");
    }
}

#[tokio::test]
async fn a_shared_policy_is_read_before_a_repair_that_attaches_it_is_told() {
    let mut rules = plain_rules("lamp");
    let PolicyRule::Device { document, tags, .. } = rules.policy.clone() else { unreachable!() };
    rules.policy = PolicyRule::Product { name: Template::parse("{serial}").unwrap(), document, tags };
    let bench = Bench::of(rules, None);
    for (document, attaches) in [(None, true), (Some("{}".to_owned()), false)] {
        let lockers = DEVICES.map(|it| format!("locker-{it}")).to_vec();
        let account = Account { lockers, policies_detached: true, document, ..Account::default() };
        let account = Arc::new(account);
        let heard = told(bench.start(&account, &[], Wish::default())).await;
        let repairs = findings(&heard).into_iter().filter(|it| it.class == Kind::HalfMade);
        let repairs: Vec<_> = repairs.map(|it| it.repair.clone()).collect();
        let attach = attaches.then(|| Repair::Finish { steps: vec![Step::AttachPolicy] });
        assert_eq!(repairs, [attach.clone(), attach], "{heard:#?}");
    }
}

/// The account has a certificate that is no device's, and the line refuses to retire it, or is not even asked.
async fn repaired(
    mut bench: Bench,
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
) -> (Vec<Told>, Vec<MendOrder>) {
    let ca = Ca::new("Line 3");
    let (leaves, meanwhile) = (vec![ca.leaf("SN1")], Mutex::new(meanwhile));
    let account = Arc::new(Account { leaves, meanwhile, ..Account::default() });
    let wish = Wish { repair: true, ..Wish::default() };
    let running = tokio::spawn(told(bench.start(&account, &[&ca], wish)));
    // Only the run may order anything; its end is the end of the orders.
    bench.commands = mpsc::channel(1).0;
    let mut orders = Vec::new();
    while let Some(command) = bench.orders.recv().await {
        let Command::Mend { order, reply, .. } = command else { panic!("{command:?}") };
        orders.push(order);
        reply.send(Err(Refusal::Not("not now".to_owned()))).unwrap();
    }
    (running.await.unwrap(), orders)
}

fn outcome(told: &[Told]) -> Vec<String> {
    let outcomes = told.iter().filter_map(|it| match it {
        Told::Repaired { why, .. } => why.clone(),
        _ => None,
    });
    outcomes.collect()
}

#[tokio::test]
async fn a_device_that_has_changed_since_it_was_looked_at_is_not_repaired() {
    let bench = Bench::new();
    let seen_at = bench.device("SN1").last_seq;
    let (told, orders) = repaired(bench, None).await;
    assert!(matches!(orders.as_slice(), [MendOrder::Retire { seq, .. }] if *seq == seen_at), "{orders:?}");
    assert_eq!(outcome(&told), ["not now"]);
    let after = told.iter().any(|it| matches!(it, Told::Progress { after: Some(_), .. }));
    assert!(!after, "a repair that is cut off is begun anew");

    let bench = Bench::new();
    let book = bench.book.clone();
    let meanwhile = move || {
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: 99 };
        book.lock().unwrap().happens(
            &serial("SN1"),
            Event::Repeated { presentation, nest: None, attributes: BTreeMap::new() },
        );
    };
    let (told, orders) = repaired(bench, Some(Box::new(meanwhile))).await;
    assert!(orders.is_empty(), "{orders:?}");
    assert_eq!(outcome(&told), ["it has changed since it was looked at: reconcile again"]);
}

fn findings(told: &[Told]) -> Vec<&Finding> {
    let found = told.iter().filter_map(|it| match it {
        Told::Finding(it) => Some(&**it),
        _ => None,
    });
    found.collect()
}

#[tokio::test]
async fn a_batchs_locker_is_looked_for_once_and_is_missing_if_it_is_gone() {
    let of = |batch| {
        let mut rules = plain_rules("lamp");
        let name = Template::parse("{batch}").unwrap();
        rules.locker = LockerRule::Batch { name, tags: BTreeMap::new() };
        Bench::of(rules, batch)
    };
    let bench = of(Some("WO-1"));
    // One that nobody knows, and that bears the batch's name, is none of the findings.
    let lockers = vec!["locker-WO-1".to_owned(), "another".to_owned()];
    let account = Arc::new(Account { lockers, ..Account::default() });
    for wish in [Wish::default(), Wish { quick: true, ..Wish::default() }] {
        let before = account.locker_reads.load(Ordering::Relaxed);
        let heard = told(bench.start(&account, &[], wish)).await;
        assert_eq!(findings(&heard), Vec::<&Finding>::new());
        assert_eq!(account.locker_reads.load(Ordering::Relaxed) - before, 1, "once for all devices");
    }
    let gone = Arc::new(Account::default());
    for wish in [Wish::default(), Wish { repair: true, ..Wish::default() }] {
        let heard = told(bench.start(&gone, &[], wish)).await;
        let [it] = findings(&heard)[..] else { panic!("{heard:#?}") };
        assert_eq!((it.class, it.serial.as_deref(), &it.repair), (Kind::Missing, None, &None));
        assert_eq!(it.resource, "locker locker-WO-1");
        assert_eq!(it.expected, "the locker WO-1 is there for all devices of batch WO-1");
    }
    // Of other devices it is nothing.
    let wish = Wish {
        selection: Selection { until: "1970-01-01T00:00".parse().ok(), ..Selection::default() },
        ..Wish::default()
    };
    assert_eq!(findings(&told(bench.start(&gone, &[], wish)).await), Vec::<&Finding>::new());
}

#[tokio::test]
async fn a_managed_thing_is_not_made_again_in_a_batchs_locker_that_is_gone() {
    let mut rules = plain_rules("lamp");
    rules.locker = LockerRule::Batch { name: Template::parse("{batch}").unwrap(), tags: BTreeMap::new() };
    rules.managed_thing = Some(ManagedThingRule { role: ManagedRole::Device });
    let bench = Bench::of(rules, Some("WO-1"));
    for name in DEVICES {
        let output = Output::ManagedThing { id: format!("managed-{name}"), arn: None };
        let done = Event::StepDone { step: Step::ManagedThing, output, adopted: false, request_id: None };
        bench.book.lock().unwrap().happens(&serial(name), done);
    }
    let own = |told: &[Told]| {
        let found = findings(told).into_iter().filter(|it| it.serial.is_some());
        let found = found.map(|it| (it.class, it.repair.is_some(), it.remedy.contains("locker-WO-1")));
        found.collect::<Vec<_>>()
    };
    let there = Arc::new(Account { lockers: vec!["locker-WO-1".to_owned()], ..Account::default() });
    let heard = told(bench.start(&there, &[], Wish::default())).await;
    assert_eq!(own(&heard), [(Kind::HalfMade, true, false); 2]);
    let heard = told(bench.start(&Arc::new(Account::default()), &[], Wish::default())).await;
    assert_eq!(own(&heard), [(Kind::HalfMade, false, true); 2]);
    assert!(findings(&heard).iter().any(|it| it.resource == "locker locker-WO-1"));
}
