//! Looks at the account's certificates: who shares them, how urgent they are, what becomes of those that fail.

use super::*;

#[test]
fn devices_that_look_at_the_same_time_share_the_pages_and_the_keys() {
    let mut h = station();
    h.account.page = 5;
    (0..16).for_each(|_| h.account.fault(CREATE, Fault::Lost));
    for id in 1..=16 {
        h.unit(0, unit_in(id, &format!("SN{id:02}"), &format!("n{id}")));
    }
    h.answers = false;
    h.seconds(1);
    assert_eq!(h.surveys.len(), 1, "one look for all");
    h.answers = true;
    h.answer_all();
    h.seconds(10);
    for id in 1..=16 {
        let serial = format!("SN{id:02}");
        assert_eq!(h.account.issued_for(&serial).len(), 1);
        assert_eq!(h.device(&serial).fingerprint().unwrap().to_string(), h.account.issued_for(&serial)[0]);
    }
    assert_eq!(h.account.count(CREATE), 16);
    // Each key is asked for once, and each certificate once more when it is taken.
    assert_eq!(h.account.count(DESCRIBE), 32);
}

#[test]
fn a_look_is_as_urgent_as_the_devices_that_look() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Lost);
    h.account.always.insert(LIST, Fault::Fail(FailureKind::Throttled));
    h.unit(0, unit(1, "SN1"));
    h.seconds(10);
    assert!(h.survey_classes.len() > 1 && h.survey_classes.iter().all(|it| *it == Class::NestBegun));
    h.seconds(51);
    h.hear(0);
    h.survey_classes.clear();
    h.seconds(60);
    assert!(h.survey_classes.len() > 1 && h.survey_classes.iter().all(|it| *it == Class::BacklogBegun));
    h.account.always.clear();
    h.seconds(60);
    assert_eq!(h.account.issued_for("SN1").len(), 1);
}

#[test]
fn a_look_waits_while_nothing_goes_through_and_goes_on_with_the_others() {
    for down in [FailureKind::Unreachable, FailureKind::Stop(StopCause::Credentials)] {
        let mut h = station();
        h.account.fault(CREATE, Fault::Lost);
        h.account.always.insert(LIST, Fault::Fail(FailureKind::Throttled));
        h.unit(0, unit_in(1, "SN1", "a"));
        h.seconds(5);
        h.account.always.clear();
        h.account.down = Some(down);
        h.unit(0, unit_in(2, "SN2", "b"));
        h.seconds(60);
        let before = h.account.count(LIST);
        h.seconds(600);
        let looks = h.account.count(LIST) - before;
        assert!(looks <= 8, "{down}: {looks} looks beside the calls that try for all");
        h.account.down = None;
        h.seconds(60);
        assert_eq!(h.account.issued_for("SN1").len(), 1, "{down}");
        assert_eq!(h.device("SN1").fingerprint().map(|it| it.to_string()), h.account.issued_for("SN1").pop());
    }
}

#[test]
fn looks_that_fail_are_tried_again() {
    for operation in [LIST, DESCRIBE] {
        for kind in [FailureKind::Throttled, FailureKind::Unknown, FailureKind::Refused] {
            let mut h = station();
            h.account.fault(CREATE, Fault::Lost);
            (0..3).for_each(|_| h.account.fault(operation, Fault::Fail(kind)));
            brought_to_its_end(&mut h);
            assert_eq!(h.account.count(CREATE), 1, "{operation} {kind}");
        }
    }
}
