//! What is wrong with a configuration, told so that a technician can put it right.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// The line in it, counted from 1; none where the file could not be read at all.
    pub line: Option<usize>,
    /// The key in full, `product.thermostat.serial`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where something stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The key in full.
    pub(super) key: String,
    /// Bytes from the start of the file.
    pub(super) offset: usize,
}

impl Place {
    /// The place of a key that is missing in this table.
    pub(super) fn child(&self, key: &str) -> Self {
        let key = if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) };
        Self { key, offset: self.offset }
    }
}

/// Collects what is wrong while the file is read, so that all of it is told at once.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    /// Offsets of the line feeds.
    line_ends: Vec<usize>,
    found: RefCell<Vec<ConfigError>>,
}

impl Problems {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        let line_ends =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { file: file.to_owned(), line_ends, found: RefCell::default() }
    }

    /// Takes down one problem.
    pub(super) fn add(&self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let line = 1 + self.line_ends.partition_point(|end| *end < place.offset);
        self.found.borrow_mut().push(ConfigError {
            file: self.file.clone(),
            line: Some(line),
            key: place.key.clone(),
            message: message.into(),
            hint: Some(hint.into()).filter(|it| !it.is_empty()),
        });
    }

    /// Takes down what is wrong with the TOML itself.
    pub(super) fn add_syntax(&self, errors: Vec<toml::de::Error>) {
        for error in errors {
            let place = Place { key: String::new(), offset: error.span().map_or(0, |it| it.start) };
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            let hint = "each line is `key = value`, texts stand in quotes, tables begin with [name]";
            self.add(&place, format!("is not valid TOML: {message}"), hint);
        }
    }

    /// Takes down what is wrong in another file.
    pub(super) fn add_all(&self, errors: ConfigErrors) {
        self.found.borrow_mut().extend(errors.0);
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All problems in the order of the file.
    pub(super) fn into_errors(self) -> ConfigErrors {
        let mut found = self.found.into_inner();
        // What is wrong in other files comes behind.
        found.sort_by(|a, b| {
            let place = |it: &ConfigError| (it.file != self.file, it.line);
            place(a).cmp(&place(b))
        });
        ConfigErrors(found)
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + word.chars().count().min(24) / 3;
    let (distance, best) = known.into_iter().map(|it| (edit_distance(word, it), it)).min()?;
    (distance <= allowed).then_some(best)
}

/// Insertions, deletions and replacements (Levenshtein) that turn `a` into `b`, letter case ignored.
/// Only the first 64 characters count: a hint is not worth more work.
fn edit_distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().take(64).map(|it| it.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_word_finds_its_neighbour_and_a_strange_one_none() {
        let known = ["serial", "thing", "locker", "require_batch"];
        assert_eq!(nearest("serail", known), Some("serial"));
        assert_eq!(nearest("require-batch", known), Some("require_batch"));
        assert_eq!(nearest("SERIAL", known), Some("serial"));
        assert_eq!(nearest("zzzzzz", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn an_error_is_one_line_and_its_hint_another() {
        let problems = Problems::new(Path::new("config.toml"), "a\nb\nc");
        problems.add(&Place { key: "later".into(), offset: 4 }, "is wrong", "");
        problems.add(&Place { key: "x.y".into(), offset: 2 }, "is odd", "make it even");
        assert_eq!(
            problems.into_errors().to_string(),
            "config.toml:2: x.y: is odd\n  hint: make it even\nconfig.toml:3: later: is wrong"
        );
    }
}
