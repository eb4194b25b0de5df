//! Shifts, as the plant's calendar has them.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

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

/// One shift of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShiftSpan {
    /// The shift's name.
    pub name: String,
    /// When it began.
    pub begin: Timestamp,
    /// When it ends: the first instant after it.
    pub end: Timestamp,
}

/// The shift that `now` lies in; none in a gap between two.
#[must_use]
pub fn shift_at(shifts: &[Shift], timezone: &TimeZone, now: Timestamp) -> Option<ShiftSpan> {
    let today = now.to_zoned(timezone.clone()).date();
    // One that goes over midnight may have begun yesterday.
    let days = [Some(today), today.yesterday().ok()];
    days.into_iter().flatten().flat_map(|day| shifts.iter().map(move |it| (day, it))).find_map(
        |(day, shift)| {
            let last_day = if shift.start < shift.end { Some(day) } else { day.checked_add(1.day()).ok() };
            let at = |day: jiff::civil::Date, time: Time| -> Option<Timestamp> {
                // A time that the clock skips in spring is the one after the gap.
                day.to_datetime(time).to_zoned(timezone.clone()).ok().map(|it: Zoned| it.timestamp())
            };
            let (begin, end) = (at(day, shift.start)?, at(last_day?, shift.end)?);
            (begin..end).contains(&now).then(|| ShiftSpan { name: shift.name.clone(), begin, end })
        },
    )
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
    fn a_shift_has_a_beginning_and_an_end_even_over_midnight_and_when_clocks_change() {
        let shifts = [("early", "06:00", "14:00"), ("night", "22:00", "06:00")]
            .map(|(name, start, end)| Shift { name: name.into(), ..shift(start, end) });
        let vienna = TimeZone::get("Europe/Vienna").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let span = |now: &str| shift_at(&shifts, &vienna, at(now)).map(|it| (it.name, it.begin, it.end));
        let early = Some(("early".to_owned(), at("2026-07-01T04:00:00Z"), at("2026-07-01T12:00:00Z")));
        assert_eq!(span("2026-07-01T04:00:00Z"), early);
        assert_eq!(span("2026-07-01T11:59:59Z"), early);
        assert_eq!(span("2026-07-01T12:00:00Z"), None);
        let night = Some(("night".to_owned(), at("2026-07-01T20:00:00Z"), at("2026-07-02T04:00:00Z")));
        assert_eq!(span("2026-07-01T20:00:00Z"), night);
        assert_eq!(span("2026-07-02T03:00:00Z"), night);
        // The night in which summer time ends has nine hours.
        let long = Some(("night".to_owned(), at("2026-10-24T20:00:00Z"), at("2026-10-25T05:00:00Z")));
        assert_eq!(span("2026-10-25T04:30:00Z"), long);
        let whole = shift_at(&[Shift::whole_day()], &TimeZone::UTC, at("2026-07-01T23:59:59Z")).unwrap();
        assert_eq!((whole.begin, whole.end), (at("2026-07-01T00:00:00Z"), at("2026-07-02T00:00:00Z")));
    }

    #[test]
    fn a_time_of_day_has_two_digits_each() {
        for bad in ["", "6:00", "06:60", "24:01", "25:00", "06-00", "06:00:00", "-1:00", "+6:00", "0é:00"] {
            assert_eq!(parse_time(bad), Err(BadTime), "{bad}");
        }
    }
}
