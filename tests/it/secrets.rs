//! No private key is left where it should not be: not on disk, not in a log.

use std::fs;

use crate::harness::World;

/// The lines of a PEM between its markers.
fn body(pem: &str) -> Vec<&str> {
    pem.lines().filter(|it| !it.starts_with("-----") && it.len() > 10).collect()
}

/// The private number of a P-256 key: it begins behind the first 36 bytes of PKCS #8.
fn secret(pem: &str) -> Vec<u8> {
    let der = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap().contents;
    der[36..68].to_vec()
}

/// Whether `content` has `secret` in it, as bytes or in hex.
fn holds(content: &[u8], secret: &[u8]) -> bool {
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
        let left = world.files("state/keys");
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
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    for path in world.files("state") {
        let content = fs::read(&path).unwrap();
        assert!(!holds(&content, &secret), "{} holds the key in clear", path.display());
    }
}
