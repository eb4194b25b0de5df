//! What fixture makers are given under `docs/fixture` is true: the page's frames are those of this
//! code, its tables are complete, and the two fixtures pass their own tests.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use linemint::fixture::frame::{
    BadReason, Decoded, FixtureDecoder, StationDecoder, encode_fixture, encode_station,
};
use linemint::fixture::text::Messages;
use linemint::fixture::{FailCode, NakCode, StationMessage};

const PAGE: &str = include_str!("../../docs/fixture/protocol.md");

/// The C kit without what a person tries it out with.
const ENGINE: [&str; 4] = ["sfp.c", "sfp_json.c", "sfp_write.c", "sha256.c"];
const TESTS: [&str; 3] = ["sfp_test.c", "sfp_test_bench.c", "sfp_test_frames.c"];
const STRICT: [&str; 5] = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];

fn kit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fixture").join(name)
}

/// The lines of the page's blocks of a kind.
fn block(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}");
    let mut inside = false;
    let mut lines = Vec::new();
    for line in PAGE.lines() {
        if line.starts_with("```") {
            inside = line == fence;
        } else if inside {
            lines.push(line);
        }
    }
    lines
}

/// What the cells of the page's table rows for `code` say, if it begins a row under `heading`.
fn row(heading: &str, code: &str) -> Vec<&'static str> {
    let table = PAGE.split_once(&format!("\n| `{heading}` |")).expect("the table is there").1;
    let row =
        table.lines().take_while(|it| !it.is_empty()).find(|it| it.starts_with(&format!("| `{code}` |")));
    row.unwrap_or_else(|| panic!("{heading} {code} has no row")).split('|').map(str::trim).collect()
}

fn rows(heading: &str) -> usize {
    let table = PAGE.split_once(&format!("\n| `{heading}` |")).expect("the table is there").1;
    table.lines().take_while(|it| !it.is_empty()).filter(|it| it.starts_with("| `")).count()
}

/// The message of a frame of either side, encoded anew; its type and, of the station's, itself.
fn reread(frame: &str) -> (Vec<u8>, String, Option<StationMessage>) {
    let line = format!("{frame}\n");
    let mut station = StationDecoder::new();
    station.push(line.as_bytes());
    let (bytes, value, said) = match station.next() {
        Some(Decoded::Message(message)) => {
            (encode_fixture(&message).unwrap(), serde_json::to_value(&message).unwrap(), None)
        }
        Some(Decoded::Echo) => {
            let mut fixture = FixtureDecoder::new();
            fixture.push(line.as_bytes());
            let Some(Decoded::Message(message)) = fixture.next() else {
                panic!("nobody sends this: {frame}");
            };
            let value = serde_json::to_value(&message).unwrap();
            (encode_station(&message).unwrap(), value, Some(message))
        }
        bad => panic!("{bad:?}: {frame}"),
    };
    let side = if said.is_some() { "station" } else { "fixture" };
    (bytes.to_vec(), format!("{side} {}", value["type"].as_str().unwrap()), said)
}

#[test]
fn the_pages_frames_are_what_this_code_sends() {
    let mut types = BTreeSet::new();
    let words = Messages::default();
    for frame in block("sfp") {
        let (bytes, kind, said) = reread(frame);
        assert_eq!(String::from_utf8_lossy(&bytes), format!("{frame}\n"));
        match said {
            Some(StationMessage::Nak { code: NakCode::BadFrame, message, .. }) => {
                assert_eq!(message, words.nak(NakCode::BadFrame, &BadReason::WrongChecksum.to_string()));
            }
            Some(StationMessage::Nak { code, message, .. }) => assert_eq!(message, words.nak(code, "")),
            Some(StationMessage::Fail { code, message, retry, .. }) => {
                assert_eq!((message, retry), (words.fail(code, ""), code.may_retry()));
            }
            _ => {}
        }
        types.insert(kind);
    }
    let fixture =
        ["hello", "unit", "written", "write-failed", "removed", "idle"].map(|it| format!("fixture {it}"));
    let station =
        ["hello", "pull", "ack", "nak", "credentials", "pass", "fail"].map(|it| format!("station {it}"));
    assert_eq!(types, fixture.into_iter().chain(station).collect());
}

#[test]
fn the_pages_checksums_are_right() {
    let lines = block("crc");
    assert!(lines.len() >= 6);
    for line in lines {
        let (text, crc) = line.rsplit_once(' ').unwrap();
        let text = text.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap();
        assert_eq!(format!("{:08X}", crc32fast::hash(text.as_bytes())), crc, "{line}");
    }
}

#[test]
fn the_page_tells_what_to_do_at_every_code() {
    for code in NakCode::ALL {
        let told = row("nak", code.as_str())[2];
        match code {
            // The port's end, and no unit's.
            NakCode::Protocol | NakCode::WrongFixture => assert_eq!(told, "", "{code}"),
            _ => assert_eq!(told, if code.is_final() { "yes" } else { "no" }, "{code}"),
        }
    }
    for code in FailCode::ALL {
        let told = row("fail", code.as_str())[2];
        assert_eq!(told, if code.may_retry() { "yes" } else { "no" }, "{code}");
    }
    assert_eq!((rows("nak"), rows("fail")), (NakCode::ALL.len(), FailCode::ALL.len()));
}

#[test]
fn the_fixture_in_c_passes_its_tests_and_its_example_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let test = dir.path().join("sfp_test");
    compile(&test, &[&ENGINE[..], &TESTS].concat());
    assert_done(&Command::new(&test).arg(kit("protocol.md")).output().unwrap());
    compile(&dir.path().join("example"), &[&ENGINE[..], &["example_posix.c"]].concat());
}

fn compile(to: &Path, files: &[&str]) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let files = files.iter().map(|it| kit("c").join(it));
    assert_done(&Command::new(compiler).args(STRICT).arg("-o").arg(to).args(files).output().unwrap());
}

#[test]
fn the_fixture_in_python_passes_its_tests() {
    let mut command = Command::new("python3");
    command.args(["-W", "error", "-m", "unittest", "discover", "-s"]).arg(kit("python"));
    match command.env("PYTHONDONTWRITEBYTECODE", "1").output() {
        Ok(output) => assert_done(&output),
        Err(error) if error.kind() == ErrorKind::NotFound => eprintln!("SKIPPED: python3 is not installed"),
        Err(error) => panic!("python3 does not start: {error}"),
    }
}

fn assert_done(output: &Output) {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&said));
}
