//! Another configuration while the line works.

use super::harness::Harness;
use super::setup::{Setup, text, unit, unit_in};
use crate::journal::StationEvent;

fn fixtures(names: &[&str]) -> Setup {
    Setup { fixtures: names.iter().map(|it| (*it).to_owned()).collect(), ..Setup::default() }
}

fn resets(h: &Harness, name: &str) -> usize {
    let is = |it: &&StationEvent| matches!(it, StationEvent::FixtureReset { fixture, .. } if fixture == name);
    h.shelf.station_events.iter().filter(is).count()
}

fn links(h: &Harness) -> Vec<String> {
    h.line.status().links.into_iter().map(|it| it.name).collect()
}

#[test]
fn a_device_in_flight_keeps_its_rules_and_a_new_one_gets_the_new() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let changed = Setup::with(|rules| rules.thing = text("new-{serial}"));
    assert_eq!(h.reload(&changed), Some(Ok(())));
    h.unit(0, unit_in(2, "SN2", "b"));
    assert_eq!(h.device("SN1").rules, Setup::default().rules.id());
    assert_eq!(h.device("SN2").rules, changed.rules.id());
    let told: Vec<_> = h.shelf.station_events.iter().rev().take(2).collect();
    assert!(matches!(told[0], StationEvent::Rules { .. }), "{told:?}");
    assert!(matches!(told[1], StationEvent::Reconfigured { config, .. } if config == "1"), "{told:?}");
    // The same once more is on record, and brings no new rules.
    assert_eq!(h.reload(&changed), Some(Ok(())));
    let rules = h.shelf.station_events.iter().filter(|it| matches!(it, StationEvent::Rules { .. }));
    assert_eq!(rules.count(), 2);
}

#[test]
fn a_fixture_that_is_gone_says_nothing_any_more_and_its_unit_goes_on_elsewhere() {
    let mut h = Harness::ready();
    h.connect(1, 3);
    h.hear(1);
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.reload(&fixtures(&["jig-2", "jig-3"])), Some(Ok(())));
    assert_eq!(links(&h), ["jig-2", "jig-3"]);
    assert!(h.history("SN1").contains(&"closed"), "{:?}", h.history("SN1"));
    assert!(h.unit(0, unit_in(2, "SN2", "b")).is_empty());
    h.seconds(300);
    assert!(h.hear_all(0).is_empty());
    h.answers = true;
    h.answer_all();
    h.connect(2, 5);
    h.hear(2);
    assert_eq!(h.unit(2, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.written(2, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.unit(1, unit(1, "SN4")), ["ack 1", "credentials 1 SN4"], "who stays is not disturbed");
}

#[test]
fn a_fixture_that_comes_back_is_known_by_its_reset() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    assert_eq!(resets(&h, "jig-1"), 1);
    h.reload(&fixtures(&["jig-2"]));
    h.reload(&fixtures(&["jig-1", "jig-2"]));
    assert_eq!(links(&h), ["jig-2", "jig-1"]);
    h.connect(2, 1);
    h.hear(2);
    assert_eq!(resets(&h, "jig-1"), 1, "it was not reset");
    assert_eq!(h.unit(2, unit(1, "SN1")), ["ack 1", "pass 1 SN1"], "and says the same as before");
    assert!(h.line.is_idle());
}
