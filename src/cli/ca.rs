//! `linemint ca`: the station's certificate authority.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::durable_fs::{self, FileError};
use crate::error::{Chain, ExitStatus};
use crate::pki::authority::{self, NewRoot};
use crate::pki::{IssueError, issuer};

mod account;
mod under;

pub use self::account::{RegisterArgs, ShowArgs};
pub use self::under::{CsrArgs, ImportArgs};

/// What can be done with a CA.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make a station CA for trials: a P-256 key and a certificate for 25 years
    Init(InitArgs),
    /// Make the key of a CA and the request that the company's CA is to sign
    Csr(CsrArgs),
    /// Take the certificate that the company's CA has signed, with those above it
    Import(ImportArgs),
    /// Register the configuration's CA with AWS IoT, and make it active
    Register(RegisterArgs),
    /// The configuration's CA: subject, key, life left, whether AWS knows it
    Show(ShowArgs),
}

/// Where the CA goes, and what it is called.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Directory for ca.pem and ca.key; made if missing, and no key in it is ever overwritten
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The CA's subject common name
    #[arg(long, value_name = "CN", default_value = "linemint station CA", value_parser = common_name)]
    pub common_name: String,
}

fn common_name(text: &str) -> Result<String, String> {
    issuer::check_common_name(text).map(|()| text.to_owned())
}

/// Why no CA was made.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{} exists; linemint never overwrites a CA key", path.display())]
    Exists { path: PathBuf },
    #[error(
        "{} exists without {}: an earlier `linemint ca init` was cut off before it made the certificate, \
         and nothing was issued with this key; remove it and try again",
        key.display(), certificate.display()
    )]
    Unfinished { key: PathBuf, certificate: PathBuf },
    #[error("failed to make the CA")]
    Make(#[source] IssueError),
    #[error("failed to write the CA")]
    Write(#[source] FileError),
}

impl InitError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Make(IssueError::Request(_)) => ExitStatus::Usage,
            Self::Make(_) => ExitStatus::Bug,
            Self::Write(error) if error.io_kind() == Some(std::io::ErrorKind::PermissionDenied) => {
                ExitStatus::NotPermitted
            }
            _ => ExitStatus::Io,
        }
    }
}

/// Runs the command. What was made goes to stdout, but for the key; errors to stderr.
pub async fn run(command: CaCommand, now: Timestamp) -> ExitStatus {
    match command {
        CaCommand::Init(args) => run_init(&args, now),
        CaCommand::Csr(args) => under::csr(&args),
        CaCommand::Import(args) => under::import(&args, now),
        CaCommand::Register(args) => account::register(&args, now).await,
        CaCommand::Show(args) => account::show(&args, now).await,
    }
}

fn run_init(args: &InitArgs, now: Timestamp) -> ExitStatus {
    match init(args, now) {
        Ok(root) => match say(args, &root, now) {
            Ok(()) => ExitStatus::Done,
            Err(_) => ExitStatus::Io,
        },
        Err(error) => told(&error, error.exit_status()),
    }
}

/// Says on stderr what went wrong.
fn told(error: &dyn std::error::Error, status: ExitStatus) -> ExitStatus {
    let _ = writeln!(std::io::stderr(), "error: {}", Chain(error));
    status
}

fn say(args: &InitArgs, root: &NewRoot, now: Timestamp) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "certificate  {}", certificate_path(&args.dir).display())?;
    writeln!(
        out,
        "key          {} (mode 0600; it never leaves this station)",
        key_path(&args.dir).display()
    )?;
    writeln!(out, "subject      CN={}", args.common_name)?;
    writeln!(out, "valid        {} to {}", now.strftime("%F"), root.not_after.strftime("%F"))?;
    writeln!(out, "sha-256      {}", root.fingerprint)?;
    out.flush()
}

/// The key first: a certificate whose key was lost could be registered and never used, a
/// key without certificate is seen and told at the next try.
fn init(args: &InitArgs, now: Timestamp) -> Result<NewRoot, InitError> {
    let (certificate, key) = (certificate_path(&args.dir), key_path(&args.dir));
    // Links count as well, wherever they point.
    let [has_certificate, has_key] = [&certificate, &key].map(|it| it.symlink_metadata().is_ok());
    match (has_certificate, has_key) {
        (false, true) => return Err(InitError::Unfinished { key, certificate }),
        (true, _) => return Err(InitError::Exists { path: if has_key { key } else { certificate } }),
        (false, false) => {}
    }
    let root = authority::make_root(&args.common_name, now).map_err(InitError::Make)?;
    durable_fs::create_dir(&args.dir, 0o700).map_err(InitError::Write)?;
    create(&key, 0o600, root.key_pem.as_bytes())?;
    create(&certificate, 0o644, root.certificate_pem.as_bytes())?;
    Ok(root)
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), InitError> {
    durable_fs::create_new(path, mode, bytes).map_err(|error| match error {
        // Two at once: the second finds what the first has made.
        FileError::Exists { path } => InitError::Exists { path },
        other => InitError::Write(other),
    })
}

fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join("ca.key")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use clap::Parser;

    use super::*;
    use crate::pki::issuer::StationIssuer;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: CaCommand,
    }

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn args(dir: &Path) -> InitArgs {
        InitArgs { dir: dir.to_owned(), common_name: "Line 3".to_owned() }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_ca_is_one_the_station_can_issue_with() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("pki/ca");
        init(&args(&dir), now()).unwrap();
        assert_eq!((mode(&dir), mode(&key_path(&dir)), mode(&certificate_path(&dir))), (0o700, 0o600, 0o644));
        assert_eq!(dir.read_dir().unwrap().count(), 2);
        let [certificate, key] =
            [certificate_path(&dir), key_path(&dir)].map(|it| std::fs::read_to_string(it).unwrap());
        let issuer = StationIssuer::load(&certificate, key.into(), now()).unwrap();
        assert_eq!(issuer.subject(), "CN=Line 3");
        assert_eq!(issuer.end().at, "2051-11-21T10:00:00Z".parse().unwrap());
    }

    #[test]
    fn an_existing_key_or_certificate_is_never_overwritten() {
        for taken in ["ca.key", "ca.pem", "both"] {
            let temp = tempfile::tempdir().unwrap();
            for name in ["ca.key", "ca.pem"].into_iter().filter(|it| taken == "both" || taken == *it) {
                durable_fs::create_new(&temp.path().join(name), 0o600, b"precious").unwrap();
            }
            let before = temp.path().read_dir().unwrap().count();
            let error = init(&args(temp.path()), now()).err().unwrap();
            assert!(matches!(error.exit_status(), ExitStatus::Io));
            let text = error.to_string();
            assert_eq!(text.contains("was cut off"), taken == "ca.key", "{text}");
            assert_eq!(text.contains("linemint never overwrites a CA key"), taken != "ca.key", "{text}");
            assert_eq!(temp.path().read_dir().unwrap().count(), before);
            for file in temp.path().read_dir().unwrap() {
                assert_eq!(std::fs::read(file.unwrap().path()).unwrap(), b"precious");
            }
        }
    }

    #[test]
    fn a_dangling_link_for_a_key_is_not_written_through() {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", temp.path().join("ca.key")).unwrap();
        assert!(init(&args(temp.path()), now()).is_err());
        assert_eq!(temp.path().read_dir().unwrap().count(), 1);
    }

    #[tokio::test]
    async fn the_exit_status_says_what_was_wrong() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        durable_fs::create_new(&file, 0o600, b"").unwrap();
        let command = |dir: &Path, common_name: &str| {
            CaCommand::Init(InitArgs { dir: dir.to_owned(), common_name: common_name.to_owned() })
        };
        assert_eq!(run(command(&file, "x"), now()).await, ExitStatus::Io);
        assert_eq!(run(command(&temp.path().join("a"), ""), now()).await, ExitStatus::Usage);
        assert_eq!(run(command(&temp.path().join("a"), "x"), now()).await, ExitStatus::Done);
        assert_eq!(run(command(&temp.path().join("a"), "x"), now()).await, ExitStatus::Io);
    }

    #[test]
    fn the_command_line_needs_a_directory_and_has_a_name_to_offer() {
        let CaCommand::Init(args) = Cli::try_parse_from(["ca", "init", "--dir", "d"]).unwrap().command else {
            panic!("init");
        };
        assert_eq!(args.common_name, "linemint station CA");
        assert!(Cli::try_parse_from(["ca", "init"]).is_err());
        assert!(Cli::try_parse_from(["ca", "init", "--dir", "d", "--common-name", ""]).is_err());
    }
}
