//! The line: everything the station decides, in one place and in one thread.
//!
//! Inputs go in (a frame, an answer from AWS, the clock), a list of [`Action`]s comes out. Nothing
//! here waits, reads a clock, or touches a port, a disk or a network: `station` does what the
//! actions say, and a simulation can do the same.
//!
//! Every [`Action`] that says or risks something carries `after`, the sequence number that must be
//! on disk before it is carried out. That is how "durable before it is promised" is kept without
//! this module ever waiting: `ack` carries the number of `admitted`, `pass` that of `passed`, the
//! call that registers a certificate that of `issued`, the one that has AWS issue a certificate
//! that of `certificate-asked`.

mod answers;
mod batches;
mod breaker;
mod clock;
mod clones;
mod deliver;
mod directory;
mod doubt;
mod expiry;
mod from_csr;
mod health;
mod held;
mod hindrance;
mod issuing;
mod keys;
mod labels;
mod ledger;
mod link;
mod lockers;
mod mend;
mod operator;
mod principals;
mod proof;
mod refused;
mod reload;
mod restart;
mod running;
mod shared;
mod starts;
mod status;
mod survey;
mod throttle;
mod timers;
mod told;
mod unit;
mod waits;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::batch;
use crate::clock::{ClockSync, Now};
use crate::cloud::{Answer, Call, Class, CloudError, Operation, Service, Urgency};
use crate::device::mend::MendOrder;
use crate::device::operator::{Operator, Order, Refusal, StationOrder};
use crate::device::request::CertificateRequest;
use crate::device::retry::RetryBudget;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::{MAX_SERIAL_LEN, SerialNumber, SerialPattern};
use crate::device::steps::Step;
use crate::device::{Certificate, State};
use crate::fixture::frame::BadReason;
use crate::fixture::text::Messages;
use crate::fixture::{Credentials, FixtureMessage, StationMessage};
use crate::journal::{Entry, JournalError, Recovered, Shelf, StationEvent};
use crate::pki::{Fingerprint, LeafRequest};

use self::clock::ClockGate;
use self::link::Link;
use self::timers::{Due, Timer};
use self::work::Work;

pub use self::batches::BatchStatus;
pub use self::directory::{Deliver, Delivery};
pub use self::held::Held;
pub use self::labels::Labelling;
pub use self::proof::{Trial, Unproved};
pub use self::refused::RefusedUnit;
pub use self::reload::News;
pub use self::status::{LineStatus, LinkStatus, NestStatus};

/// What the line is told at its start.
#[derive(Debug)]
pub struct Settings {
    /// The station's id.
    pub station: String,
    /// The fixtures; their index is their number in inputs and actions.
    pub fixtures: Vec<FixtureSettings>,
    /// The products by name.
    pub products: BTreeMap<String, Product>,
    /// SHA-256 of the CA's certificate, if the station has a CA.
    pub ca: Option<Fingerprint>,
    /// The CA certificate in PEM.
    pub ca_pem: String,
    /// What follows the leaf in the chain handed to a device, PEM.
    pub chain_pem: String,
    /// The CA that issued before, if there is one: devices in flight keep what it has issued.
    pub previous_ca: Option<KnownCa>,
    /// Hash of the configuration, for the record.
    pub config_hash: String,
    /// How long a private key that no device has fetched is kept.
    pub keep_undelivered: Duration,
    /// Unfinished devices that are taken in at most; then units are answered `busy`.
    pub backlog: usize,
    /// Devices of the backlog that are begun and not finished, at most; at least one.
    pub in_progress: usize,
    /// What operators read.
    pub messages: Arc<Messages>,
    /// When this version was made: a clock before it is wrong.
    pub built_at: jiff::Timestamp,
    /// Seed of the jitter.
    pub seed: u64,
}

/// A CA that issues no more, as far as what it has issued goes on.
#[derive(Debug, Clone)]
pub struct KnownCa {
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// Its certificate in PEM.
    pub ca_pem: String,
    /// What follows its leaves in a chain, PEM.
    pub chain_pem: String,
}

/// A fixture as configured.
#[derive(Debug, Clone)]
pub struct FixtureSettings {
    /// Its name.
    pub name: String,
    /// The product it presents, unless an open batch says another.
    pub product: String,
    /// How often what waits for an answer is repeated.
    pub resend: Duration,
    /// How long credentials are offered.
    pub answer_within: Duration,
    /// How long a unit waits for the cloud.
    pub patience: Duration,
}

/// A product as configured.
#[derive(Debug, Clone)]
pub struct Product {
    /// Its rules.
    pub rules: Arc<ProductRules>,
    /// What its serial numbers look like.
    pub serial: SerialPattern,
    /// Where its devices' credentials go.
    pub deliver: Deliver,
    /// The directory that its devices' labels go into, if they get any.
    pub labels: Option<PathBuf>,
}

/// Something the line has to know.
#[derive(Debug)]
pub enum Input {
    /// A fixture's port is open.
    PortOpened(usize),
    /// A fixture's port is gone.
    PortLost(usize),
    /// A fixture's port cannot be opened now, and why, in one sentence.
    PortRefused(usize, String),
    /// A fixture said something.
    Message(usize, FixtureMessage),
    /// A line came that is no frame, and why; its id, if the checksum was right.
    BadFrame(usize, Option<u64>, BadReason),
    /// A message with this tag will have left the port after the given time.
    Sent(usize, Tag, Duration),
    /// A certificate was issued (its key is sealed on disk), or could not be.
    Issued {
        /// For whom.
        serial: SerialNumber,
        /// For which generation.
        generation: u32,
        /// The certificate, or what went wrong in one sentence.
        result: Result<Certificate, String>,
    },
    /// A key pair was made and sealed on disk, with the request for its certificate; or could not be.
    CsrMade {
        /// For whom.
        serial: SerialNumber,
        /// For which generation.
        generation: u32,
        /// The request, or what went wrong in one sentence.
        result: Result<CertificateRequest, String>,
    },
    /// AWS has answered to a look at the whole account.
    Surveyed {
        /// Which look.
        number: u64,
        /// The answer.
        result: Result<Answer, CloudError>,
    },
    /// AWS has answered.
    Called {
        /// For whom.
        serial: SerialNumber,
        /// For which step.
        step: Step,
        /// For which generation.
        generation: u32,
        /// The answer.
        result: Result<Answer, CloudError>,
        /// How long the call waited for its turn.
        waited: Duration,
    },
    /// A private key is destroyed; the name that it was sealed under.
    KeyDestroyed(SerialNumber, Fingerprint),
    /// A private key could not be destroyed; the name that it is sealed under.
    KeyKept(SerialNumber, Fingerprint),
    /// A private key that was to be delivered is not there or cannot be opened.
    KeyLost(SerialNumber, Fingerprint),
    /// Credentials are in their directory, on disk, or could not be put there.
    Delivered {
        /// Whose.
        serial: SerialNumber,
        /// Which certificate.
        fingerprint: Fingerprint,
        /// Done, or what went wrong in one sentence.
        result: Result<(), String>,
    },
    /// A label is in its directory, on disk, or could not be put there.
    Labelled {
        /// Whose.
        serial: SerialNumber,
        /// Its number.
        number: u32,
        /// Done, or what went wrong in one sentence.
        result: Result<(), String>,
    },
    /// Why no new device may be admitted now, in a sentence for the operator; none if one may.
    Gate(Option<String>),
    /// The limits of AWS that calls wait for now although the configuration allows more; to be told before each
    /// [`Gate`](Self::Gate) at which there are any.
    HeldBack(Vec<crate::cloud::HeldBack>),
    /// What is said of the wall clock. To be told again some times a second: the clock itself is
    /// looked at then.
    Clock(ClockSync),
    /// A person's order about a device, answered with [`Action::Answer`].
    Order {
        /// What.
        order: Order,
        /// With which device.
        serial: SerialNumber,
        /// Who, and why.
        by: Operator,
        /// What the answer is to carry.
        ticket: u64,
    },
    /// What a reconciliation has to be put right, answered with [`Action::Answer`].
    Mend {
        /// Whose.
        serial: SerialNumber,
        /// What.
        order: MendOrder,
        /// Who, and why.
        by: Operator,
        /// What the answer is to carry.
        ticket: u64,
    },
    /// A person says to go on by a clock that is doubted, answered with [`Action::Answer`].
    OverrideClock {
        /// Who, and why.
        by: Operator,
        /// What the answer is to carry.
        ticket: u64,
    },
    /// Another configuration takes effect, answered with [`Action::Answer`].
    Reconfigure {
        /// What it changes.
        news: Box<News>,
        /// What the answer is to carry.
        ticket: u64,
    },
    /// A person's order about the station as a whole, answered with [`Action::Answer`].
    Station {
        /// What.
        order: StationOrder,
        /// Who, and why.
        by: Operator,
        /// What the answer is to carry.
        ticket: u64,
    },
    /// A person's order about batches, answered with [`Action::Answer`].
    Batch {
        /// What.
        order: batch::Order,
        /// Who, and why.
        by: Operator,
        /// What the answer is to carry.
        ticket: u64,
    },
    /// A [`Action::Connect`] was let in, or not.
    Connected {
        /// The device.
        serial: SerialNumber,
        /// Its certificate.
        fingerprint: Fingerprint,
        /// What came of it.
        result: Result<(), Unproved>,
    },
    /// Everything up to this sequence number is on disk.
    Durable(u64),
    /// Take no new units: the process is about to end.
    Drain,
    /// Nothing but that time has passed.
    Tick,
}

/// Which repeated message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// `hello`.
    Hello,
    /// `pull`.
    Pull,
    /// `credentials` of that presentation.
    Credentials(u64),
}

/// Something the line wants done. In order; each not before `after` is on disk.
#[derive(Debug)]
pub enum Action {
    /// Append to the journal.
    Record(Box<Entry>),
    /// Say something to a fixture; if it has a tag, answer [`Input::Sent`].
    Send {
        /// To which.
        fixture: usize,
        /// What.
        message: StationMessage,
        /// What to report.
        tag: Option<Tag>,
        /// What must be on disk first.
        after: u64,
    },
    /// Hand over credentials, with the private key that is sealed for the certificate, if any.
    Offer {
        /// To which fixture.
        fixture: usize,
        /// All but the private key.
        credentials: Box<Credentials>,
        /// The name under which the key that is to be put in is sealed.
        key: Option<Fingerprint>,
        /// The device, as it is known here.
        serial: SerialNumber,
        /// What must be on disk first.
        after: u64,
    },
    /// Put credentials into a directory, with the private key that is sealed for the certificate, if any;
    /// answer [`Input::Delivered`], or [`Input::KeyLost`].
    Deliver(Box<Delivery>),
    /// Put a label into its directory; answer [`Input::Labelled`].
    Label(Box<Labelling>),
    /// Connect as a device, with the private key that is sealed for it; answer [`Input::Connected`], or
    /// [`Input::KeyLost`].
    Connect(Box<Trial>),
    /// Issue a certificate, seal its key, answer [`Input::Issued`].
    Issue {
        /// For whom.
        serial: SerialNumber,
        /// For which generation.
        generation: u32,
        /// What.
        request: LeafRequest,
        /// What must be on disk first.
        after: u64,
    },
    /// Make a key pair and a request for its certificate, seal the key under its public key's name,
    /// answer [`Input::CsrMade`].
    MakeCsr {
        /// For whom.
        serial: SerialNumber,
        /// For which generation.
        generation: u32,
        /// The request's subject.
        common_name: String,
        /// What must be on disk first.
        after: u64,
    },
    /// Look at what the account holds, answer [`Input::Surveyed`].
    Survey {
        /// Which look.
        number: u64,
        /// How urgent it is.
        class: Class,
        /// The request: a read.
        call: Call,
        /// What must be on disk first.
        after: u64,
    },
    /// Call AWS, answer [`Input::Called`].
    Call {
        /// For whom.
        serial: SerialNumber,
        /// For which step.
        step: Step,
        /// For which generation.
        generation: u32,
        /// How urgent it is.
        urgency: Urgency,
        /// The request.
        call: Call,
        /// What must be on disk first.
        after: u64,
    },
    /// Destroy a private key, answer [`Input::KeyDestroyed`] or [`Input::KeyKept`].
    DestroyKey {
        /// Whose.
        serial: SerialNumber,
        /// The name under which it is sealed.
        fingerprint: Fingerprint,
        /// What must be on disk first.
        after: u64,
    },
    /// Answer a person's order.
    Answer {
        /// Which.
        ticket: u64,
        /// Done, or why not.
        result: Result<(), Refusal>,
        /// What must be on disk first.
        after: u64,
    },
}

impl Action {
    /// What must be on disk before it is carried out.
    #[must_use]
    pub fn after(&self) -> u64 {
        match self {
            Self::Record(_) => 0,
            Self::Deliver(it) => it.after,
            Self::Label(it) => it.after,
            Self::Connect(it) => it.after,
            Self::Send { after, .. }
            | Self::Offer { after, .. }
            | Self::Issue { after, .. }
            | Self::MakeCsr { after, .. }
            | Self::Survey { after, .. }
            | Self::Call { after, .. }
            | Self::DestroyKey { after, .. }
            | Self::Answer { after, .. } => *after,
        }
    }
}

/// The line. See the module's documentation.
#[derive(Debug)]
pub struct Line {
    settings: Settings,
    rules: HashMap<RulesId, Arc<ProductRules>>,
    links: Vec<Link>,
    /// The last reset of every fixture that was there at the start.
    boots: BTreeMap<String, u64>,
    works: HashMap<SerialNumber, Work>,
    /// What devices share and is there, or is being made, with the devices that wait for it.
    shares: shared::Shares,
    /// Looks at the whole account.
    surveys: survey::Surveys,
    /// Deliveries into directories that are not done.
    deliveries: directory::Deliveries,
    /// Labels that are not written.
    labels: directory::Deliveries,
    /// Finished devices that may be forgotten once their last event is on disk.
    leaving: VecDeque<(u64, SerialNumber)>,
    counts: BTreeMap<State, u64>,
    /// What holds calls back that cannot go through.
    breakers: breaker::Breakers,
    /// Devices of the backlog that are begun, and those that wait for their beginning.
    starts: starts::Starts,
    /// The steps whose calls are held back, by the call's operation in the order in which they came.
    parked: BTreeMap<Operation, VecDeque<(SerialNumber, Step, u32)>>,
    /// When a timer for the next probe is due.
    probe_due: Option<Duration>,
    /// How many retries each service is still good for.
    budgets: BTreeMap<Service, RetryBudget>,
    /// The newest trouble that is not over, by operation: how often in a row, and what.
    troubles: BTreeMap<Operation, (u32, String)>,
    /// Which batches are open.
    batches: batches::Batches,
    gate: Option<String>,
    /// Why the CA has issued nothing when it was asked last.
    issuer_trouble: Option<String>,
    clock: ClockGate,
    hindrances: hindrance::Hindrances,
    /// What AWS was called for.
    calls: waits::Calls,
    /// When keys that were kept for too long are looked for next, monotonic.
    look_for_keys_at: Duration,
    draining: bool,
    seq: u64,
    durable: u64,
    epoch: u64,
    now: Now,
    random: fastrand::Rng,
    timers: BTreeMap<Due, Timer>,
    out: Vec<Action>,
}

impl Line {
    /// The line as a restart finds it, with what it wants done at once.
    #[must_use]
    pub fn start(settings: Settings, mut recovered: Recovered, now: Now) -> (Self, Vec<Action>) {
        let links = settings
            .fixtures
            .iter()
            .map(|it| Link::new(it.clone(), recovered.boots.get(&it.name).copied()))
            .collect();
        let seed = settings.seed;
        let shares = shared::recovered(&mut recovered);
        let mut line = Self {
            links,
            boots: recovered.boots,
            rules: recovered.rules.into_iter().map(|(id, it)| (id, Arc::new(it))).collect(),
            works: HashMap::new(),
            shares,
            surveys: survey::Surveys::default(),
            deliveries: directory::Deliveries::default(),
            labels: directory::Deliveries::default(),
            leaving: VecDeque::new(),
            counts: recovered.counts,
            breakers: breaker::Breakers::default(),
            starts: starts::Starts::default(),
            parked: BTreeMap::new(),
            probe_due: None,
            budgets: BTreeMap::new(),
            troubles: BTreeMap::new(),
            batches: batches::Batches::recovered(recovered.batches),
            gate: None,
            issuer_trouble: None,
            clock: ClockGate::new(settings.built_at, recovered.at, now),
            hindrances: hindrance::Hindrances::default(),
            calls: waits::Calls::since(recovered.seq),
            look_for_keys_at: Duration::ZERO,
            draining: false,
            seq: recovered.seq,
            durable: recovered.seq,
            epoch: 0,
            now,
            random: fastrand::Rng::with_seed(seed),
            timers: BTreeMap::new(),
            out: Vec::new(),
            settings,
        };
        line.station_event(StationEvent::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: line.settings.config_hash.clone(),
        });
        line.look_at_clock();
        line.adopt_rules();
        line.drop_lists(recovered.lists);
        line.recover(recovered.pending);
        line.start_more();
        let actions = std::mem::take(&mut line.out);
        (line, actions)
    }

    /// Takes one input; says what is to be done.
    ///
    /// # Errors
    /// The journal cannot be read: nothing more may be decided.
    pub fn handle(&mut self, now: Now, input: Input, shelf: &dyn Shelf) -> Result<Vec<Action>, JournalError> {
        self.now = now;
        if input.fixture().is_some_and(|it| self.is_gone(it)) {
            return Ok(Vec::new());
        }
        match input {
            Input::PortOpened(fixture) => self.port_opened(fixture),
            Input::PortLost(fixture) => self.port_lost(fixture),
            Input::PortRefused(fixture, why) => self.links[fixture].refusal = Some(why),
            Input::Message(fixture, message) => self.message(fixture, message, shelf)?,
            Input::BadFrame(fixture, id, reason) => self.bad_frame(fixture, id, &reason),
            Input::Sent(fixture, tag, leaves_in) => self.sent(fixture, tag, leaves_in),
            Input::Issued { serial, generation, result } => self.issued(&serial, generation, result),
            Input::CsrMade { serial, generation, result } => self.csr_made(&serial, generation, result),
            Input::Surveyed { number, result } => self.surveyed(number, &result),
            Input::Called { serial, step, generation, result, waited } => {
                self.called(&serial, step, generation, (&result, waited))
            }
            Input::KeyDestroyed(serial, fingerprint) => self.key_destroyed(&serial, fingerprint, shelf)?,
            Input::KeyKept(serial, fingerprint) => self.key_kept(&serial, fingerprint),
            Input::KeyLost(serial, fingerprint) => {
                self.deliveries.forget(&serial);
                self.key_lost(&serial, fingerprint);
            }
            Input::Delivered { serial, fingerprint, result } => self.delivered(&serial, fingerprint, result),
            Input::Labelled { serial, number, result } => self.labelled(&serial, number, result),
            Input::HeldBack(limits) => self.note_held_back(limits),
            Input::Gate(reason) => {
                self.gate = reason;
                self.calls.throttles.note(&[], self.now);
                self.note_hindrances();
                self.note_calls();
            }
            Input::Clock(sync) => {
                self.clock_told(sync);
                self.expire_keys();
            }
            Input::Order { order, serial, by, ticket } => {
                let result = self.order(order, &serial, by, shelf)?;
                self.answer_order(ticket, result);
            }
            Input::Mend { serial, order, by, ticket } => {
                let result = self.mend(&serial, order, by, shelf)?;
                self.answer_order(ticket, result);
            }
            Input::OverrideClock { by, ticket } => {
                let result = self.override_clock(by);
                self.answer_order(ticket, result);
            }
            Input::Reconfigure { news, ticket } => {
                self.reconfigure(*news);
                self.answer_order(ticket, Ok(()));
            }
            Input::Station { order, by, ticket } => {
                self.order_station(order, by);
                self.answer_order(ticket, Ok(()));
            }
            Input::Batch { order, by, ticket } => {
                let result = self.order_batch(order, by, shelf)?;
                self.answer_order(ticket, result);
            }
            Input::Connected { serial, fingerprint, result } => self.connected(&serial, fingerprint, result),
            Input::Durable(seq) => self.note_on_disk(seq),
            Input::Drain => self.draining = true,
            Input::Tick => {}
        }
        self.fire_timers();
        self.start_more();
        self.forget_finished();
        self.pull_all();
        Ok(std::mem::take(&mut self.out))
    }

    /// When time alone makes something due, on the monotonic clock.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Whether no unit in any nest waits for an answer, and no key is being destroyed. One that cannot be
    /// destroyed now is tried again later, and by the next start.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.links.iter().all(|link| link.open.is_empty()) && self.works.values().all(Work::is_settled)
    }

    fn message(
        &mut self,
        fixture: usize,
        message: FixtureMessage,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        match message {
            FixtureMessage::Hello { protocol, fixture: name, boot, firmware } => {
                self.hello(fixture, protocol, &name, boot, firmware);
                Ok(())
            }
            FixtureMessage::Unit(unit) => self.unit_presented(fixture, unit, shelf),
            FixtureMessage::Idle => {
                self.idle(fixture);
                Ok(())
            }
            // Its answer names the serial again: one this long is nobody's, and would not fit a frame.
            FixtureMessage::Written { id, serial, .. }
            | FixtureMessage::WriteFailed { id, serial, .. }
            | FixtureMessage::Removed { id, serial }
                if serial.len() > MAX_SERIAL_LEN =>
            {
                self.bad_frame(fixture, Some(id), &BadReason::Member("serial"));
                Ok(())
            }
            FixtureMessage::Written { id, serial, certificate_sha256 } => {
                self.written(fixture, id, &serial, &certificate_sha256, shelf)
            }
            FixtureMessage::WriteFailed { id, serial, reason } => {
                self.write_failed(fixture, id, &serial, &reason, shelf)
            }
            FixtureMessage::Removed { id, serial } => self.removed(fixture, id, &serial, shelf),
        }
    }

    /// A number that no earlier timer or message carries.
    fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }
}
