//! One station and its account, in simulated time: AWS goes away for an hour, the backlog drains, units
//! come to their nests meanwhile.
//!
//! Line and limiter are the real ones; the journal is on disk at once, and AWS answers what succeeds. What
//! is measured is when which call was made, and how long a unit lay in its nest. What must not happen ends a
//! scene ([`Wrong`]).

mod account;
mod shelf;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;

use self::account::{Account, Seen};
use self::shelf::MemoryShelf;
use crate::clock::{Now, TimeSource as _};
use crate::cloud::pace::world::World;
use crate::cloud::pace::{MAX_IN_FLIGHT, Paced, Sleep as _};
use crate::cloud::{Cloud as _, Operation, Quotas};
use crate::device::rules::{
    CertificateRule, KeyOrigin, LockerRule, PolicyRule, ProductRules, Register, Repeat, Template,
};
use crate::device::serial::SerialPattern;
use crate::device::{Certificate, KeyState};
use crate::fixture::{FixtureMessage, StationMessage, Unit};
use crate::line::{Action, Deliver, FixtureSettings, Held, Input, Line, LineStatus, Product, Settings, Tag};
use crate::pki::Fingerprint;
use crate::station::setup::in_progress;

/// How long the CA takes, and a fixture that stores credentials.
const ISSUING: Duration = Duration::from_millis(3);
const WRITING: Duration = Duration::from_millis(25);

/// How long a unit waits in its nest.
const PATIENCE: Duration = Duration::from_secs(60);

/// When it begins, and what its certificates and its software say.
const BEGIN: Timestamp = Timestamp::constant(1_790_000_000, 0);
const BUILT: Timestamp = Timestamp::constant(1_780_000_000, 0);
const NOT_AFTER: Timestamp = Timestamp::constant(2_100_000_000, 0);

/// What must not happen, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(String);

/// As an error of a scene.
fn wrong(it: impl std::fmt::Display) -> Wrong {
    Wrong(it.to_string())
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The account's quotas, for which the station is configured too.
    pub quotas: Quotas,
    /// Round trip of a call.
    pub rtt: Duration,
    /// AWS cannot be reached before this.
    pub away_until: Duration,
    /// Nests of the fixture that makes the backlog: each gets its next unit when the last was sent away, as
    /// long as there is time for it before AWS is there.
    pub nests: u64,
    /// How long a unit of those waits in its nest.
    pub patience: Duration,
    /// Units presented one after the other from when AWS is there, each within a second after the last.
    pub live: u64,
    /// Units that are taken in at most.
    pub backlog: usize,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

impl Scene {
    /// A station without a backlog at AWS's quotas: 300 units one after the other.
    #[must_use]
    pub fn idle(seed: u64) -> Self {
        Self {
            quotas: Quotas::aws_default(),
            rtt: Duration::from_millis(80),
            away_until: Duration::ZERO,
            nests: 0,
            patience: Duration::from_secs(60),
            live: 300,
            backlog: 10_000,
            seed,
        }
    }

    /// The same beside a backlog of 2,000 devices, made while AWS is away: a hundred nests without patience.
    #[must_use]
    pub fn backlog(seed: u64) -> Self {
        // Twenty times a hundred.
        let (away_until, patience) = (Duration::from_secs(63), Duration::from_secs(3));
        Self { away_until, nests: 100, patience, ..Self::idle(seed) }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What AWS has seen.
    seen: Seen,
    /// Certificates issued, by when.
    issued: Vec<Duration>,
    /// Units acknowledged, by when.
    admitted: Vec<Duration>,
    /// From `unit` to `pass`, of the live ones.
    latencies: Vec<Duration>,
    /// The sentences with which units were refused.
    refused: Vec<String>,
    /// The status when AWS came back.
    at_return: LineStatus,
    /// The status at the end.
    at_end: LineStatus,
}

impl Outcome {
    /// 99 of 100 live units took no longer from `unit` to `pass`; none without any.
    #[must_use]
    pub fn p99(&self) -> Option<Duration> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }

    /// Devices that AWS owed something when it came back and no nest held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.at_return.buffered
    }

    /// Calls that AWS has answered.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.seen.calls.len() + self.seen.throttled
    }

    /// Those that it throttled.
    #[must_use]
    pub fn throttled(&self) -> usize {
        self.seen.throttled
    }

    /// When the last device of the backlog was made; none without one.
    fn drained(&self) -> Option<Duration> {
        let whole = self.seen.whole.iter().filter(|(serial, _)| serial.starts_with(BACKLOG));
        whole.map(|(_, at)| *at).max()
    }

    /// The part of what `rate` lockers a second allow that was used until the last device of the backlog was made;
    /// none without a backlog.
    #[must_use]
    pub fn used(&self, rate: f64) -> Option<f64> {
        let end = self.drained()?;
        let lockers = self.seen.calls.iter().filter(|it| it.1 == Operation::CreateCredentialLocker);
        let times: Vec<Duration> = lockers.map(|it| it.0).filter(|it| *it < end).collect();
        let took = times.last()?.checked_sub(*times.first()?)?.as_secs_f64();
        (took > 0.0).then(|| (times.len() - 1) as f64 / rate / took)
    }
}

/// How serial numbers begin of units that make the backlog, and of live ones.
const BACKLOG: &str = "SN";
const LIVE: &str = "LIVE";

type Later = Pin<Box<dyn Future<Output = Vec<Input>>>>;

/// The station and what is around it.
struct Rig {
    scene: Scene,
    world: World,
    paced: Arc<Paced<Account>>,
    /// What the account has seen.
    seen: Arc<Mutex<Seen>>,
    line: Line,
    held: Held,
    shelf: MemoryShelf,
    inputs: VecDeque<Input>,
    /// What happens without the line.
    later: FuturesUnordered<Later>,
    /// Units in nests, by fixture and id: when, and in which nest.
    open: BTreeMap<(usize, u64), (Duration, u64)>,
    next_id: u64,
    live_left: u64,
    random: fastrand::Rng,
    outcome: Outcome,
}

/// Runs a scene to its end: when every device is made.
///
/// # Errors
/// Something happened that must not.
pub fn play(scene: Scene) -> Result<Outcome, Wrong> {
    let world = World::late_by(vec![900, 1_100, 1_400, 700, 1_000, 2_300, 800]);
    let account = Account::new(&world, &scene);
    let seen = account.seen();
    let ways = (Arc::new(world.clone()) as Arc<_>, Arc::new(world.clone()) as Arc<_>);
    let paced = Arc::new(Paced::seeded(account, &scene.quotas, ways, MAX_IN_FLIGHT, scene.seed));
    let (line, first) = Line::start(settings(&scene)?, shelf::nothing(), now(&world));
    let mut rig = Rig {
        random: fastrand::Rng::with_seed(scene.seed),
        live_left: scene.live,
        world: world.clone(),
        paced,
        seen: seen.clone(),
        line,
        held: Held::default(),
        shelf: MemoryShelf::default(),
        inputs: VecDeque::new(),
        later: FuturesUnordered::new(),
        open: BTreeMap::new(),
        next_id: 0,
        outcome: Outcome::default(),
        scene,
    };
    rig.carry_out(first)?;
    rig.inputs.extend([Input::PortOpened(0), Input::PortOpened(1)]);
    let mut outcome = world.run(rig.run()).ok_or_else(|| wrong("everybody waits for nothing"))??;
    outcome.seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(outcome)
}

fn now(world: &World) -> Now {
    let mono = world.now().mono;
    Now { wall: BEGIN + mono, mono }
}

impl Rig {
    async fn run(mut self) -> Result<Outcome, Wrong> {
        let mut was_away = true;
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.take(input)?;
            }
            if let Some(wrong) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).wrong.take() {
                return Err(wrong);
            }
            let time = self.world.now().mono;
            if was_away && time >= self.scene.away_until {
                was_away = false;
                self.outcome.at_return = self.line.status();
                self.live_unit();
            }
            if !was_away
                && self.live_left == 0
                && self.open.is_empty()
                && self.line.status().waiting.is_empty()
            {
                self.outcome.at_end = self.line.status();
                return Ok(self.outcome);
            }
            let mut due = self.line.next_due().unwrap_or(time + PATIENCE);
            if was_away {
                due = due.min(self.scene.away_until);
            }
            let sleep = self.world.sleep(due.saturating_sub(time));
            match select(self.later.next(), sleep).await {
                Either::Left((Some(inputs), _)) => self.inputs.extend(inputs),
                Either::Left((None, sleep)) => {
                    sleep.await;
                    self.inputs.push_back(Input::Tick);
                }
                Either::Right(_) => self.inputs.push_back(Input::Tick),
            }
        }
    }

    fn take(&mut self, input: Input) -> Result<(), Wrong> {
        let actions = self.line.handle(now(&self.world), input, &self.shelf).map_err(wrong)?;
        self.carry_out(actions)
    }

    /// Records are on disk at once; what waits for them follows.
    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), Wrong> {
        let ready = self.held.take(actions, self.shelf.seq);
        for action in ready {
            match action {
                Action::Record(entry) => {
                    self.shelf.commit(*entry)?;
                    self.inputs.push_back(Input::Durable(self.shelf.seq));
                }
                action => self.act(action)?,
            }
        }
        let released = self.held.release(self.shelf.seq);
        released.into_iter().try_for_each(|it| self.act(it))
    }

    fn act(&mut self, action: Action) -> Result<(), Wrong> {
        match action {
            Action::Send { fixture, message, tag, .. } => {
                self.hear(fixture, message)?;
                self.inputs.extend(tag.map(|tag| Input::Sent(fixture, tag, Duration::ZERO)));
            }
            Action::Offer { fixture, credentials, .. } => {
                let (id, serial) = (credentials.id, credentials.serial.clone());
                let certificate_sha256 = credentials.certificate_sha256.clone();
                let written = FixtureMessage::Written { id, serial, certificate_sha256 };
                self.inputs.push_back(Input::Sent(fixture, Tag::Credentials(id), Duration::ZERO));
                self.after(WRITING, Input::Message(fixture, written));
            }
            Action::Issue { serial, generation, .. } => {
                self.outcome.issued.push(self.world.now().mono);
                let der = format!("certificate of {serial}").into_bytes();
                let certificate = Certificate {
                    fingerprint: Fingerprint::of(&der),
                    der,
                    serial_number: "1".to_owned(),
                    not_after: NOT_AFTER,
                    key: KeyState::Sealed,
                    arn: None,
                    public_key: None,
                    issuer: None,
                };
                self.after(ISSUING, Input::Issued { serial, generation, result: Ok(certificate) });
            }
            Action::Call { serial, step, generation, urgency, call, .. } => {
                let paced = self.paced.clone();
                self.later.push(Box::pin(async move {
                    let (result, waited) = paced.call_timed(&urgency, &call).await;
                    vec![Input::Called { serial, step, generation, result, waited }]
                }));
            }
            Action::DestroyKey { serial, fingerprint, .. } => {
                self.inputs.push_back(Input::KeyDestroyed(serial, fingerprint));
            }
            other => return Err(wrong(format!("nothing here asks for {other:?}"))),
        }
        Ok(())
    }

    fn after(&mut self, by: Duration, input: Input) {
        let world = self.world.clone();
        self.later.push(Box::pin(async move {
            world.sleep(by).await;
            vec![input]
        }));
    }

    /// What a fixture does when it hears something.
    fn hear(&mut self, fixture: usize, message: StationMessage) -> Result<(), Wrong> {
        let time = self.world.now().mono;
        match message {
            StationMessage::Hello { .. } => {
                let name = FIXTURES[fixture].to_owned();
                let hello = FixtureMessage::Hello { protocol: 1, fixture: name, boot: 1, firmware: None };
                self.inputs.push_back(Input::Message(fixture, hello));
                if fixture == 0 {
                    (0..self.scene.nests).for_each(|nest| self.present(0, nest));
                }
            }
            StationMessage::Ack { .. } => self.outcome.admitted.push(time),
            StationMessage::Pass { id, .. } => {
                let Some((since, _)) = self.open.remove(&(fixture, id)) else { return Ok(()) };
                if fixture == 1 {
                    self.outcome.latencies.push(time - since);
                    self.live_unit();
                }
            }
            StationMessage::Fail { id, serial, .. } => {
                if fixture != 0 {
                    return Err(wrong(format!("a live unit was sent away: {serial}")));
                }
                self.next_in_nest(id);
            }
            StationMessage::Nak { id: Some(id), message, .. } => {
                self.outcome.refused.push(message);
                self.open.remove(&(fixture, id));
            }
            _ => {}
        }
        Ok(())
    }

    fn next_in_nest(&mut self, id: u64) {
        if let Some((_, nest)) = self.open.remove(&(0, id))
            && self.world.now().mono + self.scene.patience < self.scene.away_until
        {
            self.present(0, nest);
        }
    }

    fn present(&mut self, fixture: usize, nest: u64) {
        self.next_id += 1;
        let id = self.next_id;
        self.open.insert((fixture, id), (self.world.now().mono, nest));
        let unit = Unit {
            id,
            serial: format!("{BACKLOG}{id:08}"),
            nest: Some(format!("n{nest}")),
            ..Unit::default()
        };
        self.inputs.push_back(Input::Message(fixture, FixtureMessage::Unit(unit)));
    }

    /// The next live unit comes within a second.
    fn live_unit(&mut self) {
        if self.live_left == 0 {
            return;
        }
        self.live_left -= 1;
        self.next_id += 1;
        let (world, id) = (self.world.clone(), self.next_id);
        let pause = Duration::from_millis(self.random.u64(..1000));
        self.open.insert((1, id), (self.world.now().mono + pause, 0));
        let unit = Unit { id, serial: format!("{LIVE}{id:08}"), nest: None, ..Unit::default() };
        self.later.push(Box::pin(async move {
            world.sleep(pause).await;
            vec![Input::Message(1, FixtureMessage::Unit(unit))]
        }));
    }
}

const FIXTURES: [&str; 2] = ["backlog", "live"];

fn settings(scene: &Scene) -> Result<Settings, Wrong> {
    let name = Template::parse("{serial}").map_err(wrong)?;
    let rules = ProductRules {
        product: "thermostat".to_owned(),
        station: "L3-S07".to_owned(),
        thing: name.clone(),
        locker: LockerRule::Device { name: name.clone(), tags: BTreeMap::new() },
        policy: PolicyRule::Device { name: name.clone(), document: "{}".to_owned(), tags: BTreeMap::new() },
        certificate: CertificateRule {
            key: KeyOrigin::Station,
            days: 3650,
            common_name: name,
            register: Register::WithoutCa,
        },
        repeat: Repeat::Return,
        require_batch: false,
        max_certificates: 3,
        endpoint: None,
        roots: None,
        verify: crate::device::rules::Verify::None,
        article: None,
        managed_thing: None,
    };
    let fixture = |name: &&str| FixtureSettings {
        name: (*name).to_owned(),
        product: rules.product.clone(),
        resend: Duration::from_secs(2),
        answer_within: PATIENCE,
        patience: if *name == FIXTURES[0] { scene.patience } else { PATIENCE },
    };
    let serial = SerialPattern::new("^[A-Z0-9]{3,20}$").map_err(wrong)?;
    let product = Product { rules: Arc::new(rules.clone()), serial, deliver: Deliver::Fixture, labels: None };
    Ok(Settings {
        station: rules.station.clone(),
        fixtures: FIXTURES.iter().map(fixture).collect(),
        products: BTreeMap::from([(rules.product.clone(), product)]),
        ca: None,
        ca_pem: String::new(),
        chain_pem: String::new(),
        previous_ca: None,
        config_hash: "0".to_owned(),
        keep_undelivered: Duration::from_secs(7 * 86_400),
        backlog: scene.backlog,
        in_progress: in_progress(&scene.quotas),
        messages: Arc::default(),
        built_at: BUILT,
        seed: scene.seed,
    })
}

#[cfg(test)]
mod tests;
