//! The station and its service manager: sd_notify(3) and sd_listen_fds(3), with the real binary.

use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Deadline, PATIENCE, Process, World, linemint, put};

const SERIALS: [&str; 2] = ["SN0000000001", "SN0000000002"];

/// The service manager's ear.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket }
    }

    /// What is told next; none for a tenth of a second.
    fn hears(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// Everything up to the first message with `needle` in it.
    fn until(&self, needle: &str) -> Vec<String> {
        let deadline = Deadline::after(PATIENCE);
        let mut heard = Vec::new();
        loop {
            assert!(!deadline.is_over(), "nobody says {needle:?}, but {heard:?}");
            heard.extend(self.hears());
            if heard.last().is_some_and(|it| it.contains(needle)) {
                return heard;
            }
        }
    }
}

fn notifying(world: &World, more: &str) -> String {
    format!("export NOTIFY_SOCKET='{}' {more}", world.path("notify").display())
}

#[test]
fn it_is_ready_when_it_answers_says_what_it_does_and_says_that_it_ends() {
    let mut world = World::new("");
    let manager = Manager::new(&world);
    let mut fixture = world.fixture("nest-1");
    let shell = notifying(&world, "");
    world.start_after(&shell);
    let before = manager.until("READY=1");
    assert!(before.iter().any(|it| it.contains("STATUS=starting")), "{before:?}");
    assert!(before.iter().any(|it| it.contains("EXTEND_TIMEOUT_USEC=")), "{before:?}");
    // Not a moment later: whoever is started after it may ask it at once.
    assert_eq!(world.get("/v1/status").unwrap()["station"], "IT");
    fixture.hello("nest-1", 1);
    fixture.provision(1, SERIALS[0]);
    manager.until("STATUS=ready: 1 of 1 fixtures ready, 0 devices in work, 1 passed");
    world.terminate();
    manager.until("STOPPING=1");
    assert_eq!(world.ended().0, 0);
}

#[test]
fn a_station_that_cannot_start_is_never_ready() {
    let mut world = World::new("[pki]\nca_key = \"ca/none.key\"\n");
    let manager = Manager::new(&world);
    let shell = notifying(&world, "");
    world.start_after(&shell);
    assert_eq!(world.ended().0, 78);
    while let Some(heard) = manager.hears() {
        assert!(!heard.contains("READY"), "{heard}");
    }
}

#[test]
fn told_to_end_while_it_opens_its_journal_it_ends_at_once() {
    let mut world = World::new("");
    let manager = Manager::new(&world);
    let shell = notifying(&world, "LINEMINT_DEBUG_STALL_START=1");
    world.start_after(&shell);
    world.station().stderr.wait_for("the start hangs");
    world.terminate();
    let (status, log) = world.ended();
    assert_eq!(status, 0, "{log}");
    assert!(log.contains("told to end before the station was ready"), "{log}");
    assert!(!world.path("api.sock").exists());
    while let Some(heard) = manager.hears() {
        assert!(!heard.contains("READY"), "{heard}");
    }
    // Nothing is left half done.
    world.start();
    world.becomes("/v1/status", "/station", &json!("IT"));
}

#[test]
fn the_watchdog_is_fed_while_it_works_and_starves_when_the_journal_hangs() {
    // Started, rules, the fixture's reset, and then the first unit's record is never done.
    hangs("LINEMINT_DEBUG_STALL_JOURNAL_AT=4", "the journal hangs");
}

#[test]
fn the_watchdog_starves_when_the_issuer_hangs() {
    hangs("LINEMINT_DEBUG_STALL_ISSUER=1", "the issuer hangs");
}

/// With this switch it is fed until the first unit comes, says that something hangs, and starves.
fn hangs(switch: &str, says: &str) {
    let mut world = World::new("");
    let manager = Manager::new(&world);
    let mut fixture = world.fixture("nest-1");
    let shell = notifying(&world, &format!("WATCHDOG_USEC=2000000 {switch}; export WATCHDOG_PID=$$"));
    world.start_after(&shell);
    manager.until("READY=1");
    fixture.hello("nest-1", 1);
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIALS[0] }));
    world.station().stderr.wait_for(says);
    starves(&manager);
    world.kill9();
}

/// For half of its time it may still be fed; then for as long as we listen it is not.
fn starves(manager: &Manager) {
    let quiet = Duration::from_secs(4);
    let (deadline, mut silence) = (Deadline::after(PATIENCE), Deadline::after(quiet));
    while !silence.is_over() {
        assert!(!deadline.is_over(), "it is fed for ever");
        if manager.hears().is_some_and(|it| it.contains("WATCHDOG=1")) {
            silence = Deadline::after(quiet);
        }
    }
}

#[test]
fn a_socket_that_is_handed_over_serves_and_keeps_clients_waiting_over_a_restart() {
    let mut world = World::new("");
    let mut fixture = world.fixture("nest-1");
    let listener = UnixListener::bind(world.path("api.sock")).unwrap();
    let hand = || listener.try_clone().unwrap().into();
    let shell = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=api";
    // Nobody listens yet, and nobody is refused: the client waits for its answer.
    let mut early = UnixStream::connect(world.path("api.sock")).unwrap();
    use std::io::{Read as _, Write as _};
    early.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    world.start_handing(hand(), shell);
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    fixture.hello("nest-1", 1);
    fixture.provision(1, SERIALS[0]);
    world.terminate();
    assert_eq!(world.ended().0, 0);
    // It is not ours to remove.
    let mut waiting = UnixStream::connect(world.path("api.sock")).unwrap();
    waiting.write_all(b"GET /v1/devices HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    world.start_handing(hand(), shell);
    answer.clear();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(SERIALS[0]), "{answer}");
    let log = world.station().stderr.text();
    assert!(!log.contains("another place"), "{log}");
}

#[test]
fn whoever_waits_at_a_socket_that_is_handed_over_is_told_why_nothing_starts() {
    use std::io::{Read as _, Write as _};
    let mut world = World::new("");
    // Another CA's key, which only a start finds out.
    let other = world.path("other");
    assert_eq!(Process::run(&mut linemint(&["ca", "init", "--dir", other.to_str().unwrap()])).0, 0);
    std::fs::rename(other.join("ca.key"), world.path("ca/ca.key")).unwrap();
    let listener = UnixListener::bind(world.path("api.sock")).unwrap();
    let shell = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=api";
    let refused = |world: &mut World, status: i32, why: &str| {
        let mut waiting: Vec<UnixStream> =
            (0..3).map(|_| UnixStream::connect(world.path("api.sock")).unwrap()).collect();
        for client in &mut waiting {
            client.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        }
        world.start_handing(listener.try_clone().unwrap().into(), shell);
        for client in &mut waiting {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("application/problem+json") && answer.contains(why), "{answer}");
        }
        assert_eq!(world.ended().0, status);
        // Nobody is left for whom the service manager would start it again.
        listener.set_nonblocking(true).unwrap();
        let left = listener.accept().map(|_| ()).unwrap_err();
        assert_eq!(left.kind(), std::io::ErrorKind::WouldBlock);
    };
    // Found when the station is set up, with the socket in hand; before; and where another holds the journal.
    refused(&mut world, 78, "different pairs");
    let file = world.path("linemint.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let configure = |text: &str| put(&file, text.as_bytes());
    configure(&config.replace("eu-west-1", "the moon"));
    refused(&mut world, 78, "aws.region");
    configure(&config);
    // Its CA is looked at after the lock.
    let _held = linemint::journal::store::JournalLock::take(&world.path("state/journal")).unwrap();
    refused(&mut world, 75, "holds");
}
