//! Others judge what is issued: openssl as a server that demands client certificates, pkilint of the profile of RFC 5280.
//! Where they are not installed the tests say so.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use toml::Table;

use crate::authority::{has_openssl, openssl};
use crate::harness::{Process, World, linemint, put};

/// A server of openssl's with a certificate for `localhost`.
struct Server {
    process: Process,
    port: String,
}

impl Server {
    /// One that lets in what `trusted` has issued and nobody else.
    fn start(dir: &Path, trusted: &str) -> Self {
        let asks = ["-Verify", "5", "-verify_return_error", "-x509_strict", "-purpose", "sslclient"];
        Self::with(dir, &[&asks[..], &["-CAfile", trusted]].concat())
    }

    fn with(dir: &Path, args: &[&str]) -> Self {
        if !dir.join("server.pem").exists() {
            let root = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout roots.key -out roots.pem \
                        -days 30 -subj /CN=Servers -addext basicConstraints=critical,CA:TRUE";
            openssl(dir, &root.split_whitespace().collect::<Vec<_>>());
            let csr = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key \
                       -out server.csr -subj /CN=localhost";
            openssl(dir, &csr.split_whitespace().collect::<Vec<_>>());
            put(&dir.join("server.ext"), b"subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n");
            let sign = "x509 -req -in server.csr -CA roots.pem -CAkey roots.key -CAcreateserial -days 30 \
                        -extfile server.ext -out server.pem";
            openssl(dir, &sign.split_whitespace().collect::<Vec<_>>());
        }
        let mut command = Command::new("openssl");
        // `-www` has it read nothing from its standard input.
        command.current_dir(dir).args(["s_server", "-accept", "127.0.0.1:0", "-www"]).args(args);
        command.args(["-cert", "server.pem", "-key", "server.key"]);
        let process = Process::start(&mut command);
        let said = process.stdout.wait_for("ACCEPT 127.0.0.1:");
        let port = said.split("ACCEPT 127.0.0.1:").nth(1).unwrap_or_default();
        let port = port.chars().take_while(char::is_ascii_digit).collect();
        Self { process, port }
    }

    /// What it said of the certificates that it was shown.
    fn said(&self) -> String {
        self.process.stderr.text()
    }
}

/// Has devices connect to `server` before they pass.
fn connects_to(world: &World, server: &Server) {
    let path = world.path("linemint.toml");
    let mut config: Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let product = config["product"]["thermostat"].as_table_mut().unwrap();
    let endpoint = format!("localhost:{}", server.port);
    for (key, value) in [("verify", "tls"), ("roots", "roots.pem"), ("endpoint", &endpoint)] {
        product.insert(key.to_owned(), value.into());
    }
    put(&path, config.to_string().as_bytes());
}

/// A CA under a company's root, made by openssl, in `line/`: root, intermediate, leaf.
fn ca_under_a_root(world: &World) {
    let dir = world.path("");
    let line = world.path("line");
    assert_eq!(run(&["ca", "csr", "--dir", line.to_str().unwrap(), "--common-name", "Line 3"]).0, 0);
    let root = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout root.key -out root.pem \
                -days 3000 -subj /O=Company/CN=Root -addext basicConstraints=critical,CA:TRUE \
                -addext keyUsage=critical,keyCertSign,cRLSign";
    openssl(&dir, &root.split_whitespace().collect::<Vec<_>>());
    let extensions = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    put(&dir.join("ext"), extensions.as_bytes());
    let sign = "x509 -req -in line/ca.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2000 \
                -extfile ext -out signed.pem";
    openssl(&dir, &sign.split_whitespace().collect::<Vec<_>>());
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (status, _, log) =
        run(&["ca", "import", "--dir", &path("line"), &path("signed.pem"), &path("root.pem")]);
    assert_eq!(status, 0, "{log}");
}

fn run(args: &[&str]) -> (i32, String, String) {
    Process::run(&mut linemint(args))
}

const UNDER_A_ROOT: &str = "[pki]\nca_certificate = \"line/ca.pem\"\nca_key = \"line/ca.key\"\n";

#[test]
fn openssl_as_a_server_lets_in_a_device_of_a_root_and_of_an_intermediate_ca() {
    if !has_openssl("a handshake with openssl s_server") {
        return;
    }
    for (over, trusted, depth) in [("", "ca/ca.pem", "depth=1"), (UNDER_A_ROOT, "root.pem", "depth=2")] {
        let mut world = World::new(over);
        if !over.is_empty() {
            ca_under_a_root(&world);
        }
        let server = Server::start(&world.path(""), trusted);
        connects_to(&world, &server);
        let mut fixture = world.fixture("nest-1");
        world.start();
        fixture.hello("nest-1", 1);
        fixture.provision(1, "SN0000000001");
        // What it prints comes through a pipe.
        world.eventually("the server has seen it", |_| {
            let said = server.said();
            let seen = said.contains(depth) && said.contains("CN = SN0000000001");
            if seen { Ok(()) } else { Err(format!("{trusted}: {said}")) }
        });
        let said = server.said();
        assert!(!said.contains("verify error"), "{trusted}: {said}");
    }
}

#[test]
fn a_device_that_openssl_as_a_server_does_not_let_in_does_not_pass() {
    if !has_openssl("a handshake that openssl s_server refuses") {
        return;
    }
    let mut world = World::new("");
    // It trusts another CA of the very same name.
    let other = world.path("other");
    assert_eq!(run(&["ca", "init", "--dir", other.to_str().unwrap()]).0, 0);
    let server = Server::start(&world.path(""), "other/ca.pem");
    connects_to(&world, &server);
    let _fixture = world.presented("SN0000000001");
    world.eventually("the server refuses it", |_| {
        let said = server.said();
        if said.contains("verify error") { Ok(()) } else { Err(said) }
    });
    world.tells("SN0000000001", "\"step\":\"connect\"");
    let device: Value = world.get("/v1/devices/SN0000000001").unwrap();
    assert_ne!(device["state"], json!("passed"), "{device}");
}

#[test]
fn a_server_that_asks_nobody_for_a_certificate_lets_no_device_pass() {
    if !has_openssl("a handshake with an openssl s_server that asks for nothing") {
        return;
    }
    let mut world = World::new("");
    let server = Server::with(&world.path(""), &[]);
    connects_to(&world, &server);
    let _fixture = world.presented("SN0000000001");
    world.tells("SN0000000001", "has not asked for the device's certificate");
    world.becomes("/v1/devices/SN0000000001", "/state", &json!("provisioning"));
}

/// Runs pkilint's checks of RFC 5280 (`lint_pkix_cert`) on a certificate; what it has found of the severity `error` or worse.
fn linted(certificate: &Path) -> Option<String> {
    let done = Command::new("lint_pkix_cert")
        .args(["lint", "--severity", "ERROR"])
        .arg(certificate)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&[&done.stdout[..], &done.stderr[..]].concat()).into_owned();
    Some(if done.status.success() { String::new() } else { said })
}

#[test]
fn a_linter_finds_nothing_in_what_is_issued() {
    if Command::new("lint_pkix_cert").arg("--help").output().is_err() {
        eprintln!("SKIPPED: pkilint is not installed; nobody else has looked at the certificates' profile");
        return;
    }
    let named = "[product.thermostat.certificate]\ncommon_name = \"{serial}.plant.example\"\n";
    for (over, taken) in [(named, ""), ("", "pkix.invalid_domain_name_syntax")] {
        let (world, mut fixture) = World::running(over);
        let credentials = fixture.provision(1, "SN0000000001");
        put(&world.path("leaf.pem"), credentials["certificate"].as_str().unwrap().as_bytes());
        assert_eq!(linted(&world.path("ca/ca.pem")).unwrap(), "");
        // A name of one label is one in RFC 1034, 3.5, which RFC 5280 asks for; pkilint wants a dot in it.
        let said = linted(&world.path("leaf.pem")).unwrap();
        let findings: Vec<&str> = said.lines().filter(|it| it.contains("(ERROR)")).collect();
        let expected = usize::from(!taken.is_empty());
        assert!(findings.len() == expected && findings.iter().all(|it| it.contains(taken)), "{said}");
    }
    let world = World::new("");
    // The linter can find something: a CA's certificate whose basic constraints are missing.
    let bad = rcgen::CertificateParams::new(vec![String::new()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    put(&world.path("bad.pem"), bad.self_signed(&key).unwrap().pem().as_bytes());
    assert_ne!(linted(&world.path("bad.pem")).unwrap(), "");
}

#[test]
fn a_bad_csr_is_refused_with_its_sentence_and_one_for_another_serial_number_changes_no_name() {
    let (world, mut fixture) = World::running("[product.thermostat.certificate]\nkey = \"device\"\n");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "SN0000000099");
    let csr = params.serialize_request(&key).unwrap();
    let pem = csr.pem().unwrap();
    let mut broken = csr.der().to_vec();
    let at = broken.windows(12).position(|it| it == b"SN0000000099").unwrap();
    broken[at] = b'X';
    let broken = linemint::pki::to_pem("CERTIFICATE REQUEST", &broken).to_string();
    let refused = [
        (format!("{pem}{}", "x".repeat(5_000 - pem.len())), "the CSR is longer than 4096 characters"),
        ("no CSR at all, just noise".to_owned(), "bad CSR"),
        (pem.replace("MI", "AA"), "the CSR"),
        (broken, "the CSR's signature does not fit its key"),
    ];
    for (id, (csr, sentence)) in (1..).zip(refused) {
        fixture.send(&json!({ "type": "unit", "id": id, "serial": "SN0000000001", "csr": csr }));
        let nak = fixture.expect(&json!({ "type": "nak", "id": id, "code": "bad-unit" }));
        assert!(nak["message"].as_str().unwrap().contains(sentence), "{sentence}: {nak}");
    }
    fixture.send(&json!({ "type": "unit", "id": 9, "serial": "SN0000000001", "csr": pem }));
    let credentials = fixture.until(&["credentials"]);
    assert!(credentials["private_key"].is_null());
    let certificate = credentials["certificate"].as_str().unwrap();
    let der = x509_parser::pem::Pem::iter_from_buffer(certificate.as_bytes()).next().unwrap().unwrap();
    let leaf = der.parse_x509().unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=SN0000000001");
    assert!(world.files("state/keys").is_empty(), "nobody here has made a key");
}
