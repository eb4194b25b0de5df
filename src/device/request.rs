//! Certificates that AWS issues from a certificate signing request. AWS makes another one at each
//! call, so it is kept what was asked for, when, and of which calls nobody knows whether they were
//! carried out.
//!
//! ```text
//!  csr-made ── certificate-asked ──┬─ an answer ──────────────────> issued
//!                 ^   (the intent) └─ none: certificate-in-doubt ─┬─ found ─> issued
//!                 └──────────── looked for and not found ─────────┘
//! ```
//! A doubt outlives the certificate: a call whose answer was lost may still be under way. It is looked
//! for once more before the device gets its credentials, and a last time when AWS takes no request
//! of that age any more ([`SETTLED_AFTER`]). What turns up then is a spare: deleted.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Certificate, Device, KeyState, State, Superseded};
use crate::cloud::CertificateStatus;
use crate::pki::Fingerprint;
use crate::pki::leaf::Leaf;
use crate::sabotage::sabotaged;

/// After this nothing can come any more of a call whose answer was lost. AWS takes a signed request
/// for five minutes (IAM User Guide, "Signing AWS API requests"); the rest is for clocks that differ.
pub const SETTLED_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// How far AWS's clock and the station's may differ: what was made this long before it was asked for
/// is looked at as well.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(15);

/// A certificate signing request, and how far its certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// SHA-256 of its public key: what its certificate is known by. A private key of the station's
    /// is sealed under this name.
    pub public_key: Fingerprint,
    /// The PKCS #10 request, DER.
    #[serde(with = "crate::pki::base64_der")]
    pub csr: Vec<u8>,
    /// Where the private key is.
    pub key: KeyState,
    /// How often a certificate was asked for, not counting calls that certainly did nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asked: u32,
    /// When it was asked for, if nobody knows yet what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_since: Option<Timestamp>,
    /// When it was recorded, if its key is the station's; not known of those recorded by earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(it: &u32) -> bool {
    *it == 0
}

/// Calls whose outcome nobody knows: certificates of this key may be in AWS, or may still get there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// SHA-256 of the public key.
    pub public_key: Fingerprint,
    /// When the first of those calls was intended.
    pub since: Timestamp,
    /// When the last of them was given up.
    pub until: Timestamp,
    /// Nothing more was found after the certificate was there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swept: bool,
}

impl Doubt {
    /// When nothing can come of it any more.
    #[must_use]
    pub fn settles_at(&self) -> Timestamp {
        self.until.checked_add(SETTLED_AFTER).unwrap_or(Timestamp::MAX)
    }
}

/// The certificate that AWS has issued, as the device keeps it.
#[must_use]
pub fn certificate(leaf: Leaf, arn: String, key: KeyState) -> Certificate {
    Certificate {
        fingerprint: leaf.fingerprint,
        der: leaf.der,
        serial_number: leaf.serial_number,
        not_after: leaf.not_after,
        key,
        arn: Some(arn),
        public_key: Some(leaf.public_key),
        issuer: None,
    }
}

/// Whether a certificate in a list may be one that was asked for and never recorded: those are
/// inactive, and stay so.
#[must_use]
pub fn may_be_unrecorded(status: CertificateStatus) -> bool {
    status == CertificateStatus::Inactive
}

impl Device {
    /// Whether nobody knows of a call for the present request whether it was carried out.
    #[must_use]
    pub fn request_is_in_doubt(&self) -> bool {
        let key = self.request.as_ref().map(|it| it.public_key);
        self.doubts.iter().any(|it| Some(it.public_key) == key)
    }

    /// Whether a certificate was asked for and it is not recorded what came of it.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        self.request.as_ref().is_some_and(|it| it.open_since.is_some())
    }

    /// Whether certificates that were made beside the device's own are to be looked for, now or later.
    #[must_use]
    pub fn needs_sweep(&self) -> bool {
        match self.state {
            _ if self.is_scrapping() => !self.doubts.is_empty() || self.awaits_answer(),
            _ if self.certificate.is_none() => false,
            state if state.is_unfinished() => self.doubts.iter().any(|it| !it.swept),
            State::Passed | State::Failed => !self.doubts.is_empty() && !sabotaged!(LastLookSkipped),
            _ => false,
        }
    }

    /// When that is to be done: at once while the device waits for its credentials, else when nothing can
    /// come any more.
    #[must_use]
    pub fn sweep_due_at(&self) -> Timestamp {
        let settled = self.doubts.iter().map(Doubt::settles_at).min();
        if self.state.is_unfinished() { Timestamp::MIN } else { settled.unwrap_or(Timestamp::MIN) }
    }

    /// Whether `fingerprint` is a certificate that the device has or had.
    #[must_use]
    pub fn knows_certificate(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint() == Some(*fingerprint)
            || self.superseded.iter().any(|it| it.fingerprint == *fingerprint)
    }

    pub(super) fn csr_made(&mut self, at: Timestamp, request: &CertificateRequest) {
        self.request = Some(CertificateRequest { made_at: Some(at), ..request.clone() });
        self.state = State::Provisioning;
    }

    pub(super) fn issued(&mut self, at: Timestamp, certificate: &Certificate) {
        self.certificates_issued += 1;
        self.issued_at = Some(at);
        self.request = None;
        self.certificate = Some(certificate.clone());
        self.state = State::Provisioning;
    }

    pub(super) fn certificate_asked(&mut self, at: Timestamp) {
        if let Some(request) = &mut self.request {
            request.asked += 1;
            request.open_since = Some(at);
        }
    }

    pub(super) fn certificate_in_doubt(&mut self, at: Timestamp) {
        let Some(request) = &mut self.request else { return };
        let since = request.open_since.take().unwrap_or(at);
        let public_key = request.public_key;
        match self.doubts.iter_mut().find(|it| it.public_key == public_key) {
            Some(doubt) => {
                doubt.until = doubt.until.max(at);
                doubt.swept = false;
            }
            None => self.doubts.push(Doubt { public_key, since, until: at, swept: false }),
        }
    }

    /// The device is given up: whether a call that nobody waits for any more has made a certificate is found
    /// out before it is gone.
    pub(super) fn doubt_what_was_asked(&mut self, at: Timestamp) {
        if self.awaits_answer() {
            self.certificate_in_doubt(at);
        }
    }

    /// Nothing is asked for any more with the request, and its key is of no use.
    pub(super) fn give_up_request(&mut self) {
        let request = self.request.take().filter(|it| it.key == KeyState::Sealed);
        self.useless_keys.extend(request.map(|it| it.public_key));
    }

    /// What was asked for has certainly not been made, or its answer has come.
    pub(super) fn nothing_came_of_it(&mut self) {
        if let Some(request) = &mut self.request {
            request.open_since = None;
        }
    }

    /// A certificate of a doubted key that is not the device's: it is deleted. If the device is given up and
    /// its call was out, it is the answer to that.
    pub(super) fn spare_found(&mut self, fingerprint: Fingerprint, public_key: Fingerprint) {
        if self.is_scrapping() && self.request.as_ref().is_some_and(|it| it.public_key == public_key) {
            self.nothing_came_of_it();
        }
        self.certificates_issued += 1;
        self.superseded.push(Superseded {
            fingerprint,
            arn: None,
            // The key is the request's, and is destroyed with that.
            key: KeyState::Destroyed,
            policy: None,
            thing: None,
            retired: None,
            expired: false,
            public_key: Some(public_key),
            spare: true,
        });
    }

    /// Nothing was found of any doubt.
    pub(super) fn swept(&mut self, at: Timestamp) {
        self.doubts.iter_mut().for_each(|it| it.swept = true);
        self.doubts.retain(|it| at < it.settles_at());
    }
}
