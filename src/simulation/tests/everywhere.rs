//! Not sampled: one device in each configuration, each call failing in each way at each try, each call
//! cut off before and after its effect, and the journal cut after each record and inside it. The end is
//! always the same: the audit knows only one for a device that has passed.

use super::super::cloud::Fault;
use super::super::disk::Ending;
use super::super::plan::{Plan, Trap, manage, plain_rules, shared_policy};
use super::super::run;
use super::super::world::Stats;
use super::seeds::announce;
use crate::device::rules::{KeyOrigin, LockerRule, PolicyRule, ProductRules, Register, Repeat};

/// Tries in a row that fail.
const TRIES: usize = 3;

/// Each kind of station, by name.
fn configurations() -> Vec<(&'static str, Plan)> {
    let with = |change: fn(&mut ProductRules)| {
        let mut rules = plain_rules();
        change(&mut rules);
        Plan::quiet(rules)
    };
    let mut earlier = with(|_| {});
    earlier.earlier_life = true;
    let mut renewed = with(|it| it.repeat = Repeat::Renew);
    renewed.comes_back = true;
    let mut reissued = with(|it| (it.certificate.register, it.repeat) = (Register::Aws, Repeat::Renew));
    reissued.comes_back = true;
    let mut shared_locker = with(|_| {});
    shared_locker.share_lockers();
    shared_locker.serials.push("SN2".to_owned());
    let mut labelled = with(|_| {});
    labelled.labels = true;
    let issued_for_own_key = with(|it| {
        (it.certificate.register, it.certificate.key) = (Register::Aws, KeyOrigin::Device);
    });
    vec![
        ("as most have it", with(|_| {})),
        ("with the CA", with(|it| it.certificate.register = Register::WithCa)),
        ("just in time", with(|it| it.certificate.register = Register::Jitp)),
        ("a shared policy", with(|it| it.policy = shared_policy())),
        ("no policy", with(|it| it.policy = PolicyRule::None)),
        ("no locker", with(|it| it.locker = LockerRule::None)),
        ("the device's key", with(|it| it.certificate.key = KeyOrigin::Device)),
        ("AWS issues", with(|it| it.certificate.register = Register::Aws)),
        ("AWS issues for the device's key", issued_for_own_key),
        ("AWS issues again", reissued),
        ("an earlier life", earlier),
        ("renewed", renewed),
        ("a batch's locker", shared_locker),
        ("labels", labelled),
        ("a managed thing", with(manage)),
    ]
}

/// Runs `plan` with `traps`: it has to end as it does without.
fn check(name: &str, plan: &Plan, traps: &[Trap], well: &Stats) {
    let plan = Plan { traps: traps.to_vec(), ..plan.clone() };
    match run(plan.clone(), false) {
        Ok(stats) => assert_eq!(stats.passes, well.passes, "{name}, {traps:?}"),
        Err(_) => {
            let found = run(plan, true).unwrap_err();
            found.story.iter().for_each(|it| println!("{it}"));
            panic!("{name}, {traps:?}: {}", found.what);
        }
    }
}

fn for_each_configuration(what: &str, mut body: impl FnMut(&str, &Plan, &Stats) -> usize) {
    let mut runs = 0;
    for (name, plan) in configurations() {
        let well = run(plan.clone(), false).unwrap_or_else(|it| panic!("{name}: {}", it.what));
        assert!(well.calls >= 3 && well.passes >= 1 && well.crashes == 0, "{name}: {well:?}");
        runs += body(name, &plan, &well);
    }
    announce(&format!("simulation: {runs} runs, {what}"));
}

#[test]
fn each_call_may_fail_at_each_try_in_each_way() {
    for_each_configuration("each call failing in each way", |name, plan, well| {
        let mut runs = 0;
        for number in 0..well.calls {
            for fault in Fault::ALL {
                for times in 1..=TRIES {
                    check(name, plan, &[Trap::Call { number, times, fault }], well);
                    runs += 1;
                }
            }
        }
        runs
    });
}

#[test]
fn each_call_may_be_cut_off_before_and_after_its_effect_and_is_repeated() {
    for_each_configuration("each call repeated after a crash", |name, plan, well| {
        let mut runs = 0;
        for number in 0..well.calls {
            for after_effect in [false, true] {
                let first = Trap::CrashAtCall { number, after_effect };
                check(name, plan, &[first], well);
                // And once more, at each of those that follow.
                for later in number + 1..number + 6 {
                    check(name, plan, &[first, Trap::CrashAtCall { number: later, after_effect }], well);
                }
                runs += 6;
            }
        }
        runs
    });
}

#[test]
fn the_journal_may_be_cut_after_each_record_and_inside_it() {
    for_each_configuration("the journal cut after and inside each record", |name, plan, well| {
        let mut runs = 0;
        for (number, ends) in well.cuts.iter().enumerate() {
            let mut kept = vec![0];
            for end in ends {
                let begin = kept.last().copied().unwrap_or_default();
                kept.extend([begin + 1, begin + 47, begin + 48, (begin + end) / 2, end - 1, *end]);
            }
            kept.dedup();
            for kept in kept {
                check(name, plan, &[Trap::CrashAtWrite { number, kept }], well);
                runs += 1;
            }
            for ending in [Ending::Kill, Ending::PowerCut] {
                check(name, plan, &[Trap::CrashAfterSync { number, ending }], well);
                runs += 1;
            }
        }
        runs
    });
}
