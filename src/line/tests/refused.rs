//! What is kept of a unit that was not taken.

use super::harness::Harness;
use super::setup::unit_in;
use crate::fixture::{NakCode, Unit};
use crate::line::RefusedUnit;

/// Of a fixture that names no nests.
fn unit(id: u64, serial: &str) -> Unit {
    Unit { nest: None, ..unit_in(id, serial, "") }
}

fn refused(h: &Harness) -> Vec<RefusedUnit> {
    h.line.status().links[0].refused.clone()
}

/// Nest, serial number and code of each.
fn told(h: &Harness) -> Vec<(Option<String>, String, &'static str)> {
    refused(h).into_iter().map(|it| (it.nest, it.serial, it.code.as_str())).collect()
}

fn of(nest: &str, serial: &str, code: &'static str) -> (Option<String>, String, &'static str) {
    (Some(nest.to_owned()), serial.to_owned(), code)
}

#[test]
fn the_newest_of_a_nest_is_kept_until_another_unit_is_taken_there() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.unit(0, unit_in(2, "?", "a"));
    h.unit(0, unit_in(3, "!", "b"));
    assert_eq!(told(&h), [of("a", "?", "bad-serial"), of("b", "!", "bad-serial")]);
    let kept = &refused(&h)[0];
    assert!(kept.message.starts_with("Scan again") && kept.at == h.now.wall, "{kept:?}");
    h.seconds(5);
    h.unit(0, unit_in(4, "??", "a"));
    assert_eq!(told(&h)[0], of("a", "??", "bad-serial"));
    assert!(refused(&h)[0].since > refused(&h)[1].since);
    h.unit(0, unit_in(5, "SN5", "a"));
    assert_eq!(told(&h), [of("b", "!", "bad-serial")]);
    assert_eq!(h.line.status().links[0].naks[&NakCode::BadSerial], 3);
}

#[test]
fn a_unit_that_is_taken_after_all_was_not_refused_anywhere() {
    let mut h = Harness::ready();
    h.input(crate::line::Input::Gate(Some("the disk is full".to_owned())));
    h.unit(0, unit_in(1, "SN1", "a"));
    h.seconds(4);
    h.unit(0, unit_in(1, "SN1", "a"));
    let kept = refused(&h);
    assert_eq!((kept.len(), kept[0].code), (1, NakCode::Busy));
    assert!(kept[0].since < kept[0].at, "it has waited since: {kept:?}");
    h.input(crate::line::Input::Gate(None));
    h.unit(0, unit_in(2, "SN1", "b"));
    assert_eq!(told(&h), [], "it lies in another nest by now");
    // But a label that is there twice is still to be looked at.
    h.unit(0, unit_in(3, "SN1", "a"));
    h.unit(0, unit_in(2, "SN1", "b"));
    assert_eq!(told(&h), [of("a", "SN1", "elsewhere")]);
}

#[test]
fn nests_without_a_name_have_one_word_and_its_next_unit_ends_it() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "?1"));
    h.unit(0, unit(2, "?2"));
    assert_eq!(told(&h), [(None, "?2".to_owned(), "bad-serial")]);
    h.unit(0, unit(3, "SN3"));
    assert_eq!(told(&h), []);
}

#[test]
fn what_a_fixture_calls_a_unit_is_shown_escaped_and_cut_and_many_fill_nothing() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, &format!("\u{1b}[2J\n{}", "\u{7f}x".repeat(5_000))));
    let kept = refused(&h);
    assert!(kept[0].serial.starts_with("\\x1b[2J\\n\\x7fx"), "{}", kept[0].serial);
    assert!(kept[0].serial.len() <= 4 * 64 && !kept[0].serial.contains(char::is_control));
    for id in 2..=500 {
        h.unit(0, unit_in(id, "?", &format!("nest {id}")));
    }
    let kept = refused(&h);
    assert!(kept.len() == 64 && kept.iter().any(|it| it.nest.as_deref() == Some("nest 500")));
}

/// Each unit and code in a row is news once.
#[test]
fn what_a_fixture_repeats_by_itself_is_logged_once() {
    let mut h = Harness::ready();
    let mut logged = |units: &[Unit]| {
        let log = crate::telemetry::capture(|| {
            for it in units {
                h.unit(0, it.clone());
            }
        });
        log.lines().filter(|it| it.contains("NOT TAKEN")).map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = logged(&[unit(1, "?"), unit(1, "?"), unit(2, "?"), unit_in(3, "x\ny", "n\u{1b}")]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].contains(r#"NOT TAKEN serial="?" fixture="jig-1" code=bad-serial sentence="Scan"#),
        "{lines:?}"
    );
    assert!(lines[2].contains(r#"serial="x\\ny""#) && lines[2].contains(r#"nest="n\u{1b}""#), "{lines:?}");
    h.input(crate::line::Input::Drain);
    let mut logged = |units: &[Unit]| {
        let log = crate::telemetry::capture(|| {
            for it in units {
                h.unit(0, it.clone());
            }
        });
        log.matches("NOT TAKEN").count()
    };
    let (one, two) = (unit(4, "SN4"), unit(5, "SN5"));
    assert_eq!(logged(&[one.clone(), two.clone(), one.clone(), two.clone(), unit(6, "SN4")]), 2);
}
