//! The CA and the sealed private keys: two threads, since signing computes and sealing syncs.
//!
//! Each takes whatever is waiting in one go, so that many keys share one sync of their directory.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::clock::TimeSource;
use crate::device::request::CertificateRequest;
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, KeyState};
use crate::error::Chain;
use crate::journal::keys::{KeyStore, KeyStoreError};
use crate::line::Input;
use crate::pki::request::{MadeRequest, make_request};
use crate::pki::{Fingerprint, IssueError, IssuedLeaf, Issuer, LeafKey, LeafRequest};
use crate::sabotage::sabotaged;

/// Keys that are sealed in one go at most.
const GROUP: usize = 32;

/// Keys that are destroyed in one go at most.
const DESTROYED_AT_ONCE: usize = 256;

/// How long it rests after a group of keys is destroyed: a line with many nests then has one sync of the directory,
/// and one commit of the journal, for many. Nobody waits for it but a stop.
const REST: Duration = Duration::from_millis(20);

/// Requests that may wait.
const QUEUE: usize = 4096;

/// A certificate to be issued.
#[derive(Debug)]
pub(crate) struct Issue {
    pub(crate) serial: SerialNumber,
    pub(crate) generation: u32,
    pub(crate) what: What,
}

/// What is to be made.
#[derive(Debug)]
pub(crate) enum What {
    /// A certificate, by the station's CA.
    Certificate(LeafRequest),
    /// A key pair and a request for a certificate that AWS will issue.
    Request {
        /// Its subject.
        common_name: String,
    },
}

/// Since when a thread has been at what it does now; not at all while it waits for something to do.
#[derive(Debug, Clone, Default)]
struct Busy {
    since: Arc<Mutex<Option<Duration>>>,
}

impl Busy {
    fn set(&self, since: Option<Duration>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Does something that is seen from outside for as long as it takes.
    fn with<T>(&self, clock: &dyn TimeSource, work: impl FnOnce() -> T) -> T {
        self.set(Some(clock.now().mono));
        let done = work();
        self.set(None);
        done
    }

    /// For how long it has been at it.
    fn lasts(&self, now: Duration) -> Duration {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |it| now.saturating_sub(it))
    }
}

/// The threads of which a stuck one has the watchdog starve.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hands {
    issuer: Busy,
    keys: Busy,
}

impl Hands {
    /// For how long that one has been at it that has been so longest.
    pub(super) fn lasts(&self, now: Duration) -> Duration {
        self.issuer.lasts(now).max(self.keys.lasts(now))
    }
}

/// Where requests go.
#[derive(Debug)]
pub(super) struct Vault {
    pub(super) issue: mpsc::Sender<Issue>,
    pub(super) destroy: mpsc::Sender<(SerialNumber, Fingerprint)>,
    pub(super) hands: Hands,
}

/// Starts both threads; they end when the requests' channels are closed.
pub(super) fn start(
    issuer: Option<Arc<dyn Issuer>>,
    keys: Arc<KeyStore>,
    clock: Arc<dyn TimeSource>,
    inputs: mpsc::Sender<Input>,
) -> io::Result<Vault> {
    let (issue, mut to_issue) = mpsc::channel(QUEUE);
    let (destroy, mut to_destroy) = mpsc::channel(QUEUE);
    let (issuing_keys, issued) = (keys.clone(), inputs.clone());
    let hands = Hands::default();
    let (issuing, destroying) = (hands.issuer.clone(), hands.keys.clone());
    let keys_clock = clock.clone();
    std::thread::Builder::new().name("issuer".to_owned()).spawn(move || {
        while let Some(group) = gather(&mut to_issue) {
            let gets_on = || issuing.set(Some(clock.now().mono));
            let makers = Makers {
                issuer: issuer.as_deref(),
                request: &make_request,
                clock: clock.as_ref(),
                gets_on: &gets_on,
            };
            let answers = issuing.with(clock.as_ref(), || {
                #[cfg(debug_assertions)]
                stall();
                issue_group(&makers, &*issuing_keys, group)
            });
            for answer in answers {
                if issued.blocking_send(answer).is_err() {
                    return;
                }
            }
        }
    })?;
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Some(first) = to_destroy.blocking_recv() {
            let group = gather_after(first, &mut to_destroy, DESTROYED_AT_ONCE);
            for answer in destroying.with(keys_clock.as_ref(), || destroy_group(&*keys, group)) {
                if inputs.blocking_send(answer).is_err() {
                    return;
                }
            }
            std::thread::park_timeout(REST);
        }
    })?;
    Ok(Vault { issue, destroy, hands })
}

/// Hangs for ever where a test says so: a token that does not answer, for the watchdog.
#[cfg(debug_assertions)]
fn stall() {
    if std::env::var_os("LINEMINT_DEBUG_STALL_ISSUER").is_some() {
        tracing::warn!("the issuer hangs, as this test build was told");
        loop {
            std::thread::park();
        }
    }
}

fn gather<T>(queue: &mut mpsc::Receiver<T>) -> Option<Vec<T>> {
    let first = queue.blocking_recv()?;
    Some(gather_after(first, queue, GROUP))
}

fn gather_after<T>(first: T, queue: &mut mpsc::Receiver<T>, most: usize) -> Vec<T> {
    let mut group = vec![first];
    while group.len() < most {
        match queue.try_recv() {
            Ok(next) => group.push(next),
            Err(_) => break,
        }
    }
    group
}

/// Why a private key that is there was not loaded, in words.
#[derive(Debug)]
pub(crate) enum Unloaded {
    /// The disk did not let it be read now: another try may succeed.
    Unread(String),
    /// It can never be opened.
    Lost(String),
}

/// Where private keys are kept until their devices have them. A failure comes in words: it is told, and
/// nothing else hangs on it.
pub(crate) trait Keys {
    /// Stores private keys, each under the name that is asked for; durable on return, or none is there.
    fn store(&self, keys: ToSeal) -> Result<(), String>;

    /// The private key of that name, if it is there.
    fn load(&self, fingerprint: &Fingerprint) -> Result<Option<Zeroizing<Vec<u8>>>, Unloaded>;

    /// Destroys private keys; durable on return. Those that stay, each with why.
    fn destroy(&self, fingerprints: &[Fingerprint]) -> Vec<(Fingerprint, String)>;

    /// Destroys all but these; which they were.
    fn sweep(&self, keep: &HashSet<Fingerprint>) -> Result<Vec<Fingerprint>, KeyStoreError>;
}

impl Keys for KeyStore {
    fn store(&self, keys: ToSeal) -> Result<(), String> {
        self.store_many(keys).map_err(|error| Chain(&error).to_string())
    }

    fn load(&self, fingerprint: &Fingerprint) -> Result<Option<Zeroizing<Vec<u8>>>, Unloaded> {
        self.load(fingerprint).map_err(|error| {
            let words = Chain(&error).to_string();
            match error {
                KeyStoreError::Read { .. } => Unloaded::Unread(words),
                _ => Unloaded::Lost(words),
            }
        })
    }

    fn destroy(&self, fingerprints: &[Fingerprint]) -> Vec<(Fingerprint, String)> {
        match self.destroy_many(fingerprints) {
            Ok(kept) => kept.into_iter().map(|(it, error)| (it, Chain(&error).to_string())).collect(),
            Err(error) => fingerprints.iter().map(|it| (*it, Chain(&error).to_string())).collect(),
        }
    }

    fn sweep(&self, keep: &HashSet<Fingerprint>) -> Result<Vec<Fingerprint>, KeyStoreError> {
        self.sweep(keep)
    }
}

/// Who makes certificates and requests.
pub(crate) struct Makers<'a> {
    /// The station's CA, if it has one.
    pub(crate) issuer: Option<&'a dyn Issuer>,
    /// Makes a key pair and a request with that subject.
    pub(crate) request: &'a dyn Fn(&str) -> Result<MadeRequest, IssueError>,
    /// What a certificate's life begins by.
    pub(crate) clock: &'a dyn TimeSource,
    /// Called before each one: a token that takes a second for a signature gets on.
    pub(crate) gets_on: &'a dyn Fn(),
}

/// What was made for one device, but for its key, which is among those to be sealed.
enum Made {
    Certificate(Result<Certificate, String>),
    Request(Result<CertificateRequest, String>),
}

type ToSeal = Vec<(Fingerprint, Zeroizing<Vec<u8>>)>;

/// Issues, then seals all keys, and only then says so: a certificate or request in the journal always
/// has its key on disk.
pub(crate) fn issue_group(makers: &Makers<'_>, keys: &impl Keys, group: Vec<Issue>) -> Vec<Input> {
    let mut to_seal = ToSeal::new();
    let mut results = Vec::with_capacity(group.len());
    for Issue { serial, generation, what } in group {
        (makers.gets_on)();
        let made = match what {
            What::Certificate(request) => Made::Certificate(issue(makers, &request, &mut to_seal)),
            What::Request { common_name } => Made::Request(make(makers, &common_name, &mut to_seal)),
        };
        results.push((serial, generation, made));
    }
    let nothing = to_seal.is_empty() || sabotaged!(KeyUnstored);
    let failure = if nothing { None } else { keys.store(to_seal).err() };
    results
        .into_iter()
        .map(|(serial, generation, made)| match made {
            Made::Certificate(result) => {
                Input::Issued { serial, generation, result: unless(failure.as_ref(), result) }
            }
            Made::Request(result) => {
                Input::CsrMade { serial, generation, result: unless(failure.as_ref(), result) }
            }
        })
        .collect()
}

fn unless<T>(failure: Option<&String>, result: Result<T, String>) -> Result<T, String> {
    match failure {
        Some(failure) => result.and(Err(failure.clone())),
        None => result,
    }
}

fn issue(makers: &Makers<'_>, request: &LeafRequest, to_seal: &mut ToSeal) -> Result<Certificate, String> {
    let none = "the configuration has no [pki], so that no certificate can be issued here";
    let issuer = makers.issuer.ok_or_else(|| none.to_owned())?;
    let mut leaf =
        issuer.issue(request, makers.clock.now().wall).map_err(|error| Chain(&error).to_string())?;
    to_seal.extend(leaf.private_key.take().map(|key| (leaf.fingerprint, key)));
    Ok(certificate(leaf, request.key == LeafKey::Station, issuer.ca()))
}

fn make(makers: &Makers<'_>, common_name: &str, to_seal: &mut ToSeal) -> Result<CertificateRequest, String> {
    let made = (makers.request)(common_name).map_err(|error| Chain(&error).to_string())?;
    to_seal.push((made.public_key, made.private_key));
    Ok(CertificateRequest {
        public_key: made.public_key,
        csr: made.csr,
        key: KeyState::Sealed,
        asked: 0,
        open_since: None,
        made_at: None,
    })
}

fn certificate(leaf: IssuedLeaf, station_key: bool, ca: Fingerprint) -> Certificate {
    if leaf.shortened {
        tracing::warn!(not_after = %leaf.not_after, "a certificate's life was cut to the CA's end");
    }
    Certificate {
        fingerprint: leaf.fingerprint,
        der: leaf.der,
        serial_number: leaf.serial_number,
        not_after: leaf.not_after,
        key: if station_key { KeyState::Sealed } else { KeyState::Device },
        arn: None,
        public_key: None,
        issuer: Some(ca),
    }
}

/// Destroys keys. One that cannot be destroyed stays journaled as sealed, and keeps no other: the line has
/// it tried again.
pub(crate) fn destroy_group(keys: &impl Keys, group: Vec<(SerialNumber, Fingerprint)>) -> Vec<Input> {
    let fingerprints: Vec<_> = group.iter().map(|(_, it)| *it).collect();
    let kept: HashMap<_, _> =
        if sabotaged!(KeyKept) { HashMap::new() } else { keys.destroy(&fingerprints).into_iter().collect() };
    group
        .into_iter()
        .map(|(serial, it)| match kept.get(&it) {
            None => Input::KeyDestroyed(serial, it),
            Some(error) => {
                tracing::error!(%serial, error, "a private key could not be destroyed; it is tried again");
                Input::KeyKept(serial, it)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::fixture::{Credentials, StationMessage};
    use crate::journal::keys::SealKey;
    use crate::station::intake::{Outgoing, complete};

    fn store(dir: &Path) -> KeyStore {
        KeyStore::open(dir.to_owned(), "nest", SealKey::from_bytes([7; 32])).unwrap()
    }

    fn key(name: &str) -> Fingerprint {
        Fingerprint::of(name.as_bytes())
    }

    fn file(dir: &Path, name: &str) -> PathBuf {
        dir.join(format!("nest-{}.key", key(name)))
    }

    fn serial(name: &str) -> SerialNumber {
        SerialNumber::parse(name).unwrap()
    }

    fn seal(keys: &KeyStore, names: &[&str]) {
        // Too long for a slot: a file can be broken by itself.
        let secret = || Zeroizing::new(b"a private key".repeat(400));
        keys.store_many(names.iter().map(|it| (key(it), secret())).collect()).unwrap();
    }

    /// What can neither be read nor overwritten, whoever tries.
    fn make_unusable(path: &Path) {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }

    fn offer(name: &str) -> Outgoing {
        let credentials = Credentials {
            id: 1,
            serial: name.to_owned(),
            thing: name.to_owned(),
            certificate: String::new(),
            certificate_sha256: String::new(),
            private_key: None,
            ca: None,
            endpoint: None,
            locker_id: None,
        };
        Outgoing::Offer { credentials: Box::new(credentials), key: Some(key(name)), serial: serial(name) }
    }

    #[test]
    fn how_long_a_thread_has_been_at_one_thing_is_seen_from_outside() {
        let clock = crate::clock::ManualClock::at("2026-11-22T09:00:00Z".parse().unwrap());
        let hands = Hands::default();
        let seconds = Duration::from_secs;
        let lasts = || hands.lasts(clock.now().mono);
        hands.keys.with(&clock, || {
            clock.advance(seconds(5));
            assert_eq!(lasts(), seconds(5));
            hands.issuer.with(&clock, || {
                clock.advance(seconds(1));
                assert_eq!(lasts(), seconds(6), "the longest");
            });
            hands.keys.set(Some(clock.now().mono));
            clock.advance(seconds(2));
            assert_eq!(lasts(), seconds(2), "it has got on");
        });
        clock.advance(seconds(60));
        assert_eq!(lasts(), Duration::ZERO);
    }

    #[test]
    fn a_key_that_cannot_be_destroyed_keeps_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let keys = store(dir.path());
        let names = ["SN1", "SN2", "SN3"];
        seal(&keys, &names);
        make_unusable(&file(dir.path(), "SN2"));
        let group = || names.iter().map(|it| (serial(it), key(it))).collect();
        let answers = destroy_group(&keys, group());
        let kept: Vec<bool> = answers.iter().map(|it| matches!(it, Input::KeyKept(..))).collect();
        assert_eq!(kept, [false, true, false]);
        assert!(matches!(&answers[1], Input::KeyKept(it, of) if *it == serial("SN2") && *of == key("SN2")));
        assert!(!file(dir.path(), "SN1").exists() && !file(dir.path(), "SN3").exists());
        fs::remove_dir(file(dir.path(), "SN2")).unwrap();
        let answers = destroy_group(&keys, group());
        assert!(answers.iter().all(|it| matches!(it, Input::KeyDestroyed(..))), "{answers:?}");
    }

    #[test]
    fn a_key_that_cannot_be_read_now_is_not_lost_and_a_damaged_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let keys = store(dir.path());
        seal(&keys, &["SN1", "SN2", "SN3"]);
        let sent = complete(offer("SN1"), &keys).unwrap().unwrap();
        assert!(matches!(sent, StationMessage::Credentials(it) if it.private_key.is_some()));
        make_unusable(&file(dir.path(), "SN1"));
        assert!(matches!(complete(offer("SN1"), &keys), Ok(None)), "it is offered again later");
        let damaged = file(dir.path(), "SN2");
        fs::remove_file(&damaged).unwrap();
        crate::durable_fs::create_new(&damaged, 0o600, b"no sealed key").unwrap();
        let lost = complete(offer("SN2"), &keys).unwrap_err();
        assert!(matches!(lost, Input::KeyLost(_, it) if it == key("SN2")));
        fs::remove_file(file(dir.path(), "SN3")).unwrap();
        assert!(matches!(complete(offer("SN3"), &keys), Err(Input::KeyLost(..))));
    }
}
