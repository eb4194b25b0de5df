//! What a device needs next: a pure function of what is recorded of it.
//!
//! ```text
//!   locker ───────── managed thing ─────────┐
//!   policy ──────────┬─ attach policy ──────┤
//!   issue ─ certificate ┤                   ├─ delivery
//!   thing ──────────┴─ attach thing ────────┘
//! ```
//! Where the product wants a proof, `verify` or `connect` stands between the last column and the delivery.
//! Everything in one column is asked for at the same time, so that a device costs two round
//! trips to AWS in a row. Where AWS issues, `issue` makes the request, `certificate` asks for it, and it
//! is made active in the last column: when it is recorded, and not before.

use super::rules::{LockerRule, PolicyRule, ProductRules, Register, Verify};
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
    if let Some(mend) = &device.mend {
        return mend.ready();
    }
    if device.state == State::Passed || sabotaged!(OldRetiredEarly) && device.to_retire().is_some() {
        if device.owes_look() {
            return vec![Step::Principals];
        }
        return tidying(device);
    }
    if !device.state.is_unfinished() {
        return tidying(device);
    }
    let mut steps = making(device, rules);
    if is_made(device, rules) {
        steps.extend(owed_proof(device, rules));
    }
    steps
}

/// What is to be made of an unfinished device, and retired meanwhile.
fn making(device: &Device, rules: &ProductRules) -> Vec<Step> {
    // What has to be retired meanwhile is no concern of the rest.
    let mut steps: Vec<Step> = device.next_retiring().into_iter().collect();
    if needs_locker(device, rules) {
        steps.push(Step::Locker);
    }
    if needs_managed_thing(device, rules) && !needs_locker(device, rules) {
        steps.push(Step::ManagedThing);
    }
    if needs_policy(device, rules) {
        steps.push(Step::Policy);
    }
    if !device.done.thing {
        steps.push(Step::Thing);
    }
    let Some(certificate) = &device.certificate else {
        let asks = rules.certificate.register == Register::Aws && device.request.is_some();
        steps.push(if asks { Step::Certificate } else { Step::Issue });
        return steps;
    };
    if rules.certificate.register == Register::Jitp {
        return steps;
    }
    if certificate.arn.is_none() {
        steps.push(Step::Certificate);
        return steps;
    }
    if needs_activation(device) {
        steps.push(Step::Activate);
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
    if device.needs_sweep() && device.to_retire().is_none() && is_provided(device, rules) {
        steps.push(Step::Sweep);
    }
    steps
}

/// What is left to do in AWS for a device that waits for nothing there.
fn tidying(device: &Device) -> Vec<Step> {
    // Not before: a certificate that turns up must not come between the steps of another.
    let sweep = || device.needs_sweep().then_some(Step::Sweep);
    device.next_retiring().or_else(sweep).into_iter().collect()
}

/// Whether the cloud holds all that the device is to have and nothing beside it, and that is proved where
/// the product wants it, so that it can be given its credentials.
#[must_use]
pub fn is_complete(device: &Device, rules: &ProductRules) -> bool {
    device.mend.is_none() && is_made(device, rules) && owed_proof(device, rules).is_none()
}

fn is_made(device: &Device, rules: &ProductRules) -> bool {
    is_provided(device, rules) && device.doubts.iter().all(|it| it.swept)
}

/// The proof that the product wants before the device may have its credentials.
fn owed_proof(device: &Device, rules: &ProductRules) -> Option<Step> {
    match rules.verify {
        _ if device.done.proved => None,
        Verify::None => None,
        Verify::Cloud => Some(Step::Verify),
        Verify::Tls => Some(Step::Connect),
    }
}

fn is_provided(device: &Device, rules: &ProductRules) -> bool {
    let Some(certificate) = &device.certificate else { return false };
    if needs_locker(device, rules) || needs_managed_thing(device, rules) {
        return false;
    }
    if needs_policy(device, rules) || !device.done.thing {
        return false;
    }
    if rules.certificate.register == Register::Jitp {
        return true;
    }
    certificate.arn.is_some()
        && !needs_activation(device)
        && (device.done.attach_policy || !has_policy(rules))
        && device.done.attach_thing
}

/// Whether a policy is attached to a device's certificate.
#[must_use]
pub fn has_policy(rules: &ProductRules) -> bool {
    !matches!(rules.policy, PolicyRule::None)
}

/// What AWS has issued is inactive at first.
fn needs_activation(device: &Device) -> bool {
    device.certificate.as_ref().is_some_and(|it| it.public_key.is_some()) && !device.done.active
}

fn needs_locker(device: &Device, rules: &ProductRules) -> bool {
    matches!(rules.locker, LockerRule::Device { .. } | LockerRule::Batch { .. })
        && device.done.locker.is_none()
}

/// It goes into its locker when it is made.
fn needs_managed_thing(device: &Device, rules: &ProductRules) -> bool {
    rules.managed_thing.is_some() && device.done.managed_thing.is_none()
}

fn needs_policy(device: &Device, rules: &ProductRules) -> bool {
    matches!(rules.policy, PolicyRule::Device { .. } | PolicyRule::Product { .. }) && !device.done.policy
}
