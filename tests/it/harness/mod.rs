//! What the tests have in common: a station to start, a fixture to play by hand, an AWS to take away.

mod cable;
mod fixture;
mod gate;
mod process;
mod station;
mod watch;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use linemint::clock::{SystemClock, TimeSource as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) use self::cable::Cable;
pub(crate) use self::fixture::{TestFixture, frame};
pub(crate) use self::gate::Mode;
pub(crate) use self::process::{Process, linemint, linemint_after};
pub(crate) use self::station::{BASE, World, merged};
pub(crate) use self::watch::Watch;

/// How long anything may take before a test gives it up: long, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A point in time after which a test gives up.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    clock: SystemClock,
    end: Duration,
}

impl Deadline {
    pub(crate) fn after(span: Duration) -> Self {
        let clock = SystemClock::default();
        let end = clock.now().mono + span;
        Self { clock, end }
    }

    /// What is left; zero when it is over.
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_sub(self.clock.now().mono)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

/// Lets this process have enough files open for a thousand clients.
pub(crate) fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.map_or(4096, |it| it.min(4096));
    setrlimit(Resource::Nofile, Rlimit { current: limit.current.map(|it| it.max(enough)), ..limit }).unwrap();
}

/// Writes a file of a test; whether it survives a power cut is nobody's concern here.
pub(crate) fn put(path: &Path, content: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(content)).unwrap();
}

/// `value` has everything that `pattern` has. `"*"` stands for anything that is there and `null` for
/// what must not be there.
pub(crate) fn fits(value: &serde_json::Value, pattern: &serde_json::Value) -> bool {
    use serde_json::Value;
    match pattern {
        Value::String(any) if any == "*" => !value.is_null(),
        Value::Object(members) => {
            members.iter().all(|(name, pattern)| fits(value.get(name).unwrap_or(&Value::Null), pattern))
        }
        _ => value == pattern,
    }
}
