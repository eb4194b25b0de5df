use crate::device::event::{Admission, PresentationKey, Waited};
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, Device, KeyState};
use crate::journal::store::{JournalLock, Opened, open};
use crate::journal::{Entry, Journal as _, Record};
use crate::pki::Fingerprint;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// A journal in which one device passes each second, from 0 on; `directory` says where it was delivered.
fn journal(dir: &std::path::Path, count: i64, directory: impl Fn(i64) -> Option<&'static str>) -> Opened {
    let mut opened = open(JournalLock::take(dir).unwrap()).unwrap();
    let mut seq = 0;
    for second in 0..count {
        let serial = SerialNumber::parse(&format!("SN{second:04}")).unwrap();
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: second as u64 + 1 };
        let certificate = Certificate {
            fingerprint: Fingerprint::of(serial.as_str().as_bytes()),
            der: vec![1],
            serial_number: "01".to_owned(),
            not_after: at(1_000_000),
            key: KeyState::Sealed,
            arn: None,
            public_key: None,
            issuer: None,
        };
        let admission = Admission {
            product: "lamp".to_owned(),
            rules: Fingerprint::of(b"rules"),
            batch: None,
            extra: false,
            presentation: presentation.clone(),
            nest: None,
            mac: None,
            device_key: None,
            request: None,
            attributes: BTreeMap::new(),
            replaces_policy: None,
            replaces_thing: None,
        };
        let step = crate::device::steps::Step::Thing;
        let output = crate::device::event::Output::Nothing;
        let done = Event::StepDone { step, output, adopted: false, request_id: None };
        let passed = Event::Passed {
            presentation,
            directory: directory(second).map(str::to_owned),
            label: false,
            waited: Waited::default(),
        };
        let mut device: Option<Device> = None;
        let mut entries = Vec::new();
        for event in [Event::Admitted(Box::new(admission)), done, Event::Issued { certificate }, passed] {
            seq += 1;
            let before = device.as_ref().map(|it| it.state);
            let now = match device.take() {
                None => Device::admit(&serial, seq, at(second), &event).unwrap(),
                Some(mut it) => {
                    it.apply(seq, at(second), &event).unwrap();
                    it
                }
            };
            let record =
                Record { seq, at: at(second), serial: Some(serial.clone()), what: What::Device(event) };
            entries.push(Entry { record, device: Some((Box::new(now.clone()), before)) });
            device = Some(now);
        }
        opened.writer.commit(entries).unwrap();
    }
    opened
}

#[test]
fn it_lists_what_was_delivered_in_the_shift_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let opened = journal(dir.path(), 60, |it| (it % 2 == 0).then_some(if it % 4 == 0 { "/a" } else { "/b" }));
    let directories = vec![PathBuf::from("/a"), PathBuf::from("/c")];
    let all = delivered(&opened.store, directories, at(10), at(30)).unwrap();
    let list = |name: &str| all[name].list();
    assert_eq!(list("/a"), "SN0012 SN0016 SN0020 SN0024 SN0028");
    assert_eq!(list("/b"), "SN0010 SN0014 SN0018 SN0022 SN0026");
    assert_eq!((list("/c").as_str(), all["/c"].count), ("", 0));
    assert_eq!(all.len(), 3);
    // Before everything, after everything, all of it.
    for (from, to, count) in [(-100, 0, 0), (60, 100, 0), (-100, 100, 15), (59, 60, 0), (56, 57, 1)] {
        let all = delivered(&opened.store, vec![PathBuf::from("/a")], at(from), at(to)).unwrap();
        assert_eq!(all["/a"].count, count, "{from}..{to}");
    }
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let mut it = Delivered { count: 3, serials: vec!["A".to_owned(), "B".to_owned()] };
    assert_eq!(it.list(), "A B and 1 more");
    it.count = 2;
    assert_eq!(it.list(), "A B");
}

fn shift(name: &str, begin: i64, end: i64) -> ShiftSpan {
    let day = "2026-09-21".parse().unwrap();
    ShiftSpan { day, name: name.to_owned(), begin: at(begin), end: at(end), extra_minutes: 0 }
}

#[test]
fn a_shift_ends_once() {
    let span = |name: &str, begin: i64, end: i64| Some(shift(name, begin, end));
    let mut running = None;
    // The station starts within it.
    assert_eq!(ended(&mut running, span("early", 0, 8)), None);
    assert_eq!(ended(&mut running, span("early", 0, 8)), None);
    assert_eq!(ended(&mut running, span("late", 8, 16)), span("early", 0, 8));
    assert_eq!(ended(&mut running, span("late", 8, 16)), None);
    // A gap ends a shift too.
    assert_eq!(ended(&mut running, None), span("late", 8, 16));
    assert_eq!(ended(&mut running, None), None);
    assert_eq!(ended(&mut running, span("early", 24, 32)), None);
    // The clock is set back: nothing has ended.
    assert_eq!(ended(&mut running, span("late", 8, 16)), None);
}

/// What is logged, for a test to read.
#[derive(Debug, Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_line_names_shift_directory_number_and_serials() {
    let dir = tempfile::tempdir().unwrap();
    let opened = journal(dir.path(), 3, |_| Some("/a"));
    let watched = ShiftEnd {
        store: opened.store.clone(),
        clock: Arc::new(crate::clock::ManualClock::at(at(0))),
        plant: watch::channel(Arc::default()).1,
        directories: vec![PathBuf::from("/a"), PathBuf::from("/b")],
    };
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // The runtime of a test has one thread: what it logs is logged here.
    let _here = tracing::subscriber::set_default(subscriber);
    watched.tell(shift("early", 0, 10)).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("the shift has ended: credentials delivered"), "{text}");
    for part in ["INFO", "shift=\"early\"", "directory=\"/a\"", "count=3", "SN0000 SN0001 SN0002"] {
        assert!(lines[0].contains(part), "{part} is not in {text}");
    }
    assert!(lines[1].contains("directory=\"/b\"") && lines[1].contains("count=0"), "{text}");
}
