//! Asks again and again whether the wall clock is synchronised.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::ClockSync;
use crate::timesync::Keepers;

/// How often.
const EVERY: Duration = Duration::from_secs(10);

/// Asks once, then goes on in a task of its own for as long as somebody listens.
pub(super) async fn start() -> watch::Receiver<ClockSync> {
    let keepers = Keepers::default();
    let (told, sync) = watch::channel(keepers.ask().await);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = told.closed() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            told.send_replace(keepers.ask().await);
        }
    });
    sync
}

/// Nobody says anything, as in a simulation.
pub(super) fn unsaid() -> watch::Receiver<ClockSync> {
    watch::channel(ClockSync::Unsaid).1
}
