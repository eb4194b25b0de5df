//! Deliveries into directories: one thread, since each is a few syncs, and a directory may lie on a share
//! that does not answer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::vault::{Keys, Unloaded};
use crate::delivery::{self, Folders, Handed, SystemFolders};
use crate::error::Chain;
use crate::journal::keys::KeyStore;
use crate::line::{Delivery, Input};
use crate::pki::to_pem;

/// Deliveries that may wait.
const QUEUE: usize = 4096;

/// Starts the thread; it ends when the channel is closed.
pub(super) fn start(
    station: String,
    directories: Vec<PathBuf>,
    keys: Arc<KeyStore>,
    inputs: mpsc::Sender<Input>,
) -> io::Result<mpsc::Sender<Box<Delivery>>> {
    let (deliveries, mut to_do) = mpsc::channel::<Box<Delivery>>(QUEUE);
    std::thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
        for directory in &directories {
            if let Err(error) = delivery::prepare(directory, &station) {
                tracing::error!(error = %Chain(&error), "credentials cannot be delivered yet");
            }
        }
        while let Some(it) = to_do.blocking_recv() {
            if inputs.blocking_send(carry_out(*it, &*keys, &station, &SystemFolders)).is_err() {
                return;
            }
        }
    })?;
    Ok(deliveries)
}

/// Puts a device's credentials, with their private key if it is here, into their directory.
pub(crate) fn carry_out(it: Delivery, keys: &impl Keys, station: &str, folders: &impl Folders) -> Input {
    let Delivery { serial, fingerprint, directory, product, at, mut credentials, key, .. } = it;
    if let Some(key) = key {
        match keys.load(&key) {
            Ok(Some(der)) => credentials.private_key = Some(to_pem("PRIVATE KEY", &der)),
            // It is tried again, like any other delivery that fails.
            Err(Unloaded::Unread(error)) => {
                return Input::Delivered { serial, fingerprint, result: Err(error) };
            }
            lost => {
                if let Err(Unloaded::Lost(error)) = lost {
                    tracing::error!(%serial, error, "a sealed private key cannot be opened");
                }
                return Input::KeyLost(serial, key);
            }
        }
    }
    let handed = Handed { station, product: &product, at, credentials: &credentials };
    let result = delivery::deliver_on(folders, &directory, &handed);
    let result = result.map_err(|error| Chain(&error).to_string());
    Input::Delivered { serial, fingerprint, result }
}
