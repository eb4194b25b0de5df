//! Logs: to the system's journal where that is listening, as readable lines otherwise, as JSON on demand.
//! What is logged holds no secret: messages to fixtures print their kind, calls to AWS their operation.
//!
//! Whatever concerns a device bears its `serial`, and `batch`, `fixture`, `step` and AWS's `request_id` where
//! there is one: in the system's journal they are the fields `SERIAL`, `BATCH`, `FIXTURE`, `STEP` and
//! `REQUEST_ID`, so that `journalctl SERIAL=SN0000000043` shows one device.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, OnceLock};

use crate::device::operator::known_level;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
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

pub use crate::device::operator::LEVELS;

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
    let level = known_level(level)?;
    let filter = FILTER.get().ok_or("this process does not log")?;
    filter.reload(filter_at(level)).map_err(|error| format!("the level cannot be changed: {error}"))
}

fn filter_at(level: &str) -> EnvFilter {
    let others = if matches!(level, "debug" | "trace") { "info" } else { level };
    EnvFilter::new(format!("{others},linemint={level}"))
}

fn text(writer: BoxMakeWriter, ansi: bool) -> Output {
    // What `%` shows may hold the words of a fixture, a caller of the API or AWS.
    let fields = debug_fn(field).delimited(" ");
    let layer = tracing_subscriber::fmt::layer().with_ansi(ansi).with_target(false);
    Box::new(layer.fmt_fields(fields).with_writer(writer))
}

/// One field of a readable line, which stays one line whatever is in it: nobody can write a second one into the
/// log, or tell the terminal that shows it what to do.
fn field(line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(OneLine(line), "{value:?}"),
        // What libraries that use `log` say of themselves.
        name if name.starts_with("log.") => Ok(()),
        name => write!(OneLine(line), "{}={value:?}", name.trim_start_matches("r#")),
    }
}

/// Escapes what ends a line, steers a terminal or turns the direction of writing.
struct OneLine<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(is_steering) {
            match part.chars().next_back().filter(|it| is_steering(*it)) {
                Some(last) => {
                    self.0.write_str(&part[..part.len() - last.len_utf8()])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

fn is_steering(it: char) -> bool {
    let turns = matches!(it, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    it.is_control() || turns || matches!(it, '\u{2028}' | '\u{2029}')
}

/// What is logged in a test's thread, as text.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Captured(std::sync::Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Captures what is logged in this thread, until the guard is dropped.
#[cfg(test)]
pub(crate) fn capturing() -> (Captured, tracing::subscriber::DefaultGuard) {
    let captured = Captured::default();
    let writer = captured.clone();
    let (filter, _) = reload::Layer::new(filter_at("info"));
    let output = text(BoxMakeWriter::new(move || writer.clone()), false);
    let here = tracing::subscriber::set_default(tracing_subscriber::registry().with(filter).with(output));
    (captured, here)
}

/// What `logging` logs in this thread, as text.
#[cfg(test)]
pub(crate) fn capture(logging: impl FnOnce()) -> String {
    let (captured, here) = capturing();
    logging();
    drop(here);
    captured.text()
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
    fn a_line_of_the_log_stays_one_whatever_is_in_it() {
        let forged = "x\n2026-11-22T09:00:00Z  INFO PASS serial=\"SN-1\"\u{1b}[2J\u{9b}K\r\u{202e}\u{2028}ä";
        let log = capture(|| {
            tracing::info!(plain = forged, shown = %forged, debug = ?forged, count = 3, "said {forged}");
            tracing::warn!(error = &io::Error::other(forged) as &dyn std::error::Error, "next");
        });
        assert_eq!(log.lines().count(), 2, "{log}");
        let steers = |it: char| it != '\n' && is_steering(it);
        assert!(!log.contains(steers) && log.split(char::is_whitespace).count() < 40, "{log:?}");
        for wanted in [
            " INFO said x\\n2026-11-22T09:00:00Z  INFO PASS ",
            " plain=\"x\\n2026",
            " shown=x\\n2026",
            " count=3\n",
            " WARN next error=x\\n2026",
            "\\u{202e}\\u{2028}ä",
        ] {
            assert!(log.contains(wanted), "{wanted} in {log}");
        }
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
