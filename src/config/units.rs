//! Durations and sizes as people write them: `10s`, `1h30m`, `256MiB`.

use std::time::Duration;

/// The text is no number with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    #[error("has no unit")]
    NoUnit,
    #[error("has a unit that is not known")]
    UnknownUnit,
    #[error("is not a number with a unit")]
    NotANumber,
    #[error("is too large")]
    TooLarge,
}

const NANOS_PER_MS: u64 = 1_000_000;

/// Nanoseconds in each unit of time.
const TIMES: [(&str, u64); 7] = [
    ("ms", NANOS_PER_MS),
    ("s", 1_000 * NANOS_PER_MS),
    ("m", 60_000 * NANOS_PER_MS),
    ("min", 60_000 * NANOS_PER_MS),
    ("h", 3_600_000 * NANOS_PER_MS),
    ("d", 86_400_000 * NANOS_PER_MS),
    ("w", 604_800_000 * NANOS_PER_MS),
];

/// Bytes in each unit of size.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Reads a duration: numbers with `ms s m min h d w`, added up.
pub(crate) fn duration(text: &str) -> Result<Duration, UnitError> {
    sum(text, &TIMES).map(Duration::from_nanos)
}

/// Reads a size in bytes: a number with `B kB KiB MB MiB GB GiB TB TiB`.
pub(super) fn size(text: &str) -> Result<u64, UnitError> {
    sum(text, &SIZES)
}

fn sum(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let mut total = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(UnitError::NotANumber);
    }
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|it: char| !it.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (name, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(UnitError::NotANumber);
        }
        if name.is_empty() {
            return Err(if tail.is_empty() { UnitError::NoUnit } else { UnitError::NotANumber });
        }
        let scale =
            units.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).ok_or(UnitError::UnknownUnit)?.1;
        total = total.checked_add(scaled(number, scale)?).ok_or(UnitError::TooLarge)?;
        rest = tail.trim_start();
    }
    Ok(total)
}

/// `number` (digits with at most one point) times `scale`, cut to a whole number.
fn scaled(number: &str, scale: u64) -> Result<u64, UnitError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    if whole.is_empty() || number.ends_with('.') || !is_number(fraction) || fraction.len() > 9 {
        return Err(UnitError::NotANumber);
    }
    let whole = whole.parse::<u64>().map_err(|_| UnitError::TooLarge)?;
    let whole = whole.checked_mul(scale).ok_or(UnitError::TooLarge)?;
    // 9 digits times the largest scale stays below u128's end by far.
    let part = u128::from(fraction.parse::<u64>().unwrap_or(0)) * u128::from(scale);
    let part = part / 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    whole.checked_add(u64::try_from(part).map_err(|_| UnitError::TooLarge)?).ok_or(UnitError::TooLarge)
}

/// Writes a duration in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let unit = TIMES.iter().rev().filter(|(name, _)| *name != "min");
    let unit = unit.clone().find(|(_, scale)| nanos >= *scale && nanos % scale == 0);
    match unit {
        Some((name, scale)) => format!("{}{name}", nanos / scale),
        None => format!("{}ms", nanos / NANOS_PER_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        for (text, ms) in [
            ("2s", 2_000),
            ("500ms", 500),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("1.5 s", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, bytes) in
            [("256MiB", 256 << 20), ("1.5KiB", 1_536), ("10 GB", 10_000_000_000), ("0B", 0), ("1kb", 1_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_with_a_unit_is_refused() {
        for (text, error) in [
            ("", UnitError::NotANumber),
            ("10", UnitError::NoUnit),
            ("s", UnitError::NotANumber),
            ("-1s", UnitError::NotANumber),
            ("1..5s", UnitError::NotANumber),
            ("1.s", UnitError::NotANumber),
            ("1.0000000001s", UnitError::NotANumber),
            ("10 parsecs", UnitError::UnknownUnit),
            ("99999999999999999999s", UnitError::TooLarge),
            ("9999999999999w", UnitError::TooLarge),
            ("18446744073709551615ms 1s", UnitError::TooLarge),
        ] {
            assert_eq!(duration(text), Err(error), "{text}");
        }
        assert_eq!(size("1e9"), Err(UnitError::UnknownUnit));
        assert_eq!(size("99999999TiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn a_duration_is_shown_as_it_would_be_written() {
        for text in ["500ms", "2s", "90m", "7h", "3d", "1w"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_duration(Duration::ZERO), "0ms");
    }
}
