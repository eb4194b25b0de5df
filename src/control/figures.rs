//! What is measured besides the status, as plain figures: for whoever collects metrics.

use crate::histogram::Buckets;

/// What is measured since the daemon's start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// How long the calls of each operation took, seconds, by its name in kebab case; those in use only.
    pub calls: Vec<(&'static str, Buckets)>,
    /// How long the journal's commits took, seconds.
    pub commits: Option<Buckets>,
    /// How many records they held.
    pub commit_records: Option<Buckets>,
    /// Bytes of the journal's log.
    pub log_bytes: u64,
}

/// Where the figures are to be had. Asking costs the line nothing.
pub trait Instruments: std::fmt::Debug + Send + Sync {
    /// As they are now.
    fn figures(&self) -> Figures;
}

/// Nothing is measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInstruments;

impl Instruments for NoInstruments {
    fn figures(&self) -> Figures {
        Figures::default()
    }
}
