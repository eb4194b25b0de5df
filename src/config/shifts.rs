//! `[[shift]]`.

use std::collections::BTreeSet;

use jiff::civil::Date;

use super::table::Table;
use crate::shift::{DAY_WORDS, Days, Shift, parse_time};

/// All shifts; one of the whole day where the file has none.
pub(super) fn shifts(root: &Table<'_>) -> Vec<Shift> {
    let mut shifts: Vec<Shift> = Vec::new();
    for table in root.tables("shift") {
        let place = table.place.clone();
        let Some(shift) = shift(&table) else {
            table.finish();
            continue;
        };
        if shifts.iter().any(|it| it.name == shift.name) {
            let message = format!("{:?} is the name of another shift", shift.name);
            table.problem(&table.place_of("name"), message, "give each shift its own name");
        } else if let Some(other) = shifts.iter().find(|it| it.overlaps(&shift)) {
            let message = format!("overlaps with the shift {:?}: a device belongs to one shift", other.name);
            table.problem(&place, message, "let one shift start when the other ends");
        }
        table.finish();
        shifts.push(shift);
    }
    if !root.has("shift") {
        shifts.push(Shift::whole_day());
    }
    shifts
}

fn shift(table: &Table<'_>) -> Option<Shift> {
    let name = table.need_text("name", "early").and_then(|at| {
        let good = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-');
        if (1..=64).contains(&at.value.chars().count()) && at.value.chars().all(good) {
            return Some(at.value.to_owned());
        }
        let message = format!("{:?} is not 1 to 64 letters, digits, _ and -", at.value);
        table.problem(&at.place, message, "use letters, digits, _ and - only");
        None
    });
    let start = time(table, "start", "06:00");
    let end = time(table, "end", "14:00");
    let days = days(table);
    Some(Shift { name: name?, start: start?, end: end?, days: days? })
}

/// The days on which it begins; all where nothing is said.
fn days(table: &Table<'_>) -> Option<Days> {
    let hint = "write days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]; a shift over midnight is of the day on which it begins";
    let Some(list) = table.list("days", hint)? else { return Some(Days::ALL) };
    if list.is_empty() {
        table.problem(&table.place_of("days"), "names no day", hint);
        return None;
    }
    let mut days = Vec::new();
    for at in list {
        let day = DAY_WORDS.iter().position(|it| *it == at.value);
        if day.is_none() {
            let message = format!("{:?} is not one of {}", at.value, DAY_WORDS.join(" "));
            table.problem(&at.place, message, hint);
        }
        days.push(day);
    }
    days.into_iter().collect::<Option<Vec<_>>>().map(Days::of)
}

/// `[station] days_off`.
pub(super) fn days_off(table: &Table<'_>) -> Option<BTreeSet<Date>> {
    let hint = "write days_off = [\"2026-12-25\", \"2026-12-26\"]: year, month and day";
    let Some(list) = table.list("days_off", hint)? else { return Some(BTreeSet::new()) };
    let mut days = Some(BTreeSet::new());
    for at in list {
        // jiff takes more than this form.
        let date = Some(at.value).filter(|it| it.len() == 10).and_then(|it| it.parse::<Date>().ok());
        match (date, &mut days) {
            (Some(date), Some(days)) => {
                days.insert(date);
            }
            (Some(_), None) => {}
            (None, _) => {
                table.problem(&at.place, format!("{:?} is not a day", at.value), hint);
                days = None;
            }
        }
    }
    days
}

fn time(table: &Table<'_>, key: &'static str, example: &str) -> Option<jiff::civil::Time> {
    let at = table.need_text(key, example)?;
    match parse_time(at.value) {
        Ok(time) => Some(time),
        Err(error) => {
            table.problem(
                &at.place,
                format!("{:?} {error}", at.value),
                format!("write {key} = \"{example}\""),
            );
            None
        }
    }
}
