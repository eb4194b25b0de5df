//! `[station]`, `[journal]`, `[api]` and `[pki]`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::errors::nearest;
use super::files;
use super::messages::messages;
use super::secret::is_credential_name;
use super::table::{At, Table};
use super::{Api, CaKeyRef, Journal, Pki, SecretRef, Station, names};
use crate::fixture::text::Messages;
use crate::pki::token::TokenUri;

const DAY: Duration = Duration::from_secs(86_400);

/// A socket's path has to fit `sockaddr_un` with its final NUL (unix(7)), bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Largest set of certificates that is read, bytes. A plant's trust store stays far below.
pub(super) const MAX_PEM: u64 = 1 << 20;

/// Unfinished devices that are taken in unless the configuration says otherwise: a shift of a fast line.
const BACKLOG: u32 = 10_000;

/// More than a station makes in days; each costs some 5 KiB of memory.
const MAX_BACKLOG: u32 = 100_000;

pub(super) fn station(table: Table<'_>) -> Option<Station> {
    let id = table.need_text("id", "L3-S07").and_then(|at| name(&table, &at));
    let at = table.text("timezone");
    let wanted = at.as_ref().map_or("UTC", |at| at.value);
    let timezone = if wanted == "UTC" { Ok(TimeZone::UTC) } else { TimeZone::get(wanted) };
    if let (Err(_), Some(at)) = (&timezone, &at) {
        let known: Vec<_> = jiff::tz::db().available().map(|it| it.as_str().to_owned()).collect();
        let hint = match nearest(wanted, known.iter().map(String::as_str)) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => {
                "write an IANA name, as in \"Europe/Vienna\"; the system's tzdata has to know it".to_owned()
            }
        };
        table.problem(&at.place, format!("{wanted:?} is not a time zone of this system"), hint);
    }
    let messages = match table.path("messages") {
        Some(at) => messages(&table, &at),
        None => Some(Messages::default()),
    };
    let backlog = table.whole("backlog", BACKLOG, 1..=MAX_BACKLOG);
    let days_off = super::shifts::days_off(&table);
    let takt = super::reports::takt(&table);
    let reports = super::reports::reports(&table);
    table.finish();
    let timezone = timezone.ok()?;
    let timezone_name = timezone.iana_name().unwrap_or(wanted).to_owned();
    let messages = Arc::new(messages?);
    Some(Station {
        id: id?,
        timezone,
        timezone_name,
        days_off: days_off?,
        backlog: backlog as usize,
        messages,
        takt,
        reports: reports?,
    })
}

/// A name of our own: of a station, product or fixture.
pub(super) fn name(table: &Table<'_>, at: &At<&str>) -> Option<String> {
    if names::is_name(at.value) {
        return Some(at.value.to_owned());
    }
    let message = format!("{:?} is not 1 to 64 of the characters A-Z a-z 0-9 _ -", at.value);
    table.problem(&at.place, message, "use letters, digits, _ and - only");
    None
}

pub(super) fn journal(table: Table<'_>) -> Option<Journal> {
    let dir = table.need_path("dir", "/var/lib/linemint/journal");
    let min_free = table.size("min_free", 256 << 20);
    let seal_key = table.text("seal_key").map(|at| secret(&table, &at));
    let keep_undelivered = table.duration("keep_undelivered", 7 * DAY, Duration::from_secs(1)..=366 * DAY);
    let dir = dir.and_then(|at| match at.value.parent() {
        Some(_) => Some(at.value),
        None => {
            table.problem(&at.place, "cannot be the root directory", "use /var/lib/linemint/journal");
            None
        }
    });
    table.finish();
    let dir = dir?;
    let seal_key = match seal_key {
        Some(secret) => secret?,
        None => SecretRef::Path(dir.parent().unwrap_or(Path::new("")).join("seal.key")),
    };
    Some(Journal { dir, min_free, seal_key, keep_undelivered })
}

/// `credential:NAME` or a path.
fn secret(table: &Table<'_>, at: &At<&str>) -> Option<SecretRef> {
    let hint = "use \"credential:NAME\" or the path of a file";
    if at.value.starts_with("pkcs11:") {
        table.problem(&at.place, "cannot be in a token", hint);
        return None;
    }
    let Some(name) = at.value.strip_prefix("credential:") else {
        return table.resolve(at).map(|at| SecretRef::Path(at.value));
    };
    if is_credential_name(name) {
        return Some(SecretRef::Credential(name.to_owned()));
    }
    table.problem(&at.place, format!("{name:?} is not the name of a credential"), hint);
    None
}

/// `[api]`; what it is when the table is not there is what it is when the table is empty.
pub(super) fn api(table: Option<Table<'_>>) -> Option<Api> {
    let default = PathBuf::from(super::DEFAULT_SOCKET);
    let Some(table) = table else {
        return Some(Api { socket: default, board: None, board_names: Vec::new() });
    };
    let socket = table.path("socket");
    let (board, board_names) = (board(&table), board_names(&table));
    let socket = match socket {
        Some(at) if at.value.as_os_str().len() > MAX_SOCKET_PATH => {
            let message = format!("is longer than {MAX_SOCKET_PATH} bytes, the limit of a socket's path");
            table.problem(&at.place, message, "use /run/linemint/linemint.sock");
            None
        }
        Some(at) => Some(at.value),
        None => Some(default),
    };
    table.finish();
    Some(Api { socket: socket?, board, board_names })
}

/// Names under which a browser may ask for the board.
fn board_names(table: &Table<'_>) -> Vec<String> {
    let label = |it: &str| {
        !it.is_empty()
            && it.len() <= 63
            && it.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    let mut names = Vec::new();
    for at in table.names("board_names", "board_names = [\"l3-s07.plant.example\"]") {
        if at.value.len() <= 253 && at.value.split('.').all(label) {
            names.push(at.value.to_ascii_lowercase());
        } else {
            let message = format!("{:?} is not the name of a host", at.value);
            table.problem(
                &at.place,
                message,
                "write it as a browser shows it, without http:// and without a port",
            );
        }
    }
    names
}

/// The board's address.
fn board(table: &Table<'_>) -> Option<SocketAddr> {
    let at = table.text("board")?;
    match at.value.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("{:?} is not an address with a port", at.value);
            table.problem(&at.place, message, "for example \"127.0.0.1:8478\"");
            None
        }
    }
}

pub(super) fn pki(table: Table<'_>) -> Option<Pki> {
    let ca_certificate = table.need_path("ca_certificate", "/etc/linemint/ca.pem");
    let ca_key = table.need_text("ca_key", "credential:ca.key");
    let ca_certificate = ca_certificate.and_then(|at| certificate_file(&table, &at));
    let ca_key = ca_key.and_then(|at| ca_key_ref(&table, &at));
    let previous = match table.table("previous") {
        Some(table) => Some(previous(table)?),
        None if table.has("previous") => return None,
        None => None,
    };
    if previous.is_some() && previous == ca_certificate {
        let hint = "name the old CA's certificate here, or remove [pki.previous]";
        table.problem(&table.place_of("previous"), "is the CA that issues now", hint);
    }
    table.finish();
    Some(Pki { ca_certificate: ca_certificate?, ca_key: ca_key?, previous })
}

/// `pki.ca_key` and what belongs to it.
fn ca_key_ref(table: &Table<'_>, at: &At<&str>) -> Option<CaKeyRef> {
    if at.value.starts_with("pkcs11:") {
        return token(table, at);
    }
    for place in ["pkcs11_module", "pkcs11_pin"].into_iter().filter_map(|key| table.known(key)) {
        table.problem(&place, "means nothing without a pkcs11: URI in ca_key", "remove it");
    }
    let secret = secret(table, at)?;
    // Only "it is not there" counts: whoever checks a configuration need not be able to see the key.
    if let SecretRef::Path(path) = &secret
        && matches!(table.context.files.exists(path), Ok(false))
    {
        let hint = "put the CA's key there, or make a CA for trials with `linemint ca init --dir DIR`";
        table.problem(&at.place, format!("{} does not exist", path.display()), hint);
        return None;
    }
    Some(CaKeyRef::Secret(secret))
}

/// A key in a token: module and PIN stand in the URI, or in keys of their own.
fn token(table: &Table<'_>, at: &At<&str>) -> Option<CaKeyRef> {
    let (module, pin) = (table.path("pkcs11_module"), table.text("pkcs11_pin"));
    let uri: TokenUri = match at.value.parse() {
        Ok(uri) => uri,
        Err(error) => {
            let hint = "write pkcs11:token=LABEL;object=LABEL (RFC 7512)";
            table.problem(&at.place, format!("names no key in a token: {error}"), hint);
            return None;
        }
    };
    let pin = match pin {
        Some(pin) => secret(table, &pin)?,
        None => match &uri.pin_source {
            Some(path) => SecretRef::Path(path.clone()),
            None => {
                let hint = "add pkcs11_pin = \"credential:pin\", or ?pin-source= to the URI";
                table.problem(&at.place, "has no PIN: the token will not let the station in", hint);
                return None;
            }
        },
    };
    let Some(module) = module.map(|it| it.value).or_else(|| uri.module_path.clone()) else {
        let hint = "add pkcs11_module = \"/usr/lib/…/libsofthsm2.so\", or ?module-path= to the URI";
        table.problem(&at.place, "has no module: nothing here can speak with the token", hint);
        return None;
    };
    if matches!(table.context.files.exists(&module), Ok(false)) {
        let message = format!("the PKCS #11 module {} does not exist", module.display());
        table.problem(&at.place, message, "install it, or correct the path");
        return None;
    }
    Some(CaKeyRef::Token { uri: Box::new(uri), module, pin })
}

/// `[pki.previous]`: the CA that issued before. Its key is not asked for, since nothing more is signed with it.
fn previous(table: Table<'_>) -> Option<PathBuf> {
    let at = table.need_path("ca_certificate", "/etc/linemint/ca-2026.pem");
    let path = at.and_then(|at| certificate_file(&table, &at));
    table.finish();
    path
}

/// A path whose file holds certificates.
pub(super) fn certificate_file(table: &Table<'_>, at: &At<PathBuf>) -> Option<PathBuf> {
    let content = read(table, at, MAX_PEM)?;
    match files::certificates(content) {
        Ok(_) => Some(at.value.clone()),
        Err(error) => {
            bad_certificates(table, at, &error);
            None
        }
    }
}

pub(super) fn bad_certificates(table: &Table<'_>, at: &At<PathBuf>, error: &files::BadPem) {
    let hint = "the file has to hold certificates in PEM, and no private key";
    table.problem(&at.place, format!("{} {error}", at.value.display()), hint);
}

/// The content of a file that the configuration names.
pub(super) fn read(table: &Table<'_>, at: &At<PathBuf>, limit: u64) -> Option<Vec<u8>> {
    match table.context.files.read(&at.value, limit) {
        Ok(content) => Some(content),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "relative paths start at the configuration file's directory",
                io::ErrorKind::PermissionDenied => "give the daemon's user the right to read it",
                io::ErrorKind::FileTooLarge => "this is hardly the right file",
                _ => "check the path",
            };
            table.problem(&at.place, format!("failed to read {}: {error}", at.value.display()), hint);
            None
        }
    }
}
