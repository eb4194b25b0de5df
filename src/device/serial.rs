//! Serial numbers and MAC addresses, as parsed once and then trusted.

use std::fmt;
use std::sync::Arc;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// Longest serial number, characters: it has to fit an AWS name.
pub const MAX_SERIAL_LEN: usize = 128;

/// A device's serial number: 1–128 printable ASCII characters without blanks.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SerialNumber(Arc<str>);

/// The text is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadSerial {
    /// One sentence for the operator.
    pub reason: &'static str,
}

impl SerialNumber {
    /// Takes `text` if it could be any product's serial number.
    ///
    /// # Errors
    /// Empty, longer than 128 characters, or with blanks, control or non-ASCII characters.
    pub fn parse(text: &str) -> Result<Self, BadSerial> {
        let reason = if text.is_empty() {
            "the serial number is empty"
        } else if text.len() > MAX_SERIAL_LEN {
            "the serial number is longer than 128 characters"
        } else if !text.bytes().all(|it| it.is_ascii_graphic()) {
            "the serial number holds blanks, control or non-ASCII characters"
        } else {
            return Ok(Self(Arc::from(text)));
        };
        Err(BadSerial { reason })
    }

    /// Takes `text` if it is a serial number and all of it matches the product's `pattern`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), or it does not match.
    pub fn parse_as(text: &str, pattern: &SerialPattern) -> Result<Self, BadSerial> {
        let it = Self::parse(text)?;
        if pattern.0.is_match(text) {
            Ok(it)
        } else {
            Err(BadSerial { reason: "the serial number does not match the product's pattern" })
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl From<SerialNumber> for String {
    fn from(it: SerialNumber) -> Self {
        it.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for SerialNumber {
    type Error = BadSerial;

    fn try_from(text: String) -> Result<Self, BadSerial> {
        Self::parse(&text)
    }
}

/// A product's pattern for serial numbers. It always has to match the whole serial number,
/// whether it says `^…$` or not: half a match would let anything into the names of AWS resources.
#[derive(Debug, Clone)]
pub struct SerialPattern(Regex, Arc<str>);

impl SerialPattern {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// The pattern is not a regular expression, or too large.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        whole(pattern).map(|it| Self(it, pattern.into()))
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.1
    }
}

/// A pattern that has to match the whole of a text, whether it says `^…$` or not.
///
/// # Errors
/// It is not a regular expression, or too large.
pub fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    // Compiled alone first, so that an unbalanced `)` cannot close our group.
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

/// A MAC address: 12 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(String);

/// The text is no MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is 12 hex digits, with : or - between them or without")]
pub struct BadMac;

impl Mac {
    /// Takes 12 hex digits in either case, with `:` and `-` ignored.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, BadMac> {
        if text.len() > 17 {
            return Err(BadMac);
        }
        let digits: String =
            text.chars().filter(|it| !matches!(it, ':' | '-')).map(|it| it.to_ascii_lowercase()).collect();
        if digits.len() == 12 && digits.bytes().all(|it| it.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err(BadMac)
        }
    }

    /// The 12 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({})", self.0)
    }
}

impl From<Mac> for String {
    fn from(it: Mac) -> Self {
        it.0
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_has_no_blanks_controls_or_length_without_end() {
        for bad in ["", " A", "A B", "A\u{2}", "Ä", "A\n", &"A".repeat(129), &"A".repeat(10_000)] {
            assert!(SerialNumber::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(SerialNumber::parse("SN-0001").unwrap().as_str(), "SN-0001");
    }

    #[test]
    fn a_pattern_matches_all_of_it_even_without_anchors() {
        let pattern = SerialPattern::new("[A-Z]{3}|[0-9]{3}").unwrap();
        assert!(SerialNumber::parse_as("ABC", &pattern).is_ok());
        assert!(SerialNumber::parse_as("123", &pattern).is_ok());
        for bad in ["ABCD", "xABC", "AB", "123/../"] {
            assert!(SerialNumber::parse_as(bad, &pattern).is_err(), "{bad}");
        }
        assert!(SerialPattern::new("a)|(b").is_err());
    }

    #[test]
    fn a_mac_is_compared_without_its_separators() {
        let it = Mac::parse("AA:bb-CC:dd:EE:01").unwrap();
        assert_eq!(it, Mac::parse("aabbccddee01").unwrap());
        for bad in ["", "aabbccddee0", "aabbccddee012", "gabbccddee01", "aa bb ccddee01", &":".repeat(20_000)]
        {
            assert!(Mac::parse(bad).is_err(), "{bad:?}");
        }
    }
}
