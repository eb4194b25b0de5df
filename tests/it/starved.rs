//! A station that lacks what it needs of the system.

use std::path::Path;
use std::time::Duration;

use linemint::rehearsal::fixture::{FixtureOptions, SimulatedFixture, serials};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{PATIENCE, World};

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
    let done = world.within(PATIENCE, fixture.wait_done());
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
    // The log's file has room ahead, which reads as zeros.
    let end = |log: &Path| std::fs::read(log).unwrap().iter().rposition(|it| *it != 0).unwrap_or(0) as u64;
    let written = world.files("state/journal/log").iter().map(|it| end(it)).max().unwrap();
    let station = Pid::from_raw(i32::try_from(world.station().pid()).unwrap());
    let room = Some(written + 100);
    prlimit(station, Resource::Fsize, Rlimit { current: room, maximum: room }).unwrap();
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
