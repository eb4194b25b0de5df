//! A CA whose certificates are cheap: each another one, as the real one's are, and each says whose it is.
//! What a real certificate holds is the tests' of `pki`.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::x509;
use crate::clock::{Now, TimeSource};
use crate::pki::request::MadeRequest;
use crate::pki::{Fingerprint, IssueError, IssuedLeaf, Issuer, LeafKey, LeafRequest};

/// What each private key begins with: it has no business in the journal.
pub(super) const SECRET: &[u8] = b"SECRET-KEY--";

/// The CA.
#[derive(Debug, Default)]
pub(super) struct SimIssuer {
    /// Certificates so far.
    pub(super) issued: AtomicU64,
}

impl SimIssuer {
    /// A key pair and a request of the station's own, for AWS.
    pub(super) fn request(&self) -> Result<MadeRequest, IssueError> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let public_key = x509::public_key(number);
        Ok(MadeRequest {
            csr: x509::request(&public_key),
            public_key: Fingerprint::of(&public_key),
            private_key: Zeroizing::new([SECRET, number.to_string().as_bytes()].concat()),
        })
    }
}

impl Issuer for SimIssuer {
    fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<IssuedLeaf, IssueError> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let der = format!("leaf {number} of {}", request.common_name).into_bytes();
        let key = [SECRET, number.to_string().as_bytes()].concat();
        Ok(IssuedLeaf {
            fingerprint: Fingerprint::of(&der),
            der,
            serial_number: format!("{number:x}"),
            not_before: now,
            not_after: Timestamp::from_second(2_100_000_000).unwrap(),
            shortened: false,
            private_key: (request.key == LeafKey::Station).then(|| Zeroizing::new(key)),
        })
    }

    fn ca(&self) -> Fingerprint {
        Fingerprint::of(self.ca_pem().as_bytes())
    }

    fn ca_pem(&self) -> &str {
        "the CA\n"
    }

    fn chain_pem(&self) -> &str {
        ""
    }
}

/// A clock that shows one instant.
pub(super) struct Stopped(pub(super) Now);

impl TimeSource for Stopped {
    fn now(&self) -> Now {
        self.0
    }
}
