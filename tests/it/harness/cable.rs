//! A cable with a port at each end: two ptys, and what is written into one comes out of the other.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fixture::open_pty;

/// How often the thread looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends with the value.
pub(crate) struct Cable {
    paths: [PathBuf; 2],
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    pub(crate) fn new() -> Self {
        let ((one, one_path), (other, other_path)) = (open_pty(), open_pty());
        let paths = [one_path, other_path];
        // Held open, so that neither program's end is a hang-up for the other.
        let held = paths.each_ref().map(|it| File::options().read(true).write(true).open(it).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                pass_on(&one, &other);
            }
            drop(held);
        });
        Self { paths, stop, thread: Some(thread) }
    }

    /// The two ports.
    pub(crate) fn ends(&self) -> [&Path; 2] {
        self.paths.each_ref().map(PathBuf::as_path)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass_on(one: &OwnedFd, other: &OwnedFd) {
    let mut fds = [PollFd::new(one, PollFlags::IN), PollFd::new(other, PollFlags::IN)];
    // An early return only means one more look.
    let _ = poll(&mut fds, Some(&Timespec::try_from(LOOK_EVERY).unwrap()));
    let mut buffer = [0; 4096];
    for (from, to) in [(one, other), (other, one)] {
        if let Ok(len) = rustix::io::read(from, &mut buffer) {
            let mut left = &buffer[..len];
            while !left.is_empty() {
                match rustix::io::write(to, left) {
                    Ok(len) => left = &left[len..],
                    Err(_) => {
                        let mut room = [PollFd::new(to, PollFlags::OUT)];
                        let waited = poll(&mut room, Some(&Timespec::try_from(LOOK_EVERY).unwrap()));
                        // Nobody reads at that end: as on a cable, it is lost.
                        if waited != Ok(1) {
                            break;
                        }
                    }
                }
            }
        }
    }
}
