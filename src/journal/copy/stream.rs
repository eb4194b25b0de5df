//! A backup as one stream of bytes: what `GET /v1/journal/backup` sends.
//!
//! The log's files as they are ([`log`]), one behind the other, oldest first, each
//! without the room that it was given ahead; then a mark, without which the stream was cut off:
//!
//! ```text
//! mark  0..8    "LMJEND\r\n"
//!       8..16   sequence number of the last record
//!       16..48  its chain hash
//!       48..52  CRC-32 (IEEE) of the 48 bytes before
//! ```
//! Where one file ends and the next begins shows by itself: a frame begins with a length of at most
//! 1 MiB, a header with a letter.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{ExportError, Summary, nothing_in, store_files, walk_log};
use crate::journal::JournalError;
use crate::journal::log::frame::{FRAME_BYTES, HEADER_BYTES, Header, MAGIC, MAX_BODY_BYTES};
use crate::journal::log::read::{file_path, files};
use crate::journal::log::{self, ChainHash, Position};

/// What the mark at the end begins with.
const END: [u8; 8] = *b"LMJEND\r\n";

/// Length of the mark.
const END_BYTES: usize = 52;

/// Writes the log of the journal in `dir` up to `end`, a place behind a record that is on disk.
///
/// # Errors
/// The log cannot be read, or `out` takes nothing more.
pub fn write(dir: &Path, end: &Position, out: &mut impl Write) -> Result<(), ExportError> {
    let log_dir = log::dir_of(dir);
    for first in files(&log_dir)?.into_iter().filter(|it| *it <= end.file) {
        let path = file_path(&log_dir, first);
        let refused = |source| store_files::io("read", &path, source);
        let file = File::open(&path).map_err(refused)?;
        let length = if first == end.file { end.end } else { file.metadata().map_err(refused)?.len() };
        let mut copied = 0;
        let mut bytes = vec![0; 64 << 10];
        let mut file = file.take(length);
        // Not by `io::copy`: whether the file or the output has failed, it does not say.
        while copied < length {
            let read = file.read(&mut bytes).map_err(refused)?;
            if read == 0 {
                return Err(refused(io::ErrorKind::UnexpectedEof.into()).into());
            }
            out.write_all(&bytes[..read])?;
            copied += read as u64;
        }
    }
    let mut mark = Vec::with_capacity(END_BYTES);
    mark.extend_from_slice(&END);
    mark.extend_from_slice(&end.seq.to_be_bytes());
    mark.extend_from_slice(&end.hash.0);
    mark.extend_from_slice(&crc32fast::hash(&mark).to_be_bytes());
    out.write_all(&mark)?;
    Ok(out.flush()?)
}

/// Makes a log in `to`, where no journal is, of a stream that was written to the file `from`. It gets
/// its name when all of it has been read and is on disk.
///
/// # Errors
/// The stream is cut off, damaged, or no backup; there is a journal; the disk refuses.
pub(super) fn unpack(from: &Path, to: &Path) -> Result<Summary, JournalError> {
    nothing_in(to)?;
    let source = File::open(from).map_err(|source| store_files::io("open", from, source))?;
    let target = log::dir_of(to);
    let unfinished = target.with_extension("new");
    store_files::remove(&unfinished)?;
    store_files::create_dir(&unfinished)?;
    let taken = Unpacking { from, to: &unfinished, source: BufReader::new(source), file: None }
        .run()
        .and_then(|(seq, hash)| {
            let (summary, end) = walk_log(&unfinished, |_| Ok::<(), JournalError>(()))?;
            if (end.seq, end.hash) == (seq, hash) && summary.unfinished_bytes == 0 {
                return Ok(summary);
            }
            Err(bad(from, &format!("its last record is {} and should be {seq}", end.seq)))
        });
    match taken {
        Ok(summary) => {
            store_files::sync_dir(&unfinished)?;
            store_files::rename(&unfinished, &target)?;
            Ok(summary)
        }
        Err(error) => {
            store_files::remove(&unfinished)?;
            Err(error)
        }
    }
}

/// A stream on its way back into files.
struct Unpacking<'a> {
    from: &'a Path,
    to: &'a Path,
    source: BufReader<File>,
    file: Option<BufWriter<File>>,
}

impl Unpacking<'_> {
    /// Reads up to the mark; says what that says.
    fn run(mut self) -> Result<(u64, ChainHash), JournalError> {
        loop {
            let begin: [u8; 8] = self.read(&[])?;
            if begin == END {
                return self.mark(&begin);
            }
            if begin == MAGIC {
                self.begin_file(&begin)?;
                continue;
            }
            let length = u32::from_be_bytes([begin[0], begin[1], begin[2], begin[3]]) as usize;
            if self.file.is_none() || !(1..=MAX_BODY_BYTES).contains(&length) {
                return Err(bad(self.from, "it is no backup of a journal, or damaged"));
            }
            let mut frame = vec![0; FRAME_BYTES + length];
            frame[..8].copy_from_slice(&begin);
            self.fill(&mut frame[8..])?;
            self.put(&frame)?;
        }
    }

    fn begin_file(&mut self, begin: &[u8]) -> Result<(), JournalError> {
        self.close()?;
        let header: [u8; HEADER_BYTES] = self.read(begin)?;
        let told = Header::decode(&header).map_err(|_| bad(self.from, "the header of a file is damaged"))?;
        let path = file_path(self.to, told.first);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        self.file = Some(BufWriter::new(file.map_err(|source| store_files::io("make", &path, source))?));
        self.put(&header)
    }

    fn mark(&mut self, begin: &[u8]) -> Result<(u64, ChainHash), JournalError> {
        self.close()?;
        let mark: [u8; END_BYTES] = self.read(begin)?;
        let (told, checksum) = mark.split_at(48);
        if *checksum != crc32fast::hash(told).to_be_bytes() {
            return Err(bad(self.from, "the mark at its end is damaged"));
        }
        if self.source.read(&mut [0]).map_err(|source| store_files::io("read", self.from, source))? > 0 {
            return Err(bad(self.from, "something follows the mark at its end"));
        }
        let seq = told[8..16].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let mut hash = [0; 32];
        hash.copy_from_slice(&told[16..]);
        Ok((seq, ChainHash(hash)))
    }

    /// The next bytes, of which `begin` was read already.
    fn read<const N: usize>(&mut self, begin: &[u8]) -> Result<[u8; N], JournalError> {
        let mut bytes = [0; N];
        bytes[..begin.len()].copy_from_slice(begin);
        self.fill(&mut bytes[begin.len()..])?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), JournalError> {
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad(self.from, "it is cut off"),
            _ => store_files::io("read", self.from, error),
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(|source| store_files::io("write", self.to, source)),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), JournalError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|it| it.sync_all()).map_err(|source| store_files::io("write", self.to, source))
    }
}

fn bad(path: &Path, what: &str) -> JournalError {
    JournalError::BadBackup { path: path.to_owned(), what: what.to_owned() }
}
