//! Which call goes first where calls have to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// For whom a call is made: who goes first where calls have to wait. Smaller goes first, but nobody
/// starves: the backlog has a guaranteed share, and so have reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A device in a nest for which something was done already: it is finished first.
    NestBegun,
    /// A device in a nest that is to be begun.
    NestNew,
    /// A device that no nest waits for, begun.
    BacklogBegun,
    /// A device that no nest waits for, not begun.
    BacklogNew,
    /// A look at what the cloud holds, for no device's sake: when nothing else waits.
    Read,
}

impl Class {
    /// Every class, first to last.
    pub const ALL: [Self; 5] =
        [Self::NestBegun, Self::NestNew, Self::BacklogBegun, Self::BacklogNew, Self::Read];
}

/// How urgent a call is for as long as it waits. Its device may come into a nest or leave it meanwhile, so
/// that its class is asked for whenever a turn is given out.
#[derive(Debug, Clone)]
pub struct Urgency {
    class: Class,
    nest: Option<Nest>,
}

impl Urgency {
    /// That of a call for a device: begun, or to be begun. That stays: were the calls of a device of two classes by the
    /// moment at which each came to be wanted, each queue would serve the same devices in another order.
    #[must_use]
    pub fn of_device(begun: bool, nest: Nest) -> Self {
        Self { class: if begun { Class::BacklogBegun } else { Class::BacklogNew }, nest: Some(nest) }
    }

    /// The class now.
    #[must_use]
    pub fn class(&self) -> Class {
        if !self.nest.as_ref().is_some_and(Nest::is_taken) {
            return self.class;
        }
        match self.class {
            Class::BacklogBegun => Class::NestBegun,
            Class::BacklogNew => Class::NestNew,
            other => other,
        }
    }
}

/// A call whose class does not change.
impl From<Class> for Urgency {
    fn from(class: Class) -> Self {
        Self { class, nest: None }
    }
}

/// Whether a device is in a nest: known to all of its calls that wait.
#[derive(Debug, Clone, Default)]
pub struct Nest(Arc<AtomicBool>);

impl Nest {
    /// It is in one from now on, or in none.
    pub fn set(&self, taken: bool) {
        self.0.store(taken, Ordering::Relaxed);
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
