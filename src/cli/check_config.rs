//! `linemint check-config`: says whether the configuration is right, and what is not.

mod parts;

use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::{Config, DEFAULT_PATH, iam_policy};
use crate::error::ExitStatus;

/// Checks the configuration file, and the CA that it names: every error with file, line, key and a hint.
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
pub fn run(args: &CheckConfig, now: Timestamp) -> ExitStatus {
    write_to(args, now, &mut io::stdout().lock(), &mut io::stderr().lock()).unwrap_or(ExitStatus::Io)
}

fn write_to(
    args: &CheckConfig,
    now: Timestamp,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitStatus> {
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
        let looked = parts::look(&config, now);
        for it in looked.wrong.iter().chain(&looked.notes) {
            writeln!(err, "{it}")?;
        }
        if !looked.wrong.is_empty() {
            return Ok(ExitStatus::Configuration);
        }
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
    use crate::clock::made_at;
    use crate::durable_fs::create_new;
    use crate::pki::authority::make_root;
    use crate::pki::issuer::StationIssuer;
    use crate::pki::{Issuer as _, LeafKey, LeafRequest, to_pem};

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
        let ca = make_root("Line 3", made_at()).unwrap();
        let other = make_root("Other", made_at()).unwrap();
        let issuer = StationIssuer::load(&ca.certificate_pem, ca.key_pem.clone(), made_at()).unwrap();
        let request = LeafRequest { common_name: "leaf".to_owned(), days: 1, key: LeafKey::Station };
        let leaf = to_pem("CERTIFICATE", &issuer.issue(&request, made_at()).unwrap().der);
        for (name, mode, content) in [
            ("ca.pem", 0o644, ca.certificate_pem.as_str()),
            ("leaf.pem", 0o644, leaf.as_str()),
            ("ca.key", 0o600, ca.key_pem.as_str()),
            ("open.key", 0o644, ca.key_pem.as_str()),
            ("other.key", 0o600, other.key_pem.as_str()),
            ("cert.key", 0o600, ca.certificate_pem.as_str()),
        ] {
            create_new(&dir.path().join(name), mode, content.as_bytes()).unwrap();
        }
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe.key"), fifo, mode, 0).unwrap();
        let text = include_str!("../../config/minimal.toml").replace("/etc/linemint/ca/", "");
        let config = dir.path().join("config.toml");
        put(&config, &text.replace(from, to));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = write_to(&CheckConfig { config, iam }, made_at(), &mut out, &mut err).unwrap();
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
    fn a_ca_that_the_start_refuses_is_refused_here_with_its_line() {
        for (from, to, place, told) in [
            ("ca.key", "open.key", "config.toml:15: pki.ca_key: ", "its mode 0644 lets others read it"),
            ("ca.key", "other.key", "config.toml:15: pki.ca_key: ", "are of different pairs"),
            ("ca.key", "pipe.key", "config.toml:15: pki.ca_key: ", "it is not a regular file"),
            ("ca.key", "cert.key", "config.toml:15: pki.ca_key: ", "must hold one private key; it holds 0"),
            (
                "\"ca.pem\"",
                "\"leaf.pem\"",
                "config.toml:14: pki.ca_certificate: ",
                "is not a CA's certificate",
            ),
        ] {
            let (status, out, err) = check(from, to, false);
            assert_eq!((status, out.as_str()), (ExitStatus::Configuration, ""), "{to}: {err}");
            assert!(
                err.starts_with(place) && err.contains(told) && err.contains("\n  hint: "),
                "{to}: {err}"
            );
            assert_eq!(err.lines().count(), 2, "{err}");
            assert_eq!(check(from, to, true).0, ExitStatus::Done, "the policy does not depend on it");
        }
    }

    #[test]
    fn what_could_not_be_looked_at_and_what_cannot_work_is_said_and_is_no_error() {
        let (status, out, err) = check("\"ca.key\"", "\"credential:ca.key\"", false);
        assert_eq!((status, out.lines().count()), (ExitStatus::Done, 1), "{err}");
        assert!(err.starts_with("config.toml:15: pki.ca_key: not looked at: only the service"), "{err}");
        let (status, _, err) = check("region = \"eu-west-1\"", "region = \"eu-central-1\"", false);
        assert_eq!(status, ExitStatus::Done, "{err}");
        let told = "config.toml:11: aws.region: warning: eu-central-1 offers no managed integrations, and a product wants lockers\n";
        assert!(err.starts_with(told), "{err}");
        let stood_in = "region = \"eu-central-1\"\nmanaged_integrations_endpoint = \"http://127.0.0.1:1\"";
        assert_eq!(check("region = \"eu-west-1\"", stood_in, false).2, "");
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
