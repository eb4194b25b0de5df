//! The picture of the station that the local API shows, put together from its parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::PortCounters;
use super::bound::Bound;
use super::setup::StationCloud;
use crate::clock::{Now, TimeSource};
use crate::cloud::Operation;
use crate::cloud::pace::{OperationStats, Paces, SharedLimit};
use crate::control::sight::Plant;
use crate::control::tally::Tally;
use crate::control::{
    Backlog, CaStatus, FixtureStatus, JournalStatus, NestStatus, OpenBatch, OperationStatus, ProductStatus,
    RefusedUnit, SharedLimitStatus, StationState, Status,
};
use crate::fixture::NakCode;
use crate::journal::store::Store;
use crate::line::{self, BatchStatus, LineStatus, LinkStatus};
use crate::pki::summary::{CaEnd, expiry_warning};

/// What the picture is made from.
pub(super) struct Painter {
    pub(super) station: String,
    pub(super) started: Duration,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) cloud: Arc<StationCloud>,
    pub(super) store: Store,
    pub(super) journal_id: String,
    pub(super) ca: Option<(String, CaEnd)>,
    /// By their fixtures' numbers.
    pub(super) ports: watch::Receiver<Vec<Arc<PortCounters>>>,
    pub(super) bound: Bound,
    /// What the journal's newest records come to.
    pub(super) tally: watch::Receiver<Arc<Tally>>,
    /// Calendar and takt.
    pub(super) plant: watch::Receiver<Arc<Plant>>,
}

impl Painter {
    /// Paints anew whenever the line has changed; ends with the line.
    pub(super) async fn run(
        mut self,
        mut line: watch::Receiver<Arc<LineStatus>>,
        status: watch::Sender<Arc<Status>>,
    ) {
        loop {
            let now = line.borrow_and_update().clone();
            let paces = self.cloud.snapshot();
            self.bound.look(self.clock.now().mono, &now.waiting, &paces);
            status.send_replace(Arc::new(self.paint(&now, &paces)));
            if line.changed().await.is_err() {
                return;
            }
        }
    }

    /// The station now, `paces` its calls to AWS.
    pub(super) fn paint(&self, line: &LineStatus, paces: &Paces) -> Status {
        let (state, reasons) = judge(line);
        let ports = self.ports.borrow().clone();
        let unfinished = line.counts.iter().filter(|(state, _)| state.is_unfinished());
        Status {
            station: self.station.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            reasons,
            uptime_s: self.clock.now().mono.saturating_sub(self.started).as_secs(),
            fixtures: line
                .links
                .iter()
                .filter_map(|link| Some(fixture(link, ports.get(link.number)?, self.clock.now())))
                .collect(),
            batch: line.batches.last().map(|it| it.id.to_string()),
            batches: line.batches.iter().map(open_batch).collect(),
            products: line
                .products
                .iter()
                .map(|(name, serial)| ProductStatus { name: name.clone(), serial: serial.clone() })
                .collect(),
            counts: (&line.counts).into(),
            operations: self.operations(line, &paces.operations),
            shared_limits: self.shared_limits(line, paces),
            journal: JournalStatus {
                seq: line.seq,
                durable: line.durable,
                bytes: self.store.size_on_disk(),
                id: self.journal_id.clone(),
            },
            backlog: Backlog {
                devices: unfinished.map(|(_, count)| *count).sum(),
                buffered: line.buffered as u64,
                oldest_s: line.oldest_s.and_then(|it| u64::try_from(it).ok()),
            },
            binding: self.bound.binding(),
            ca: self.ca.clone().map(|(subject, end)| CaStatus {
                subject,
                not_after: end.at,
                warning: expiry_warning(&end, self.clock.now().wall),
            }),
            today: self.tally.borrow().today(self.clock.now().wall, self.plant.borrow().takt),
            calls: line.calls.clone(),
        }
    }

    fn operations(&self, line: &LineStatus, paces: &[(Operation, OperationStats)]) -> Vec<OperationStatus> {
        let devices = |operation| line.waiting.get(&operation).copied().unwrap_or(0);
        let is_used =
            |operation, it: &OperationStats| it.calls > 0 || it.waiting > 0 || devices(operation) > 0;
        let used = paces.iter().filter(|(operation, it)| is_used(*operation, it));
        used.map(|&(operation, it)| OperationStatus {
            operation: operation.kebab().to_owned(),
            limit: it.limit,
            ceiling: it.ceiling,
            rate: it.rate,
            calls: it.calls,
            ok: it.ok,
            throttled: it.throttled,
            throttled_share: it.throttled_share(),
            errors: it.errors,
            waiting: it.waiting,
            waiting_devices: devices(operation),
            bound_share: self.bound.share(operation),
            p50_ms: it.p50_ms,
            p99_ms: it.p99_ms,
        })
        .collect()
    }

    /// Those that anything was called under.
    fn shared_limits(&self, line: &LineStatus, paces: &Paces) -> Vec<SharedLimitStatus> {
        let held = |limit: SharedLimit| {
            let held = paces.operations.iter().filter(move |(_, it)| it.held_by == Some(limit));
            held.filter_map(|(operation, _)| line.waiting.get(operation)).sum()
        };
        let used = paces.shared.iter().filter(|(_, it)| it.calls > 0 || it.waiting > 0);
        used.map(|&(limit, it)| SharedLimitStatus {
            name: limit.kebab().to_owned(),
            limit: it.limit,
            ceiling: it.ceiling,
            learned: it.learned,
            rate: it.rate,
            waiting: it.waiting,
            waiting_devices: held(limit),
            bound_share: self.bound.shared(limit),
        })
        .collect()
    }
}

fn open_batch(it: &BatchStatus) -> OpenBatch {
    OpenBatch { id: it.id.to_string(), product: it.product.clone() }
}

fn judge(line: &LineStatus) -> (StationState, Vec<String>) {
    if line.draining {
        (StationState::Draining, vec!["it takes no new units".to_owned()])
    } else if !line.stopped.is_empty() {
        (StationState::Stopped, line.stopped.clone())
    } else if !line.degraded.is_empty() {
        (StationState::Degraded, line.degraded.clone())
    } else {
        (StationState::Ready, Vec::new())
    }
}

fn refused(it: &line::RefusedUnit) -> RefusedUnit {
    RefusedUnit {
        nest: it.nest.clone(),
        serial: it.serial.clone(),
        code: it.code.to_string(),
        message: it.message.clone(),
        is_final: it.code.is_final(),
        since: it.since,
        at: it.at,
    }
}

fn fixture(link: &LinkStatus, port: &PortCounters, now: Now) -> FixtureStatus {
    let outages = port.outages();
    FixtureStatus {
        name: link.name.clone(),
        state: link.state.to_owned(),
        port: port.place.clone(),
        product: link.product.clone(),
        batch: link.batch.as_ref().map(ToString::to_string),
        firmware: link.firmware.clone(),
        nests: link
            .nests
            .iter()
            .map(|it| NestStatus {
                nest: it.nest.clone(),
                serial: it.serial.clone(),
                state: it.state,
                seconds: it.since.as_secs(),
            })
            .collect(),
        frames_in: port.frames_in.load(Ordering::Relaxed),
        frames_out: port.frames_out.load(Ordering::Relaxed),
        bad_frames: port.bad_frames.load(Ordering::Relaxed),
        echoes: port.echoes.load(Ordering::Relaxed),
        duplicates: port.duplicates.load(Ordering::Relaxed),
        naks: link.naks.values().sum(),
        naks_by_code: NakCode::ALL
            .iter()
            .map(|it| (it.to_string(), link.naks.get(it).copied().unwrap_or(0)))
            .collect(),
        refused: link.refused.iter().map(refused).collect(),
        reopens: port.reopens.load(Ordering::Relaxed),
        outages: outages.count,
        outage_s: outages.total(now).as_secs(),
        down_since: outages.since.map(|it| it.wall),
        last_verdict: link.last_verdict.clone(),
    }
}
