//! What the line is doing, for whoever looks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Line;
use super::batches::BatchStatus;
use super::link::{Link, LinkState};
use super::refused::RefusedUnit;
use super::work::Work;
use crate::batch::BatchId;
use crate::cloud::Operation;
use crate::device::State;
use crate::device::plan;
use crate::device::rules::Register;
use crate::device::steps::Step;
use crate::fixture::NakCode;
use crate::journal::Called;

/// A picture of the line.
#[derive(Debug, Clone, Default)]
pub struct LineStatus {
    /// Newest sequence number decided.
    pub seq: u64,
    /// Newest sequence number on disk.
    pub durable: u64,
    /// Whether new units are refused.
    pub draining: bool,
    /// Why nothing goes through; empty when it does.
    pub stopped: Vec<String>,
    /// What is slow or away; empty when all is well.
    pub degraded: Vec<String>,
    /// Devices by state.
    pub counts: BTreeMap<State, u64>,
    /// Devices without a nest that the cloud still owes something.
    pub buffered: usize,
    /// Age of the oldest device that the cloud still owes something, seconds of wall clock.
    pub oldest_s: Option<i64>,
    /// Devices that each operation is the next, or one of the next, to be called for, those whose call is
    /// out among them.
    pub waiting: BTreeMap<Operation, u64>,
    /// The fixtures, in the order of the configuration.
    pub links: Vec<LinkStatus>,
    /// The batches that are open, the one opened last at the end.
    pub batches: Vec<BatchStatus>,
    /// The products, each with its pattern of serial numbers.
    pub products: Vec<(String, String)>,
    /// What AWS was called for since that was journaled last.
    pub calls: Option<Called>,
    /// For how long what the clock says is known to be so; none while it is doubted.
    pub clock_proven: Option<Duration>,
}

/// A picture of one fixture.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// Its number among all that there have been.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// What it presents now.
    pub product: String,
    /// The batch that its devices come into.
    pub batch: Option<BatchId>,
    /// `closed`, `waiting for hello`, `ready`, or why it is refused.
    pub state: &'static str,
    /// Its firmware, where it has told one.
    pub firmware: Option<String>,
    /// Units in its nests.
    pub nests: Vec<NestStatus>,
    /// `nak` answers since the start, by code.
    pub naks: BTreeMap<NakCode, u64>,
    /// The units that were not taken: the newest of each nest, until another is taken there.
    pub refused: Vec<RefusedUnit>,
    /// The newest verdict: serial and `pass` or the code.
    pub last_verdict: Option<String>,
}

/// A unit in a nest.
#[derive(Debug, Clone)]
pub struct NestStatus {
    /// The nest, where the fixture names them.
    pub nest: Option<String>,
    /// The unit.
    pub serial: String,
    /// Where it stands.
    pub state: State,
    /// How long it has been there.
    pub since: Duration,
}

impl Line {
    /// What the line is doing.
    #[must_use]
    pub fn status(&self) -> LineStatus {
        let owed = self.works.values().filter(|it| it.is_owed());
        let oldest = owed.clone().map(|it| it.device.admitted_at).min();
        let mut degraded: Vec<String> = self
            .troubles
            .iter()
            .filter(|(operation, (count, _))| *count >= 3 && self.breakers.cause(**operation).is_none())
            .map(|(_, (_, message))| message.clone())
            .collect();
        degraded.extend(self.breakers.outages().map(str::to_owned));
        degraded.extend(self.calls.throttles.told());
        degraded.extend(self.deliveries.told("devices"));
        degraded.extend(self.labels.told("labels"));
        degraded.extend(self.gate.clone());
        degraded.extend(self.clock.told());
        degraded.extend(self.links.iter().filter_map(link_trouble));
        LineStatus {
            seq: self.seq,
            durable: self.durable,
            draining: self.draining,
            stopped: self
                .breakers
                .stops()
                .map(str::to_owned)
                .chain(self.issuer_stops().map(str::to_owned))
                .collect(),
            degraded,
            counts: self.counts.clone(),
            buffered: owed.filter(|it| !it.device.is_open()).count(),
            waiting: waiting(self.works.values()),
            oldest_s: oldest.map(|it| (self.now.wall.as_second() - it.as_second()).max(0)),
            links: (0..self.links.len())
                .filter(|it| !self.is_gone(*it))
                .map(|it| self.link_status(it))
                .collect(),
            batches: self.batches.told(),
            products: self
                .settings
                .products
                .iter()
                .map(|(name, it)| (name.clone(), it.serial.as_str().to_owned()))
                .collect(),
            calls: self.calls.told(),
            clock_proven: self.clock.proven(),
        }
    }

    fn link_status(&self, fixture: usize) -> LinkStatus {
        let link = &self.links[fixture];
        let nests = link.open.values().map(|open| NestStatus {
            nest: open.nest.clone(),
            serial: open.serial.to_string(),
            state: self.works.get(&open.serial).map_or(State::Admitted, |it| it.device.state),
            since: self.now.mono.saturating_sub(open.since),
        });
        LinkStatus {
            number: fixture,
            name: link.settings.name.clone(),
            product: self.presents(fixture).to_owned(),
            batch: self.batch_at(fixture).cloned(),
            state: state_word(link.state),
            firmware: link.firmware.clone(),
            nests: nests.collect(),
            naks: link.refused.counts.clone(),
            refused: link.refused.newest(),
            last_verdict: link.last_verdict.as_ref().map(|(verdict, _)| verdict.clone()),
        }
    }
}

fn waiting<'a>(works: impl Iterator<Item = &'a Work>) -> BTreeMap<Operation, u64> {
    let mut waiting = BTreeMap::new();
    for work in works {
        for step in plan::ready(&work.device, &work.rules) {
            if let Some(operation) = operation(step, work.rules.certificate.register) {
                *waiting.entry(operation).or_default() += 1;
            }
        }
    }
    waiting
}

/// What a step begins with; none for the CA's own and a server's.
fn operation(step: Step, register: Register) -> Option<Operation> {
    Some(match step {
        Step::Issue | Step::Connect => return None,
        Step::Locker => Operation::CreateCredentialLocker,
        Step::Policy => Operation::CreatePolicy,
        Step::Thing => Operation::CreateThing,
        Step::Certificate => match register {
            Register::WithCa => Operation::RegisterCertificate,
            Register::Aws => Operation::CreateCertificateFromCsr,
            Register::WithoutCa | Register::Jitp => Operation::RegisterCertificateWithoutCa,
        },
        Step::AttachPolicy => Operation::AttachPolicy,
        Step::AttachThing => Operation::AttachThingPrincipal,
        Step::Principals => Operation::ListThingPrincipals,
        Step::Deactivate | Step::Activate => Operation::UpdateCertificate,
        Step::DetachPolicy => Operation::DetachPolicy,
        Step::DetachThing => Operation::DetachThingPrincipal,
        Step::DeleteCertificate | Step::Delete => Operation::DeleteCertificate,
        Step::DeleteThing => Operation::DeleteThing,
        Step::DeletePolicy => Operation::DeletePolicy,
        Step::DeleteLocker => Operation::DeleteCredentialLocker,
        Step::ManagedThing => Operation::CreateManagedThing,
        Step::DeleteManagedThing => Operation::DeleteManagedThing,
        Step::Sweep => Operation::ListCertificates,
        Step::Verify => Operation::DescribeThing,
    })
}

fn state_word(state: LinkState) -> &'static str {
    match state {
        LinkState::Closed => "closed",
        LinkState::AwaitHello => "waiting for hello",
        LinkState::Ready => "ready",
        LinkState::Foreign(code) => code.as_str(),
        LinkState::Gone => "gone",
    }
}

fn link_trouble(link: &Link) -> Option<String> {
    let name = &link.settings.name;
    match link.state {
        LinkState::Ready | LinkState::Gone => None,
        LinkState::Closed => {
            let why = link.refusal.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            Some(format!("fixture {name}: the port is not open{why}"))
        }
        LinkState::AwaitHello => Some(format!("fixture {name} has not said hello")),
        LinkState::Foreign(code) => Some(format!("fixture {name} is refused: {code}")),
    }
}
