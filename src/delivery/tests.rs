use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::*;

const AT: Timestamp = Timestamp::constant(1_790_000_000, 0);

fn credentials(serial: &str, certificate: &str) -> Credentials {
    Credentials {
        id: 0,
        serial: serial.to_owned(),
        thing: format!("thing-{serial}"),
        certificate: certificate.to_owned(),
        certificate_sha256: Fingerprint::of(certificate.as_bytes()).to_string(),
        private_key: Some(Zeroizing::new(format!("key of {certificate}"))),
        ca: Some("the roots".to_owned()),
        endpoint: Some("abc-ats.iot.eu-west-1.amazonaws.com".to_owned()),
        locker_id: None,
    }
}

fn hand(directory: &Path, it: &Credentials) -> Result<(), DeliveryError> {
    hand_at(directory, it, AT)
}

fn hand_at(directory: &Path, it: &Credentials, at: Timestamp) -> Result<(), DeliveryError> {
    deliver(directory, &Handed { station: "L3-S07", product: "thermostat", at, credentials: it })
}

/// Every name below a directory with its mode and content, a folder's being empty.
fn tree(directory: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut to_do = vec![directory.to_owned()];
    while let Some(next) = to_do.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, mode) = (entry.path(), entry.metadata().unwrap().permissions().mode() & 0o7777);
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
            all.push((name, mode, content));
            if path.is_dir() {
                to_do.push(path);
            }
        }
    }
    all.sort();
    all
}

fn names(directory: &Path) -> Vec<String> {
    tree(directory).into_iter().map(|(name, ..)| name).collect()
}

#[test]
fn a_delivery_is_closed_to_others_and_its_manifest_tells_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    hand(dir.path(), &credentials("SN1", "cert")).unwrap();
    let all = tree(dir.path());
    for (name, mode, content) in &all {
        assert_eq!(*mode, if name == "SN1" { 0o700 } else { 0o600 }, "{name} {content:?}");
    }
    let files = ["SN1", "SN1/ca.pem", "SN1/certificate.pem", "SN1/manifest.json", "SN1/private_key.pem"];
    assert_eq!(names(dir.path()), files);
    let manifest: Manifest =
        serde_json::from_slice(&fs::read(dir.path().join("SN1/manifest.json")).unwrap()).unwrap();
    assert_eq!((manifest.serial.as_str(), manifest.thing.as_str()), ("SN1", "thing-SN1"));
    assert_eq!((manifest.station.as_str(), manifest.product.as_str()), ("L3-S07", "thermostat"));
    assert_eq!((manifest.at, manifest.format, manifest.locker_id), (AT, 1, None));
    assert_eq!(manifest.fingerprint, Fingerprint::of(b"cert").to_string());
    assert_eq!(manifest.files.len(), 3);
    for (name, sha256) in &manifest.files {
        let content = fs::read(dir.path().join("SN1").join(name)).unwrap();
        assert_eq!(sha256.as_str().unwrap(), Fingerprint::of(&content).to_string(), "{name}");
    }
}

#[test]
fn without_a_key_of_the_stations_there_is_no_key_file() {
    let dir = tempfile::tempdir().unwrap();
    let it = Credentials { private_key: None, ca: None, ..credentials("SN1", "cert") };
    hand(dir.path(), &it).unwrap();
    assert_eq!(names(dir.path()), ["SN1", "SN1/certificate.pem", "SN1/manifest.json"]);
}

#[test]
fn the_same_delivery_again_changes_nothing_whenever_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let it = credentials("SN1", "cert");
    hand(dir.path(), &it).unwrap();
    let before = (tree(dir.path()), fs::metadata(dir.path().join("SN1/private_key.pem")).unwrap().ino());
    hand_at(dir.path(), &it, Timestamp::constant(1_800_000_000, 0)).unwrap();
    assert_eq!(
        (tree(dir.path()), fs::metadata(dir.path().join("SN1/private_key.pem")).unwrap().ino()),
        before
    );
    // What somebody has taken away comes back, the rest stays.
    fs::remove_file(dir.path().join("SN1/private_key.pem")).unwrap();
    hand(dir.path(), &it).unwrap();
    assert_eq!(tree(dir.path()), before.0);
}

#[test]
fn a_renewal_goes_beside_and_the_manifest_names_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, third) = (credentials("SN1", "a"), credentials("SN1", "b"), credentials("SN1", "c"));
    hand(dir.path(), &first).unwrap();
    let before = tree(dir.path());
    for it in [&second, &second, &third, &third] {
        hand(dir.path(), it).unwrap();
    }
    let after = tree(dir.path());
    for old in before.iter().filter(|(name, ..)| name != "SN1/manifest.json") {
        assert!(after.contains(old), "{} is not what it was", old.0);
    }
    let manifest: Manifest =
        serde_json::from_slice(&fs::read(dir.path().join("SN1/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest.fingerprint, third.certificate_sha256);
    assert_eq!(manifest.previous, [first.certificate_sha256, second.certificate_sha256]);
    for (name, sha256) in &manifest.files {
        assert!(name.starts_with(&third.certificate_sha256), "{name}");
        let content = fs::read(dir.path().join("SN1").join(name)).unwrap();
        assert_eq!(sha256.as_str().unwrap(), Fingerprint::of(&content).to_string());
    }
    for (name, mode, content) in after {
        let is_file = name.contains('.');
        assert_eq!(mode, if is_file { 0o600 } else { 0o700 }, "{name} {content:?}");
    }
}

#[test]
fn a_crash_at_any_moment_of_a_delivery_is_taken_up() {
    // What a crash can leave of the first delivery: a part under the temporary name.
    let dir = tempfile::tempdir().unwrap();
    let it = credentials("SN1", "a");
    for left in [&[][..], &["certificate.pem"], &["certificate.pem", "private_key.pem", "ca.pem", MANIFEST]] {
        let temporary = dir.path().join(temporary_name("L3-S07", "SN1"));
        fs::create_dir(&temporary).unwrap();
        for name in left {
            durable_fs::create_new(&temporary.join(name), FILE_MODE, b"half").unwrap();
        }
        hand(dir.path(), &it).unwrap();
        assert_eq!(names(dir.path()).len(), 5);
        fs::remove_dir_all(dir.path().join("SN1")).unwrap();
    }
    // Of a renewal: the folder is there, the manifest names the one before.
    hand(dir.path(), &it).unwrap();
    let second = credentials("SN1", "b");
    let manifest = fs::read(dir.path().join("SN1/manifest.json")).unwrap();
    hand(dir.path(), &second).unwrap();
    let whole = tree(dir.path());
    durable_fs::replace(&dir.path().join("SN1/manifest.json"), FILE_MODE, &manifest).unwrap();
    hand(dir.path(), &second).unwrap();
    assert_eq!(tree(dir.path()), whole);
}

#[test]
fn a_start_removes_what_is_half_and_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("out");
    prepare(&directory, "A").unwrap();
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    for (station, name) in [("A", "SN1"), ("A-B", "SN2"), ("AB", "SN3")] {
        fs::create_dir(directory.join(temporary_name(station, name))).unwrap();
    }
    hand(&directory, &credentials("SN9", "a")).unwrap();
    prepare(&directory, "A").unwrap();
    let left: BTreeSet<_> = names(&directory).into_iter().filter(|it| it.starts_with('.')).collect();
    assert_eq!(left, BTreeSet::from([temporary_name("A-B", "SN2"), temporary_name("AB", "SN3")]));
    let deep = dir.path().join("not/mounted");
    assert!(matches!(prepare(&deep, "A"), Err(DeliveryError::Missing { .. })));
    assert!(!dir.path().join("not").exists());
}

/// The system's folders, until the power goes: after so many attempts nothing is done any more.
struct Until(std::cell::Cell<usize>);

impl Until {
    fn goes_on(&self) -> io::Result<()> {
        let left = self.0.get().checked_sub(1).ok_or(io::ErrorKind::Interrupted)?;
        self.0.set(left);
        Ok(())
    }

    fn of_file(&self, path: &Path) -> Result<(), FileError> {
        self.goes_on().map_err(failed("write", path))
    }
}

impl Folders for Until {
    fn is_dir(&self, path: &Path) -> bool {
        SystemFolders.is_dir(path)
    }

    fn is_taken(&self, path: &Path) -> bool {
        SystemFolders.is_taken(path)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        SystemFolders.names(directory)
    }

    fn read(&self, path: &Path) -> io::Result<Content> {
        SystemFolders.read(path)
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        self.goes_on().and_then(|()| SystemFolders.make(directory))
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), FileError> {
        self.of_file(path)?;
        SystemFolders.write(path, content)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), FileError> {
        self.of_file(path)?;
        SystemFolders.replace(path, content)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.goes_on().and_then(|()| SystemFolders.rename(from, to))
    }

    fn sync(&self, directory: &Path) -> Result<(), FileError> {
        self.of_file(directory)?;
        SystemFolders.sync(directory)
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        self.goes_on().and_then(|()| SystemFolders.remove(directory))
    }
}

#[test]
fn a_start_removes_what_a_crash_has_left_of_a_later_certificate_or_of_a_file_that_was_put_back() {
    let key_of = |content: &[u8], it: &Credentials| {
        it.private_key.as_ref().is_some_and(|key| key.as_bytes() == content)
    };
    for put_back in [false, true] {
        let (mut cut_off, mut left_a_key) = (0, false);
        loop {
            let dir = tempfile::tempdir().unwrap();
            let (first, second) = (credentials("SN1", "a"), credentials("SN1", "b"));
            hand(dir.path(), &first).unwrap();
            let mut it = &second;
            if put_back {
                fs::remove_file(dir.path().join("SN1/private_key.pem")).unwrap();
                it = &first;
            }
            let handed =
                Handed { station: "L3-S07", product: "lamp", at: Timestamp::UNIX_EPOCH, credentials: it };
            let done = deliver_on(&Until(cut_off.into()), dir.path(), &handed).is_ok();
            cut_off += 1;
            left_a_key |= tree(dir.path())
                .iter()
                .any(|(name, _, content)| name.contains(".linemint~") && key_of(content, it));
            prepare(dir.path(), "L3-S07").unwrap();
            for (name, ..) in tree(dir.path()) {
                assert!(!name.split('/').any(|it| it.starts_with('.')), "{name} is left");
            }
            if done {
                break;
            }
            // The same again takes it up.
            deliver_on(&SystemFolders, dir.path(), &handed).unwrap();
            let there = tree(dir.path());
            assert!(there.iter().any(|(_, _, content)| key_of(content, it)));
        }
        assert!(left_a_key, "or the crash came at no moment that matters");
    }
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let it = credentials("SN1", "a");
    let gone = dir.path().join("gone");
    assert!(matches!(hand(&gone, &it), Err(DeliveryError::Missing { .. })));
    // A folder without a manifest, a file, a dangling link, another device's folder.
    fs::create_dir(dir.path().join("SN1")).unwrap();
    assert!(matches!(hand(dir.path(), &it), Err(DeliveryError::Foreign { .. })));
    fs::remove_dir(dir.path().join("SN1")).unwrap();
    durable_fs::create_new(&dir.path().join("SN1"), 0o600, b"").unwrap();
    assert!(matches!(hand(dir.path(), &it), Err(DeliveryError::Foreign { .. })));
    fs::remove_file(dir.path().join("SN1")).unwrap();
    symlink("nowhere", dir.path().join("SN1")).unwrap();
    assert!(matches!(hand(dir.path(), &it), Err(DeliveryError::Foreign { .. })));
    assert!(!dir.path().join("nowhere").exists());
    fs::remove_file(dir.path().join("SN1")).unwrap();
    hand(dir.path(), &credentials("SN2", "a")).unwrap();
    fs::rename(dir.path().join("SN2"), dir.path().join("SN1")).unwrap();
    let before = tree(dir.path());
    assert!(matches!(hand(dir.path(), &it), Err(DeliveryError::Foreign { .. })));
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn a_file_that_was_changed_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let it = credentials("SN1", "a");
    hand(dir.path(), &it).unwrap();
    let key = dir.path().join("SN1/private_key.pem");
    durable_fs::replace(&key, 0o600, b"another").unwrap();
    let error = hand(dir.path(), &it).unwrap_err();
    assert!(matches!(&error, DeliveryError::Changed { path } if *path == key), "{error}");
    assert_eq!(fs::read(&key).unwrap(), b"another");
}

#[test]
fn a_delivery_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    // A name that is too long for a file system, as a disk that is full would be.
    let it = credentials("SN1", "a");
    let place = dir.path().join("x".repeat(300));
    let put = put_folder(&SystemFolders, &temporary(dir.path(), &place, "L3-S07"), &place, &files(&it));
    assert!(matches!(put, Err(DeliveryError::File(_))));
    assert_eq!(tree(dir.path()), []);
}

proptest! {
    #[test]
    fn every_serial_number_has_a_folder_of_its_own(a in "[!-~]{1,128}", b in "[!-~]{1,128}") {
        for serial in [&a, &b] {
            let name = folder_name(serial);
            prop_assert!((1..=MAX_NAME).contains(&name.len()));
            prop_assert!(!name.starts_with('.') && !name.contains(['/', '~', '\\']), "{name}");
            prop_assert!(name.bytes().all(|it| it.is_ascii_graphic()));
        }
        prop_assert_eq!(a == b, folder_name(&a) == folder_name(&b));
    }
}

#[test]
fn ordinary_serial_numbers_are_their_folders_names() {
    for (serial, name) in [
        ("LM0123-4_5.6", "LM0123-4_5.6"),
        (".", "%2E"),
        ("..", "%2E."),
        ("../x", "%2E.%2Fx"),
        ("%41", "%2541"),
        ("a:b", "a%3Ab"),
    ] {
        assert_eq!(folder_name(serial), name);
    }
}
