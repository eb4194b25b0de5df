//! What keeps the station from its work is journaled when it lasts.

use super::harness::Harness;
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
