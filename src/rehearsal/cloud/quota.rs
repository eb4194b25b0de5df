//! Quotas from the command line: a preset, or a file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::limits::{Kind, Throttling};
use crate::cloud::{DEVICE_CERTIFICATES, Operation, Quotas};
use crate::config::units::duration;

/// Longest quota file, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Most steps of a hidden limit.
const MAX_STEPS: usize = 2_000;

/// Longest time that a file may name: beyond it nobody waits.
const LONGEST: Duration = Duration::from_secs(10_000_000);

/// What a simulated account allows, and what of it the station is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Account {
    /// The quotas, which the station is configured for.
    pub quotas: Quotas,
    /// How they are held, and a limit that the station is not told.
    pub throttling: Throttling,
}

/// Why there are no quotas.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum QuotaError {
    #[error("failed to read the quotas in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the quotas in {} are longer than 64 KiB", path.display())]
    TooLong { path: PathBuf },
    #[error("failed to understand the quotas in {}, line {line}", path.display())]
    Wrong { path: PathBuf, line: usize, source: Wrong },
}

/// What is wrong with a line of a quota file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum Wrong {
    #[error("it is not TOML: {0}")]
    Syntax(String),
    #[error("{0} is neither an operation as in create-policy nor preset, kind, burst, account or steps")]
    Key(String),
    #[error("{0} has to be a number of calls a second above 0")]
    Rate(String),
    #[error("{0} has to be a time as in \"20s\", \"300ms\" or \"2m\"")]
    Time(String),
    #[error("{key} has to be one of {choices}")]
    Choice { key: &'static str, choices: &'static str },
    #[error(
        "steps has to be a list as in [{{ at = \"20s\", account = 15 }}], each later than the one before, at most 2,000"
    )]
    Steps,
}

/// Takes `aws-default`, `unlimited` or the path of a file as [`parse_quotas`] reads it.
///
/// # Errors
/// The file cannot be read, or says something else than quotas.
pub fn read_quotas(preset_or_path: &str) -> Result<Account, QuotaError> {
    if let Some(quotas) = preset(preset_or_path) {
        return Ok(Account { quotas, throttling: Throttling::default() });
    }
    let path = Path::new(preset_or_path);
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|source| QuotaError::Read { path: path.to_owned(), source })?;
    if text.len() as u64 > MAX_FILE {
        return Err(QuotaError::TooLong { path: path.to_owned() });
    }
    parse_quotas(&text, path)
}

/// Reads TOML: `create-policy = 10`, calls a second, for every operation's kebab-case key and
/// `device-certificates`, and `preset` for what is not named (default `aws-default`); `kind`
/// (`bucket`, `window` or `fixed-window`) and `burst` (a time) for how the account holds them; and
/// `account` and `steps` for a limit over all calls that the station is not told. `path` is for errors.
///
/// # Errors
/// Not TOML, an unknown key, a rate that is not above zero, steps that are out of order.
pub fn parse_quotas(text: &str, path: &Path) -> Result<Account, QuotaError> {
    parse(text).map_err(|(at, source)| {
        let line = 1 + text.bytes().take(at).filter(|it| *it == b'\n').count();
        QuotaError::Wrong { path: path.to_owned(), line, source }
    })
}

/// An error, and the byte where it is.
type Found<T> = Result<T, (usize, Wrong)>;

fn parse(text: &str) -> Found<Account> {
    let table = DeTable::parse(text).map_err(|error| {
        (error.span().unwrap_or_default().start, Wrong::Syntax(error.message().to_owned()))
    })?;
    let table = table.get_ref();
    let mut account = Account { quotas: Quotas::aws_default(), throttling: Throttling::default() };
    if let Some(value) = table.get("preset") {
        let found = value.get_ref().as_str().and_then(preset);
        let choices = "\"aws-default\" and \"unlimited\"";
        account.quotas = found.ok_or((value.span().start, Wrong::Choice { key: "preset", choices }))?;
    }
    for (key, value) in table {
        let throttling = &mut account.throttling;
        match key.get_ref().as_ref() {
            "preset" => {}
            "kind" => throttling.kind = kind(value)?,
            "burst" => throttling.burst = time("burst", value)?,
            "account" => throttling.account = Some(rate("account", value)?),
            "steps" => throttling.steps = steps(value)?,
            DEVICE_CERTIFICATES => {
                account.quotas.device_certificates = Some(rate(DEVICE_CERTIFICATES, value)?);
            }
            other => {
                let unknown = |_| (key.span().start, Wrong::Key(other.to_owned()));
                let operation: Operation = other.parse().map_err(unknown)?;
                account.quotas.rates.insert(operation, rate(other, value)?);
            }
        }
    }
    Ok(account)
}

fn preset(name: &str) -> Option<Quotas> {
    match name {
        "aws-default" => Some(Quotas::aws_default()),
        "unlimited" => Some(Quotas::unlimited()),
        _ => None,
    }
}

fn kind(value: &Spanned<DeValue<'_>>) -> Found<Kind> {
    match value.get_ref().as_str() {
        Some("bucket") => Ok(Kind::Bucket),
        Some("window") => Ok(Kind::Window),
        Some("fixed-window") => Ok(Kind::FixedWindow),
        _ => {
            let choices = "\"bucket\", \"window\" and \"fixed-window\"";
            Err((value.span().start, Wrong::Choice { key: "kind", choices }))
        }
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(it) => i64::from_str_radix(it.as_str(), it.radix()).ok().map(|it| it as f64),
        DeValue::Float(it) => it.as_str().parse().ok(),
        _ => None,
    }
}

fn rate(key: &str, value: &Spanned<DeValue<'_>>) -> Found<f64> {
    let rate = number(value.get_ref()).filter(|it| it.is_finite() && *it > 0.0);
    rate.ok_or_else(|| (value.span().start, Wrong::Rate(key.to_owned())))
}

fn time(key: &str, value: &Spanned<DeValue<'_>>) -> Found<Duration> {
    let time = value.get_ref().as_str().and_then(|it| duration(it).ok()).filter(|it| *it <= LONGEST);
    time.ok_or_else(|| (value.span().start, Wrong::Time(key.to_owned())))
}

/// `[{ at = "20s", account = 15 }, …]`; `account = "unlimited"` lifts the limit.
fn steps(value: &Spanned<DeValue<'_>>) -> Found<Vec<(Duration, Option<f64>)>> {
    let at = value.span().start;
    let list = value.get_ref().as_array().filter(|it| it.len() <= MAX_STEPS).ok_or((at, Wrong::Steps))?;
    let mut steps: Vec<(Duration, Option<f64>)> = Vec::with_capacity(list.len());
    for entry in list.iter() {
        let at = entry.span().start;
        let table = entry.get_ref().as_table().filter(|it| it.len() == 2).ok_or((at, Wrong::Steps))?;
        let (Some(after), Some(account)) = (table.get("at"), table.get("account")) else {
            return Err((at, Wrong::Steps));
        };
        let after = time("at", after)?;
        if steps.last().is_some_and(|it| it.0 >= after) {
            return Err((at, Wrong::Steps));
        }
        let lifted = account.get_ref().as_str() == Some("unlimited");
        steps.push((after, if lifted { None } else { Some(rate("account", account)?) }));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Account, (usize, Wrong)> {
        match parse_quotas(text, Path::new("q.toml")) {
            Ok(account) => Ok(account),
            Err(QuotaError::Wrong { line, source, .. }) => Err((line, source)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_changes_what_it_names_and_leaves_the_rest() {
        let Account { quotas, throttling } =
            parsed("create-policy = 2\ndevice-certificates = 0.5\n").unwrap();
        assert_eq!(quotas.rates[&Operation::CreatePolicy], 2.0);
        assert_eq!(quotas.rates[&Operation::GetPolicy], 10.0);
        assert_eq!(quotas.device_certificates, Some(0.5));
        assert_eq!(throttling, Throttling::default());
        let quotas = parsed("create-thing = 5\npreset = \"unlimited\"").unwrap().quotas;
        assert_eq!(quotas.rates.len(), 1);
    }

    #[test]
    fn a_file_says_what_the_station_is_not_told() {
        let text = "kind = \"window\"\nburst = \"300ms\"\naccount = 50\n\
                    steps = [\n  { at = \"20s\", account = 15 },\n  { at = \"1.5m\", account = \"unlimited\" },\n]\n";
        let throttling = Throttling {
            kind: Kind::Window,
            burst: Duration::from_millis(300),
            account: Some(50.0),
            steps: vec![(Duration::from_secs(20), Some(15.0)), (Duration::from_secs(90), None)],
        };
        assert_eq!(parsed(text).unwrap(), Account { quotas: Quotas::aws_default(), throttling });
    }

    #[test]
    fn what_is_no_quota_is_refused_with_its_line() {
        for bad in ["0", "-1", "nan", "inf", "\"1\"", "[1]"] {
            let found = parsed(&format!("# quotas\ncreate-policy = {bad}"));
            assert_eq!(found, Err((2, Wrong::Rate("create-policy".into()))), "{bad}");
        }
        assert_eq!(parsed("\n\nmake-policy = 1"), Err((3, Wrong::Key("make-policy".into()))));
        assert!(matches!(parsed("preset = \"aws\""), Err((1, Wrong::Choice { key: "preset", .. }))));
        assert!(matches!(parsed("kind = \"leaky\""), Err((1, Wrong::Choice { key: "kind", .. }))));
        for bad in ["5", "\"5\"", "\"s\"", "\"-1s\"", "\"1e9h\"", "\"1x\""] {
            assert_eq!(parsed(&format!("burst = {bad}")), Err((1, Wrong::Time("burst".into()))), "{bad}");
        }
        for bad in ["5", "[5]", "[{ at = \"1s\" }]", "[{ at = \"1s\", account = 1, rate = 2 }]"] {
            assert_eq!(parsed(&format!("steps = {bad}")), Err((1, Wrong::Steps)), "{bad}");
        }
        let twice = "steps = [\n{ at = \"2s\", account = 1 },\n{ at = \"2s\", account = 2 },\n]";
        assert_eq!(parsed(twice), Err((3, Wrong::Steps)));
        assert!(matches!(parsed("account = 1\ncreate-policy"), Err((2, Wrong::Syntax(_)))));
        assert!(matches!(read_quotas("no/such/file"), Err(QuotaError::Read { .. })));
        assert_eq!(parsed("create-policy = 0x10").unwrap().quotas.rates[&Operation::CreatePolicy], 16.0);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quota.toml");
        let long = format!("create-policy = 10{}", "\n".repeat(64 * 1024));
        crate::durable_fs::create_new(&path, 0o600, long.as_bytes()).unwrap();
        assert!(matches!(read_quotas(path.to_str().unwrap()), Err(QuotaError::TooLong { .. })));
    }
}
