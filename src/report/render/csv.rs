//! For a spreadsheet: a line for each device of the selection, in the order of their first presentations. The
//! columns are stable: new ones come at the end.

use std::io;

use super::super::summary::{Fails, Summary};

/// The columns; `docs/report.md` says what is in them.
pub const COLUMNS: [&str; 30] = [
    "serial",
    "class",
    "state",
    "product",
    "batch",
    "fixture",
    "first_presented",
    "first_passed",
    "updated",
    "presentations",
    "presentations_after_pass",
    "passed_in_presentation",
    "failures",
    "failure_codes",
    "code",
    "message",
    "reworks",
    "pass_ms",
    "operator_ms",
    "fixture_ms",
    "making_ms",
    "certificates_issued",
    "certificates_revoked",
    "certificate_active",
    "cloud_ms",
    "quota_ms",
    "journal_ms",
    "attributes",
    "deferrals",
    "deferral_codes",
];

/// Writes lines; nothing is kept.
pub struct Lines<W: io::Write> {
    out: csv::Writer<W>,
}

impl<W: io::Write> Lines<W> {
    /// Begins with the line of the columns' names.
    ///
    /// # Errors
    /// `out` takes nothing more; likewise below.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(COLUMNS)?;
        Ok(Self { out })
    }

    /// One device.
    ///
    /// # Errors
    /// As above.
    pub fn device(&mut self, it: &Summary) -> io::Result<()> {
        let time = |it: Option<jiff::Timestamp>| it.map_or_else(String::new, |it| format!("{it:.3}"));
        let codes = |all: &[Fails]| {
            let all: Vec<_> = all.iter().map(|it| format!("{}={}", it.code, it.times)).collect();
            all.join(" ")
        };
        let (code, message) = match &it.why {
            Some((code, message)) => (code.as_str(), message.as_str()),
            None => ("", ""),
        };
        let attributes = match it.attributes.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&it.attributes)?,
        };
        self.out.write_record([
            harmless(it.serial.as_str()),
            it.class().as_str().to_owned(),
            it.state.as_str().to_owned(),
            harmless(&it.product),
            harmless(it.batch.as_deref().unwrap_or_default()),
            harmless(&it.fixture),
            time(Some(it.first)),
            time(it.passed),
            time(Some(it.updated)),
            it.presentations.to_string(),
            it.repeats.to_string(),
            it.passed_in.to_string(),
            it.failed_times().to_string(),
            codes(&it.failures),
            code.to_owned(),
            harmless(message),
            it.reworks.to_string(),
            it.pass_ms.map_or_else(String::new, |it| it.to_string()),
            it.spent.operator.to_string(),
            it.spent.fixture.to_string(),
            it.spent.making.to_string(),
            it.certificates.0.to_string(),
            it.certificates.1.to_string(),
            it.active.to_string(),
            it.spent.waited.cloud.to_string(),
            it.spent.waited.quota.to_string(),
            it.spent.waited.journal.to_string(),
            attributes,
            it.deferred_times().to_string(),
            codes(&it.deferrals),
        ])?;
        Ok(())
    }

    /// Ends it, and gives back what it was written to.
    ///
    /// # Errors
    /// As above.
    pub fn finish(self) -> io::Result<W> {
        self.out.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}

/// A text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe before it.
fn harmless(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}
