//! What a report is to be about.

use jiff::Timestamp;

use crate::shift::ShiftSpan;

/// What a report is to be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// A shift.
    Shift(ShiftSpan),
    /// Any time.
    Time {
        /// The first instant.
        begin: Timestamp,
        /// The first instant after it.
        end: Timestamp,
    },
    /// A work order.
    Batch(String),
}

impl Selection {
    /// Its kind: `shift`, `time` or `batch`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Shift(_) => "shift",
            Self::Time { .. } => "time",
            Self::Batch(_) => "batch",
        }
    }

    /// Its first instant and the first after it; none of a batch, which has them from its devices.
    #[must_use]
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        match self {
            Self::Shift(it) => Some((it.begin, it.end)),
            Self::Time { begin, end } => Some((*begin, *end)),
            Self::Batch(_) => None,
        }
    }

    /// The name that it keeps, as `2026-11-22/early`; a time has none.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Shift(it) => Some(it.to_string()),
            Self::Time { .. } => None,
            Self::Batch(id) => Some(id.clone()),
        }
    }
}
