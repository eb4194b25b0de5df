//! The CA and the sealed private keys: two threads, since signing computes and sealing syncs.
//!
//! Each takes whatever is waiting in one go, so that many keys share one sync of their directory.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::clock::TimeSource;
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, KeyState};
use crate::error::Chain;
use crate::journal::keys::{KeyStore, KeyStoreError};
use crate::line::Input;
use crate::pki::{Fingerprint, IssuedLeaf, Issuer, LeafKey, LeafRequest};
use crate::sabotage::sabotaged;

/// Keys that are sealed, or destroyed, in one go at most.
const GROUP: usize = 32;

/// Requests that may wait.
const QUEUE: usize = 4096;

/// A certificate to be issued.
#[derive(Debug)]
pub(crate) struct Issue {
    pub(crate) serial: SerialNumber,
    pub(crate) generation: u32,
    pub(crate) request: LeafRequest,
}

/// Where requests go.
#[derive(Debug)]
pub(super) struct Vault {
    pub(super) issue: mpsc::Sender<Issue>,
    pub(super) destroy: mpsc::Sender<(SerialNumber, Fingerprint)>,
}

/// Starts both threads; they end when the requests' channels are closed.
pub(super) fn start(
    issuer: Arc<dyn Issuer>,
    keys: Arc<KeyStore>,
    clock: Arc<dyn TimeSource>,
    inputs: mpsc::Sender<Input>,
) -> io::Result<Vault> {
    let (issue, mut to_issue) = mpsc::channel(QUEUE);
    let (destroy, mut to_destroy) = mpsc::channel(QUEUE);
    let (issuing_keys, issued) = (keys.clone(), inputs.clone());
    std::thread::Builder::new().name("issuer".to_owned()).spawn(move || {
        while let Some(group) = gather(&mut to_issue) {
            for answer in issue_group(issuer.as_ref(), &*issuing_keys, clock.as_ref(), group) {
                if issued.blocking_send(answer).is_err() {
                    return;
                }
            }
        }
    })?;
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Some(group) = gather(&mut to_destroy) {
            for answer in destroy_group(&*keys, group) {
                if inputs.blocking_send(answer).is_err() {
                    return;
                }
            }
        }
    })?;
    Ok(Vault { issue, destroy })
}

fn gather<T>(queue: &mut mpsc::Receiver<T>) -> Option<Vec<T>> {
    let mut group = vec![queue.blocking_recv()?];
    while group.len() < GROUP {
        match queue.try_recv() {
            Ok(next) => group.push(next),
            Err(_) => break,
        }
    }
    Some(group)
}

/// Where private keys are kept until their devices have them. A failure comes in words: it is told, and
/// nothing else hangs on it.
pub(crate) trait Keys {
    /// Stores private keys, each under its certificate's fingerprint; durable on return, or none is there.
    fn store(&self, keys: Vec<(Fingerprint, Zeroizing<Vec<u8>>)>) -> Result<(), String>;

    /// The private key of a certificate, if it is there.
    fn load(&self, fingerprint: &Fingerprint) -> Result<Option<Zeroizing<Vec<u8>>>, String>;

    /// Destroys private keys; durable on return.
    fn destroy(&self, fingerprints: &[Fingerprint]) -> Result<(), String>;

    /// Destroys all but these; which they were.
    fn sweep(&self, keep: &HashSet<Fingerprint>) -> Result<Vec<Fingerprint>, KeyStoreError>;
}

impl Keys for KeyStore {
    fn store(&self, keys: Vec<(Fingerprint, Zeroizing<Vec<u8>>)>) -> Result<(), String> {
        self.store_many(keys).map_err(|error| Chain(&error).to_string())
    }

    fn load(&self, fingerprint: &Fingerprint) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        self.load(fingerprint).map_err(|error| Chain(&error).to_string())
    }

    fn destroy(&self, fingerprints: &[Fingerprint]) -> Result<(), String> {
        self.destroy_many(fingerprints).map_err(|error| Chain(&error).to_string())
    }

    fn sweep(&self, keep: &HashSet<Fingerprint>) -> Result<Vec<Fingerprint>, KeyStoreError> {
        self.sweep(keep)
    }
}

/// Issues, then seals all keys, and only then says so: a certificate in the journal always has
/// its key on disk.
pub(crate) fn issue_group(
    issuer: &dyn Issuer,
    keys: &impl Keys,
    clock: &dyn TimeSource,
    group: Vec<Issue>,
) -> Vec<Input> {
    let mut to_seal: Vec<(Fingerprint, Zeroizing<Vec<u8>>)> = Vec::new();
    let mut results = Vec::with_capacity(group.len());
    for Issue { serial, generation, request } in group {
        let station_key = request.key == LeafKey::Station;
        let result = match issuer.issue(&request, clock.now().wall) {
            Ok(mut leaf) => {
                to_seal.extend(leaf.private_key.take().map(|key| (leaf.fingerprint, key)));
                Ok(certificate(leaf, station_key))
            }
            Err(error) => Err(Chain(&error).to_string()),
        };
        results.push((serial, generation, result));
    }
    let nothing = to_seal.is_empty() || sabotaged!(KeyUnstored);
    let failure = if nothing { None } else { keys.store(to_seal).err() };
    results
        .into_iter()
        .map(|(serial, generation, result)| {
            let result = match &failure {
                Some(failure) => result.and(Err(failure.clone())),
                None => result,
            };
            Input::Issued { serial, generation, result }
        })
        .collect()
}

fn certificate(leaf: IssuedLeaf, station_key: bool) -> Certificate {
    if leaf.shortened {
        tracing::warn!(not_after = %leaf.not_after, "a certificate's life was cut to the CA's end");
    }
    Certificate {
        fingerprint: leaf.fingerprint,
        der: leaf.der,
        serial_number: leaf.serial_number,
        not_after: leaf.not_after,
        key: if station_key { KeyState::Sealed } else { KeyState::Device },
        arn: None,
    }
}

/// Destroys keys. One that cannot be destroyed stays journaled as sealed and is tried again at
/// the next start; meanwhile it is told.
pub(crate) fn destroy_group(keys: &impl Keys, group: Vec<(SerialNumber, Fingerprint)>) -> Vec<Input> {
    let fingerprints: Vec<_> = group.iter().map(|(_, it)| *it).collect();
    let result = if sabotaged!(KeyKept) { Ok(()) } else { keys.destroy(&fingerprints) };
    match result {
        Ok(()) => group.into_iter().map(|(serial, it)| Input::KeyDestroyed(serial, it)).collect(),
        Err(error) => {
            tracing::error!(
                error,
                "private keys could not be destroyed; it is tried again at the next start"
            );
            Vec::new()
        }
    }
}
