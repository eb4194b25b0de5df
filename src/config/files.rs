//! The files that a configuration names, behind a trait so that a test needs none.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Reads the files that a configuration names.
pub trait Files {
    /// The content of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// It cannot be read, or is larger.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Whether there is such a file, without reading it: it may hold a secret.
    ///
    /// # Errors
    /// It cannot be told, for want of permission for example.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// The system's files.
#[derive(Debug, Clone, Copy)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        if !std::fs::metadata(path)?.is_file() {
            // Opening a FIFO would hold the daemon's start for ever.
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::open(path)?;
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        Ok(content)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }
}

/// Why a file does not serve as a set of certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPem {
    #[error("is not text")]
    NotText,
    #[error("holds a certificate that is not valid PEM")]
    Broken,
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds a private key")]
    PrivateKey,
}

/// Takes a PEM file with one certificate or more and nothing that is secret.
pub(super) fn certificates(content: Vec<u8>) -> Result<String, BadPem> {
    let text = String::from_utf8(content).map_err(|_| BadPem::NotText)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(BadPem::PrivateKey);
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        certificate.map_err(|_| BadPem::Broken)?;
        count += 1;
    }
    if count == 0 { Err(BadPem::NoCertificate) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_file_of_certificates_holds_certificates_and_no_key() {
        assert_eq!(
            certificates(format!("# root\n{PEM}{PEM}").into_bytes()).as_deref().map(str::len),
            Ok(125)
        );
        assert_eq!(certificates(Vec::new()), Err(BadPem::NoCertificate));
        assert_eq!(certificates(vec![0xff]), Err(BadPem::NotText));
        let cut = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(cut.into()), Err(BadPem::Broken));
        let key = format!("{PEM}-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n");
        assert_eq!(certificates(key.into()), Err(BadPem::PrivateKey));
    }

    #[test]
    fn only_a_regular_file_up_to_the_limit_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::io::Write::write_all(&mut File::create(&path).unwrap(), b"12345").unwrap();
        assert_eq!(SystemFiles.read(&path, 5).unwrap(), b"12345");
        assert_eq!(SystemFiles.read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(SystemFiles.read(dir.path(), 4).is_err());
        assert!(SystemFiles.exists(&path).unwrap());
        assert!(!SystemFiles.exists(&dir.path().join("b")).unwrap());
    }
}
