//! What is known of one limit that nobody tells: how fast calls may go now.
//!
//! There are two cases, and the configuration tells them apart. Where it names no ceiling, all that the
//! limit allows is for this station, and the limit is looked for: `search.rs`. Where
//! it names one and calls are throttled below it, others take a part, and the station creeps up and
//! yields, as everybody does: `creep.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use super::creep::Creep;
use super::search::Search;

/// No rate is learned below this, calls a second: a limit of zero would never be found to be gone.
pub const FLOOR: f64 = 0.05;

/// Calls that are remembered: a second's worth of most limits.
pub(super) const REMEMBERED: usize = 256;

/// Where no ceiling is configured, and too little went through to tell, what is thought to have been
/// too fast.
const BEGINNING: f64 = 60.0;

/// What a throttled call at a configured ceiling says for it that less is left, and what a call that went
/// through says against it: the logarithms of how much likelier each is where a fifth is refused than
/// where a twentieth is, for whatever reason.
const DOUBT: f64 = 1.39;
const TRUST: f64 = 0.17;

/// So much doubt, and the rate is lowered: three throttled calls in a row, or one of five for a while.
const CERTAIN: f64 = 4.0;

/// What a throttled call has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the call had been sent before the last decrease.
    Late,
    /// Nothing yet: one throttled call may be anything.
    Noted,
    /// A first decrease: an episode begins.
    Begun,
    /// A further one, in the same fall of the limit.
    Deepened,
}

/// One limit, as far as it is known. Times are monotonic.
#[derive(Debug, Clone)]
pub struct Learner {
    ceiling: Option<f64>,
    learned: Option<Learned>,
    /// When the latest calls were sent that went through.
    passed: VecDeque<Duration>,
    random: fastrand::Rng,
    /// How likely it is that less than the ceiling is left, while nothing is learned; as a logarithm.
    doubt: f64,
}

#[derive(Debug, Clone)]
enum Learned {
    Search(Box<Search>),
    Creep(Creep),
}

impl Learner {
    /// Nothing is known but the ceiling, if there is one, calls a second.
    #[must_use]
    pub fn new(ceiling: Option<f64>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { ceiling, learned: None, passed: VecDeque::new(), random, doubt: 0.0 }
    }

    /// Calls a second that may be made now; none: as many as come.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        match &self.learned {
            None => self.ceiling,
            Some(Learned::Search(it)) => Some(it.rate()),
            Some(Learned::Creep(it)) => Some(it.rate()),
        }
    }

    /// No call is to be made before this.
    #[must_use]
    pub fn hold(&self) -> Duration {
        match &self.learned {
            Some(Learned::Search(it)) => it.hold(),
            Some(Learned::Creep(_)) | None => Duration::ZERO,
        }
    }

    /// The configured rate.
    #[must_use]
    pub fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// Another rate is configured: nothing but that is known of it.
    pub fn set_ceiling(&mut self, ceiling: Option<f64>) {
        self.ceiling = ceiling;
        self.forget();
    }

    /// What was learned was not this limit's doing.
    pub fn forget(&mut self) {
        self.doubt = 0.0;
        self.learned = None;
    }

    /// Whether it allows less than its ceiling.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.learned.is_some()
    }

    /// Whether others take a part of it, so that everybody's distances ought to differ.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.learned, Some(Learned::Creep(_)))
    }

    /// A call is sent.
    pub fn sent(&mut self, now: Duration) {
        if let Some(Learned::Search(it)) = &mut self.learned {
            it.sent(now);
        }
    }

    /// What became of a call sent at `sent`, of an operation that is `far` below its ceiling or not.
    pub fn sample(&mut self, far: bool, sent: Duration, refused: bool) {
        if let Some(Learned::Search(it)) = &mut self.learned {
            it.sample(far, sent, refused);
        }
    }

    /// Calls of a lull, and how many of them were refused whatever the rate, when that has just been found.
    pub fn noise_found(&mut self) -> Option<(f64, f64)> {
        match &mut self.learned {
            Some(Learned::Search(it)) => it.noise_found(),
            Some(Learned::Creep(_)) | None => None,
        }
    }

    /// A call sent at `sent` went through at `now`. Whether the limit has been forgotten by this: the
    /// ceiling is reached again.
    pub fn went_through(&mut self, sent: Duration, now: Duration) -> bool {
        self.passed.push_back(sent);
        if self.passed.len() > REMEMBERED {
            self.passed.pop_front();
        }
        self.doubt = (self.doubt - TRUST).max(0.0);
        let free = match (&mut self.learned, self.ceiling) {
            (Some(Learned::Search(it)), _) => it.went_through(sent, now),
            (Some(Learned::Creep(it)), Some(ceiling)) => it.went_through(ceiling, sent, now),
            (Some(Learned::Creep(_)), None) | (None, _) => false,
        };
        if free {
            self.learned = None;
        }
        free
    }

    /// A call sent at `sent` was throttled; it was said at `now`. `sure`: it was this limit.
    pub fn refused(&mut self, sent: Duration, now: Duration, sure: bool) -> Effect {
        let recent = self.recent(now);
        match (&mut self.learned, self.ceiling) {
            (Some(Learned::Search(it)), _) => it.refused(sent, now),
            (Some(Learned::Creep(it)), ceiling) => it.refused(ceiling.unwrap_or(f64::INFINITY), sent, now),
            (None, Some(ceiling)) => {
                // Far below the ceiling it is hardly this limit that was met.
                let near = recent.map_or(1.0, |it| it / ceiling).min(1.0);
                self.doubt += DOUBT * (0.4 + 0.6 * near);
                if self.doubt < CERTAIN && !sure {
                    return Effect::Noted;
                }
                self.doubt = 0.0;
                self.learned = Some(Learned::Creep(Creep::new(ceiling, recent, now)));
                Effect::Begun
            }
            (None, None) => {
                // What went through lately may be no more than was asked for.
                let before = recent.unwrap_or(BEGINNING).max(BEGINNING);
                let random = self.random.fork();
                let search = Search::new(before, (sent, now), self.passed.clone(), random);
                self.learned = Some(Learned::Search(Box::new(search)));
                Effect::Begun
            }
        }
    }

    /// How fast calls have gone through lately, if enough have.
    fn recent(&self, now: Duration) -> Option<f64> {
        let oldest = *self.passed.front()?;
        let second = Duration::from_secs(1);
        let count = self.passed.iter().filter(|it| **it + second > now).count();
        if count == self.passed.len() && count > 4 {
            return Some(count as f64 / secs(now.saturating_sub(oldest)).max(0.05));
        }
        if count >= 8 {
            return Some(count as f64);
        }
        let last = self.passed.len().min(8);
        let from = *self.passed.get(self.passed.len() - last)?;
        (last > 4).then(|| last as f64 / secs(now.saturating_sub(from)).max(0.05))
    }
}

fn secs(it: Duration) -> f64 {
    it.as_secs_f64()
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
