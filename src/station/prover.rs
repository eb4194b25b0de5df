//! Tries connections as devices: each in a task of its own, a few at a time.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::vault::{Keys, Unloaded};
use crate::cloud::handshake;
use crate::journal::keys::KeyStore;
use crate::line::{Input, Trial, Unproved};

/// Connections at a time; more wait.
const AT_ONCE: usize = 32;

/// Who connects.
#[derive(Debug)]
pub(super) struct Prover {
    keys: Arc<KeyStore>,
    inputs: mpsc::Sender<Input>,
    places: Arc<Semaphore>,
}

impl Prover {
    pub(super) fn new(keys: Arc<KeyStore>, inputs: mpsc::Sender<Input>) -> Self {
        Self { keys, inputs, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Tries a connection and tells the line. There is at most one such for each device.
    pub(super) fn connect(&self, trial: Trial) {
        let (keys, inputs, places) = (self.keys.clone(), self.inputs.clone(), self.places.clone());
        tokio::spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            // The line may have ended meanwhile: it is tried again after the next start.
            let _ = inputs.send(carry_out(trial, keys).await).await;
        });
    }
}

async fn carry_out(trial: Trial, keys: Arc<KeyStore>) -> Input {
    let Trial { serial, fingerprint, chain_pem, key, endpoint, roots_pem, .. } = trial;
    let told = |result| Input::Connected { serial: serial.clone(), fingerprint, result };
    // Reading and opening a sealed key blocks.
    let loaded = tokio::task::spawn_blocking(move || Keys::load(&*keys, &key)).await;
    match loaded {
        Ok(Ok(Some(der))) => told(handshake::connect(&endpoint, &roots_pem, &chain_pem, &der).await),
        Ok(Ok(None)) => Input::KeyLost(serial, key),
        Ok(Err(Unloaded::Lost(error))) => {
            tracing::error!(%serial, error, "a sealed private key cannot be opened");
            Input::KeyLost(serial, key)
        }
        Ok(Err(Unloaded::Unread(error))) => told(Err(Unproved::Key(error))),
        Err(error) => told(Err(Unproved::Key(error.to_string()))),
    }
}
