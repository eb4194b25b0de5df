//! The system's allocator, told to hand large blocks back and to keep few heaps.
//!
//! glibc's serves a first large block from a mapping of its own, and after it is freed once, blocks of that size from
//! the heap, for good; small ones that live long come to lie between them. sled writes through blocks of its segments'
//! size (`journal::store::index`), which must be no smaller than the limit here. At sled's own 512 KiB a station's
//! memory grew to 106 MiB after 100,000 devices without the limit, and went back and forth from 33 to 64 MiB with it.
//!
//! Without a limit each thread may get a heap of its own, up to eight for each processor, and what one has freed serves no
//! other: two are 1 to 2 MiB less after 20,000 devices, at the same pace.
//!
//! This is the one place with `unsafe` in it: the settings have no safe interface, and no file, argument or unit
//! option (an environment variable has to be there before the program starts, whoever starts it).

/// From this size on, bytes, a block has a mapping of its own: glibc's own first value, which it raises unless told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING: libc::c_int = 128 << 10;

/// Heaps of the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 2;

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

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn the_allocator_takes_it() {
        assert!(super::keep_little());
    }
}
