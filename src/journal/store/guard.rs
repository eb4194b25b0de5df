//! sled panics where it meets what it did not expect: here that is an answer like any other.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use crate::journal::JournalError;

/// Calls what calls sled. Whatever was changed by a call that panicked is not used again: at a start
/// the index is set aside, later the journal ends.
///
/// # Errors
/// Its own; [`JournalError::Damaged`] if it panics.
pub(super) fn guarded<T>(
    dir: &Path,
    call: impl FnOnce() -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(JournalError::Damaged { dir: dir.to_owned(), what: "sled cannot read it".to_owned() })
    })
}
