//! What came out of a rehearsal.

use std::fmt;

use serde::Serialize;

use super::cloud::{Audit, Calls, Stats};
use super::fixture::FixtureReport;
use super::{Faults, Options};

/// Problems that are printed.
const SHOWN: usize = 20;

/// What came out of a rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether every unit passed, with one certificate each, and the account holds exactly what it should.
    pub ok: bool,
    /// Units.
    pub devices: usize,
    /// Units that passed.
    pub passed: usize,
    /// Units that passed at their first presentation.
    pub first_pass: usize,
    /// Wall time from the station's start to the last verdict, seconds.
    pub seconds: f64,
    /// Passed units a second.
    pub devices_per_s: f64,
    /// From a unit's first `unit` to its `pass`: half of the units took no longer, milliseconds.
    pub p50_ms: f64,
    /// The same for 99 of 100 units.
    pub p99_ms: f64,
    /// Calls that AWS has seen.
    pub calls: u64,
    /// Calls that AWS throttled.
    pub throttled: u64,
    /// Calls that AWS answered with another error, or not at all.
    pub errors: u64,
    /// Decides the serials and what went wrong.
    pub seed: u64,
    /// How much was to go wrong.
    pub faults: &'static str,
    /// What the fixtures have seen.
    pub fixtures: Vec<FixtureReport>,
    /// What the account holds.
    pub audits: Vec<Audit>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        seconds: f64,
        fixtures: Vec<FixtureReport>,
        audits: Vec<Audit>,
        calls: &Stats,
    ) -> Self {
        let passed = fixtures.iter().map(|it| it.passed).sum();
        let sum = |count: fn(&Calls) -> u64| calls.calls.values().map(count).sum();
        Self {
            ok: fixtures.iter().all(FixtureReport::is_clean)
                && audits.iter().all(|it| it.ok)
                && passed == options.devices,
            devices: options.devices,
            passed,
            first_pass: fixtures.iter().map(|it| it.first_pass).sum(),
            seconds,
            devices_per_s: if seconds > 0.0 { passed as f64 / seconds } else { 0.0 },
            p50_ms: fixtures.iter().map(|it| it.latency.p50_ms).fold(0.0, f64::max),
            p99_ms: fixtures.iter().map(|it| it.latency.p99_ms).fold(0.0, f64::max),
            calls: calls.requests,
            throttled: sum(|it| it.throttled),
            errors: sum(|it| it.errors),
            seed: options.seed,
            faults: match options.faults {
                Faults::None => "none",
                Faults::Mild => "mild",
                Faults::Hard => "hard",
            },
            fixtures,
            audits,
        }
    }

    /// One JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Numbers, texts and maps with text keys: cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "devices       {:>10}", self.devices)?;
        writeln!(f, "passed        {:>10}", self.passed)?;
        writeln!(f, "first-pass    {:>10}", self.first_pass)?;
        writeln!(f, "seconds       {:>10.2}", self.seconds)?;
        writeln!(f, "devices/s     {:>10.2}", self.devices_per_s)?;
        writeln!(f, "p50 unit-pass {:>7.0} ms", self.p50_ms)?;
        writeln!(f, "p99 unit-pass {:>7.0} ms", self.p99_ms)?;
        writeln!(f, "calls         {:>10}", self.calls)?;
        writeln!(f, "throttled     {:>10}", self.throttled)?;
        for fixture in &self.fixtures {
            for it in fixture.failed.iter().take(SHOWN) {
                writeln!(f, "failed        {} {}", it.serial, it.code)?;
            }
            if fixture.unfinished > 0 {
                writeln!(f, "unfinished    {:>10}", fixture.unfinished)?;
            }
            for it in fixture.two_certificates.iter().take(SHOWN) {
                writeln!(f, "two certificates for {it}")?;
            }
            for it in fixture.violations.iter().take(SHOWN) {
                writeln!(f, "against the protocol: {it}")?;
            }
        }
        for audit in &self.audits {
            writeln!(
                f,
                "audit         {}: {} things, {} lockers, {} policies, {} active certificates for {} serials",
                if audit.ok { "holds" } else { "FAILS" },
                audit.things,
                audit.lockers,
                audit.policies,
                audit.active_certificates,
                audit.serials
            )?;
            for it in audit.problems.iter().take(SHOWN) {
                writeln!(f, "  {}: {}", it.serial.as_deref().unwrap_or("account"), it.what)?;
            }
        }
        writeln!(f, "rehearsal     {}", if self.ok { "PASS" } else { "FAIL" })
    }
}
