//! What the system offers without a safe interface: two settings of its allocator, and a peer's groups. This is the one
//! place with `unsafe` in it, each a call of one function with the reason why it can do no harm.
//!
//! # The allocator
//!
//! It is told to hand large blocks back and to keep few heaps. glibc's serves a first large block from a mapping of its
//! own, and after it is freed once, blocks of that size from the heap, for good; small ones that live long come to lie
//! between them. sled writes through blocks of its segments' size (`journal::store::index`), which must be no smaller than
//! the limit here. At sled's own 512 KiB a station's memory grew to 106 MiB after 100,000 devices without the limit, and
//! went back and forth from 33 to 64 MiB with it.
//!
//! Without a limit each thread may get a heap of its own, up to eight for each processor, and what one has freed serves no
//! other: two are 1 to 2 MiB less after 20,000 devices, at the same pace.
//!
//! No file, argument or unit option would do: an environment variable has to be there before the program starts,
//! whoever starts it.
//!
//! # A peer's groups
//!
//! rustix, nix and socket2 know `SO_PEERCRED`, which has the primary group alone. To read them from `/proc` would take a
//! process of which the unit shows none, and which may have become another by then.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// From this size on, bytes, a block has a mapping of its own: glibc's own first value, which it raises unless told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING: libc::c_int = 128 << 10;

/// Heaps of the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 2;

/// Groups that are asked for at first: more than nearly everybody has.
const FEW_GROUPS: usize = 64;

/// Groups that are taken at most: as many as a process can have (`NGROUPS_MAX`, linux/limits.h).
const MAX_GROUPS: usize = 65_536;

/// Keeps freed blocks of 128 KiB and more from staying with the process, and small ones in two heaps. Whether the
/// allocator took it; another system's has no such settings, and needs none.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the settings have no safe interface")]
pub fn keep_little() -> bool {
    let settings = [(libc::M_MMAP_THRESHOLD, OWN_MAPPING), (libc::M_ARENA_MAX, HEAPS)];
    // SAFETY: mallopt takes two integers by value and may be called at any time; it locks what it changes.
    settings.into_iter().all(|(name, value)| unsafe { libc::mallopt(name, value) == 1 })
}

/// Keeps freed blocks of 128 KiB and more from staying with the process, and small ones in two heaps. Whether the
/// allocator took it; another system's has no such settings, and needs none.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_little() -> bool {
    false
}

/// The supplementary groups that the process at the other end of a Unix socket had when it connected (unix(7),
/// `SO_PEERGROUPS`), by the numbers that they have in this process's user namespace.
///
/// # Errors
/// The kernel does not know: it is another kind of socket, or older than Linux 4.13.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    peer_groups_from(socket, FEW_GROUPS)
}

/// The same, with room for so many at first.
fn peer_groups_from(socket: BorrowedFd<'_>, room: usize) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; room];
    let (outcome, count) = ask_for_groups(socket, &mut groups);
    let (outcome, count) = match outcome {
        // There are more; what a connection has does not change any more.
        Err(error) if error.raw_os_error() == Some(libc::ERANGE) && room < count && count <= MAX_GROUPS => {
            groups.resize(count, 0);
            ask_for_groups(socket, &mut groups)
        }
        other => (other, count),
    };
    outcome?;
    groups.truncate(count);
    Ok(groups)
}

/// Asks the kernel to fill `groups`, and how many there are.
#[expect(unsafe_code, reason = "no safe crate has this option")]
fn ask_for_groups(socket: BorrowedFd<'_>, groups: &mut [libc::gid_t]) -> (io::Result<()>, usize) {
    let room = size_of_val(groups);
    // 256 KiB at most, see `MAX_GROUPS`.
    let mut bytes = libc::socklen_t::try_from(room).unwrap_or(0);
    let place = groups.as_mut_ptr().cast();
    // SAFETY: the descriptor is borrowed, hence open. The kernel writes at most `bytes` bytes to `place`, which is the
    // beginning of that much memory that is borrowed for writing, aligned, and holds integers, for which all bits are
    // valid; and it writes one number to `bytes`, on the stack. It keeps neither address.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, place, &raw mut bytes)
    };
    let outcome = if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    (outcome, usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<libc::gid_t>())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use rustix::process::Gid;

    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn the_allocator_takes_it() {
        assert!(keep_little());
    }

    fn own() -> Vec<u32> {
        rustix::process::getgroups().unwrap().into_iter().map(Gid::as_raw).collect()
    }

    #[test]
    fn a_peers_groups_are_those_of_its_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(peer_groups(one.as_fd()).unwrap(), own());
        // However little room there is at first.
        assert_eq!(peer_groups_from(one.as_fd(), 0).unwrap(), own());
    }

    #[test]
    fn many_groups_are_all_told_and_they_are_those_of_the_moment_of_connecting() {
        // Of this thread alone, as the kernel has it. The test runner gives each test its own.
        let many: Vec<Gid> = (0..1000).map(|it| Gid::from_raw(70_000 + it)).collect();
        let told: Vec<u32> = many.iter().copied().map(Gid::as_raw).collect();
        let of_a_thread = std::thread::spawn(move || {
            rustix::thread::set_thread_groups(&many)?;
            let (one, _other) = UnixStream::pair().unwrap();
            rustix::thread::set_thread_groups(&[])?;
            Ok::<_, rustix::io::Errno>((peer_groups(one.as_fd()).unwrap(), one))
        });
        match of_a_thread.join().unwrap() {
            Ok((groups, _one)) => assert_eq!(groups, told),
            Err(error) => eprintln!("SKIPPED: groups may not be set here: {error}"),
        }
    }

    #[test]
    fn where_the_kernel_does_not_know_that_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(peer_groups(one.as_fd()).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(peer_groups(file.as_fd()).is_err());
    }
}
