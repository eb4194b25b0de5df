//! `docs/operator.md` is the table of messages in the code, and what it says is said.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use linemint::fixture::text::{MAX_MESSAGE_LEN, Saying, ScannerNote};
use linemint::fixture::{FailCode, NakCode};
use serde_json::json;

use crate::harness::{World, put};

/// Set to anything, it writes the document instead of comparing it.
const WRITE: &str = "LINEMINT_WRITE_DOCS";

fn document() -> String {
    let mut text = format!(
        "# What the operator sees\n\n\
         Made from the table in `src/fixture/text.rs` by `{WRITE}=1 cargo test --test it operator`; a test compares both.\n\n\
         A fixture shows the `message` of each `nak` and `fail`, one line of at most {MAX_MESSAGE_LEN} characters that says what to do next. \
         What is known of the unit\nstands behind it in parentheses, as far as it fits; all of it is in the journal (`linemint device show SERIAL`).\n\n\
         ## Not taken (`nak`)\n\n\
         After those that are not final the fixture presents the unit again by itself; the others end its presentation.\n\n\
         | code | what the operator reads | final | what has happened |\n|---|---|---|---|\n"
    );
    for code in NakCode::ALL {
        row(&mut text, code.as_str(), code.saying(), Some(code.is_final()));
    }
    text.push_str(
        "\n## Not done (`fail`)\n\n\
         Presented again the unit goes on with the certificate that it has, where that can help. What the waiting rack holds is made\n\
         meanwhile, and gets its credentials at once when it comes back; until then it counts as deferred, not as failed.\n\n\
         | code | what the operator reads | present again | what has happened |\n|---|---|---|---|\n",
    );
    for code in FailCode::ALL {
        row(&mut text, code.as_str(), code.saying(), Some(code.may_retry()));
    }
    text.push_str(
        "\n## What the scanner driver says besides\n\n| key | what the operator reads | where |\n|---|---|---|\n",
    );
    for note in ScannerNote::ALL {
        row(&mut text, note.as_str(), note.saying(), None);
    }
    text.push_str(IN_ANOTHER_LANGUAGE);
    text
}

fn row(text: &mut String, code: &str, saying: Saying, yes: Option<bool>) {
    let say = saying.say.replace(" ({detail})", "").replace("{detail}", "*what is wrong*");
    let column = yes.map_or("", |it| if it { "yes | " } else { "no | " });
    writeln!(text, "| `{code}` | {say} | {column}{} |", saying.why).unwrap();
}

const IN_ANOTHER_LANGUAGE: &str = r#"
## In another language

`messages = "messages.de.toml"` in `[station]` names a file that says it in the operators' language;
[`config/messages.de.toml`](../config/messages.de.toml) is a whole one, in German. Tables `[nak]`, `[fail]` and `[scanner]`; a key is a code of
those above. What it does not say is said in English.

- `{detail}` stands for what is known of the unit, which is English always; ` ({detail})` is left out with its parentheses where there is
  nothing. A message without it does not show it. `{code}` is the code; `{{` and `}}` are braces. `[scanner]` has no places.
- A message is one line of UTF-8, at most 120 characters without its places. A character is one cell of a display: no control characters, no
  invisible ones, no combining marks (`ü` is one character), nothing beyond U+FFFF (no emoji). Whether the display of a fixture has
  the letter is for its maker to say.
- `linemint check-config` tells each mistake with the file's name, line and key. The daemon reads the file at its start.
"#;

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operator.md");
    if std::env::var_os(WRITE).is_some() {
        return put(&path, document().as_bytes());
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == document(),
        "docs/operator.md is not the table: run {WRITE}=1 cargo test --test it operator"
    );
}

#[test]
fn a_station_says_it_in_the_operators_language() {
    let mut world = World::new("[station]\nmessages = \"words.toml\"\n");
    put(&world.path("words.toml"), include_bytes!("../../config/messages.de.toml"));
    let mut fixture = world.fixture("nest-1");
    world.start();
    fixture.hello("nest-1", 1);
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "short" }));
    let nak = fixture.expect(&json!({ "type": "nak", "id": 1, "code": "bad-serial" }));
    assert!(nak["message"].as_str().unwrap().starts_with("Erneut scannen; "), "{nak}");
    fixture.send(&json!({ "type": "unit", "id": 2, "serial": "SN0000000001" }));
    fixture.until(&["credentials"]);
    fixture.send(&json!({ "type": "removed", "id": 2, "serial": "SN0000000001" }));
    let fail = fixture.until(&["fail"]);
    assert!(fail["message"].as_str().unwrap().starts_with("Teil zurücklegen"), "{fail}");
}

#[test]
fn a_wrong_file_of_messages_is_told_before_the_station_starts() {
    let world = World::new("[station]\nmessages = \"words.toml\"\n");
    put(&world.path("words.toml"), b"[nak]\nbusy = \"Warten {id}\"\n");
    let (status, _, told) = world.command(&["check-config"]);
    assert_eq!(status, 78, "{told}");
    assert!(told.contains("words.toml:2: nak.busy: {id} is not known here\n  hint: "), "{told}");
}
