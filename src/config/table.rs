//! Reads a TOML table key by key.
//!
//! Not serde's derive: that stops at the first thing that is wrong, and a technician
//! would be told of one mistake a run. Here every key that is asked for is checked for its
//! type and taken down as known; what nobody has asked for is an unknown key.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::errors::{Place, Problems, nearest};
use super::files::Files;
use super::units::{self, UnitError};

/// What every reader of a table needs.
#[derive(Clone, Copy)]
pub(super) struct Context<'d> {
    pub(super) problems: &'d Problems,
    /// The configuration file's directory: relative paths start here.
    pub(super) base: &'d Path,
    pub(super) files: &'d dyn Files,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A table of the file, with the keys that were asked for.
pub(super) struct Table<'d> {
    pub(super) context: Context<'d>,
    pub(super) place: Place,
    values: &'d DeTable<'d>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d> Table<'d> {
    pub(super) fn new(context: Context<'d>, place: Place, values: &'d DeTable<'d>) -> Self {
        Self { context, place, values, asked: RefCell::default() }
    }

    /// Takes down a problem at `place`.
    pub(super) fn problem(&self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.context.problems.add(place, message, hint);
    }

    /// Where `key` stands, or would stand.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let mut place = self.place.child(key);
        if let Some((name, _)) = self.values.iter().find(|(name, _)| name.get_ref() == key) {
            place.offset = name.span().start;
        }
        place
    }

    /// The value of `key`, which counts as known from now on.
    fn value(&self, key: &'static str) -> Option<At<&'d DeValue<'d>>> {
        self.asked.borrow_mut().push(key);
        let (_, value) = self.values.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(At { value: value.get_ref(), place: self.place_of(key) })
    }

    /// Whether the table has `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.iter().any(|(name, _)| name.get_ref() == key)
    }

    /// Where `key` stands, if it is there; it counts as known from now on.
    pub(super) fn known(&self, key: &'static str) -> Option<Place> {
        self.value(key).map(|at| at.place)
    }

    fn wrong_type(&self, at: &At<&DeValue<'_>>, wanted: &str, example: &str) {
        let found = match at.value.type_str() {
            "string" => "a text",
            "integer" => "a whole number",
            "float" => "a number",
            "boolean" => "true or false",
            "datetime" => "a date or time",
            "array" => "a list",
            _ => "a table",
        };
        self.problem(&at.place, format!("must be {wanted}, but is {found}"), format!("write {example}"));
    }

    fn missing(&self, key: &str, example: &str) {
        let table = if self.place.key.is_empty() { "the file" } else { &self.place.key };
        self.problem(&self.place.child(key), format!("is missing in {table}"), format!("add {example}"));
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str) -> Option<At<&'d str>> {
        let at = self.value(key)?;
        match at.value.as_str() {
            Some(value) => Some(At { value, place: at.place }),
            None => {
                self.wrong_type(&at, "a text", &format!("{key} = \"…\", with quotes"));
                None
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn need_text(&self, key: &'static str, example: &str) -> Option<At<&'d str>> {
        if !self.has(key) {
            self.missing(key, &format!("{key} = \"{example}\""));
        }
        self.text(key)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, known: &[(&str, T)]) -> T {
        let Some(at) = self.text(key) else { return default };
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == at.value) {
            return *value;
        }
        let hint = match nearest(at.value, known.iter().map(|it| it.0)) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => {
                let words: Vec<_> = known.iter().map(|it| format!("\"{}\"", it.0)).collect();
                format!("use {}", words.join(" or "))
            }
        };
        self.problem(&at.place, format!("{:?} is not known here", at.value), hint);
        default
    }

    /// A list of texts; the inner none where the key is missing, the outer one where it is wrong.
    #[expect(clippy::option_option, reason = "missing is no mistake, and a mistake is not missing")]
    pub(super) fn list(&self, key: &'static str, example: &str) -> Option<Option<Vec<At<&'d str>>>> {
        let Some(at) = self.value(key) else { return Some(None) };
        let (texts, whole) = self.list_of(&at, example);
        whole.then_some(Some(texts))
    }

    /// True or false.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(at) = self.value(key) else { return default };
        at.value.as_bool().unwrap_or_else(|| {
            self.wrong_type(&at, "true or false", &format!("{key} = {default}, without quotes"));
            default
        })
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(at) = self.value(key) else { return default };
        let Some(number) = at.value.as_integer() else {
            self.wrong_type(&at, "a whole number", &format!("{key} = {default}, without quotes"));
            return default;
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => value,
            _ => {
                let message = format!("must be from {} to {}", range.start(), range.end());
                self.problem(&at.place, message, format!("the default is {default}"));
                default
            }
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let show = units::show_duration;
        let example = format!("{key} = \"{}\"", show(default));
        let Some(at) = self.quantity(key, "a duration", &example) else { return default };
        match units::duration(at.value) {
            Ok(value) if range.contains(&value) => value,
            Ok(_) => {
                let message = format!("must be from {} to {}", show(*range.start()), show(*range.end()));
                self.problem(&at.place, message, format!("the default is {}", show(default)));
                default
            }
            Err(error) => {
                self.bad_quantity(&at, error, "ms, s, m, h, d or w", &example);
                default
            }
        }
    }

    /// A size in bytes.
    pub(super) fn size(&self, key: &'static str, default: u64) -> u64 {
        let example = format!("{key} = \"256MiB\"");
        let Some(at) = self.quantity(key, "a size", &example) else { return default };
        units::size(at.value).unwrap_or_else(|error| {
            self.bad_quantity(&at, error, "B, KiB, MiB, GiB, TiB, kB, MB, GB or TB", &example);
            default
        })
    }

    fn quantity(&self, key: &'static str, what: &str, example: &str) -> Option<At<&'d str>> {
        let at = self.value(key)?;
        if let Some(value) = at.value.as_str() {
            return Some(At { value, place: at.place });
        }
        if at.value.is_integer() || at.value.is_float() {
            self.problem(
                &at.place,
                "has no unit",
                format!("write {example}: {what} is a text with its unit"),
            );
        } else {
            self.wrong_type(&at, what, example);
        }
        None
    }

    fn bad_quantity(&self, at: &At<&str>, error: UnitError, units: &str, example: &str) {
        let hint = format!("write a number and {units}, as in {example}");
        self.problem(&at.place, format!("{:?} {error}", at.value), hint);
    }

    /// A path, from the configuration file's directory on where it is relative.
    pub(super) fn path(&self, key: &'static str) -> Option<At<PathBuf>> {
        let at = self.text(key)?;
        self.resolve(&at)
    }

    /// A path that has to be there.
    pub(super) fn need_path(&self, key: &'static str, example: &str) -> Option<At<PathBuf>> {
        let at = self.need_text(key, example)?;
        self.resolve(&at)
    }

    /// Takes a text as a path.
    pub(super) fn resolve(&self, at: &At<&str>) -> Option<At<PathBuf>> {
        if at.value.is_empty() || at.value.contains('\0') {
            self.problem(&at.place, "is not a path", "write the path of a file or directory");
            return None;
        }
        Some(At { value: self.context.base.join(at.value), place: at.place.clone() })
    }

    /// A number above zero, whole or not.
    pub(super) fn rate(&self, key: &'static str, example: f64) -> Option<At<f64>> {
        let at = self.value(key)?;
        let number = match at.value {
            DeValue::Integer(it) => i64::from_str_radix(it.as_str(), it.radix()).ok().map(|it| it as f64),
            DeValue::Float(it) => it.as_str().parse().ok(),
            _ => {
                self.wrong_type(&at, "a number", &format!("{key} = {example}, without quotes"));
                return None;
            }
        };
        match number {
            // Beyond a million calls a second no limit is meant: that is `preset = "unlimited"`.
            Some(value) if f64::is_finite(value) && value > 0.0 && value <= 1e6 => {
                Some(At { value, place: at.place })
            }
            _ => {
                self.problem(
                    &at.place,
                    "must be a number above 0, at most 1,000,000",
                    format!("write {key} = {example}"),
                );
                None
            }
        }
    }

    /// A table below this one.
    pub(super) fn table(&self, key: &'static str) -> Option<Table<'d>> {
        let at = self.value(key)?;
        match at.value.as_table() {
            Some(values) => Some(Table::new(self.context, at.place, values)),
            None => {
                self.wrong_type(&at, "a table", &format!("{key} = {{ … }} or [{}]", at.place.key));
                None
            }
        }
    }

    /// A table below this one that has to be there.
    pub(super) fn need_table(&self, key: &'static str, example: &str) -> Option<Table<'d>> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.table(key)
    }

    /// The tables of a list `[[key]]`, each called by its `name` where it has one.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'d>> {
        let Some(at) = self.value(key) else { return Vec::new() };
        let Some(list) = at.value.as_array() else {
            self.wrong_type(&at, "a list of tables", &format!("[[{key}]], with two brackets"));
            return Vec::new();
        };
        let tables = list.iter().enumerate().filter_map(|(i, value)| {
            let place = Place { key: format!("{key}[{}]", i + 1), offset: value.span().start };
            let Some(values) = value.get_ref().as_table() else {
                let at = At { value: value.get_ref(), place };
                self.wrong_type(&at, "a table", &format!("[[{key}]] for each"));
                return None;
            };
            let name =
                values.iter().find(|(it, _)| it.get_ref() == "name").and_then(|it| it.1.get_ref().as_str());
            let key = match name {
                Some(name) if super::names::is_name(name) => format!("{key}.{name}"),
                _ => place.key,
            };
            Some(Table::new(self.context, Place { key, offset: place.offset }, values))
        });
        tables.collect()
    }

    /// A list of texts; an empty one where the key is missing. What is wrong in it is left out.
    pub(super) fn names(&self, key: &'static str, example: &str) -> Vec<At<&'d str>> {
        self.value(key).map_or_else(Vec::new, |at| self.list_of(&at, example).0)
    }

    /// The texts of a list, each with its place, and whether there is nothing else in it.
    fn list_of(&self, at: &At<&'d DeValue<'d>>, example: &str) -> (Vec<At<&'d str>>, bool) {
        let Some(list) = at.value.as_array() else {
            self.wrong_type(at, "a list of texts", example);
            return (Vec::new(), false);
        };
        let texts = list.iter().filter_map(|value| {
            let place = Place { offset: value.span().start, ..at.place.clone() };
            if let Some(value) = value.get_ref().as_str() {
                return Some(At { value, place });
            }
            self.wrong_type(&At { value: value.get_ref(), place }, "a text", example);
            None
        });
        let texts: Vec<_> = texts.collect();
        let whole = texts.len() == list.len();
        (texts, whole)
    }

    /// Every key with its value, for tables whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (At<&'d str>, &'d DeValue<'d>)> {
        self.values.iter().map(|(name, value)| {
            let name: &'d str = name.get_ref();
            (At { value: name, place: self.place_of(name) }, value.get_ref())
        })
    }

    /// Every key with its value's table.
    pub(super) fn children(&self) -> Vec<(At<&'d str>, Table<'d>)> {
        let children = self.entries().filter_map(|(name, value)| {
            if let Some(values) = value.as_table() {
                let table = Table::new(self.context, name.place.clone(), values);
                return Some((name, table));
            }
            let place = name.place;
            let example = format!("[{}]", place.key);
            self.wrong_type(&At { value, place }, "a table", &example);
            None
        });
        children.collect()
    }

    /// Every key with its text.
    pub(super) fn texts(&self) -> Vec<(At<&'d str>, &'d str)> {
        let texts = self.entries().filter_map(|(name, value)| {
            if let Some(text) = value.as_str() {
                return Some((name, text));
            }
            let example = format!("{} = \"…\", with quotes", name.value);
            self.wrong_type(&At { value, place: name.place }, "a text", &example);
            None
        });
        texts.collect()
    }

    /// Ends the reading: whatever was not asked for is unknown.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (name, _) in self.entries().filter(|(name, _)| !asked.contains(&name.value)) {
            let hint = match nearest(name.value, asked.iter().copied()) {
                Some(word) => format!("did you mean {word}?"),
                None => format!("known here are: {}", asked.join(", ")),
            };
            self.problem(&name.place, "is not a key that linemint knows", hint);
        }
    }
}
