//! `linemint ca csr` and `ca import`: a station's CA under the company's root.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::{certificate_path, common_name, key_path, told};
use crate::durable_fs::{self, FileError};
use crate::error::ExitStatus;
use crate::pki::issuer::{CaError, StationIssuer};
use crate::pki::summary::{CaSummary, read_authority};
use crate::pki::{IssueError, authority};
use zeroize::Zeroizing;

/// Longest certificate file that is read, bytes: a chain has a few kilobytes.
const MAX_CERTIFICATES: u64 = 1 << 20;
/// Longest private key file, bytes.
const MAX_KEY: usize = 64 << 10;

/// Where the CA's key goes, and what the CA asks to be called.
#[derive(Debug, Args)]
pub struct CsrArgs {
    /// Directory for ca.key and ca.csr; made if missing, and no key in it is ever overwritten
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The subject common name that is asked for; the company's CA may give another
    #[arg(long, value_name = "CN", default_value = "linemint station CA", value_parser = common_name)]
    pub common_name: String,
}

/// What the company's CA has answered.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The directory of `ca csr`, with ca.key; ca.pem is written into it
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The CA's certificate, PEM, then those above it, each after the one that it has issued
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} exists; linemint never overwrites a CA's key or certificate", path.display())]
    Exists { path: PathBuf },
    #[error("failed to make the request")]
    Make(#[source] IssueError),
    #[error("failed to write the CA")]
    Write(#[source] FileError),
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is longer than {MAX_CERTIFICATES} bytes; it is hardly a chain of certificates", path.display())]
    TooLong { path: PathBuf },
    #[error("failed to read the CA's private key; `linemint ca csr --dir DIR` makes it")]
    Key(#[source] FileError),
    #[error("this certificate cannot be the station's CA")]
    Unfit(#[source] CaError),
}

impl Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Make(IssueError::Request(_)) => ExitStatus::Usage,
            Self::Make(_) => ExitStatus::Bug,
            Self::Unfit(_) => ExitStatus::Bad,
            Self::Write(it) | Self::Key(it) if it.io_kind() == Some(std::io::ErrorKind::PermissionDenied) => {
                ExitStatus::NotPermitted
            }
            _ => ExitStatus::Io,
        }
    }
}

/// Runs `ca csr`. The request goes to stdout as well, so that it can be piped to whoever signs it.
pub(super) fn csr(args: &CsrArgs) -> ExitStatus {
    match make(args) {
        Ok(csr_pem) => {
            let mut out = std::io::stdout().lock();
            let said = out.write_all(csr_pem.as_bytes()).and_then(|()| out.flush());
            let (request, dir) = (request_path(&args.dir), args.dir.display());
            let _ = writeln!(
                std::io::stderr(),
                "Have {} signed as a CA (CA:TRUE, path length 0 or none, keyCertSign), then:\n  \
                 linemint ca import --dir {dir} SIGNED.pem [CHAIN.pem…]",
                request.display()
            );
            if said.is_ok() { ExitStatus::Done } else { ExitStatus::Io }
        }
        Err(error) => told(&error, error.exit_status()),
    }
}

fn make(args: &CsrArgs) -> Result<String, Error> {
    let (key, request) = (key_path(&args.dir), request_path(&args.dir));
    for path in [&key, &certificate_path(&args.dir), &request] {
        // Links count as well, wherever they point.
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: path.clone() });
        }
    }
    let made = authority::request_authority(&args.common_name).map_err(Error::Make)?;
    durable_fs::create_dir(&args.dir, 0o700).map_err(Error::Write)?;
    // The key first: a request without its key would be signed for nothing.
    create(&key, 0o600, made.key_pem.as_bytes())?;
    create(&request, 0o644, made.csr_pem.as_bytes())?;
    Ok(made.csr_pem)
}

/// Runs `ca import`.
pub(super) fn import(args: &ImportArgs, now: Timestamp) -> ExitStatus {
    match take(args, now) {
        Ok(summary) => match say(args, &summary) {
            Ok(()) => ExitStatus::Done,
            Err(_) => ExitStatus::Io,
        },
        Err(error) => told(&error, error.exit_status()),
    }
}

fn take(args: &ImportArgs, now: Timestamp) -> Result<CaSummary, Error> {
    let path = certificate_path(&args.dir);
    if path.symlink_metadata().is_ok() {
        return Err(Error::Exists { path });
    }
    let mut pem = String::new();
    for file in &args.files {
        pem.push_str(&text(file)?);
        pem.push('\n');
    }
    // What is wrong with the certificate is said before the key is asked for.
    let summary = read_authority(&pem, now).map_err(Error::Unfit)?;
    let key = durable_fs::read_secret(&key_path(&args.dir), MAX_KEY).map_err(Error::Key)?;
    let key = Zeroizing::new(String::from_utf8_lossy(&key).into_owned());
    let issuer = StationIssuer::load(&pem, key, now).map_err(Error::Unfit)?;
    create(&path, 0o644, issuer.file_pem().as_bytes())?;
    Ok(summary)
}

fn text(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let bytes = durable_fs::read_regular(path, MAX_CERTIFICATES).map_err(|source| match source.kind() {
        std::io::ErrorKind::FileTooLarge => Error::TooLong { path: path.to_owned() },
        _ => read(source),
    })?;
    // What is not text has no PEM in it, which is said then.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn say(args: &ImportArgs, it: &CaSummary) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "certificate  {}", certificate_path(&args.dir).display())?;
    writeln!(out, "subject      {}", it.subject)?;
    writeln!(out, "issuer       {}", it.issuer)?;
    writeln!(out, "valid        {} to {}", it.not_before.strftime("%F"), it.not_after.strftime("%F"))?;
    writeln!(out, "sha-256      {}", it.fingerprint)?;
    out.flush()
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    durable_fs::create_new(path, mode, bytes).map_err(|error| match error {
        FileError::Exists { path } => Error::Exists { path },
        other => Error::Write(other),
    })
}

fn request_path(dir: &Path) -> PathBuf {
    dir.join("ca.csr")
}

#[cfg(test)]
mod tests;
