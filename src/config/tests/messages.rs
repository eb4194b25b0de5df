//! `station.messages` and the file that it names.

use super::*;
use crate::fixture::text::{Messages, ScannerNote};
use crate::fixture::{FailCode, NakCode};

/// A station whose messages stand in `0`, at `etc/words.toml`.
struct Worded<'a>(&'a [u8]);

impl Files for Worded<'_> {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("etc/words.toml") if self.0.len() as u64 <= limit => Ok(self.0.to_vec()),
            Some("etc/words.toml") => Err(io::ErrorKind::FileTooLarge.into()),
            _ => Installed.read(path, limit),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Installed.exists(path)
    }
}

fn worded(words: &[u8]) -> Result<Arc<Messages>, String> {
    let text = MINIMAL.replacen("[station]\n", "[station]\nmessages = \"words.toml\"\n", 1);
    let config = Config::parse(&text, Path::new("etc/config.toml"), &Worded(words));
    config.map(|it| it.station.messages).map_err(|it| it.to_string())
}

#[test]
fn the_german_example_says_every_message_in_german() {
    let (german, english) = (worded(GERMAN.as_bytes()).unwrap(), Messages::default());
    for code in NakCode::ALL {
        let said = german.nak(*code, "x");
        assert!(said != english.nak(*code, "x") && said.contains('x'), "{code}: {said}");
    }
    for code in FailCode::ALL {
        let said = german.fail(*code, "");
        assert!(said != english.fail(*code, "") && !said.contains(['(', '{']), "{code}: {said}");
    }
    for note in ScannerNote::ALL {
        assert_ne!(german.note(note), english.note(note), "{note:?}");
    }
    // What is added to the table has to be added there: keys are codes, each once.
    let keys = GERMAN.lines().filter(|it| !it.starts_with('#') && it.contains(" = ")).count();
    assert_eq!(keys, NakCode::ALL.len() + FailCode::ALL.len() + ScannerNote::ALL.len());
}

#[test]
fn without_a_file_and_where_it_says_nothing_english_is_said() {
    let english = Messages::default();
    assert_eq!(*parse(MINIMAL).unwrap().station.messages, english);
    assert_eq!(*worded(b"").unwrap(), english);
    let one = worded("[fail]\noffline = \"Später.\"\n".as_bytes()).unwrap();
    assert_eq!(one.fail(FailCode::Offline, "x"), "Später.");
    assert_eq!(one.fail(FailCode::Quota, "x"), english.fail(FailCode::Quota, "x"));
}

#[test]
fn what_is_wrong_in_it_is_told_with_its_own_file_line_key_and_a_hint() {
    for (words, wanted) in [
        (
            "[nak]\nbuzy = \"Warten.\"\n",
            "etc/words.toml:2: nak.buzy: is not a key that linemint knows\n  hint: did you mean busy?",
        ),
        (
            "[nak]\noffline = \"x\"\n",
            "etc/words.toml:2: nak.offline: is not a key that linemint knows\n  hint: known here are: bad-frame,",
        ),
        (
            "[fails]\n",
            "etc/words.toml:1: fails: is not a key that linemint knows\n  hint: did you mean fail?",
        ),
        (
            "busy = \"x\"\n",
            "etc/words.toml:1: busy: is not a key that linemint knows\n  hint: known here are: nak, fail, scanner",
        ),
        (
            "\n[fail]\nclock = \"Uhr {serial}\"\n",
            "etc/words.toml:3: fail.clock: {serial} is not known here\n  hint: the places are {detail}, once, and {code}",
        ),
        (
            "[scanner]\nfull = \"voll ({detail})\"\n",
            "etc/words.toml:2: scanner.full: {detail} is not known here\n  hint: this one has no places",
        ),
        (
            "[fail]\nquota = \"zwei\\nZeilen\"\n",
            "etc/words.toml:2: fail.quota: has the character U+000A, which is a control character: a message is one line\n  hint: write one line",
        ),
        (
            "[fail]\nquota = \"\"\n",
            "etc/words.toml:2: fail.quota: says nothing\n  hint: write what the operator is to do next",
        ),
        ("[fail]\nquota = 5\n", "etc/words.toml:2: fail.quota: must be a text, but is a whole number"),
        ("[fail\n", "etc/words.toml:1: is not valid TOML: "),
    ] {
        let told = worded(words.as_bytes()).unwrap_err();
        assert!(told.starts_with(wanted), "{words:?}: {told}");
    }
    let long = worded(format!("[nak]\nbusy = \"{}\"\n", "ü".repeat(121)).as_bytes()).unwrap_err();
    assert!(long.contains("nak.busy: has 121 characters without its places, and 120 is the most"), "{long}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_the_key_that_names_it() {
    for (words, wanted) in [
        (vec![0xff], "etc/config.toml:5: station.messages: etc/words.toml is not text in UTF-8"),
        (vec![b' '; 65 << 10], "station.messages: failed to read etc/words.toml: file too large"),
    ] {
        let told = worded(&words).unwrap_err();
        assert!(told.contains(wanted.trim_start_matches("etc/config.toml:5: ")), "{told}");
        assert!(told.starts_with("etc/config.toml:"), "{told}");
    }
}

#[test]
fn mistakes_in_both_files_are_told_at_once_the_configurations_first() {
    let text = MINIMAL.replacen("[station]\n", "[station]\nmessages = \"words.toml\"\nzone = 1\n", 1);
    let told = Config::parse(&text, Path::new("etc/config.toml"), &Worded(b"x = 1\n")).unwrap_err();
    let files: Vec<_> = told.0.iter().map(|it| it.file.to_str().unwrap()).collect();
    assert_eq!(files, ["etc/config.toml", "etc/words.toml"], "{told}");
}
