//! The work on a device: its steps are started when they are ready, and tried again when they
//! did not go through.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::health::{not_an_answer, not_visible};
use super::keys::Destruction;
use super::running::Running;
use super::waits::{Asked, For, Waits};
use super::{Action, Line, Product, Timer};
use crate::cloud::{Answer, Call, CloudError, FailureKind, Nest, Urgency};
use crate::device::event::{Event, Output};
use crate::device::retry::{self, NOT_VISIBLE_TRIES};
use crate::device::rules::{LockerRule, PolicyRule, ProductRules, Register};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject, Verdict};
use crate::device::{Device, IllegalTransition, State, plan};
use crate::fixture::FailCode;
use crate::journal::is_pending;
use crate::pki::Fingerprint;

/// Look-ups in a row for one step before it is left alone for a while.
const MAX_ASKS: u32 = 8;

/// Tries, up to a minute apart and then longer, after which what refuses a deletion is no detaching that is slow to take effect.
const TRIES_BEFORE_LEFT: u32 = 4;

/// How often what has vanished is made again before a person has to look.
const MAX_UNDONE: u32 = 2;

/// A device that is worked on.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) device: Device,
    pub(super) rules: Arc<ProductRules>,
    /// Whether it is in a nest, for its calls that wait.
    nest: Nest,
    /// Steps that are under way or wait for their next try.
    pub(super) running: BTreeMap<Step, Running>,
    /// What must be on disk before AWS is called.
    barrier: u64,
    /// It is in the queue of those that wait to be begun.
    pub(super) waits_to_start: bool,
    /// An earlier process has worked on its present generation.
    pub(super) recovered: bool,
    /// Since when it has been open whether its locker was made, monotonic.
    pub(super) locker_unsure: Option<Duration>,
    /// Keys whose destruction is under way, or waits for its next try.
    pub(super) destroying: HashMap<Fingerprint, Destruction>,
    /// What it has waited for since it was presented.
    pub(super) waits: Waits,
    undone: u32,
}

impl Work {
    pub(super) fn new(device: Device, rules: Arc<ProductRules>, barrier: u64) -> Self {
        let nest = Nest::default();
        nest.set(device.is_open());
        Self {
            device,
            rules,
            nest,
            running: BTreeMap::new(),
            barrier,
            waits_to_start: false,
            recovered: false,
            locker_unsure: None,
            destroying: HashMap::new(),
            waits: Waits::default(),
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

    /// Whether no key of it is being destroyed.
    pub(super) fn is_settled(&self) -> bool {
        self.destroying.values().all(|it| !it.asked)
    }

    /// How urgent its calls are: a nest that waits goes before the backlog, and what AWS holds a part
    /// of already before what it knows nothing of.
    fn urgency(&self) -> Urgency {
        Urgency::of_device(self.is_under_way(), self.nest.clone())
    }

    /// Takes in what has happened to it. A call of it that waits goes to the backlog when its nest is left, and before
    /// that when it comes into a nest again.
    ///
    /// # Errors
    /// That cannot follow.
    pub(super) fn apply(&mut self, seq: u64, at: Timestamp, event: &Event) -> Result<(), IllegalTransition> {
        self.device.apply(seq, at, event)?;
        self.nest.set(self.device.is_open());
        Ok(())
    }

    /// Whether AWS holds a part of it that was waited for. A thing is made at once, at ten times the rate of the
    /// rest: were it enough, a device's calls would be of two classes, by the moment at which each came to be
    /// wanted, and each queue would serve the same devices in another order.
    fn is_under_way(&self) -> bool {
        if self.owns() == (false, false) { self.has_begun() } else { self.has_slow_part() }
    }

    /// Whether AWS holds a part of it. What it shares with others is none of its own.
    pub(super) fn has_begun(&self) -> bool {
        self.has_slow_part() || self.device.done.managed_thing.is_some() || self.device.done.thing
    }

    /// Whether it gets a locker and a policy of its own.
    fn owns(&self) -> (bool, bool) {
        let locker = matches!(self.rules.locker, LockerRule::Device { .. });
        (locker, matches!(self.rules.policy, PolicyRule::Device { .. }))
    }

    fn has_slow_part(&self) -> bool {
        let ((own_locker, own_policy), done) = (self.owns(), &self.device.done);
        done.locker.is_some() && own_locker || done.policy && own_policy
    }

    /// The rules that its product has now.
    pub(super) fn rules_now<'a>(&'a self, products: &'a BTreeMap<String, Product>) -> &'a Arc<ProductRules> {
        products.get(&self.device.product).map_or(&self.rules, |it| &it.rules)
    }

    /// Whether somebody has been asked for it and has not answered.
    pub(super) fn is_calling(&self) -> bool {
        self.running.values().any(Running::is_out)
    }

    /// Lets go of steps that wait for their next try. What has been asked for is answered yet, and
    /// then known.
    pub(super) fn keep_calls_only(&mut self) {
        self.running.retain(|_, it| it.is_out());
    }

    /// AWS is not called for it before `seq` is on disk.
    pub(super) fn wait_for(&mut self, seq: u64) {
        self.barrier = seq;
    }

    /// Whether a step that was begun earlier still belongs to what is to be done.
    pub(super) fn still_wants(&self, step: Step) -> bool {
        match self.device.state {
            _ if step.retires() => plan::ready(&self.device, &self.rules).contains(&step),
            _ if self.device.mend.as_ref().is_some_and(|it| it.steps.contains(&step)) => true,
            State::Quarantined => {
                matches!(step, Step::Principals | Step::Sweep) && self.device.is_scrapping()
            }
            // Found again when the device is presented again: nothing is recorded but that it was asked for.
            _ if step == Step::Certificate && self.rules.certificate.register == Register::Aws => {
                self.device.state.is_unfinished()
            }
            _ => true,
        }
    }

    /// How many certificates it may use up.
    pub(super) fn max_certificates(&self) -> u32 {
        self.rules.max_certificates.saturating_add(self.device.allowance)
    }

    /// Whether what was asked of the CA, for that generation, is answered now.
    pub(super) fn takes_issued(&mut self, generation: u32) -> bool {
        let running = self.running.get_mut(&Step::Issue).filter(|_| self.device.generation == generation);
        running.is_some_and(|it| std::mem::take(&mut it.issuing)) && self.device.state.is_unfinished()
    }

    /// Goes on with new rules.
    pub(super) fn begin_anew(&mut self, rules: Arc<ProductRules>, seq: u64) {
        self.rules = rules;
        self.running.clear();
        self.wait_for(seq);
        self.undone = 0;
    }

    /// Starts over with new rules.
    pub(super) fn begin_generation(&mut self, rules: Arc<ProductRules>, seq: u64) {
        self.begin_anew(rules, seq);
        self.recovered = false;
        self.locker_unsure = None;
    }
}

impl Line {
    /// Does whatever can be done for a device now.
    pub(super) fn progress(&mut self, serial: &SerialNumber) {
        if self.has_certificate_of_another_ca(serial) {
            // Above it would stand the wrong chain, and AWS might not take it.
            tracing::warn!(serial = %serial, "another CA has issued its certificate; a new one is issued");
            self.replace_certificate(serial);
        }
        // Each round settles at least one step without a call (a shared policy that is there).
        for _ in 0..4 {
            let Some(work) = self.works.get(serial) else { return };
            if work.device.is_scrapping() && !work.running.is_empty() {
                // One after the other, and not before what was asked for earlier is answered.
                break;
            }
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
        // Who is scrapped gets no label any more.
        self.scrapped_if_cleared(serial);
        self.label(serial);
    }

    /// Starts a step. Whether it is done already, without a call.
    fn begin(&mut self, serial: &SerialNumber, step: Step) -> bool {
        if step == Step::Issue {
            self.issue(serial);
            return false;
        }
        if self.must_wait_to_start(serial, step) {
            return false;
        }
        if step == Step::Connect {
            self.connect(serial);
            return false;
        }
        if self.is_shared(serial, step) {
            return self.begin_shared(serial, step);
        }
        if self.is_nothing(serial, step) {
            let (output, adopted, request_id) = (Output::Nothing, false, None);
            return self.record(serial, Event::StepDone { step, output, adopted, request_id });
        }
        if step == Step::ManagedThing {
            // It names the locker: at scrap nobody would look for one in a locker that is not on record.
            self.calls_wait(serial);
        }
        self.call_first(serial, step);
        false
    }

    fn is_nothing(&self, serial: &SerialNumber, step: Step) -> bool {
        let Some(work) = self.works.get(serial) else { return false };
        let locker = work.device.done.locker.as_ref().filter(|_| step == Step::DeleteLocker);
        // A batch's locker is the others', whatever the device's rules say now.
        locker.is_some_and(|it| self.is_a_batchs_locker(it))
            || Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.is_nothing(step)
    }

    pub(super) fn forget_step(&mut self, serial: &SerialNumber, step: Step) {
        if let Some(work) = self.works.get_mut(serial) {
            work.running.remove(&step);
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
            Step::Locker | Step::DeleteLocker if self.seeks_locker(serial, step) => return,
            _ => {}
        }
        let Some(work) = self.works.get(serial) else { return };
        let ca_pem = self.ca_of(&work.device).0;
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem };
        let Some(call) = subject.call(step) else { return };
        let Some(work) = self.works.get_mut(serial) else { return };
        let running = work.running.entry(step).or_default();
        running.attempt += 1;
        running.asks = 0;
        running.once_more = false;
        self.call(serial, step, call);
    }

    /// Sends a request, or holds it back while none of its kind goes through.
    pub(super) fn call(&mut self, serial: &SerialNumber, step: Step, call: Call) {
        let Some(work) = self.works.get(serial) else { return };
        let generation = work.device.generation;
        if self.breakers.admit(call.operation(), self.now.mono) {
            self.send(serial, step, call);
        } else {
            self.park(serial, step, generation, call);
        }
    }

    /// Sends the request that was held back.
    pub(super) fn send_parked(&mut self, serial: &SerialNumber, step: Step) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&step) else { return };
        if let Some(call) = running.parked.take() {
            work.waits.note((running.parked_at, self.now.mono), For::Cloud, self.now.mono);
            self.send(serial, step, call);
        }
    }

    fn send(&mut self, serial: &SerialNumber, step: Step, call: Call) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let (generation, after, urgency) = (work.device.generation, work.barrier, work.urgency());
        self.starts.note(serial, work);
        if let Some(running) = work.running.get_mut(&step) {
            running.call = Some(call.clone());
            running.asked = Some(Asked { at: self.now.mono, after });
            self.out.push(Action::Call { serial: serial.clone(), step, generation, urgency, call, after });
        }
    }

    pub(super) fn called(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        generation: u32,
        (result, waited): (&Result<Answer, CloudError>, Duration),
    ) {
        let Some(work) = self.works.get_mut(serial) else { return };
        if work.device.generation != generation {
            return;
        }
        let Some(call) = work.running.get_mut(&step).and_then(|it| it.call.take()) else { return };
        self.note_answer((serial, step), call.operation(), (result, waited));
        if step == Step::Principals {
            if let Some(whole) = self.gathered(serial, &call, result) {
                self.answered(serial, step, &call, &whole);
            }
        } else {
            let of_another = self.of_another_ca(&call, result);
            self.answered(serial, step, &call, of_another.as_ref().unwrap_or(result));
        }
    }

    /// What an answer to `call` means for its step.
    fn answered(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) {
        let Some(work) = self.works.get(serial) else { return };
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let verdict = subject.judge(step, call, result);
        let wanted = work.still_wants(step);
        self.note_health(call.operation(), result);
        if matches!(step, Step::Locker | Step::DeleteLocker) {
            self.note_locker(serial, step, call, result);
            if wanted && self.locker_described(serial, step, call, result) {
                return;
            }
        }
        let request_id = match result {
            Ok(answer) => answer.request_id.clone(),
            Err(error) => error.request_id.clone(),
        };
        match (verdict, result) {
            (verdict, _) if !wanted => self.unwanted(serial, step, verdict, request_id),
            (Verdict::Done { output, adopted }, _) => {
                self.step_done(serial, step, output, adopted, request_id);
            }
            (Verdict::Issued { certificate, adopted }, _) => {
                self.issued_by_aws(serial, *certificate, adopted);
            }
            (Verdict::InDoubt, Err(error)) => self.answer_lost(serial, error),
            (Verdict::InDoubt, Ok(_)) => self.answer_lost(serial, &not_an_answer(call.operation())),
            (Verdict::Ask(call), _) => self.ask(serial, step, call),
            (Verdict::OnceMore(call), Err(error)) => self.once_more(serial, step, call, error),
            (Verdict::Again, Err(error)) => {
                self.asked_in_vain(serial, call);
                self.again_after(serial, step, error);
            }
            (Verdict::Later | Verdict::Again | Verdict::OnceMore(_), _) => {
                self.again_after(serial, step, &not_visible(call.operation()));
            }
            (Verdict::Never { message, .. }, _) if self.is_mending(serial, step) => {
                self.mend_failed(serial, step, &message);
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
        self.forget_step(serial, step);
        if !self.record(serial, Event::StepDone { step, output, adopted, request_id }) {
            return;
        }
        if self.is_shared(serial, step) {
            self.shared_ready(serial, step);
        }
        if step == Step::Principals {
            // Nothing is taken away of which no record says why.
            self.calls_wait(serial);
        }
        self.progress(serial);
        self.may_leave(serial);
    }

    /// The answer to a call that was out when its device was put aside. What it has made is noted, so
    /// that it is known when the device is released or scrapped.
    pub(super) fn unwanted(
        &mut self,
        serial: &SerialNumber,
        step: Step,
        verdict: Verdict,
        request_id: Option<String>,
    ) {
        self.forget_step(serial, step);
        let scrapping = self.works.get(serial).is_some_and(|it| it.device.is_scrapping());
        match verdict {
            Verdict::Done { output, adopted } if !step.retires() => {
                self.record(serial, Event::StepDone { step, output, adopted, request_id });
            }
            Verdict::Issued { certificate, .. } if scrapping => self.issued_too_late(serial, &certificate),
            Verdict::InDoubt if scrapping => {
                self.record(serial, Event::CertificateInDoubt);
            }
            _ if scrapping && step == Step::Certificate => self.nothing_was_issued(serial),
            _ => {}
        }
        self.progress(serial);
        self.may_leave(serial);
    }

    /// AWS is not called for a device before all that is decided about it is on disk.
    pub(super) fn calls_wait(&mut self, serial: &SerialNumber) {
        if let Some(work) = self.works.get_mut(serial) {
            work.wait_for(self.seq);
        }
    }

    /// Takes away once more what hangs on what cannot be deleted, unless this try has done so.
    fn once_more(&mut self, serial: &SerialNumber, step: Step, call: Call, error: &CloudError) {
        let running = self.works.get_mut(serial).and_then(|it| it.running.get_mut(&step));
        if running.is_some_and(|it| !std::mem::replace(&mut it.once_more, true)) {
            tracing::info!(%serial, %step, %error, "something hangs on it still; it is detached once more");
            self.ask(serial, step, call);
        } else if self.is_kept_by_its_template(serial, step, error) {
            self.step_done(serial, step, Output::Left, false, None);
        } else {
            self.again_after(serial, step, error);
        }
    }

    /// Whether what is refused is a certificate that its first connection has provisioned: its template may have attached
    /// more to it than the device's own thing and policy, which are off it by now. It is deactivated. Detaching takes
    /// effect late, so that the first refusals say nothing; and what this station has registered, under rules of before, is known
    /// by its ARN and was given nothing by a template.
    fn is_kept_by_its_template(&self, serial: &SerialNumber, step: Step, error: &CloudError) -> bool {
        let provisioned = |it: &Work| {
            it.rules.certificate.register == Register::Jitp
                && it.device.to_retire().is_some_and(|old| old.arn.is_none())
                && it.running.get(&step).is_some_and(|running| running.attempt >= TRIES_BEFORE_LEFT)
        };
        step == Step::DeleteCertificate
            && error.kind == FailureKind::Conflict
            && self.works.get(serial).is_some_and(provisioned)
    }

    fn ask(&mut self, serial: &SerialNumber, step: Step, call: Call) {
        let Some(work) = self.works.get_mut(serial) else { return };
        // As many calls as each certificate takes to be taken apart.
        let most_lingering = u32::try_from(4 * work.device.superseded.len()).unwrap_or(u32::MAX / 2);
        let Some(running) = work.running.get_mut(&step) else { return };
        running.asks += 1;
        if running.asks > MAX_ASKS + if running.once_more { most_lingering } else { 0 } {
            self.again_after(serial, step, &not_visible(call.operation()));
        } else {
            self.call(serial, step, call);
        }
    }

    /// A step that did not go through is tried again; what has vanished is made again first.
    pub(super) fn again_after(&mut self, serial: &SerialNumber, step: Step, error: &CloudError) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&step) else { return };
        running.not_found = if error.kind == FailureKind::NotFound { running.not_found + 1 } else { 0 };
        let attaching = match step {
            Step::AttachPolicy => Some(Step::Policy),
            Step::AttachThing => Some(Step::Thing),
            _ => None,
        };
        let vanished = running.not_found >= NOT_VISIBLE_TRIES;
        if vanished && self.is_mending(serial, step) {
            self.mend_failed(serial, step, &error.to_string());
            return;
        }
        if let (Some(made), true) = (attaching, vanished) {
            self.make_again(serial, step, made, error);
            return;
        }
        if vanished && self.unproved(serial, step, error) {
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
        if made == Step::Policy && self.is_shared(serial, made) {
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
        self.note_pause(serial, error.kind, wait);
        match error.kind {
            // Held back until one of its kind goes through: trying each for itself would be a storm.
            FailureKind::Stop(_) if step != Step::Issue => self.call_first(serial, step),
            FailureKind::Unreachable | FailureKind::Unknown if step != Step::Issue => {
                let budget = self.budgets.entry(error.operation.service()).or_default();
                let wait = wait.max(budget.spend(self.now.mono));
                self.later(wait, Timer::Retry(serial.clone(), step, generation));
            }
            _ => self.later(wait, Timer::Retry(serial.clone(), step, generation)),
        }
    }

    /// Keeps what a step has met.
    pub(super) fn note_trouble(&mut self, serial: &SerialNumber, step: Step, error: &CloudError) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&step) else { return };
        // What the CA or a server says is no operation's of AWS.
        let text = if matches!(step, Step::Issue | Step::Connect) {
            error.message.clone()
        } else {
            error.to_string()
        };
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
        let Some(work) = self.works.get(serial) else { return };
        let waits = work
            .running
            .get(&step)
            .is_some_and(|it| !it.is_out() && it.parked.is_none() && it.seeking.is_none());
        if work.device.generation != generation || !waits || self.put_off(serial, step) {
            return;
        }
        if step == Step::Issue {
            if let Some(running) = self.works.get_mut(serial).and_then(|it| it.running.get_mut(&step)) {
                running.attempt += 1;
            }
            self.issue(serial);
        } else if step == Step::Connect {
            self.connect(serial);
        } else {
            self.call_first(serial, step);
        }
    }
}
