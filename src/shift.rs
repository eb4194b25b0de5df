//! Shifts, as the plant's calendar has them.
//!
//! A time of day that the clocks skip in spring is the instant at which they do; one that comes twice in
//! autumn is the first of the two. So shifts that touch on the wall touch in time, whatever the clocks do,
//! and the spans of all shifts and breaks together are the whole of time.

pub mod moment;

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// Minutes of a week.
const WEEK: i32 = 7 * 1440;

/// Days that are looked through for a shift at most: more than the longest holidays.
const MAX_DAYS: usize = 400;

/// One shift, in the station's time zone. It holds `start` and all that follows up to but without `end`; one
/// whose `end` is not after its `start` goes over midnight, and is of the day on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// Its name: 1 to 64 letters, digits, `_` and `-`.
    pub name: String,
    /// When it begins.
    pub start: Time,
    /// When the next one begins. The same as `start` for a shift of 24 hours.
    pub end: Time,
    /// The days of the week on which it begins.
    pub days: Days,
}

/// Days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

/// The words for the days, Monday first.
pub const DAY_WORDS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Days {
    /// All seven.
    pub const ALL: Self = Self(0x7f);

    /// Those, 0 for Monday to 6 for Sunday.
    #[must_use]
    pub fn of(days: impl IntoIterator<Item = usize>) -> Self {
        Self(days.into_iter().filter(|it| *it < 7).fold(0, |set, day| set | 1 << day))
    }

    /// Whether `day` is among them.
    #[must_use]
    pub fn holds(self, day: Weekday) -> bool {
        self.0 >> day.to_monday_zero_offset() & 1 == 1
    }

    fn each(self) -> impl Iterator<Item = i32> {
        (0..7).filter(move |day| self.0 >> day & 1 == 1)
    }
}

/// The text is no time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a time of day from 00:00 to 24:00")]
pub struct BadTime;

impl Shift {
    /// The shift of a station that has none: `day`, 00:00–24:00.
    #[must_use]
    pub fn whole_day() -> Self {
        Self { name: "day".to_owned(), start: Time::midnight(), end: Time::midnight(), days: Days::ALL }
    }

    /// How long it is where no clock changes, minutes.
    fn minutes(&self) -> i32 {
        match (minute(self.end) - minute(self.start)).rem_euclid(1440) {
            0 => 1440,
            it => it,
        }
    }

    /// Whether some time of the week lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Two stretches of a circle meet if and only if one begins within the other.
        let begins_in = |a: &Self, b: &Self| {
            b.days.each().any(|of_b| {
                a.days.each().any(|of_a| {
                    let begin = of_a * 1440 + minute(a.start);
                    (begin - of_b * 1440 - minute(b.start)).rem_euclid(WEEK) < b.minutes()
                })
            })
        };
        begins_in(self, other) || begins_in(other, self)
    }
}

fn minute(time: Time) -> i32 {
    i32::from(time.hour()) * 60 + i32::from(time.minute())
}

/// One shift of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShiftSpan {
    /// The day on which it begins.
    pub day: Date,
    /// The shift's name.
    pub name: String,
    /// When it began.
    pub begin: Timestamp,
    /// When it ends: the first instant after it.
    pub end: Timestamp,
    /// Minutes by which it is longer than the clocks on the wall say, because they are set back in it; less
    /// than zero where they are put forward.
    pub extra_minutes: i64,
}

impl fmt::Display for ShiftSpan {
    /// As it is asked for: `2026-11-22/early`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.day, self.name)
    }
}

/// Why there is no such shift.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum NoShift {
    #[error("{0:?} is not a day and a shift, as in 2026-11-22/early")]
    Form(String),
    #[error("there is no shift {name:?}: the shifts are {known}")]
    Name { name: String, known: String },
    #[error("no shift has ended yet")]
    NotYet,
    #[error("{0} has not begun yet")]
    ToCome(String),
    #[error("{0} is a day off, or not a day of that shift")]
    DayOff(String),
}

/// The plant's calendar.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// The shifts; at least one, and no two overlap.
    pub shifts: Vec<Shift>,
    /// Where they are.
    pub timezone: TimeZone,
    /// Days on which no shift begins.
    pub days_off: BTreeSet<Date>,
}

impl Default for Calendar {
    /// One shift that is the whole day, UTC.
    fn default() -> Self {
        Self { shifts: vec![Shift::whole_day()], timezone: TimeZone::UTC, days_off: BTreeSet::new() }
    }
}

impl Calendar {
    /// The shift that `now` lies in; none in a gap between two.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<ShiftSpan> {
        let today = self.day_of(now);
        // One that goes over midnight may have begun yesterday.
        let days = [Some(today), today.yesterday().ok()];
        days.into_iter()
            .flatten()
            .flat_map(|day| self.of_day(day))
            .find(|it| (it.begin..it.end).contains(&now))
    }

    /// The shift of a text such as `2026-11-22/early`; of a day without a name where there is one shift only.
    ///
    /// # Errors
    /// The text is none, or there is no such shift on that day.
    pub fn named(&self, text: &str) -> Result<ShiftSpan, NoShift> {
        let (day, name) = match (text.split_once('/'), &self.shifts[..]) {
            (Some((day, name)), _) => (day, name),
            (None, [only]) => (text, only.name.as_str()),
            _ => return Err(NoShift::Form(text.to_owned())),
        };
        let day: Date = day.parse().map_err(|_| NoShift::Form(text.to_owned()))?;
        if !self.shifts.iter().any(|it| it.name == name) {
            let known: Vec<_> = self.shifts.iter().map(|it| it.name.as_str()).collect();
            return Err(NoShift::Name { name: name.to_owned(), known: known.join(", ") });
        }
        let found = self.of_day(day).find(|it| it.name == name);
        found.ok_or_else(|| NoShift::DayOff(format!("{day}/{name}")))
    }

    /// The shift that a person asks for at `now`: `current`, which in a gap is the one before, `last` for the one
    /// that ended last, or one by its name as [`named`](Self::named) has it.
    ///
    /// # Errors
    /// The text is none of these, there is no such shift, or it has not begun.
    pub fn asked(&self, text: &str, now: Timestamp) -> Result<ShiftSpan, NoShift> {
        match text {
            "current" => self.at(now).or_else(|| self.last_ended(now)).ok_or(NoShift::NotYet),
            "last" => self.last_ended(now).ok_or(NoShift::NotYet),
            // Of what is to come there is nothing to say yet, and it must not look as if nothing had happened.
            named => self.named(named).and_then(|it| match it.begin > now {
                true => Err(NoShift::ToCome(it.to_string())),
                false => Ok(it),
            }),
        }
    }

    /// The shift that ended last, at or before `now`.
    #[must_use]
    pub fn last_ended(&self, now: Timestamp) -> Option<ShiftSpan> {
        self.ended_by(now).next()
    }

    /// The shifts that have ended at or before `now`, the latest first.
    pub fn ended_by(&self, now: Timestamp) -> impl Iterator<Item = ShiftSpan> + '_ {
        let days = std::iter::successors(Some(self.day_of(now)), |day| day.yesterday().ok());
        days.take(MAX_DAYS).flat_map(move |day| {
            let mut of_day: Vec<_> = self.of_day(day).filter(|it| it.end <= now).collect();
            of_day.sort_by_key(|it| std::cmp::Reverse(it.end));
            of_day
        })
    }

    /// How many hours a day has, where that is not 24.
    #[must_use]
    pub fn odd_hours(&self, day: Date) -> Option<i64> {
        let next = day.tomorrow().ok()?;
        let instant = |day: Date| self.instant(day.to_datetime(Time::midnight()));
        let minutes = (instant(next)?.as_second() - instant(day)?.as_second()) / 60;
        (minutes != 1440).then_some(minutes / 60)
    }

    /// The day that it is then.
    #[must_use]
    pub fn day_of(&self, now: Timestamp) -> Date {
        now.to_zoned(self.timezone.clone()).date()
    }

    fn of_day(&self, day: Date) -> impl Iterator<Item = ShiftSpan> + '_ {
        let works = !self.days_off.contains(&day);
        let shifts = self.shifts.iter().filter(move |it| works && it.days.holds(day.weekday()));
        shifts.filter_map(move |shift| {
            let last_day = if shift.start < shift.end { day } else { day.checked_add(1.day()).ok()? };
            let begin = self.instant(day.to_datetime(shift.start))?;
            let end = self.instant(last_day.to_datetime(shift.end))?;
            let minutes = (end.as_second() - begin.as_second()) / 60;
            let extra_minutes = minutes - i64::from(shift.minutes());
            Some(ShiftSpan { day, name: shift.name.clone(), begin, end, extra_minutes })
        })
    }

    /// The instant of a time on the wall.
    fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        let found = self.timezone.to_ambiguous_timestamp(wall);
        if let AmbiguousOffset::Gap { after, .. } = found.offset() {
            let before_the_change = after.to_timestamp(wall).ok()?;
            return Some(self.timezone.following(before_the_change).next()?.timestamp());
        }
        found.earlier().ok()
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
        let (start, end) = (parse_time(start).unwrap(), parse_time(end).unwrap());
        Shift { name: "x".into(), start, end, days: Days::ALL }
    }

    fn calendar(shifts: &[(&str, &str, &str)], zone: &str) -> Calendar {
        let shifts =
            shifts.iter().map(|(name, start, end)| Shift { name: (*name).into(), ..shift(start, end) });
        let timezone = TimeZone::get(zone).unwrap();
        Calendar { shifts: shifts.collect(), timezone, days_off: BTreeSet::new() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
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
    fn shifts_of_other_days_do_not_overlap_but_a_night_reaches_into_the_next() {
        let on = |days: &[usize], it: Shift| Shift { days: Days::of(days.iter().copied()), ..it };
        let (week, weekend) = ([0, 1, 2, 3, 4], [5, 6]);
        assert!(!on(&week, shift("06:00", "14:00")).overlaps(&on(&weekend, shift("06:00", "18:00"))));
        let friday_night = on(&[4], shift("22:00", "06:00"));
        assert!(friday_night.overlaps(&on(&[5], shift("05:00", "13:00"))));
        assert!(!friday_night.overlaps(&on(&[5], shift("06:00", "13:00"))));
        assert!(
            on(&[6], shift("22:00", "06:00")).overlaps(&on(&[0], shift("00:00", "06:00"))),
            "over the week"
        );
    }

    #[test]
    fn a_shift_has_a_beginning_and_an_end_even_over_midnight_and_when_clocks_change() {
        let it = calendar(&[("early", "06:00", "14:00"), ("night", "22:00", "06:00")], "Europe/Vienna");
        let span = |now: &str| it.at(at(now)).map(|it| (it.to_string(), it.begin, it.end, it.extra_minutes));
        let of =
            |name: &str, begin: &str, end: &str, extra| Some((name.to_owned(), at(begin), at(end), extra));
        let early = of("2026-07-01/early", "2026-07-01T04:00:00Z", "2026-07-01T12:00:00Z", 0);
        assert_eq!(span("2026-07-01T04:00:00Z"), early);
        assert_eq!(span("2026-07-01T11:59:59Z"), early);
        assert_eq!(span("2026-07-01T12:00:00Z"), None);
        let night = of("2026-07-01/night", "2026-07-01T20:00:00Z", "2026-07-02T04:00:00Z", 0);
        assert_eq!(span("2026-07-01T20:00:00Z"), night);
        assert_eq!(span("2026-07-02T03:00:00Z"), night);
        // The night in which summer time ends has nine hours, that in which it begins seven.
        let long = of("2026-10-24/night", "2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z", 60);
        assert_eq!(span("2026-10-25T04:30:00Z"), long);
        let short = of("2026-03-28/night", "2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z", -60);
        assert_eq!(span("2026-03-29T00:30:00Z"), short);
        assert_eq!(it.odd_hours("2026-10-25".parse().unwrap()), Some(25));
        assert_eq!(it.odd_hours("2026-03-29".parse().unwrap()), Some(23));
        assert_eq!(it.odd_hours("2026-07-01".parse().unwrap()), None);
        let whole = calendar(&[("day", "00:00", "24:00")], "UTC").at(at("2026-07-01T23:59:59Z")).unwrap();
        assert_eq!((whole.begin, whole.end), (at("2026-07-01T00:00:00Z"), at("2026-07-02T00:00:00Z")));
    }

    #[test]
    fn shifts_touch_and_never_meet_on_the_days_on_which_clocks_change() {
        // Borders within the hour that is skipped, and within the one that comes twice.
        for borders in [["02:00", "02:30", "03:00"], ["02:15", "02:45", "03:30"], ["00:30", "02:30", "10:00"]]
        {
            let [a, b, c] = borders;
            for zone in ["Europe/Vienna", "Australia/Lord_Howe", "America/New_York", "UTC"] {
                let it = calendar(&[("a", a, b), ("b", b, c), ("c", c, a)], zone);
                for end in [
                    "2026-03-31T00:00:00Z",
                    "2026-04-07T00:00:00Z",
                    "2026-10-27T00:00:00Z",
                    "2026-11-03T00:00:00Z",
                    "2026-10-06T00:00:00Z",
                ] {
                    let mut spans: Vec<_> = it.ended_by(at(end)).take(15).collect();
                    spans.reverse();
                    for pair in spans.windows(2) {
                        assert_eq!(pair[0].end, pair[1].begin, "{zone} {pair:?}");
                    }
                    for span in &spans {
                        let last = Timestamp::from_millisecond(span.end.as_millisecond() - 1).unwrap();
                        // One that lies within the skipped hour is no time at all.
                        if span.begin < span.end {
                            assert_eq!(it.at(span.begin).as_ref(), Some(span), "{zone}");
                            assert_eq!(it.at(last).as_ref(), Some(span), "{zone}");
                        }
                        assert_eq!(it.named(&span.to_string()).as_ref(), Ok(span));
                    }
                }
            }
        }
    }

    #[test]
    fn a_day_off_and_a_day_of_the_week_that_is_none_have_no_shift() {
        let mut it = calendar(&[("early", "06:00", "14:00"), ("late", "14:00", "22:00")], "Europe/Vienna");
        it.days_off = BTreeSet::from(["2026-12-25".parse().unwrap()]);
        it.shifts[1].days = Days::of([0, 1, 2, 3, 4]);
        assert_eq!(it.at(at("2026-12-25T09:00:00Z")), None);
        let off = it.named("2026-12-25/early").unwrap_err().to_string();
        assert_eq!(off, "2026-12-25/early is a day off, or not a day of that shift");
        assert!(it.named("2026-12-26/late").is_err(), "a Saturday");
        assert!(it.named("2026-12-26/early").is_ok());
        assert_eq!(it.named("2026-12-26").unwrap_err(), NoShift::Form("2026-12-26".to_owned()));
        let unknown = it.named("2026-12-24/nihgt").unwrap_err().to_string();
        assert_eq!(unknown, "there is no shift \"nihgt\": the shifts are early, late");
        // After the holiday and the weekend the last that has ended is found.
        assert_eq!(it.last_ended(at("2026-12-26T12:59:59Z")).unwrap().to_string(), "2026-12-24/late");
        assert_eq!(it.last_ended(at("2026-12-26T13:00:00Z")).unwrap().to_string(), "2026-12-26/early");
        let one = calendar(&[("day", "00:00", "24:00")], "UTC");
        assert_eq!(one.named("2026-12-24").unwrap().to_string(), "2026-12-24/day");
    }

    #[test]
    fn a_shift_can_be_asked_for_from_its_first_second_on() {
        let it = calendar(&[("early", "06:00", "14:00"), ("late", "14:00", "22:00")], "UTC");
        let asked = |text: &str, now| it.asked(text, at(now)).map(|it| it.to_string());
        let early = Ok("2026-11-22/early".to_owned());
        assert_eq!(asked("2026-11-22/early", "2026-11-22T06:00:00Z"), early);
        assert_eq!(asked("2026-11-22/early", "2026-11-23T09:00:00Z"), early);
        let late = asked("2026-11-22/late", "2026-11-22T13:59:59Z").unwrap_err();
        assert_eq!(late.to_string(), "2026-11-22/late has not begun yet");
        assert!(asked("2099-01-01/early", "2026-11-22T13:59:59Z").is_err());
        assert!(matches!(asked("2026-11-22/nihgt", "2026-11-22T09:00:00Z"), Err(NoShift::Name { .. })));
    }

    #[test]
    fn a_time_of_day_has_two_digits_each() {
        for bad in ["", "6:00", "06:60", "24:01", "25:00", "06-00", "06:00:00", "-1:00", "+6:00", "0é:00"] {
            assert_eq!(parse_time(bad), Err(BadTime), "{bad}");
        }
    }
}
