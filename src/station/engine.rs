//! The engine: one task that owns the line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::deliveries::{Job, Queues};
use super::intake::{self, FixturePort, Outbox, Outgoing, PortCounters};
use super::prover::Prover;
use super::vault::{Issue, Vault, What};
use super::worker::Worker;
use super::{Command, StationError};
use crate::clock::{ClockSync, TimeSource};
use crate::cloud::Cloud;
use crate::device::operator::Refusal;
use crate::durable_fs::free_bytes;
use crate::journal::keys::KeyStore;
use crate::journal::store::Store;
use crate::journal::{Entry, JournalError};
use crate::line::{Action, FixtureSettings, Held, Input, Line, LineStatus, News};

/// Inputs taken in one go at most.
const BURST: usize = 256;

/// How often free space is looked at, and the status is renewed when nothing happens.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// The line with all it needs to act.
pub(super) struct Engine<C> {
    pub(super) line: Line,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) records: mpsc::Sender<Box<Entry>>,
    /// Speaks when the journal's writer has ended.
    pub(super) scribe: oneshot::Receiver<Result<(), JournalError>>,
    pub(super) vault: Vault,
    pub(super) deliveries: Queues,
    pub(super) outboxes: Vec<Outbox>,
    pub(super) worker: Worker<C>,
    pub(super) prover: Prover,
    pub(super) keys: Arc<KeyStore>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) status: watch::Sender<Arc<LineStatus>>,
    /// What waits for a record to be on disk.
    pub(super) held: Held,
    pub(super) journal_dir: PathBuf,
    pub(super) min_free: u64,
    /// Who wants to know when no unit in a nest waits any more.
    pub(super) waiting_for_idle: Vec<oneshot::Sender<()>>,
    /// What is said of the wall clock.
    pub(super) sync: watch::Receiver<ClockSync>,
    /// Who has given an order that is not answered yet, by its ticket.
    pub(super) orders: Orders,
}

/// Orders that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    newest: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<(), Refusal>>>,
}

impl Orders {
    fn take(&mut self, reply: oneshot::Sender<Result<(), Refusal>>) -> u64 {
        self.newest += 1;
        self.waiting.insert(self.newest, reply);
        self.newest
    }

    fn answer(&mut self, ticket: u64, result: Result<(), Refusal>) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            // Whoever asked may have hung up.
            let _ = reply.send(result);
        }
    }
}

impl<C: Cloud + 'static> Engine<C> {
    /// Runs until it is told to stop, or cannot go on. Everything decided by then is on disk.
    pub(super) async fn run(
        mut self,
        first: Vec<Action>,
        mut from_adapters: mpsc::Receiver<Input>,
        mut from_outside: mpsc::Receiver<Command>,
        mut durable: watch::Receiver<u64>,
    ) -> Result<(), StationError> {
        let newest = *durable.borrow_and_update();
        self.carry_out(first, newest).await?;
        // Before the first unit is heard: what keeps units out has to be known by then.
        for input in self.look_around() {
            let actions = self.line.handle(self.clock.now(), input, &self.store)?;
            self.carry_out(actions, newest).await?;
        }
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut burst = Vec::with_capacity(BURST);
        loop {
            let wait = self.wait();
            tokio::select! {
                biased;
                error = self.scribe_ended() => return Err(error),
                Ok(()) = durable.changed() => burst.push(Input::Durable(*durable.borrow_and_update())),
                command = from_outside.recv() => match command {
                    Some(Command::Stop) | None => return self.stop().await,
                    Some(command) => burst.extend(self.told(command)),
                },
                _ = from_adapters.recv_many(&mut burst, BURST) => {}
                () = tokio::time::sleep(wait) => burst.push(Input::Tick),
                _ = heartbeat.tick() => {
                    burst.extend(self.look_around());
                    self.publish();
                }
            }
            let told = burst.iter().any(|it| {
                matches!(
                    it,
                    Input::Drain | Input::Station { .. } | Input::Batch { .. } | Input::Reconfigure { .. }
                )
            });
            for input in burst.drain(..) {
                let actions = self.line.handle(self.clock.now(), input, &self.store)?;
                let newest = *durable.borrow();
                // What waits comes first, so that nothing overtakes what was said before it.
                self.release(newest)?;
                self.carry_out(actions, newest).await?;
            }
            let newest = *durable.borrow();
            self.release(newest)?;
            if told {
                self.publish();
            }
            if !self.waiting_for_idle.is_empty() && self.line.is_idle() {
                self.publish();
                self.waiting_for_idle.drain(..).for_each(|it| {
                    // Whoever asked may be gone.
                    let _ = it.send(());
                });
            }
        }
    }

    /// What a command means for the line.
    fn told(&mut self, command: Command) -> Option<Input> {
        match command {
            Command::Drain(reply) => {
                self.waiting_for_idle.push(reply);
                Some(Input::Drain)
            }
            Command::Station { order, by, reply } => {
                let ticket = self.orders.take(reply);
                Some(Input::Station { order, by, ticket })
            }
            Command::Order { order, serial, by, reply } => {
                let ticket = self.orders.take(reply);
                Some(Input::Order { order, serial, by, ticket })
            }
            Command::Mend { serial, order, by, reply } => {
                let ticket = self.orders.take(reply);
                Some(Input::Mend { serial, order, by, ticket })
            }
            Command::Batch { order, by, reply } => {
                let ticket = self.orders.take(reply);
                Some(Input::Batch { order, by, ticket })
            }
            Command::Reconfigure { news, ports, opened, reply } => {
                // Nobody may wait for them any more.
                let _ = opened.send(self.change_ports(&news, ports));
                let ticket = self.orders.take(reply);
                Some(Input::Reconfigure { news, ticket })
            }
            Command::OverrideClock { by, reply } => {
                let ticket = self.orders.take(reply);
                Some(Input::OverrideClock { by, ticket })
            }
            Command::Stop => None,
        }
    }

    /// Closes the ports of fixtures that are no more, and opens those of new ones.
    fn change_ports(&mut self, news: &News, ports: Vec<FixturePort>) -> Vec<Arc<PortCounters>> {
        for (number, outbox) in self.outboxes.iter_mut().enumerate() {
            let stays = |it: &FixtureSettings| self.line.fixture_named(&it.name) == Some(number);
            if !news.fixtures.iter().any(stays) {
                // Its task ends when nobody can send it anything any more.
                *outbox = mpsc::channel(1).0;
            }
        }
        let first = self.outboxes.len();
        let (outboxes, counters) = intake::start(first, ports, &self.keys, &self.clock, &self.inputs);
        self.outboxes.extend(outboxes);
        counters
    }

    /// What AWS's limits, disk and clock say.
    fn look_around(&self) -> Vec<Input> {
        let sync = self.sync.borrow().clone();
        let limits = self.worker.held_back();
        let held_back = (!limits.is_empty()).then_some(Input::HeldBack(limits));
        let gate = Input::Gate(gate(&self.journal_dir, self.min_free));
        held_back.into_iter().chain([gate, Input::Clock(sync)]).collect()
    }

    fn wait(&self) -> Duration {
        let now = self.clock.now().mono;
        self.line.next_due().map_or(Duration::from_secs(3600), |due| due.saturating_sub(now))
    }

    fn publish(&self) {
        self.status.send_replace(Arc::new(self.line.status()));
    }

    /// Waits for the journal's writer to end, and says why it did.
    async fn scribe_ended(&mut self) -> StationError {
        match (&mut self.scribe).await {
            Ok(Err(error)) => StationError::Journal(error),
            _ => StationError::Ended("journal"),
        }
    }

    async fn carry_out(&mut self, actions: Vec<Action>, durable: u64) -> Result<(), StationError> {
        for action in self.held.take(actions, durable) {
            match action {
                Action::Record(entry) => {
                    if self.records.send(entry).await.is_err() {
                        return Err(self.scribe_ended().await);
                    }
                }
                action => self.act(action)?,
            }
        }
        Ok(())
    }

    fn release(&mut self, durable: u64) -> Result<(), StationError> {
        self.held.release(durable).into_iter().try_for_each(|action| self.act(action))
    }

    fn act(&mut self, action: Action) -> Result<(), StationError> {
        match action {
            Action::Record(_) => {}
            Action::Send { fixture, message, tag, .. } => {
                self.post(fixture, Outgoing::Message(message, tag));
            }
            Action::Offer { fixture, credentials, key, serial, .. } => {
                self.post(fixture, Outgoing::Offer { credentials, key, serial });
            }
            Action::Deliver(delivery) => match self.deliveries.get(&delivery.directory) {
                Some(queue) => pass_on(queue, Job::Credentials(delivery), "delivery")?,
                None => return Err(StationError::Ended("delivery")),
            },
            Action::Label(label) => match self.deliveries.get(&label.directory) {
                Some(queue) => pass_on(queue, Job::Label(label), "delivery")?,
                None => return Err(StationError::Ended("delivery")),
            },
            Action::Connect(trial) => self.prover.connect(*trial),
            Action::Issue { serial, generation, request, .. } => {
                let what = What::Certificate(request);
                pass_on(&self.vault.issue, Issue { serial, generation, what }, "issuer")?;
            }
            Action::MakeCsr { serial, generation, common_name, .. } => {
                let what = What::Request { common_name };
                pass_on(&self.vault.issue, Issue { serial, generation, what }, "issuer")?;
            }
            Action::Survey { number, class, call, .. } => self.worker.survey(number, class, call),
            Action::Call { serial, step, generation, urgency, call, .. } => {
                self.worker.call(serial, step, generation, (urgency, call));
            }
            Action::Answer { ticket, result, .. } => self.orders.answer(ticket, result),
            Action::DestroyKey { serial, fingerprint, .. } => {
                pass_on(&self.vault.destroy, (serial, fingerprint), "key store")?;
            }
        }
        Ok(())
    }

    /// Hands a message to a port. If its queue is full the message is dropped, as if the cable had
    /// lost it: whoever waits for it repeats. Waiting here would let one dead fixture stop them all.
    fn post(&self, fixture: usize, outgoing: Outgoing) {
        if let Err(dropped) = self.outboxes[fixture].try_send(outgoing) {
            let dropped = match dropped {
                mpsc::error::TrySendError::Full(it) | mpsc::error::TrySendError::Closed(it) => it,
            };
            tracing::warn!(fixture, message = ?dropped, "a message is dropped: the port does not take it");
            if let Some(tag) = dropped.tag() {
                // Nothing to be told if the station is ending.
                let _ = pass_on(&self.inputs, Input::Sent(fixture, tag, Duration::ZERO), "engine");
            }
        }
    }

    /// Closes the journal's queue and waits until all of it is on disk.
    async fn stop(mut self) -> Result<(), StationError> {
        for action in self.line.stop(self.clock.now()) {
            if let Action::Record(entry) = action
                && self.records.send(entry).await.is_err()
            {
                return Err(self.scribe_ended().await);
            }
        }
        drop(self.records);
        match self.scribe.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(StationError::Ended("journal")),
        }
    }
}

/// Puts `it` into a queue without waiting: who empties it may be waiting for the engine. A full
/// queue is waited for beside; there is at most one such item for each device.
fn pass_on<T: Send + 'static>(
    queue: &mpsc::Sender<T>,
    it: T,
    whose: &'static str,
) -> Result<(), StationError> {
    match queue.try_send(it) {
        Ok(()) => Ok(()),
        Err(mpsc::error::TrySendError::Closed(_)) => Err(StationError::Ended(whose)),
        Err(mpsc::error::TrySendError::Full(it)) => {
            let queue = queue.clone();
            tokio::spawn(async move {
                // Closed: the station is ending.
                let _ = queue.send(it).await;
            });
            Ok(())
        }
    }
}

/// Why no new device may be admitted: the disk is nearly full, or cannot be asked.
fn gate(dir: &Path, min_free: u64) -> Option<String> {
    match free_bytes(dir) {
        // No figure that moves: what is said to a repeated unit is said the same.
        Ok(free) => (free < min_free).then(|| {
            format!(
                "the station's disk is nearly full: less than {} MiB left (journal.min_free)",
                min_free >> 20
            )
        }),
        Err(error) => Some(format!("the station's disk cannot be asked for its free space: {error}")),
    }
}
