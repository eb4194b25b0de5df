//! Credentials as files, for what can store nothing itself.
//!
//! ```text
//!   DIRECTORY/
//!     SERIAL/                 0700
//!       certificate.pem       0600, the leaf, then its chain
//!       private_key.pem       0600, if the station made the key
//!       ca.pem                0600, the server's roots, if the product names them
//!       manifest.json         0600, what they are, and the SHA-256 of each file
//!       FINGERPRINT/          0700, a later certificate of the same serial number
//! ```
//! A folder gets its name when all of it is on disk; a reader sees it whole or not at all. Nothing is ever
//! overwritten but `manifest.json`, which then names the newest certificate. The same delivery a second time
//! changes nothing.

mod folders;
mod labels;

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::durable_fs::{self, FileError};
use crate::fixture::Credentials;
use crate::label::LabelError;
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

pub(crate) use self::folders::{Folders, SystemFolders};
pub(crate) use self::labels::put_label;

/// Format of the manifest; later versions only add members.
const FORMAT: u32 = 1;

/// The longest folder name, bytes: file systems take 255, of which the temporary name needs some.
const MAX_NAME: usize = 150;

/// The longest file that is read back, bytes.
const MAX_FILE: u64 = 256 << 10;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const MANIFEST: &str = "manifest.json";

/// Why credentials could not be delivered.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum DeliveryError {
    #[error("the directory {} is not there", directory.display())]
    Missing { directory: PathBuf },
    #[error("{} is there already and is not this device's: move it away", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is not as it was delivered: move it away", path.display())]
    Changed { path: PathBuf },
    #[error("a label cannot be drawn")]
    Label(#[from] LabelError),
    #[error("a file cannot be delivered")]
    File(#[from] FileError),
}

/// What is handed over.
#[derive(Debug, Clone, Copy)]
pub struct Handed<'a> {
    /// The station's id.
    pub station: &'a str,
    /// The product.
    pub product: &'a str,
    /// When it was decided.
    pub at: Timestamp,
    /// The credentials, private key included.
    pub credentials: &'a Credentials,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its format, 1.
    pub format: u32,
    /// The device.
    pub serial: String,
    /// The thing's name.
    pub thing: String,
    /// SHA-256 of the present certificate's DER, hex; its id in AWS IoT.
    pub fingerprint: String,
    /// The AWS IoT data endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The locker's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locker_id: Option<String>,
    /// The product.
    pub product: String,
    /// The station's id.
    pub station: String,
    /// When it was delivered.
    pub at: Timestamp,
    /// The files of the present certificate, by their path from here, each with its SHA-256 in hex.
    pub files: serde_json::Map<String, serde_json::Value>,
    /// Fingerprints of earlier certificates whose files lie here still, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
}

/// Readies a directory at the station's start: makes it if only it is missing, and removes what a crash has
/// left half written.
///
/// # Errors
/// The directory is not there, or cannot be read. Whoever delivers finds that too.
pub fn prepare(directory: &Path, station: &str) -> Result<(), DeliveryError> {
    // Not what is above it: that may be a share that is not mounted yet.
    if !directory.exists() && durable_fs::parent(directory).is_dir() {
        durable_fs::create_dir(directory, DIR_MODE)?;
    }
    tidy(&SystemFolders, directory, station)
}

/// Removes what a crash has left half written.
///
/// # Errors
/// The directory is not there, or cannot be read.
pub(crate) fn tidy(at: &impl Folders, directory: &Path, station: &str) -> Result<(), DeliveryError> {
    let names = match at.names(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DeliveryError::Missing { directory: directory.to_owned() });
        }
        Err(error) => return Err(failed("read", directory)(error).into()),
    };
    let begin = temporary_name(station, "");
    for name in names.iter().filter(|it| it.starts_with(&begin)) {
        clear(at, &directory.join(name))?;
    }
    Ok(())
}

/// Delivers; on disk when it returns.
///
/// # Errors
/// Nothing was delivered, or not durably. The same call again takes it up.
pub fn deliver(directory: &Path, handed: &Handed<'_>) -> Result<(), DeliveryError> {
    deliver_on(&SystemFolders, directory, handed)
}

/// As [`deliver`], on another file system.
///
/// # Errors
/// As there.
pub(crate) fn deliver_on(
    at: &impl Folders,
    directory: &Path,
    handed: &Handed<'_>,
) -> Result<(), DeliveryError> {
    if !at.is_dir(directory) {
        return Err(DeliveryError::Missing { directory: directory.to_owned() });
    }
    let folder = directory.join(folder_name(&handed.credentials.serial));
    if !at.is_taken(&folder) {
        let mut files = files(handed.credentials);
        let manifest = manifest(handed, &files, "", Vec::new());
        files.push((MANIFEST, manifest_text(&manifest)));
        put_folder(at, &temporary(directory, &folder, handed.station), &folder, &files)?;
        return sync_name(at, directory);
    }
    let before = read_manifest(at, &folder)?.filter(|it| it.serial == handed.credentials.serial);
    let Some(before) = before else { return Err(DeliveryError::Foreign { path: folder }) };
    if before.fingerprint == handed.credentials.certificate_sha256 {
        let there = before.files.keys().any(|it| it.contains('/'));
        let place = if there { folder.join(&before.fingerprint) } else { folder.clone() };
        check(at, &temporary(directory, &place, handed.station), &place, &files(handed.credentials))?;
        // A crash may have come between the name and its sync.
        at.sync(&folder)?;
    } else {
        deliver_later(at, (directory, &folder), handed, before)?;
    }
    sync_name(at, directory)
}

/// The folder has its name on disk too.
fn sync_name(at: &impl Folders, directory: &Path) -> Result<(), DeliveryError> {
    if sabotaged!(FolderNameUnsynced) {
        return Ok(());
    }
    Ok(at.sync(directory)?)
}

/// A later certificate of the same serial number goes beside the earlier ones.
fn deliver_later(
    at: &impl Folders,
    (directory, folder): (&Path, &Path),
    handed: &Handed<'_>,
    before: Manifest,
) -> Result<(), DeliveryError> {
    let fingerprint = &handed.credentials.certificate_sha256;
    let (place, files) = (folder.join(fingerprint), files(handed.credentials));
    let temporary = temporary(directory, &place, handed.station);
    if at.is_taken(&place) {
        check(at, &temporary, &place, &files)?;
    } else {
        put_folder(at, &temporary, &place, &files)?;
    }
    at.sync(folder)?;
    let mut previous = before.previous;
    previous.push(before.fingerprint);
    let manifest = manifest(handed, &files, &format!("{fingerprint}/"), previous);
    Ok(at.replace(&folder.join(MANIFEST), &manifest_text(&manifest))?)
}

/// A file's content, wiped on drop.
pub(crate) type Content = Zeroizing<Vec<u8>>;

fn files(it: &Credentials) -> Vec<(&'static str, Content)> {
    let content = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    let mut files = vec![("certificate.pem", content(&it.certificate))];
    files.extend(it.private_key.as_ref().map(|key| ("private_key.pem", content(key))));
    files.extend(it.ca.as_ref().map(|ca| ("ca.pem", content(ca))));
    files
}

fn manifest(
    handed: &Handed<'_>,
    files: &[(&'static str, Content)],
    below: &str,
    previous: Vec<String>,
) -> Manifest {
    let it = handed.credentials;
    let sha256 = |content: &Content| serde_json::Value::from(Fingerprint::of(content).to_string());
    Manifest {
        format: FORMAT,
        serial: it.serial.clone(),
        thing: it.thing.clone(),
        fingerprint: it.certificate_sha256.clone(),
        endpoint: it.endpoint.clone(),
        locker_id: it.locker_id.clone(),
        product: handed.product.to_owned(),
        station: handed.station.to_owned(),
        at: handed.at,
        files: files.iter().map(|(name, content)| (format!("{below}{name}"), sha256(content))).collect(),
        previous,
    }
}

fn manifest_text(manifest: &Manifest) -> Content {
    // Strings and maps: cannot fail.
    let mut text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    text.push(b'\n');
    Zeroizing::new(text)
}

/// What lies there; none if there is no manifest that can be read.
fn read_manifest(at: &impl Folders, folder: &Path) -> Result<Option<Manifest>, DeliveryError> {
    let path = folder.join(MANIFEST);
    match at.read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(failed("read", &path)(error).into()),
    }
}

/// Makes the folder `place` with all its files, at one stroke: it is `temporary` until all of it is on disk. Its
/// own name is on disk when the directory above it is synced.
fn put_folder(
    at: &impl Folders,
    temporary: &Path,
    place: &Path,
    files: &[(&'static str, Content)],
) -> Result<(), DeliveryError> {
    clear(at, temporary)?;
    let put = || -> Result<(), FileError> {
        at.make(temporary).map_err(failed("make the directory", temporary))?;
        for (name, content) in files {
            at.write(&temporary.join(name), content)?;
        }
        if !sabotaged!(FolderNamedUnsynced) {
            at.sync(temporary)?;
        }
        at.rename(temporary, place).map_err(failed("name", place))
    };
    put().map_err(|error| {
        // A part is of no use to anyone; if it stays, the next try or start removes it.
        let _ = clear(at, temporary);
        error.into()
    })
}

/// Puts one file there, as it is in `temporary` at first: where it is cut off there must be no half file.
fn put_file(
    at: &impl Folders,
    temporary: &Path,
    path: &Path,
    content: &Content,
) -> Result<(), DeliveryError> {
    clear(at, temporary)?;
    let part = temporary.join(path.file_name().unwrap_or_default());
    let put = || -> Result<(), FileError> {
        at.make(temporary).map_err(failed("make the directory", temporary))?;
        at.write(&part, content)?;
        at.rename(&part, path).map_err(failed("name", path))
    };
    let put = put();
    let cleared = clear(at, temporary);
    Ok(put.and(cleared)?)
}

/// Whether the files are there as they should be. One that is missing is put there again; one that is another
/// is left alone.
fn check(
    at: &impl Folders,
    temporary: &Path,
    place: &Path,
    files: &[(&'static str, Content)],
) -> Result<(), DeliveryError> {
    for (name, content) in files {
        let path = place.join(name);
        match at.read(&path) {
            Ok(there) if there == *content => {}
            Ok(_) => return Err(DeliveryError::Changed { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                put_file(at, temporary, &path, content)?;
            }
            Err(error) => return Err(failed("read", &path)(error).into()),
        }
    }
    Ok(at.sync(place)?)
}

/// Removes a temporary folder, if it is there.
fn clear(at: &impl Folders, path: &Path) -> Result<(), FileError> {
    match at.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Where `place` is made: in the delivery directory itself, wherever it will be, since there a start looks for
/// what a crash has left. It may hold a private key.
fn temporary(directory: &Path, place: &Path, station: &str) -> PathBuf {
    let name = place.file_name().map(|it| it.to_string_lossy()).unwrap_or_default();
    directory.join(temporary_name(station, &name))
}

/// The name of a folder until it is whole. `~` is in no station's id and no folder's name, so that each
/// station on a shared directory knows its own.
fn temporary_name(station: &str, name: &str) -> String {
    format!(".linemint~{station}~{name}")
}

/// The name of a device's folder: its serial number, with `%` and two hex digits for whatever a file name
/// may not hold or would hide, and for a serial number that is too long its hash at the end.
#[must_use]
pub fn folder_name(serial: &str) -> String {
    let mut name = String::with_capacity(serial.len());
    for (at, byte) in serial.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    if name.len() > MAX_NAME {
        name.truncate(MAX_NAME - 33);
        name.push('=');
        name.push_str(&Fingerprint::of(serial.as_bytes()).to_string()[..32]);
    }
    name
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { attempt, path, source }
}

#[cfg(test)]
mod tests;
