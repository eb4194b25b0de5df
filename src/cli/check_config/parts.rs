//! What only the start looks at: whether the station's CA can issue, and whether AWS offers what the products want where the
//! station calls it.

use jiff::Timestamp;

use crate::clock::made_at;
use crate::config::{CaKeyRef, Config, ConfigError, Pki, mistake};
use crate::doctor::{no_managed_integrations, previous_unused};
use crate::durable_fs::FileError;
use crate::error::Chain;
use crate::pki::issuer::CaError;
use crate::station::names;
use crate::station::setup::{SetupError, load_ca, read_certificate};

const CERTIFICATE: &[&str] = &["pki", "ca_certificate"];
const KEY: &[&str] = &["pki", "ca_key"];
const PREVIOUS: &[&str] = &["pki", "previous", "ca_certificate"];
const REGION: &[&str] = &["aws", "region"];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// With this the station does not start.
    pub(super) wrong: Vec<ConfigError>,
    /// With this it starts: what cannot work all the same, and what could not be looked at.
    pub(super) notes: Vec<ConfigError>,
}

/// Looks at what `config` names as the start would at `now`. A token is not opened.
pub(super) fn look(config: &Config, now: Timestamp) -> Looked {
    let mut looked = Looked::default();
    if let Some(pki) = &config.pki {
        ca(config, pki, now, &mut looked);
    }
    if config.aws.managed_integrations_endpoint.is_none()
        && let Some((detail, remedy)) = no_managed_integrations(config)
    {
        looked.notes.push(mistake(&config.path, REGION, format!("warning: {detail}"), &remedy));
    }
    looked
}

fn ca(config: &Config, pki: &Pki, now: Timestamp, looked: &mut Looked) {
    let at = |keys: &[&str], message: String, hint: &str| mistake(&config.path, keys, message, hint);
    if let Some(path) = &pki.previous
        && let Err(error) = read_certificate(path, now)
    {
        let (detail, remedy) = previous_unused(&error, now);
        looked.notes.push(at(PREVIOUS, format!("warning: {detail}"), remedy));
    }
    // First the certificate, which may be read where the key may not.
    if let Err(error) = read_certificate(&pki.ca_certificate, now) {
        if matches!(error, SetupError::Ca(CaError::NotValid { .. })) && now < made_at() {
            let message = format!("not looked at, since the clock cannot be right: {}", said(&error));
            return looked.notes.push(at(CERTIFICATE, message, "set the clock"));
        }
        let hint = "name the certificate of a CA that is valid now; `linemint ca init --dir DIR` makes one for trials";
        return looked.wrong.push(at(CERTIFICATE, said(&error), hint));
    }
    if let CaKeyRef::Token { .. } = pki.ca_key {
        let message = "not looked at: a key in a token is not tried here".to_owned();
        return looked.notes.push(at(KEY, message, "`linemint doctor` tries it"));
    }
    match load_ca(pki, now) {
        Ok(ca) => {
            let hint = "change certificate.common_name, or have the CA issued for these names";
            let told = names::refused(config, &ca, now).into_iter();
            looked.notes.extend(told.map(|it| at(CERTIFICATE, format!("warning: {it}"), hint)));
        }
        // Systemd hands it to the service alone.
        Err(SetupError::Credential(_)) => {
            let message = "not looked at: only the service itself is given a credential".to_owned();
            looked.notes.push(at(KEY, message, "what the service says of it at its start is in its log"));
        }
        Err(SetupError::CaKeyFile(error)) if is_denied(&error) => {
            let message = format!("not looked at: {}", Chain(&error));
            looked.notes.push(at(KEY, message, "run this as the daemon's user, or as root"));
        }
        Err(error) => {
            let hint =
                "put the private key of pki.ca_certificate there, mode 0600, owned by the daemon's user";
            looked.wrong.push(at(KEY, said(&error), hint));
        }
    }
}

fn is_denied(error: &FileError) -> bool {
    error.io_kind() == Some(std::io::ErrorKind::PermissionDenied)
}

/// The cause: file and key say the rest.
fn said(error: &SetupError) -> String {
    match error {
        SetupError::Ca(source) => Chain(source).to_string(),
        SetupError::CaKeyFile(source) => Chain(source).to_string(),
        error => Chain(error).to_string(),
    }
}
