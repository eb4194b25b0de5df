//! The scanner's lines and its matcher.

use std::time::Duration;

use linemint::fixture::scanner::{LinePattern, Output, Replies, ReplyTemplate, Scanner, ScannerOptions};
use linemint::fixture::{FixtureMessage, PROTOCOL, StationMessage};

/// With what scanners put around a code: an AIM identifier before it, a MAC address behind it.
const PATTERN: &str = r"(?:\][A-Za-z][0-9])?S=(?P<serial>[A-Z0-9]{4,20})(?:;M=(?P<mac>[0-9A-F:]{17}))?";

/// Longest line that is written back: a template of a few words around what was read.
const MAX_WRITTEN: usize = 2_048;

/// Reads `data` as a scanner's, and panics if what comes of it depends on how it was cut, or if a unit is
/// presented that no line was. How many units there were.
pub(crate) fn scanner(data: &[u8]) -> usize {
    let whole = read(data, data.len());
    for cut in [1, 7, 512] {
        assert_eq!(read(data, cut), whole, "cut into pieces of {cut}");
    }
    let mut units = 0;
    for output in &whole {
        match output {
            Output::Say(FixtureMessage::Unit(unit)) => {
                units += 1;
                let is_code = |it: u8| it.is_ascii_uppercase() || it.is_ascii_digit();
                let serial = unit.serial.as_bytes();
                assert!((4..=20).contains(&serial.len()) && serial.iter().all(|it| is_code(*it)), "{unit:?}");
                let shown = unit.serial.as_bytes();
                assert!(data.windows(shown.len()).any(|it| it == shown), "{unit:?} was never read");
            }
            Output::Write(bytes) => assert!(bytes.len() <= MAX_WRITTEN),
            _ => {}
        }
    }
    units
}

fn template(text: &str) -> Option<ReplyTemplate> {
    ReplyTemplate::parse(text).ok()
}

fn read(data: &[u8], cut: usize) -> Vec<Output> {
    let replies = Replies {
        ack: template("\u{6}"),
        pass: template("PASS {serial}\n"),
        fail: template("FAIL {serial} {code} {message}\n"),
    };
    let pattern = LinePattern::new(PATTERN).unwrap_or_else(|error| panic!("{error}"));
    let options = ScannerOptions { pattern, poll: None, replies, debounce: Duration::from_secs(3) };
    let periods = (Duration::from_secs(2), Duration::from_secs(60));
    let mut scanner = Scanner::new("fuzz".to_owned(), periods, options, 1);
    // Long after the port was opened, so that the first line is a whole one.
    let now = Duration::from_secs(10);
    scanner.opened(Duration::ZERO);
    scanner.heard(StationMessage::Hello { protocol: PROTOCOL, station: "FUZZ".to_owned() }, now);
    scanner.heard(StationMessage::Pull, now);
    let mut all = Vec::new();
    for piece in data.chunks(cut.max(1)) {
        scanner.received(piece, now);
        all.extend(std::iter::from_fn(|| scanner.output()));
    }
    all
}
