//! The dependency policy of `deny.toml`, held without a tool of its own and without the network.

use std::collections::BTreeSet;
use std::process::Command;

const LICENSES: [&str; 15] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Name, first version that is allowed (none is, where there is none), why.
const BANNED: [(&str, Option<&str>, &str); 6] = [
    ("ring", None, "one crypto provider: aws-lc-rs"),
    ("openssl-sys", None, "one crypto provider: aws-lc-rs"),
    ("native-tls", None, "one TLS stack: rustls"),
    ("libudev-sys", None, "no libudev: ports are found in sysfs"),
    ("hyper", Some("1."), "one HTTP stack"),
    ("rustls", Some("0.23."), "one TLS stack"),
];

struct Package {
    name: String,
    version: String,
    license: String,
    /// Where it comes from, if not from crates.io.
    elsewhere: Option<String>,
}

/// Every package that is built into the binary or runs while it is built, as cargo resolves the
/// features (`cargo metadata` also names what no feature turns on).
fn built() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-e", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}|{l}", "--target", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo speaks UTF-8");
    let lines: BTreeSet<&str> = text.lines().map(|it| it.trim_end_matches(" (*)")).collect();
    lines
        .into_iter()
        .map(|line| {
            let (package, license) = line.split_once('|').expect("a package and its license");
            let mut words = package.split(' ').filter(|it| *it != "(proc-macro)");
            Package {
                name: words.next().unwrap_or_default().to_owned(),
                version: words.next().unwrap_or_default().trim_start_matches('v').to_owned(),
                license: license.to_owned(),
                elsewhere: words.next().map(str::to_owned),
            }
        })
        .collect()
}

/// Whether an SPDX expression can be met: by one of each `OR`, and all of each `AND`.
fn may_be_used(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = alternatives(&words);
    met && rest.is_empty()
}

fn alternatives<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = conjunction(words);
    while let ["OR", tail @ ..] = rest {
        let (other, tail) = conjunction(tail);
        met |= other;
        rest = tail;
    }
    (met, rest)
}

fn conjunction<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = license(words);
    while let ["AND", tail @ ..] = rest {
        let (other, tail) = license(tail);
        met &= other;
        rest = tail;
    }
    (met, rest)
}

fn license<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", tail @ ..] => {
            let (met, rest) = alternatives(tail);
            match rest {
                [")", rest @ ..] => (met, rest),
                rest => (false, rest),
            }
        }
        [name, "WITH", exception, rest @ ..] => {
            (LICENSES.contains(&format!("{name} WITH {exception}").as_str()), rest)
        }
        [name, rest @ ..] => (LICENSES.contains(name), rest),
        [] => (false, words),
    }
}

#[test]
fn every_license_may_be_used() {
    let bad: Vec<String> = built()
        .iter()
        .filter(|it| it.name != "linemint" && !may_be_used(&it.license))
        .map(|it| format!("{} {}: {:?}", it.name, it.version, it.license))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn an_expression_is_met_by_one_of_each_or_and_all_of_each_and() {
    for good in ["MIT", "GPL-3.0-only OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND ISC"] {
        assert!(may_be_used(good), "{good}");
    }
    for bad in ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT", "MIT WITH Bison-exception-2.2"] {
        assert!(!may_be_used(bad), "{bad}");
    }
}

#[test]
fn there_is_one_crypto_provider_one_http_stack_and_no_foreign_library() {
    let packages = built();
    assert!(packages.len() > 100, "the graph was read");
    for (name, allowed, why) in BANNED {
        for it in packages.iter().filter(|it| it.name == name) {
            let ok = allowed.is_some_and(|from| it.version.starts_with(from));
            assert!(ok, "{name} {} is built in: {why}", it.version);
        }
    }
}

#[test]
fn every_package_comes_from_crates_io() {
    for it in built().iter().filter(|it| it.name != "linemint") {
        assert_eq!(it.elsewhere, None, "{} {}", it.name, it.version);
    }
}
