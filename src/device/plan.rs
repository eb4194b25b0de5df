//! What a device needs next: a pure function of what is recorded of it.
//!
//! ```text
//!   locker ─────────────────────────────────┐
//!   policy ──────────┬─ attach policy ──────┤
//!   issue ─ certificate ┤                   ├─ delivery
//!   thing ──────────┴─ attach thing ────────┘
//! ```
//! Everything in one column is asked for at the same time, so that a device costs two round
//! trips to AWS in a row.

use super::rules::{LockerRule, PolicyRule, ProductRules, Register};
use super::steps::Step;
use super::{Device, State};
use crate::sabotage::sabotaged;

/// The steps that can be taken now, none of which waits for another. Empty when there is nothing
/// left to do, or nothing that may be done.
#[must_use]
pub fn ready(device: &Device, rules: &ProductRules) -> Vec<Step> {
    if device.is_scrapping() {
        return device.next_clearing().into_iter().collect();
    }
    if device.state == State::Passed || sabotaged!(OldRetiredEarly) && device.to_retire().is_some() {
        if device.owes_look() {
            return vec![Step::Principals];
        }
        return device.next_retiring().into_iter().collect();
    }
    // What has to be retired meanwhile is no concern of the rest.
    let mut steps: Vec<Step> = device.next_retiring().into_iter().collect();
    if !device.state.is_unfinished() {
        return steps;
    }
    if needs_locker(device, rules) {
        steps.push(Step::Locker);
    }
    if needs_policy(device, rules) {
        steps.push(Step::Policy);
    }
    if !device.done.thing {
        steps.push(Step::Thing);
    }
    let Some(certificate) = &device.certificate else {
        steps.push(Step::Issue);
        return steps;
    };
    if rules.certificate.register == Register::Jitp {
        return steps;
    }
    if certificate.arn.is_none() {
        steps.push(Step::Certificate);
        return steps;
    }
    if has_policy(rules) && !needs_policy(device, rules) && !device.done.attach_policy {
        steps.push(Step::AttachPolicy);
    }
    if device.done.thing && !device.done.attach_thing {
        steps.push(Step::AttachThing);
    }
    if device.owes_look() {
        steps.push(Step::Principals);
    }
    steps
}

/// Whether the cloud holds all that the device is to have, so that it can be given its credentials.
#[must_use]
pub fn is_complete(device: &Device, rules: &ProductRules) -> bool {
    let Some(certificate) = &device.certificate else { return false };
    if needs_locker(device, rules) || needs_policy(device, rules) || !device.done.thing {
        return false;
    }
    if rules.certificate.register == Register::Jitp {
        return true;
    }
    certificate.arn.is_some() && (device.done.attach_policy || !has_policy(rules)) && device.done.attach_thing
}

/// Whether a policy is attached to a device's certificate.
#[must_use]
pub fn has_policy(rules: &ProductRules) -> bool {
    !matches!(rules.policy, PolicyRule::None)
}

fn needs_locker(device: &Device, rules: &ProductRules) -> bool {
    matches!(rules.locker, LockerRule::Device { .. }) && device.done.locker.is_none()
}

fn needs_policy(device: &Device, rules: &ProductRules) -> bool {
    matches!(rules.policy, PolicyRule::Device { .. } | PolicyRule::Product { .. }) && !device.done.policy
}
