//! The world: simulated time, and everything around the station that can happen to it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::audit::Truth;
use super::cable::Cable;
use super::calls::Out;
use super::cloud::Account;
use super::disk::{Ending, SimDisk, SimKeys};
use super::folders::SimFolders;
use super::issuer::SimIssuer;
use super::jig::{Jig, Piece};
use super::plan::{BEGIN, Plan, Trap};
use super::station::Life;
use crate::clock::Now;
use crate::device::serial::SerialNumber;
use crate::fixture::StationMessage;
use crate::line::{Delivery, Input, Labelling};
use crate::pki::Fingerprint;
use crate::station::vault::Issue;

/// Something that happens at a time. What belongs to a life of the station names it, and is nothing when
/// that life is over.
#[derive(Debug)]
pub(super) enum Event {
    /// The line has something due.
    Tick(u64),
    /// The line is told something.
    Input(u64, Input),
    /// The journal's writer takes what waits for it.
    Write(u64),
    /// Its sync is seen through.
    Synced(u64),
    /// The engine hears of it.
    Durable(u64, u64),
    /// The CA has worked on requests, and sealed the keys.
    Issue(u64, Vec<Issue>),
    /// Keys have been destroyed.
    Destroy(u64, Vec<(SerialNumber, Fingerprint)>),
    /// Credentials are put into the directory.
    Deliver(u64, Box<Delivery>),
    /// A label is put into its directory.
    Label(u64, Box<Labelling>),
    /// A call arrives at AWS.
    Arrives(u64),
    /// A call that was given up takes effect after all.
    ArrivesLate(u64),
    /// Bytes come out of a cable, for the station or for the fixture.
    ToStation(usize, u64, Vec<u8>),
    ToFixture(usize, u64, Vec<u8>),
    /// The station opens a port.
    Opens(u64, usize),
    /// A fixture has something due.
    Jig(usize),
    /// A person does something.
    Operator,
    /// The station ends.
    Crash(Ending),
    /// It starts.
    Start,
}

#[derive(Debug)]
struct Due {
    at: Duration,
    /// Events of one instant come in an order that the seed says.
    tie: u32,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie, self.number).cmp(&(other.at, other.tie, other.number))
    }
}

/// What a run came to, for the count.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) events: u64,
    pub(super) crashes: u64,
    pub(super) writes: usize,
    pub(super) calls: usize,
    pub(super) records: u64,
    pub(super) passes: u64,
    /// A hash of all that happened, to compare two runs.
    pub(super) hash: u64,
    /// Where each record of each write ends in it, bytes; kept only where nothing goes wrong by chance.
    pub(super) cuts: Vec<Vec<usize>>,
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Duration,
    queue: BinaryHeap<Reverse<Due>>,
    numbers: u64,
    pub(super) life: Option<Life>,
    /// Number of the present life of the station, or of the next.
    pub(super) lives: u64,
    pub(super) disk: SimDisk,
    /// The index as a crash may find it: behind the log.
    pub(super) old_index: Option<super::index::Index>,
    pub(super) keys: SimKeys,
    pub(super) folders: SimFolders,
    pub(super) issuer: SimIssuer,
    pub(super) account: Account,
    /// Calls that have left and not been answered.
    pub(super) out: BTreeMap<u64, Out>,
    pub(super) jigs: Vec<Jig>,
    pub(super) cables: Vec<Cable>,
    pub(super) pieces: Vec<Piece>,
    pub(super) truth: Truth,
    /// Orders about batches that were given, and those not answered yet.
    pub(super) tickets: u64,
    pub(super) waiting: super::orders::Waiting,
    pub(super) stats: Stats,
    /// All goes well from now on.
    pub(super) healed: bool,
    /// Crashes that are to come, and so many occasions until the next.
    pub(super) crashes_left: u32,
    pub(super) crash_in: u32,
    /// What happened, if somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(plan: Plan, tells: bool) -> Self {
        let rng = fastrand::Rng::with_seed(plan.seed);
        let jigs = (0..plan.fixtures).map(|number| Self::jig(&plan, number)).collect();
        let piece = |serial: &String| Piece {
            serial: serial.clone(),
            stored: None,
            is_out: false,
            passed: false,
            tells_holds: false,
            comebacks: 2,
        };
        let pieces = plan.serials.iter().chain(&plan.twin).map(piece).collect();
        let mut it = Self {
            rng,
            now: Duration::from_secs(100),
            queue: BinaryHeap::new(),
            numbers: 0,
            life: None,
            lives: 0,
            disk: SimDisk::default(),
            old_index: None,
            keys: SimKeys::default(),
            folders: SimFolders::default(),
            issuer: SimIssuer::default(),
            account: Account::default(),
            out: BTreeMap::new(),
            jigs,
            cables: (0..plan.fixtures).map(|_| Cable::default()).collect(),
            pieces,
            truth: Truth::where_unheard(if plan.loses_hellos { 12 } else { 2 }),
            tickets: 0,
            waiting: BTreeMap::new(),
            stats: Stats::default(),
            healed: false,
            crashes_left: plan.crashes,
            crash_in: 0,
            story: tells.then(Vec::new),
            plan,
        };
        it.crash_in = it.rng.u32(5..80);
        it.plant();
        it
    }

    fn jig(plan: &Plan, number: usize) -> Jig {
        Jig {
            name: Plan::fixture(number),
            boot: 1,
            next_id: 1,
            nests: (0..plan.nests).map(|_| None).collect(),
            waiting: std::collections::VecDeque::new(),
            up_from: Duration::ZERO,
            pulled: false,
            resend: plan.resend,
            key: plan.rules[0].certificate.key,
            out: std::collections::VecDeque::new(),
            wakes_at: None,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: BEGIN, mono: Duration::ZERO }.later(self.now)
    }

    /// A part of a second that the seed says, up to `most` milliseconds.
    pub(super) fn millis(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.rng.u64(..=most * 1000))
    }

    /// Whether something happens that does so often, in thousandths.
    pub(super) fn happens(&mut self, rate: u32) -> bool {
        !self.healed && rate > 0 && self.rng.u32(..1000) < rate
    }

    pub(super) fn after(&mut self, by: Duration, event: Event) {
        self.numbers += 1;
        let due = Due { at: self.now + by, tie: self.rng.u32(..), number: self.numbers, event };
        self.queue.push(Reverse(due));
    }

    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let now = self.now.as_secs_f64() - 100.0;
            story.push(format!("{now:9.3}  {}", what()));
        }
    }

    /// Lets happen what happens up to `until`, or until `done` says that it is enough.
    pub(super) fn run(
        &mut self,
        until: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, String> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > until {
                self.now = until;
                return Ok(false);
            }
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = due.at;
            self.stats.events += 1;
            if self.stats.events > 200_000 {
                return Err("the world is never at rest".to_owned());
            }
            self.stats.hash = (self.stats.hash ^ due.at.as_nanos() as u64).wrapping_mul(0x100_0000_01b3);
            self.happen(due.event)?;
            if done(self) {
                return Ok(true);
            }
        }
        self.now = self.now.max(until);
        Ok(false)
    }

    /// A crash strikes where something is under way, not at any idle time.
    fn crash_perhaps(&mut self, event: &Event) {
        let occasion = matches!(
            event,
            Event::Arrives(_)
                | Event::Write(_)
                | Event::Synced(_)
                | Event::Durable(..)
                | Event::Issue(..)
                | Event::Destroy(..)
                | Event::Deliver(..)
                | Event::Label(..)
                | Event::Input(..)
        );
        if !occasion || self.healed || self.crashes_left == 0 || self.life.is_none() {
            return;
        }
        self.crash_in = self.crash_in.saturating_sub(1);
        if self.crash_in == 0 {
            self.crashes_left -= 1;
            self.crash_in = self.rng.u32(2..60);
            let ending = if self.rng.u8(..3) == 0 { Ending::Kill } else { Ending::PowerCut };
            let by = if self.rng.bool() { Duration::ZERO } else { self.millis(10) };
            self.after(by, Event::Crash(ending));
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        self.crash_perhaps(&event);
        let alive = |it: &Self, life: u64| it.life.is_some() && it.lives == life;
        match event {
            Event::Start => self.start(),
            Event::Crash(ending) => {
                self.crash(ending);
                Ok(())
            }
            Event::Operator => {
                self.operate();
                Ok(())
            }
            Event::Jig(fixture) => self.jig_due(fixture),
            Event::ToFixture(fixture, epoch, bytes) => self.at_fixture(fixture, epoch, &bytes),
            Event::Arrives(call) => self.arrives(call),
            Event::ArrivesLate(call) => {
                let _nobody_listens = self.take_effect(call);
                self.out.remove(&call);
                Ok(())
            }
            Event::ToStation(fixture, epoch, bytes) => self.at_station(fixture, epoch, &bytes),
            Event::Tick(life) if alive(self, life) => self.tick(),
            Event::Input(life, input) if alive(self, life) => self.input(input),
            Event::Write(life) if alive(self, life) => {
                self.write();
                Ok(())
            }
            Event::Synced(life) if alive(self, life) => self.synced(),
            Event::Durable(life, seq) if alive(self, life) => self.input(Input::Durable(seq)),
            Event::Issue(life, group) if alive(self, life) => {
                self.issue(group);
                Ok(())
            }
            Event::Destroy(life, group) if alive(self, life) => self.destroy(group),
            Event::Deliver(life, it) if alive(self, life) => self.deliver(*it),
            Event::Label(life, it) if alive(self, life) => self.put_label(*it),
            Event::Opens(life, fixture) if alive(self, life) => self.opens(fixture),
            _ => Ok(()),
        }
    }

    /// The trap that is set for the n-th of something.
    pub(super) fn trap<T>(&self, find: impl Fn(&Trap) -> Option<T>) -> Option<T> {
        self.plan.traps.iter().find_map(find)
    }

    /// Something goes to a fixture.
    pub(super) fn say(&mut self, fixture: usize, message: &StationMessage) -> Result<(), String> {
        self.tell(|| format!("station to {}: {message:?}", Plan::fixture(fixture)));
        let jig = &self.jigs[fixture];
        self.truth.said(&jig.name, jig.boot, message)
    }
}
