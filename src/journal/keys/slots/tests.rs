use super::*;

fn certificate(number: u32) -> Fingerprint {
    Fingerprint::of(&number.to_be_bytes())
}

fn sealed(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(60)
}

fn key(number: u32) -> (Fingerprint, Vec<u8>) {
    (certificate(number), sealed(number))
}

fn open(dir: &Path) -> Slots {
    Slots::open(dir.join("nest.slots")).unwrap()
}

fn store(slots: &Slots, numbers: impl IntoIterator<Item = u32>) {
    slots.store(&numbers.into_iter().map(key).collect::<Vec<_>>()).unwrap();
}

#[test]
fn whatever_is_stored_and_destroyed_it_is_what_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let mut slots = open(dir.path());
    let mut model: BTreeSet<u32> = BTreeSet::new();
    let mut next = 0;
    for round in 0..300 {
        match random.u32(0..10) {
            0..5 => {
                let many = random.u32(1..40);
                store(&slots, next..next + many);
                model.extend(next..next + many);
                next += many;
            }
            5..9 => {
                let many = random.usize(0..60);
                let gone: Vec<u32> = random.choose_multiple(model.iter().copied(), many);
                let named: Vec<_> = gone.iter().map(|it| certificate(*it)).collect();
                assert!(slots.destroy(&named).is_empty());
                model.retain(|it| !gone.contains(it));
            }
            _ => {
                drop(slots);
                slots = open(dir.path());
            }
        }
        assert_eq!(slots.known().len(), model.len());
        assert_eq!(count(slots.path()).unwrap(), model.len());
        if round % 20 == 0 {
            for number in 0..next {
                let there = slots.load(&certificate(number)).unwrap();
                assert_eq!(there, model.contains(&number).then(|| sealed(number)), "{number}");
            }
        }
    }
    assert!(next > 1_000, "{next}");
}

#[test]
fn what_a_cut_has_torn_is_held_by_nobody_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    store(&slots, 0..3);
    let path = slots.path().to_owned();
    drop(slots);
    let whole = std::fs::read(&path).unwrap();
    let second = &whole[SLOT..2 * SLOT];
    let length = HEAD + sealed(1).len() + 4;
    let torn = (1..length).flat_map(|cut| {
        let begun = [&second[..cut], &[0; SLOT][cut..]].concat();
        let ended = [&[0; SLOT][..cut], &second[cut..]].concat();
        [begun, ended]
    });
    for page in torn.chain([vec![0xff; SLOT]]) {
        durable_fs::replace(&path, 0o600, &[&whole[..SLOT], &page, &whole[2 * SLOT..]].concat()).unwrap();
        let slots = open(dir.path());
        let is_whole = page == second;
        assert_eq!(slots.load(&certificate(1)).unwrap(), is_whole.then(|| sealed(1)));
        assert_eq!(count(&path).unwrap(), 3);
        for other in [0, 2] {
            assert_eq!(slots.load(&certificate(other)).unwrap(), Some(sealed(other)));
        }
        let free = slots.room();
        slots.clear_broken();
        assert_eq!(
            (count(&path).unwrap(), slots.room()),
            (2 + usize::from(is_whole), free + usize::from(!is_whole))
        );
    }
}

#[test]
fn it_grows_and_gives_back_and_takes_no_more_than_there_is_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    assert!(!slots.path().exists(), "nothing is made before the first key");
    assert_eq!(slots.room(), MOST as usize);
    let length = || slots.path().metadata().unwrap().len();
    store(&slots, 0..1);
    assert_eq!(length(), place(GROWTH));
    store(&slots, 1..GROWTH * 3);
    assert_eq!(length(), place(GROWTH * 3));
    let most: Vec<_> = (GROWTH * 3..=MOST).map(key).collect();
    assert_eq!(slots.room(), most.len() - 1);
    assert!(slots.store(&most).is_err());
    let known: Vec<_> = (2..GROWTH * 3).map(certificate).collect();
    assert!(slots.destroy(&known).is_empty());
    let again = open(dir.path());
    assert_eq!(length(), place(GROWTH));
    assert_eq!(again.load(&certificate(1)).unwrap(), Some(sealed(1)));
    assert_eq!(again.room(), MOST as usize - 2);
}

#[test]
fn a_file_that_is_deleted_while_it_is_open_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    store(&slots, 0..2);
    std::fs::remove_file(slots.path()).unwrap();
    assert_eq!(slots.load(&certificate(0)).unwrap(), None);
    store(&slots, 5..6);
    assert_eq!(slots.load(&certificate(0)).unwrap(), None);
    assert_eq!(open(dir.path()).load(&certificate(5)).unwrap(), Some(sealed(5)));
    assert!(slots.destroy(&[certificate(0), certificate(5)]).is_empty());
    assert_eq!(count(slots.path()).unwrap(), 0);
    std::fs::remove_file(slots.path()).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), slots.path()).unwrap();
    assert!(slots.store(&[key(7)]).is_err());
    assert!(matches!(Slots::open(slots.path().to_owned()), Err(Unopened::Io(_))));
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn what_cannot_be_written_leaves_nothing_stored_and_what_cannot_be_cleared_keeps_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    store(&slots, 0..2);
    // A descriptor that may only be read stands in for a disk that refuses.
    let writable = slots.state().file.replace(Arc::new(File::open(slots.path()).unwrap())).unwrap();
    assert!(slots.store(&[key(2)]).is_err());
    assert!(
        matches!(&slots.destroy(&[certificate(0), certificate(7)])[..], [(it, _)] if *it == certificate(0))
    );
    assert_eq!(slots.known().len(), 2);
    slots.state().file = Some(writable);
    assert_eq!(slots.load(&certificate(0)).unwrap(), Some(sealed(0)));
    assert!(slots.destroy(&[certificate(0), certificate(1)]).is_empty());
    assert_eq!(count(slots.path()).unwrap(), 0);
}

#[test]
fn a_place_that_cannot_be_cleared_holds_up_no_other() {
    let cleared = std::cell::RefCell::new(BTreeSet::new());
    let clear = |numbers: &[u32]| {
        if numbers.contains(&2) {
            return Err(io::Error::other("a bad block"));
        }
        cleared.borrow_mut().extend(numbers);
        Ok(())
    };
    let failed = clear_each(&[1, 2, 3], clear);
    assert_eq!(failed.into_keys().collect::<Vec<_>>(), [2]);
    assert_eq!(*cleared.borrow(), BTreeSet::from([1, 3]));
    assert!(clear_each(&[4, 5], clear).is_empty());
}

#[test]
fn a_file_that_was_moved_or_replaced_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    store(&slots, 0..2);
    let moved = dir.path().join("moved");
    std::fs::rename(slots.path(), &moved).unwrap();
    assert_eq!(slots.load(&certificate(0)).unwrap(), None);
    store(&slots, 5..6);
    assert_eq!((count(slots.path()).unwrap(), count(&moved).unwrap()), (1, 2));
    // Put back, it is what the next key is stored beside.
    std::fs::rename(&moved, slots.path()).unwrap();
    store(&slots, 6..7);
    assert_eq!(slots.load(&certificate(0)).unwrap(), Some(sealed(0)));
    assert_eq!(HashMap::<_, _>::from_iter(slots.known().into_iter().map(|it| (it, ()))).len(), 3);
    assert_eq!(slots.load(&certificate(5)).unwrap(), None);
}

#[test]
fn a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    store(&slots, 0..1);
    let mut bytes = std::fs::read(slots.path()).unwrap();
    // A flipped bit is no later version, and costs that one key.
    bytes[7] = 2;
    durable_fs::replace(slots.path(), 0o600, &bytes).unwrap();
    assert_eq!(count(slots.path()).unwrap(), 1);
    assert!(open(dir.path()).known().is_empty());
    let end = HEAD + sealed(0).len();
    let crc = crc32fast::hash(&bytes[..end]).to_be_bytes();
    bytes[end..end + 4].copy_from_slice(&crc);
    durable_fs::replace(slots.path(), 0o600, &bytes).unwrap();
    assert!(matches!(Slots::open(slots.path().to_owned()), Err(Unopened::OtherVersion)));
    assert_eq!(std::fs::read(slots.path()).unwrap(), bytes);
}

#[test]
fn version_1_is_read_for_ever() {
    let mut page = [0; SLOT];
    let head = [&b"keyslot\x01"[..], &[0xab; 32], &[0, 3], b"key", &[0x38, 0x46, 0x05, 0x33]].concat();
    page[..head.len()].copy_from_slice(&head);
    assert!(
        matches!(read(&page), Held::Key(it, sealed) if it == Fingerprint::from_bytes([0xab; 32]) && sealed == b"key")
    );
}
