//! What a person may tell the station to do with a device.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest reason, characters.
pub const MAX_REASON_LEN: usize = 200;

/// Who has given an order, and why: kept in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The user's number, as the kernel says.
    pub uid: u32,
    /// The user's name; `uid 1000` where it has none.
    pub name: String,
    /// Why, in the person's own words: one line of 1 to [`MAX_REASON_LEN`] characters. Empty where none was
    /// given and none has to be.
    pub reason: String,
}

impl Operator {
    /// Whether a text can be a reason: one line, not blank, at most [`MAX_REASON_LEN`] characters.
    #[must_use]
    pub fn is_reason(text: &str) -> bool {
        !text.trim().is_empty()
            && text.chars().count() <= MAX_REASON_LEN
            && !text.chars().any(char::is_control)
    }
}

/// What is to be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Try now what waits for its next try.
    Retry,
    /// Let it out of quarantine, to be presented again.
    Release,
    /// Give it up for good: deactivate and delete what it has in the cloud.
    Scrap,
    /// Write one more label of it.
    Label,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 4] = [Self::Retry, Self::Release, Self::Scrap, Self::Label];

    /// The word used on the command line and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Release => "release",
            Self::Scrap => "scrap",
            Self::Label => "label",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person may tell the station as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StationOrder {
    /// Take no new units; finish those that there are.
    Drain,
    /// Take new units again.
    Resume,
    /// Log from this level on.
    LogLevel(String),
}

/// The levels of the log that can be asked for at run time, the quietest first.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The level of that name.
///
/// # Errors
/// There is none, which is told in a sentence.
pub fn known_level(name: &str) -> Result<&'static str, String> {
    let known = LEVELS.into_iter().find(|it| *it == name);
    known.ok_or_else(|| format!("the level is one of {}", LEVELS.join(", ")))
}

impl fmt::Display for StationOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain => f.write_str("drain"),
            Self::Resume => f.write_str("resume"),
            Self::LogLevel(level) => write!(f, "log-level {level}"),
        }
    }
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The journal knows no such device.
    #[error("this station's journal knows no such device")]
    Unknown,
    /// The journal knows no such batch.
    #[error("this station's journal knows no batch {0}")]
    NoBatch(crate::batch::BatchId),
    /// Not in the state that it is in, a sentence for the person.
    #[error("{0}")]
    Not(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert!(Operator::is_reason("connector was bent, batch 7"));
        for bad in ["", " ", "two\nlines", "\u{1b}[2J", &"x".repeat(MAX_REASON_LEN + 1)] {
            assert!(!Operator::is_reason(bad), "{bad:?}");
        }
    }
}
