//! What stands behind the `?`: each parameter at most once, none unknown, an empty text as if absent.

use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};

use super::problem::{Refused, bad_request};
use super::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::device::State;
use crate::device::serial::SerialNumber;

/// The parameters, or what is wrong with them.
pub(super) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refused> {
    query.map(|Query(it)| it).map_err(|rejection| bad_request(rejection.body_text()))
}

/// The value of a parameter that was given.
pub(super) fn given(value: Option<String>) -> Option<String> {
    value.filter(|it| !it.is_empty())
}

/// `limit`: 1 to 1000, 100 if it is not given.
pub(super) fn limit(value: Option<String>) -> Result<usize, Refused> {
    Ok(number("limit", value, 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT))
}

/// A whole number in `range`; unlike a text it cannot be empty.
pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    name: &str,
    value: Option<String>,
    range: RangeInclusive<T>,
) -> Result<Option<T>, Refused> {
    let Some(text) = value else { return Ok(None) };
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let (from, to) = range.into_inner();
            Err(bad_request(format!("{name} is a whole number from {from} to {to}, not {}", quoted(&text))))
        }
    }
}

/// `true` or `false`; unlike a text it cannot be empty.
pub(super) fn flag(name: &str, value: Option<String>) -> Result<Option<bool>, Refused> {
    match value.as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(bad_request(format!("{name} is true or false"))),
    }
}

/// `state`: one of the seven words.
pub(super) fn state(value: Option<String>) -> Result<Option<State>, Refused> {
    let Some(text) = given(value) else { return Ok(None) };
    let found = State::ALL.into_iter().find(|it| it.as_str() == text);
    found.map(Some).ok_or_else(|| {
        let words = State::ALL.map(State::as_str).join(" ");
        bad_request(format!("{} is no state", quoted(&text))).with_hint(format!("the states are {words}"))
    })
}

/// A serial number.
pub(super) fn serial(name: &str, text: &str) -> Result<SerialNumber, Refused> {
    SerialNumber::parse(text).map_err(|bad| bad_request(format!("{name} is no serial number: {bad}")))
}

/// The serial number in the path.
pub(super) fn serial_in_path(path: Result<Path<String>, PathRejection>) -> Result<SerialNumber, Refused> {
    let Path(text) = path.map_err(|rejection| bad_request(rejection.body_text()))?;
    serial("what stands in the path", &text)
}

/// At most 64 characters of what the caller has sent, fit for a sentence.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}
