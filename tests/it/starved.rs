//! A station that lacks what it needs of the system.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use linemint::rehearsal::fixture::{FixtureOptions, SimulatedFixture, serials};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;

use crate::harness::{PATIENCE, World, open_many_files};

fn fixture(world: &World, serials: &[String]) -> SimulatedFixture {
    world.simulated(FixtureOptions {
        nests: 8,
        resend: Duration::from_millis(300),
        link: Some(world.path("nest-1.tty")),
        ..FixtureOptions::new(serials.to_vec())
    })
}

/// Waits for the fixture's end. Each unit has passed with one certificate.
fn assert_done(world: &World, fixture: &SimulatedFixture) {
    let done = world.within(PATIENCE * 3, fixture.wait_done());
    let report = fixture.report();
    assert!(done.is_some() && report.is_clean(), "{report:#?}");
}

#[test]
fn sixty_four_open_files_are_enough() {
    let mut world = World::new("[[fixture]]\nresend = \"300ms\"\n");
    let serials = serials(21, 40);
    let fixture = fixture(&world, &serials);
    world.start_after("ulimit -n 64");
    assert_done(&world, &fixture);
    world.assert_audit(&serials);
}

/// Clients that connect and say nothing, and connect again as soon as they are dropped.
struct Silent {
    over: Arc<AtomicBool>,
    crowd: JoinHandle<usize>,
}

impl Silent {
    const CLIENTS: usize = 200;

    fn at(socket: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let crowd = std::thread::spawn(move || {
            let connect = || {
                let client = UnixStream::connect(&socket).expect("the socket is there");
                client.set_nonblocking(true).expect("a socket need not block");
                client
            };
            let mut clients: Vec<_> = (0..Self::CLIENTS).map(|_| connect()).collect();
            let mut dropped = 0;
            while !told.load(Ordering::Relaxed) {
                for client in &mut clients {
                    if matches!(client.read(&mut [0; 64]), Ok(0)) {
                        dropped += 1;
                        *client = connect();
                    }
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
            dropped
        });
        Self { over, crowd }
    }

    /// They all go. How many of them the station has dropped.
    fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.crowd.join().expect("the crowd goes")
    }
}

#[test]
fn clients_that_say_nothing_take_no_open_file_from_the_devices() {
    open_many_files();
    let mut world = World::new("[[fixture]]\nresend = \"300ms\"\n");
    let serials = serials(23, 60);
    world.start_after("ulimit -n 64");
    world.station().stderr.wait_for("few files may be open");
    world.becomes("/v1/status", "/counts/passed", &json!(0));
    let silent = Silent::at(world.path("api.sock"));
    let fixture = fixture(&world, &serials);
    assert_done(&world, &fixture);
    silent.end();
    world.assert_audit(&serials);
    // Who comes after them is served.
    world.becomes("/v1/status", "/counts/passed", &json!(60));
    let log = world.station().stderr.text();
    for short_of_files in ["Too many open files", "cannot accept", "os error 24"] {
        assert!(!log.contains(short_of_files), "{log}");
    }
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let mut world = World::new("");
    world.start_after("ulimit -n 512; ulimit -Sn 64");
    let told = world.station().stderr.wait_for("open files suffice");
    assert!(told.contains("limit=\"512\"") && told.contains("connections=64"), "{told}");
}

#[test]
fn a_write_that_stops_in_the_middle_ends_the_station_and_costs_no_device() {
    let mut world = World::new("[[fixture]]\nresend = \"300ms\"\n");
    let serials = serials(22, 60);
    let fixture = fixture(&world, &serials);
    // A full disk without a disk: what would make a file longer than this fails, after the part that
    // fits was written. The signal that comes with it is ignored.
    world.start_after("trap '' XFSZ");
    let mut progress = fixture.progress();
    world.within(PATIENCE, progress.wait_for(|it| it.passed >= 10)).unwrap().unwrap();
    // It stands still while it is looked: else all might be done before the room ends.
    let station = Pid::from_raw(i32::try_from(world.station().pid()).unwrap());
    world.station().signal(Signal::STOP);
    // The log's file has room ahead, which reads as zeros.
    let end = |log: &Path| std::fs::read(log).unwrap().iter().rposition(|it| *it != 0).unwrap_or(0) as u64;
    let written = world.files("state/journal/log").iter().map(|it| end(it)).max().unwrap();
    let room = Some(written + 100);
    prlimit(station, Resource::Fsize, Rlimit { current: room, maximum: room }).unwrap();
    world.station().signal(Signal::CONT);
    let (status, log) = world.ended();
    assert_eq!(status, 74, "{log}");
    assert!(log.contains("nothing more can be promised"), "{log}");
    assert!(fixture.progress().borrow().passed < serials.len(), "it went on without a disk");

    world.start();
    assert_done(&world, &fixture);
    world.assert_audit(&serials);
    let (status, out, log) = world.command(&["journal", "verify"]);
    assert_eq!(status, 0, "{out}{log}");
}
