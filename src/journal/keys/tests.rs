use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::error::Chain;

const SECRET: &[u8] = b"not really a private key, but as secret as one";

fn certificate(name: &str) -> Fingerprint {
    Fingerprint::of(name.as_bytes())
}

fn seal_key(byte: u8) -> SealKey {
    SealKey::from_bytes([byte; 32])
}

fn open_store(dir: &Path, prefix: &str) -> KeyStore {
    KeyStore::open(dir.join("keys"), prefix, seal_key(7)).unwrap()
}

/// Too long for a slot, so that it lies in a file.
fn secret() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(SECRET.repeat(100))
}

/// As long as those that a station makes.
fn short() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(SECRET.to_vec())
}

fn files(store: &KeyStore) -> Vec<PathBuf> {
    store.dir.read_dir().unwrap().map(|it| it.unwrap().path()).collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_long_key_lives_sealed_in_a_file_of_its_own_until_it_is_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let [a, b] = ["a", "b"].map(certificate);
    store.store_many(vec![(a, secret()), (b, secret())]).unwrap();

    assert_eq!(mode(&store.dir), 0o700);
    for path in files(&store) {
        assert_eq!(mode(&path), 0o600);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(8).any(|it| SECRET.windows(8).any(|secret| secret == it)));
    }
    assert!(store.dir.join(format!("nest-{a}.key")).is_file());
    let reopened = open_store(dir.path(), "nest");
    assert_eq!(reopened.load(&a).unwrap(), Some(secret()));

    assert!(reopened.destroy_many(&[a]).unwrap().is_empty());
    assert_eq!(reopened.load(&a).unwrap(), None);
    assert_eq!(reopened.load(&b).unwrap(), Some(secret()));
    assert_eq!(files(&store).len(), 1);
}

#[test]
fn a_key_is_overwritten_before_its_name_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    store.store_many(vec![(certificate("a"), secret())]).unwrap();
    let path = store.path(&certificate("a"));
    let witness = dir.path().join("witness");
    std::fs::hard_link(&path, &witness).unwrap();
    let before = std::fs::read(&witness).unwrap();
    assert!(store.destroy_many(&[certificate("a")]).unwrap().is_empty());
    let after = std::fs::read(&witness).unwrap();
    assert!(!path.exists());
    assert_eq!(after.len(), before.len());
    assert!(before.chunks(16).zip(after.chunks(16)).filter(|(old, new)| old == new).count() <= 1);
}

#[test]
fn destroying_what_is_not_there_is_done_already() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    store.store_many(vec![(certificate("a"), secret())]).unwrap();
    assert!(
        store.destroy_many(&[certificate("gone"), certificate("a"), certificate("a")]).unwrap().is_empty()
    );
    assert!(store.destroy_many(&[]).unwrap().is_empty());
    assert!(files(&store).is_empty());
}

#[test]
fn a_short_key_lies_in_a_slot_and_what_an_earlier_version_has_filed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let [a, b, old, long] = ["a", "b", "old", "long"].map(certificate);
    // As the version before had it.
    let sealed = sealing::seal(&seal_key(7), &old, SECRET).unwrap();
    durable_fs::create_new(&store.path(&old), 0o600, &sealed).unwrap();
    store.store_many(vec![(a, short()), (long, secret()), (b, short())]).unwrap();
    let slots = dir.path().join("keys/nest.slots");
    assert_eq!((mode(&slots), files(&store).len()), (0o600, 3));
    let bytes = std::fs::read(&slots).unwrap();
    assert!(!bytes.windows(8).any(|it| SECRET.windows(8).any(|secret| secret == it)));
    assert_eq!(stored_in(&store.dir, |_| true).unwrap(), 4);
    assert_eq!(stored_in(&store.dir, |it| it.starts_with("other")).unwrap(), 0);
    assert_eq!(stored_in(&dir.path().join("none"), |_| true).unwrap(), 0);
    for taken in [a, old, long] {
        let refused = store.store_many(vec![(certificate("c"), short()), (taken, short())]).unwrap_err();
        assert!(matches!(refused, KeyStoreError::Store { source: FileError::Exists { .. }, .. }));
    }
    let twice = vec![(certificate("c"), short()), (certificate("c"), short())];
    assert!(store.store_many(twice).is_err());
    drop(store);

    let store = open_store(dir.path(), "nest");
    for it in [a, b, old] {
        assert_eq!(store.load(&it).unwrap(), Some(short()));
    }
    assert_eq!(store.load(&certificate("c")).unwrap(), None);
    let other = KeyStore::open(dir.path().join("keys"), "nest", seal_key(8)).unwrap();
    assert!(matches!(other.load(&a), Err(KeyStoreError::OtherSealKey { .. })));
    assert_eq!(HashSet::from_iter(store.sweep(&HashSet::from([b, long])).unwrap()), HashSet::from([a, old]));
    assert!(store.destroy_many(&[long, certificate("gone"), b]).unwrap().is_empty());
    assert_eq!(stored_in(&store.dir, |_| true).unwrap(), 0);
    assert!(std::fs::read(&slots).unwrap().iter().all(|it| *it == 0), "overwritten");
}

#[test]
fn a_second_key_for_a_certificate_is_refused_and_the_batch_undone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let [a, b, c] = ["a", "b", "c"].map(certificate);
    store.store_many(vec![(b, secret())]).unwrap();
    let other = Zeroizing::new(vec![1; 40]);
    let error = store.store_many(vec![(a, other.clone()), (b, other.clone()), (c, other)]).unwrap_err();
    assert!(matches!(error, KeyStoreError::Store { source: FileError::Exists { .. }, .. }));
    assert_eq!(store.load(&b).unwrap(), Some(secret()));
    assert_eq!(files(&store).len(), 1);
    let long = Zeroizing::new(vec![0; MAX_PRIVATE_KEY_LEN + 1]);
    assert!(matches!(store.store_many(vec![(a, long)]), Err(KeyStoreError::TooLong { .. })));
}

#[test]
fn every_changed_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let a = certificate("a");
    store.store_many(vec![(a, secret())]).unwrap();
    let path = store.path(&a);
    let whole = std::fs::read(&path).unwrap();
    for i in 0..whole.len() {
        let mut changed = whole.clone();
        changed[i] ^= 1;
        durable_fs::replace(&path, 0o600, &changed).unwrap();
        let error = store.load(&a).unwrap_err();
        let as_expected = match i {
            0..7 => matches!(error, KeyStoreError::Damaged { .. }),
            7 => matches!(error, KeyStoreError::OtherVersion { .. }),
            8..16 => matches!(error, KeyStoreError::OtherSealKey { .. }),
            _ => matches!(error, KeyStoreError::Damaged { .. }),
        };
        assert!(as_expected, "byte {i}: {error}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    let endless = vec![whole[0]; MAX_SEALED_LEN + 10];
    for bad in [&longer, &endless] {
        durable_fs::replace(&path, 0o600, bad).unwrap();
        assert!(matches!(store.load(&a), Err(KeyStoreError::Damaged { .. })));
    }
    durable_fs::replace(&path, 0o600, &whole).unwrap();
    assert_eq!(store.load(&a).unwrap(), Some(secret()));
}

#[test]
fn a_file_cannot_stand_in_for_another_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let [a, b] = ["a", "b"].map(certificate);
    store.store_many(vec![(a, secret())]).unwrap();
    std::fs::rename(store.path(&a), store.path(&b)).unwrap();
    assert!(matches!(store.load(&b), Err(KeyStoreError::Damaged { .. })));
}

#[test]
fn another_seal_key_opens_nothing_and_is_named_as_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    open_store(dir.path(), "nest").store_many(vec![(certificate("a"), secret())]).unwrap();
    let other = KeyStore::open(dir.path().join("keys"), "nest", seal_key(8)).unwrap();
    assert!(matches!(other.load(&certificate("a")), Err(KeyStoreError::OtherSealKey { .. })));
}

/// Version 1, never to be edited: a station must open what an older linemint sealed. Made from
/// the table in `sealing`'s docs with another AES-GCM than ours (Python's `cryptography`).
#[test]
fn version_1_is_read_for_ever() {
    let sealed = concat!(
        "6c696e656b657901475cab2ea4ec28936465666768696a6b6c6d6e6fe4c8ea0e5ddd4690803304bee76f7b48",
        "00952de8091d096601b92e6e1afff7b8afca11359c0c8c3289730bc038980fa3c8c9cacbcccdcecfd0d1d2d3",
        "7f1715fbf4a99a4c18453fdf3e76997d96e698cd2400cd5dc1895994aeb1ca9aecff4fc5e07a5e8a538c64c8",
        "de723b0ebe2ca1ca7e3b4526afc75b072838"
    );
    let bytes: Vec<u8> =
        (0..sealed.len()).step_by(2).map(|i| u8::from_str_radix(&sealed[i..i + 2], 16).unwrap()).collect();
    assert_eq!(sealing::open(&seal_key(7), &certificate("v1"), &bytes), Ok(short()));
}

#[test]
fn what_a_crash_leaves_is_an_error_to_load_and_can_be_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let [kept, empty, cut, whole] = ["kept", "empty", "cut", "whole"].map(certificate);
    store.store_many(vec![(kept, secret()), (cut, secret()), (whole, secret())]).unwrap();
    let sealed = std::fs::read(store.path(&cut)).unwrap();
    durable_fs::create_new(&store.path(&empty), 0o600, b"").unwrap();
    for length in [1, 7, 8, 15, 16, 17, 75, 76, 80, 100, sealed.len() - 1] {
        durable_fs::replace(&store.path(&cut), 0o600, &sealed[..length]).unwrap();
        assert!(matches!(store.load(&cut), Err(KeyStoreError::Damaged { .. })), "{length}");
    }
    assert!(matches!(store.load(&empty), Err(KeyStoreError::Damaged { .. })));

    let swept = store.sweep(&HashSet::from([kept, certificate("not stored")])).unwrap();
    assert_eq!(HashSet::from_iter(swept), HashSet::from([empty, cut, whole]));
    assert_eq!(files(&store), [store.path(&kept)]);
    assert_eq!(store.load(&kept).unwrap(), Some(secret()));
}

#[test]
fn a_broken_file_can_be_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    durable_fs::create_new(&store.path(&certificate("a")), 0o600, b"").unwrap();
    durable_fs::create_new(&store.path(&certificate("b")), 0o600, &[0; 5000]).unwrap();
    assert!(store.destroy_many(&[certificate("a"), certificate("b")]).unwrap().is_empty());
    assert!(files(&store).is_empty());
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["L3", "L3-S07"].map(|it| open_store(dir.path(), it));
    let a = certificate("a");
    theirs.store_many(vec![(a, secret())]).unwrap();
    let digits = a.to_string();
    for name in [
        format!("L3-{digits}.key.bak"),
        format!("L3-{}.key", digits.to_uppercase()),
        format!("L3{digits}.key"),
        "L3-.key".to_owned(),
        "notes.txt".to_owned(),
    ] {
        durable_fs::create_new(&ours.dir.join(name), 0o600, b"theirs").unwrap();
    }
    let before = files(&ours).len();
    assert_eq!(ours.sweep(&HashSet::new()).unwrap(), []);
    assert_eq!(files(&ours).len(), before);
    assert_eq!(theirs.load(&a).unwrap(), Some(secret()));
    assert_eq!(ours.load(&a).unwrap(), None);
}

#[test]
fn a_link_in_place_of_a_key_is_neither_followed_nor_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), "nest");
    let target = dir.path().join("target");
    durable_fs::create_new(&target, 0o600, b"precious").unwrap();
    let [link, other] = ["link", "other"].map(certificate);
    std::os::unix::fs::symlink(&target, store.path(&link)).unwrap();
    store.store_many(vec![(other, secret())]).unwrap();
    assert!(matches!(store.load(&link), Err(KeyStoreError::Read { .. })));
    let kept = store.destroy_many(&[link, other]).unwrap();
    assert!(matches!(&kept[..], [(it, KeyStoreError::Destroy { .. })] if *it == link));
    assert_eq!(store.load(&other).unwrap(), None, "one that fails does not keep the others");
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}

#[test]
fn a_prefix_must_fit_a_file_name() {
    let dir = tempfile::tempdir().unwrap();
    for prefix in ["", "a/b", "..", "ä", &"x".repeat(65)] {
        let error = KeyStore::open(dir.path().join("keys"), prefix, seal_key(7)).unwrap_err();
        assert!(matches!(error, KeyStoreError::Prefix { .. }));
    }
    assert!(!dir.path().join("keys").exists());
}

#[test]
fn a_seal_key_is_made_once_and_only_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    assert!(matches!(SealKey::load_or_create(&path, false), Err(SealKeyError::Missing { .. })));
    assert!(!path.exists());
    let made = SealKey::load_or_create(&path, true).unwrap();
    assert_eq!((mode(&path), path.metadata().unwrap().len()), (0o600, 32));
    let sealed = sealing::seal(&made, &certificate("a"), SECRET).unwrap();
    for may_create in [true, false] {
        let loaded = SealKey::load_or_create(&path, may_create).unwrap();
        assert_eq!(sealing::open(&loaded, &certificate("a"), &sealed), Ok(short()));
    }
    let other = SealKey::load_or_create(&dir.path().join("other"), true).unwrap();
    assert_eq!(sealing::open(&other, &certificate("a"), &sealed), Err(Unopened::OtherSealKey));
}

#[test]
fn a_seal_key_of_another_length_or_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    for length in [0, 31] {
        durable_fs::replace(&path, 0o600, &vec![1; length]).unwrap();
        let error = SealKey::load_or_create(&path, true).unwrap_err();
        assert!(matches!(error, SealKeyError::Length { length: it, .. } if it == length));
    }
    durable_fs::replace(&path, 0o600, &[1; 33]).unwrap();
    let error = SealKey::load_or_create(&path, true).unwrap_err();
    assert!(matches!(error, SealKeyError::Read(FileError::TooLong { .. })));
    durable_fs::replace(&path, 0o640, &[1; 32]).unwrap();
    let error = SealKey::load_or_create(&path, true).unwrap_err();
    let text = Chain(&error).to_string();
    assert!(text.contains("mode 0640 lets others read it"), "{text}");
}

#[test]
fn no_key_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("{:?}", open_store(dir.path(), "nest"));
    assert!(store.contains("SealKey(..)") && !store.contains("7, 7"), "{store}");
}
