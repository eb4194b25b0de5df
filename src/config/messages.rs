//! The file that `station.messages` names: what operators read, in their language.

use std::path::PathBuf;

use toml::de::DeTable;

use super::errors::{Place, Problems};
use super::station::read;
use super::table::{At, Context, Table};
use crate::fixture::text::{BadText, MAX_MESSAGE_LEN, Messages, ScannerNote};
use crate::fixture::{FailCode, NakCode};

/// Largest file of messages, bytes. A complete one has 3 KiB.
const MAX_FILE: u64 = 64 << 10;

/// What the file at `at` says; English where it says nothing. What is wrong in it is told with its own lines.
pub(super) fn messages(table: &Table<'_>, at: &At<PathBuf>) -> Option<Messages> {
    let content = read(table, at, MAX_FILE)?;
    let Ok(text) = String::from_utf8(content) else {
        table.problem(
            &at.place,
            format!("{} is not text in UTF-8", at.value.display()),
            "save the file as UTF-8",
        );
        return None;
    };
    let problems = Problems::new(&at.value, &text);
    let (document, errors) = DeTable::parse_recoverable(&text);
    let mut said = Messages::default();
    if errors.is_empty() {
        let context = Context { problems: &problems, ..table.context };
        translate(
            Table::new(context, Place { key: String::new(), offset: 0 }, document.get_ref()),
            &mut said,
        );
    }
    problems.add_syntax(errors);
    let is_right = problems.is_empty();
    table.context.problems.add_all(problems.into_errors());
    is_right.then_some(said)
}

fn translate(root: Table<'_>, said: &mut Messages) {
    if let Some(table) = root.table("nak") {
        for code in NakCode::ALL {
            take(&table, code.as_str(), |text| said.translate_nak(*code, text));
        }
        table.finish();
    }
    if let Some(table) = root.table("fail") {
        for code in FailCode::ALL {
            take(&table, code.as_str(), |text| said.translate_fail(*code, text));
        }
        table.finish();
    }
    if let Some(table) = root.table("scanner") {
        for note in ScannerNote::ALL {
            take(&table, note.as_str(), |text| said.translate_note(note, text));
        }
        table.finish();
    }
    root.finish();
}

fn take(table: &Table<'_>, code: &'static str, translate: impl FnOnce(&str) -> Result<(), BadText>) {
    let Some(at) = table.text(code) else { return };
    let Err(error) = translate(at.value) else { return };
    let hint = match error {
        BadText::Empty => {
            "write what the operator is to do next, or remove the line: then it is said in English".to_owned()
        }
        BadText::TooLong(_) => "say it shorter: it is one line of a frame, and of a display".to_owned(),
        BadText::Unknown(_) | BadText::Twice | BadText::Brace if table.place.key == "scanner" => {
            "this one has no places; {{ and }} are braces".to_owned()
        }
        BadText::Unknown(_) | BadText::Twice | BadText::Brace => {
            "the places are {detail}, once, and {code}; {{ and }} are braces".to_owned()
        }
        BadText::Character(..) => {
            format!(
                "write one line of letters, digits, signs and blanks, at most {MAX_MESSAGE_LEN} characters"
            )
        }
    };
    table.problem(&at.place, error.to_string(), hint);
}
