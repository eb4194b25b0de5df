//! A time as a person writes it: with its offset, or as the station's clock on the wall shows it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A time as it was written. Which instant it is, only the station can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Moment {
    /// RFC 3339.
    At(Timestamp),
    /// On the station's wall, without an offset: `2026-11-22T06:00`.
    Wall(DateTime),
}

/// It is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write 2026-11-22T06:00:00Z, or 2026-11-22T06:00 for the station's own clock")]
pub struct NoMoment;

impl Moment {
    /// The instant, where the station's clock goes by `timezone`.
    ///
    /// # Errors
    /// It is out of the years that can be told.
    pub fn instant(self, timezone: &TimeZone) -> Result<Timestamp, NoMoment> {
        match self {
            Self::At(at) => Ok(at),
            Self::Wall(wall) => {
                wall.to_zoned(timezone.clone()).map(|it| it.timestamp()).map_err(|_| NoMoment)
            }
        }
    }
}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let wall = || text.parse().map(Self::Wall).map_err(|_| NoMoment);
        text.parse().map(Self::At).or_else(|_| wall())
    }
}

impl TryFrom<String> for Moment {
    type Error = NoMoment;

    fn try_from(text: String) -> Result<Self, NoMoment> {
        text.parse()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Wall(wall) => wall.fmt(f),
        }
    }
}

impl From<Moment> for String {
    fn from(it: Moment) -> Self {
        it.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_the_stations_and_stays_so_on_the_way_to_it() {
        let vienna = TimeZone::get("Europe/Vienna").unwrap();
        for (text, at) in [
            ("2026-11-22T06:00", "2026-11-22T05:00:00Z"),
            ("2026-07-22T06:00:30", "2026-07-22T04:00:30Z"),
            ("2026-11-22T06:00:00Z", "2026-11-22T06:00:00Z"),
            ("2026-11-22T06:00:00+03:00", "2026-11-22T03:00:00Z"),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.instant(&vienna).unwrap().to_string(), at);
            let sent = serde_json::to_string(&moment).unwrap();
            assert_eq!(serde_json::from_str::<Moment>(&sent).unwrap(), moment, "{sent}");
        }
        for text in ["yesterday", "", "06:00", "2026-11-22T25:00"] {
            assert_eq!(text.parse::<Moment>(), Err(NoMoment), "{text}");
        }
    }
}
