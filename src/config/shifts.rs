//! `[[shift]]`.

use super::table::Table;
use crate::shift::{Shift, parse_time};

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
    Some(Shift { name: name?, start: start?, end: end? })
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
