//! How a report looks: for a terminal, for programs, for a spreadsheet, for the board.

pub mod csv;
pub mod html;
pub mod json;
mod svg;
pub mod text;

/// A share of ten-thousandths as it is read: `92.50 %`.
fn percent(share: Option<u64>) -> String {
    match share {
        Some(it) => format!("{}.{:02} %", it / 100, it % 100),
        None => "-".to_owned(),
    }
}

/// A span as it is read: `340 ms`, `12.3 s`, `4 min 5 s`, `3 h 5 min`.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number with its thousands apart: `1,184`.
fn number(it: u64) -> String {
    let digits = it.to_string();
    let mut text = String::with_capacity(digits.len() + 6);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Without control characters, and no longer than it may be: what others have said must not move a cursor.
fn plain(text: &str, max_chars: usize) -> String {
    let plain = |it: char| if it.is_control() || is_direction(it) { '?' } else { it };
    let mut short: String = text.chars().map(plain).take(max_chars).collect();
    if text.chars().count() > max_chars {
        short.pop();
        short.push('…');
    }
    short
}

/// Characters that turn the direction of what follows, or that nobody sees.
fn is_direction(it: char) -> bool {
    matches!(it, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What the time went to, with words.
fn shares_of_time(it: &super::model::Times) -> [(&'static str, u64); 3] {
    [
        ("operator: out of the nest, to be presented again", it.operator_ms),
        ("fixture: storing and reading back", it.fixture_ms),
        ("making: cloud, and waiting for a call's turn", it.making_ms),
    ]
}

/// A thousandth as a decimal: `9.5`.
fn milli(it: Option<u64>) -> String {
    it.map_or_else(|| "unlimited".to_owned(), |it| format!("{}.{}", it / 1000, it % 1000 / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_people_write_them() {
        assert_eq!([0, 999, 1_184, 1_000_000].map(number), ["0", "999", "1,184", "1,000,000"]);
        assert_eq!(
            [0, 999, 12_345, 245_000, 11_100_000].map(span),
            ["0 ms", "999 ms", "12.3 s", "4 min 5 s", "3 h 5 min"]
        );
        assert_eq!(
            [Some(9_250), Some(5), Some(10_000), None].map(percent),
            ["92.50 %", "0.05 %", "100.00 %", "-"]
        );
        assert_eq!(plain("a\u{1b}[2J\u{202e}b", 20), "a?[2J?b");
        assert_eq!(plain("abcdef", 4), "abc…");
        assert_eq!(milli(Some(9_500)), "9.5");
    }
}
