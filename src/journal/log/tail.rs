//! What follows the last good frame of the newest file: a commit that a crash cut off, or damage.

use super::frame::{FRAME_BYTES, FrameHead, is_intact, is_one_bit_off};
use super::read::number_of;

/// What it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// A commit that was never promised.
    Torn,
    /// Something that was promised is gone; in words.
    Damaged(&'static str),
}

/// Judges the `bytes` from the first bad frame to the end of the file. `seq` is the record that
/// should begin there; `left` is how many more records the good part of its commit says that it has.
pub(super) fn judge(bytes: &[u8], seq: u64, left: u32) -> Tail {
    if is_one_bit_off(bytes) {
        return Tail::Damaged("a bit of a record was flipped");
    }
    // A later commit was written only because this one had been synced.
    let commit_end = if left > 0 { seq + u64::from(left) - 1 } else { seq };
    for at in 1..bytes.len().saturating_sub(FRAME_BYTES) {
        let Some((found, place)) = intact_record(&bytes[at..]) else { continue };
        let begun_with = found.saturating_sub(u64::from(place));
        let is_later = if left > 0 { found > commit_end } else { begun_with > seq };
        if found > seq && is_later {
            return Tail::Damaged("a record cannot be read, and later ones follow it");
        }
    }
    Tail::Torn
}

/// The record whose frame begins here, if it is intact: its number and its place in its commit. It may be one that
/// only a later version knows.
fn intact_record(bytes: &[u8]) -> Option<(u64, u32)> {
    let head = FrameHead::decode(bytes)?;
    let frame = bytes.get(..FRAME_BYTES + head.length).filter(|it| is_intact(it))?;
    Some((number_of(&frame[FRAME_BYTES..])?, head.place))
}
