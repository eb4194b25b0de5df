//! How a private key is sealed, byte for byte.
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `linekey` and the version, 1 |
//! | 8 | id of the seal key: the beginning of a hash of it |
//! | 12 + 32 + 16 | nonce, wrapped data key, tag: AES-256-GCM under the seal key |
//! | 12 + n + 16 | nonce, private key, tag: AES-256-GCM under the data key |
//!
//! Both are bound to the first 16 bytes and to the certificate's fingerprint, so that a file
//! cannot stand in for another. A data key of its own for each file keeps what is written
//! under the one seal key to 32 random bytes each, however long the station lives.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

use crate::durable_fs::{self, FileError};
use crate::pki::Fingerprint;

/// Length of the seal key and of each data key, bytes.
const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;
const MAGIC: [u8; 8] = *b"linekey\x01";
const HEADER_LEN: usize = 16;
const WRAPPED_LEN: usize = NONCE_LEN + KEY_LEN + TAG_LEN;

/// Longest private key that is stored, bytes: twice what an RSA key of 8,192 bits takes.
pub(super) const MAX_PRIVATE_KEY_LEN: usize = 10 * 1024;
/// Longest file, bytes.
pub(super) const MAX_SEALED_LEN: usize = HEADER_LEN + WRAPPED_LEN + NONCE_LEN + MAX_PRIVATE_KEY_LEN + TAG_LEN;

/// The station's seal key: under it the key of each stored private key is wrapped.
pub struct SealKey(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Why there is no seal key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum SealKeyError {
    #[error("failed to read the seal key")]
    Read(#[source] FileError),
    #[error("failed to make a new seal key")]
    Make(#[source] FileError),
    #[error(
        "there is no seal key at {}, and the private keys already stored need the one that sealed them",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("{} is not a seal key: it has {length} bytes, not {KEY_LEN}", path.display())]
    Length { path: PathBuf, length: usize },
    #[error("the system has no random numbers")]
    Entropy,
}

impl SealKey {
    /// Reads the seal key, 32 bytes that none but their owner may read. If there is none and
    /// it `may_create` one (the journal is new), it makes one, mode 0600 and durable.
    ///
    /// # Errors
    /// It is missing, of another length, readable by others, or cannot be made.
    pub fn load_or_create(path: &Path, may_create: bool) -> Result<Self, SealKeyError> {
        match durable_fs::read_secret(path, KEY_LEN) {
            Ok(key) if key.len() == KEY_LEN => Ok(Self(key)),
            Ok(key) => Err(SealKeyError::Length { path: path.to_owned(), length: key.len() }),
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
                if may_create {
                    return Self::create(path);
                }
                Err(SealKeyError::Missing { path: path.to_owned() })
            }
            Err(error) => Err(SealKeyError::Read(error)),
        }
    }

    fn create(path: &Path) -> Result<Self, SealKeyError> {
        let key = random_key().map_err(|_| SealKeyError::Entropy)?;
        durable_fs::create_new(path, 0o600, &key).map_err(SealKeyError::Make)?;
        Ok(Self(key))
    }

    /// Tells this seal key from others. Says nothing of the key: it is a hash of 256 random bits.
    fn header(&self) -> [u8; HEADER_LEN] {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(b"linemint seal key id");
        hash.update(&self.0);
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&MAGIC);
        header[8..].copy_from_slice(&hash.finish().as_ref()[..8]);
        header
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

/// Why a sealed key does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is not what was written.
    Damaged,
    /// It was sealed under another seal key.
    OtherSealKey,
    /// It was written by a later linemint.
    OtherVersion,
}

/// Seals a private key for the certificate with this fingerprint.
pub(super) fn seal(
    seal_key: &SealKey,
    fingerprint: &Fingerprint,
    private_key: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let header = seal_key.header();
    let context = context(&header, fingerprint);
    let data_key = random_key()?;
    let mut sealed = Vec::with_capacity(HEADER_LEN + WRAPPED_LEN + NONCE_LEN + private_key.len() + TAG_LEN);
    sealed.extend_from_slice(&header);
    append(&mut sealed, &seal_key.0, &context, &data_key)?;
    append(&mut sealed, &data_key, &context, private_key)?;
    Ok(sealed)
}

/// Opens what [`seal`] made, for the same fingerprint.
pub(super) fn open(
    seal_key: &SealKey,
    fingerprint: &Fingerprint,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (header, rest) = sealed.split_at_checked(HEADER_LEN).ok_or(Unopened::Damaged)?;
    let expected = seal_key.header();
    if header[..7] != MAGIC[..7] {
        return Err(Unopened::Damaged);
    }
    if header[7] != MAGIC[7] {
        return Err(Unopened::OtherVersion);
    }
    if header != expected {
        return Err(Unopened::OtherSealKey);
    }
    let context = context(&expected, fingerprint);
    let (wrapped, payload) = rest.split_at_checked(WRAPPED_LEN).ok_or(Unopened::Damaged)?;
    let data_key = extract(wrapped, &seal_key.0, &context)?;
    extract(payload, &data_key, &context)
}

fn context(header: &[u8; HEADER_LEN], fingerprint: &Fingerprint) -> Vec<u8> {
    [header.as_slice(), fingerprint.to_string().as_bytes()].concat()
}

/// Appends nonce, ciphertext and tag.
fn append(sealed: &mut Vec<u8>, key: &[u8], context: &[u8], plain: &[u8]) -> Result<(), Unspecified> {
    // Room for the tag, so that the plain text is never left behind by a growing vector.
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_LEN));
    text.extend_from_slice(plain);
    let key = RandomizedNonceKey::new(&AES_256_GCM, key)?;
    let nonce = key.seal_in_place_append_tag(Aad::from(context), &mut *text)?;
    sealed.extend_from_slice(nonce.as_ref());
    sealed.extend_from_slice(&text);
    Ok(())
}

fn extract(sealed: &[u8], key: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Unopened::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Damaged)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| Unopened::Damaged)?;
    let mut text = Zeroizing::new(text.to_vec());
    let length =
        key.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| Unopened::Damaged)?.len();
    text.truncate(length);
    Ok(text)
}

fn random_key() -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let mut key = Zeroizing::new(vec![0; KEY_LEN]);
    aws_lc_rs::rand::fill(&mut key)?;
    Ok(key)
}
