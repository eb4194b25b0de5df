//! Everything around the line: disk, CA, AWS, cable and clock, each by itself or as the test says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::account::{Account, der_of};
use super::setup::Setup;
use super::shelf::MemoryShelf;
use crate::clock::{ClockSync, Now};
use crate::cloud::{Answer, Call, CertificateStatus, CloudError};
use crate::device::event::Event;
use crate::device::operator::{Operator, Order, Refusal};
use crate::device::request::CertificateRequest;
use crate::device::rules::Register;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::device::{Certificate, Device, KeyState, State, Superseded};
use crate::fixture::{Credentials, FailCode, FixtureMessage, StationMessage, Unit};
use crate::journal::{Entry, What};
use crate::line::{Action, Input, Line, Tag};
use crate::pki::request::make_request;
use crate::pki::{Fingerprint, LeafKey, LeafRequest};

/// A call that AWS has not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) serial: SerialNumber,
    pub(super) step: Step,
    pub(super) generation: u32,
    pub(super) call: Call,
}

/// The line with its world.
#[derive(Debug)]
pub(super) struct Harness {
    pub(super) setup: Setup,
    pub(super) line: Line,
    pub(super) now: Now,
    pub(super) shelf: MemoryShelf,
    pub(super) account: Account,
    /// Records reach the disk at once.
    pub(super) syncs: bool,
    /// AWS answers at once.
    pub(super) answers: bool,
    /// The CA issues at once.
    pub(super) issues: bool,
    /// Keys are destroyed at once.
    pub(super) destroys: bool,
    /// How long a tagged message takes to leave the port; none if the test says so itself.
    pub(super) leaves_in: Option<Duration>,
    /// What AWS has yet to answer, if it does not by itself.
    pub(super) calls: Vec<Pending>,
    /// What looks at the whole account have asked and not been answered.
    pub(super) surveys: Vec<(u64, Call)>,
    /// Whose request for AWS has yet to be made.
    pub(super) to_request: Vec<(SerialNumber, u32, String)>,
    /// What the CA has yet to issue.
    pub(super) to_issue: Vec<(SerialNumber, u32, LeafRequest)>,
    /// Private keys that are sealed on disk.
    pub(super) keys: HashSet<Fingerprint>,
    /// Somebody has removed key files.
    pub(super) keys_were_lost: bool,
    /// Keys whose destruction was asked for, but not done.
    pub(super) to_destroy: Vec<(SerialNumber, Fingerprint)>,
    /// The certificates issued, in order.
    pub(super) issued: Vec<(String, Fingerprint)>,
    /// Records that are decided, but not on disk.
    pub(super) unwritten: VecDeque<Entry>,
    held: VecDeque<Action>,
    inputs: VecDeque<Input>,
    heard: Vec<Vec<StationMessage>>,
    newest: HashMap<String, Credentials>,
    /// When the last copy of a tagged message has left; none while it waits for the port.
    on_the_way: HashMap<(usize, Tag), Option<Duration>>,
    /// The certificate that each serial was offered, until it is renewed or its key is lost.
    offered: BTreeMap<String, String>,
    /// Who has ever passed.
    passed: BTreeSet<String>,
    /// Who has passed with its newest certificate.
    confirmed: BTreeSet<String>,
    /// What orders were answered, by their ticket.
    answers_to_orders: BTreeMap<u64, Result<(), Refusal>>,
    tickets: u64,
    /// Messages in the order in which they went out, with the fixture.
    pub(super) spoken: Vec<(usize, String)>,
}

impl Harness {
    pub(super) fn new(setup: Setup) -> Self {
        let now =
            Now { wall: Timestamp::from_second(1_790_000_000).unwrap(), mono: Duration::from_secs(100) };
        let shelf = MemoryShelf::default();
        let (line, actions) = Line::start(setup.settings(), shelf.recovered(), now);
        let heard = setup.fixtures.iter().map(|_| Vec::new()).collect();
        let mut it = Self {
            setup,
            line,
            now,
            shelf,
            account: Account { now: now.wall, ..Account::default() },
            syncs: true,
            answers: true,
            issues: true,
            destroys: true,
            leaves_in: Some(Duration::ZERO),
            calls: Vec::new(),
            surveys: Vec::new(),
            to_request: Vec::new(),
            to_issue: Vec::new(),
            keys: HashSet::new(),
            keys_were_lost: false,
            to_destroy: Vec::new(),
            issued: Vec::new(),
            unwritten: VecDeque::new(),
            held: VecDeque::new(),
            inputs: VecDeque::new(),
            heard,
            newest: HashMap::new(),
            on_the_way: HashMap::new(),
            offered: BTreeMap::new(),
            passed: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            answers_to_orders: BTreeMap::new(),
            tickets: 0,
            spoken: Vec::new(),
        };
        it.take(actions);
        it.settle();
        it
    }

    /// A station whose first fixture is open and has said hello with `boot` 1; nothing is heard yet.
    pub(super) fn ready() -> Self {
        Self::ready_with(Setup::default())
    }

    pub(super) fn ready_with(setup: Setup) -> Self {
        let mut it = Self::new(setup);
        it.connect(0, 1);
        it.hear(0);
        it
    }

    /// Opens a port and lets its fixture say hello.
    pub(super) fn connect(&mut self, fixture: usize, boot: u64) {
        self.input(Input::PortOpened(fixture));
        self.hello(fixture, boot);
    }

    pub(super) fn hello(&mut self, fixture: usize, boot: u64) {
        let name = self.setup.fixtures[fixture].clone();
        let hello = FixtureMessage::Hello { protocol: 1, fixture: name, boot, firmware: None };
        self.input(Input::Message(fixture, hello));
    }

    /// A fixture presents a unit; what it hears.
    pub(super) fn unit(&mut self, fixture: usize, unit: Unit) -> Vec<String> {
        self.input(Input::Message(fixture, FixtureMessage::Unit(unit)));
        self.hear(fixture)
    }

    /// A fixture confirms the newest credentials of `serial`; what it hears.
    pub(super) fn written(&mut self, fixture: usize, id: u64, serial: &str) -> Vec<String> {
        let sha256 = self.credentials(serial).certificate_sha256.clone();
        self.written_as(fixture, id, serial, &sha256)
    }

    pub(super) fn written_as(&mut self, fixture: usize, id: u64, serial: &str, sha256: &str) -> Vec<String> {
        let written =
            FixtureMessage::Written { id, serial: serial.to_owned(), certificate_sha256: sha256.to_owned() };
        self.input(Input::Message(fixture, written));
        self.hear(fixture)
    }

    pub(super) fn write_failed(&mut self, fixture: usize, id: u64, serial: &str) -> Vec<String> {
        let reason = "flash is\nfull".to_owned();
        self.input(Input::Message(
            fixture,
            FixtureMessage::WriteFailed { id, serial: serial.to_owned(), reason },
        ));
        self.hear(fixture)
    }

    pub(super) fn removed(&mut self, fixture: usize, id: u64, serial: &str) -> Vec<String> {
        self.input(Input::Message(fixture, FixtureMessage::Removed { id, serial: serial.to_owned() }));
        self.hear(fixture)
    }

    pub(super) fn idle(&mut self, fixture: usize) {
        self.input(Input::Message(fixture, FixtureMessage::Idle));
    }

    /// Presents a unit and confirms its credentials: it has to pass.
    pub(super) fn pass(&mut self, fixture: usize, id: u64, serial: &str) {
        let heard = self.unit(fixture, super::setup::unit(id, serial));
        assert!(heard.contains(&format!("credentials {id} {serial}")), "{heard:?}");
        let heard = self.written(fixture, id, serial);
        assert!(heard.contains(&format!("pass {id} {serial}")), "{heard:?}");
    }

    /// The newest credentials that a serial was sent.
    pub(super) fn credentials(&self, serial: &str) -> &Credentials {
        &self.newest[serial]
    }

    pub(super) fn was_offered(&self, serial: &str) -> bool {
        self.newest.contains_key(serial)
    }

    /// The device as it is on disk.
    pub(super) fn device(&self, serial: &str) -> &Device {
        &self.shelf.devices[&SerialNumber::parse(serial).unwrap()]
    }

    pub(super) fn state(&self, serial: &str) -> State {
        self.device(serial).state
    }

    /// The names of a device's events, oldest first.
    pub(super) fn history(&self, serial: &str) -> Vec<&'static str> {
        self.shelf.events.iter().filter(|(it, _)| it.as_str() == serial).map(|(_, it)| it.name()).collect()
    }

    /// What a fixture has heard since it was asked last; `pull` and `hello` among it.
    pub(super) fn hear_all(&mut self, fixture: usize) -> Vec<String> {
        std::mem::take(&mut self.heard[fixture]).iter().map(brief).collect()
    }

    /// The same without `pull`.
    pub(super) fn hear(&mut self, fixture: usize) -> Vec<String> {
        self.hear_all(fixture).into_iter().filter(|it| it != "pull").collect()
    }

    /// The sentence of the newest message that has one.
    pub(super) fn sentence(&self, fixture: usize) -> String {
        let sentence = |it: &StationMessage| match it {
            StationMessage::Nak { message, .. } | StationMessage::Fail { message, .. } => {
                Some(message.clone())
            }
            _ => None,
        };
        self.heard[fixture].iter().rev().find_map(sentence).unwrap_or_default()
    }

    pub(super) fn say(&mut self, fixture: usize, message: FixtureMessage) {
        self.input(Input::Message(fixture, message));
    }

    /// Gives the line an input and lets everything settle that settles by itself.
    pub(super) fn input(&mut self, input: Input) {
        if let Input::PortOpened(fixture) | Input::PortLost(fixture) = input {
            // What was meant for an earlier opening is stale.
            self.on_the_way.retain(|(it, _), _| *it != fixture);
            self.held.retain(|it| !matches!(it, Action::Send { fixture: at, .. } | Action::Offer { fixture: at, .. } if *at == fixture));
        }
        self.feed(input);
        self.settle();
    }

    /// Lets time pass; whatever is due on the way happens at its time.
    pub(super) fn wait(&mut self, by: Duration) {
        let end = self.now.mono + by;
        for _ in 0..100_000 {
            match self.line.next_due() {
                Some(due) if due <= end => {
                    self.now = self.now.later(due.saturating_sub(self.now.mono));
                    self.input(Input::Tick);
                }
                _ => {
                    self.now = self.now.later(end.saturating_sub(self.now.mono));
                    self.input(Input::Tick);
                    return;
                }
            }
        }
        panic!("the line is never at rest");
    }

    pub(super) fn seconds(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    /// Puts the oldest `count` records on disk.
    pub(super) fn sync(&mut self, count: usize) {
        self.write(count);
        self.settle();
    }

    /// A person gives an order; the answer, if it has come.
    pub(super) fn ordered(&mut self, order: Order, serial: &str) -> Option<Result<(), Refusal>> {
        self.tickets += 1;
        let (ticket, serial) = (self.tickets, SerialNumber::parse(serial).unwrap());
        self.input(Input::Order { order, serial, by: operator("broken"), ticket });
        self.answers_to_orders.remove(&ticket)
    }

    /// A person gives an order, which is answered at once.
    pub(super) fn order(&mut self, order: Order, serial: &str) -> Result<(), Refusal> {
        self.ordered(order, serial).expect("the order is answered")
    }

    /// A person says to go on by the clock.
    pub(super) fn override_clock(&mut self) -> Result<(), Refusal> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(Input::OverrideClock { by: operator("it is right"), ticket });
        self.answers_to_orders.remove(&ticket).unwrap_or(Ok(()))
    }

    /// The clock is looked at, and this is said of it.
    pub(super) fn clock(&mut self, sync: ClockSync) {
        self.input(Input::Clock(sync));
    }

    /// Somebody sets the wall clock.
    pub(super) fn set_clock(&mut self, by: jiff::SignedDuration) {
        self.now.wall = self.now.wall.checked_add(by).unwrap();
    }

    /// Answers the call that `step` of `serial` has out.
    pub(super) fn answer(&mut self, serial: &str, step: Step, result: Result<Answer, CloudError>) {
        let at = self.calls.iter().position(|it| it.serial.as_str() == serial && it.step == step);
        let Pending { serial, step, generation, .. } = self.calls.remove(at.expect("no such call is out"));
        self.input(Input::Called { serial, step, generation, result });
    }

    /// Lets AWS answer what is out, in order, until nothing is.
    pub(super) fn answer_all(&mut self) {
        while !self.calls.is_empty() {
            let Pending { serial, step, generation, call } = self.calls.remove(0);
            let result = self.reply(&call);
            self.input(Input::Called { serial, step, generation, result });
        }
        while !self.surveys.is_empty() {
            let (number, call) = self.surveys.remove(0);
            let result = self.reply(&call);
            self.input(Input::Surveyed { number, result });
            if !self.calls.is_empty() {
                self.answer_all();
            }
        }
    }

    /// What AWS says now.
    pub(super) fn reply(&mut self, call: &Call) -> Result<Answer, CloudError> {
        self.account.now = self.now.wall;
        self.account.answer(call)
    }

    /// The process dies: `kept` of the records that are not on disk have got there, the rest is gone.
    pub(super) fn crash(&mut self, kept: usize) {
        self.write(kept);
        self.inputs.clear();
        self.unwritten.clear();
        self.held.clear();
        self.calls.clear();
        self.surveys.clear();
        self.to_request.clear();
        self.to_issue.clear();
        self.to_destroy.clear();
        self.on_the_way.clear();
        let known: HashSet<_> = self.shelf.devices.values().flat_map(certificates).collect();
        self.keys.retain(|it| known.contains(it));
        let (line, actions) = Line::start(self.setup.settings(), self.shelf.recovered(), self.now);
        self.line = line;
        self.take(actions);
        self.settle();
    }

    /// A crash with everything on disk, after which the first fixture is there again with the same boot.
    pub(super) fn restart(&mut self) {
        self.crash(usize::MAX);
        self.connect(0, 1);
    }

    fn feed(&mut self, input: Input) {
        let actions = self.line.handle(self.now, input, &self.shelf).unwrap();
        self.take(actions);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(entry) => {
                    if let What::Device(event) = &entry.record.what
                        && let Some((presentation, Some(_))) = event.presentation()
                    {
                        // What still waits for it is none of the next presentation's copies.
                        let at = self.setup.fixtures.iter().position(|it| *it == presentation.fixture);
                        let tag = Tag::Credentials(presentation.id);
                        at.and_then(|fixture| self.on_the_way.remove(&(fixture, tag)));
                    }
                    self.unwritten.push_back(*entry);
                }
                action => {
                    if let Some(tag) = tag(&action) {
                        let on_the_way = self.on_the_way.insert(tag, None);
                        let queued = on_the_way.is_some_and(|left| left.is_none_or(|it| it > self.now.mono));
                        assert!(!queued || self.replaces_lost(&action), "a second copy is queued: {tag:?}");
                    }
                    self.held.push_back(action);
                }
            }
        }
    }

    /// Whether the copy that waits is of another certificate: its key is lost, so that it will not be sent.
    fn replaces_lost(&self, action: &Action) -> bool {
        let offer = |it: &Action| match it {
            Action::Offer { credentials, .. } => {
                Some((credentials.id, credentials.certificate_sha256.clone()))
            }
            _ => None,
        };
        let Some((id, sha256)) = offer(action) else { return false };
        self.held.iter().filter_map(offer).any(|(it, other)| it == id && other != sha256)
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.syncs && !self.unwritten.is_empty() {
                self.write(usize::MAX);
            }
            self.release();
            let Some(input) = self.inputs.pop_front() else { return };
            self.feed(input);
        }
        panic!("the line never comes to rest");
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count.min(self.unwritten.len()) {
            let entry = self.unwritten.pop_front().unwrap();
            if let (What::Device(event), Some(serial)) = (&entry.record.what, &entry.record.serial) {
                match event {
                    Event::Passed { .. } => {
                        self.passed.insert(serial.to_string());
                        self.confirmed.insert(serial.to_string());
                    }
                    Event::Renewed(_)
                    | Event::KeyLost { .. }
                    | Event::KeyExpired { .. }
                    | Event::Scrapping { .. } => {
                        self.offered.remove(serial.as_str());
                    }
                    Event::Issued { certificate } => {
                        self.confirmed.remove(serial.as_str());
                        if certificate.public_key.is_some() {
                            self.issued.push((serial.to_string(), certificate.fingerprint));
                        }
                    }
                    _ => {}
                }
            }
            self.shelf.commit(entry);
        }
        self.inputs.push_back(Input::Durable(self.shelf.seq));
    }

    fn release(&mut self) {
        let mut at = 0;
        while at < self.held.len() {
            if self.held[at].after() <= self.shelf.seq {
                let action = self.held.remove(at).unwrap();
                self.act(action);
            } else {
                at += 1;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record(_) => unreachable!("records are taken at once"),
            Action::Send { fixture, message, tag, .. } => {
                self.speak(fixture, message);
                self.leaves(fixture, tag);
            }
            Action::Offer { fixture, mut credentials, key, serial, .. } => {
                if let Some(fingerprint) = key {
                    if !self.keys.contains(&fingerprint) {
                        self.on_the_way.remove(&(fixture, Tag::Credentials(credentials.id)));
                        return self.inputs.push_back(Input::KeyLost(serial, fingerprint));
                    }
                    credentials.private_key = Some(zeroize::Zeroizing::new("a private key".to_owned()));
                }
                let id = credentials.id;
                self.speak(fixture, StationMessage::Credentials(*credentials));
                self.leaves(fixture, Some(Tag::Credentials(id)));
            }
            Action::Issue { serial, generation, request, .. } => {
                assert!(
                    self.shelf.devices.contains_key(&serial),
                    "{serial} gets a certificate, but is not on disk"
                );
                self.to_issue.push((serial, generation, request));
                if self.issues {
                    self.issue();
                }
            }
            Action::Call { serial, step, generation, call, .. } => {
                self.check_call(&serial, &call);
                if self.answers {
                    let result = self.reply(&call);
                    self.inputs.push_back(Input::Called { serial, step, generation, result });
                } else {
                    self.calls.push(Pending { serial, step, generation, call });
                }
            }
            Action::Answer { ticket, result, .. } => {
                self.answers_to_orders.insert(ticket, result);
            }
            Action::MakeCsr { serial, generation, common_name, .. } => {
                assert!(self.shelf.devices.contains_key(&serial), "{serial} gets a key, but is not on disk");
                self.to_request.push((serial, generation, common_name));
                if self.issues {
                    self.issue();
                }
            }
            Action::Survey { number, call, .. } => {
                if self.answers {
                    let result = self.reply(&call);
                    self.inputs.push_back(Input::Surveyed { number, result });
                } else {
                    self.surveys.push((number, call));
                }
            }
            Action::DestroyKey { serial, fingerprint, .. } => {
                let device = &self.shelf.devices[&serial];
                assert!(
                    is_old(device, fingerprint) || self.passed.contains(serial.as_str()),
                    "the key of {serial} is destroyed too early"
                );
                self.to_destroy.push((serial, fingerprint));
                if self.destroys {
                    self.destroy();
                }
            }
        }
    }

    /// Destroys what is to be destroyed.
    pub(super) fn destroy(&mut self) {
        for (serial, fingerprint) in std::mem::take(&mut self.to_destroy) {
            self.keys.remove(&fingerprint);
            self.inputs.push_back(Input::KeyDestroyed(serial, fingerprint));
        }
    }

    /// Issues what waits for the CA.
    pub(super) fn issue(&mut self) {
        for (serial, generation, common_name) in std::mem::take(&mut self.to_request) {
            let made = make_request(&common_name).unwrap();
            self.keys.insert(made.public_key);
            let request = CertificateRequest {
                public_key: made.public_key,
                csr: made.csr,
                key: KeyState::Sealed,
                asked: 0,
                open_since: None,
            };
            self.inputs.push_back(Input::CsrMade { serial, generation, result: Ok(request) });
        }
        for (serial, generation, request) in std::mem::take(&mut self.to_issue) {
            let number = self.issued.len();
            let der = format!("certificate {number} of {serial} as {}", request.common_name).into_bytes();
            let fingerprint = Fingerprint::of(&der);
            let key = if request.key == LeafKey::Station { KeyState::Sealed } else { KeyState::Device };
            if key == KeyState::Sealed {
                self.keys.insert(fingerprint);
            }
            self.issued.push((serial.to_string(), fingerprint));
            let certificate = Certificate {
                fingerprint,
                der,
                serial_number: format!("{number:x}"),
                not_after: Timestamp::from_second(2_100_000_000).unwrap(),
                key,
                arn: None,
                public_key: None,
            };
            self.inputs.push_back(Input::Issued { serial, generation, result: Ok(certificate) });
        }
    }

    /// Lets inputs that the test has caused take effect.
    pub(super) fn go_on(&mut self) {
        self.settle();
    }

    fn leaves(&mut self, fixture: usize, tag: Option<Tag>) {
        if let (Some(tag), Some(leaves_in)) = (tag, self.leaves_in) {
            self.on_the_way.insert((fixture, tag), Some(self.now.mono + leaves_in));
            self.inputs.push_back(Input::Sent(fixture, tag, leaves_in));
        }
    }

    /// A tagged message has been handed to the port and will have left it after `leaves_in`.
    pub(super) fn sent(&mut self, fixture: usize, tag: Tag, leaves_in: Duration) {
        self.on_the_way.insert((fixture, tag), Some(self.now.mono + leaves_in));
        self.input(Input::Sent(fixture, tag, leaves_in));
    }

    /// Whatever goes out has to be true on disk.
    fn speak(&mut self, fixture: usize, message: StationMessage) {
        match &message {
            StationMessage::Ack { id } => {
                let known = self.shelf.devices.values().any(|it| it.presentation.key.id == *id);
                let ended = self.shelf.events.iter().any(|(_, it)| {
                    it.presentation()
                        .is_some_and(|(key, _)| key.id == *id && key.fixture == self.setup.fixtures[fixture])
                });
                assert!(known || ended, "ack {id}, but the journal does not know it");
            }
            StationMessage::Pass { serial, .. } => {
                assert!(self.passed.contains(serial), "pass for {serial}, which has not passed");
            }
            StationMessage::Credentials(it) => {
                let device = self.device(&it.serial);
                if device.fingerprint().map(|it| it.to_string()).as_ref() == Some(&it.certificate_sha256) {
                    let before = self.offered.insert(it.serial.clone(), it.certificate_sha256.clone());
                    assert!(
                        before.is_none_or(|before| before == it.certificate_sha256),
                        "{} is offered a second certificate",
                        it.serial
                    );
                    self.newest.insert(it.serial.clone(), it.clone());
                } else {
                    // A copy that has waited for the disk while the device was renewed.
                    let old = |old: &Superseded| old.fingerprint.to_string() == it.certificate_sha256;
                    assert!(device.superseded.iter().any(old), "credentials that are not on disk");
                }
            }
            _ => {}
        }
        self.spoken.push((fixture, brief(&message)));
        self.heard[fixture].push(message);
    }

    /// Whether AWS issues.
    pub(super) fn by_aws(&self) -> bool {
        self.setup.rules.certificate.register == Register::Aws
    }

    /// Whatever AWS is asked for has to be on disk first.
    fn check_call(&self, serial: &SerialNumber, call: &Call) {
        let device = self.shelf.devices.get(serial).expect("AWS is called for a device that is not on disk");
        match call {
            Call::RegisterCertificate { certificate_pem, .. }
            | Call::RegisterCertificateWithoutCa { certificate_pem } => {
                let id = Fingerprint::of(&der_of(certificate_pem));
                assert_eq!(device.fingerprint(), Some(id), "a certificate is registered that is not on disk");
            }
            Call::CreateCertificateFromCsr { csr_pem } => {
                let request = device.request.as_ref().expect("AWS gets a request that is not on disk");
                assert_eq!(request.csr, der_of(csr_pem), "AWS gets another request than is on disk");
                assert!(request.open_since.is_some(), "AWS is asked, but the intent is not on disk");
                if request.key == KeyState::Sealed {
                    assert!(
                        self.keys.contains(&request.public_key) || self.keys_were_lost,
                        "without its key"
                    );
                }
            }
            Call::UpdateCertificate { id, status: CertificateStatus::Active } if self.by_aws() => {
                let recorded = device.fingerprint().is_some_and(|it| it.to_string() == *id);
                assert!(recorded, "a certificate is made active that is not on disk");
            }
            Call::DeleteCertificate { id } => {
                let old = device.superseded.iter().find(|it| it.fingerprint.to_string() == *id);
                let old = old.expect("a certificate is deleted that is not put aside on disk");
                let confirmed = old.goes_at_once() || self.confirmed.contains(serial.as_str());
                assert!(
                    device.is_scrapping() || confirmed && old.public_key.is_some(),
                    "{call:?} for {serial}, which is not given up on disk"
                );
            }
            Call::UpdateCertificate { id, status: CertificateStatus::Inactive }
                if device.superseded.iter().any(|it| it.spare && it.fingerprint.to_string() == *id) => {}
            Call::UpdateCertificate { id, status: CertificateStatus::Inactive } => {
                let old = device.superseded.iter().find(|it| it.fingerprint.to_string() == *id);
                let old = old.expect("a certificate is deactivated that was not replaced");
                assert!(
                    old.expired || device.is_scrapping() || self.confirmed.contains(serial.as_str()),
                    "the old certificate of {serial} is deactivated before the new one is confirmed on disk"
                );
            }
            Call::DetachPolicy { target, .. } | Call::DetachThingPrincipal { principal: target, .. } => {
                let expired =
                    device.superseded.iter().any(|it| it.expired && it.arn.as_ref() == Some(target));
                assert!(expired || device.is_scrapping() || self.confirmed.contains(serial.as_str()));
            }
            Call::DeleteThing { .. } | Call::DeletePolicy { .. } | Call::DeleteCredentialLocker { .. } => {
                assert!(device.is_scrapping(), "{call:?} for {serial}, which is not given up on disk");
            }
            _ => {}
        }
    }
}

fn operator(reason: &str) -> Operator {
    Operator { uid: 1001, name: "ada".to_owned(), reason: reason.to_owned() }
}

/// Whether the device does not need the key of that name any more.
fn is_old(device: &Device, key: Fingerprint) -> bool {
    let present = device.certificate.as_ref().map(Certificate::key_id);
    let asked = device.request.as_ref().map(|it| it.public_key);
    device.superseded.iter().any(|it| it.key_id() == key)
        || device.scrap.is_some()
        // Issued for a device that was put aside meanwhile: no record names it.
        || present != Some(key) && asked != Some(key)
}

fn certificates(device: &Device) -> Vec<Fingerprint> {
    let present = device.certificate.iter().map(Certificate::key_id);
    let requested = device.request.iter().map(|it| it.public_key);
    present.chain(requested).chain(device.superseded.iter().map(Superseded::key_id)).collect()
}

fn tag(action: &Action) -> Option<(usize, Tag)> {
    match action {
        Action::Send { fixture, tag, .. } => tag.map(|tag| (*fixture, tag)),
        Action::Offer { fixture, credentials, .. } => Some((*fixture, Tag::Credentials(credentials.id))),
        _ => None,
    }
}

/// A message in a line; its sentence is checked on the way.
fn brief(message: &StationMessage) -> String {
    let check = |text: &str| {
        assert!((1..=120).contains(&text.chars().count()), "{text}");
        assert!(!text.contains(char::is_control), "{text}");
    };
    match message {
        StationMessage::Hello { protocol, station } => {
            assert_eq!((*protocol, station.as_str()), (1, super::setup::STATION));
            "hello".to_owned()
        }
        StationMessage::Pull => "pull".to_owned(),
        StationMessage::Ack { id } => format!("ack {id}"),
        StationMessage::Nak { id, code, message } => {
            check(message);
            id.map_or_else(|| format!("nak {code}"), |id| format!("nak {code} {id}"))
        }
        StationMessage::Credentials(it) => format!("credentials {} {}", it.id, it.serial),
        StationMessage::Pass { id, serial, again } => {
            format!("pass {id} {serial}{}", if *again { " again" } else { "" })
        }
        StationMessage::Fail { id, serial, code, message, retry } => {
            check(message);
            // The protocol's own list.
            let lost =
                ["rejected", "conflict", "mismatch", "quarantined", "superseded"].contains(&code.as_str());
            assert_eq!(*retry, !lost, "{code}");
            assert!(FailCode::ALL.contains(code));
            format!("fail {code} {id} {serial}")
        }
    }
}
