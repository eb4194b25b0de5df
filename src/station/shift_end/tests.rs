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
        let admission = Admission::of("lamp", Fingerprint::of(b"rules"), presentation.clone());
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
    let lines = |name: &str| all[name].lines().collect::<Vec<_>>();
    let only = |list: &str| vec![("1/1".to_owned(), list.to_owned())];
    assert_eq!(lines("/a"), only("SN0012 SN0016 SN0020 SN0024 SN0028"));
    assert_eq!(lines("/b"), only("SN0010 SN0014 SN0018 SN0022 SN0026"));
    assert_eq!((lines("/c"), all["/c"].count), (only(""), 0));
    assert_eq!(all.len(), 3);
    // Before everything, after everything, all of it.
    for (from, to, count) in [(-100, 0, 0), (60, 100, 0), (-100, 100, 15), (59, 60, 0), (56, 57, 1)] {
        let all = delivered(&opened.store, vec![PathBuf::from("/a")], at(from), at(to)).unwrap();
        assert_eq!(all["/a"].count, count, "{from}..{to}");
    }
}

#[test]
fn a_long_list_goes_over_several_lines_and_leaves_nothing_out() {
    let serials: Vec<_> = (0..401).map(|it| format!("SN{it:04}")).collect();
    let mut it = Delivered { count: 401, serials: serials.clone() };
    let lines: Vec<_> = it.lines().collect();
    let parts: Vec<_> = lines.iter().map(|(part, list)| (part.as_str(), list.split(' ').count())).collect();
    assert_eq!(parts, [("1/3", 200), ("2/3", 200), ("3/3", 1)]);
    assert!(lines.iter().flat_map(|(_, list)| list.split(' ')).eq(&serials));
    // A full line is no reason for an empty one.
    it = Delivered { count: 400, serials: serials[..400].to_vec() };
    assert_eq!(it.lines().count(), 2);
    // More than all lines hold: the last one says how many.
    it.count = 1_000;
    let lines: Vec<_> = it.lines().map(|(_, list)| list).collect();
    assert!(lines[0].ends_with(" SN0199") && lines[1].ends_with(" SN0399 and 600 more"), "{lines:?}");
}

fn shift(name: &str, begin: i64, end: i64) -> ShiftSpan {
    let day = "2026-09-21".parse().unwrap();
    ShiftSpan { day, name: name.to_owned(), begin: at(begin), end: at(end), extra_minutes: 0 }
}

#[test]
fn a_shift_ends_once() {
    let span = |name: &str, begin: i64, end: i64| Some(shift(name, begin, end));
    let mut running = None;
    let mut look = |now: i64, present| ended(&mut running, present, at(now));
    // The station starts within it.
    assert_eq!(look(3, span("early", 0, 8)), None);
    assert_eq!(look(7, span("early", 0, 8)), None);
    assert_eq!(look(8, span("late", 8, 16)), span("early", 0, 8));
    assert_eq!(look(9, span("late", 8, 16)), None);
    // A gap ends a shift too.
    assert_eq!(look(17, None), span("late", 8, 16));
    assert_eq!(look(18, None), None);
    assert_eq!(look(24, span("early", 24, 32)), None);
    // The clock is set back: nothing has ended, whether a shift runs then or not.
    assert_eq!(look(10, span("late", 8, 16)), None);
    assert_eq!(look(6, None), None);
}

/// What watches a calendar of one shift a day, of four hours, in which the devices of [`journal`] pass; `now` and
/// what the journal ended with before this start are seconds as there.
fn watched(store: &Store, now: i64, last_seen: Option<i64>) -> ShiftEnd {
    // 1,790,000,000 is a Monday's 14:13:20 UTC.
    let time = |text| crate::shift::parse_time(text).unwrap();
    let early = crate::shift::Shift {
        name: "early".to_owned(),
        start: time("12:00"),
        end: time("16:00"),
        days: crate::shift::Days::ALL,
    };
    let calendar = crate::shift::Calendar { shifts: vec![early], ..crate::shift::Calendar::default() };
    ShiftEnd {
        store: store.clone(),
        clock: Arc::new(crate::clock::ManualClock::at(at(now))),
        plant: watch::channel(Arc::new(Plant { calendar, ..Plant::default() })).1,
        last_seen: last_seen.map(at),
        directories: vec![PathBuf::from("/a")],
    }
}

/// The lines of the first two looks after a start.
async fn told_after_a_start(watched: &ShiftEnd) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // The runtime of a test has one thread: what it logs is logged here.
    let _here = tracing::subscriber::set_default(subscriber);
    let mut running = watched.left_off();
    watched.look(&mut running).await;
    watched.look(&mut running).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_shift_that_ended_while_the_station_was_off_is_told_once_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let opened = journal(dir.path(), 3, |_| Some("/a"));
    // It ends at 6,400.
    let told = told_after_a_start(&watched(&opened.store, 7_000, Some(2))).await;
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["shift=\"early\"", "count=3", "SN0000 SN0001 SN0002"] {
        assert!(told[0].contains(part), "{part} is not in {told:?}");
    }
    // On Thursday, and in Thursday's shift.
    for now in [3 * 86_400 + 7_000, 3 * 86_400] {
        assert_eq!(told_after_a_start(&watched(&opened.store, now, Some(2))).await.len(), 1, "{now}");
    }
    // The same shift still; stopped after its end, when it had told it; a new journal; the clock set back.
    for (now, last_seen) in [(100, Some(2)), (7_000, Some(6_500)), (7_000, None), (-9_000, Some(2))] {
        let told = told_after_a_start(&watched(&opened.store, now, last_seen)).await;
        assert!(told.is_empty(), "{now}, {last_seen:?}: {told:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_shift_is_looked_for_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let opened = journal(dir.path(), 1, |_| Some("/a"));
    for (now, wait) in [(0, LOOK_EVERY), (6_393, Duration::from_secs(7)), (6_400, LOOK_EVERY)] {
        assert_eq!(watched(&opened.store, now, None).look(&mut None).await, wait, "{now}");
    }
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
        last_seen: None,
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
    for part in
        ["INFO", "shift=\"early\"", "directory=\"/a\"", "count=3", "part=\"1/1\"", "SN0000 SN0001 SN0002"]
    {
        assert!(lines[0].contains(part), "{part} is not in {text}");
    }
    assert!(lines[1].contains("directory=\"/b\"") && lines[1].contains("count=0"), "{text}");
}
