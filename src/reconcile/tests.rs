//! Any set of flaws is found by its classes, and by nothing else; a repair's steps end them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::cloud::{ListedCertificate, ListedLocker, ListedThing};
use crate::device::Device;
use crate::device::event::{Admission, Event, PresentationKey};
use crate::device::rules::{Filling, LockerRule, ManagedRole, ManagedThingRule};
use crate::device::serial::SerialNumber;
use crate::device::testing::{DOCUMENT, STATION, plain_rules, text};
use crate::pki::Fingerprint;

/// A device that has all that a device can have, and what the account holds for it when all is well.
fn whole(own_policy: bool) -> (Expected, Held) {
    let id = Fingerprint::of(b"certificate");
    let arn = format!("arn:aws:iot:eu-west-1:123456789012:cert/{id}");
    let name = if own_policy { "SN1" } else { "lamps" }.to_owned();
    let document = Some(DOCUMENT.to_owned());
    let expected = Expected {
        serial: "SN1".to_owned(),
        seq: 7,
        station: STATION.to_owned(),
        gone: false,
        thing: "SN1".to_owned(),
        has_thing: true,
        locker: Some(WantedLocker { name: "SN1".to_owned(), id: "locker1".to_owned() }),
        managed_thing: Some("managed1".to_owned()),
        managed_locker: Some("locker1".to_owned()),
        managed_into: None,
        policy: Some(WantedPolicy { name: name.clone(), document, own: own_policy, attached: true }),
        certificate: Some(WantedCertificate {
            id,
            arn: arn.clone(),
            active: true,
            attached: true,
            can_return: true,
        }),
        earlier: vec![Fingerprint::of(b"earlier")],
    };
    let held = Held {
        thing: Some(Owner::Us),
        // The same document, spelt otherwise.
        policy: own_policy.then(|| Some(DOCUMENT.replace(',', " ,\n "))),
        certificate: Some(CertificateStatus::Active),
        locker: true,
        other_lockers: Vec::new(),
        managed_thing: Some(true),
        managed_locker: Some("locker1".to_owned()),
        managed_into: None,
        principals: Some(vec![arn, format!("arn:x:cert/{}", Fingerprint::of(b"earlier"))]),
        policies: Some(vec![name]),
        things: Some(vec!["SN1".to_owned()]),
    };
    (expected, held)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    NoLocker,
    NoManagedThing,
    NoPolicy,
    NoThing,
    NoCertificate,
    PolicyDetached,
    ThingDetached,
    Inactive,
    OtherDocument,
    AtAnotherThing,
    AnotherAtIt,
    AnotherPolicy,
    Twin,
    Stolen,
    InAnotherLocker,
}

const FLAWS: [Flaw; 15] = [
    Flaw::NoLocker,
    Flaw::NoManagedThing,
    Flaw::NoPolicy,
    Flaw::NoThing,
    Flaw::NoCertificate,
    Flaw::PolicyDetached,
    Flaw::ThingDetached,
    Flaw::Inactive,
    Flaw::OtherDocument,
    Flaw::AtAnotherThing,
    Flaw::AnotherAtIt,
    Flaw::AnotherPolicy,
    Flaw::Twin,
    Flaw::Stolen,
    Flaw::InAnotherLocker,
];

/// What AWS would hold with those flaws.
fn flawed(expected: &Expected, mut held: Held, flaws: &BTreeSet<Flaw>) -> Held {
    let has = |it: Flaw| flaws.contains(&it);
    let arn = &expected.certificate.as_ref().unwrap().arn;
    let policy = &expected.policy.as_ref().unwrap().name;
    held.locker = !has(Flaw::NoLocker);
    held.managed_thing = Some(!has(Flaw::NoManagedThing));
    held.managed_locker = match (has(Flaw::NoManagedThing), has(Flaw::InAnotherLocker)) {
        (true, _) => None,
        (false, true) => Some("locker9".to_owned()),
        (false, false) => held.managed_locker,
    };
    if has(Flaw::OtherDocument) {
        held.policy = held.policy.map(|_| Some("{}".to_owned()));
    }
    if has(Flaw::NoPolicy) {
        held.policy = None;
    }
    if has(Flaw::Stolen) {
        held.thing = Some(Owner::Station("L9".to_owned()));
    }
    if has(Flaw::Inactive) {
        held.certificate = Some(CertificateStatus::Inactive);
    }
    let detached = has(Flaw::ThingDetached) || has(Flaw::NoThing) || has(Flaw::NoCertificate);
    if detached {
        held.principals.as_mut().unwrap().retain(|it| it != arn);
        held.things.as_mut().unwrap().clear();
    }
    if has(Flaw::AtAnotherThing) {
        held.things.as_mut().unwrap().push("bystander".to_owned());
    }
    if has(Flaw::AnotherAtIt) {
        held.principals.as_mut().unwrap().push("arn:x:cert/another".to_owned());
    }
    if has(Flaw::PolicyDetached) || has(Flaw::NoPolicy) {
        held.policies.as_mut().unwrap().retain(|it| it != policy);
    }
    if has(Flaw::AnotherPolicy) {
        held.policies.as_mut().unwrap().push("everything".to_owned());
    }
    if has(Flaw::NoThing) {
        (held.thing, held.principals) = (None, None);
    }
    if has(Flaw::NoCertificate) {
        (held.certificate, held.policies, held.things) = (None, None, None);
    }
    if has(Flaw::Twin) {
        held.other_lockers = vec!["locker2".to_owned()];
    }
    held
}

/// The classes that these flaws are, told without the comparison.
fn classes(flaws: &BTreeSet<Flaw>) -> BTreeSet<Class> {
    use Flaw as F;
    let has = |it: Flaw| flaws.contains(&it);
    let (thing, certificate) = (!has(F::NoThing), !has(F::NoCertificate));
    let stolen = has(F::Stolen) && thing;
    let mut classes = BTreeSet::new();
    let lost = [F::NoLocker, F::NoManagedThing, F::NoPolicy, F::NoThing, F::NoCertificate];
    if lost.iter().all(|it| has(*it)) {
        classes.insert(Class::Missing);
    } else if lost.iter().any(|it| has(*it))
        || certificate && has(F::PolicyDetached)
        || certificate && thing && !stolen && has(F::ThingDetached)
    {
        classes.insert(Class::HalfMade);
    }
    if certificate && has(F::Inactive) {
        classes.insert(Class::Inactive);
    }
    if !has(F::NoPolicy) && has(F::OtherDocument) {
        classes.insert(Class::PolicyDiffers);
    }
    let at_another = certificate && (has(F::AtAnotherThing) || has(F::AnotherPolicy));
    let in_another = !has(F::NoManagedThing) && has(F::InAnotherLocker);
    if at_another || in_another || thing && !stolen && has(F::AnotherAtIt) {
        classes.insert(Class::AttachedToAnother);
    }
    if has(F::Twin) {
        classes.insert(Class::DuplicatedLocker);
    }
    if stolen {
        classes.insert(Class::NotOurs);
    }
    classes
}

/// What AWS holds after these steps.
fn repaired(expected: &Expected, mut held: Held, steps: &[Step]) -> Held {
    let certificate = expected.certificate.as_ref().unwrap();
    for step in steps {
        match step {
            Step::Locker => held.locker = true,
            Step::ManagedThing => held.managed_thing = Some(true),
            Step::Policy => held.policy = Some(expected.policy.as_ref().unwrap().document.clone()),
            Step::Thing => (held.thing, held.principals) = (Some(Owner::Us), Some(Vec::new())),
            Step::Certificate => {
                held.certificate = Some(CertificateStatus::Active);
                (held.policies, held.things) = (Some(Vec::new()), Some(Vec::new()));
            }
            Step::AttachPolicy => {
                held.policies.as_mut().unwrap().push(expected.policy.as_ref().unwrap().name.clone());
            }
            Step::AttachThing => {
                held.principals.as_mut().unwrap().push(certificate.arn.clone());
                held.things.as_mut().unwrap().push(expected.thing.clone());
            }
            other => panic!("{other} repairs nothing"),
        }
    }
    held
}

proptest! {
    #[test]
    fn each_flaw_is_found_under_its_class_and_nothing_else_is(
        flaws in proptest::sample::subsequence(FLAWS.to_vec(), 0..=FLAWS.len()),
    ) {
        let flaws: BTreeSet<Flaw> = flaws.into_iter().collect();
        let (expected, held) = whole(true);
        let held = flawed(&expected, held, &flaws);
        let found = compare(&expected, &held);
        let told: BTreeSet<Class> = found.iter().map(|it| it.class).collect();
        prop_assert_eq!(told.len(), found.len(), "each class once");
        prop_assert_eq!(&told, &classes(&flaws));
        prop_assert!(found.iter().all(|it| it.serial.as_deref() == Some("SN1")));

        let steps = found.iter().find_map(|it| match &it.repair {
            Some(Repair::Finish { steps }) => Some(steps.clone()),
            _ => None,
        });
        // A live certificate is given nothing that somebody else has written.
        let tampered = flaws.contains(&Flaw::OtherDocument) && !flaws.contains(&Flaw::NoPolicy);
        let held_back = tampered && [Flaw::PolicyDetached, Flaw::NoCertificate].iter().any(|it| flaws.contains(it));
        let rest = flaws.iter().copied().filter(|it| !tampered || *it != Flaw::PolicyDetached).collect();
        let lacks = classes(&rest).iter().any(|it| matches!(it, Class::HalfMade | Class::Missing));
        prop_assert_eq!(steps.is_some(), lacks && !told.contains(&Class::NotOurs));
        if let Some(steps) = steps {
            prop_assert!(!tampered || !steps.contains(&Step::AttachPolicy), "{:?}", steps);
            let left = compare(&expected, &repaired(&expected, held, &steps));
            let left: Vec<_> = left.into_iter().filter(|it| matches!(it.class, Class::HalfMade | Class::Missing)).collect();
            prop_assert_eq!(left.len(), usize::from(held_back), "{:?}", steps);
            prop_assert!(left.iter().all(|it| it.repair.is_none()));
        }
    }

    #[test]
    fn what_was_not_looked_at_is_no_finding(own in any::<bool>(), document in any::<bool>()) {
        let (expected, held) = whole(own);
        prop_assert_eq!(compare(&expected, &held), Vec::new());
        let policy = if document { held.policy.clone() } else { held.policy.clone().map(|_| None) };
        let quick =
            Held { policy, managed_thing: None, managed_locker: None, principals: None, policies: None, things: None, ..held };
        prop_assert_eq!(compare(&expected, &quick), Vec::new());
    }

    #[test]
    fn a_serial_is_read_out_of_the_name_that_it_made(
        serial in "[A-Z0-9]{1,20}",
        template in proptest::sample::select(vec!["{serial}", "lamp-{serial}", "{station}:{product}-{serial}-x"]),
    ) {
        let serial = SerialNumber::parse(&serial).unwrap();
        let template = text(template);
        let with = Filling { serial: &serial, mac: None, batch: None, station: STATION, product: "lamp" };
        let name = template.fill(&with);
        prop_assert_eq!(serial_in(&template, &name, STATION, "lamp"), Some(serial.as_str()));
        let with = Filling { batch: Some("WO-1"), ..with };
        let order = (STATION, "lamp", "WO-1");
        let ordered = text(&format!("{template}{{batch}}"));
        let of_order = ordered.fill(&with);
        prop_assert_eq!(serial_on_order(&ordered, &of_order, order), Some(serial.as_str()));
        prop_assert_eq!(serial_in(&ordered, &of_order, STATION, "lamp"), None);
        let shorter = &name[..name.len() - 1];
        prop_assert_ne!(serial_in(&template, shorter, STATION, "lamp"), Some(serial.as_str()));
    }
}

#[test]
fn a_certificate_that_aws_has_issued_is_not_made_again() {
    let (mut expected, held) = whole(true);
    expected.certificate.as_mut().unwrap().can_return = false;
    let held = flawed(&expected, held, &BTreeSet::from([Flaw::NoCertificate]));
    let found = compare(&expected, &held);
    assert_eq!((found.len(), found[0].class, &found[0].repair), (1, Class::HalfMade, &None));
    assert!(found[0].remedy.contains("renew"), "{}", found[0].remedy);
}

/// A live certificate would be given whatever somebody else has written into the policy.
#[test]
fn a_policy_is_attached_again_only_where_it_was_read_and_is_the_one_expected() {
    use Step::{AttachPolicy, AttachThing, Certificate};
    let tampered = || Some(Some("{}".to_owned()));
    let right = || Some(Some(DOCUMENT.to_owned()));
    let detached = BTreeSet::from([Flaw::PolicyDetached]);
    let gone = BTreeSet::from([Flaw::NoCertificate]);
    for (own, policy, may) in [
        (true, right(), true),
        (true, tampered(), false),
        // It was not read.
        (true, Some(None), false),
        (false, None, false),
        (false, right(), true),
        (false, tampered(), false),
    ] {
        let (expected, held) = whole(own);
        for (flaws, beside) in [(&detached, &[][..]), (&gone, &[Certificate, AttachThing])] {
            let held = Held { policy: policy.clone(), ..flawed(&expected, held.clone(), flaws) };
            let found = compare(&expected, &held);
            let half = found.iter().find(|it| it.class == Class::HalfMade).unwrap();
            let steps: BTreeSet<Step> = match &half.repair {
                Some(Repair::Finish { steps }) => steps.iter().copied().collect(),
                _ => BTreeSet::new(),
            };
            let wanted = beside.iter().copied().chain(may.then_some(AttachPolicy)).collect();
            assert_eq!(steps, wanted, "{own} {policy:?} {flaws:?}");
            assert_eq!(half.remedy.contains("settle"), !may, "{}", half.remedy);
        }
    }
    // Nobody here says what a policy should be that a person has made.
    let (mut expected, held) = whole(false);
    expected.policy.as_mut().unwrap().document = None;
    let found = compare(&expected, &flawed(&expected, held, &detached));
    assert_eq!(found[0].repair, Some(Repair::Finish { steps: vec![AttachPolicy] }));
}

/// AWS makes none in a locker that is not there, however often it is asked.
#[test]
fn a_managed_thing_whose_locker_is_gone_and_not_its_own_is_not_made_again() {
    let (mut expected, held) = whole(true);
    (expected.locker, expected.managed_into) = (None, Some("locker-of-many".to_owned()));
    for (there, repairs) in [(true, true), (false, false)] {
        let (managed_thing, managed_locker) = (Some(false), None);
        let held = Held { managed_thing, managed_locker, managed_into: Some(there), ..held.clone() };
        let found = compare(&expected, &held);
        assert_eq!((found.len(), found[0].class, found[0].repair.is_some()), (1, Class::HalfMade, repairs));
        assert_eq!(found[0].remedy.contains("locker-of-many"), !repairs, "{}", found[0].remedy);
    }
}

#[test]
fn a_managed_thing_in_another_locker_is_told_with_both_and_what_puts_it_right() {
    let (expected, held) = whole(true);
    let elsewhere = Held { managed_locker: Some("locker9".to_owned()), ..held.clone() };
    let by_template = Expected { certificate: None, ..expected.clone() };
    for expected in [&expected, &by_template] {
        let found = compare(expected, &elsewhere);
        assert_eq!((found.len(), found[0].class, &found[0].repair), (1, Class::AttachedToAnother, &None));
        assert_eq!(found[0].resource, "managed thing managed1");
        assert_eq!(found[0].expected, "it names the locker locker1");
        assert_eq!(found[0].held, "its managed thing managed1 names the locker locker9");
        assert!(
            found[0].remedy.contains("--identifier managed1 --credential-locker-id locker1"),
            "{found:?}"
        );
    }
    // It is to have none.
    let none = Expected { managed_locker: None, ..expected.clone() };
    assert_eq!(compare(&none, &held)[0].expected, "it names no locker");
    // AWS's answer tells none.
    assert_eq!(compare(&expected, &Held { managed_locker: None, ..held }), Vec::new());
}

#[test]
fn what_its_rules_cannot_make_again_is_not_expected() {
    let none = BatchLockers::new();
    let mut device = device("SN1");
    device.done.managed_thing = Some("managed1".to_owned());
    device.done.locker = Some("locker1".to_owned());
    let mut rules = plain_rules("lamp");
    assert_eq!(Expected::of(&device, &rules, &none).managed_thing, None, "it was made by rules of before");
    rules.managed_thing = Some(ManagedThingRule { role: ManagedRole::Device });
    let expected = Expected::of(&device, &rules, &none);
    assert_eq!((expected.managed_thing.as_deref(), expected.managed_into), (Some("managed1"), None));
    for (locker, into) in
        [(LockerRule::Given { id: "given".to_owned() }, Some("given")), (LockerRule::None, None)]
    {
        rules.locker = locker;
        let expected = Expected::of(&device, &rules, &none);
        assert_eq!((expected.locker, expected.managed_into.as_deref()), (None, into));
    }
}

/// A device may have been given it by rules that it has no more.
#[test]
fn whose_a_locker_is_the_journal_says_and_not_the_rules_of_now() {
    let batchs = BatchLockers::from([("locker-of-many".to_owned(), "lamp WO-1".to_owned())]);
    let (mut with_own, mut with_batchs) = (device("SN1"), device("SN2"));
    with_own.done.locker = Some("locker1".to_owned());
    with_batchs.done.locker = Some("locker-of-many".to_owned());
    with_batchs.batch = Some("WO-1".to_owned());
    let mut by_batch = plain_rules("lamp");
    by_batch.locker = LockerRule::Batch { name: text("{batch}"), tags: BTreeMap::new() };
    by_batch.managed_thing = Some(ManagedThingRule { role: ManagedRole::Device });
    with_batchs.done.managed_thing = Some("managed1".to_owned());
    let mut alone = by_batch.clone();
    alone.locker = plain_rules("lamp").locker;
    for rules in [&by_batch, &alone] {
        let expected = Expected::of(&with_own, rules, &batchs);
        assert_eq!(expected.locker.map(|it| it.id).as_deref(), Some("locker1"));
        let expected = Expected::of(&with_batchs, rules, &batchs);
        assert_eq!((expected.locker, expected.managed_into.as_deref()), (None, Some("locker-of-many")));
    }
    assert_eq!(SharedLocker::of(&with_own, &batchs), None);
    let shared = SharedLocker::of(&with_batchs, &batchs).unwrap();
    assert_eq!((shared.name.as_str(), shared.batch.as_str()), ("lamp WO-1", "WO-1"));
}

#[test]
fn a_scrapped_device_is_to_have_nothing_and_anothers_thing_is_no_mistake() {
    let (expected, _) = whole(true);
    let expected = Expected { gone: true, has_thing: false, ..expected };
    let held = |thing| Held { thing, ..Held::default() };
    assert_eq!(compare(&expected, &held(None)), Vec::new());
    assert_eq!(compare(&expected, &held(Some(Owner::Nobody))), Vec::new());
    assert_eq!(compare(&expected, &held(Some(Owner::Us)))[0].class, Class::Extra);
}

#[test]
fn names_without_a_serial_and_templates_with_more_tell_nobody() {
    for (template, name) in
        [("lamps", "lamps"), ("{serial}-{mac}", "SN1-aa"), ("x{serial}", "ySN1"), ("x{serial}", "x")]
    {
        assert_eq!(serial_in(&text(template), name, STATION, "lamp"), None, "{template}");
    }
    assert_eq!(fixed_name(&text("{product}-of-{station}"), "L3", "lamp").as_deref(), Some("lamp-of-L3"));
    assert_eq!(fixed_name(&text("{serial}"), "L3", "lamp"), None);
}

fn device(serial: &str) -> Device {
    let rules = plain_rules("lamp");
    let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: 1 };
    let admission = Admission::of("lamp", rules.id(), presentation);
    let serial = SerialNumber::parse(serial).unwrap();
    Device::admit(&serial, 1, Timestamp::UNIX_EPOCH, &Event::Admitted(Box::new(admission))).unwrap()
}

fn listed(name: &str, station: Option<&str>) -> ListedThing {
    let attributes = station.map(|it| ("linemint".to_owned(), it.to_owned())).into_iter().collect();
    ListedThing { name: name.to_owned(), attributes }
}

fn listed_locker(id: &str, name: &str) -> ListedLocker {
    let (id, name, created) = (id.to_owned(), Some(name.to_owned()), Timestamp::UNIX_EPOCH);
    ListedLocker { arn: String::new(), id, name, created }
}

#[test]
fn the_lists_are_held_against_all_devices_and_noted_for_the_selected() {
    let rules = plain_rules("lamp");
    let mut roster = Roster::default();
    for number in 0..1_000 {
        let mut device = device(&format!("SN{number}"));
        device.done.locker = Some(format!("locker{number}"));
        let taken = match number % 4 {
            0 => Taken::Selected,
            2 => Taken::Told,
            _ => Taken::Known,
        };
        roster.add(&device, &rules, taken).unwrap();
    }
    roster.sort();
    assert_eq!((roster.rows().len(), roster.selected()), (500, 250));
    let things = [
        listed("SN0", Some(STATION)),
        listed("SN2", Some("L9")),
        listed("SN1", Some(STATION)),
        listed("SN1000", Some(STATION)),
        listed("SN1001", Some("L9")),
        listed("SN1002", None),
    ];
    roster.things(&things, STATION);
    roster.policies(&["SN0".to_owned(), "elsewhere".to_owned()]);
    roster.lockers(&[
        listed_locker("locker0", "SN0"),
        listed_locker("twin", "SN0"),
        listed_locker("x", "SN1"),
    ]);
    let stranger = ListedCertificate {
        id: Fingerprint::of(b"stranger"),
        status: CertificateStatus::Active,
        created: Timestamp::UNIX_EPOCH,
    };
    roster.certificates(vec![stranger.clone()]);
    let row = |at: usize| &roster.rows()[at].seen;
    assert!(row(0).thing && row(0).policy && row(0).locker);
    assert!(!row(1).thing, "it is another station's");
    assert_eq!(roster.other_lockers(0), ["twin"]);
    assert_eq!(roster.other_lockers(1), [""; 0]);
    assert_eq!(roster.extras(), ["SN1000"], "others' things are no business of this station");
    assert_eq!(roster.strangers(), [stranger]);
    assert_eq!(roster.listed(), 12);
}
