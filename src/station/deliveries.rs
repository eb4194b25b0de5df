//! Deliveries into directories: each is a few syncs, and a directory may lie on a share that does not
//! answer, so that each directory has a thread of its own and holds up no other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::vault::{Keys, Unloaded};
use crate::delivery::{self, Folders, Handed, SystemFolders};
use crate::error::Chain;
use crate::journal::keys::KeyStore;
use crate::line::{Delivery, Input, Labelling};
use crate::pki::to_pem;

/// Deliveries that may wait for one directory.
const QUEUE: usize = 4096;

/// The queues, by directory.
pub(super) type Queues = BTreeMap<PathBuf, mpsc::Sender<Job>>;

/// What goes into a directory.
#[derive(Debug)]
pub(super) enum Job {
    /// A device's credentials.
    Credentials(Box<Delivery>),
    /// A device's label.
    Label(Box<Labelling>),
}

/// Starts the threads; they end when their channels are closed.
pub(super) fn start(
    station: &str,
    directories: &[PathBuf],
    keys: &Arc<KeyStore>,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<Queues> {
    let mut queues = Queues::new();
    for directory in directories.iter().collect::<BTreeSet<_>>() {
        let (queue, mut to_do) = mpsc::channel::<Job>(QUEUE);
        queues.insert(directory.clone(), queue);
        let (station, directory) = (station.to_owned(), directory.clone());
        let (keys, inputs) = (keys.clone(), inputs.clone());
        std::thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
            if let Err(error) = delivery::prepare(&directory, &station) {
                tracing::error!(error = %Chain(&error), "nothing can be delivered into a directory yet");
            }
            while let Some(it) = to_do.blocking_recv() {
                let input = match it {
                    Job::Credentials(it) => carry_out(*it, &*keys, &station, &SystemFolders),
                    Job::Label(it) => write_label(*it, &SystemFolders),
                };
                if inputs.blocking_send(input).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(queues)
}

/// Puts a device's label into its directory.
pub(crate) fn write_label(it: Labelling, folders: &impl Folders) -> Input {
    let Labelling { serial, directory, label, .. } = it;
    let result = delivery::put_label(folders, &directory, &label).map_err(|error| Chain(&error).to_string());
    Input::Labelled { serial, number: label.number, result }
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
