//! No private key is left where it should not be: not on disk, not in a log.

use std::fs;

use crate::harness::World;

/// The lines of a PEM between its markers.
fn body(pem: &str) -> Vec<&str> {
    pem.lines().filter(|it| !it.starts_with("-----") && it.len() > 10).collect()
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
    world.eventually("the keys are destroyed", |world| {
        let left = world.files("state/keys");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    world.terminate();
    let (status, log) = world.ended();
    assert_eq!(status, 0, "{log}");
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not as full as was asked for");
    let mut places = vec![("the log".to_owned(), log.into_bytes())];
    for path in world.files("state") {
        places.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    let ca = fs::read_to_string(world.path("ca/ca.key")).unwrap();
    for (place, content) in &places {
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
    let der = x509_parser::pem::Pem::iter_from_buffer(key.as_bytes()).next().unwrap().unwrap().contents;
    let files = world.files("state/keys");
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    for path in world.files("state") {
        let content = fs::read(&path).unwrap();
        // The private number of a P-256 key begins behind the first 36 bytes of PKCS #8.
        let found = content.windows(32).any(|it| it == &der[36..68]);
        assert!(!found, "{} holds the key in clear", path.display());
    }
}
