//! The log: what is synced at a promise, and the truth that everything else is made from.
//!
//! # Files
//!
//! `journal.dir/log/NNNNNNNNNNNNNNNNNNNN.log`, each named by the sequence number of its first record.
//! Numbers are big endian.
//!
//! ```text
//! header   0..8    "LMJRNL\r\n"
//!          8..12   format, 1
//!         12..28   the journal's id, 16 hex digits
//!         28..36   sequence number of the first record
//!         36..68   chain hash of the last record before it; in the first file SHA-256 of
//!                  "linemint-journal/1 " and the id
//!         68..72   CRC-32 (IEEE) of the 68 bytes before
//! frame    0..4    length of the body
//!          4..8    CRC-32 of everything else in the frame
//!          8..12   place of the record in its commit, from 0
//!         12..16   records that follow in the same commit
//!         16..48   chain hash: SHA-256 of the previous chain hash and the body
//!         48..     body: the record as JSON
//! ```
//! The checksum finds what a disk does to the file. The chain finds what a person does: whoever
//! changes, takes out or puts in a record changes every hash after it, and the last hash can be
//! written down elsewhere.
//!
//! # Appending
//!
//! A commit is one write and one `fdatasync`. The newest file is given room ahead, 4 MiB at a time, so
//! that a sync has only bytes to make durable and no new length; that room reads as zeros, with which
//! no frame begins. It is given back at an end in good order, before the next file is begun, and at
//! the next start. A new file is begun only between commits, once the newest one is larger than
//! [`MAX_FILE_BYTES`]; it gets its name when its header is on disk.
//!
//! # A torn end
//!
//! A crash may leave a part of the commit that was being written, never of one before it: a commit
//! is written only when the one before it is synced. So a bad frame is a torn end only in the newest
//! file, only if no frame of a later commit follows it, and only if it is not one flipped bit away
//! from being right (which is what a disk does, and a crash does not). Sectors of it that were not
//! written hold what was there before: nothing or zeros. A torn commit is cut off whole. Nothing but
//! zeros after a whole commit is room that was given ahead. All else is damage; it is told, and the
//! file left as it is.
//!
//! A frame that is whole and in the chain, with the number that is due, but with an event or a value that this
//! version does not know, is neither: a newer version has written it. That is told, and the file left as it is.

pub(crate) mod disk;
pub(crate) mod frame;
pub(crate) mod read;
mod tail;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Format of the log's files.
pub const FORMAT: u32 = 1;

/// Size after which a new file is begun, bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Where the log lies in the journal's directory.
#[must_use]
pub fn dir_of(journal_dir: &Path) -> PathBuf {
    journal_dir.join("log")
}

/// A link of the chain: SHA-256 of the previous one and a record.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ChainHash(pub(crate) [u8; 32]);

impl ChainHash {
    /// What the chain of a journal begins with.
    #[must_use]
    pub fn genesis(journal_id: &str) -> Self {
        Self::of(b"linemint-journal/1 ", journal_id.as_bytes())
    }

    /// The next link.
    #[must_use]
    pub fn next(&self, body: &[u8]) -> Self {
        Self::of(&self.0, body)
    }

    fn of(first: &[u8], second: &[u8]) -> Self {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        digest.update(first);
        digest.update(second);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        Self(bytes)
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

impl From<ChainHash> for String {
    fn from(it: ChainHash) -> Self {
        it.to_string()
    }
}

impl TryFrom<String> for ChainHash {
    type Error = crate::pki::NotAFingerprint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The same 64 hex digits: checked there, so that there is one parser.
        crate::pki::Fingerprint::from_str(&text)?;
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = digits.iter().fold(0, |byte, digit| {
                byte << 4 | char::from(*digit).to_digit(16).map_or(0, |it| it.to_le_bytes()[0])
            });
        }
        Ok(Self(bytes))
    }
}

/// A place in the log, after a record (or after a file's header, if no record is in it yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The record before it; 0 before the first.
    pub seq: u64,
    /// The file, by the sequence number of its first record.
    pub file: u64,
    /// Where that record's frame begins in the file, bytes; the same as `end` if there is none.
    pub start: u64,
    /// Where the next frame begins, bytes.
    pub end: u64,
    /// That record's chain hash.
    pub hash: ChainHash,
}

impl Position {
    /// The beginning of a journal.
    #[must_use]
    pub fn genesis(journal_id: &str) -> Self {
        let end = frame::HEADER_BYTES as u64;
        Self { seq: 0, file: 1, start: end, end, hash: ChainHash::genesis(journal_id) }
    }

    /// Whether a record of that file ends here.
    fn has_frame(&self) -> bool {
        self.start < self.end
    }
}

/// Where the log is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, bytes.
    pub offset: u64,
    /// The first record that is bad.
    pub seq: u64,
    /// The chain hash of the record before it, if that was read.
    pub last_good: Option<ChainHash>,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, seq, last_good, what } = self;
        write!(f, "{} at byte {offset}: {what}; record {seq} is the first bad one", file.display())?;
        last_good.map_or(Ok(()), |it| write!(f, ", the last good hash is {it}"))
    }
}
