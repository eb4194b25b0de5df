//! The entry points that `fuzz/` fuzzes, over their seeds and over what chance makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::harness::PATIENCE;

#[path = "../../fuzz/entry/mod.rs"]
mod entry;

/// Damaged seeds for each target: what time allows in every test run.
const CASES: u32 = 150;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(corpus(target)).unwrap().map(Result::unwrap);
    let mut seeds: Vec<_> =
        files.map(|it| (it.file_name().into_string().unwrap(), fs::read(it.path()).unwrap())).collect();
    seeds.sort();
    seeds
}

#[test]
fn every_seed_of_the_frame_decoder_is_read() {
    let seeds = seeds("frames");
    assert!(seeds.len() >= 50, "{}", seeds.len());
    let lines: usize = seeds.iter().map(|(_, bytes)| entry::frames::frames(bytes)).sum();
    assert!(lines > 400, "{lines}");
}

#[test]
fn each_scenario_has_its_seed() {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    for scenario in fs::read_dir(scenarios).unwrap().map(Result::unwrap).filter(|it| it.path().is_dir()) {
        let name = scenario.file_name().into_string().unwrap();
        let target = if name.starts_with("scanner_") { "scanner" } else { "frames" };
        let seed = corpus(target).join(name);
        assert!(seed.is_file(), "run fuzz/seeds.py: there is no {}", seed.display());
    }
}

/// Nothing here builds the fuzz targets, but they need each crate that the entry points name.
#[test]
fn the_targets_package_has_what_the_entry_points_need() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest =
        |path: &str| -> toml::Table { fs::read_to_string(root.join(path)).unwrap().parse().unwrap() };
    let (own, fuzz) = (manifest("Cargo.toml"), manifest("fuzz/Cargo.toml"));
    let names = ["dependencies", "dev-dependencies"].map(|it| own[it].as_table().unwrap().keys());
    let text: String = ["api", "frames", "scanner"]
        .map(|it| fs::read_to_string(root.join("fuzz/entry").join(it).with_extension("rs")).unwrap())
        .concat();
    let is_used = |name: &&String| {
        let path = format!("{}::", name.replace('-', "_"));
        // Not the end of another path or name.
        let is_inside = |it: char| it == ':' || it == '_' || it.is_alphanumeric();
        text.match_indices(&path).any(|(at, _)| !text[..at].ends_with(is_inside))
    };
    let missing: Vec<_> = names
        .into_iter()
        .flatten()
        .filter(is_used)
        .filter(|it| fuzz["dependencies"].get(it.as_str()).is_none())
        .collect();
    assert!(missing.is_empty(), "fuzz/Cargo.toml lacks {missing:?}");
}

#[test]
fn every_seed_of_the_scanner_is_read() {
    let units: usize = seeds("scanner").iter().map(|(_, bytes)| entry::scanner::scanner(bytes)).sum();
    assert!(units >= 6, "{units}");
}

#[test]
fn every_seed_of_the_api_is_answered() {
    let seeds = seeds("api");
    assert!(seeds.len() >= 18);
    for (name, bytes) in seeds {
        // What the fuzzer has found may be half a request, which nobody answers; it is named by its hash.
        let is_found = name.len() == 40 && name.bytes().all(|it| it.is_ascii_hexdigit());
        if is_found {
            entry::api::api(&bytes);
        } else {
            assert!(!entry::api::answered(&bytes, PATIENCE).is_empty(), "{name} has no answer");
        }
    }
}

/// A seed with some bytes changed, a piece of another seed put in, and its end cut off.
fn damaged(seeds: &[Vec<u8>], how: &(Index, Index, Vec<(Index, u8)>, Index, Index)) -> Vec<u8> {
    let (which, other, changes, at, end) = how;
    let mut bytes = which.get(seeds).clone();
    for (at, value) in changes.iter().filter(|_| !which.get(seeds).is_empty()) {
        *at.get_mut(&mut bytes) = *value;
    }
    let piece = other.get(seeds);
    let at = at.index(bytes.len() + 1);
    let piece = &piece[..end.index(piece.len() + 1)];
    bytes.splice(at..at, piece.iter().copied());
    bytes.truncate(end.index(bytes.len() + 1).max(at));
    bytes
}

fn chance() -> impl Strategy<Value = (Index, Index, Vec<(Index, u8)>, Index, Index)> {
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    (any::<Index>(), any::<Index>(), changes, any::<Index>(), any::<Index>())
}

fn over_damaged_seeds(target: &str, entry: impl Fn(&[u8])) {
    let seeds: Vec<_> = seeds(target).into_iter().map(|it| it.1).collect();
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&chance(), |how| {
        entry(&damaged(&seeds, &how));
        Ok(())
    });
    run.unwrap();
}

#[test]
fn damaged_frames_are_read_alike_however_they_are_cut() {
    over_damaged_seeds("frames", |bytes| {
        entry::frames::frames(bytes);
    });
}

#[test]
fn damaged_scans_present_nothing_that_was_not_read() {
    over_damaged_seeds("scanner", |bytes| {
        entry::scanner::scanner(bytes);
    });
}

#[test]
fn damaged_requests_come_to_an_end() {
    over_damaged_seeds("api", |bytes| {
        entry::api::api(bytes);
    });
}
