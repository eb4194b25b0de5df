//! The house stands as it was drawn: arrows run down the tiers, the core is pure, files are short.

mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use linemint::config::{Config, Files};

use self::source::Source;

/// Modules by their tier; the longest path that fits counts. What is in none of them is an error.
const TIERS: &[(&str, u8)] = &[
    ("clock", 0),
    ("error", 0),
    ("histogram", 0),
    ("sabotage", 0),
    ("batch", 1),
    ("device", 1),
    ("label", 1),
    ("line", 1),
    ("reconcile", 1),
    ("shift", 1),
    ("fixture", 1),
    ("fixture::port", 2),
    ("cloud", 1),
    ("cloud::aws", 2),
    ("cloud::pace", 2),
    ("pki", 1),
    ("pki::authority", 2),
    ("pki::issuer", 2),
    ("pki::pkcs11", 2),
    ("pki::request", 2),
    ("journal", 1),
    ("report", 1),
    ("report::keys", 2),
    ("journal::copy", 2),
    ("journal::keys", 2),
    ("journal::log", 2),
    ("journal::store", 2),
    ("control", 1),
    ("control::access", 2),
    ("control::aside", 2),
    ("control::backup", 2),
    ("control::batches", 2),
    ("control::board", 2),
    ("control::client", 2),
    ("control::commands", 2),
    ("control::connection", 2),
    ("control::devices", 2),
    ("control::door", 2),
    ("control::events", 2),
    ("control::farewell", 2),
    ("control::last_words", 2),
    ("control::listening", 2),
    ("control::guard", 2),
    ("control::metrics", 2),
    ("control::numbers", 2),
    ("control::openapi", 2),
    ("control::orders", 2),
    ("control::problem", 2),
    ("control::query", 2),
    ("control::reading", 2),
    ("control::reconcile", 2),
    ("control::report", 2),
    ("control::server", 2),
    ("control::sight", 2),
    ("control::socket", 2),
    ("control::tap", 2),
    ("cloud::handshake", 2),
    ("control::status", 2),
    ("config", 2),
    ("delivery", 2),
    ("durable_fs", 2),
    ("os", 2),
    ("hardening", 2),
    ("service_manager", 2),
    ("telemetry", 2),
    ("timesync", 2),
    ("station", 3),
    ("rehearsal", 3),
    ("doctor", 3),
    ("simulation", 3),
    ("cli", 4),
];

/// Adapters of one make: their parts may name each other.
const ADAPTERS: &[&[&str]] = &[
    &[
        "control::access",
        "control::aside",
        "control::backup",
        "control::batches",
        "control::board",
        "control::client",
        "control::commands",
        "control::connection",
        "control::devices",
        "control::door",
        "control::events",
        "control::farewell",
        "control::last_words",
        "control::listening",
        "control::guard",
        "control::metrics",
        "control::numbers",
        "control::openapi",
        "control::orders",
        "control::problem",
        "control::query",
        "control::reading",
        "control::reconcile",
        "control::report",
        "control::server",
        "control::sight",
        "control::socket",
        "control::tap",
        "control::status",
    ],
    &["pki::issuer", "pki::authority", "pki::pkcs11", "pki::request"],
];

/// Arrows that the drawing does not have, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "journal::keys",
        "durable_fs",
        "how a file becomes durable is said once, for every adapter that has one",
    ),
    ("delivery", "durable_fs", "the same"),
    ("report::keys", "durable_fs", "the same"),
    ("journal::store", "durable_fs", "the same"),
    ("journal::log", "durable_fs", "the same"),
    ("journal::copy", "journal::store", "a copy is made and put back under the journal's lock"),
    ("journal::copy", "journal::log", "what is copied is the log"),
    ("journal::store", "journal::copy", "the backup of a running station ends where its writer is"),
    ("journal::store", "journal::log", "sled is the index of the log"),
    ("control::reading", "journal::store", "the API's reading half is the journal's, of which there is one"),
    ("control::batches", "journal::store", "the same"),
    ("control::devices", "journal::store", "the same"),
    ("control::report", "journal::store", "the same"),
    ("control::server", "journal::store", "the same"),
    ("control::door", "os", "a peer's groups are asked for where all that has no safe interface is"),
];

/// What the pure core does not touch: waiting, disks, networks, clocks and chance.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UdpSocket",
    "std::thread",
    "std::env::",
    "process::exit",
    "process::Command",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "fastrand::u64(",
    "fastrand::f64(",
    "Rng::new()",
    "rustix::",
    "aws_sdk_",
];

const MAX_CODE_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    files.iter().map(|path| Source::read(&root().join("src"), path)).collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

/// The tier of a module, and the entry of the table that says so.
fn tier(module: &str) -> Option<(&'static str, u8)> {
    let within = |name: &str| module == name || module.starts_with(&format!("{name}::"));
    TIERS.iter().filter(|(name, _)| within(name)).max_by_key(|(name, _)| name.len()).copied()
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn every_module_has_a_tier() {
    let homeless = |it: &Source| !it.module.is_empty() && tier(&it.module).is_none();
    assert_none(&sources().iter().filter(|it| homeless(it)).map(|it| it.place(1)).collect::<Vec<_>>());
}

#[test]
fn arrows_run_down_the_tiers_and_adapters_never_name_each_other() {
    let mut violations = Vec::new();
    let mut unused: Vec<_> = EXCEPTIONS.iter().map(|(from, to, _)| (*from, *to)).collect();
    for source in sources() {
        let Some((from, height)) = tier(&source.module) else { continue };
        for (line, path) in source.imports() {
            let Some((to, depth)) = tier(&path) else { continue };
            let same_make = ADAPTERS.iter().any(|it| it.contains(&from) && it.contains(&to));
            if to == from || depth < height || same_make || depth == height && depth != 2 {
                continue;
            }
            match EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
                true => unused.retain(|it| *it != (from, to)),
                false => violations.push(format!(
                    "{}: {from} (T{height}) names {path} of {to} (T{depth})",
                    source.place(line)
                )),
            }
        }
    }
    violations
        .extend(unused.iter().map(|(from, to)| format!("{from} does not name {to} any more: remove it")));
    assert_none(&violations);
}

#[test]
fn the_core_and_every_mod_rs_below_the_station_are_pure() {
    let pure = |source: &Source| match tier(&source.module) {
        // Time, sleep and chance come from clock.rs: that is what it is for.
        Some((name, height)) => name != "clock" && (height <= 1 || height == 2 && source.is_mod_rs()),
        None => false,
    };
    let mut violations = Vec::new();
    for source in sources().iter().filter(|it| pure(it)) {
        for (line, text) in source.code() {
            let found = IMPURE.iter().filter(|it| text.contains(**it));
            violations.extend(found.map(|it| format!("{}: {it} in {}", source.place(line), text.trim())));
        }
    }
    assert_none(&violations);
}

#[test]
fn workers_see_traits_only() {
    let is_worker = |it: &Source| it.module == "station::worker";
    let sources = sources();
    let worker = sources.iter().find(|it| is_worker(it)).unwrap();
    let adapters = worker.imports().into_iter().filter(|(_, path)| tier(path).is_some_and(|(_, it)| it == 2));
    assert_none(&adapters.map(|(line, path)| format!("{}: {path}", worker.place(line))).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let long =
        sources().into_iter().map(|it| (it.code().filter(|(_, text)| source::counts(text)).count(), it));
    let long = long.filter(|(lines, _)| *lines > MAX_CODE_LINES);
    assert_none(&long.map(|(lines, it)| format!("{}: {lines} code lines", it.place(1))).collect::<Vec<_>>());
}

#[test]
fn nothing_but_two_calls_is_unsafe_and_no_lint_is_waved_through() {
    let banned = [concat!("uns", "afe "), concat!("#[al", "low("), concat!("#![al", "low(")];
    let mut violations = Vec::new();
    for source in sources() {
        let found = source.all().filter(|(_, text)| banned.iter().any(|it| text.contains(it)));
        let found: Vec<_> =
            found.map(|(line, text)| format!("{}: {}", source.place(line), text.trim())).collect();
        match source.module == "os" {
            true => assert_eq!(found.len(), 2, "{found:?}"),
            false => violations.extend(found),
        }
    }
    assert_none(&violations);
}

#[test]
fn no_file_names_a_place_on_the_machine_it_was_made_on() {
    let banned =
        [concat!("/wo", "rk/"), concat!("/tmp/", "wt"), concat!("/ro", "ot/"), concat!("/tmp/", "prompts")];
    let mut files = Vec::new();
    for name in ["src", "tests", "benches", "config", "docs", "systemd", ".ci"] {
        walk(&root().join(name), &mut files);
    }
    files.extend(["README.md", "Cargo.toml", "clippy.toml", "deny.toml"].map(|it| root().join(it)));
    let mut violations = Vec::new();
    for path in files {
        let text = fs::read(&path).unwrap_or_default();
        for (at, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            if banned.iter().any(|it| line.contains(it)) {
                violations.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert_none(&violations);
}

/// Keys and ports are not on this machine; the files beside the configuration are.
struct Shipped;

impl Files for Shipped {
    fn read(&self, path: &Path, _limit: u64) -> std::io::Result<Vec<u8>> {
        match path.extension().is_some_and(|it| it == "pem") {
            true => Ok(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec()),
            false => fs::read(path),
        }
    }

    fn exists(&self, _path: &Path) -> std::io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn every_shipped_configuration_is_right() {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("config")).unwrap().map(Result::unwrap) {
        let path = entry.path();
        // Messages are no configuration, but named by one; its own test reads them.
        let is_messages = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("messages."));
        if path.extension().is_some_and(|it| it == "toml") && !is_messages {
            let text = fs::read_to_string(&path).unwrap();
            let read = Config::parse(&text, &path, &Shipped);
            found.insert(path, read.map(|_| ()).map_err(|errors| errors.to_string()));
        }
    }
    assert!(found.len() >= 3, "{found:?}");
    assert!(found.values().all(Result::is_ok), "{found:#?}");
}
