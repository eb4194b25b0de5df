//! The station's CA: can it issue, and for how long.

use jiff::{SignedDuration, Timestamp};

use super::{CA, CA_LIFE, Finding};
use crate::clock::made_at;
use crate::config::Config;
use crate::device::rules::Register;
use crate::durable_fs::FileError;
use crate::error::Chain;
use crate::pki::issuer::CaError;
use crate::pki::summary::{CaEnd, expiry_warning};
use crate::station::names;
use crate::station::setup::{SetupError, load_ca, read_certificate};

/// What to do about names that the CA does not allow.
const OTHER_NAMES: &str = "change certificate.common_name, or have the CA issued for these names";

/// Both checks.
pub(super) fn look(config: &Config, now: Timestamp) -> Vec<Finding> {
    let Some(pki) = &config.pki else {
        let no = "the station has no CA: AWS issues the certificates";
        return vec![CA.skipped(no), CA_LIFE.skipped(no)];
    };
    match load_ca(pki, now) {
        Ok(issuer) => {
            let subject = &issuer.subject;
            let refused = names::refused(config, &issuer, now);
            let issues = match refused.is_empty() {
                true => CA.ok(format!("{subject} can issue: key and certificate belong together")),
                false => CA.warning(refused.join("; "), OTHER_NAMES),
            };
            let life = life(&issuer.end, longest(config), now);
            let unread = pki.previous.as_ref().and_then(|it| read_certificate(it, now).err());
            match unread {
                Some(error) => {
                    let (detail, remedy) = previous_unused(&error, now);
                    vec![issues, life, CA_LIFE.warning(detail, remedy).about("previous")]
                }
                None => vec![issues, life],
            }
        }
        Err(error) => vec![unusable(&error), CA_LIFE.skipped("the CA cannot be used")],
    }
}

/// Why the CA before this one is of no use at `now`, and what to do about it.
pub(crate) fn previous_unused(error: &SetupError, now: Timestamp) -> (String, &'static str) {
    let early = matches!(error, SetupError::Ca(CaError::NotValid { .. })) && now < made_at();
    let (since, remedy) = match error {
        _ if early => ("since the clock cannot be right", "set the clock"),
        SetupError::CaCertificate { .. } => {
            ("any more", "put the old CA's certificate back, readable by the daemon's user")
        }
        _ => ("any more", "remove [pki.previous]; what it has issued for devices in flight is issued anew"),
    };
    (format!("the CA of [pki.previous] is of no use {since}: {}", Chain(error)), remedy)
}

fn unusable(error: &SetupError) -> Finding {
    let detail = Chain(error).to_string();
    let denied = |it: &FileError| it.io_kind() == Some(std::io::ErrorKind::PermissionDenied);
    let remedy = match error {
        // Systemd hands it to the service alone.
        SetupError::Credential(_) => {
            return CA.skipped(format!("{detail}; only the service itself is given it"));
        }
        SetupError::CaKeyFile(it) if denied(it) => "run the doctor as the daemon's user, or as root",
        SetupError::CaKeyFile(_) => {
            "put the CA's key where pki.ca_key says, mode 0600, owned by the daemon's user"
        }
        SetupError::CaCertificate { .. } => "put the CA's certificate where pki.ca_certificate says",
        SetupError::Token(_) => "plug the token in, or correct pki.ca_key and pki.pkcs11_module",
        _ => {
            "put a CA's certificate and its key in place; `linemint ca init --dir DIR` makes both for trials"
        }
    };
    CA.failed(detail, remedy)
}

/// The longest life of a certificate that the station issues, days.
fn longest(config: &Config) -> u32 {
    let rules = config.products.values().map(|it| &it.rules.certificate);
    rules.filter(|it| it.register != Register::Aws).map(|it| it.days).max().unwrap_or(0)
}

fn life(end: &CaEnd, days: u32, now: Timestamp) -> Finding {
    let left = end.at.duration_since(now);
    let whose = end.above.as_ref().map_or_else(|| "it".to_owned(), |_| end.whose());
    let detail = format!("{whose} ends on {}, in {} days", end.at.strftime("%F"), left.as_hours() / 24);
    if expiry_warning(end, now).is_some() {
        let remedy = "have it renewed now: what is issued ends with it";
        return CA_LIFE.warning(detail, remedy);
    }
    if left < SignedDuration::from_hours(i64::from(days) * 24) {
        let remedy = "renew the CA, or lower certificate.days: certificates are cut to the CA's end";
        return CA_LIFE.warning(format!("{detail}, before a certificate of {days} days would"), remedy);
    }
    CA_LIFE.ok(detail)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{CaKeyRef, Pki, SecretRef};
    use crate::doctor::Verdict;
    use crate::doctor::tests::config;

    const NOW: &str = "2026-11-22T06:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn at(dir: &Path, pki: Option<Pki>) -> Vec<Finding> {
        let mut config = config(dir);
        config.pki = pki;
        look(&config, now())
    }

    #[test]
    fn the_ca_is_tried_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = crate::pki::authority::make_root("Line 3", now()).unwrap();
        let other = crate::pki::authority::make_root("Other", now()).unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, mode, text) in [
            ("ca.pem", 0o644, root.certificate_pem.as_str()),
            ("ca.key", 0o600, root.key_pem.as_str()),
            ("other.key", 0o600, other.key_pem.as_str()),
            ("open.key", 0o644, root.key_pem.as_str()),
        ] {
            crate::durable_fs::create_new(&path(name), mode, text.as_bytes()).unwrap();
        }
        let pki = |certificate: &str, key: SecretRef| {
            Some(Pki { ca_certificate: path(certificate), ca_key: CaKeyRef::Secret(key), previous: None })
        };
        let file = |name: &str| SecretRef::Path(path(name));
        let verdicts = |pki| at(dir.path(), pki).iter().map(|it| it.status).collect::<Vec<_>>();
        assert_eq!(verdicts(pki("ca.pem", file("ca.key"))), [Verdict::Ok, Verdict::Ok]);
        for (certificate, key) in
            [("ca.pem", "other.key"), ("ca.pem", "open.key"), ("ca.pem", "none"), ("none", "ca.key")]
        {
            let findings = at(dir.path(), pki(certificate, file(key)));
            assert_eq!(
                (findings[0].status, findings[1].status),
                (Verdict::Failed, Verdict::Skipped),
                "{key}"
            );
            assert!(findings[0].remedy.is_some());
            assert!(!format!("{findings:?}").contains("PRIVATE"), "{findings:?}");
        }
        let credential = SecretRef::Credential("ca.key".to_owned());
        assert_eq!(verdicts(pki("ca.pem", credential)), [Verdict::Skipped, Verdict::Skipped]);
        let previous = |name: &str| {
            let pki = pki("ca.pem", file("ca.key")).unwrap();
            verdicts(Some(Pki { previous: Some(path(name)), ..pki }))
        };
        assert_eq!(previous("ca.pem"), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(previous("ca.key"), [Verdict::Ok, Verdict::Ok, Verdict::Warning]);
        let remedy = |name: &str| {
            let pki = Pki { previous: Some(path(name)), ..pki("ca.pem", file("ca.key")).unwrap() };
            at(dir.path(), Some(pki)).pop().unwrap().remedy.unwrap()
        };
        assert!(remedy("ca.key").starts_with("remove [pki.previous]"));
        assert!(remedy("none").starts_with("put the old CA's certificate back"));
        let early = made_at() - SignedDuration::from_hours(48);
        let ahead = read_certificate(&path("ca.pem"), early).unwrap_err();
        assert_eq!(previous_unused(&ahead, early).1, "set the clock");
        let late = made_at() + SignedDuration::from_hours(24 * 365_000);
        let over = read_certificate(&path("ca.pem"), late).unwrap_err();
        assert!(previous_unused(&over, late).1.starts_with("remove [pki.previous]"));
        assert_eq!(verdicts(None), [Verdict::Skipped, Verdict::Skipped]);
    }

    #[test]
    fn a_ca_that_ends_soon_is_told() {
        let end = |days: i64| CaEnd { at: now() + SignedDuration::from_hours(24 * days), above: None };
        assert_eq!(life(&end(364), 10, now()).status, Verdict::Warning);
        assert_eq!(life(&end(3_000), 3_650, now()).status, Verdict::Warning);
        let finding = life(&end(4_000), 3_650, now());
        assert_eq!(
            (finding.status, finding.detail.as_str()),
            (Verdict::Ok, "it ends on 2037-11-04, in 4000 days")
        );
        let above = CaEnd { above: Some("CN=Policy".to_owned()), ..end(364) };
        assert!(life(&above, 10, now()).detail.starts_with("CN=Policy, above the CA, ends on "));
    }
}
