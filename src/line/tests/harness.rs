//! Everything around the line: disk, CA, AWS, cable and clock, each by itself or as the test says.

mod behind;
mod checks;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use self::checks::{brief, certificates};
use super::account::Account;
use super::setup::Setup;
use super::shelf::MemoryShelf;
use crate::batch;
use crate::clock::{ClockSync, Now};
use crate::cloud::{Answer, Call, Class, CloudError, Urgency};
use crate::device::operator::{Operator, Order, Refusal, StationOrder};
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::device::{Device, State};
use crate::fixture::{Credentials, FixtureMessage, StationMessage, Unit};
use crate::journal::Entry;
use crate::line::{Action, Delivery, Input, Line, News, Tag, Trial};
use crate::pki::{Fingerprint, LeafRequest};

/// A call that AWS has not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) serial: SerialNumber,
    pub(super) step: Step,
    pub(super) generation: u32,
    pub(super) urgency: Urgency,
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
    /// How urgent each was, ever.
    pub(super) survey_classes: Vec<Class>,
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
    /// What goes into directories gets there at once.
    pub(super) delivers: bool,
    /// What has yet to get there.
    pub(super) to_deliver: Vec<Delivery>,
    /// What lies in directories: serial number and certificate, in the order in which they came.
    pub(super) directory: Vec<(String, Fingerprint)>,
    /// Labels get into their directory, or why not.
    pub(super) labels: Result<(), String>,
    /// Labels written, in order: serial number and number.
    pub(super) labelled: Vec<(String, u32)>,
    /// Connections to be tried.
    pub(super) trials: Vec<Trial>,
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
            survey_classes: Vec::new(),
            to_request: Vec::new(),
            to_issue: Vec::new(),
            keys: HashSet::new(),
            keys_were_lost: false,
            to_destroy: Vec::new(),
            delivers: true,
            to_deliver: Vec::new(),
            directory: Vec::new(),
            labels: Ok(()),
            labelled: Vec::new(),
            trials: Vec::new(),
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

    /// A person gives an order about a batch; the answer, if it has come.
    pub(super) fn batch(&mut self, order: batch::Order) -> Option<Result<(), Refusal>> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(Input::Batch { order, by: operator("as planned"), ticket });
        self.answers_to_orders.remove(&ticket)
    }

    /// Another configuration takes effect, which is answered when it is on disk.
    pub(super) fn reload(&mut self, setup: &Setup) -> Option<Result<(), Refusal>> {
        let settings = setup.settings();
        for name in &mut self.setup.fixtures {
            if !setup.fixtures.contains(name) {
                // Numbers stay what they were.
                name.clear();
            }
        }
        for name in &setup.fixtures {
            if !self.setup.fixtures.contains(name) {
                self.setup.fixtures.push(name.clone());
                self.heard.push(Vec::new());
            }
        }
        let news = News {
            fixtures: settings.fixtures,
            products: settings.products,
            config_hash: "1".to_owned(),
            keep_undelivered: settings.keep_undelivered,
            backlog: settings.backlog,
            in_progress: settings.in_progress,
            changed: vec!["something".to_owned()],
        };
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(Input::Reconfigure { news: Box::new(news), ticket });
        self.answers_to_orders.remove(&ticket)
    }

    /// A person gives an order about the station, which is answered when it is on disk.
    pub(super) fn station(&mut self, order: StationOrder) -> Option<Result<(), Refusal>> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(Input::Station { order, by: operator("lunch"), ticket });
        self.answers_to_orders.remove(&ticket)
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
        self.input(Input::Called { serial, step, generation, result, waited: Duration::ZERO });
    }

    /// Lets AWS answer what is out, in order, until nothing is.
    pub(super) fn answer_all(&mut self) {
        while !self.calls.is_empty() {
            let Pending { serial, step, generation, call, .. } = self.calls.remove(0);
            let result = self.reply(&call);
            self.input(Input::Called { serial, step, generation, result, waited: Duration::ZERO });
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
        self.to_deliver.clear();
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
}

fn operator(reason: &str) -> Operator {
    Operator { uid: 1001, name: "ada".to_owned(), reason: reason.to_owned() }
}
