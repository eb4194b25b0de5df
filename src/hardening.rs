//! What a process that handles private keys asks of the kernel: no core dumps, no reading of its memory
//! by other processes of its user, no swap where that is allowed. And as many open files as it may have.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// Asks for all of it. What is not granted is told; nothing hangs on it.
pub fn harden() {
    // A core of a killed or crashed process holds whatever keys were in memory. With 0 the kernel
    // writes none, and hands none to a program that collects them (core(5), PR_SET_DUMPABLE).
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be forbidden; a crash may leave private keys on disk");
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "the size of core dumps cannot be limited");
    }
    if !may_lock() {
        tracing::debug!(
            "memory is not locked: it may be swapped out (LimitMEMLOCK=infinity permits locking)"
        );
    } else if let Err(error) =
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    {
        tracing::warn!(%error, "memory cannot be locked: it may be swapped out");
    }
}

/// Lets this process have as many open files as it may: the soft limit is for programs that cannot bear more, and
/// becomes the hard one. How many that are; none without a limit.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    }
}

/// Whether memory may be locked without a limit. Under a limit locking would succeed now, and a later
/// allocation fail for it.
fn may_lock() -> bool {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let capable = capabilities(None).is_ok_and(|it| it.effective.contains(CapabilitySet::IPC_LOCK));
    unlimited || capable
}
