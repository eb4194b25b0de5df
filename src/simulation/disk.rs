//! A disk that keeps what was synced, and loses of the rest what the seed says; and the sealed keys on it.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use zeroize::Zeroizing;

use crate::journal::keys::KeyStoreError;
use crate::journal::log::disk::{Bytes, Disk, Source};
use crate::journal::log::frame::FRAME_BYTES;
use crate::pki::Fingerprint;
use crate::station::vault::{Keys, Unloaded};

/// How the station ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process is killed: what it has written stays, synced or not.
    Kill,
    /// The power goes: of what is not synced a part stays, torn anywhere.
    PowerCut,
    /// The power goes, and so many bytes of what is not synced stay.
    PowerCutKeeping(usize),
}

/// The log's disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    files: BTreeMap<PathBuf, SimFile>,
    newest: PathBuf,
    /// A sync was asked for and has not ended.
    syncing: bool,
    /// The next write stops after so many bytes, with an error.
    fails_after: Option<usize>,
}

#[derive(Debug, Default, Clone)]
struct SimFile {
    bytes: Vec<u8>,
    synced: usize,
    /// How long it was made ahead; zeros, from the end of `bytes` on.
    room: usize,
}

impl SimFile {
    fn end(&mut self, ending: Ending, syncing: bool, rng: &mut fastrand::Rng) {
        let unsynced = self.bytes.len() - self.synced;
        let kept = match ending {
            // What is written can be read all the same.
            Ending::Kill => unsynced,
            Ending::PowerCut => rng.usize(..=unsynced),
            Ending::PowerCutKeeping(kept) => kept.min(unsynced),
        };
        self.bytes.truncate(self.synced + kept);
        if ending == Ending::PowerCut && kept > 0 && rng.u8(..4) == 0 {
            // The file was made longer, but what was to be there has not been written.
            let from = self.synced + rng.usize(..kept);
            self.bytes[from..].fill(0);
        }
        // A sync that was under way when the process was killed may have ended or not.
        if ending != Ending::Kill || syncing && rng.bool() {
            self.synced = self.bytes.len();
        }
        // Of the room ahead a little is enough to be met.
        let room = self.bytes.len() + rng.usize(..=2 * FRAME_BYTES);
        self.bytes.resize(room.min(self.room).max(self.bytes.len()), 0);
        self.room = 0;
    }
}

impl SimDisk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    /// The sync that was asked for ends: what was written is on disk. In the simulation it takes time.
    pub(super) fn end_sync(&self) {
        let mut it = self.files();
        if std::mem::take(&mut it.syncing) {
            let newest = it.newest.clone();
            let file = it.files.get_mut(&newest).unwrap();
            file.synced = file.bytes.len();
        }
    }

    /// The next write fails after so many bytes.
    pub(super) fn fail_after(&self, bytes: usize) {
        self.files().fails_after = Some(bytes);
    }

    /// What is written and not synced, bytes.
    pub(super) fn unsynced(&self) -> usize {
        self.files().files.values().map(|it| it.bytes.len() - it.synced).sum()
    }

    /// The station ends, in whatever way.
    pub(super) fn crash(&self, ending: Ending, rng: &mut fastrand::Rng) {
        let mut it = self.files();
        let syncing = std::mem::take(&mut it.syncing);
        it.fails_after = None;
        for file in it.files.values_mut() {
            file.end(ending, syncing, rng);
        }
    }

    /// Whether these bytes are anywhere on it.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        self.files().files.values().any(|it| it.bytes.windows(bytes.len()).any(|it| it == bytes))
    }
}

impl Disk for SimDisk {
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut it = self.files();
        let file = SimFile { bytes: bytes.to_vec(), synced: bytes.len(), room: 0 };
        it.newest = path.to_owned();
        match it.files.insert(path.to_owned(), file) {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn resume(&mut self, path: &Path, length: u64) -> io::Result<()> {
        let mut it = self.files();
        it.newest = path.to_owned();
        let file = it.files.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        file.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        file.synced = file.synced.min(file.bytes.len());
        Ok(())
    }

    fn cut(&mut self, path: &Path, length: Option<u64>) -> io::Result<()> {
        let mut it = self.files();
        match length {
            Some(length) => {
                let file = it.files.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
                file.bytes.truncate(usize::try_from(length).unwrap());
                file.synced = file.bytes.len();
                file.room = 0;
            }
            None => drop(it.files.remove(path)),
        }
        Ok(())
    }

    fn reserve(&mut self, from: u64, bytes: u64) -> io::Result<bool> {
        let mut it = self.files();
        let newest = it.newest.clone();
        let file = it.files.get_mut(&newest).ok_or(io::ErrorKind::NotFound)?;
        file.room = usize::try_from(from + bytes).unwrap();
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut it = self.files();
        let fails_after = it.fails_after.take();
        let newest = it.newest.clone();
        let file = it.files.get_mut(&newest).ok_or(io::ErrorKind::NotFound)?;
        let at = usize::try_from(at).unwrap();
        let bytes = &bytes[..fails_after.unwrap_or(bytes.len()).min(bytes.len())];
        assert!(at <= file.bytes.len(), "a gap");
        file.bytes.resize(file.bytes.len().max(at + bytes.len()), 0);
        file.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        file.synced = file.synced.min(at);
        fails_after.map_or(Ok(()), |_| Err(io::ErrorKind::StorageFull.into()))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.files().syncing = true;
        Ok(())
    }
}

impl Source for SimDisk {
    fn names(&self, _dir: &Path) -> io::Result<Vec<String>> {
        let it = self.files();
        Ok(it.files.keys().map(|it| it.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Bytes>> {
        let it = self.files();
        let file = it.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(file.bytes.clone())))
    }
}

/// The sealed keys. What is stored or destroyed is durable at once, or cut off by a crash before it is told.
#[derive(Debug, Default)]
pub(super) struct SimKeys(Mutex<BTreeMap<Fingerprint, Option<Vec<u8>>>>);

impl SimKeys {
    fn keys(&self) -> MutexGuard<'_, BTreeMap<Fingerprint, Option<Vec<u8>>>> {
        self.0.lock().unwrap()
    }

    /// The certificates whose keys are there, readable or not.
    pub(super) fn held(&self) -> Vec<Fingerprint> {
        self.keys().keys().copied().collect()
    }

    /// All key files are gone: a restore onto another machine.
    pub(super) fn lose_all(&self) {
        self.keys().clear();
    }

    /// A destruction is cut off after the overwriting.
    pub(super) fn break_one(&self, fingerprint: &Fingerprint) {
        self.keys().entry(*fingerprint).and_modify(|it| *it = None);
    }
}

impl Keys for SimKeys {
    fn store(&self, keys: Vec<(Fingerprint, Zeroizing<Vec<u8>>)>) -> Result<(), String> {
        self.keys().extend(keys.into_iter().map(|(it, key)| (it, Some(key.to_vec()))));
        Ok(())
    }

    fn load(&self, fingerprint: &Fingerprint) -> Result<Option<Zeroizing<Vec<u8>>>, Unloaded> {
        match self.keys().get(fingerprint) {
            None => Ok(None),
            Some(None) => Err(Unloaded::Lost("damaged".to_owned())),
            Some(Some(key)) => Ok(Some(Zeroizing::new(key.clone()))),
        }
    }

    fn destroy(&self, fingerprints: &[Fingerprint]) -> Vec<(Fingerprint, String)> {
        self.keys().retain(|it, _| !fingerprints.contains(it));
        Vec::new()
    }

    fn sweep(&self, keep: &HashSet<Fingerprint>) -> Result<Vec<Fingerprint>, KeyStoreError> {
        let swept: Vec<_> = self.held().into_iter().filter(|it| !keep.contains(it)).collect();
        self.keys().retain(|it, _| keep.contains(it));
        Ok(swept)
    }
}
