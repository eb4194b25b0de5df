//! Sealed keys in slots of one file that is made ahead and only ever overwritten.
//!
//! A file for each key would have a name, an inode and blocks made and unmade: the file system's own journal is then
//! committed three times for one key, which costs a fast station as much as the key itself. To overwrite a page that is
//! there already and to sync its bytes costs one write.
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `keyslot` and the version, 1 |
//! | 32 | fingerprint of the certificate |
//! | 2 | length of what follows, big-endian |
//! | n | the sealed key ([`sealing`](super::sealing)) |
//! | 4 | CRC-32 of all before, big-endian |
//! | | zeros |
//!
//! An empty slot is all zeros. One that is neither, torn by a power cut, is held by nobody, and swept. A slot is a page, so
//! that no cut tears two.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::open_itself;
use crate::durable_fs;
use crate::pki::Fingerprint;

/// Length of a slot, bytes.
pub(super) const SLOT: usize = 4096;
const MAGIC: [u8; 8] = *b"keyslot\x01";
const HEAD: usize = MAGIC.len() + 32 + 2;
/// Longest sealed key that has room in one, bytes: a P-256 key takes some 260.
pub(super) const ROOM: usize = SLOT - HEAD - 4;

/// Slots that are made at once.
const GROWTH: u32 = 64;

/// Most slots: 64 MiB, which a start reads in a tenth of a second.
const MOST: u32 = 16 * 1024;

/// Why the slots cannot be opened.
#[derive(Debug)]
pub(super) enum Unopened {
    Io(io::Error),
    /// A later linemint has written there.
    OtherVersion,
}

impl From<io::Error> for Unopened {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a slot holds.
enum Held {
    Nothing,
    Key(Fingerprint, Vec<u8>),
    Broken,
    Later,
}

/// The file and who is where in it.
#[derive(Debug)]
pub(super) struct Slots {
    path: PathBuf,
    /// Held while something is written and synced. The system tells an error of the disk once for each open file: without
    /// it the one who syncs would hear of another's page, and the other of nothing.
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None before the first key.
    file: Option<Arc<File>>,
    count: u32,
    taken: HashMap<Fingerprint, u32>,
    free: BTreeSet<u32>,
    /// Neither a key nor nothing, to be swept; not used before.
    broken: BTreeSet<u32>,
}

impl Slots {
    /// Reads what is there. Nothing is made before the first key.
    pub(super) fn open(path: PathBuf) -> Result<Self, Unopened> {
        let state = State::read(&path)?;
        Ok(Self { path, turn: Mutex::default(), state: Mutex::new(state) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a key of that certificate is in one of them.
    pub(super) fn holds(&self, fingerprint: &Fingerprint) -> bool {
        self.state().taken.contains_key(fingerprint)
    }

    /// The certificates whose keys are in them.
    pub(super) fn known(&self) -> Vec<Fingerprint> {
        self.state().taken.keys().copied().collect()
    }

    /// How many more fit in.
    pub(super) fn room(&self) -> usize {
        let state = self.state();
        state.free.len() + (MOST - state.count) as usize
    }

    /// Stores sealed keys, none longer than [`ROOM`] and no more than there is [`room`](Self::room) for: all of them
    /// durably, or none.
    pub(super) fn store(&self, keys: &[(Fingerprint, Vec<u8>)]) -> io::Result<()> {
        let _turn = self.turn();
        let file = self.present()?;
        let numbers = self.reserve(&file, keys.len())?;
        let written = numbers
            .iter()
            .zip(keys)
            .try_for_each(|(number, (fingerprint, sealed))| {
                file.write_all_at(&page(fingerprint, sealed), place(*number))
            })
            .and_then(|()| file.sync_data());
        let cleared = if written.is_err() { clear(&file, &numbers) } else { Ok(()) };
        let mut state = self.state();
        match (&written, cleared) {
            (Ok(()), _) => state.taken.extend(keys.iter().map(|it| it.0).zip(numbers)),
            (Err(_), Ok(())) => state.free.extend(numbers),
            (Err(_), Err(_)) => state.broken.extend(numbers),
        }
        written
    }

    /// The file that has the name now: the open one, or one that somebody has put there, or a new one. What was in one
    /// that was taken away is lost, and nothing more must be.
    fn present(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.state().file.clone().filter(|it| is_at(it, &self.path)) {
            return Ok(file);
        }
        let mut state = State::read(&self.path).map_err(|error| match error {
            Unopened::Io(error) => error,
            Unopened::OtherVersion => io::Error::other("a later version of linemint has written there"),
        })?;
        let file = match state.file.take() {
            Some(file) => file,
            None => Arc::new(create(&self.path)?),
        };
        *self.state() = State { file: Some(file.clone()), ..state };
        Ok(file)
    }

    /// Takes so many empty slots, and makes more where there are too few.
    fn reserve(&self, file: &File, many: usize) -> io::Result<Vec<u32>> {
        loop {
            let mut state = self.state();
            if state.free.len() >= many {
                return Ok((0..many).filter_map(|_| state.free.pop_first()).collect());
            }
            let count = state.count;
            // Whoever reads a key meanwhile does not wait for the disk.
            drop(state);
            if count >= MOST {
                return Err(io::Error::other("all slots are taken"));
            }
            // In one go, and synced with the length: later writes find their blocks made.
            file.write_all_at(&vec![0; GROWTH as usize * SLOT], place(count))?;
            file.sync_all()?;
            let mut state = self.state();
            state.count = count + GROWTH;
            state.free.extend(count..count + GROWTH);
        }
    }

    /// The sealed key of a certificate; `None` if it is in no slot, an error of kind `InvalidData` if its slot is damaged.
    pub(super) fn load(&self, fingerprint: &Fingerprint) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        let (Some(number), Some(file)) = (state.taken.get(fingerprint).copied(), state.file.clone()) else {
            return Ok(None);
        };
        drop(state);
        if !is_at(&file, &self.path) {
            return Ok(None);
        }
        let mut page = [0; SLOT];
        file.read_exact_at(&mut page, place(number))?;
        match read(&page) {
            Held::Key(it, sealed) if it == *fingerprint => Ok(Some(sealed)),
            // It was destroyed meanwhile.
            _ if !self.holds(fingerprint) => Ok(None),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Overwrites those keys that are in slots, durably. Those that could not be, each with why: they keep their slots.
    pub(super) fn destroy(&self, fingerprints: &[Fingerprint]) -> Vec<(Fingerprint, io::Error)> {
        let _turn = self.turn();
        let state = self.state();
        let numbers: BTreeMap<u32, Fingerprint> =
            fingerprints.iter().filter_map(|it| Some((*state.taken.get(it)?, *it))).collect();
        let Some(file) = state.file.clone().filter(|_| !numbers.is_empty()) else { return Vec::new() };
        drop(state);
        let failed = clear_each(&numbers.keys().copied().collect::<Vec<_>>(), |it| clear(&file, it));
        let mut state = self.state();
        for (number, fingerprint) in &numbers {
            if !failed.contains_key(number) {
                state.taken.remove(fingerprint);
                state.free.insert(*number);
            }
        }
        failed.into_iter().filter_map(|(number, error)| Some((*numbers.get(&number)?, error))).collect()
    }

    /// Overwrites the slots in which nobody can find a key. Those that cannot be are left out until the next start.
    pub(super) fn clear_broken(&self) {
        let _turn = self.turn();
        let state = self.state();
        let numbers: Vec<u32> = state.broken.iter().copied().collect();
        let Some(file) = state.file.clone().filter(|_| !numbers.is_empty()) else { return };
        drop(state);
        let failed = clear_each(&numbers, |it| clear(&file, it));
        for (slot, error) in &failed {
            tracing::error!(file = %self.path.display(), slot, %error, "what a cut has left of a private key cannot be overwritten");
        }
        let mut state = self.state();
        for number in numbers.into_iter().filter(|it| !failed.contains_key(it)) {
            state.broken.remove(&number);
            state.free.insert(number);
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What lies in the file of that name; nothing if there is none.
    fn read(path: &Path) -> Result<Self, Unopened> {
        let mut state = Self::default();
        let file = match open_itself(OpenOptions::new().read(true).write(true), path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
            Err(error) => return Err(error.into()),
        };
        let mut page = [0; SLOT];
        let mut used = 0;
        for number in 0..slots_in(&file)? {
            state.count = number + 1;
            match file.read_exact_at(&mut page, place(number)).map(|()| read(&page)) {
                Ok(Held::Later) => return Err(Unopened::OtherVersion),
                Ok(Held::Nothing) => {
                    state.free.insert(number);
                    continue;
                }
                Ok(Held::Key(fingerprint, _)) if !state.taken.contains_key(&fingerprint) => {
                    state.taken.insert(fingerprint, number);
                }
                Ok(Held::Key(..) | Held::Broken) => {
                    state.broken.insert(number);
                }
                // It concerns one key, and neither the others nor the start.
                Err(error) => {
                    tracing::error!(file = %path.display(), slot = number, %error, "a sealed private key cannot be read");
                }
            }
            used = state.count;
        }
        // What a long outage has made it grow by is given back.
        let keep = used.next_multiple_of(GROWTH);
        if keep < state.count {
            file.set_len(place(keep))?;
            state.count = keep;
            state.free.split_off(&keep);
        }
        state.file = Some(Arc::new(file));
        Ok(state)
    }
}

/// Slots of that file that are not empty.
pub(super) fn count(path: &Path) -> io::Result<usize> {
    let file = open_itself(OpenOptions::new().read(true), path)?;
    let mut page = [0; SLOT];
    let is_empty = |number| {
        file.read_exact_at(&mut page, place(number)).is_ok_and(|()| matches!(read(&page), Held::Nothing))
    };
    Ok((0..slots_in(&file)?).map(is_empty).filter(|it| !it).count())
}

fn slots_in(file: &File) -> io::Result<u32> {
    Ok(u32::try_from(file.metadata()?.len() / SLOT as u64).unwrap_or(MOST).min(MOST))
}

/// Whether that name is the open file's still.
fn is_at(file: &File, path: &Path) -> bool {
    let of = |it: io::Result<std::fs::Metadata>| it.map(|it| (it.dev(), it.ino())).ok();
    of(file.metadata()).is_some_and(|it| of(path.symlink_metadata()) == Some(it))
}

fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    file.sync_all()?;
    durable_fs::sync_dir(durable_fs::parent(path)).map_err(io::Error::other)?;
    Ok(file)
}

/// Clears all of them at once or, where that fails, one by one: a bad place holds up no other. Those that failed.
fn clear_each(numbers: &[u32], clear: impl Fn(&[u32]) -> io::Result<()>) -> BTreeMap<u32, io::Error> {
    if clear(numbers).is_ok() {
        return BTreeMap::new();
    }
    numbers.iter().filter_map(|it| Some((*it, clear(&[*it]).err()?))).collect()
}

fn clear(file: &File, numbers: &[u32]) -> io::Result<()> {
    numbers.iter().try_for_each(|it| file.write_all_at(&[0; SLOT], place(*it)))?;
    file.sync_data()
}

fn place(number: u32) -> u64 {
    u64::from(number) * SLOT as u64
}

fn page(fingerprint: &Fingerprint, sealed: &[u8]) -> [u8; SLOT] {
    let mut page = [0; SLOT];
    let length = u16::try_from(sealed.len()).unwrap_or(u16::MAX);
    let parts = [&MAGIC[..], fingerprint.as_bytes(), &length.to_be_bytes(), sealed].concat();
    let crc = crc32fast::hash(&parts).to_be_bytes();
    let whole = parts.into_iter().chain(crc);
    page.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    page
}

fn read(page: &[u8; SLOT]) -> Held {
    if page.iter().all(|it| *it == 0) {
        return Held::Nothing;
    }
    let (head, rest) = page.split_at(HEAD);
    let length = usize::from(u16::from_be_bytes([head[HEAD - 2], head[HEAD - 1]]));
    let fingerprint = <[u8; 32]>::try_from(&head[MAGIC.len()..HEAD - 2]).map(Fingerprint::from_bytes);
    match (fingerprint, rest.get(..length), rest.get(length..length + 4)) {
        (Ok(fingerprint), Some(sealed), Some(crc))
            if head[..7] == MAGIC[..7] && crc32fast::hash(&page[..HEAD + length]).to_be_bytes() == crc =>
        {
            // The same head, length and sum for ever.
            if head[7] == MAGIC[7] { Held::Key(fingerprint, sealed.to_vec()) } else { Held::Later }
        }
        _ => Held::Broken,
    }
}
