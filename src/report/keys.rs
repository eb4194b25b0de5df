//! The report key on disk: made at its first use, closed to everybody else, and never the CA's.

use std::path::{Path, PathBuf};

use super::sign::{Signer, Untrue};
use crate::durable_fs::{FileError, create_new, read_secret};

/// The longest key file, bytes.
const MAX_KEY: usize = 4096;

/// Why there is no report key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum ReportKeyError {
    #[error("failed to read or make the report key {}", path.display())]
    File { path: PathBuf, source: FileError },
    #[error("the report key {} is not usable", path.display())]
    Key { path: PathBuf, source: Untrue },
}

/// The key in `dir/report.key`, made if there is none; its public half lies beside it as `report.pub`.
///
/// # Errors
/// It cannot be read, is exposed, is no key, or cannot be made.
pub fn load_or_create(dir: &Path) -> Result<Signer, ReportKeyError> {
    let path = dir.join("report.key");
    let file = |source| ReportKeyError::File { path: path.clone(), source };
    let key = |source| ReportKeyError::Key { path: path.clone(), source };
    let der = match read_secret(&path, MAX_KEY) {
        Ok(der) => der,
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
            let der = Signer::generate().map_err(key)?;
            create_new(&path, 0o600, &der).map_err(file)?;
            der
        }
        Err(error) => return Err(file(error)),
    };
    let signer = Signer::from_pkcs8(&der).map_err(key)?;
    // For whoever verifies reports; made again where somebody has taken it away.
    match create_new(&dir.join("report.pub"), 0o644, signer.public_pem().as_bytes()) {
        Ok(()) | Err(FileError::Exists { .. }) => Ok(signer),
        Err(error) => Err(file(error)),
    }
}
