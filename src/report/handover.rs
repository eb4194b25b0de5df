//! What the next shift has to do, in sentences.

use super::model::{Balance, Certificates, Handover};

/// The hand-over with what follows from the devices.
pub(super) fn with_actions(mut it: Handover, balance: &Balance, certificates: &Certificates) -> Handover {
    let mut say = |count: u64, one: &str, many: &str| {
        if count > 0 {
            let text = if count == 1 { one.to_owned() } else { many.replace("{}", &count.to_string()) };
            it.actions.push(text);
        }
    };
    say(
        balance.quarantined,
        "1 device is in quarantine: look at it, then `linemint device release` or `scrap` it",
        "{} devices are in quarantine: look at them, then `linemint device release` or `scrap` each",
    );
    say(
        balance.never_presented,
        "1 device is known and was never presented: find out what it is, then present it, in quarantine after `linemint device release`, or `scrap` it",
        "{} devices are known and were never presented: find out what they are, then present each, in quarantine after `linemint device release`, or `scrap` it",
    );
    say(
        balance.failed,
        "1 device has failed: present it again",
        "{} devices have failed: present them again",
    );
    say(
        balance.in_progress,
        "1 device is in progress: leave it on the rack until the station has made it, then present it",
        "{} devices are in progress: leave them on the rack until the station has made them, then present them",
    );
    say(balance.missing, "1 device of the order is missing", "{} devices of the order are missing");
    say(balance.extras, "1 device is not on the order", "{} devices are not on the order");
    say(
        certificates.active_without_pass,
        "1 device that has not passed has an active certificate",
        "{} devices that have not passed have active certificates",
    );
    for problem in &balance.problems {
        it.actions.push(format!("find out why the balance does not close: {problem}"));
    }
    it
}
