//! `linemint check-config`: says whether the configuration is right, and what is not.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::{Config, DEFAULT_PATH, iam_policy};
use crate::error::ExitStatus;

/// Checks the configuration file: every error with file, line, key and a hint.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckConfig {
    /// The configuration file.
    #[arg(long, value_name = "F", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Prints the IAM policy that this configuration needs, and no more.
    #[arg(long)]
    pub iam: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: &CheckConfig) -> ExitStatus {
    write_to(args, &mut io::stdout().lock(), &mut io::stderr().lock()).unwrap_or(ExitStatus::Io)
}

fn write_to(args: &CheckConfig, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitStatus> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(err, "{errors}")?;
            return Ok(ExitStatus::Configuration);
        }
    };
    if args.iam {
        writeln!(out, "{:#}", iam_policy(&config))?;
    } else {
        let fixtures = count(config.fixtures.len(), "fixture");
        let products = count(config.products.len(), "product");
        writeln!(out, "{}: ok, {fixtures}, {products}", args.config.display())?;
    }
    out.flush()?;
    Ok(ExitStatus::Done)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    fn put(path: &Path, content: &str) {
        File::create(path).unwrap().write_all(content.as_bytes()).unwrap();
    }

    /// The minimal configuration with `from` replaced, in a directory of its own.
    fn check(from: &str, to: &str, iam: bool) -> (ExitStatus, String, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        put(
            &dir.path().join("policies/thermostat.json"),
            include_str!("../../config/policies/thermostat.json"),
        );
        put(&dir.path().join("ca.pem"), PEM);
        let text = include_str!("../../config/minimal.toml").replace("/etc/linemint/ca/", "");
        put(&dir.path().join("ca.key"), "key");
        let config = dir.path().join("config.toml");
        put(&config, &text.replace(from, to));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = write_to(&CheckConfig { config, iam }, &mut out, &mut err).unwrap();
        let plain = |it| String::from_utf8(it).unwrap().replace(&format!("{}/", dir.path().display()), "");
        (status, plain(out), plain(err))
    }

    #[test]
    fn a_good_file_is_answered_in_one_line() {
        let expected =
            (ExitStatus::Done, "config.toml: ok, 1 fixture, 1 product\n".to_owned(), String::new());
        assert_eq!(check("", "", false), expected);
    }

    #[test]
    fn the_iam_policy_comes_alone() {
        let (status, out, err) = check("", "", true);
        assert_eq!((status, err), (ExitStatus::Done, String::new()));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["Version"], "2012-10-17");
    }

    #[test]
    fn a_bad_file_is_answered_on_stderr_with_status_78() {
        let (status, out, err) = check("region = \"eu-west-1\"", "regoin = \"eu-west-1\"", false);
        assert_eq!((status, out), (ExitStatus::Configuration, String::new()));
        assert_eq!(
            err,
            "config.toml:10: aws.region: is missing in aws\n  hint: add region = \"eu-west-1\"\n\
             config.toml:11: aws.regoin: is not a key that linemint knows\n  hint: did you mean region?\n"
        );
    }

    #[test]
    fn the_arguments_are_the_contracts() {
        use clap::{Args as _, FromArgMatches as _};
        let command = CheckConfig::augment_args(clap::Command::new("check-config"));
        let parse = |args: &[&str]| {
            let all = ["check-config"].iter().chain(args);
            command.clone().try_get_matches_from(all).and_then(|it| CheckConfig::from_arg_matches(&it))
        };
        assert_eq!(parse(&[]).unwrap().config, Path::new("/etc/linemint/linemint.toml"));
        assert!(parse(&["--config", "a.toml", "--iam"]).unwrap().iam);
        assert!(parse(&["a.toml"]).is_err());
    }
}
