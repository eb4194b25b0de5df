//! Whether every name that a template can yield is one that AWS takes.
//!
//! A name that AWS refuses would show itself on the line, device by device, hours after the
//! configuration was written. So the serial pattern is analysed as a language: which
//! characters it can hold and how long it can be. The analysis errs on the safe side.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::errors;
use crate::device::rules::{Part, Place, Template};
use crate::device::serial::MAX_SERIAL_LEN;

/// Longest id of a station, product, fixture or batch, characters.
pub(super) const MAX_NAME_LEN: usize = 64;

/// Whether `text` is `[A-Za-z0-9_-]{1,64}`, what names of our own are made of.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&text.len()) && text.chars().all(is_name_char)
}

fn is_name_char(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '_' | '-')
}

/// What AWS demands of one kind of name (AWS API reference and General Reference, read 2026-11).
#[derive(Debug, Clone, Copy)]
pub(super) struct NameRule {
    /// "a thing name".
    pub(super) what: &'static str,
    /// Who demands it.
    pub(super) whose: &'static str,
    /// The characters in AWS's notation, for the hint.
    pub(super) characters: &'static str,
    pub(super) allowed: fn(char) -> bool,
    /// Lengths in characters.
    pub(super) min: usize,
    pub(super) max: usize,
}

pub(super) const THING: NameRule = NameRule {
    what: "a thing name",
    whose: "AWS",
    characters: "a-z A-Z 0-9 : _ -",
    allowed: |it| is_name_char(it) || it == ':',
    min: 1,
    max: 128,
};

pub(super) const POLICY: NameRule = NameRule {
    what: "a policy name",
    whose: "AWS",
    characters: "a-z A-Z 0-9 _ + = , . @ -",
    allowed: |it| is_name_char(it) || matches!(it, '+' | '=' | ',' | '.' | '@'),
    min: 1,
    max: 128,
};

pub(super) const LOCKER: NameRule = NameRule {
    what: "a locker name",
    whose: "AWS",
    characters: "A-Z a-z 0-9 - _ and blank",
    allowed: |it| is_name_char(it) || it == ' ',
    min: 1,
    max: 128,
};

/// `CreateManagedThing.CredentialLockerId`, `[a-zA-Z0-9]{1,64}`.
pub(super) const LOCKER_ID: NameRule = NameRule {
    what: "a locker id",
    whose: "AWS",
    characters: "a-z A-Z 0-9",
    allowed: |it| it.is_ascii_alphanumeric(),
    min: 1,
    max: 64,
};

/// What Wi-Fi Simple Setup demands (AWS's guide, "Configure provisionees for WiFi Simple Setup").
pub(super) const MANAGED_SERIAL: NameRule = NameRule {
    what: "a managed thing's serial number",
    whose: "AWS",
    characters: "a-z A-Z 0-9",
    allowed: |it| it.is_ascii_alphanumeric(),
    min: 12,
    max: 50,
};

/// X.520's ub-common-name.
pub(super) const COMMON_NAME: NameRule = NameRule {
    what: "a certificate's common name",
    whose: "AWS",
    characters: "anything that can be printed",
    allowed: |it| !it.is_control(),
    min: 1,
    max: 64,
};

/// What every printer of labels takes as it stands, and a bar code of bearable width holds.
pub(super) const LABEL: NameRule = NameRule {
    what: "a label",
    whose: "linemint",
    characters: "a-z A-Z 0-9 - _ . : / +",
    allowed: crate::label::takes,
    min: 1,
    max: crate::label::MAX_SERIAL,
};

/// The API demands only lengths of a locker's tags.
pub(super) const LOCKER_TAG_VALUE: NameRule = NameRule {
    what: "the value of a locker's tag",
    whose: "AWS",
    characters: "anything that can be printed",
    allowed: |it| !it.is_control(),
    min: 0,
    max: 256,
};

pub(super) const LOCKER_TAG_KEY: NameRule =
    NameRule { what: "the key of a locker's tag", min: 1, max: 128, ..LOCKER_TAG_VALUE };

pub(super) const POLICY_TAG_VALUE: NameRule = NameRule {
    what: "the value of a policy's tag",
    whose: "AWS",
    characters: "letters, digits, blanks and _ . : / = + - @",
    allowed: |it| {
        it.is_alphanumeric()
            || (it.is_whitespace() && !it.is_control())
            || matches!(it, '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@')
    },
    min: 0,
    max: 256,
};

pub(super) const POLICY_TAG_KEY: NameRule =
    NameRule { what: "the key of a policy's tag", min: 1, max: 128, ..POLICY_TAG_VALUE };

/// A set of texts, told by its characters and lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Language {
    /// A bit for each ASCII character that can occur.
    characters: u128,
    /// Lengths in characters.
    min: usize,
    max: usize,
}

impl Language {
    const EMPTY_TEXT: Self = Self { characters: 0, min: 0, max: 0 };

    /// 12 lower-case hex digits.
    fn mac() -> Self {
        Self { characters: bits("0123456789abcdef".chars()), min: 12, max: 12 }
    }

    /// An id of a batch, `[A-Za-z0-9_-]{1,64}`.
    fn batch() -> Self {
        let characters = (0_u8..128).map(char::from).filter(|it| is_name_char(*it));
        Self { characters: bits(characters), min: 1, max: MAX_NAME_LEN }
    }

    /// The serial numbers that match all of `pattern`: of what the pattern allows, only printable ASCII
    /// without blanks and 1 to 128 characters can be a serial number at all. None where no serial number
    /// matches, or where `pattern` is no regular expression.
    pub(super) fn of_serials(pattern: &str) -> Option<Self> {
        let language = of(&regex_syntax::parse(pattern).ok()?)?;
        let fits = language.min <= MAX_SERIAL_LEN && language.max >= 1;
        let (min, max) = (language.min.max(1), language.max.min(MAX_SERIAL_LEN));
        fits.then_some(Self { min, max, ..language })
    }

    fn characters(self) -> impl Iterator<Item = char> {
        (0_u8..128).filter(move |it| self.characters >> it & 1 == 1).map(char::from)
    }

    fn or(self, other: Self) -> Self {
        let characters = self.characters | other.characters;
        Self { characters, min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    fn then(self, other: Self) -> Self {
        Self {
            characters: self.characters | other.characters,
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }
}

fn bits(characters: impl Iterator<Item = char>) -> u128 {
    characters.filter(char::is_ascii).fold(0, |set, it| set | 1 << u32::from(it))
}

/// The part of a pattern's language that is printable ASCII without blanks; none where it is empty.
fn of(hir: &Hir) -> Option<Language> {
    match hir.kind() {
        // A look-around takes no character. It may forbid some texts: leaving them in is the safe side.
        HirKind::Empty | HirKind::Look(_) => Some(Language::EMPTY_TEXT),
        HirKind::Literal(literal) => {
            let printable = literal.0.iter().all(u8::is_ascii_graphic);
            let characters = bits(literal.0.iter().copied().map(char::from));
            printable.then_some(Language { characters, min: literal.0.len(), max: literal.0.len() })
        }
        HirKind::Class(class) => {
            let characters = bits(('!'..='~').filter(|it| holds(class, *it)));
            (characters != 0).then_some(Language { characters, min: 1, max: 1 })
        }
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) => {
            let (min, max) = (repetition.min as usize, repetition.max.map_or(usize::MAX, |it| it as usize));
            match of(&repetition.sub) {
                _ if max == 0 => Some(Language::EMPTY_TEXT),
                Some(one) => Some(Language {
                    characters: one.characters,
                    min: one.min.saturating_mul(min),
                    max: one.max.saturating_mul(max),
                }),
                None if min == 0 => Some(Language::EMPTY_TEXT),
                None => None,
            }
        }
        HirKind::Concat(all) => {
            all.iter().try_fold(Language::EMPTY_TEXT, |before, it| Some(before.then(of(it)?)))
        }
        HirKind::Alternation(all) => all.iter().filter_map(of).reduce(Language::or),
    }
}

fn holds(class: &Class, it: char) -> bool {
    match class {
        Class::Unicode(class) => class.iter().any(|range| (range.start()..=range.end()).contains(&it)),
        Class::Bytes(class) => class
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&u8::try_from(it).unwrap_or(0xff))),
    }
}

/// What fills the places of a product's templates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) serial: Language,
    /// Where the serial pattern stands.
    pub(super) serial_place: &'a errors::Place,
    pub(super) station: &'a str,
    pub(super) product: &'a str,
    /// Whether each device surely has a batch.
    pub(super) batch: bool,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadName {
    pub(super) message: String,
    pub(super) hint: String,
    /// Whether it is the serial pattern that is to be changed, not the template.
    pub(super) pattern: bool,
}

fn bad(message: impl Into<String>, hint: impl Into<String>) -> BadName {
    BadName { message: message.into(), hint: hint.into(), pattern: false }
}

impl Sources<'_> {
    /// Whether everything that `template` can yield obeys `rule`.
    pub(super) fn check(&self, template: &Template, rule: &NameRule) -> Result<(), BadName> {
        let (mut min, mut max) = (0_usize, 0_usize);
        for part in template.parts() {
            let (language, who) = match part {
                Part::Text(text) => (fixed(text, "the text", rule)?, ""),
                Part::Place(Place::Station) => (fixed(self.station, "the station's id", rule)?, ""),
                Part::Place(Place::Product) => (fixed(self.product, "the product's name", rule)?, ""),
                Part::Place(Place::Serial) => (self.serial, "a serial number"),
                Part::Place(Place::Mac) => (Language::mac(), "a MAC address"),
                Part::Place(Place::Batch) => (self.batch_language()?, "a batch id"),
            };
            // '/' is the character that people know to be trouble; it makes the better example.
            let illegal = |it: &char| !(rule.allowed)(*it);
            let example = language.characters().filter(illegal).max_by_key(|it| *it == '/');
            if let Some(example) = example {
                let message = format!(
                    "{who} may hold '{example}', which {} does not allow in {}",
                    rule.whose, rule.what
                );
                let pattern = matches!(part, Part::Place(Place::Serial));
                let advice = if pattern { "narrow the serial pattern" } else { "change the template" };
                let hint = format!("{} may hold {}; {advice}", rule.what, rule.characters);
                return Err(BadName { message, hint, pattern });
            }
            (min, max) = (min + language.min, max + language.max);
        }
        if max > rule.max {
            let message = format!("can become {max} characters long; {} has at most {}", rule.what, rule.max);
            return Err(bad(
                message,
                "bound the serial pattern, as in [A-Z0-9]{12,50}, or shorten the template",
            ));
        }
        if min == 0 && rule.min > 0 {
            return Err(bad(format!("can become empty; {} cannot", rule.what), "use \"{serial}\""));
        }
        if min < rule.min {
            let message =
                format!("can become {min} characters short; {} has at least {}", rule.what, rule.min);
            return Err(bad(message, "bound the serial pattern, as in [A-Z0-9]{12,50}"));
        }
        Ok(())
    }

    fn batch_language(&self) -> Result<Language, BadName> {
        if self.batch {
            return Ok(Language::batch());
        }
        Err(bad(
            "uses {batch}, but a device may come without one",
            "set require_batch = true, or leave {batch} out",
        ))
    }

    /// Whether two devices can never have the same name by `template`.
    pub(super) fn check_distinct(&self, template: &Template) -> Result<(), BadName> {
        if template.has(Place::Mac) && !template.has(Place::Serial) {
            return self.check_joint(template, Language::mac());
        }
        if !template.has(Place::Serial) {
            let message = "does not hold {serial} or {mac}: all devices would share one";
            return Err(bad(message, "put {serial} into it, or choose another scope"));
        }
        self.check_joint(template, self.serial)
    }

    /// "A" of batch "B1" and "AB" of batch "1" would both be `{serial}{batch}` = "AB1": where the two
    /// lengths vary, a text has to stand between that tells where one ends.
    fn check_joint(&self, template: &Template, id: Language) -> Result<(), BadName> {
        if !template.has(Place::Batch) || id.min == id.max {
            return Ok(());
        }
        let separates = |text: &str| {
            let (id, batch) = (id.characters, Language::batch().characters);
            text.chars().any(|it| bits([it].into_iter()) & id & batch == 0)
        };
        let mut last_varies = false;
        for part in template.parts() {
            match part {
                Part::Text(text) if separates(text) => last_varies = false,
                Part::Text(_) | Part::Place(Place::Station | Place::Product | Place::Mac) => {}
                Part::Place(_) if last_varies => {
                    let message = "could yield the same name for two devices of different batches";
                    let hint = "put a character between {serial} and {batch} that serial numbers or batch ids cannot hold";
                    return Err(bad(message, hint));
                }
                Part::Place(_) => last_varies = true,
            }
        }
        Ok(())
    }

    /// The one name of all devices, where `template` has a name for them all.
    pub(super) fn shared(&self, template: &Template) -> Result<String, BadName> {
        for (place, name) in [(Place::Serial, "serial"), (Place::Mac, "mac"), (Place::Batch, "batch")] {
            if template.has(place) {
                let message = format!("holds {{{name}}}, which differs from device to device");
                return Err(bad(message, "one policy for a product is named by {product} or {station} only"));
            }
        }
        let name = template.parts().iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Place(Place::Station) => self.station,
            Part::Place(_) => self.product,
        });
        Ok(name.collect())
    }
}

/// Whether a text that stands in every name obeys `rule`, its length aside.
fn fixed(text: &str, who: &str, rule: &NameRule) -> Result<Language, BadName> {
    if let Some(example) = text.chars().find(|it| !(rule.allowed)(*it)) {
        let message =
            format!("{who} holds {example:?}, which {} does not allow in {}", rule.whose, rule.what);
        return Err(bad(message, format!("{} may hold {}", rule.what, rule.characters)));
    }
    let length = text.chars().count();
    Ok(Language { characters: 0, min: length, max: length })
}

/// Whether `text` as it stands obeys `rule`.
pub(super) fn check_text(text: &str, rule: &NameRule) -> Result<(), BadName> {
    let language = fixed(text, "it", rule)?;
    if (rule.min..=rule.max).contains(&language.min) {
        return Ok(());
    }
    let message = format!("has {} characters; {} has {} to {}", language.min, rule.what, rule.min, rule.max);
    Err(bad(message, format!("{} may hold {}", rule.what, rule.characters)))
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
