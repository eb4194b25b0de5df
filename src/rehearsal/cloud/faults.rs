//! Which fault meets which request: a pure function of the seed, the operation, the name of
//! what it is about, and how often that was tried. So a run repeats whatever the scheduler does.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::cloud::Operation;

/// What goes wrong with a request, and on which side of its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// No effect: `ThrottlingException`, though the quota is not used up.
    Throttled,
    /// No effect: HTTP 500.
    InternalBefore,
    /// No effect: HTTP 503.
    Unavailable,
    /// No effect: the connection is closed without an answer.
    ClosedBefore,
    /// No effect: no answer until the client gives up.
    Hang,
    /// No effect: a proxy answers 200 with its own page and no request id.
    ProxyPageBefore,
    /// No effect: an `Attach…` finds what was just made not to be there yet (404).
    NotVisibleYet,
    /// Done, and then the connection is reset.
    ResetAfter,
    /// Done, and then HTTP 500.
    InternalAfter,
    /// Done, and the answer ends in the middle of its body.
    CutAfter,
    /// Done, and a gateway answers 502 in HTML.
    BadGatewayAfter,
    /// Done, and a proxy answers 200 with its own page and no request id.
    ProxyPageAfter,
}

impl Fault {
    /// Whether the request takes effect nevertheless.
    #[must_use]
    pub const fn is_after_effect(self) -> bool {
        matches!(
            self,
            Self::ResetAfter
                | Self::InternalAfter
                | Self::CutAfter
                | Self::BadGatewayAfter
                | Self::ProxyPageAfter
        )
    }
}

/// How often what goes wrong. Probabilities are 0 to 1; those of [`Fault`]s add up, and what is
/// left of 1 goes well.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// Probability of each fault. [`Fault::NotVisibleYet`] has its own member.
    pub odds: Vec<(Fault, f64)>,
    /// Probability that an attachment, or a certificate that AWS has issued, shows late in the list calls.
    pub late_attachments: f64,
    /// Longest time that it stays hidden.
    pub hidden_for: Duration,
    /// Probability that a new thing or policy is not there for `Attach…` at first.
    pub late_resources: f64,
    /// Longest time that a new thing or policy is not there.
    pub absent_for: Duration,
    /// After so many faults in a row of one operation on one name the next request goes well,
    /// so that every run ends.
    pub max_in_a_row: u32,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self::none()
    }
}

impl FaultPlan {
    /// Nothing goes wrong.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            odds: Vec::new(),
            late_attachments: 0.0,
            hidden_for: Duration::ZERO,
            late_resources: 0.0,
            absent_for: Duration::ZERO,
            max_in_a_row: 4,
        }
    }

    /// A bad day: one request in twenty.
    #[must_use]
    pub fn mild() -> Self {
        Self {
            odds: vec![
                (Fault::Throttled, 0.015),
                (Fault::InternalBefore, 0.005),
                (Fault::Unavailable, 0.005),
                (Fault::ClosedBefore, 0.005),
                (Fault::Hang, 0.0005),
                (Fault::ProxyPageBefore, 0.002),
                (Fault::ResetAfter, 0.005),
                (Fault::InternalAfter, 0.005),
                (Fault::CutAfter, 0.003),
                (Fault::BadGatewayAfter, 0.003),
                (Fault::ProxyPageAfter, 0.0015),
            ],
            late_attachments: 0.05,
            hidden_for: Duration::from_millis(300),
            late_resources: 0.02,
            absent_for: Duration::from_millis(200),
            ..Self::none()
        }
    }

    /// The worst day: one request in three.
    #[must_use]
    pub fn hard() -> Self {
        Self {
            odds: vec![
                (Fault::Throttled, 0.06),
                (Fault::InternalBefore, 0.04),
                (Fault::Unavailable, 0.04),
                (Fault::ClosedBefore, 0.03),
                (Fault::Hang, 0.003),
                (Fault::ProxyPageBefore, 0.02),
                (Fault::ResetAfter, 0.04),
                (Fault::InternalAfter, 0.03),
                (Fault::CutAfter, 0.03),
                (Fault::BadGatewayAfter, 0.02),
                (Fault::ProxyPageAfter, 0.02),
            ],
            late_attachments: 0.3,
            hidden_for: Duration::from_millis(1500),
            late_resources: 0.2,
            absent_for: Duration::from_millis(500),
            ..Self::none()
        }
    }

    /// Every request meets `fault`, until as many in a row have that the next one must go well.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self { odds: vec![(fault, 1.0)], ..Self::none() }
    }
}

/// The text names no preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no set of faults is called {0:?}: there are none, mild and hard")]
pub struct UnknownFaults(pub String);

impl FromStr for FaultPlan {
    type Err = UnknownFaults;

    fn from_str(text: &str) -> Result<Self, UnknownFaults> {
        match text {
            "none" => Ok(Self::none()),
            "mild" => Ok(Self::mild()),
            "hard" => Ok(Self::hard()),
            _ => Err(UnknownFaults(text.to_owned())),
        }
    }
}

/// Requests of one operation on one name.
#[derive(Debug, Default, Clone, Copy)]
struct Tries {
    all: u32,
    faults_in_a_row: u32,
}

/// Decides, and remembers how often was tried.
#[derive(Debug)]
pub(crate) struct Faults {
    plan: FaultPlan,
    seed: u64,
    /// Keyed by hash: the names themselves would double the memory of the account.
    tries: HashMap<u64, Tries>,
}

/// What one request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lot {
    pub(crate) fault: Option<Fault>,
    /// Enough went wrong with this one: nothing may any more.
    pub(crate) must_go_well: bool,
    /// Faults in a row before this one.
    streak: u32,
    key: u64,
}

impl Faults {
    pub(crate) fn new(plan: FaultPlan, seed: u64) -> Self {
        Self { plan, seed, tries: HashMap::new() }
    }

    /// Draws for the next request of `operation` on `name`.
    pub(crate) fn draw(&mut self, operation: Operation, name: &str) -> Lot {
        if self.plan == FaultPlan::none() {
            return Lot { fault: None, must_go_well: false, streak: 0, key: 0 };
        }
        let key = key(operation, name);
        let tries = self.tries.entry(key).or_default();
        tries.all = tries.all.saturating_add(1);
        let streak = tries.faults_in_a_row;
        if streak >= self.plan.max_in_a_row {
            tries.faults_in_a_row = 0;
            return Lot { fault: None, must_go_well: true, streak, key };
        }
        let drawn = fastrand::Rng::with_seed(mix(self.seed, key, u64::from(tries.all))).f64();
        let fault = pick(&self.plan.odds, drawn);
        tries.faults_in_a_row = if fault.is_some() { streak + 1 } else { 0 };
        Lot { fault, must_go_well: false, streak, key }
    }

    /// The request that drew `lot` went wrong after all: something was not visible yet.
    pub(crate) fn count_not_visible(&mut self, lot: Lot) {
        if let Some(tries) = self.tries.get_mut(&lot.key) {
            tries.faults_in_a_row = lot.streak + 1;
        }
    }

    /// How long a new thing or policy is not there for `Attach…`.
    pub(crate) fn absent_for(&self, operation: Operation, name: &str) -> Duration {
        self.delay(operation, name, self.plan.late_resources, self.plan.absent_for)
    }

    /// How long a new attachment or issued certificate does not show in the lists.
    pub(crate) fn hidden_for(&self, operation: Operation, name: &str) -> Duration {
        self.delay(operation, name, self.plan.late_attachments, self.plan.hidden_for)
    }

    fn delay(&self, operation: Operation, name: &str, odds: f64, longest: Duration) -> Duration {
        if odds <= 0.0 {
            return Duration::ZERO;
        }
        // Not the number of tries: an effect has one delay, however many requests it took.
        let mut random = fastrand::Rng::with_seed(mix(self.seed, key(operation, name), u64::MAX));
        if random.f64() < odds { longest.mul_f64(random.f64()) } else { Duration::ZERO }
    }
}

fn pick(odds: &[(Fault, f64)], drawn: f64) -> Option<Fault> {
    let mut sum = 0.0;
    odds.iter().find_map(|(fault, odds)| {
        sum += odds;
        (drawn < sum).then_some(*fault)
    })
}

fn key(operation: Operation, name: &str) -> u64 {
    // `DefaultHasher::new` has fixed keys: the same in every process.
    let mut hasher = DefaultHasher::new();
    operation.kebab().hash(&mut hasher);
    name.hash(&mut hasher);
    hasher.finish()
}

fn mix(seed: u64, key: u64, tries: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, key, tries).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: Operation = Operation::CreatePolicy;

    fn faults_of(seed: u64, name: &str) -> Vec<Option<Fault>> {
        let mut faults = Faults::new(FaultPlan::hard(), seed);
        (0..100).map(|_| faults.draw(OPERATION, name).fault).collect()
    }

    #[test]
    fn what_happens_to_one_name_does_not_depend_on_the_others() {
        let mut faults = Faults::new(FaultPlan::hard(), 7);
        let among_others: Vec<_> = (0..100)
            .map(|i| {
                faults.draw(OPERATION, &format!("other-{i}"));
                faults.draw(Operation::GetPolicy, "SN1");
                faults.draw(OPERATION, "SN1").fault
            })
            .collect();
        assert_eq!(among_others, faults_of(7, "SN1"));
        assert_ne!(faults_of(8, "SN1"), faults_of(7, "SN1"));
    }

    #[test]
    fn after_four_faults_in_a_row_a_request_goes_well() {
        let mut faults = Faults::new(FaultPlan::always(Fault::ResetAfter), 1);
        let drawn: Vec<bool> = (0..10).map(|_| faults.draw(OPERATION, "SN1").fault.is_some()).collect();
        assert_eq!(drawn, [true, true, true, true, false, true, true, true, true, false]);
    }

    #[test]
    fn a_hard_day_has_about_every_third_request_go_wrong() {
        let mut faults = Faults::new(FaultPlan::hard(), 1);
        let wrong = (0..10_000).filter(|i| faults.draw(OPERATION, &i.to_string()).fault.is_some()).count();
        assert!((3000..3700).contains(&wrong), "{wrong}");
    }

    #[test]
    fn without_a_plan_nothing_is_remembered() {
        let mut faults = Faults::new(FaultPlan::none(), 1);
        assert!((0..100).all(|_| faults.draw(OPERATION, "SN1").fault.is_none()));
        assert!(faults.tries.is_empty());
    }
}
