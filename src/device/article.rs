//! The number that the trade knows a product by: UPC-A or EAN-13.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A product's number in trade, its check digit right.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ArticleNumber(String);

/// The text is no such number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum BadArticleNumber {
    #[error("{0:?} is no UPC-A (12 digits) and no EAN-13 (13 digits)")]
    Form(String),
    #[error("{number} ends with a wrong check digit: {right} would be right")]
    Check { number: String, right: char },
}

impl ArticleNumber {
    /// Reads a UPC-A of 12 digits or an EAN-13 of 13.
    ///
    /// # Errors
    /// Another length, something that is no digit, or a check digit that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadArticleNumber> {
        if !matches!(text.len(), 12 | 13) || !text.bytes().all(|it| it.is_ascii_digit()) {
            return Err(BadArticleNumber::Form(text.to_owned()));
        }
        let (body, last) = text.split_at(text.len() - 1);
        let right = check_digit(body);
        if last == right.to_string() {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadArticleNumber::Check { number: text.to_owned(), right })
        }
    }

    /// Its digits, as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The twelve digits, if it is a UPC-A: an EAN-13 that begins with 0 is one too.
    #[must_use]
    pub fn upc(&self) -> Option<&str> {
        if self.0.len() == 12 { Some(&self.0) } else { self.0.strip_prefix('0') }
    }

    /// The thirteen digits.
    #[must_use]
    pub fn ean(&self) -> String {
        format!("{:0>13}", self.0)
    }
}

/// GS1's: from the right, digits weigh 3 and 1 in turn, and all together end with 0.
fn check_digit(body: &str) -> char {
    let sum: u32 = body
        .bytes()
        .rev()
        .zip([3, 1].into_iter().cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    char::from_digit((10 - sum % 10) % 10, 10).unwrap_or('0')
}

impl fmt::Display for ArticleNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ArticleNumber> for String {
    fn from(it: ArticleNumber) -> Self {
        it.0
    }
}

impl TryFrom<String> for ArticleNumber {
    type Error = BadArticleNumber;

    fn try_from(text: String) -> Result<Self, BadArticleNumber> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_digit_has_to_be_right() {
        // Numbers that are printed in GS1's own documents.
        for good in ["036000291452", "614141000036", "4006381333931", "9780201379624", "0036000291452"] {
            assert_eq!(ArticleNumber::parse(good).unwrap().as_str(), good);
        }
        for at in 0..12 {
            let mut digits = *b"036000291452";
            digits[at] = b'0' + (digits[at] - b'0' + 1) % 10;
            let text = std::str::from_utf8(&digits).unwrap();
            let error = ArticleNumber::parse(text).unwrap_err();
            assert!(matches!(error, BadArticleNumber::Check { .. }), "{text}: {error}");
        }
        let error = ArticleNumber::parse("036000291453").unwrap_err().to_string();
        assert_eq!(error, "036000291453 ends with a wrong check digit: 2 would be right");
        for bad in ["", "03600029145", "40063813339310", "03600029145x", "०36000291452"] {
            assert!(matches!(ArticleNumber::parse(bad), Err(BadArticleNumber::Form(_))), "{bad}");
        }
    }

    #[test]
    fn an_ean_that_begins_with_0_is_a_upc() {
        assert_eq!(ArticleNumber::parse("0036000291452").unwrap().upc(), Some("036000291452"));
        assert_eq!(ArticleNumber::parse("036000291452").unwrap().ean(), "0036000291452");
        assert_eq!(ArticleNumber::parse("4006381333931").unwrap().upc(), None);
    }
}
