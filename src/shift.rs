//! Shifts, as the plant's calendar has them.

use jiff::civil::Time;

/// One shift of every day, in the station's time zone. It holds `start` and all that follows
/// up to but without `end`; one whose `end` is not after its `start` goes over midnight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// Its name: 1 to 64 letters, digits, `_` and `-`.
    pub name: String,
    /// When it begins.
    pub start: Time,
    /// When the next one begins. The same as `start` for a shift of 24 hours.
    pub end: Time,
}

/// The text is no time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a time of day from 00:00 to 24:00")]
pub struct BadTime;

impl Shift {
    /// The shift of a station that has none: `day`, 00:00–24:00.
    #[must_use]
    pub fn whole_day() -> Self {
        Self { name: "day".to_owned(), start: Time::midnight(), end: Time::midnight() }
    }

    /// Whether `time` lies in it.
    #[must_use]
    pub fn holds(&self, time: Time) -> bool {
        if self.start < self.end {
            (self.start..self.end).contains(&time)
        } else {
            time >= self.start || time < self.end
        }
    }

    /// Whether some time of day lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Two stretches of a circle meet if and only if one begins within the other.
        self.holds(other.start) || other.holds(self.start)
    }
}

/// Reads `HH:MM`. `24:00` is midnight, as the end of a day.
///
/// # Errors
/// Anything else.
pub fn parse_time(text: &str) -> Result<Time, BadTime> {
    let (hour, minute) = text.split_once(':').ok_or(BadTime)?;
    let digits = |it: &str| it.len() == 2 && it.bytes().all(|it| it.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return Err(BadTime);
    }
    match (hour.parse(), minute.parse()) {
        (Ok(24), Ok(0)) => Ok(Time::midnight()),
        (Ok(hour), Ok(minute)) => Time::new(hour, minute, 0, 0).map_err(|_| BadTime),
        _ => Err(BadTime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(start: &str, end: &str) -> Shift {
        Shift { name: "x".into(), start: parse_time(start).unwrap(), end: parse_time(end).unwrap() }
    }

    #[test]
    fn a_night_shift_goes_over_midnight() {
        let night = shift("22:00", "06:00");
        for (time, inside) in
            [("22:00", true), ("23:59", true), ("00:00", true), ("05:59", true), ("06:00", false)]
        {
            assert_eq!(night.holds(parse_time(time).unwrap()), inside, "{time}");
        }
        assert!(Shift::whole_day().holds(parse_time("12:00").unwrap()));
        assert!(shift("14:00", "24:00").holds(parse_time("23:59").unwrap()));
        assert!(!shift("14:00", "24:00").holds(Time::midnight()));
    }

    #[test]
    fn shifts_that_only_touch_do_not_overlap() {
        let (early, late, night) =
            (shift("06:00", "14:00"), shift("14:00", "22:00"), shift("22:00", "06:00"));
        for (a, b) in [(&early, &late), (&late, &night), (&night, &early)] {
            assert!(!a.overlaps(b) && !b.overlaps(a));
        }
        for other in [
            shift("13:59", "15:00"),
            shift("00:00", "24:00"),
            shift("05:00", "23:00"),
            shift("07:00", "08:00"),
        ] {
            assert!(early.overlaps(&other) && other.overlaps(&early), "{other:?}");
        }
    }

    #[test]
    fn a_time_of_day_has_two_digits_each() {
        for bad in ["", "6:00", "06:60", "24:01", "25:00", "06-00", "06:00:00", "-1:00", "+6:00", "0é:00"] {
            assert_eq!(parse_time(bad), Err(BadTime), "{bad}");
        }
    }
}
