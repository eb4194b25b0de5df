//! What can happen, and how often.

use std::time::Duration;

use proptest::prelude::*;

use super::{NESTS, SERIALS};
use crate::clock::ClockSync;
use crate::cloud::{FailureKind, StopCause};
use crate::device::operator::Order;
use crate::device::rules::{LockerRule, PolicyRule, Register, Repeat};
use crate::line::tests::setup::{Setup, shared_policy};

/// Something happens.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A unit under a new id.
    Present {
        fixture: usize,
        nest: usize,
        serial: usize,
        mac: Option<usize>,
        holds: Holds,
    },
    /// The newest unit of a nest once more.
    Repeat {
        fixture: usize,
        nest: usize,
    },
    /// The unit of a nest has stored the newest credentials that its serial was sent.
    Confirm {
        fixture: usize,
        nest: usize,
    },
    WriteFailed {
        fixture: usize,
        nest: usize,
    },
    Removed {
        fixture: usize,
        nest: usize,
    },
    /// A confirmation that names anything under any id.
    Claim {
        fixture: usize,
        id: u64,
        serial: usize,
        certificate: usize,
    },
    Idle {
        fixture: usize,
    },
    Hello {
        fixture: usize,
        reset: bool,
    },
    Foreign {
        fixture: usize,
    },
    Lose {
        fixture: usize,
    },
    Open {
        fixture: usize,
    },
    /// AWS answers one of the calls that are out.
    Answer {
        which: usize,
        how: How,
    },
    Issue {
        fails: bool,
    },
    Destroy,
    Sync {
        count: usize,
    },
    /// Disk, CA and AWS do for a while what they should.
    Work,
    /// AWS answers to a look at the whole account.
    Survey(How),
    /// What was given up arrives after all.
    Land,
    Wait {
        milliseconds: u64,
    },
    /// The power goes; so many of the records under way are on disk, and the calls under way may be done.
    Crash {
        kept: usize,
        done: bool,
    },
    LoseKeys,
    Drain(bool),
    Gate(bool),
    /// A person's order about a device.
    Order {
        order: Order,
        serial: usize,
    },
    /// The clock is looked at.
    Clock(ClockSync),
    /// Somebody sets it, seconds.
    SetClock(i64),
    Override,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    Unsaid,
    Nothing,
    Live,
    Other,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Well,
    Lost,
    Late,
    Proxy,
    Unsigned,
    Fails(FailureKind),
}

fn failure_kind() -> impl Strategy<Value = FailureKind> {
    prop_oneof![
        8 => Just(FailureKind::Throttled),
        8 => Just(FailureKind::Unreachable),
        8 => Just(FailureKind::Unknown),
        8 => Just(FailureKind::NotFound),
        1 => Just(FailureKind::Exists),
        1 => Just(FailureKind::Conflict),
        1 => Just(FailureKind::Refused),
        1 => Just(FailureKind::Stop(StopCause::Quota)),
        1 => Just(FailureKind::Stop(StopCause::Clock)),
        1 => Just(FailureKind::Stop(StopCause::Credentials)),
    ]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let fixture = 0..2usize;
    let nest = 0..NESTS.len();
    let place = (fixture.clone(), nest.clone());
    let holds = prop_oneof![20 => Just(Holds::Unsaid), 1 => Just(Holds::Nothing), 6 => Just(Holds::Live), 1 => Just(Holds::Other)];
    let how = prop_oneof![
        12 => Just(How::Well),
        2 => Just(How::Lost),
        1 => Just(How::Late),
        1 => Just(How::Proxy),
        2 => Just(How::Unsigned),
        3 => failure_kind().prop_map(How::Fails),
    ];
    let order = prop_oneof![4 => Just(Order::Retry), 2 => Just(Order::Release), 1 => Just(Order::Scrap)];
    let sync = prop_oneof![
        4 => Just(ClockSync::Unsaid),
        2 => Just(ClockSync::Synchronised),
        1 => Just(ClockSync::Unsynchronised("chronyd".to_owned())),
    ];
    let survey = prop_oneof![6 => Just(How::Well), 2 => failure_kind().prop_map(How::Fails)];
    let mac = prop_oneof![20 => Just(None), 10 => Just(Some(0)), 1 => Just(Some(1))];
    prop_oneof![
        12 => (place.clone(), 0..SERIALS.len(), mac, holds).prop_map(|((fixture, nest), serial, mac, holds)| {
            Op::Present { fixture, nest, serial, mac, holds }
        }),
        5 => place.clone().prop_map(|(fixture, nest)| Op::Repeat { fixture, nest }),
        20 => place.clone().prop_map(|(fixture, nest)| Op::Confirm { fixture, nest }),
        2 => place.clone().prop_map(|(fixture, nest)| Op::WriteFailed { fixture, nest }),
        2 => place.prop_map(|(fixture, nest)| Op::Removed { fixture, nest }),
        1 => (fixture.clone(), 1..5u64, 0..SERIALS.len(), 0..4usize).prop_map(|(fixture, id, serial, certificate)| {
            Op::Claim { fixture, id, serial, certificate }
        }),
        2 => fixture.clone().prop_map(|fixture| Op::Idle { fixture }),
        2 => (fixture.clone(), any::<bool>()).prop_map(|(fixture, reset)| Op::Hello { fixture, reset }),
        1 => fixture.clone().prop_map(|fixture| Op::Foreign { fixture }),
        1 => fixture.clone().prop_map(|fixture| Op::Lose { fixture }),
        2 => fixture.prop_map(|fixture| Op::Open { fixture }),
        20 => (0..64usize, how).prop_map(|(which, how)| Op::Answer { which, how }),
        8 => prop::bool::weighted(0.1).prop_map(|fails| Op::Issue { fails }),
        4 => Just(Op::Destroy),
        12 => (0..12usize).prop_map(|count| Op::Sync { count }),
        14 => Just(Op::Work),
        8 => survey.prop_map(Op::Survey),
        3 => Just(Op::Land),
        8 => prop_oneof![4 => 1..3_000u64, 1 => 3_000..70_000u64].prop_map(|milliseconds| Op::Wait { milliseconds }),
        2 => (0..6usize, any::<bool>()).prop_map(|(kept, done)| Op::Crash { kept, done }),
        1 => Just(Op::LoseKeys),
        1 => any::<bool>().prop_map(Op::Drain),
        1 => any::<bool>().prop_map(Op::Gate),
        2 => (order, 0..SERIALS.len()).prop_map(|(order, serial)| Op::Order { order, serial }),
        4 => sync.prop_map(Op::Clock),
        1 => prop_oneof![-7_200..7_200i64, Just(315_360_000)].prop_map(Op::SetClock),
        1 => Just(Op::Override),
    ]
}

pub(super) fn setup() -> impl Strategy<Value = Setup> {
    let repeat = prop_oneof![Just(Repeat::Return), Just(Repeat::Renew), Just(Repeat::Reject)];
    (repeat, 0..4u8, any::<bool>(), 0..9u8, any::<u64>(), any::<bool>()).prop_map(
        |(repeat, policy, locker, register, seed, hasty)| {
            let mut setup = Setup::with(|it| {
                it.repeat = repeat;
                it.max_certificates = 5;
                match policy {
                    0 => it.policy = shared_policy(),
                    1 => it.policy = PolicyRule::None,
                    _ => {}
                }
                if !locker {
                    it.locker = LockerRule::None;
                }
                match register {
                    0 => it.certificate.register = Register::Jitp,
                    1 => it.certificate.register = Register::WithCa,
                    2..=4 => it.certificate.register = Register::Aws,
                    _ => {}
                }
            });
            setup.seed = seed;
            if hasty {
                setup.keep = Duration::from_secs(40);
            }
            setup
        },
    )
}
