//! A policy that somebody has changed: no repair gives a live certificate what it allows.

use super::planted::{parts, policy};
use super::*;

const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// Names of the policies at a certificate.
fn policies_at(world: &World, arn: &str) -> Vec<String> {
    let replies = world.aws(vec![Call::ListAttachedPolicies { target: arn.to_owned(), marker: None }]);
    let [Reply::Policies { names, .. }] = replies.as_slice() else { panic!("{replies:?}") };
    names.clone()
}

/// The steps that a repair of it would take.
fn steps(seen: &Heard, serial: &str) -> BTreeSet<Step> {
    let repairs = seen.findings.iter().filter(|it| it.serial.as_deref() == Some(serial));
    let steps = repairs.filter_map(|it| match &it.repair {
        Some(Repair::Finish { steps }) => Some(steps.clone()),
        _ => None,
    });
    steps.flatten().collect()
}

#[test]
fn a_certificate_is_not_attached_to_a_policy_that_somebody_has_changed() {
    use Step::{AttachPolicy, AttachThing, Certificate};
    let serials = serials(36, 4);
    let world = passed(&serials, "");
    let parts = parts(&world);
    let [changed, changed_and_gone, detached, whole] = [0, 1, 2, 3].map(|at| &parts[&serials[at]]);
    let change = |it: &planted::Part| vec![it.delete_policy(), policy(&it.serial, EVERYTHING)];
    let mut calls = vec![changed.detach_policy()];
    calls.extend(change(changed));
    calls.extend(changed_and_gone.delete_certificate());
    calls.extend(change(changed_and_gone));
    calls.push(detached.detach_policy());
    world.aws(calls);

    let differs = [changed, changed_and_gone].map(|it| (Class::PolicyDiffers, it.serial.clone()));
    let half = [changed, changed_and_gone].map(|it| (Class::HalfMade, it.serial.clone()));
    let left: BTreeSet<_> = differs.into_iter().chain(half).collect();
    let mut all = left.clone();
    all.insert((Class::HalfMade, detached.serial.clone()));
    // A quick look reads what it would attach, too.
    let quick = Wish { quick: true, ..Wish::default() };
    let (seen, ended) = heard(&world, &quick, PATIENCE);
    assert!(ended);
    assert_eq!(steps(&seen, &changed_and_gone.serial), BTreeSet::from([Certificate, AttachThing]));
    // The dry run shows what the repair does.
    for wish in [Wish::default(), repair()] {
        let (seen, ended) = heard(&world, &wish, PATIENCE);
        assert!(ended);
        assert_eq!(seen.found(), all);
        assert_eq!(steps(&seen, &changed.serial), BTreeSet::new());
        assert_eq!(steps(&seen, &changed_and_gone.serial), BTreeSet::from([Certificate, AttachThing]));
        assert_eq!(steps(&seen, &detached.serial), BTreeSet::from([AttachPolicy]));
        assert!(seen.repaired.iter().all(|it| it.2.is_none()), "{:#?}", seen.repaired);
        assert_eq!(seen.repaired.len(), if wish.repair { 2 } else { 0 });
    }
    for it in [changed, changed_and_gone] {
        assert_eq!(policies_at(&world, &it.arn), [""; 0], "{}", it.serial);
    }
    assert_eq!(policies_at(&world, &detached.arn), [detached.serial.as_str()]);

    // Once a person has settled it, the repair makes the rest.
    let settle = |it: &planted::Part| {
        let document = include_str!("../../../config/policies/thermostat.json");
        vec![it.delete_policy(), policy(&it.serial, document)]
    };
    assert_eq!(look(&world).found(), left);
    world.aws([settle(changed), settle(changed_and_gone)].concat());
    let (mended, ended) = heard(&world, &repair(), PATIENCE);
    assert!(ended && mended.summary().is_clean(), "{mended:#?}");
    assert_eq!(look(&world).found(), BTreeSet::new());
    for it in [changed, changed_and_gone, detached, whole] {
        assert_eq!(policies_at(&world, &it.arn), [it.serial.as_str()]);
    }
}
