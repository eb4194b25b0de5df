//! What the daemon and its service manager tell each other: systemd's protocols sd_notify(3) and
//! sd_listen_fds(3). Without a service manager nothing is said, and nothing is handed over.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Longest status line, bytes: what `systemctl status` shows on one line, and far below a datagram.
const MAX_STATUS: usize = 300;

/// How often a long start asks for more time, and for how much each time.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTENDED_BY: Duration = Duration::from_secs(30);

/// For how long a start may ask for more time: a station that is not up by then is stuck.
const EXTENDED_FOR: Duration = Duration::from_secs(900);

/// The name that the socket unit gives the local API's socket.
pub const API_SOCKET: &str = "api";

/// Takes the listening socket that the service manager has opened under that name, or the only Unix
/// socket if it has opened one under no name of ours. Once: the second time there is none.
///
/// # Errors
/// What was handed over under the name is no listening Unix socket.
pub fn passed_socket(name: &str) -> io::Result<Option<UnixListener>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    match names.split(':').position(|it| it == name) {
        Some(at) => passed.take_unix_listener(at),
        None if passed.len() == 1 => passed.take_unix_listener(0),
        None => Ok(None),
    }
}

/// Within which time the service manager has to be told that the daemon lives, if it asks for that.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The daemon has begun its work.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(cut(status))]);
}

/// What it is doing, in one sentence.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(cut(status))]);
}

/// It lives.
pub fn feed() {
    tell(&[NotifyState::Watchdog]);
}

/// It reads its configuration again; [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It ends.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(cut(status))]);
}

/// Asks for more time while a start takes long, as a journal that is made readable again may; until this is
/// dropped, or for a quarter of an hour.
#[derive(Debug)]
pub struct Patience {
    /// Closed when the start is over.
    _open: std::sync::mpsc::Sender<()>,
}

impl Patience {
    /// Begins to ask, by a thread of its own: whoever opens a journal has none to spare.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn ask() -> io::Result<Self> {
        let (open, closed) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("patience".to_owned()).spawn(move || {
            let times = EXTENDED_FOR.as_secs() / EXTEND_EVERY.as_secs();
            for _ in 0..times {
                let micros = u32::try_from(EXTENDED_BY.as_micros()).unwrap_or(u32::MAX);
                tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
                if closed.recv_timeout(EXTEND_EVERY) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { _open: open })
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        // Nothing hangs on it here; the service manager acts on its silence.
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// One line: a line end would begin another message.
fn cut(status: &str) -> &str {
    let line = status.lines().next().unwrap_or_default();
    let mut end = line.len().min(MAX_STATUS);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(cut("ready\nREADY=0"), "ready");
        assert_eq!(cut(""), "");
        let long = "ä".repeat(400);
        assert_eq!(cut(&long).len(), MAX_STATUS);
    }

    #[test]
    fn a_process_that_nobody_started_is_handed_nothing() {
        assert!(passed_socket("linemint").unwrap().is_none());
    }
}
