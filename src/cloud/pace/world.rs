//! A world of its own time: it passes when everything in it waits, at once, and a timer wakes
//! as late as it is told. For simulations and tests of whatever waits by [`Sleep`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use jiff::Timestamp;

use super::lane::Sleep;
use crate::clock::{Now, TimeSource};

/// A world, cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.state().now).finish_non_exhaustive()
    }
}

struct State {
    now: Duration,
    /// By the instant of waking, and a number that tells sleepers of one instant apart.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
    /// Microseconds, taken in turn.
    lateness: Vec<u64>,
}

impl World {
    /// Timers wake on the dot.
    #[must_use]
    pub fn punctual() -> Self {
        Self::late_by(vec![0])
    }

    /// Timers wake late by so many microseconds, one figure after the other.
    #[must_use]
    pub fn late_by(lateness: Vec<u64>) -> Self {
        let state = State { now: Duration::ZERO, sleepers: BTreeMap::new(), next: 0, lateness };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Runs `future` to its end; none if it waits for something that cannot come.
    pub fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        loop {
            while flag.0.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Some(output);
                }
            }
            if !self.pass() {
                return None;
            }
        }
    }

    /// Moves on to the next waking. Whether there is one.
    fn pass(&self) -> bool {
        let mut state = self.state();
        let Some(((at, _), waker)) = state.sleepers.pop_first() else { return false };
        state.now = state.now.max(at);
        drop(state);
        waker.wake();
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl TimeSource for World {
    fn now(&self) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, mono: self.state().now }
    }
}

impl Sleep for World {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let late = match state.lateness.len() {
            0 => 0,
            all => state.lateness[(number % all as u64) as usize],
        };
        let at = state.now + time + Duration::from_micros(late);
        Box::pin(Asleep { world: self.clone(), key: (at, number) })
    }
}

/// A sleeper, gone from the world when it is dropped.
struct Asleep {
    world: World,
    key: (Duration, u64),
}

impl Future for Asleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.state();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        self.world.state().sleepers.remove(&self.key);
    }
}
