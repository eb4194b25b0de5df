//! What a process that handles private keys asks of the kernel: no core dumps, no reading of its memory
//! by other processes of its user, no swap where that is allowed.

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

/// Whether memory may be locked without a limit. Under a limit locking would succeed now, and a later
/// allocation fail for it.
fn may_lock() -> bool {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let capable = capabilities(None).is_ok_and(|it| it.effective.contains(CapabilitySet::IPC_LOCK));
    unlimited || capable
}
