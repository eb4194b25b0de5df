//! Private keys that have not reached their device yet: sealed, each in a slot of one file or, where it is too long, in a
//! file of its own, outside the journal, its log and its backups.
//!
//! A key is stored before anything names its certificate, and destroyed when the device has
//! confirmed. One without a record is a leftover, and [`KeyStore::sweep`] destroys it. All
//! of it blocks on the disk: call it on a thread that may.

mod sealing;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use self::sealing::{MAX_PRIVATE_KEY_LEN, MAX_SEALED_LEN, Unopened};
use self::slots::Slots;
use crate::durable_fs::{self, FileError};
use crate::pki::Fingerprint;

pub use self::sealing::{SealKey, SealKeyError};

/// Why a private key was not stored, read or destroyed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum KeyStoreError {
    #[error("{prefix:?} cannot begin the name of a key file: 1 to 64 of A-Z, a-z, 0-9, _ and - can")]
    Prefix { prefix: String },
    #[error("failed to open the key store")]
    Open(#[source] FileError),
    #[error("failed to store the private key of certificate {fingerprint}")]
    Store { fingerprint: Fingerprint, source: FileError },
    #[error("a private key of {length} bytes is too long to be stored: {MAX_PRIVATE_KEY_LEN} is the limit")]
    TooLong { length: usize },
    #[error("failed to make the key store's changes durable")]
    Sync(#[source] FileError),
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged: its private key is lost", path.display())]
    Damaged { path: PathBuf },
    #[error("{} was sealed under another seal key than this station's", path.display())]
    OtherSealKey { path: PathBuf },
    #[error("{} was written by a later version of linemint", path.display())]
    OtherVersion { path: PathBuf },
    #[error("failed to destroy {}", path.display())]
    Destroy { path: PathBuf, source: io::Error },
    #[error("failed to list {}", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("failed to seal a private key: the cryptographic library refused")]
    Seal,
}

/// What the name of the file with slots ends with.
const SLOTS: &str = ".slots";

/// The sealed private keys of one journal.
#[derive(Debug)]
pub struct KeyStore {
    dir: PathBuf,
    prefix: String,
    seal_key: SealKey,
    slots: Slots,
}

/// How many keys lie in `dir`, those that are broken among them, in files whose names are `ours`; none where there is no
/// such directory.
///
/// # Errors
/// It cannot be read.
pub fn stored_in(dir: &Path, ours: impl Fn(&str) -> bool) -> io::Result<usize> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        count += match ours(&name) {
            true if name.ends_with(SLOTS) => slots::count(&entry.path())?,
            its => usize::from(its),
        };
    }
    Ok(count)
}

impl KeyStore {
    /// Opens the store in `dir`, which is made (0700, durable) if missing. Its files begin
    /// with `prefix`; those with another belong to another journal and are left alone.
    ///
    /// # Errors
    /// The prefix does not fit a file name, the directory cannot be made, or what is in it not be read.
    pub fn open(dir: PathBuf, prefix: &str, seal_key: SealKey) -> Result<Self, KeyStoreError> {
        let fits = |it: u8| it.is_ascii_alphanumeric() || it == b'_' || it == b'-';
        if !(1..=64).contains(&prefix.len()) || !prefix.bytes().all(fits) {
            return Err(KeyStoreError::Prefix { prefix: prefix.to_owned() });
        }
        durable_fs::create_dir(&dir, 0o700).map_err(KeyStoreError::Open)?;
        let path = dir.join(format!("{prefix}{SLOTS}"));
        let slots = Slots::open(path.clone()).map_err(|error| match error {
            slots::Unopened::Io(source) => KeyStoreError::Read { path, source },
            slots::Unopened::OtherVersion => KeyStoreError::OtherVersion { path },
        })?;
        Ok(Self { dir, prefix: prefix.to_owned(), seal_key, slots })
    }

    /// Seals and stores private keys (DER), each under its certificate's fingerprint. All are
    /// durable when it returns; if it fails, those it had stored are destroyed again.
    ///
    /// # Errors
    /// A key of that certificate is stored already, or the disk refuses.
    pub fn store_many(&self, keys: Vec<(Fingerprint, Zeroizing<Vec<u8>>)>) -> Result<(), KeyStoreError> {
        let room = self.slots.room();
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for (fingerprint, key) in keys {
            let sealed = self.seal(&fingerprint, &key)?;
            let fits = sealed.len() <= slots::ROOM && short.len() < room;
            let group = if fits { &mut short } else { &mut long };
            if self.has(&fingerprint) || group.iter().any(|(it, _)| *it == fingerprint) {
                let path = self.path(&fingerprint);
                return Err(KeyStoreError::Store { fingerprint, source: FileError::Exists { path } });
            }
            group.push((fingerprint, sealed));
        }
        let mut stored = Vec::with_capacity(long.len());
        let result = self.store_files(&long, &mut stored).and_then(|()| self.store_slots(&short));
        if result.is_err() {
            // What it cannot destroy has no record, and the next start's sweep finds it.
            let _ = self.destroy_many(&stored);
        }
        result
    }

    fn seal(&self, fingerprint: &Fingerprint, private_key: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        if private_key.len() > MAX_PRIVATE_KEY_LEN {
            return Err(KeyStoreError::TooLong { length: private_key.len() });
        }
        sealing::seal(&self.seal_key, fingerprint, private_key).map_err(|_| KeyStoreError::Seal)
    }

    fn has(&self, fingerprint: &Fingerprint) -> bool {
        self.slots.holds(fingerprint) || self.path(fingerprint).symlink_metadata().is_ok()
    }

    fn store_files(
        &self,
        keys: &[(Fingerprint, Vec<u8>)],
        stored: &mut Vec<Fingerprint>,
    ) -> Result<(), KeyStoreError> {
        for (fingerprint, sealed) in keys {
            durable_fs::write_new(&self.path(fingerprint), 0o600, sealed)
                .map_err(|source| KeyStoreError::Store { fingerprint: *fingerprint, source })?;
            stored.push(*fingerprint);
        }
        if keys.is_empty() { Ok(()) } else { durable_fs::sync_dir(&self.dir).map_err(KeyStoreError::Sync) }
    }

    fn store_slots(&self, keys: &[(Fingerprint, Vec<u8>)]) -> Result<(), KeyStoreError> {
        let Some((first, _)) = keys.first() else { return Ok(()) };
        self.slots.store(keys).map_err(|source| {
            let source = FileError::io("write", self.slots.path())(source);
            KeyStoreError::Store { fingerprint: *first, source }
        })
    }

    /// The private key of a certificate; `None` if none is stored.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or was sealed under another seal key.
    pub fn load(&self, fingerprint: &Fingerprint) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        let path = self.slots.path().to_owned();
        let (path, sealed) = match self.slots.load(fingerprint) {
            Ok(Some(sealed)) => (path, sealed),
            Ok(None) => match self.load_file(fingerprint)? {
                Some(file) => file,
                None => return Ok(None),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(KeyStoreError::Damaged { path });
            }
            Err(source) => return Err(KeyStoreError::Read { path, source }),
        };
        match sealing::open(&self.seal_key, fingerprint, &sealed) {
            Ok(key) => Ok(Some(key)),
            Err(Unopened::Damaged) => Err(KeyStoreError::Damaged { path }),
            Err(Unopened::OtherSealKey) => Err(KeyStoreError::OtherSealKey { path }),
            Err(Unopened::OtherVersion) => Err(KeyStoreError::OtherVersion { path }),
        }
    }

    fn load_file(&self, fingerprint: &Fingerprint) -> Result<Option<(PathBuf, Vec<u8>)>, KeyStoreError> {
        let path = self.path(fingerprint);
        let file = match open_itself(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeyStoreError::Read { path, source }),
        };
        let mut sealed = Vec::with_capacity(1024);
        // One byte more than fits: too long a file then fails to open, as it should.
        match file.take(MAX_SEALED_LEN as u64 + 1).read_to_end(&mut sealed) {
            Ok(_) => Ok(Some((path, sealed))),
            Err(source) => Err(KeyStoreError::Read { path, source }),
        }
    }

    /// Destroys private keys: overwrites, unlinks what is a file, and makes that durable. One that is not
    /// there has been destroyed already. All are tried, whatever becomes of the others.
    ///
    /// Those that could not be, each with why: its file is kept, so that another try can succeed.
    ///
    /// # Errors
    /// The directory cannot be synced: then none is destroyed for certain.
    pub fn destroy_many(
        &self,
        fingerprints: &[Fingerprint],
    ) -> Result<Vec<(Fingerprint, KeyStoreError)>, KeyStoreError> {
        let (slotted, filed): (Vec<_>, Vec<_>) = fingerprints.iter().partition(|it| self.slots.holds(it));
        let mut kept = Vec::new();
        let why = |source| KeyStoreError::Destroy { path: self.slots.path().to_owned(), source };
        kept.extend(self.slots.destroy(&slotted).into_iter().map(|(it, source)| (it, why(source))));
        let mut unlinked = false;
        for fingerprint in &filed {
            let path = self.path(fingerprint);
            match overwrite(&path).and_then(|()| std::fs::remove_file(&path)) {
                Ok(()) => unlinked = true,
                // Also when unlinked by one who was cut off before the sync below.
                Err(error) if error.kind() == io::ErrorKind::NotFound => unlinked = true,
                Err(source) => {
                    kept.push((*fingerprint, KeyStoreError::Destroy { path, source }));
                }
            }
        }
        if unlinked {
            durable_fs::sync_dir(&self.dir).map_err(KeyStoreError::Sync)?;
        }
        Ok(kept)
    }

    /// Destroys this journal's private keys that are not in `keep`, broken ones too, and
    /// says which they were. Files with other names are left alone.
    ///
    /// # Errors
    /// The directory cannot be listed, or one cannot be destroyed.
    pub fn sweep(&self, keep: &HashSet<Fingerprint>) -> Result<Vec<Fingerprint>, KeyStoreError> {
        let list = |source| KeyStoreError::List { path: self.dir.clone(), source };
        self.slots.clear_broken();
        let mut swept = self.slots.known();
        swept.retain(|it| !keep.contains(it));
        for entry in self.dir.read_dir().map_err(list)? {
            let name = entry.map_err(list)?.file_name();
            let fingerprint = name.to_str().and_then(|it| self.parse_name(it));
            swept.extend(fingerprint.filter(|it| !keep.contains(it)));
        }
        match self.destroy_many(&swept)?.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(swept),
        }
    }

    fn name(&self, fingerprint: &Fingerprint) -> String {
        format!("{}-{fingerprint}.key", self.prefix)
    }

    /// The fingerprint in a name that [`Self::name`] made.
    fn parse_name(&self, name: &str) -> Option<Fingerprint> {
        let digits = name.strip_prefix(&self.prefix)?.strip_prefix('-')?.strip_suffix(".key")?;
        let fingerprint = digits.parse().ok()?;
        // Hex reads in both cases; only the one it is written in is ours.
        (self.name(&fingerprint) == name).then_some(fingerprint)
    }

    fn path(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.dir.join(self.name(fingerprint))
    }
}

/// Opens the file itself, never what a link in its place points to.
fn open_itself(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Overwrites a file with as many random bytes, and syncs them.
fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = open_itself(OpenOptions::new().write(true), path)?;
    let mut left = file.metadata()?.len();
    let mut noise = [0; 1024];
    while left > 0 {
        aws_lc_rs::rand::fill(&mut noise)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let length = noise.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&noise[..length])?;
        left -= length as u64;
    }
    // As many bytes in the same place: no name, size or block of the file's changes with them.
    file.sync_data()
}
