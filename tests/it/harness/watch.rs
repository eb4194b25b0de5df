//! What a process does to the files in a directory, told by the kernel as it happens.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::Deadline;

/// Watches the files in one directory.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn on(dir: &Path) -> Self {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::DELETE | WatchFlags::MOVED_TO;
        inotify::add_watch(&queue, dir, changes).unwrap();
        Self(queue)
    }

    /// Returns at the `count`-th change from now on, and after `within` at the latest.
    pub(crate) fn wait_for(&self, count: u32, within: Duration) {
        let deadline = Deadline::after(within);
        let mut seen = 0;
        while seen < count && !deadline.is_over() {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            // An early return only means one more look.
            let _ = poll(&mut fds, Some(&Timespec::try_from(deadline.left()).unwrap()));
            seen += self.changes();
        }
    }

    fn changes(&self) -> u32 {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(_) => count += 1,
                Err(Errno::AGAIN) => return count,
                Err(Errno::INTR) => {}
                Err(error) => panic!("the watch cannot be read: {error}"),
            }
        }
    }
}
