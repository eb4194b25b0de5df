//! The check as a state machine: bytes and times in, bytes out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zeroize::Zeroizing;

use super::desk::Desk;
use super::paper::{Paper, PaperError};
use super::rules::RULES;
use super::{CheckOptions, Finding, Report, Verdict, probes, units};
use crate::fixture::frame::{Decoded, StationDecoder};

/// A check of one fixture, from its `hello` to the report. Times are since any fixed instant.
pub struct Conformance {
    desk: Desk,
    decoder: StationDecoder,
    plan: Pin<Box<dyn Future<Output = ()>>>,
    is_done: bool,
}

impl fmt::Debug for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance").field("is_done", &self.is_done).finish_non_exhaustive()
    }
}

impl Conformance {
    /// A check that has not begun; [`on_time`](Self::on_time) begins it.
    ///
    /// # Errors
    /// The test CA cannot be made.
    pub fn new(options: CheckOptions) -> Result<Self, PaperError> {
        let paper = Paper::new()?;
        let desk = Desk::new(options);
        let plan = Box::pin(plan(desk.clone(), paper));
        Ok(Self { desk, decoder: StationDecoder::new(), plan, is_done: false })
    }

    /// Takes what came from the fixture.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Duration) {
        self.decoder.push(bytes);
        for decoded in self.decoder.by_ref() {
            match decoded {
                Decoded::Message(message) => self.desk.take_in(now, message),
                Decoded::Echo => self.desk.state().watch.hear_echo(),
                Decoded::Bad { reason, sample, .. } => {
                    self.desk.state().watch.hear_bad(reason, &sample.to_string())
                }
            }
        }
        self.on_time(now);
    }

    /// Goes on. To be called at [`wake_at`](Self::wake_at), and once to begin.
    pub fn on_time(&mut self, now: Duration) {
        self.desk.state().now = now;
        if self.is_done {
            return;
        }
        // The plan waits for nothing but the desk, and is polled after each change of that.
        let mut context = Context::from_waker(Waker::noop());
        if self.plan.as_mut().poll(&mut context) == Poll::Ready(()) {
            self.is_done = true;
        }
    }

    /// Bytes for the fixture. To be asked until there is none, and answered by
    /// [`flushed`](Self::flushed) when they have left.
    pub fn output(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let mut state = self.desk.state();
        let bytes = state.outbox.pop_front()?;
        state.is_sending = true;
        Some(bytes)
    }

    /// The last byte of what [`output`](Self::output) gave has left.
    pub fn flushed(&mut self, now: Duration) {
        self.desk.state().is_sending = false;
        self.on_time(now);
    }

    /// When it goes on by itself.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.desk.state().wake_at
    }

    /// Whether the report is whole.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// What to tell whoever looks on: what is being tried, and what they have to do.
    #[must_use]
    pub fn next_note(&mut self) -> Option<String> {
        self.desk.state().notes.pop_front()
    }

    /// What was seen so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut state = self.desk.state();
        state.watch.conclude();
        let checks = RULES.iter().map(|rule| {
            let (status, seen) = match state.watch.findings.of(rule) {
                Some((status, seen)) => (*status, seen.clone()),
                None => (Verdict::Skipped, "the check did not come so far".to_owned()),
            };
            Finding { id: rule.id, status, seen, demand: rule.demand }
        });
        let checks = checks.collect();
        let hello = state.watch.hello.clone();
        let (fixture, firmware, boot) = hello.map_or((None, None, None), |it| (Some(it.0), it.1, Some(it.2)));
        Report { fixture, firmware, boot, checks }
    }
}

/// The whole conversation.
async fn plan(desk: Desk, paper: Paper) {
    if !probes::greet(&desk).await {
        return;
    }
    probes::reading(&desk).await;
    units::all(&desk, &paper).await;
    probes::reset(&desk).await;
}
