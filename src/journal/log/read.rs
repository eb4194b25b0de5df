//! The log's reading half: commit by commit, each checked against the one before it.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::disk::{Bytes, Disk, Source, SystemDisk};
use super::frame::{BadHeader, FRAME_BYTES, FrameHead, HEADER_BYTES, Header, is_intact};
use super::tail::{Tail, judge};
use super::{ChainHash, Damage, FORMAT, Position};
use crate::journal::{JournalError, Record};
use crate::sabotage::sabotaged;

/// The path of the file that begins with record `first`.
pub(crate) fn file_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// The first records of the log's files, oldest first; none if there is no log. Other names are
/// left alone.
pub(crate) fn files(dir: &Path) -> Result<Vec<u64>, JournalError> {
    files_of(&SystemDisk::default(), dir)
}

fn files_of(source: &dyn Source, dir: &Path) -> Result<Vec<u64>, JournalError> {
    let names = source.names(dir).map_err(|error| io_error("list", dir, error))?;
    let digits = |it: &String| it.strip_suffix(".log").filter(|it| it.len() == 20)?.parse().ok();
    let mut found: Vec<u64> = names.iter().filter_map(digits).collect();
    found.sort_unstable();
    Ok(found)
}

/// Bytes of the log's files.
pub(crate) fn total_bytes(dir: &Path) -> Result<u64, JournalError> {
    files(dir)?.into_iter().try_fold(0, |sum, first| {
        let path = file_path(dir, first);
        let metadata = path.metadata().map_err(|source| io_error("examine", &path, source))?;
        Ok(sum + metadata.len())
    })
}

/// A record as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Where, with its number and chain hash.
    pub(crate) at: Position,
    /// Its JSON, as it stands in the file.
    pub(crate) body: Vec<u8>,
    /// The record.
    pub(crate) record: Record,
}

/// What a crash has left behind the last whole commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn {
    /// In which file.
    pub(crate) file: u64,
    /// What to keep of the file, bytes; none: not even its header is whole.
    pub(crate) keep: Option<u64>,
    /// Bytes that are no whole commit.
    pub(crate) dropped: u64,
}

/// Cuts off what a crash has left of a commit that was never promised; says how many bytes that were.
pub(crate) fn repair(disk: &mut dyn Disk, walk: &Walk) -> Result<u64, JournalError> {
    let Some(torn) = walk.torn() else { return Ok(0) };
    let path = file_path(&walk.dir, torn.file);
    disk.cut(&path, torn.keep).map_err(|source| io_error("cut", &path, source))?;
    Ok(torn.dropped)
}

/// Goes through the log from a place to its end.
#[derive(Debug)]
pub(crate) struct Walk {
    dir: PathBuf,
    id: String,
    source: Box<dyn Source>,
    /// The files after the open one.
    rest: VecDeque<u64>,
    file: BufReader<Box<dyn Bytes>>,
    at: Position,
    torn: Option<Torn>,
}

/// Why no frame was read.
enum NoFrame {
    /// The file ends here.
    End,
    /// What is here is none.
    Bad(String),
}

impl Walk {
    /// From the first record on.
    pub(crate) fn from_start(dir: &Path) -> Result<Self, JournalError> {
        Self::from_start_on(Box::new(SystemDisk::default()), dir)
    }

    /// As [`from_start`](Self::from_start), on a disk of one's own.
    pub(crate) fn from_start_on(source: Box<dyn Source>, dir: &Path) -> Result<Self, JournalError> {
        let mut rest: VecDeque<u64> = files_of(&*source, dir)?.into();
        let Some(first) = rest.pop_front() else {
            return Err(missing(dir));
        };
        let path = file_path(dir, first);
        let mut file = open(&*source, &path)?;
        let header = read_header(&mut file, &path, &damage_at(&path, first, None))?;
        let at = Position::genesis(&header.id);
        let damage = |what: &str| damaged(&path, 0, &Position { seq: 0, ..at }, what);
        if first != 1 || header.first != 1 {
            return Err(damage("the files before it are missing"));
        }
        if header.previous != at.hash {
            return Err(damage("its header does not begin the chain"));
        }
        Ok(Self::new(source, dir, header.id, (rest, BufReader::new(file)), at))
    }

    /// From a place on that was noted earlier. The record before it is checked again.
    pub(crate) fn from(dir: &Path, id: &str, at: Position) -> Result<Self, JournalError> {
        Self::from_on(Box::new(SystemDisk::default()), dir, id, at)
    }

    /// As [`from`](Self::from), on a disk of one's own.
    pub(crate) fn from_on(
        source: Box<dyn Source>,
        dir: &Path,
        id: &str,
        at: Position,
    ) -> Result<Self, JournalError> {
        let listed = files_of(&*source, dir)?;
        if listed.is_empty() {
            return Err(missing(dir));
        }
        let path = file_path(dir, at.file);
        if !listed.contains(&at.file) {
            return Err(damaged(&path, 0, &at, "the file is missing"));
        }
        let mut file = open(&*source, &path)?;
        let header = read_header(&mut file, &path, &damage_at(&path, at.file, None))?;
        if header.id != id || header.first != at.file {
            return Err(damaged(&path, 0, &at, "its header is another journal's or file's"));
        }
        if at.has_frame() {
            check_frame(&mut file, &path, &at)?;
        } else if header.previous != at.hash {
            return Err(damaged(&path, 0, &at, "its header does not continue the chain"));
        }
        let rest = listed.into_iter().filter(|it| *it > at.file).collect();
        Ok(Self::new(source, dir, id.to_owned(), (rest, BufReader::new(file)), at))
    }

    /// From the beginning of a frame on whose predecessor is not looked at: for reading what was
    /// checked before.
    pub(crate) fn unchecked(dir: &Path, file: u64, start: u64, seq: u64) -> Result<Self, JournalError> {
        let path = file_path(dir, file);
        let source = Box::new(SystemDisk::default());
        let mut reader = BufReader::with_capacity(32 << 10, open(&*source, &path)?);
        let mut head = [0; FRAME_BYTES];
        let at = Position { seq: seq.saturating_sub(1), file, start, end: start, hash: ChainHash([0; 32]) };
        reader.seek(SeekFrom::Start(start)).map_err(|source| io_error("read", &path, source))?;
        let rest = files(dir)?.into_iter().filter(|it| *it > file).collect();
        let read = reader.read_exact(&mut head).and_then(|()| reader.seek(SeekFrom::Start(start)));
        if read.is_err() {
            return Err(damaged(&path, start, &at, "a record that was there is gone"));
        }
        Ok(Self::new(source, dir, String::new(), (rest, reader), at))
    }

    fn new(
        source: Box<dyn Source>,
        dir: &Path,
        id: String,
        files: (VecDeque<u64>, BufReader<Box<dyn Bytes>>),
        at: Position,
    ) -> Self {
        let (rest, file) = files;
        Self { dir: dir.to_owned(), id, source, rest, file, at, torn: None }
    }

    /// The journal's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The end of the last whole commit so far.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// After the end: what was left there by a crash, or is being written just now.
    pub(crate) fn torn(&self) -> Option<Torn> {
        self.torn
    }

    /// The records of the next commit; none at the end.
    ///
    /// # Errors
    /// The log is damaged, holds a record that this version does not know, or cannot be read.
    pub(crate) fn next_commit(&mut self) -> Result<Option<Vec<Found>>, JournalError> {
        while self.torn.is_none() {
            let mut commit = Vec::new();
            let mut at = self.at;
            let mut left = 0;
            loop {
                match self.next_frame(&at, left, commit.len()) {
                    Ok((found, more)) => {
                        at = found.at;
                        left = more;
                        commit.push(found);
                        if left == 0 {
                            self.at = at;
                            return Ok(Some(commit));
                        }
                    }
                    Err(Ok(NoFrame::End)) if commit.is_empty() => break,
                    Err(Ok(NoFrame::End | NoFrame::Bad(_)))
                        if sabotaged!(TornCommitTaken) && !commit.is_empty() =>
                    {
                        self.at = at;
                        return Ok(Some(commit));
                    }
                    Err(Ok(NoFrame::End)) => {
                        self.no_frame(&at, left, "its last commit is cut off".to_owned())?;
                        return Ok(None);
                    }
                    Err(Ok(NoFrame::Bad(what))) => {
                        self.no_frame(&at, left, what)?;
                        return Ok(None);
                    }
                    Err(Err(error)) => return Err(error),
                }
            }
            if !self.next_file()? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The next frame after `at`, of a commit of which `place` records were read and `left` are due.
    fn next_frame(
        &mut self,
        at: &Position,
        left: u32,
        place: usize,
    ) -> Result<(Found, u32), Result<NoFrame, JournalError>> {
        let bad = |what: &str| Err(Ok(NoFrame::Bad(what.to_owned())));
        let mut frame = vec![0; FRAME_BYTES];
        let path = file_path(&self.dir, at.file);
        let refused = |source| Err(io_error("read", &path, source));
        match fill(&mut self.file, &mut frame).map_err(refused)? {
            0 => return Err(Ok(NoFrame::End)),
            FRAME_BYTES => {}
            _ => return bad("a record is cut off"),
        }
        let Some(head) = FrameHead::decode(&frame) else { return bad("no record begins there") };
        frame.resize(FRAME_BYTES + head.length, 0);
        if fill(&mut self.file, &mut frame[FRAME_BYTES..]).map_err(refused)? < head.length {
            return bad("a record is cut off");
        }
        if !is_intact(&frame) {
            return bad("the checksum of a record is wrong");
        }
        let body = frame.split_off(FRAME_BYTES);
        let checked = !self.id.is_empty();
        if checked && at.hash.next(&body) != head.hash {
            return bad("a record does not continue the chain");
        }
        // From here on the frame is as somebody wrote it: whatever is wrong with it, no crash has done it.
        let wrong = |what: &str| Err(Err(damaged(&path, at.end, at, what)));
        let record = serde_json::from_slice::<Record>(&body);
        match record.as_ref().map_or_else(|_| number_of(&body), |it| Some(it.seq)) {
            Some(number) if number == at.seq + 1 => {}
            Some(_) => return wrong("a record has another number than its place"),
            None => return wrong("a record does not say what it should"),
        }
        if checked && (head.place as usize != place || (left > 0 && head.left + 1 != left)) {
            return wrong("a record has another place in its commit");
        }
        let Ok(record) = record else {
            return Err(Err(JournalError::NewerRecord { path, seq: at.seq + 1 }));
        };
        let end = at.end + (FRAME_BYTES + body.len()) as u64;
        let at = Position { seq: record.seq, file: at.file, start: at.end, end, hash: head.hash };
        Ok((Found { at, body, record }, head.left))
    }

    /// There is no frame after `at`: notes a torn end, or tells the damage.
    fn no_frame(&mut self, at: &Position, left: u32, what: String) -> Result<(), JournalError> {
        let path = file_path(&self.dir, at.file);
        let refused = |source| io_error("read", &path, source);
        let damage = |what: &str| damaged(&path, at.end, at, what);
        if !self.rest.is_empty() {
            return Err(damage(&what));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(at.end)).map_err(refused)?;
        self.file.read_to_end(&mut bytes).map_err(refused)?;
        // Room that the file was given ahead: a commit begins with a length, which is never zero.
        if left == 0 && bytes.iter().all(|it| *it == 0) {
            return Ok(());
        }
        let whole = FrameHead::decode(&bytes).and_then(|head| {
            let frame = bytes.get(..FRAME_BYTES + head.length).filter(|it| is_intact(it))?;
            Some(at.hash.next(&frame[FRAME_BYTES..]) == head.hash)
        });
        // One with the right checksum that does not fit was written so: not by a crash. One that fits
        // was completed by a running station since it was read above: the log ended before it.
        if whole == Some(false) {
            return Err(damage(&what));
        }
        if whole == Some(true) {
            self.torn = Some(Torn { file: at.file, keep: Some(self.at.end), dropped: 0 });
            return Ok(());
        }
        match judge(&bytes, at.seq + 1, left) {
            Tail::Damaged(why) => Err(damage(why)),
            Tail::Torn => {
                // Without the room behind it that was given ahead.
                let written = bytes.iter().rposition(|it| *it != 0).map_or(0, |it| it as u64 + 1);
                let dropped = at.end - self.at.end + written;
                self.torn = Some(Torn { file: at.file, keep: Some(self.at.end), dropped });
                Ok(())
            }
        }
    }

    /// Opens the next file; `false` if there is none.
    fn next_file(&mut self) -> Result<bool, JournalError> {
        let Some(first) = self.rest.pop_front() else { return Ok(false) };
        let path = file_path(&self.dir, first);
        let damage = |what: &str| damaged(&path, 0, &self.at, what);
        if first != self.at.seq + 1 {
            return Err(damage(if first > self.at.seq {
                "a file before it is missing"
            } else {
                "it is one too many"
            }));
        }
        let mut file = open(&*self.source, &path)?;
        let length = file.seek(SeekFrom::End(0)).and_then(|it| file.rewind().map(|()| it));
        let length = length.map_err(|source| io_error("examine", &path, source))?;
        if length < HEADER_BYTES as u64 && self.rest.is_empty() {
            // Its making was cut off.
            self.torn = Some(Torn { file: first, keep: None, dropped: length });
            return Ok(false);
        }
        let header = read_header(&mut file, &path, &damage_at(&path, first, Some(self.at.hash)))?;
        let continues = header.first == first && header.previous == self.at.hash;
        if !continues || (!self.id.is_empty() && header.id != self.id) {
            return Err(damage("its header does not continue the chain"));
        }
        let end = HEADER_BYTES as u64;
        self.at = Position { seq: self.at.seq, file: first, start: end, end, hash: self.at.hash };
        self.file = BufReader::new(file);
        Ok(true)
    }
}

/// Reads as much as there is; how much it was.
fn fill<R: io::Read + ?Sized>(from: &mut R, to: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < to.len() {
        match from.read(&mut to[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The number of the record that `body` is, whatever else it tells.
pub(super) fn number_of(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        seq: u64,
    }
    serde_json::from_slice::<Numbered>(body).ok().map(|it| it.seq)
}

fn open(source: &dyn Source, path: &Path) -> Result<Box<dyn Bytes>, JournalError> {
    source.open(path).map_err(|error| io_error("open", path, error))
}

fn read_header(file: &mut dyn Bytes, path: &Path, damage: &Damage) -> Result<Header, JournalError> {
    let mut bytes = [0; HEADER_BYTES];
    let tell = |what: &str| JournalError::Log(Box::new(Damage { what: what.to_owned(), ..damage.clone() }));
    let read = fill(file, &mut bytes).map_err(|source| io_error("read", path, source))?;
    if read < HEADER_BYTES {
        return Err(tell("its header is cut off"));
    }
    Header::decode(&bytes).map_err(|bad| match bad {
        BadHeader::Foreign => JournalError::Foreign { path: path.to_owned() },
        BadHeader::Newer(found) => {
            JournalError::Newer { dir: path.parent().unwrap_or(path).to_owned(), found, known: FORMAT }
        }
        BadHeader::Damaged => tell("its header is damaged"),
    })
}

/// Whether the frame that ends at `at` is the one that was noted.
fn check_frame(file: &mut dyn Bytes, path: &Path, at: &Position) -> Result<(), JournalError> {
    let refused = |source| io_error("read", path, source);
    let length = usize::try_from(at.end - at.start).unwrap_or(usize::MAX);
    let mut frame = vec![0; length.min(FRAME_BYTES + super::frame::MAX_BODY_BYTES)];
    file.seek(SeekFrom::Start(at.start)).map_err(refused)?;
    let read = fill(file, &mut frame).map_err(refused)?;
    let same = read == length
        && is_intact(&frame)
        && FrameHead::decode(&frame)
            .is_some_and(|it| it.hash == at.hash && FRAME_BYTES + it.length == length);
    if same {
        return Ok(());
    }
    Err(JournalError::Log(Box::new(Damage {
        offset: at.start,
        what: "a record that was on disk is gone or has been changed".to_owned(),
        ..damage_at(path, at.seq, None)
    })))
}

fn damage_at(path: &Path, seq: u64, last_good: Option<ChainHash>) -> Damage {
    Damage { file: path.to_owned(), offset: 0, seq, last_good, what: String::new() }
}

fn damaged(path: &Path, offset: u64, before: &Position, what: &str) -> JournalError {
    JournalError::Log(Box::new(Damage {
        file: path.to_owned(),
        offset,
        seq: before.seq + 1,
        last_good: Some(before.hash),
        what: what.to_owned(),
    }))
}

fn missing(dir: &Path) -> JournalError {
    JournalError::NoLog { dir: dir.to_owned() }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source }
}
