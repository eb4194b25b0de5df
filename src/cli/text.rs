//! Text for people: tables, spans, sizes; never a control character of somebody else's.

use std::fmt::Write as _;

/// `text` without control characters: what a fixture says must not move a cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

/// A span in its two largest units: `45 s`, `14 min`, `3 h 5 min`, `2 d 4 h`.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small} {small_unit}")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => two(minutes, "min", seconds % 60, "s"),
        600..3_600 => format!("{minutes} min"),
        3_600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// A number of bytes in the unit that fits.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = number as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// Rows with aligned columns, each line begun with `indent`. Widths are kept from one call to
/// the next, so that a table that comes in pieces keeps its columns.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    indent: &'static str,
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    pub(super) fn new(indent: &'static str) -> Self {
        Self { indent, widths: [0; N] }
    }

    /// The rows as lines.
    pub(super) fn lines(&mut self, rows: &[[String; N]]) -> String {
        let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|it| plain(it))).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &rows {
            let mut line = self.indent.to_owned();
            for (width, cell) in self.widths.iter().zip(row) {
                // Writing to a string cannot fail.
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_two_largest_units() {
        let told: Vec<_> =
            [0, 59, 60, 61, 599, 840, 3_600, 11_100, 86_400, 187_200].map(span).into_iter().collect();
        let expected = [
            "0 s",
            "59 s",
            "1 min",
            "1 min 1 s",
            "9 min 59 s",
            "14 min",
            "1 h",
            "3 h 5 min",
            "1 d",
            "2 d 4 h",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let told = [0, 1_023, 1_024, 1_536, 5 << 20, u64::MAX].map(bytes);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "16777216.0 TiB"]);
    }

    #[test]
    fn a_table_keeps_its_columns_and_lets_no_escape_through() {
        let mut table = Table::new("  ");
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let lines = table.lines(&[row("A", "STATE"), row("long name", "x\u{1b}[31m\ny")]);
        assert_eq!(lines, "  A          STATE\n  long name  x?[31m?y\n");
        assert_eq!(table.lines(&[row("b", "")]), "  b\n");
    }
}
