//! Where a secret is kept. The secret itself is never part of the configuration.

use std::path::{Path, PathBuf};

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// In a file.
    Path(PathBuf),
    /// In the systemd credential of this name.
    Credential(String),
}

/// A secret is said to be a systemd credential, but systemd has passed none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "systemd has passed no credentials, but {name:?} is wanted: add LoadCredential={name}:PATH to the unit"
)]
pub struct NoCredential {
    /// The credential's name.
    pub name: String,
}

impl SecretRef {
    /// The file that holds the secret; `credentials_dir` is `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// It is a credential and there is no such directory.
    pub fn resolve(&self, credentials_dir: Option<&Path>) -> Result<PathBuf, NoCredential> {
        match self {
            Self::Path(path) => Ok(path.clone()),
            Self::Credential(name) => {
                let dir = credentials_dir.ok_or_else(|| NoCredential { name: name.clone() })?;
                Ok(dir.join(name))
            }
        }
    }
}

/// Whether `name` can be a systemd credential's: a plain file name (systemd.exec(5)), so that
/// it cannot lead out of the credentials directory.
pub(super) fn is_credential_name(name: &str) -> bool {
    let plain = |it: char| it.is_ascii_graphic() && !matches!(it, '/' | ':');
    (1..=255).contains(&name.len()) && name.chars().all(plain) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_in_systemds_directory_only() {
        let secret = SecretRef::Credential("ca.key".into());
        assert_eq!(secret.resolve(Some(Path::new("/run/c"))), Ok(PathBuf::from("/run/c/ca.key")));
        assert_eq!(secret.resolve(None), Err(NoCredential { name: "ca.key".into() }));
        assert_eq!(SecretRef::Path("/k".into()).resolve(None), Ok(PathBuf::from("/k")));
        for bad in ["", ".", "..", "a/b", "../seal.key", "a b", "a:b"] {
            assert!(!is_credential_name(bad), "{bad}");
        }
    }
}
