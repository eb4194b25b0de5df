//! Logs: to the system's journal where that is listening, as readable lines otherwise, as JSON on demand.
//! What is logged holds no secret: messages to fixtures print their kind, calls to AWS their operation.
//!
//! Whatever concerns a device bears its `serial`, and `batch`, `fixture`, `step` and AWS's `request_id` where
//! there is one: in the system's journal they are the fields `SERIAL`, `BATCH`, `FIXTURE`, `STEP` and
//! `REQUEST_ID`, so that `journalctl SERIAL=SN0000000043` shows one device.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, OnceLock};

use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// To the system's journal if stderr goes there, as text otherwise
    #[default]
    Auto,
    /// Readable lines on stderr
    Text,
    /// One JSON object a line on stderr
    Json,
    /// To the system's journal, with fields
    Journald,
}

/// The levels that can be asked for at run time, the quietest first.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

type Output = Box<dyn Layer<Filtered> + Send + Sync>;
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging at `level`, one of [`LEVELS`], which the environment variable `LINEMINT_LOG` overrides with
/// another or with directives as `tracing` has them: as text to `file`, or else to stderr. A second start is ignored.
pub fn start(level: &str, file: Option<File>) {
    let ansi = file.is_none() && io::stderr().is_terminal();
    let writer = match file {
        Some(file) => BoxMakeWriter::new(Mutex::new(file)),
        None => BoxMakeWriter::new(io::stderr),
    };
    begin(level, text(writer, ansi));
}

/// The same in a format.
pub fn start_as(level: &str, format: Format) {
    let journal = match format {
        Format::Auto => is_journal(std::env::var_os("JOURNAL_STREAM").as_deref()),
        Format::Journald => true,
        Format::Text | Format::Json => false,
    };
    if journal {
        match tracing_journald::layer() {
            // Fields are called as they are here, in capitals.
            Ok(layer) => return begin(level, Box::new(layer.with_field_prefix(None))),
            Err(error) => {
                start(level, None);
                tracing::warn!(%error, "the system's journal does not listen: logs go to stderr");
                return;
            }
        }
    }
    if format == Format::Json {
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
        return begin(level, Box::new(layer));
    }
    start(level, None);
}

/// Logs what linemint itself says from `level` on, one of [`LEVELS`]; its libraries stay as they are at
/// `info`, or become quieter. Until the next start.
///
/// # Errors
/// It is no level, or nothing is logged.
pub fn set_level(level: &str) -> Result<(), String> {
    let level = LEVELS
        .into_iter()
        .find(|it| *it == level)
        .ok_or_else(|| format!("the level is one of {}", LEVELS.join(", ")))?;
    let filter = FILTER.get().ok_or("this process does not log")?;
    filter.reload(filter_at(level)).map_err(|error| format!("the level cannot be changed: {error}"))
}

fn filter_at(level: &str) -> EnvFilter {
    let others = if matches!(level, "debug" | "trace") { "info" } else { level };
    EnvFilter::new(format!("{others},linemint={level}"))
}

fn text(writer: BoxMakeWriter, ansi: bool) -> Output {
    Box::new(tracing_subscriber::fmt::layer().with_ansi(ansi).with_target(false).with_writer(writer))
}

fn begin(level: &str, output: Output) {
    let wanted = std::env::var_os("LINEMINT_LOG").map(|it| it.to_string_lossy().into_owned());
    let (filter, refused) = match wanted.as_deref().filter(|it| !it.trim().is_empty()) {
        None => (filter_at(level), None),
        Some(wanted) => match directives(wanted) {
            Ok(filter) => (filter, None),
            Err(why) => (filter_at(level), Some(why)),
        },
    };
    let (filter, handle) = reload::Layer::new(filter);
    // Only a second start fails, and the first one stands.
    if tracing_subscriber::registry().with(filter).with(output).try_init().is_ok() {
        let _ = FILTER.set(handle);
        if let Some(why) = refused {
            tracing::warn!("LINEMINT_LOG is passed over, the level is {level}: {why}");
        }
    }
}

/// A level, which then is as [`set_level`] has it, or `tracing`'s directives, each of which has to name a level:
/// `tracing` takes a word that is none for the name of a module, and is silent about all the others.
fn directives(wanted: &str) -> Result<EnvFilter, String> {
    let level = |it: &str| LEVELS.into_iter().find(|level| level.eq_ignore_ascii_case(it.trim()));
    if let Some(level) = level(wanted) {
        return Ok(filter_at(level));
    }
    for part in wanted.split(',') {
        let word = part.rsplit_once('=').map_or(part, |it| it.1).trim();
        if level(word).is_none() && !word.eq_ignore_ascii_case("off") {
            let known = LEVELS.join(", ");
            return Err(format!("{word:?} is no level: {known} are, or as in linemint::cloud=debug,info"));
        }
    }
    EnvFilter::try_new(wanted).map_err(|error| error.to_string())
}

/// Whether stderr is the stream to the system's journal that the service manager names in `JOURNAL_STREAM`
/// (systemd.exec(5)): the variable alone may be inherited by what writes elsewhere.
fn is_journal(stream: Option<&OsStr>) -> bool {
    let named = stream.and_then(OsStr::to_str).and_then(|it| it.split_once(':'));
    let Some((Ok(device), Ok(inode))) = named.map(|(device, inode)| (device.parse(), inode.parse())) else {
        return false;
    };
    rustix::fs::fstat(io::stderr().as_fd()).is_ok_and(|it| (it.st_dev, it.st_ino) == (device, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_where_stderr_goes_and_not_what_a_variable_says() {
        let stderr = rustix::fs::fstat(io::stderr().as_fd()).unwrap();
        let (device, inode) = (stderr.st_dev, stderr.st_ino);
        assert!(is_journal(Some(format!("{device}:{inode}").as_ref())));
        for other in [
            format!("{device}:{}", inode + 1),
            format!("{}:{inode}", device + 1),
            "8:".to_owned(),
            "x".to_owned(),
            String::new(),
        ] {
            assert!(!is_journal(Some(other.as_ref())), "{other}");
        }
        assert!(!is_journal(None));
    }

    #[test]
    fn a_level_is_linemints_own_and_its_libraries_say_no_more_than_before() {
        for (level, filter) in [
            ("error", "linemint=error,error"),
            ("info", "linemint=info,info"),
            ("debug", "linemint=debug,info"),
            ("trace", "linemint=trace,info"),
        ] {
            assert_eq!(filter_at(level).to_string(), filter);
        }
        for (wanted, filter) in [
            ("debug", "linemint=debug,info"),
            ("TRACE", "linemint=trace,info"),
            ("warn", "linemint=warn,warn"),
            ("linemint::cloud=debug,info", "linemint::cloud=debug,info"),
            ("linemint=info,off", "linemint=info,off"),
        ] {
            assert_eq!(directives(wanted).map(|it| it.to_string()), Ok(filter.to_owned()));
        }
        for bad in ["dbug", "linemint=dbug", "linemint", "info,hyper", "info,"] {
            assert!(directives(bad).unwrap_err().contains("is no level"), "{bad}");
        }
        for bad in ["", "INFO", "debug,hyper=trace", "off", "linemint=trace"] {
            let sentence = set_level(bad).unwrap_err();
            assert_eq!(sentence, "the level is one of error, warn, info, debug, trace");
        }
    }
}
