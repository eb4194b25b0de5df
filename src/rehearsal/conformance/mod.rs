//! Plays the station against a fixture and says rule by rule whether it keeps to SFP/1.
//!
//! [`Conformance`] decides and does no I/O: bytes and times go in, bytes come out, so that a whole check runs
//! in a test within a blink. Inside, the plan of probes (`probes`, `units`) reads as one conversation;
//! `desk` is where it says things and hears them, `watch` judges by the way whatever is said.
//! [`run()`] does it on a real port.
//!
//! Nothing that it gives a unit is of use: certificate and key are made on the spot by a CA of that
//! minute, and say so (`paper`).

mod desk;
mod paper;
mod plan;
mod probes;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod units;
mod watch;

use std::time::Duration;

use regex::Regex;
use serde::Serialize;

pub use paper::PaperError;
pub use plan::Conformance;
pub use rules::{RULES, Rule};
pub use run::{CheckError, run};

/// What is known of the fixture beforehand, and how long to wait.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// The name that its `hello` has to tell; any if none.
    pub name: Option<String>,
    /// What its serial numbers look like; anything legal if none.
    pub serial: Option<Regex>,
    /// Whether its units make their own keys; whatever each shows if none.
    pub device_key: Option<bool>,
    /// The fixture's period, `resend`.
    pub resend: Duration,
    /// How long to wait for whatever a person has to do: seat a unit, reset the fixture.
    pub patience: Duration,
    /// Whether somebody is there who resets the fixture when asked to.
    pub reset: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            name: None,
            serial: None,
            device_key: None,
            resend: Duration::from_secs(2),
            patience: Duration::from_secs(60),
            reset: false,
        }
    }
}

/// How a rule came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Kept.
    Ok,
    /// Broken.
    Failed,
    /// There was nothing to see; `seen` says why.
    Skipped,
}

/// What was seen of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub id: &'static str,
    /// How it came out.
    pub status: Verdict,
    /// What was seen, a sentence.
    pub seen: String,
    /// What the protocol demands.
    pub demand: &'static str,
}

/// What was seen of the fixture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The name in its `hello`.
    pub fixture: Option<String>,
    /// Its firmware.
    pub firmware: Option<String>,
    /// Its reset.
    pub boot: Option<u64>,
    /// Every rule once, in the order of [`RULES`].
    pub checks: Vec<Finding>,
}

impl Report {
    /// Whether nothing has failed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.checks.iter().all(|it| it.status != Verdict::Failed)
    }
}
