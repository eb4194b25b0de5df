//! Where the plan says things and hears them: a mailbox, a clock that is told the time, and the report.
//!
//! The plan is a future that waits for nothing but what is put here, so that it needs no runtime; whoever
//! owns it polls it after each change.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use zeroize::Zeroizing;

use super::rules::Rule;
use super::watch::Watch;
use super::{CheckOptions, Verdict};
use crate::fixture::frame::encode_station;
use crate::fixture::{FixtureMessage, StationMessage};

/// Messages kept until the plan looks at them; [`Watch`] has seen all.
const MAX_INBOX: usize = 4_096;

/// An answer may always take so long, however short the period: the fixture's program may be busy.
const SHORTEST_ANSWER: Duration = Duration::from_secs(1);

/// What was found of each rule so far. What has failed stays so.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<&'static str, (Verdict, String)>);

impl Findings {
    pub(super) fn ok(&mut self, rule: &Rule, seen: impl Into<String>) {
        self.note(rule, Verdict::Ok, seen.into());
    }

    pub(super) fn failed(&mut self, rule: &Rule, seen: impl Into<String>) {
        self.note(rule, Verdict::Failed, seen.into());
    }

    pub(super) fn skipped(&mut self, rule: &Rule, why: impl Into<String>) {
        self.note(rule, Verdict::Skipped, why.into());
    }

    pub(super) fn of(&self, rule: &Rule) -> Option<&(Verdict, String)> {
        self.0.get(rule.id)
    }

    pub(super) fn has_failed(&self, rule: &Rule) -> bool {
        self.of(rule).is_some_and(|it| it.0 == Verdict::Failed)
    }

    fn note(&mut self, rule: &Rule, verdict: Verdict, seen: String) {
        let weight = |it: Verdict| match it {
            Verdict::Skipped => 0,
            Verdict::Ok => 1,
            Verdict::Failed => 2,
        };
        let entry = self.0.entry(rule.id).or_insert_with(|| (verdict, seen.clone()));
        if weight(verdict) > weight(entry.0) {
            *entry = (verdict, seen);
        }
    }
}

/// A message of the fixture and when its last byte came.
pub(super) type Heard = (Duration, FixtureMessage);

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Duration,
    pub(super) inbox: VecDeque<Heard>,
    pub(super) outbox: VecDeque<Zeroizing<Vec<u8>>>,
    /// What was taken out of the outbox has not left yet.
    pub(super) is_sending: bool,
    /// When the plan wants to be polled at the latest.
    pub(super) wake_at: Option<Duration>,
    pub(super) watch: Watch,
    /// What to tell whoever is looking on.
    pub(super) notes: VecDeque<String>,
}

/// The plan's side. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    state: Rc<RefCell<State>>,
    pub(super) options: Rc<CheckOptions>,
}

impl Desk {
    pub(super) fn new(options: CheckOptions) -> Self {
        let options = Rc::new(options);
        let state = State {
            now: Duration::ZERO,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            is_sending: false,
            wake_at: None,
            watch: Watch::new(Rc::clone(&options)),
            notes: VecDeque::new(),
        };
        Self { state: Rc::new(RefCell::new(state)), options }
    }

    /// Never held across an `await`.
    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    pub(super) fn now(&self) -> Duration {
        self.state().now
    }

    /// So many of the fixture's periods.
    pub(super) fn periods(&self, count: f64) -> Duration {
        self.options.resend.mul_f64(count)
    }

    /// How long an answer may take.
    pub(super) fn answer_time(&self) -> Duration {
        self.periods(2.0).max(SHORTEST_ANSWER)
    }

    /// Tells whoever looks on.
    pub(super) fn tell(&self, text: impl Into<String>) {
        self.state().notes.push_back(text.into());
    }

    pub(super) fn ok(&self, rule: &Rule, seen: impl Into<String>) {
        self.state().watch.findings.ok(rule, seen);
    }

    pub(super) fn failed(&self, rule: &Rule, seen: impl Into<String>) {
        self.state().watch.findings.failed(rule, seen);
    }

    pub(super) fn skipped(&self, rule: &Rule, why: impl Into<String>) {
        self.state().watch.findings.skipped(rule, why);
    }

    /// [`ok`](Self::ok) or [`failed`](Self::failed).
    pub(super) fn judge(&self, rule: &Rule, good: bool, seen: impl Into<String>) {
        if good { self.ok(rule, seen) } else { self.failed(rule, seen) }
    }

    pub(super) fn take_in(&self, at: Duration, message: FixtureMessage) {
        let mut state = self.state();
        state.now = at;
        state.watch.hear(at, &message);
        if state.inbox.len() < MAX_INBOX {
            state.inbox.push_back((at, message));
        }
    }

    /// Says it, and waits until its last byte has left. When that was.
    pub(super) async fn say(&self, message: &StationMessage) -> Duration {
        let now = self.now();
        self.state().watch.said(now, message);
        // None of the checker's messages is near the length of a frame.
        let frame = encode_station(message).unwrap_or_default();
        self.send(frame).await
    }

    /// Sends bytes as they are.
    pub(super) async fn raw(&self, bytes: Vec<u8>) -> Duration {
        self.send(Zeroizing::new(bytes)).await
    }

    async fn send(&self, bytes: Zeroizing<Vec<u8>>) -> Duration {
        self.state().outbox.push_back(bytes);
        poll_fn(|_| {
            let state = self.state();
            let is_gone = state.outbox.is_empty() && !state.is_sending;
            if is_gone { Poll::Ready(state.now) } else { Poll::Pending }
        })
        .await
    }

    /// The next message that has not been looked at; none if there is none until then.
    pub(super) async fn hear(&self, until: Duration) -> Option<Heard> {
        poll_fn(|_| {
            let mut state = self.state();
            if let Some(heard) = state.inbox.pop_front() {
                state.wake_at = None;
                return Poll::Ready(Some(heard));
            }
            if state.now >= until {
                state.wake_at = None;
                return Poll::Ready(None);
            }
            state.wake_at = Some(until);
            Poll::Pending
        })
        .await
    }

    /// The next message of which this holds; what comes before it is passed over.
    pub(super) async fn first(
        &self,
        until: Duration,
        wanted: impl Fn(&FixtureMessage) -> bool,
    ) -> Option<Heard> {
        while let Some(heard) = self.hear(until).await {
            if wanted(&heard.1) {
                return Some(heard);
            }
        }
        None
    }

    /// Lets time pass. What comes meanwhile is passed over.
    pub(super) async fn pause(&self, span: Duration) {
        let until = self.now() + span;
        while self.hear(until).await.is_some() {}
    }

    /// Forgets what has come: what follows is about what is said next.
    pub(super) fn clear(&self) {
        self.state().inbox.clear();
    }
}
