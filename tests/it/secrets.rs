//! No private key is left where it should not be: not on disk, not in a log.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};

use crate::harness::World;

/// The lines of a PEM between its markers.
pub(crate) fn body(pem: &str) -> Vec<&str> {
    pem.lines().filter(|it| !it.starts_with("-----") && it.len() > 10).collect()
}

/// The private number of a P-256 key: it begins behind the first 36 bytes of PKCS #8.
pub(crate) fn secret(pem: &str) -> Vec<u8> {
    let der = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap().contents;
    der[36..68].to_vec()
}

/// Whether `content` has `secret` in it, as bytes or in hex.
pub(crate) fn holds(content: &[u8], secret: &[u8]) -> bool {
    let hex: String = secret.iter().map(|it| format!("{it:02x}")).collect();
    let text = String::from_utf8_lossy(content).to_lowercase();
    content.windows(secret.len()).any(|it| it == secret) || text.contains(&hex)
}

#[test]
fn after_pass_no_private_key_is_anywhere_and_no_log_ever_held_one() {
    let mut world = World::new("");
    let mut fixture = world.fixture("nest-1");
    world.start_logging("trace");
    fixture.hello("nest-1", 1);
    let serials = ["SN0000000001", "SN0000000002", "SN0000000003"];
    let mut keys = Vec::new();
    for (id, serial) in (1..).zip(serials) {
        let credentials = fixture.provision(id, serial);
        keys.push(credentials["private_key"].as_str().unwrap().to_owned());
    }
    // One that is handed out twice and never confirmed, and then given up.
    let unit = serde_json::json!({ "type": "unit", "id": 4, "serial": "SN0000000004" });
    for _ in 0..2 {
        fixture.send(&unit);
        let credentials = fixture.until(&["credentials"]);
        keys.push(credentials["private_key"].as_str().unwrap().to_owned());
    }
    assert_eq!(world.command(&["device", "scrap", "SN0000000004", "--reason", "x"]).0, 0);
    world.eventually("the keys are destroyed", |world| {
        let left = world.private_keys();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for target in ["/v1/status", "/v1/devices", "/v1/devices/SN0000000001", "/v1/events?limit=1000"] {
        places.push((target.to_owned(), world.get(target).unwrap().to_string().into_bytes()));
    }
    let exported = world.command(&["journal", "export"]);
    assert_eq!(exported.0, 0, "{}", exported.2);
    places.push(("the journal's export".to_owned(), exported.1.into_bytes()));
    world.terminate();
    let (status, log) = world.ended();
    assert_eq!(status, 0, "{log}");
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not as full as was asked for");
    places.push(("the log".to_owned(), log.into_bytes()));
    for path in world.files("state") {
        places.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    let ca = fs::read_to_string(world.path("ca/ca.key")).unwrap();
    let secrets: Vec<Vec<u8>> = keys.iter().map(|it| secret(it)).collect();
    for (place, content) in &places {
        for secret in &secrets {
            assert!(!holds(content, secret), "{place} holds a private key's number");
        }
        let text = String::from_utf8_lossy(content);
        assert!(!text.contains("PRIVATE KEY"), "{place} holds a private key");
        for line in keys.iter().chain([&ca]).flat_map(|it| body(it)) {
            assert!(!text.contains(line), "{place} holds a part of a private key");
        }
    }
}

#[test]
fn an_undelivered_key_lies_sealed_and_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, mut fixture) = World::running("");
    fixture.send(&serde_json::json!({ "type": "unit", "id": 1, "serial": "SN0000000001" }));
    let credentials = fixture.until(&["credentials"]);
    let key = credentials["private_key"].as_str().unwrap();
    let secret = secret(key);
    let files = world.files("state/keys");
    assert_eq!((files.len(), world.private_keys().len()), (1, 1), "{files:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    for path in world.files("state") {
        let content = fs::read(&path).unwrap();
        assert!(!holds(&content, &secret), "{} holds the key in clear", path.display());
    }
}

/// Texts and numbers that must not be found, by their first four bytes.
#[derive(Default)]
struct Needles {
    begins: HashMap<[u8; 4], Vec<Vec<u8>>>,
    /// A bit for each two bytes that one begins with.
    pairs: Vec<bool>,
}

impl Needles {
    /// All that would tell a key: its number as bytes and in hex, and the lines of its PEM.
    fn add(&mut self, pem: &str) {
        let number = secret(pem);
        let hex: String = number.iter().map(|it| format!("{it:02x}")).collect();
        let lines = body(pem).into_iter().map(|it| it.as_bytes().to_vec());
        for needle in [number, hex.to_uppercase().into_bytes(), hex.into_bytes()].into_iter().chain(lines) {
            self.pairs.resize(1 << 16, false);
            self.pairs[usize::from(u16::from_le_bytes([needle[0], needle[1]]))] = true;
            self.begins.entry(needle[..4].try_into().unwrap()).or_default().push(needle);
        }
    }

    /// What of them is in `content`, at most ten.
    fn found_in(&self, content: &[u8]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (at, four) in content.windows(4).enumerate() {
            if !self.pairs[usize::from(u16::from_le_bytes([four[0], four[1]]))] {
                continue;
            }
            let Some(needles) = self.begins.get(four) else { continue };
            if let Some(it) = needles.iter().find(|it| content[at..].starts_with(it)) {
                let kind = if it.len() == 32 { "its number" } else { "a line of it" };
                found.push((at, kind.to_owned()));
                if found.len() == 10 {
                    break;
                }
            }
        }
        found
    }
}

/// All that a process can write to, as root reads it; none where that is not allowed.
fn memory(pid: u32) -> Option<Vec<(String, Vec<u8>)>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut regions = Vec::new();
    for line in maps.lines().filter(|it| it.split_whitespace().nth(1).is_some_and(|it| it.starts_with("rw")))
    {
        let range = line.split_whitespace().next()?;
        let (begin, end) = range.split_once('-')?;
        let (begin, end) = (u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut content = vec![0; usize::try_from(end - begin).ok()?];
        memory.seek(SeekFrom::Start(begin)).ok()?;
        // Guard pages and the like cannot be read.
        if memory.read_exact(&mut content).is_ok() {
            regions.push((line.to_owned(), content));
        }
    }
    (!regions.is_empty()).then_some(regions)
}

/// Makes so many devices, and looks for their keys in all that is left of them.
fn no_key_is_left_of(devices: u64) {
    let mut world = World::new("");
    let mut fixture = world.fixture("nest-1");
    world.start_logging("debug");
    fixture.hello("nest-1", 1);
    let mut needles = Needles::default();
    for id in 1..=devices {
        let credentials = fixture.provision(id, &format!("SN{id:010}"));
        needles.add(credentials["private_key"].as_str().unwrap());
    }
    world.eventually("the keys are destroyed", |world| {
        let left = world.private_keys();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    let mut targets = vec!["/v1/status".to_owned(), "/v1/devices?limit=1000".to_owned()];
    targets
        .extend((0..devices * 15).step_by(1000).map(|after| format!("/v1/events?limit=1000&after={after}")));
    targets.extend((1..=devices).step_by(97).map(|id| format!("/v1/devices/SN{id:010}")));
    for target in targets {
        let answer = world.get(&target).unwrap().to_string().into_bytes();
        places.push((target, answer));
    }
    for format in ["text", "json", "csv", "html"] {
        let (status, report, log) = world.command(&["report", "--shift", "current", "--format", format]);
        assert!(report.len() > 100, "{status}: {log}");
        places.push((format!("the report as {format}"), report.into_bytes()));
    }
    let exported = world.command(&["journal", "export"]);
    assert_eq!(exported.0, 0, "{}", exported.2);
    places.push(("the journal's export".to_owned(), exported.1.into_bytes()));
    // Last: what was answered above has passed through it as well.
    match memory(world.station().pid()) {
        Some(regions) => places.extend(regions),
        None => eprintln!("SKIPPED: only root may look into the memory of a process with keys"),
    }
    world.terminate();
    let (status, log) = world.ended();
    assert_eq!(status, 0, "{log}");
    places.push(("the log".to_owned(), log.into_bytes()));
    places.extend(
        world.files("state").into_iter().map(|it| (it.display().to_string(), fs::read(&it).unwrap())),
    );
    let bytes: usize = places.iter().map(|it| it.1.len()).sum();
    let found: Vec<_> = places.iter().map(|(place, it)| (place, needles.found_in(it))).collect();
    let found: Vec<_> = found.into_iter().filter(|it| !it.1.is_empty()).collect();
    assert!(found.is_empty(), "private keys are in {found:#?}");
    eprintln!("{devices} devices: no key of theirs in {} MiB of {} places", bytes >> 20, places.len());
}

#[test]
fn needles_are_found_wherever_they_lie() {
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let mut needles = Needles::default();
    needles.add(&pem);
    let number = secret(&pem);
    for hidden in [number.clone(), pem.clone().into_bytes(), serde_json::to_vec(&pem).unwrap()] {
        let content = [vec![7; 1001], hidden, vec![9; 77]].concat();
        assert!(!needles.found_in(&content).is_empty());
    }
    let half = [vec![7; 1001], number[..31].to_vec(), vec![0; 77]].concat();
    assert!(needles.found_in(&half).is_empty());
}

#[test]
fn no_private_key_is_in_memory_files_answers_or_reports_after_the_last_device_has_passed() {
    no_key_is_left_of(25);
}

#[test]
#[ignore = "a thousand devices; .ci/full runs it"]
fn no_private_key_is_left_of_a_thousand_devices() {
    no_key_is_left_of(1_000);
}
