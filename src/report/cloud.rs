//! The third witness: what the account was found to hold for the devices of a report.

use super::model::{CloudCheck, CloudFinding, Report, StationCloud, StationRow};
use crate::reconcile::newest::Look;

impl CloudCheck {
    /// What came of it, in a sentence.
    #[must_use]
    pub fn headline(&self) -> String {
        let word = match (self.agrees, self.open()) {
            (true, _) => "THE CLOUD AGREES",
            (false, 0) => "THE CLOUD IS NOT WHOLLY SEEN",
            (false, _) => "THE CLOUD DIFFERS",
        };
        let mut all = vec![format!("{word}: {} devices held against the account", self.compared)];
        let each: Vec<_> = self.findings.iter().map(|(class, count)| format!("{count} {class}")).collect();
        let each = each.join(", ");
        match (self.found(), self.open()) {
            // Where something was not seen nobody can say that there is nothing.
            (0, _) if self.agrees => all.push("no findings".to_owned()),
            (0, _) => {}
            (_, 0) => all.push(format!("all findings repaired ({each})")),
            (1, _) => all.push(format!("1 finding ({each})")),
            (found, _) => all.push(format!("{found} findings ({each})")),
        }
        if self.repaired > 0 && self.open() > 0 {
            all.push(format!("{} of them repaired", self.repaired));
        }
        if self.unread > 0 {
            all.push(format!("{} could not be read", self.unread));
        }
        match self.unexamined {
            0 => {}
            1 => all.push("1 certificate was not looked into".to_owned()),
            many => all.push(format!("{many} certificates were not looked into")),
        }
        all.join(", ")
    }

    fn found(&self) -> u64 {
        self.findings.values().sum()
    }

    /// Findings that were not repaired.
    pub(super) fn open(&self) -> u64 {
        self.found().saturating_sub(self.repaired)
    }
}

impl Report {
    /// What the account was found to hold, in a sentence, and whether that is what it should; of several stations which
    /// of them found what. None where nobody has looked.
    #[must_use]
    pub fn cloud_headline(&self) -> Option<(bool, String)> {
        if let Some(cloud) = &self.cloud {
            return Some((cloud.agrees, cloud.headline()));
        }
        let of = |which: &dyn Fn(&StationRow) -> bool| {
            let ids: Vec<_> = self.stations.iter().filter(|it| which(it)).map(|it| it.id.as_str()).collect();
            (!ids.is_empty()).then(|| ids.join(", "))
        };
        let cloud = |it: &StationRow, found: fn(&StationCloud) -> bool| it.cloud.as_ref().is_some_and(found);
        let differs = of(&|it| cloud(it, |it| !it.agrees && it.open > 0));
        let unseen = of(&|it| cloud(it, |it| !it.agrees && it.open == 0));
        let agrees = of(&|it| cloud(it, |it| it.agrees));
        let parts = [
            differs.as_ref().map(|ids| format!("THE CLOUD DIFFERS at {ids}")),
            unseen.as_ref().map(|ids| format!("THE CLOUD IS NOT WHOLLY SEEN at {ids}")),
            agrees.map(|ids| format!("THE CLOUD AGREES at {ids}")),
        ];
        let mut parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            return None;
        }
        parts.extend(of(&|it| it.cloud.is_none()).map(|ids| format!("not looked at by {ids}")));
        Some((differs.is_none() && unseen.is_none(), parts.join("; ")))
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
        agrees: it.is_clean() && it.unexamined == 0,
        repaired: it.repaired,
        findings: it.findings.iter().map(|(class, count)| (class.as_str().to_owned(), *count)).collect(),
        devices: look.findings.iter().map(finding).collect(),
    };
    if !check.agrees {
        let what = check.headline();
        let todo = match check.open() {
            0 => "look again with `linemint reconcile`",
            _ => "see `linemint reconcile`, and put it right",
        };
        report.handover.actions.push(format!("{what}: {todo}"));
    }
    report.cloud = Some(check);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reconcile::{Class, Summary};
    use crate::report::tests::shifts::outage;

    /// A look with so many findings of two classes, and what came of it.
    fn looked(found: (u64, u64), repaired: u64, (unread, unexamined): (u64, u64)) -> Report {
        let findings = [(Class::Missing, found.0), (Class::HalfMade, found.1)];
        let findings: BTreeMap<_, _> = findings.into_iter().filter(|it| it.1 > 0).collect();
        let summary = Summary { compared: 40, findings, repaired, unread, unexamined, ..Summary::default() };
        let mut report = outage().1;
        hold_against(&mut report, &Look { summary, ..Look::default() });
        report
    }

    #[test]
    fn the_headline_says_what_was_found_repaired_and_not_seen() {
        let of = "40 devices held against the account";
        for ((found, repaired, unseen), agrees, headline) in [
            (((0, 0), 0, (0, 0)), true, format!("THE CLOUD AGREES: {of}, no findings")),
            (
                ((2, 1), 3, (0, 0)),
                true,
                format!("THE CLOUD AGREES: {of}, all findings repaired (1 half-made, 2 missing)"),
            ),
            (
                ((0, 0), 0, (0, 7)),
                false,
                format!("THE CLOUD IS NOT WHOLLY SEEN: {of}, 7 certificates were not looked into"),
            ),
            (((0, 0), 0, (2, 0)), false, format!("THE CLOUD IS NOT WHOLLY SEEN: {of}, 2 could not be read")),
            (
                ((2, 1), 3, (1, 1)),
                false,
                format!(
                    "THE CLOUD IS NOT WHOLLY SEEN: {of}, all findings repaired (1 half-made, 2 missing), 1 could not be read, \
                     1 certificate was not looked into"
                ),
            ),
            (((1, 0), 0, (0, 0)), false, format!("THE CLOUD DIFFERS: {of}, 1 finding (1 missing)")),
            (
                ((2, 1), 2, (1, 0)),
                false,
                format!(
                    "THE CLOUD DIFFERS: {of}, 3 findings (1 half-made, 2 missing), 2 of them repaired, 1 could not be read"
                ),
            ),
        ] {
            let report = looked(found, repaired, unseen);
            let check = report.cloud.as_ref().unwrap();
            assert_eq!((check.agrees, check.headline()), (agrees, headline));
            let told = report.handover.actions.iter().find(|it| it.starts_with(&check.headline()));
            let again = told.is_some_and(|it| it.ends_with(": look again with `linemint reconcile`"));
            assert_eq!((told.is_none(), again), (agrees, check.headline().contains("NOT WHOLLY SEEN")));
        }
    }
}
