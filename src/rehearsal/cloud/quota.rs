//! Quotas from the command line: a preset, or a file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::cloud::{DEVICE_CERTIFICATES, Operation, Quotas, UnknownOperation};

/// Longest quota file, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Why there are no quotas.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum QuotaError {
    #[error("failed to read the quotas in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to parse the quotas")]
    Syntax { source: Box<toml::de::Error> },
    #[error("preset has to be \"aws-default\" or \"unlimited\"")]
    Preset,
    #[error("{key} has to be a number above 0")]
    Rate { key: String },
    #[error("failed to take the quotas' key for an operation")]
    Operation { source: UnknownOperation },
}

/// Takes `aws-default`, `unlimited` or the path of a file as [`parse_quotas`] reads it.
///
/// # Errors
/// The file cannot be read, or says something else than quotas.
pub fn read_quotas(preset_or_path: &str) -> Result<Quotas, QuotaError> {
    if let Some(quotas) = preset(preset_or_path) {
        return Ok(quotas);
    }
    let path = Path::new(preset_or_path);
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|source| QuotaError::Read { path: path.to_owned(), source })?;
    parse_quotas(&text)
}

/// Reads TOML lines `create-policy = 10`, calls a second: every operation's kebab-case key,
/// `device-certificates`, and `preset` for what is not named (default `aws-default`).
///
/// # Errors
/// Not TOML, an unknown key, or a rate that is not above zero.
pub fn parse_quotas(text: &str) -> Result<Quotas, QuotaError> {
    let mut table: toml::Table =
        text.parse().map_err(|error| QuotaError::Syntax { source: Box::new(error) })?;
    let mut quotas = match table.remove("preset") {
        None => Quotas::aws_default(),
        Some(it) => it.as_str().and_then(preset).ok_or(QuotaError::Preset)?,
    };
    for (key, value) in table {
        let rate = rate(&value).ok_or_else(|| QuotaError::Rate { key: key.clone() })?;
        if key == DEVICE_CERTIFICATES {
            quotas.device_certificates = Some(rate);
        } else {
            let operation: Operation = key.parse().map_err(|source| QuotaError::Operation { source })?;
            quotas.rates.insert(operation, rate);
        }
    }
    Ok(quotas)
}

fn preset(name: &str) -> Option<Quotas> {
    match name {
        "aws-default" => Some(Quotas::aws_default()),
        "unlimited" => Some(Quotas::unlimited()),
        _ => None,
    }
}

fn rate(value: &toml::Value) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "no quota comes near 2^53")]
    let rate = value.as_float().or_else(|| value.as_integer().map(|it| it as f64))?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_leaves_the_rest() {
        let quotas = parse_quotas("create-policy = 2\ndevice-certificates = 0.5\n").unwrap();
        assert_eq!(quotas.rates[&Operation::CreatePolicy], 2.0);
        assert_eq!(quotas.rates[&Operation::GetPolicy], 10.0);
        assert_eq!(quotas.device_certificates, Some(0.5));
        let quotas = parse_quotas("preset = \"unlimited\"\ncreate-thing = 5").unwrap();
        assert_eq!(quotas.rates.len(), 1);
    }

    #[test]
    fn what_is_no_quota_is_refused() {
        for bad in ["create-policy = 0", "create-policy = -1", "create-policy = nan", "create-policy = \"1\""]
        {
            assert!(matches!(parse_quotas(bad), Err(QuotaError::Rate { .. })), "{bad}");
        }
        assert!(matches!(parse_quotas("make-policy = 1"), Err(QuotaError::Operation { .. })));
        assert!(matches!(parse_quotas("preset = \"aws\""), Err(QuotaError::Preset)));
        assert!(matches!(parse_quotas("create-policy"), Err(QuotaError::Syntax { .. })));
        assert!(matches!(read_quotas("no/such/file"), Err(QuotaError::Read { .. })));
    }
}
