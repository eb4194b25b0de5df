//! The life of a station's CA, with openssl as somebody else's judge of what is made.

use std::path::Path;
use std::process::Command;

use linemint::pki::authority::make_root;
use serde_json::{Value, json};

use crate::harness::{Mode, Process, World, linemint, merged, put};

/// Whether openssl is here; says aloud if it is not, since these tests then show less.
pub(crate) fn has_openssl(test: &str) -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|it| it.status.success());
    if !found {
        eprintln!("SKIPPED: {test}: openssl is not installed");
    }
    found
}

/// What openssl says; panics if it does not agree.
pub(crate) fn openssl(dir: &Path, args: &[&str]) -> String {
    let done = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&[&done.stdout[..], &done.stderr[..]].concat()).into_owned();
    assert!(done.status.success(), "openssl {args:?}: {said}");
    said
}

fn run(args: &[&str]) -> (i32, String, String) {
    Process::run(&mut linemint(args))
}

/// A company's root by openssl in `dir`, and the CSR in `dir/line` signed by it with `extensions`.
fn signed(dir: &Path, extensions: &str) {
    if !dir.join("root.pem").exists() {
        let root = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout root.key -out root.pem \
                    -days 3000 -subj /O=Company/CN=Root -addext basicConstraints=critical,CA:TRUE \
                    -addext keyUsage=critical,keyCertSign,cRLSign";
        openssl(dir, &root.split_whitespace().collect::<Vec<_>>());
    }
    put(&dir.join("ext"), extensions.as_bytes());
    let sign = "x509 -req -in line/ca.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2000 \
                -extfile ext -out signed.pem";
    openssl(dir, &sign.split_whitespace().collect::<Vec<_>>());
}

const CA: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
                  subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// That openssl takes a device's certificates at its strictest, under the root in `dir`.
fn openssl_verifies(dir: &Path, chain: &str) {
    let end = "-----END CERTIFICATE-----\n";
    let (leaf, above) = chain.split_at(chain.find(end).unwrap() + end.len());
    put(&dir.join("leaf.pem"), leaf.as_bytes());
    put(&dir.join("above.pem"), above.as_bytes());
    let verify = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "above.pem",
        "leaf.pem",
    ];
    assert!(openssl(dir, &verify).contains("leaf.pem: OK"));
    let text = openssl(dir, &["x509", "-in", "leaf.pem", "-noout", "-text"]);
    for part in ["CA:FALSE", "TLS Web Client Authentication", "Digital Signature", "Issuer: CN = Line 3"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_ca_under_the_companys_root_is_made_registered_and_issues_what_openssl_verifies() {
    if !has_openssl("the life of a CA") {
        return;
    }
    let over = "[product.thermostat.certificate]\nregister = \"with-ca\"\n[pki]\nca_certificate = \"line/ca.pem\"\n\
                ca_key = \"line/ca.key\"\n";
    let mut world = World::new(over);
    let dir = world.path("");
    let line = world.path("line");
    let (status, csr, log) = run(&["ca", "csr", "--dir", line.to_str().unwrap(), "--common-name", "Line 3"]);
    assert_eq!(status, 0, "{log}");
    assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----") && !log.contains("PRIVATE KEY"));
    let text = openssl(&dir, &["req", "-in", "line/ca.csr", "-noout", "-text", "-verify"]);
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("CN = Line 3"), "{text}");
    signed(&dir, CA);
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let import = ["ca", "import", "--dir", &path("line"), &path("signed.pem"), &path("root.pem")];
    let (status, out, log) = run(&import);
    assert_eq!(status, 0, "{log}");
    assert!(out.contains("issuer       O=Company, CN=Root"), "{out}");

    // Not registered: told. Then registered, with the proof of the key; the second time is like the first.
    let aws = |args: &[&str]| {
        let config = path("linemint.toml");
        let mut command = linemint(&[args, &["--config", &config]].concat());
        Process::run(command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "secret"))
    };
    let known = || -> Value {
        let (status, out, log) = aws(&["ca", "show", "--json"]);
        assert_eq!(status, 0, "{log}");
        serde_json::from_str::<Value>(&out).unwrap()["cas"][0].clone()
    };
    assert_eq!(known()["aws"], json!({ "registered": false }));
    let doctored = || {
        let (_, out, log) = aws(&["doctor", "--json"]);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{log}"));
        let checks = report["checks"].as_array().unwrap().iter();
        checks.clone().find(|it| it["id"] == "ca-registered").unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert!(doctored().ends_with("is not registered in the account"), "{}", doctored());
    // A device that comes too early waits for it, and the sentence says what to do.
    let mut fixture = world.presented("SN0000000001");
    world.eventually("the line says why it waits", |world| {
        let status = world.get("/v1/status").map_err(|it| it.to_string())?.to_string();
        let told = status.contains("CN=Line 3, ") && status.contains("`linemint ca register`");
        if told { Ok(()) } else { Err(status) }
    });
    for word in ["registered", "was registered before"] {
        let (status, out, log) = aws(&["ca", "register"]);
        assert_eq!(status, 0, "{log}");
        assert!(out.starts_with(&format!("CN=Line 3: {word}, active, mode DEFAULT, arn:aws:iot:")), "{out}");
    }
    let (status, _, log) = aws(&["ca", "register", "--mode", "SNI_ONLY"]);
    assert!(status == 1 && log.contains("is registered already, in mode DEFAULT"), "{log}");
    let shown = known();
    assert_eq!(
        (&shown["aws"]["active"], &shown["subject"], &shown["key"]),
        (&json!(true), &json!("CN=Line 3"), &json!("P-256"))
    );

    // What it issues is taken by AWS, and by openssl at its strictest.
    let credentials = fixture.expect(&json!({ "type": "credentials", "id": 1, "serial": "SN0000000001" }));
    let sha256 = &credentials["certificate_sha256"];
    fixture
        .send(&json!({ "type": "written", "id": 1, "serial": "SN0000000001", "certificate_sha256": sha256 }));
    fixture.expect(&json!({ "type": "pass", "id": 1, "serial": "SN0000000001" }));
    assert!(doctored().contains("is registered and active"), "{}", doctored());
    world.assert_audit(&["SN0000000001"]);
    openssl_verifies(&dir, credentials["certificate"].as_str().unwrap());
}

#[test]
fn a_certificate_that_is_no_ca_for_the_station_is_not_imported() {
    if !has_openssl("bad certificates") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    assert_eq!(run(&["ca", "csr", "--dir", &path("line")]).0, 0);
    let refused = |sentence: &str| {
        let import = ["ca", "import", "--dir", &path("line"), &path("signed.pem"), &path("root.pem")];
        let (status, out, log) = run(&import);
        assert_eq!((status, out.as_str()), (1, ""), "{log}");
        assert!(log.contains(sentence), "{log}");
        assert!(!dir.join("line/ca.pem").exists());
    };
    signed(dir, "basicConstraints=critical,CA:FALSE\n");
    refused("is not a CA's certificate");
    signed(dir, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n");
    refused("may not sign certificates");
    signed(dir, "basicConstraints=critical,CA:TRUE\nextendedKeyUsage=serverAuth\n");
    refused("does not verify against the CA");
    // RSA of 1,024 bits, which AWS IoT would not take either.
    let weak = "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out signed.pem -days 100 -subj /CN=weak";
    openssl(dir, &weak.split_whitespace().collect::<Vec<_>>());
    let alone = ["ca", "import", "--dir", &path("line"), &path("signed.pem")];
    let (status, _, log) = run(&alone);
    assert!(status == 1 && log.contains("has 1024 bits"), "{log}");
    signed(dir, CA);
    let backwards = ["ca", "import", "--dir", &path("line"), &path("root.pem"), &path("signed.pem")];
    let (status, _, log) = run(&backwards);
    assert!(status == 1 && log.contains("the CA's file is out of order"), "{log}");
}

#[test]
fn a_ca_that_provisions_at_the_first_connection_says_so_and_an_old_one_that_is_over_hides_nothing() {
    let world = World::new("");
    let config = world.path("linemint.toml");
    let aws = |args: &[&str]| {
        let mut command = linemint(&[args, &["--config", config.to_str().unwrap()]].concat());
        Process::run(command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "secret"))
    };
    for word in ["registered", "was registered before"] {
        let (status, out, log) = aws(&["ca", "register", "--jitp-template", "lamps"]);
        assert!(status == 0 && out.contains(word), "{out}{log}");
    }
    let (_, out, log) = aws(&["ca", "show"]);
    assert!(out.contains("registered, active, mode DEFAULT, the first connection registers"), "{out}{log}");
    let old = make_root("Line 3, the first", "1990-01-01T00:00:00Z".parse().unwrap()).unwrap();
    put(&world.path("old.pem"), old.certificate_pem.as_bytes());
    let before = std::fs::read_to_string(&config).unwrap();
    put(&config, merged(&before, "[pki.previous]\nca_certificate = \"old.pem\"\n").as_bytes());
    let (status, out, log) = aws(&["ca", "show"]);
    assert_eq!(status, 0, "{log}");
    assert!(out.starts_with("issuing ") && out.contains("previous     of no use: "), "{out}");
    let (_, out, _) = aws(&["ca", "show", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["cas"][0]["role"], &shown["cas"][1]["role"]), (&json!("issuing"), &json!("previous")));
    assert!(shown["cas"][1]["message"].as_str().unwrap().contains("old.pem cannot issue: "), "{shown}");
}

#[test]
fn in_sni_only_mode_no_proof_is_needed_and_a_sleeping_ca_is_woken() {
    let mut world = World::new("");
    let config = world.path("linemint.toml");
    let aws = |args: &[&str]| {
        let mut command = linemint(&[args, &["--config", config.to_str().unwrap()]].concat());
        Process::run(command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "secret"))
    };
    // Somebody else has registered it and left it asleep.
    let pem = std::fs::read_to_string(world.path("ca/ca.pem")).unwrap();
    world.seed("/cacertificate", &json!({ "caCertificate": pem, "certificateMode": "SNI_ONLY" }));
    let (_, out, log) = aws(&["ca", "show"]);
    assert!(out.contains("AWS          registered, NOT active, mode SNI_ONLY"), "{out}{log}");
    let (status, out, log) = aws(&["ca", "register", "--mode", "SNI_ONLY"]);
    assert_eq!(status, 0, "{log}");
    assert!(out.contains("was registered before and is woken, active, mode SNI_ONLY"), "{out}");
    // It has no template, and a registration that is there is given none.
    let templated = ["ca", "register", "--mode", "SNI_ONLY", "--jitp-template", "lamps"];
    let (status, _, log) = aws(&templated);
    assert!(status == 1 && log.contains("update-ca-certificate --certificate-id"), "{log}");
    assert!(log.contains("--registration-config templateName=lamps"), "{log}");
    // Offline, nobody is asked.
    let (status, out, _) = aws(&["ca", "show", "--offline"]);
    assert!(status == 0 && !out.contains("AWS"), "{out}");
    // Out of reach is not unknown.
    world.set_cloud(Mode::Off);
    let (status, out, log) = aws(&["ca", "show"]);
    assert!(status == 0 && out.contains("AWS          could not be asked: "), "{out}{log}");
}

/// Systemd hands a credential to the service alone: whoever registers the CA at a shell has none.
#[test]
fn a_ca_whose_key_is_a_credential_is_registered_without_the_key_or_says_how_to_hand_it_over() {
    let world = World::new("[pki]\nca_certificate = \"ca/ca.pem\"\nca_key = \"credential:ca.key\"\n");
    let config = world.path("linemint.toml");
    let register = |args: &[&str], credentials: Option<&Path>| {
        let mut command =
            linemint(&[&["ca", "register", "--config", config.to_str().unwrap()], args].concat());
        command.env_remove("CREDENTIALS_DIRECTORY");
        command.envs(credentials.map(|it| ("CREDENTIALS_DIRECTORY", it)));
        Process::run(command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "secret"))
    };
    let (status, _, log) = register(&[], None);
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("set CREDENTIALS_DIRECTORY") && log.contains("or use --mode SNI_ONLY"), "{log}");
    let (status, out, log) = register(&["--mode", "SNI_ONLY"], None);
    assert!(status == 0 && out.contains(": registered, active, mode SNI_ONLY"), "{out}{log}");
    let other = World::new("[pki]\nca_certificate = \"ca/ca.pem\"\nca_key = \"credential:ca.key\"\n");
    let config = other.path("linemint.toml");
    let mut command = linemint(&["ca", "register", "--config", config.to_str().unwrap()]);
    command.env("CREDENTIALS_DIRECTORY", other.path("ca"));
    let (status, out, log) =
        Process::run(command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "secret"));
    assert!(status == 0 && out.contains(": registered, active, mode DEFAULT"), "{out}{log}");
}
