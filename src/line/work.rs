//! The work on a device: its steps are started when they are ready, and tried again when they
//! did not go through.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::health::{not_an_answer, not_issued, not_visible};
use super::{Action, Line, Product, Timer};
use crate::cloud::{Answer, Call, CloudError, FailureKind, ListedLocker};
use crate::device::event::{CloseReason, Event, Output};
use crate::device::retry::{self, NOT_VISIBLE_TRIES};
use crate::device::rules::{KeyOrigin, ProductRules, Register};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject, Verdict};
use crate::device::{Certificate, Device, State, plan};
use crate::fixture::FailCode;
use crate::journal::is_pending;
use crate::pki::{Fingerprint, LeafKey, LeafRequest};

/// Look-ups in a row for one step before it is left alone for a while.
const MAX_ASKS: u32 = 8;

/// How often what has vanished is made again before a person has to look.
const MAX_UNDONE: u32 = 2;

/// A device that is worked on.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) device: Device,
    pub(super) rules: Arc<ProductRules>,
    /// Steps that are under way or wait for their next try.
    pub(super) running: HashMap<Step, Running>,
    /// What must be on disk before AWS is called.
    barrier: u64,
    /// An earlier process has worked on its present generation.
    pub(super) recovered: bool,
    /// Since when it has been open whether its locker was made, monotonic.
    pub(super) locker_unsure: Option<Duration>,
    /// Keys whose destruction is under way.
    pub(super) destroying: HashSet<Fingerprint>,
    undone: u32,
}

/// A step under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The call that is out; none while it waits.
    call: Option<Call>,
    /// Tries so far.
    pub(super) attempt: u32,
    /// Look-ups since the last try.
    asks: u32,
    /// Tries in a row that found nothing.
    not_found: u32,
    /// The newest failure.
    pub(super) last: Option<(FailureKind, String)>,
    /// It waits for a look at the whole account.
    pub(super) seeking: bool,
    /// Looks in a row that found nothing.
    pub(super) looks: usize,
    /// Whatever was called so far has certainly done nothing.
    pub(super) in_vain: bool,
    /// Lockers that may be the device's.
    pub(super) candidates: VecDeque<ListedLocker>,
}

impl Running {
    /// Whether it waits, and for something that only a person can change.
    pub(super) fn waits_for_a_person(&self) -> bool {
        self.call.is_none() && matches!(self.last, Some((FailureKind::Stop(_), _)))
    }
}

impl Work {
    pub(super) fn new(device: Device, rules: Arc<ProductRules>, barrier: u64) -> Self {
        Self {
            device,
            rules,
            running: HashMap::new(),
            barrier,
            recovered: false,
            locker_unsure: None,
            destroying: HashSet::new(),
            undone: 0,
        }
    }

    /// The same, for a device that comes out of the journal.
    pub(super) fn recovered(mut self) -> Self {
        self.recovered = true;
        self
    }

    /// What must be on disk before AWS is called.
    pub(super) fn barrier(&self) -> u64 {
        self.barrier
    }

    /// Whether nothing is left to do for it, here or in the cloud.
    pub(super) fn is_over(&self) -> bool {
        self.running.is_empty() && !is_pending(&self.device) && !self.device.is_open()
    }

    /// Whether no key of it waits for its destruction.
    pub(super) fn is_settled(&self) -> bool {
        self.destroying.is_empty()
    }

    /// The rules that its product has now.
    pub(super) fn rules_now<'a>(&'a self, products: &'a BTreeMap<String, Product>) -> &'a Arc<ProductRules> {
        products.get(&self.device.product).map_or(&self.rules, |it| &it.rules)
    }

    /// AWS is not called for it before `seq` is on disk.
    pub(super) fn wait_for(&mut self, seq: u64) {
        self.barrier = seq;
    }

    /// Starts over with new rules.
    pub(super) fn begin_generation(&mut self, rules: Arc<ProductRules>, seq: u64) {
        self.rules = rules;
        self.running.clear();
        self.wait_for(seq);
        self.undone = 0;
        self.recovered = false;
        self.locker_unsure = None;
    }
}

impl Line {
    /// Unfinished devices.
    pub(super) fn backlog(&self) -> usize {
        let count: u64 =
            self.counts.iter().filter(|(state, _)| state.is_unfinished()).map(|(_, count)| *count).sum();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Takes up what a restart has found.
    pub(super) fn recover(&mut self, pending: Vec<Device>) {
        for fixture in 0..self.links.len() {
            self.is_away(fixture);
        }
        let serials: Vec<SerialNumber> = pending.iter().map(|it| it.serial.clone()).collect();
        for device in pending {
            let Some(rules) = self.rules.get(&device.rules).cloned() else {
                tracing::error!(serial = %device.serial, "the journal has lost this device's rules; it is left alone");
                continue;
            };
            let barrier = device.last_seq;
            self.works.insert(device.serial.clone(), Work::new(device, rules, barrier).recovered());
        }
        for serial in serials {
            self.reopen(&serial);
            self.progress(&serial);
        }
    }

    /// Does whatever can be done for a device now.
    pub(super) fn progress(&mut self, serial: &SerialNumber) {
        // Each round settles at least one step without a call (a shared policy that is there).
        for _ in 0..4 {
            let Some(work) = self.works.get(serial) else { return };
            let steps: Vec<Step> = plan::ready(&work.device, &work.rules)
                .into_iter()
                .filter(|step| !work.running.contains_key(step))
                .collect();
            let mut settled = false;
            for step in steps {
                settled |= self.begin(serial, step);
            }
            if !settled {
                break;
            }
        }
        let Some(work) = self.works.get(serial) else { return };
        if work.device.state.is_unfinished() && plan::is_complete(&work.device, &work.rules) {
            self.offer(serial);
        }
        self.destroy_keys(serial);
    }

    /// Starts a step. Whether it is done already, without a call.
    fn begin(&mut self, serial: &SerialNumber, step: Step) -> bool {
        if step == Step::Issue {
            self.issue(serial);
            return false;
        }
        if step == Step::Policy && self.is_shared(serial) {
            return self.begin_shared(serial);
        }
        self.call_first(serial, step);
        false
    }

    fn issue(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let limit = work.rules.max_certificates;
        if work.device.certificates_issued >= limit {
            let detail = format!("{serial} has used up its {limit} certificates");
            self.quarantine(serial, FailCode::Quarantined, &detail);
            return;
        }
        if work.rules.certificate.register == Register::Aws {
            self.make_csr(serial);
            return;
        }
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let key = match (work.rules.certificate.key, &work.device.device_key) {
            (KeyOrigin::Device, Some(key)) => LeafKey::Device(key.clone()),
            _ => LeafKey::Station,
        };
        let request =
            LeafRequest { common_name: subject.common_name(), days: work.rules.certificate.days, key };
        let (generation, after) = (work.device.generation, work.barrier);
        work.running.entry(Step::Issue).or_default();
        self.out.push(Action::Issue { serial: serial.clone(), generation, request, after });
    }

    pub(super) fn issued(
        &mut self,
        serial: &SerialNumber,
        generation: u32,
        result: Result<Certificate, String>,
    ) {
        let Some(work) = self.works.get_mut(serial) else { return };
        if work.device.generation != generation || !work.running.contains_key(&Step::Issue) {
            return;
        }
        match result {
            Ok(certificate) => {
                work.running.remove(&Step::Issue);
                if self.record(serial, Event::Issued { certificate }) {
                    self.wait_for_record(serial);
                    self.progress(serial);
                }
            }
            Err(message) => {
                tracing::error!(serial = %serial, message, "no certificate could be issued");
                self.try_later(serial, Step::Issue, &not_issued(message));
            }
        }
    }

    /// AWS is not called for a device before its newest record is on disk.
    pub(super) fn wait_for_record(&mut self, serial: &SerialNumber) {
        let seq = self.seq;
        if let Some(work) = self.works.get_mut(serial) {
            work.wait_for(seq);
        }
    }

    /// Sends a step's first request.
    pub(super) fn call_first(&mut self, serial: &SerialNumber, step: Step) {
        let Some(work) = self.works.get_mut(serial) else { return };
        match step {
            Step::Sweep => return self.sweep(serial),
            Step::Certificate if work.rules.certificate.register == Register::Aws => {
                return self.ask_for_certificate(serial);
            }
            Step::Locker if self.seeks_locker(serial) => return,
            _ => {}
        }
        let Some(work) = self.works.get_mut(serial) else { return };
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: &self.settings.ca_pem };
        let Some(call) = subject.call(step) else { return };
        let running = work.running.entry(step).or_default();
        running.attempt += 1;
        running.asks = 0;
        self.call(serial, step, call);
    }

    pub(super) fn call(&mut self, serial: &SerialNumber, step: Step, call: Call) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let (generation, after) = (work.device.generation, work.barrier);
        if let Some(running) = work.running.get_mut(&step) {
            running.call = Some(call.clone());
            self.out.push(Action::Call { serial: serial.clone(), step, generation, call, after });
        }
    }

    pub(super) fn called(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        generation: u32,
        result: &Result<Answer, CloudError>,
    ) {
        let Some(work) = self.works.get_mut(serial) else { return };
        if work.device.generation != generation {
            return;
        }
        let Some(call) = work.running.get_mut(&step).and_then(|it| it.call.take()) else { return };
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: &self.settings.ca_pem };
        let verdict = subject.judge(step, &call, result);
        self.note_health(call.operation(), result);
        if step == Step::Locker {
            self.note_locker(serial, result);
            if self.locker_described(serial, &call, result) {
                return;
            }
        }
        let request_id = match result {
            Ok(answer) => answer.request_id.clone(),
            Err(error) => error.request_id.clone(),
        };
        match (verdict, result) {
            (Verdict::Done { output, adopted }, _) => {
                self.step_done(serial, step, output, adopted, request_id);
            }
            (Verdict::Issued { certificate, adopted }, _) => {
                self.issued_by_aws(serial, *certificate, adopted);
            }
            (Verdict::InDoubt, Err(error)) => self.answer_lost(serial, error),
            (Verdict::InDoubt, Ok(_)) => self.answer_lost(serial, &not_an_answer(call.operation())),
            (Verdict::Ask(call), _) => self.ask(serial, step, call),
            (Verdict::Again, Err(error)) => {
                self.asked_in_vain(serial, &call);
                self.again_after(serial, step, error);
            }
            (Verdict::Later | Verdict::Again, _) => {
                self.again_after(serial, step, &not_visible(call.operation()));
            }
            (Verdict::Never { code, message }, _) => self.quarantine(serial, code, &message),
        }
    }

    pub(super) fn step_done(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        output: Output,
        adopted: bool,
        request_id: Option<String>,
    ) {
        if let Some(work) = self.works.get_mut(serial) {
            work.running.remove(&step);
        }
        if !self.record(serial, Event::StepDone { step, output, adopted, request_id }) {
            return;
        }
        if step == Step::Policy && self.is_shared(serial) {
            self.shared_ready(serial);
        }
        self.progress(serial);
        self.may_leave(serial);
    }

    fn ask(&mut self, serial: &SerialNumber, step: Step, call: Call) {
        let Some(running) = self.works.get_mut(serial).and_then(|it| it.running.get_mut(&step)) else {
            return;
        };
        running.asks += 1;
        if running.asks > MAX_ASKS {
            self.again_after(serial, step, &not_visible(call.operation()));
        } else {
            self.call(serial, step, call);
        }
    }

    /// A step that did not go through is tried again; what has vanished is made again first.
    fn again_after(&mut self, serial: &SerialNumber, step: Step, error: &CloudError) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&step) else { return };
        running.not_found = if error.kind == FailureKind::NotFound { running.not_found + 1 } else { 0 };
        let attaching = match step {
            Step::AttachPolicy => Some(Step::Policy),
            Step::AttachThing => Some(Step::Thing),
            _ => None,
        };
        let vanished = running.not_found >= NOT_VISIBLE_TRIES;
        if let (Some(made), true) = (attaching, vanished) {
            self.make_again(serial, step, made, error);
            return;
        }
        if vanished && step == Step::Activate {
            let detail = format!("AWS does not show the certificate that it has issued: {error}");
            self.quarantine(serial, FailCode::Rejected, &detail);
            return;
        }
        self.try_later(serial, step, error);
    }

    fn make_again(&mut self, serial: &SerialNumber, step: Step, made: Step, error: &CloudError) {
        let Some(work) = self.works.get_mut(serial) else { return };
        work.undone += 1;
        if work.undone > MAX_UNDONE {
            let detail = format!("AWS does not show what it was told to make: {error}");
            self.quarantine(serial, FailCode::Rejected, &detail);
            return;
        }
        work.running.remove(&step);
        if made == Step::Policy && self.is_shared(serial) {
            self.shared_lost(serial);
        }
        self.record(serial, Event::StepUndone { step: made });
        self.progress(serial);
    }

    pub(super) fn try_later(&mut self, serial: &SerialNumber, step: Step, error: &CloudError) {
        let random = self.random.f64();
        self.note_trouble(serial, step, error);
        let Some(work) = self.works.get(serial) else { return };
        let generation = work.device.generation;
        let Some(running) = work.running.get(&step) else { return };
        let wait = retry::delay(error, running.attempt.max(1), random);
        self.later(wait, Timer::Retry(serial.clone(), step, generation));
    }

    /// Keeps what a step has met.
    pub(super) fn note_trouble(&mut self, serial: &SerialNumber, step: Step, error: &CloudError) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&step) else { return };
        // What the CA says is no operation's of AWS.
        let text = if step == Step::Issue { error.message.clone() } else { error.to_string() };
        running.last = Some((error.kind, text.clone()));
        let attempt = running.attempt.max(1);
        // Being throttled is ordinary; of the rest the first few and then ever fewer are kept.
        if error.kind != FailureKind::Throttled && (attempt <= 3 || attempt.is_power_of_two()) {
            let message: String = text.chars().take(300).collect();
            let request_id = error.request_id.clone();
            self.record(serial, Event::Trouble { step, message, attempt, request_id });
        }
    }

    pub(super) fn retry_due(&mut self, serial: &SerialNumber, step: Step, generation: u32) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let waits = work.running.get(&step).is_some_and(|it| it.call.is_none() && !it.seeking);
        if work.device.generation != generation || !waits {
            return;
        }
        if step == Step::Issue {
            if let Some(running) = work.running.get_mut(&step) {
                running.attempt += 1;
            }
            self.issue(serial);
        } else {
            self.call_first(serial, step);
        }
    }

    /// After a restart: the presentation is open still if its fixture is the same and was not reset.
    fn reopen(&mut self, serial: &SerialNumber) {
        let Some(device) = self.works.get(serial).map(|it| &it.device).filter(|it| it.is_open()) else {
            return;
        };
        let presentation = device.presentation.clone();
        let key = presentation.key.clone();
        let place =
            self.links.iter().position(|it| it.settings.name == key.fixture && it.boot == Some(key.boot));
        match place {
            Some(fixture) => {
                // Where `offered` is on disk, `ack` went out long before. Else the fixture may not have
                // heard it: it says `unit` again, and is answered in order.
                let acked = device.state == State::Delivering && device.last_seq > presentation.seq;
                self.open(fixture, key.id, serial.clone(), presentation.nest);
                if let Some(open) = self.links[fixture].open.get_mut(&key.id) {
                    open.acked = acked;
                }
            }
            None => {
                let why = CloseReason::FixtureAway;
                self.record(serial, Event::Closed { presentation: key, why });
            }
        }
    }
}
