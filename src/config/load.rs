//! From the file's text to a valid [`Config`].

use std::path::Path;

use toml::de::DeTable;

use super::errors::{Place, Problems};
use super::table::{Context, Table};
use super::{Config, ConfigError, ConfigErrors, Files, Pki, Product, SystemFiles};
use super::{aws, fixtures, product, shifts, station};
use crate::device::rules::Register;
use crate::pki::Fingerprint;

/// Largest configuration file, bytes.
const MAX_FILE: u64 = 1 << 20;

impl Config {
    /// Reads and checks the configuration at `path`, and every file that it names.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let unreadable = |message: String, hint: &str| {
            let hint = Some(hint.to_owned());
            ConfigErrors(vec![ConfigError {
                file: path.to_owned(),
                line: None,
                key: String::new(),
                message,
                hint,
            }])
        };
        let content = SystemFiles.read(path, MAX_FILE).map_err(|error| {
            unreadable(format!("failed to read it: {error}"), "name the file with --config")
        })?;
        let text = String::from_utf8(content)
            .map_err(|_| unreadable("is not text in UTF-8".to_owned(), "save the file as UTF-8"))?;
        Self::parse(&text, path, &SystemFiles)
    }

    /// Checks `text` as the configuration at `path`; what it names is read through `files`.
    ///
    /// # Errors
    /// All that is wrong with it: with broken TOML that alone, else every key.
    pub fn parse(text: &str, path: &Path, files: &dyn Files) -> Result<Self, ConfigErrors> {
        let problems = Problems::new(path, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        problems.add_syntax(errors);
        if !problems.is_empty() {
            return Err(problems.into_errors());
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let context = Context { problems: &problems, base, files };
        let root = Table::new(context, Place { key: String::new(), offset: 0 }, document.get_ref());
        let config = read(root, path, text);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_errors()),
        }
    }
}

/// What a look at a thing that the valid configuration at `path` names has found: with the line of its key, as
/// far as the file still has it.
pub(crate) fn mistake(path: &Path, keys: &[&str], message: String, hint: &str) -> ConfigError {
    let line = std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, keys));
    ConfigError { file: path.to_owned(), line, key: keys.join("."), message, hint: Some(hint.to_owned()) }
}

/// The line on which the last of `keys` that is there stands.
fn line_of(text: &str, keys: &[&str]) -> Option<usize> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut table = document.get_ref();
    let mut at = None;
    for key in keys {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else { break };
        at = Some(name.span().start);
        let Some(below) = value.get_ref().as_table() else { break };
        table = below;
    }
    at.map(|at| 1 + text.bytes().take(at).filter(|it| *it == b'\n').count())
}

fn read(root: Table<'_>, path: &Path, text: &str) -> Option<Config> {
    let station = root.need_table("station", "[station] with id").and_then(station::station);
    let journal = root.need_table("journal", "[journal] with dir").and_then(station::journal);
    let api = match root.table("api") {
        None if root.has("api") => None,
        table => station::api(table),
    };
    let aws = root.need_table("aws", "[aws] with region").and_then(aws::aws);
    // A wrong station id is told once; the names with it in them are checked with another.
    let id = station.as_ref().map_or("x", |it| it.id.as_str());
    let (products, named) = product::products(&root, id);
    // Where no product is right nobody knows who issues: most often it is the station.
    let by_aws = |it: &Product| it.rules.certificate.register == Register::Aws;
    let pki = pki(&root, products.is_empty() || !products.values().all(by_aws));
    let fixtures = fixtures::fixtures(&root, &named, &products);
    let shifts = shifts::shifts(&root);
    root.finish();
    let hash = hash(text, products.values().map(|it| it.rules.id()));
    let path = path.to_owned();
    Some(Config {
        path,
        station: station?,
        journal: journal?,
        api: api?,
        aws: aws?,
        pki: pki?,
        fixtures,
        products,
        shifts,
        hash,
    })
}

/// The CA, which has to be there where the station issues; none if it is not and need not be.
fn pki(root: &Table<'_>, needed: bool) -> Option<Option<Pki>> {
    let example = "[pki] with ca_certificate and ca_key; `linemint ca init --dir DIR` makes both for trials";
    let table = if needed { root.need_table("pki", example) } else { root.table("pki") };
    match table {
        Some(table) => station::pki(table).map(Some),
        None if needed || root.has("pki") => None,
        None => Some(None),
    }
}

/// The hash of what the file says, whatever its layout, and of the products' rules: they hold the
/// content of the documents that the file only names.
fn hash(text: &str, rules: impl Iterator<Item = Fingerprint>) -> Fingerprint {
    // TOML tables are sorted by key.
    let content = text.parse::<toml::Table>().map(|it| it.to_string()).unwrap_or_default();
    let rules = rules.map(|it| it.to_string());
    Fingerprint::of(std::iter::once(content).chain(rules).collect::<Vec<_>>().join("\n").as_bytes())
}
