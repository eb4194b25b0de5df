//! The third witness: what the account was found to hold for the devices of a report.

use super::model::{CloudCheck, CloudFinding, Report};
use crate::reconcile::newest::Look;

impl CloudCheck {
    /// What came of it, in a sentence.
    #[must_use]
    pub fn headline(&self) -> String {
        let of = format!("{} devices held against the account", self.compared);
        let each: Vec<_> = self.findings.iter().map(|(class, count)| format!("{count} {class}")).collect();
        let found: u64 = self.findings.values().sum();
        match (self.agrees, found) {
            (true, 0) => format!("THE CLOUD AGREES: {of}, no findings"),
            (true, _) => format!("THE CLOUD AGREES: {of}, all findings repaired ({})", each.join(", ")),
            (false, 0) => format!("THE CLOUD IS NOT WHOLLY SEEN: {of}, {} could not be read", self.unread),
            (false, 1) => format!("THE CLOUD DIFFERS: {of}, 1 finding ({})", each.join(", ")),
            (false, _) => format!("THE CLOUD DIFFERS: {of}, {found} findings ({})", each.join(", ")),
        }
    }
}

/// Takes what a look at the account has shown into the report, and what is to be done about it.
pub fn hold_against(report: &mut Report, look: &Look) {
    let it = &look.summary;
    let finding = |it: &crate::reconcile::Finding| CloudFinding {
        class: it.class.as_str().to_owned(),
        serial: it.serial.clone(),
        resource: it.resource.clone(),
        expected: it.expected.clone(),
        held: it.held.clone(),
        remedy: it.remedy.clone(),
    };
    let check = CloudCheck {
        at: look.at,
        quick: look.quick,
        selected: it.selected,
        compared: it.compared,
        in_flight: it.in_flight,
        unread: it.unread,
        listed: it.listed,
        unexamined: it.unexamined,
        agrees: it.is_clean(),
        repaired: it.repaired,
        findings: it.findings.iter().map(|(class, count)| (class.as_str().to_owned(), *count)).collect(),
        devices: look.findings.iter().map(finding).collect(),
    };
    if !check.agrees {
        let what = check.headline();
        report.handover.actions.push(format!("{what}: see `linemint reconcile`, and put it right"));
    }
    report.cloud = Some(check);
}
