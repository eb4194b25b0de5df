//! Devices that come back again and again: the index grows to a size and no further.

use super::*;
use crate::device::event::{CloseReason, Waited};

const DEVICES: u64 = 100;

/// A line that presents the same devices in each round, and whose fixture is reset after it.
struct Line {
    opened: Opened,
    devices: BTreeMap<u64, Device>,
    seq: u64,
}

impl Line {
    fn next(&mut self, number: u64, event: Event) -> Entry {
        self.seq += 1;
        let serial = SerialNumber::parse(&format!("S{number:06}")).unwrap();
        let at = AT.parse().unwrap();
        let before = self.devices.get(&number);
        let after = match before.cloned() {
            None => Device::admit(&serial, self.seq, at, &event),
            Some(mut it) => it.apply(self.seq, at, &event).map(|()| it),
        };
        let (after, state) = (after.unwrap(), before.map(|it| it.state));
        self.devices.insert(number, after.clone());
        let record = Record { seq: self.seq, at, serial: Some(serial), what: What::Device(event) };
        Entry { record, device: Some((Box::new(after), state)) }
    }

    fn round(&mut self, boot: u64) {
        let mut group = Vec::new();
        for number in 0..DEVICES {
            let presentation = PresentationKey { boot, ..key(self.seq) };
            let nest = Some("1".to_owned());
            if self.devices.contains_key(&number) {
                group.push(self.next(
                    number,
                    Event::Presented {
                        presentation,
                        nest,
                        mac: None,
                        anew: None,
                        attributes: Default::default(),
                    },
                ));
            } else {
                let Event::Admitted(admission) = admission(self.seq) else { unreachable!() };
                let admission = Admission { presentation, ..*admission };
                group.push(self.next(number, Event::Admitted(Box::new(admission))));
            }
            let presentation = self.devices[&number].presentation.key.clone();
            group.push(self.next(
                number,
                Event::Closed { presentation, why: CloseReason::NewUnit, waited: Waited::default() },
            ));
        }
        self.opened.writer.commit(group).unwrap();
        self.seq += 1;
        let reset = StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot: boot + 1 };
        self.opened.writer.commit(vec![station(self.seq, reset)]).unwrap();
        // What the index takes in at once is a round, and not what happened to wait.
        self.opened.store.devices(None, 1, |_| true).unwrap();
    }

    /// Rows by the letter that they begin with.
    fn rows(&self) -> BTreeMap<char, u64> {
        let mut rows = BTreeMap::new();
        for row in self.opened.store.db.iter().keys().map(Result::unwrap) {
            *rows.entry(char::from(row[0])).or_default() += 1;
        }
        rows
    }
}

#[test]
fn an_index_under_rework_grows_to_a_size_and_no_further() {
    const EIGHTH: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let opened = open_in(dir.path()).unwrap();
    let mut line = Line { opened, devices: BTreeMap::new(), seq: 0 };
    let mut sizes = Vec::new();
    for round in 1..=8 * EIGHTH {
        line.round(round);
        if round % EIGHTH == 0 {
            sizes.push(line.opened.store.db.size_on_disk().unwrap() >> 10);
        }
        if round % 100 == 0 {
            let rows = line.rows();
            let row = |letter| rows.get(&letter).copied().unwrap_or(0);
            assert_eq!(row('p'), 0, "presentations are forgotten at a reset");
            assert_eq!(row('d'), DEVICES);
            assert!(row('h') <= 3 * DEVICES, "{rows:?}");
            // One for 512 places of 16 KiB, and each file's last.
            assert!(row('l') <= line.opened.store.log_bytes() / (512 * (16 << 10)) + 2, "{rows:?}");
        }
    }
    // From the half on a device's numbers fill all the rows that they are ever given.
    let grown = sizes[7] as f64 / sizes[3] as f64;
    assert!(grown < 1.2 && sizes[7] < 8 << 10, "KiB after each eighth: {sizes:?}");
    let s0 = SerialNumber::parse("S000000").unwrap();
    let history = line.opened.store.history(&s0, 2000).unwrap();
    assert!((1024..=1600).contains(&history.len()), "{}", history.len());
    assert!(history.iter().all(|it| it.serial.as_ref() == Some(&s0)));
    assert_eq!(history.last().unwrap().seq, line.devices[&0].last_seq);
}
