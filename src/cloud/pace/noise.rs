//! Calls that are throttled whatever the rate: by a fault, by a gateway that sheds load, by a simulation.
//!
//! They are no limit, and going slower does not help against them. What tells them from a limit is that
//! they depend neither on the rate nor on the operation: at three quarters of the rate that goes through no
//! limit refuses anything, and an operation that is called at a small part of its quota is hardly ever the
//! one that used it up. So when a limit that was taken for known is met again and again, the rate is lowered
//! for a moment (`lull`), and what is still refused then, of operations far below their ceilings, is
//! noise. As many refusals as that are excused afterwards ([`Noise`]): nothing is learned from them.

use crate::cloud::Operation;

/// An operation is far below its ceiling when it comes so much less near it than the nearest one does.
const FAR: f64 = 0.3;

/// What a call leaves of the count of those before it.
const KEPT: f64 = 0.99;

/// Calls by which the part that is refused is followed, once it has been measured.
const FOLLOWED: f64 = 500.0;

/// How much more is excused than is refused on the average, so that a few together are no limit; and the
/// refusals that may be excused at once.
const GENEROUS: f64 = 1.5;
const AT_ONCE: f64 = 6.0;

/// Standard deviations that what is refused may be above what was measured.
const SPREAD: f64 = 1.5;

/// Where so many refusals were expected and none came, there is no noise any more.
const EXPECTED: f64 = 3.0;

/// Refusals that are remembered of lulls before.
const REMEMBERED: f64 = 20.0;

/// Less than this is none.
const LEAST: f64 = 0.002;

/// The part of the calls that is refused without a reason, and what is excused for it.
#[derive(Debug)]
pub(super) struct Noise {
    /// By `Operation as usize`.
    ceilings: Vec<Option<f64>>,
    /// Calls lately, the same.
    called: Vec<f64>,
    /// Calls of lulls, and how many of them were refused.
    measured: (f64, f64),
    /// The part that is refused, the most that it may be, and what was refused lately for whatever reason.
    share: f64,
    most: f64,
    lately: f64,
    /// Refusals that are excused before others come.
    excuses: f64,
}

impl Noise {
    /// Other ceilings are configured.
    pub(super) fn set_ceilings(&mut self, ceilings: Vec<Option<f64>>) {
        self.ceilings = ceilings;
    }

    /// For operations that have these ceilings, calls a second, by `Operation as usize`.
    pub(super) fn new(ceilings: Vec<Option<f64>>) -> Self {
        let called = vec![0.0; ceilings.len()];
        Self { ceilings, called, measured: (0.0, 0.0), share: 0.0, most: 0.0, lately: 0.0, excuses: 0.0 }
    }

    /// Whether what becomes of a call says something of noise: its own limit is far away.
    pub(super) fn is_told_by(&self, operation: Operation) -> bool {
        let near = |it: usize| self.ceilings[it].map_or(0.0, |ceiling| self.called[it] / ceiling);
        let nearest = (0..self.called.len()).map(near).fold(0.0, f64::max);
        near(operation as usize) <= FAR * nearest
    }

    /// A call was answered. Whether it was refused, and that is excused.
    pub(super) fn excuses(&mut self, operation: Operation, refused: bool) -> bool {
        self.called.iter_mut().for_each(|it| *it *= KEPT);
        self.called[operation as usize] += 1.0;
        if self.share == 0.0 {
            return false;
        }
        if self.is_told_by(operation) {
            // A limit may be among what refuses, so that this is the most that noise can be.
            self.lately += (f64::from(u8::from(refused)) - self.lately) / FOLLOWED;
            self.share = self.lately.min(self.most);
            if self.share < LEAST {
                self.forget();
            }
        }
        self.excuses = (self.excuses + GENEROUS * self.share).min(AT_ONCE);
        let excused = refused && self.excuses >= 1.0;
        if excused {
            self.excuses -= 1.0;
        }
        excused
    }

    fn forget(&mut self) {
        (self.share, self.measured) = (0.0, (0.0, 0.0));
    }

    /// In a lull so many calls were made, of which so many were refused.
    pub(super) fn measured(&mut self, (calls, refused): (f64, f64)) {
        if refused == 0.0 {
            if calls * self.share > EXPECTED {
                self.forget();
            }
            return;
        }
        self.measured = (self.measured.0 + calls, self.measured.1 + refused);
        self.share = self.measured.1 / self.measured.0;
        self.most = (self.measured.1 + SPREAD * self.measured.1.sqrt()) / self.measured.0;
        self.lately = self.share;
        self.excuses = AT_ONCE;
        let kept = (REMEMBERED / self.measured.1).min(1.0);
        self.measured = (self.measured.0 * kept, self.measured.1 * kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: [Operation; 6] = [
        Operation::CreateCredentialLocker,
        Operation::CreatePolicy,
        Operation::CreateThing,
        Operation::RegisterCertificateWithoutCa,
        Operation::AttachPolicy,
        Operation::AttachThingPrincipal,
    ];

    fn fresh() -> Noise {
        Noise::new(Operation::ALL.iter().map(|it| Some(it.default_quota())).collect())
    }

    /// Devices' calls of which each has the chance `share` to be refused: how many were, and how many of
    /// those were excused.
    fn calls(noise: &mut Noise, share: f64, calls: usize) -> (f64, f64) {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut all, mut excused) = (0.0, 0.0);
        for call in 0..calls {
            let refused = random.f64() < share;
            all += f64::from(u8::from(refused));
            excused += f64::from(u8::from(noise.excuses(USED[call % USED.len()], refused)));
        }
        (all, excused)
    }

    #[test]
    fn nothing_is_excused_before_anything_was_measured() {
        let mut noise = fresh();
        assert_eq!(calls(&mut noise, 0.2, 1000).1, 0.0);
        noise.measured((60.0, 0.0));
        assert_eq!(calls(&mut noise, 0.2, 1000).1, 0.0);
    }

    #[test]
    fn what_was_measured_is_excused_and_more_is_not() {
        for share in [0.02, 0.05, 0.2] {
            let mut noise = fresh();
            noise.measured((200.0, 200.0 * share));
            let (all, excused) = calls(&mut noise, share, 20_000);
            assert!(excused >= 0.9 * all, "{excused} of {all} at {share}");
        }
        let mut noise = fresh();
        noise.measured((200.0, 10.0));
        let (all, excused) = calls(&mut noise, 0.6, 2000);
        assert!(excused <= 0.25 * all, "{excused} of {all}");
    }

    #[test]
    fn noise_that_is_over_is_forgotten() {
        let mut noise = fresh();
        noise.measured((100.0, 20.0));
        calls(&mut noise, 0.0, 10_000);
        assert_eq!(calls(&mut noise, 0.2, 100).1, 0.0);
        noise.measured((100.0, 20.0));
        noise.measured((60.0, 0.0));
        assert_eq!(calls(&mut noise, 0.2, 100).1, 0.0);
    }

    #[test]
    fn operations_far_below_their_ceilings_tell() {
        let mut noise = fresh();
        calls(&mut noise, 0.0, 120);
        let telling: Vec<Operation> = USED.into_iter().filter(|it| noise.is_told_by(*it)).collect();
        assert_eq!(telling, [Operation::CreateThing, Operation::AttachThingPrincipal]);
        // Without ceilings there is no limit of its own that an operation could run into.
        let mut noise = Noise::new(vec![None; Operation::ALL.len()]);
        calls(&mut noise, 0.0, 120);
        assert!(USED.into_iter().all(|it| noise.is_told_by(it)));
    }
}
