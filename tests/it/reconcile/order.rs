//! What a work order lists and nobody has presented at the station.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::harness::put;

fn thing(name: &str, station: Option<&str>) -> Call {
    let attributes: BTreeMap<_, _> =
        station.map(|it| ("linemint".to_owned(), it.to_owned())).into_iter().collect();
    Call::CreateThing { name: name.to_owned(), attributes }
}

#[test]
fn what_never_came_and_is_in_the_account_all_the_same_is_found_and_told_in_the_report() {
    let (world, mut fixture) = World::running("");
    let serials: Vec<_> = (1..=7).map(|it| format!("SN{it:010}")).collect();
    let list = world.path("serials.csv");
    put(&list, serials.join("\n").as_bytes());
    let open = ["batch", "open", "WO-1", "--product", "thermostat", "--expected", list.to_str().unwrap()];
    assert_eq!(world.command(&open).0, 0);
    let wish =
        || Wish { selection: serde_json::from_value(json!({ "batch": "WO-1" })).unwrap(), ..Wish::default() };
    // Of an order of which nothing came yet there is something to look for all the same.
    let (seen, whole) = heard(&world, &wish(), PATIENCE);
    assert!(whole && seen.summary().is_clean(), "{seen:#?}");
    assert_eq!((seen.summary().selected, seen.summary().sought), (0, 7));

    for (id, serial) in (1..).zip(&serials[..2]) {
        fixture.provision(id, serial);
    }
    world.settles(2);
    world.aws(vec![thing(&serials[2], Some("L9")), thing(&serials[3], None), thing(&serials[4], Some("IT"))]);
    // Not on the list, and no business of the order.
    world.aws(vec![thing("SN9999999999", Some("L9"))]);
    let (seen, whole) = heard(&world, &wish(), PATIENCE);
    assert!(whole);
    let expected = [(Class::NotOurs, 2), (Class::NotOurs, 3), (Class::Extra, 4)];
    let expected: BTreeSet<_> = expected.map(|(class, at)| (class, serials[at].clone())).into();
    assert_eq!(seen.found(), expected);
    let summary = seen.summary();
    assert_eq!((summary.selected, summary.compared, summary.sought, summary.unsought), (2, 2, 5, 0));
    assert_permitted(&world, summary);

    let path = world.path("report.json");
    let args =
        ["report", "--batch", "WO-1", "--reconcile", "--format", "json", "--output", path.to_str().unwrap()];
    let (status, _, log) = world.command(&args);
    assert_eq!(status, 1, "{log}");
    let said: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&said["balance"]["missing"], &said["balance"]["closes"]), (&json!(5), &json!(true)));
    assert_eq!(said["cloud"]["findings"], json!({ "extra": 1, "not-ours": 2 }));
    let told = said["cloud"]["devices"].as_array().unwrap();
    assert!(
        told.iter().all(|it| it["expected"].as_str().unwrap().starts_with("ordered in batch WO-1")),
        "{said}"
    );
    let (status, out, _) = world.command(&["reconcile", "--batch", "WO-1"]);
    assert_eq!(status, 1);
    assert!(out.contains("5 on the order, never presented and looked for"), "{out}");
}
