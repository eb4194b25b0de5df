//! What keeps the station from its work is journaled when it lasts.

use std::time::Duration;

use super::harness::Harness;
use super::setup::{unit, unit_in};
use crate::cloud::{ACCOUNT, HeldBack};
use crate::device::operator::Order;
use crate::journal::{Cause, StationEvent};
use crate::line::Input;

fn told(h: &Harness) -> Vec<(Cause, Option<String>, bool)> {
    let told = |it: &StationEvent| match it {
        StationEvent::Hindered { cause, of, .. } => Some((*cause, of.clone(), true)),
        StationEvent::Unhindered { cause, of } => Some((*cause, of.clone(), false)),
        _ => None,
    };
    h.shelf.station_events.iter().filter_map(told).collect()
}

#[test]
fn a_full_disk_is_journaled_after_five_seconds_with_its_beginning_and_when_it_is_over() {
    let mut h = Harness::ready();
    let full = || Some("the disk is nearly full".to_owned());
    let began = h.now.wall;
    let disk = |h: &Harness| told(h).into_iter().filter(|it| it.0 == Cause::Disk).collect::<Vec<_>>();
    h.input(Input::Gate(full()));
    h.seconds(4);
    h.input(Input::Gate(full()));
    h.input(Input::Gate(None));
    assert!(disk(&h).is_empty(), "a moment");
    h.input(Input::Gate(full()));
    for _ in 0..10 {
        h.seconds(1);
        h.input(Input::Gate(full()));
    }
    assert_eq!(disk(&h), [(Cause::Disk, None, true)], "once");
    h.input(Input::Gate(None));
    assert_eq!(disk(&h), [(Cause::Disk, None, true), (Cause::Disk, None, false)]);
    let since = h.shelf.station_events.iter().find_map(|it| match it {
        StationEvent::Hindered { cause: Cause::Disk, since, .. } => Some(*since),
        _ => None,
    });
    assert_eq!(since.map(|it| it.as_second() - began.as_second()), Some(4));
}

#[test]
fn a_ca_that_does_not_issue_stops_the_line_while_somebody_waits_for_it() {
    let mut h = Harness::ready();
    h.issues = false;
    let of_ca = |h: &Harness| {
        let all = told(h).into_iter().filter(|it| it.1.as_deref() == Some("CA"));
        all.map(|it| (it.0, it.2)).collect::<Vec<_>>()
    };
    let fails = |h: &mut Harness| {
        let (serial, generation, _) = h.to_issue.remove(0);
        h.input(Input::Issued { serial, generation, result: Err("the token is gone".to_owned()) });
    };
    h.unit(0, unit(1, "SN1"));
    fails(&mut h);
    h.input(Input::Gate(None));
    h.seconds(6);
    h.input(Input::Gate(None));
    assert_eq!(h.line.status().stopped, ["the token is gone"]);
    assert_eq!(of_ca(&h), [(Cause::LineStopped, true)]);
    // Nobody waits any more: nothing is wrong that anyone could see to.
    h.order(Order::Scrap, "SN1").unwrap();
    h.input(Input::Gate(None));
    assert!(h.line.status().stopped.is_empty(), "{:?}", h.line.status().stopped);
    assert_eq!(of_ca(&h), [(Cause::LineStopped, true), (Cause::LineStopped, false)]);
}

#[test]
fn a_certificate_that_nobody_wants_any_more_shows_that_the_ca_issues() {
    let mut h = Harness::ready();
    h.issues = false;
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    let (serial, generation, _) = h.to_issue.remove(0);
    h.input(Input::Issued { serial, generation, result: Err("the token is gone".to_owned()) });
    assert_eq!(h.line.status().stopped, ["the token is gone"]);
    h.order(Order::Scrap, "SN2").unwrap();
    h.issue();
    h.go_on();
    assert!(h.line.status().stopped.is_empty(), "the unit that waits is served as soon as it tries again");
}

#[test]
fn a_fixture_that_is_away_is_named() {
    let mut h = Harness::ready();
    h.input(Input::PortLost(0));
    h.input(Input::Gate(None));
    h.seconds(6);
    h.input(Input::Gate(None));
    let name = h.line.status().links[0].name.clone();
    let of_it = |it: &(Cause, Option<String>, bool)| it.1.as_ref() == Some(&name);
    assert_eq!(told(&h).into_iter().find(of_it), Some((Cause::FixtureAway, Some(name.clone()), true)));
}

#[test]
fn a_port_that_cannot_be_opened_is_told_with_the_reason_until_it_is_open() {
    let mut h = Harness::ready();
    let name = h.line.status().links[0].name.clone();
    let told = |h: &Harness| {
        let reasons = h.line.status().degraded.into_iter();
        reasons.filter(|it| it.contains(&name)).collect::<Vec<_>>()
    };
    h.input(Input::PortLost(0));
    assert_eq!(told(&h), [format!("fixture {name}: the port is not open")]);
    for why in ["there is no port x: check the cable", "the port x is in use by minicom (pid 7)"] {
        h.input(Input::PortRefused(0, why.to_owned()));
        assert_eq!(told(&h), [format!("fixture {name}: the port is not open: {why}")]);
    }
    h.input(Input::PortOpened(0));
    assert_eq!(told(&h), [format!("fixture {name} has not said hello")]);
    h.hello(0, 1);
    assert!(told(&h).is_empty());
    // What was the reason once says nothing of the next time.
    h.input(Input::PortLost(0));
    assert_eq!(told(&h), [format!("fixture {name}: the port is not open")]);
}

/// What the status says of AWS's limits after a look that found `limits`.
fn of_limits(h: &mut Harness, limits: &[HeldBack]) -> Vec<String> {
    h.wait(Duration::from_millis(250));
    if !limits.is_empty() {
        h.input(Input::HeldBack(limits.to_vec()));
    }
    h.input(Input::Gate(None));
    h.line.status().degraded.into_iter().filter(|it| it.starts_with("AWS ")).collect()
}

fn learned(limit: &'static str, rate: f64, ceiling: Option<f64>) -> [HeldBack; 1] {
    [HeldBack { limit, rate: Some(rate), ceiling, paused_until: None }]
}

#[test]
fn a_limit_far_below_its_ceiling_is_told_while_calls_wait_for_it_and_the_figure_stands_still() {
    let mut h = Harness::ready();
    let policies = |rate| learned("create-policy", rate, Some(10.0));
    assert!(of_limits(&mut h, &policies(8.0)).is_empty(), "not far");
    let told = ["AWS allows 0.1 of 10 CreatePolicy a second"];
    for rate in [0.1, 0.11, 0.09] {
        assert_eq!(of_limits(&mut h, &policies(rate)), told, "{rate}");
    }
    // For a moment nobody waits, and all the while no call is refused.
    for look in 0..40 {
        let limits = if look % 8 == 0 { &[][..] } else { &policies(0.1)[..] };
        assert_eq!(of_limits(&mut h, limits), told);
    }
    let throttled = |h: &Harness| told_of(h, Cause::Throttled);
    assert_eq!(throttled(&h), [true]);
    assert_eq!(of_limits(&mut h, &policies(8.0)).len(), 1, "it comes back, and is not there yet");
    assert!(of_limits(&mut h, &policies(9.5)).is_empty());
    assert_eq!(throttled(&h), [true, false]);
    let account = learned(ACCOUNT, 12.0, None);
    assert_eq!(of_limits(&mut h, &account), ["AWS allows 12 calls in all a second"]);
    h.seconds(5);
    assert!(of_limits(&mut h, &[]).is_empty(), "nobody waits any more");
}

#[test]
fn a_pause_that_aws_asks_for_is_told_with_its_end() {
    let mut h = Harness::ready();
    let paused = |h: &Harness, s: u64| {
        let paused_until = Some(h.now.mono + Duration::from_secs(s));
        [HeldBack { limit: "create-policy", rate: None, ceiling: Some(10.0), paused_until }]
    };
    let short = paused(&h, 2);
    assert!(of_limits(&mut h, &short).is_empty());
    let (long, end) = (paused(&h, 90), h.now.wall + Duration::from_secs(90));
    let told = [format!("AWS asks to stay away from CreatePolicy until {}", end.strftime("%H:%M:%S UTC"))];
    for _ in 0..300 {
        assert_eq!(of_limits(&mut h, &long), told);
    }
    assert_eq!(told_of(&h, Cause::Throttled), [true]);
    h.seconds(20);
    assert!(of_limits(&mut h, &[]).is_empty());
    assert_eq!(told_of(&h, Cause::Throttled), [true, false]);
}

fn told_of(h: &Harness, cause: Cause) -> Vec<bool> {
    told(h).into_iter().filter(|it| it.0 == cause).map(|it| it.2).collect()
}

#[test]
fn a_stop_in_good_order_is_journaled() {
    let mut h = Harness::ready();
    let now = h.now;
    let actions = h.line.stop(now);
    let stopped = |it: &crate::line::Action| match it {
        crate::line::Action::Record(entry) => {
            entry.record.what == crate::journal::What::Station(StationEvent::Stopped)
        }
        _ => false,
    };
    assert!(actions.iter().any(stopped), "{actions:?}");
}
