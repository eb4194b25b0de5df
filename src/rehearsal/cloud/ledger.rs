//! What the simulated AWS was asked, and what it did: counters that are always exact, the last
//! rows in memory, and every row in a file if one is wanted.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

use serde::Serialize;

use super::faults::Fault;
use crate::cloud::Operation;

/// Rows kept in memory.
const MAX_ROWS: usize = 200_000;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    /// Counts up from 1 in the order of effects.
    pub seq: u64,
    /// Milliseconds since the simulation began.
    pub ms: u64,
    /// The operation's kebab-case key.
    pub operation: &'static str,
    /// The name that the request is about: of the policy, thing or locker; for certificates the
    /// common name, or else the id. `a -> b` where one thing is attached to another.
    pub resource: Box<str>,
    /// HTTP status that was sent; 0 where the connection ended without one.
    pub status: u16,
    /// AWS's error code, where it is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The fault that was injected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Whether the account is another one than before.
    pub effect: bool,
    /// Whether tags came along: AWS then wants the permission to tag as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tagged: bool,
}

/// How often one operation was called, by outcome as the caller saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Answered with success, whole.
    pub ok: u64,
    /// Throttled, by the quota or by an injected fault.
    pub throttled: u64,
    /// Everything else: AWS's errors and injected faults.
    pub errors: u64,
    /// Of all calls, those that changed the account.
    pub effects: u64,
}

/// Counters over the whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests of all operations.
    pub requests: u64,
    /// By the operation's kebab-case key; those never called are absent.
    pub calls: BTreeMap<&'static str, Calls>,
    /// By fault.
    pub faults: BTreeMap<Fault, u64>,
}

/// One request without its number.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ms: u64,
    pub(crate) operation: Operation,
    pub(crate) resource: String,
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    pub(crate) fault: Option<Fault>,
    pub(crate) effect: bool,
    pub(crate) tagged: bool,
}

/// Takes entries.
pub(crate) struct Ledger {
    stats: Stats,
    rows: VecDeque<LedgerRow>,
    file: Option<Box<dyn Write + Send>>,
    failure: Option<io::Error>,
}

impl Ledger {
    /// An empty ledger, written to `file` as JSON lines. The file should be buffered.
    pub(crate) fn new(file: Option<Box<dyn Write + Send>>) -> Self {
        Self { stats: Stats::default(), rows: VecDeque::new(), file, failure: None }
    }

    /// Writes one entry down and returns its number.
    pub(crate) fn record(&mut self, entry: Entry) -> u64 {
        self.count(&entry);
        let row = LedgerRow {
            seq: self.stats.requests,
            ms: entry.ms,
            operation: entry.operation.kebab(),
            resource: entry.resource.into_boxed_str(),
            status: entry.status,
            code: entry.code,
            fault: entry.fault,
            effect: entry.effect,
            tagged: entry.tagged,
        };
        self.write(&row);
        if self.rows.len() == MAX_ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
        self.stats.requests
    }

    /// Hands what is buffered to the system. A failure is kept for [`close`](Self::close).
    pub(crate) fn flush(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            self.give_up(error);
        }
    }

    /// Flushes and lets go of the file.
    ///
    /// # Errors
    /// The first failure to write since the beginning.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.flush();
        self.file = None;
        self.failure.take().map_or(Ok(()), Err)
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &LedgerRow> {
        self.rows.iter()
    }

    fn count(&mut self, entry: &Entry) {
        self.stats.requests += 1;
        let calls = self.stats.calls.entry(entry.operation.kebab()).or_default();
        calls.effects += u64::from(entry.effect);
        match (entry.code, entry.fault) {
            (Some("ThrottlingException"), _) => calls.throttled += 1,
            (None, None) => calls.ok += 1,
            _ => calls.errors += 1,
        }
        if let Some(fault) = entry.fault {
            *self.stats.faults.entry(fault).or_default() += 1;
        }
    }

    fn write(&mut self, row: &LedgerRow) {
        let Some(file) = &mut self.file else { return };
        let written = serde_json::to_writer(&mut *file, row)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"));
        if let Err(error) = written {
            self.give_up(error);
        }
    }

    /// The simulation goes on without its file: it is told at the end.
    fn give_up(&mut self, error: io::Error) {
        tracing::warn!(%error, "the ledger cannot be written any more");
        self.file = None;
        self.failure.get_or_insert(error);
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("stats", &self.stats).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(code: Option<&'static str>, fault: Option<Fault>) -> Entry {
        Entry {
            ms: 5,
            operation: Operation::CreatePolicy,
            resource: "SN1".to_owned(),
            status: 200,
            code,
            fault,
            effect: code.is_none(),
            tagged: false,
        }
    }

    #[test]
    fn counters_stay_exact_when_old_rows_go() {
        let mut ledger = Ledger::new(None);
        for _ in 0..MAX_ROWS + 10 {
            ledger.record(entry(None, None));
        }
        assert_eq!(ledger.rows().count(), MAX_ROWS);
        assert_eq!(ledger.rows().next().map(|it| it.seq), Some(11));
        assert_eq!(ledger.stats().calls["create-policy"].ok, MAX_ROWS as u64 + 10);
    }

    #[test]
    fn an_injected_fault_is_no_success_even_with_an_effect() {
        let mut ledger = Ledger::new(None);
        ledger.record(entry(None, Some(Fault::ResetAfter)));
        ledger.record(entry(Some("ThrottlingException"), Some(Fault::Throttled)));
        let expected = Calls { ok: 0, throttled: 1, errors: 1, effects: 1 };
        assert_eq!(ledger.stats().calls["create-policy"], expected);
        assert_eq!(ledger.stats().faults[&Fault::ResetAfter], 1);
    }

    struct FullDisk;

    impl Write for FullDisk {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_file_and_is_told_at_the_end() {
        let mut ledger = Ledger::new(Some(Box::new(FullDisk)));
        ledger.record(entry(None, None));
        ledger.record(entry(None, None));
        assert_eq!(ledger.stats().requests, 2);
        assert_eq!(ledger.close().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
