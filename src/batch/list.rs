//! Serial numbers from a file: CSV, or one a line.
//!
//! Spreadsheets write a byte order mark, `;` where the comma is the decimal sign, quotes, CRLF, empty rows at the
//! end and further columns. All of that is read; what is not clear is refused with the line and what to do.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use super::MAX_LISTED;
use crate::device::serial::{SerialNumber, SerialPattern};

/// Faults that are told one by one; of the others, how many.
const TOLD: usize = 10;

/// Longest row, bytes. A quote that is not closed would make one of all the rest.
const MAX_ROW_BYTES: u64 = 1 << 20;

/// What a column of serial numbers may be headed by, without case, blanks and punctuation.
const HEADERS: [&str; 6] = ["serial", "serialnumber", "serialno", "serialnum", "sn", "serials"];

/// Serial numbers, each once, in ascending order.
#[derive(Debug, Clone, Default)]
pub struct List {
    text: String,
    entries: Vec<Entry>,
}

/// Where one lies in the text, and on which line it stood. There may be a million: each is small.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    length: u8,
    line: u32,
}

impl List {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|it| self.text_of(it))
    }

    /// The one at that place of the order.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        self.entries.get(index).map(|it| self.text_of(it))
    }

    fn text_of(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..entry.start as usize + usize::from(entry.length)]
    }

    fn push(&mut self, serial: &str, line: u64) {
        // A million of at most 128 characters fit by far, and so does a line's number.
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let (length, line) =
            (serial.len().try_into().unwrap_or(u8::MAX), line.try_into().unwrap_or(u32::MAX));
        self.text.push_str(serial);
        self.entries.push(Entry { start, length, line });
    }

    /// Puts them in order; each that stands there more than once is a fault. All have come from that column.
    fn sort(&mut self, column: usize, faults: &mut Faults) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| self.text_of(a).cmp(self.text_of(b)).then(a.line.cmp(&b.line)));
        let mut first: Option<&Entry> = None;
        let mut twice = Vec::new();
        for it in &entries {
            match first {
                Some(first) if self.text_of(first) == self.text_of(it) => {
                    twice.push((it.line, first.line, *it))
                }
                _ => first = Some(it),
            }
        }
        twice.sort_unstable_by_key(|it| it.0);
        for (line, before, entry) in twice {
            let what = format!("{} stands on line {before} already", self.text_of(&entry));
            faults.add(BadPlace { line: line.into(), column, what });
        }
        self.entries = entries;
    }
}

/// A fault in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPlace {
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for BadPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

/// Why a file is no list of serial numbers.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum BadList {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is UTF-16 text; save it as \"CSV UTF-8\"")]
    Utf16,
    #[error("there is no serial number in it")]
    Empty,
    #[error(
        "it has more than {MAX_LISTED} serial numbers, which is the most that a batch can have; open several"
    )]
    TooMany,
    #[error("line {line}: a row goes on for more than a megabyte: close the quote that it opens")]
    EndlessRow { line: u64 },
    #[error(
        "line {line}: there are {count} columns; name the one with the serial numbers, as in --column {example}"
    )]
    WhichColumn { line: u64, count: usize, example: String },
    #[error("line {line}: there is no column {wanted:?}; there are {}", names.join(", "))]
    NoColumn { line: u64, wanted: String, names: Vec<String> },
    #[error("{}", told(places, *more))]
    Faults { places: Vec<BadPlace>, more: u64 },
}

fn told(places: &[BadPlace], more: u64) -> String {
    let mut lines: Vec<String> = places.iter().map(ToString::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more like these"));
    }
    lines.join("\n")
}

/// The first faults, and how many more there are.
#[derive(Debug, Default)]
struct Faults {
    places: Vec<BadPlace>,
    more: u64,
}

impl Faults {
    fn add(&mut self, place: BadPlace) {
        if self.places.len() < TOLD {
            self.places.push(place);
        } else {
            self.more += 1;
        }
    }
}

/// Reads a file: CSV with `,`, `;` or tab between the columns, with a header or without, or a serial number a
/// line. `column` names the column by its header, or by its number from 1. Each has to match `pattern`, where
/// there is one. Memory: 12 bytes and its text for each serial number.
///
/// # Errors
/// The first faults, each with its line and column, and how many more there are.
pub fn read_list(
    file: impl Read,
    column: Option<&str>,
    pattern: Option<&SerialPattern>,
) -> Result<List, BadList> {
    let (first, rest) = first_line(BufReader::new(file))?;
    let delimiter = delimiter_of(&first);
    let ahead = Rc::new(Cell::new(0));
    // With a line feed at the end each row has one, by which its line is told.
    let inner = Cursor::new(first).chain(rest).chain(Cursor::new(b"\n"));
    let bytes = Bounded { inner, ahead: ahead.clone(), after_return: false };
    let mut rows =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
    let mut row = csv::ByteRecord::new();
    let (mut list, mut faults, mut wanted) = (List::default(), Faults::default(), None);
    let mut line = 1;
    loop {
        match rows.read_byte_record(&mut row) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(broken(error, line)),
        }
        ahead.set(0);
        // Where the row begins, empty lines before it left out: csv counts them to it.
        let within = row.as_slice().iter().filter(|it| **it == b'\n').count() as u64;
        line = rows.position().line().saturating_sub(within + 1);
        if row.iter().all(|it| it.trim_ascii().is_empty()) {
            continue;
        }
        let wanted = match &mut wanted {
            Some(wanted) => *wanted,
            unknown => {
                let (index, is_header) = column_of(&row, column, line)?;
                *unknown = Some(index);
                if is_header {
                    continue;
                }
                index
            }
        };
        match serial_in(&row, wanted, pattern) {
            Ok(_) if list.len() >= MAX_LISTED => return Err(BadList::TooMany),
            Ok(serial) => list.push(serial.as_str(), line),
            Err(what) => faults.add(BadPlace { line, column: wanted + 1, what }),
        }
    }
    list.sort(wanted.map_or(1, |it| it + 1), &mut faults);
    if !faults.places.is_empty() {
        return Err(BadList::Faults { places: faults.places, more: faults.more });
    }
    if list.is_empty() { Err(BadList::Empty) } else { Ok(list) }
}

fn serial_in(
    row: &csv::ByteRecord,
    index: usize,
    pattern: Option<&SerialPattern>,
) -> Result<SerialNumber, String> {
    let field = row.get(index).unwrap_or_default().trim_ascii();
    if field.is_empty() {
        return Err("there is no serial number".to_owned());
    }
    let text = String::from_utf8_lossy(field);
    let serial = match pattern {
        Some(pattern) => SerialNumber::parse_as(&text, pattern),
        None => SerialNumber::parse(&text),
    };
    let shown = || text.chars().take(40).map(|it| if it.is_control() { '?' } else { it }).collect::<String>();
    serial.map_err(|error| format!("{}: {error}", shown()))
}

/// Which column holds the serial numbers, and whether this row is a header.
fn column_of(row: &csv::ByteRecord, wanted: Option<&str>, line: u64) -> Result<(usize, bool), BadList> {
    let names: Vec<String> =
        row.iter().map(|it| String::from_utf8_lossy(it.trim_ascii()).into_owned()).collect();
    let header = names.iter().position(|it| HEADERS.contains(&plain(it).as_str()));
    let Some(wanted) = wanted else {
        return match (header, names.len()) {
            (Some(index), _) => Ok((index, true)),
            (None, 1) => Ok((0, false)),
            (None, count) => {
                let example = names.first().map_or("1", |it| if it.is_empty() { "1" } else { it });
                Err(BadList::WhichColumn { line, count, example: format!("{example:?}") })
            }
        };
    };
    if let Some(index) = names.iter().position(|it| it.eq_ignore_ascii_case(wanted.trim())) {
        return Ok((index, true));
    }
    match wanted.trim().parse::<usize>() {
        Ok(number) if (1..=names.len()).contains(&number) => Ok((number - 1, header.is_some())),
        _ => Err(BadList::NoColumn { line, wanted: wanted.to_owned(), names }),
    }
}

/// A header without what differs from one spreadsheet to the next.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
}

/// The first line without a byte order mark, and what follows.
fn first_line<R: BufRead>(mut file: R) -> Result<(Vec<u8>, R), BadList> {
    let mut first = Vec::new();
    (&mut file).take(MAX_ROW_BYTES).read_until(b'\n', &mut first).map_err(BadList::Read)?;
    if first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]) {
        return Err(BadList::Utf16);
    }
    if first.starts_with(b"\xef\xbb\xbf") {
        first.drain(..3);
    }
    Ok((first, file))
}

/// The one of `,`, `;` and tab that stands on the line most often outside of quotes.
fn delimiter_of(line: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in line {
        quoted ^= *byte == b'"';
        for (delimiter, count) in &mut counts {
            *count += u32::from(!quoted && *delimiter == *byte);
        }
    }
    // The first of those that stand there equally often.
    counts.iter().rev().max_by_key(|it| it.1).map_or(b',', |it| it.0)
}

fn broken(error: csv::Error, line: u64) -> BadList {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            BadList::EndlessRow { line: line + 1 }
        }
        csv::ErrorKind::Io(error) => BadList::Read(error),
        other => BadList::Read(io::Error::other(format!("{other:?}"))),
    }
}

/// Lets no more through between two rows than a row may have, and every line end as a line feed.
struct Bounded<R> {
    inner: R,
    ahead: Rc<Cell<u64>>,
    after_return: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead.get();
        if ahead > MAX_ROW_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        loop {
            let count = self.inner.read(buffer)?;
            self.ahead.set(ahead + count as u64);
            let mut kept = 0;
            for index in 0..count {
                let byte = buffer[index];
                let half = byte == b'\n' && std::mem::take(&mut self.after_return);
                self.after_return = byte == b'\r';
                if !half {
                    buffer[kept] = if byte == b'\r' { b'\n' } else { byte };
                    kept += 1;
                }
            }
            if kept > 0 || count == 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: impl AsRef<[u8]>, column: Option<&str>) -> Result<Vec<String>, String> {
        let pattern = SerialPattern::new("[A-Z]{2}[0-9]+").unwrap();
        let list = read_list(text.as_ref(), column, Some(&pattern)).map_err(|it| it.to_string())?;
        Ok(list.iter().map(str::to_owned).collect())
    }

    #[test]
    fn whatever_a_spreadsheet_writes_is_read() {
        for text in [
            "SN1\nSN2\nSN3\n",
            "SN3\nSN1\nSN2",
            "SN3\rSN1\rSN2\r",
            "\u{feff}SN1\r\nSN2\r\n\r\nSN3\r\n",
            "serial\nSN1\nSN2\nSN3\n",
            "\u{feff}\"Serial No.\"\n\"SN1\"\n\"SN2\"\n SN3 \n",
            "Pos;Serial Number;Note\n1;SN2;\"a;b\"\n2;SN1;\"two\nlines\"\n3;\"SN3\";\n;;\n",
            "note,sn\n\"x,\"\"y\",SN1\nz,SN2\n,SN3\n",
            "a\tserial_number\n1\tSN1\n2\tSN2\n3\tSN3",
        ] {
            assert_eq!(read(text, None).unwrap(), ["SN1", "SN2", "SN3"], "{text:?}");
        }
    }

    #[test]
    fn a_column_is_named_or_numbered() {
        let text = "id,Barcode,serial\nX1,SN1,OO1\nX2,SN2,OO2\n";
        assert_eq!(read(text, Some("barcode")).unwrap(), ["SN1", "SN2"]);
        assert_eq!(read(text, Some("2")).unwrap(), ["SN1", "SN2"], "the header is known by its serial");
        assert_eq!(read(text, None).unwrap(), ["OO1", "OO2"]);
        assert_eq!(read("1;SN1\n2;SN2\n", Some("2")).unwrap(), ["SN1", "SN2"]);
        let error = read(text, Some("imei")).unwrap_err();
        assert_eq!(error, "line 1: there is no column \"imei\"; there are id, Barcode, serial");
        let error = read("1;SN1\n", None).unwrap_err();
        assert!(error.starts_with("line 1: there are 2 columns; name the one"), "{error}");
    }

    #[test]
    fn faults_are_told_with_their_line_and_column_ten_at_most() {
        let error = read("SN1\nsn2\n\nSN1\nSN 4\n", None).unwrap_err();
        let expected = "line 2, column 1: sn2: the serial number does not match the product's pattern\n\
             line 5, column 1: SN 4: the serial number holds blanks, control or non-ASCII characters\n\
             line 4, column 1: SN1 stands on line 1 already";
        assert_eq!(error, expected);
        let error = read("x;serial\n1;SN1\n2;\n", None).unwrap_err();
        assert_eq!(error, "line 3, column 2: there is no serial number");
        let error = read("x;serial\n1;SN1\n2\n", None).unwrap_err();
        assert_eq!(error, "line 3, column 2: there is no serial number", "the row is too short");
        let error = read("a,serial\r\n\r\n\"two\r\nlines\",SN1\r\nx,SN1", None).unwrap_err();
        assert_eq!(error, "line 5, column 2: SN1 stands on line 3 already");
        let error = read("bad\n".repeat(37), None).unwrap_err();
        assert_eq!(error.lines().count(), 11);
        assert!(error.ends_with("\nand 27 more like these"), "{error}");
        let error = read("SN1\n".repeat(13), None).unwrap_err();
        assert!(
            error.starts_with("line 2, column 1: SN1 stands on line 1 already\nline 3, column 1: "),
            "{error}"
        );
        assert!(error.ends_with("\nand 2 more like these"), "{error}");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(matches!(read_list(&b""[..], None, None), Err(BadList::Empty)));
        assert!(matches!(read_list(&b"serial;\n;\n"[..], None, None), Err(BadList::Empty)));
        assert!(matches!(read_list(&b"\xff\xfeS\0N\0"[..], None, None), Err(BadList::Utf16)));
        let endless = format!("SN1\nSN2\n\"SN3\n{}", "SN4\n".repeat(600_000));
        let error = read_list(endless.as_bytes(), None, None).unwrap_err();
        assert!(matches!(error, BadList::EndlessRow { line: 3 }), "{error}");
        let many = (0..=MAX_LISTED).flat_map(|it| format!("SN{it}\n").into_bytes()).collect::<Vec<_>>();
        assert!(matches!(read_list(&many[..], None, None), Err(BadList::TooMany)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever stands in the other columns, and however the file is written.
        #[test]
        fn the_serials_come_back_in_order(
            serials in prop::collection::btree_set("[A-Z]{2}[0-9]{1,9}", 1..40),
            notes in prop::collection::vec("[ -~\r\n]{0,12}", 40),
            shuffled in any::<prop::sample::Index>(),
            delimiter in prop::sample::select(vec![b',', b';', b'\t']),
            crlf in any::<bool>(),
            bom in any::<bool>(),
        ) {
            let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer = csv::WriterBuilder::new().delimiter(delimiter).terminator(terminator).from_writer(Vec::new());
            writer.write_record(["note", "serial", "more"]).unwrap();
            let mut order: Vec<&String> = serials.iter().collect();
            let middle = shuffled.index(order.len());
            order.rotate_left(middle);
            for (serial, note) in order.iter().zip(&notes) {
                writer.write_record([note, serial.as_str(), "x"]).unwrap();
            }
            let mut text = if bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
            text.extend(writer.into_inner().unwrap());
            let expected: Vec<String> = serials.into_iter().collect();
            prop_assert_eq!(read(text, None), Ok(expected));
        }

        /// Nothing makes it panic, and what it takes is in order, each once, and fits.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(list) = read(&bytes, None) {
                prop_assert!(!list.is_empty() && list.is_sorted_by(|a, b| a < b), "{list:?}");
            }
        }

        /// As bytes that are nearly a list.
        #[test]
        fn nearly_lists_are_read_or_refused(text in "(SN[0-9]{0,2}|serial|[;,\"\t\r\n ]){0,40}") {
            if let Ok(list) = read(&text, None) {
                prop_assert!(!list.is_empty() && list.is_sorted_by(|a, b| a < b), "{list:?}");
            }
        }
    }
}
