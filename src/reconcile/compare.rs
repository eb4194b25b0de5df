//! Expected against held.

use super::{Class, Expected, Finding, Held, Owner, Repair, SharedLocker};
use crate::cloud::CertificateStatus;
use crate::device::mend::Orphan;
use crate::device::steps::{Step, same_json};

/// Ids and names that a sentence lists at most.
const MAX_LISTED: usize = 5;

const REPAIR: &str = "run `linemint reconcile --repair`";

/// What is not as it should be for one device; nothing if all is.
#[must_use]
pub fn compare(expected: &Expected, held: &Held) -> Vec<Finding> {
    let look = Look { expected, held };
    if expected.is_to_be_gone() {
        return look.of_scrapped().into_iter().collect();
    }
    let ownership = look.not_ours();
    let mine = ownership.is_none();
    let lacks = look.lacks(mine).into_iter();
    let rest = [look.inactive(), look.policy_differs(), look.attached_to_another(mine)];
    ownership.into_iter().chain(lacks).chain(rest.into_iter().flatten()).chain(look.duplicated()).collect()
}

/// A thing that this station has made and the journal does not know. `product`, if it can be told and all
/// that hangs on the thing is provably this station's.
#[must_use]
pub fn extra(thing: &str, serial: Option<&str>, product: Option<&str>) -> Finding {
    Finding {
        class: Class::Extra,
        serial: serial.map(str::to_owned),
        resource: format!("thing {thing}"),
        expected: "the journal knows no such device".to_owned(),
        held: "a thing that bears this station's attribute".to_owned(),
        remedy:
            "find out whether an older journal was restored, or another one used: then it is a real device; \
                 present it to take it up, or delete it with `linemint reconcile --repair --delete-extras`"
                .to_owned(),
        repair: product.map(|it| Repair::Clear { product: it.to_owned() }),
    }
}

/// A thing of the name that a device on the order's list would get here, which was never presented here. One that this
/// station has made itself is real where an older journal was restored, so that it is never repaired from here: only
/// where all is looked at it is told as an [`extra`] that can be deleted. `scrapped`: the journal knows the device, as
/// that.
#[must_use]
pub fn on_order(thing: &str, (serial, scrapped): (&str, bool), batch: &str, owner: &Owner) -> Finding {
    let (class, held, remedy) = match owner {
        Owner::Us if scrapped => (
            Class::Extra,
            "a thing that bears this station's attribute, and the journal has the device as scrapped".to_owned(),
            "find out who made it again, and delete the thing with what is attached to it".to_owned(),
        ),
        Owner::Us => (
            Class::Extra,
            "a thing that bears this station's attribute".to_owned(),
            "present the unit: it is taken up, and is real if an older journal was restored, or another one used; \
             if there is no such unit, `linemint reconcile --repair --delete-extras` without `--batch` deletes it"
                .to_owned(),
        ),
        Owner::Station(it) => (
            Class::NotOurs,
            format!("station {it} has made it"),
            format!(
                "if {it} works at the same order, it counts there: give each station its own part of the list; \
                 else find out how it came there before the unit is presented here"
            ),
        ),
        Owner::Nobody => (
            Class::NotOurs,
            "a thing that does not bear the attribute linemint".to_owned(),
            "find out who made it, by hand or with another program: as long as it is there, the unit cannot be made here"
                .to_owned(),
        ),
    };
    Finding {
        class,
        serial: Some(serial.to_owned()),
        resource: format!("thing {thing}"),
        expected: format!("ordered in batch {batch} and never presented here: nothing of it is there"),
        held,
        remedy,
        repair: None,
    }
}

/// A certificate that the station's CA has signed, or that the journal has as retired, and that is there.
/// `repair` is none where it hangs on more than a retirement can detach.
#[must_use]
pub fn orphan(
    certificate: &str,
    serial: Option<&str>,
    (active, known): (bool, bool),
    repair: Option<Orphan>,
) -> Finding {
    let expected = if known { "it was retired" } else { "the journal knows no such certificate" };
    let held = if active { "it is there and active" } else { "it is there" };
    let remedy = match &repair {
        Some(_) => format!("{REPAIR}: it is deactivated, detached and deleted"),
        None => "find out what it is attached to and whether a device uses it; if none does, deactivate it by hand".to_owned(),
    };
    Finding {
        class: Class::OrphanedCertificate,
        serial: serial.map(str::to_owned),
        resource: format!("certificate {certificate}"),
        expected: expected.to_owned(),
        held: held.to_owned(),
        remedy,
        repair: repair.map(|it| Repair::Retire(Box::new(it))),
    }
}

/// A policy that many devices share and that is not there, or is another.
#[must_use]
pub fn shared_policy(name: &str, there: bool) -> Finding {
    let (class, held, remedy) = if there {
        let remedy = format!("find out who changed it; `aws iot get-policy --policy-name {name}` shows it");
        (Class::PolicyDiffers, "its document is another", remedy)
    } else {
        let remedy = "present a device of the product: it is made again with that".to_owned();
        (Class::Missing, "it is not there", remedy)
    };
    Finding {
        class,
        serial: None,
        resource: format!("policy {name}"),
        expected: "it is there for all devices of the product".to_owned(),
        held: held.to_owned(),
        remedy,
        repair: None,
    }
}

/// A locker that a batch's devices share and that is not there. The journal has given it to them: no other
/// takes its place.
#[must_use]
pub fn shared_locker(it: &SharedLocker) -> Finding {
    Finding {
        class: Class::Missing,
        serial: None,
        resource: format!("locker {}", it.id),
        expected: format!("the locker {} is there for all devices of batch {}", it.name, it.batch),
        held: "it is not there".to_owned(),
        remedy:
            "find out who deleted it: a locker cannot come back; make what is left of the order as another \
                 batch, which gets a locker of its own"
                .to_owned(),
        repair: None,
    }
}

struct Look<'a> {
    expected: &'a Expected,
    held: &'a Held,
}

impl Look<'_> {
    fn finding(&self, class: Class, resource: String, [expected, held, remedy]: [String; 3]) -> Finding {
        let serial = Some(self.expected.serial.clone());
        Finding { class, serial, resource, expected, held, remedy, repair: None }
    }

    fn of_scrapped(&self) -> Option<Finding> {
        (self.held.thing == Some(Owner::Us)).then(|| {
            let sentences = [
                "it is scrapped, and its thing deleted".to_owned(),
                "its thing is there".to_owned(),
                "find out who made it again, and delete the thing with what is attached to it".to_owned(),
            ];
            self.finding(Class::Extra, format!("thing {}", self.expected.thing), sentences)
        })
    }

    fn not_ours(&self) -> Option<Finding> {
        let held = match self.held.thing.as_ref().filter(|_| self.expected.has_thing)? {
            Owner::Us => return None,
            Owner::Station(it) => format!("station {it} has made it"),
            Owner::Nobody => "it does not bear the attribute linemint".to_owned(),
        };
        let station = &self.expected.station;
        let sentences = [
            format!("station {station} has made it"),
            held,
            "find out who took the name; it is left as it is, and so is what is missing beside it".to_owned(),
        ];
        Some(self.finding(Class::NotOurs, format!("thing {}", self.expected.thing), sentences))
    }

    /// What is not there: as a whole, or a part.
    fn lacks(&self, mine: bool) -> Option<Finding> {
        let (steps, words) = self.lacking(mine);
        if steps.is_empty() {
            return None;
        }
        let own = self.own();
        let nothing = own.iter().all(|step| steps.contains(step));
        let (class, held) = if nothing && own.contains(&Step::Thing) {
            (Class::Missing, "nothing of it is there".to_owned())
        } else {
            (Class::HalfMade, format!("not there: {}", words.join(", ")))
        };
        let returns = self.expected.certificate.as_ref().is_none_or(|it| it.can_return);
        let issued = !returns && steps.contains(&Step::Certificate);
        // AWS would answer for ever that there is no such locker.
        let into = self.expected.managed_into.as_ref().filter(|_| self.held.managed_into == Some(false));
        let into = into.filter(|_| steps.contains(&Step::ManagedThing));
        let (steps, held_back) = self.without_unproved_policy(self.with_followers(steps));
        let can = mine && !issued && into.is_none() && !steps.is_empty();
        let remedy = match into {
            _ if !mine => "settle first whose the thing is".to_owned(),
            _ if issued => {
                "AWS cannot issue the same certificate again: renew the device, or scrap it".to_owned()
            }
            Some(id) => format!(
                "find out who deleted the locker {id}, which is not the device's own: its managed thing goes into that, \
                 and a locker cannot come back"
            ),
            None => match held_back {
                None => format!("{REPAIR}: what is missing is made again"),
                Some(policy) if can => format!(
                    "{REPAIR}: what is missing is made again, but the policy {policy} is not attached, since it is not \
                     there with the document that the device was made by: settle that first"
                ),
                Some(policy) => format!(
                    "settle the policy {policy} first: it is not there with the document that the device was made by, \
                     and as long as that is so, no repair attaches it"
                ),
            },
        };
        let sentences = ["it was made whole".to_owned(), held, remedy];
        let finding = self.finding(class, format!("device {}", self.expected.serial), sentences);
        Some(Finding { repair: can.then_some(Repair::Finish { steps }), ..finding })
    }

    /// Without the attaching of a policy that may say something else by now, and the name of that: a live certificate
    /// would be given what nobody here has allowed it. What a repair makes itself is compared when it is made; what a
    /// person has made has no document here, and is attached by its name as at first.
    fn without_unproved_policy(&self, mut steps: Vec<Step>) -> (Vec<Step>, Option<&str>) {
        let Some(policy) = &self.expected.policy else { return (steps, None) };
        let Some(ours) = &policy.document else { return (steps, None) };
        let held = self.held.policy.as_ref().and_then(Option::as_ref);
        if steps.contains(&Step::Policy) || held.is_some_and(|theirs| same_json(ours, theirs)) {
            return (steps, None);
        }
        let before = steps.len();
        steps.retain(|it| *it != Step::AttachPolicy);
        let name = (steps.len() < before).then_some(policy.name.as_str());
        (steps, name)
    }

    /// The steps that make what is a device's own.
    fn own(&self) -> Vec<Step> {
        let it = self.expected;
        let policy = it.policy.as_ref().is_some_and(|it| it.own);
        let all = [
            (it.locker.is_some(), Step::Locker),
            (it.managed_thing.is_some() && self.held.managed_thing.is_some(), Step::ManagedThing),
            (policy, Step::Policy),
            (it.has_thing, Step::Thing),
            (it.certificate.is_some(), Step::Certificate),
        ];
        all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, step)| step).collect()
    }

    fn lacking(&self, mine: bool) -> (Vec<Step>, Vec<String>) {
        let (expected, held) = (self.expected, self.held);
        let (mut steps, mut words) = (Vec::new(), Vec::new());
        let mut lack = |step: Step, what: String| {
            steps.push(step);
            words.push(what);
        };
        if let Some(it) = expected.locker.as_ref().filter(|_| !held.locker) {
            lack(Step::Locker, format!("the locker {}", it.id));
        }
        if let Some(it) = expected.managed_thing.as_ref().filter(|_| held.managed_thing == Some(false)) {
            lack(Step::ManagedThing, format!("the managed thing {it}"));
        }
        if let Some(it) = expected.policy.as_ref().filter(|it| it.own && held.policy.is_none()) {
            lack(Step::Policy, format!("the policy {}", it.name));
        }
        if expected.has_thing && held.thing.is_none() {
            lack(Step::Thing, format!("the thing {}", expected.thing));
        }
        let Some(certificate) = &expected.certificate else { return (steps, words) };
        if held.certificate.is_none() {
            lack(Step::Certificate, format!("the certificate {}", certificate.id));
            return (steps, words);
        }
        if let (Some(it), Some(policies)) = (&expected.policy, &held.policies)
            && it.attached
            && (!it.own || held.policy.is_some())
            && !policies.contains(&it.name)
        {
            lack(Step::AttachPolicy, format!("the policy {} at the certificate", it.name));
        }
        if let Some(principals) = &held.principals
            && certificate.attached
            && mine
            && held.thing.is_some()
            && !principals.contains(&certificate.arn)
        {
            lack(Step::AttachThing, format!("the certificate at the thing {}", expected.thing));
        }
        (steps, words)
    }

    /// What hangs on what is made again has to be attached again.
    fn with_followers(&self, mut steps: Vec<Step>) -> Vec<Step> {
        let has = |step: Step| steps.contains(&step);
        let policy = self.expected.policy.as_ref().is_some_and(|it| it.attached);
        let thing = self.expected.certificate.as_ref().is_some_and(|it| it.attached);
        let mut more = Vec::new();
        if policy && (has(Step::Certificate) || has(Step::Policy)) && !has(Step::AttachPolicy) {
            more.push(Step::AttachPolicy);
        }
        if thing && (has(Step::Certificate) || has(Step::Thing)) && !has(Step::AttachThing) {
            more.push(Step::AttachThing);
        }
        steps.extend(more);
        steps
    }

    fn inactive(&self) -> Option<Finding> {
        let certificate = self.expected.certificate.as_ref().filter(|it| it.active)?;
        let status = self.held.certificate.filter(|it| *it != CertificateStatus::Active)?;
        let sentences = [
            "it is active".to_owned(),
            format!("it is {}", status.as_str()),
            format!(
                "find out who deactivated it and why; then scrap the device, or `aws iot update-certificate --certificate-id {} --new-status ACTIVE`",
                certificate.id
            ),
        ];
        Some(self.finding(Class::Inactive, format!("certificate {}", certificate.id), sentences))
    }

    fn policy_differs(&self) -> Option<Finding> {
        let policy = self.expected.policy.as_ref().filter(|it| it.own)?;
        let (ours, theirs) = (policy.document.as_ref()?, self.held.policy.as_ref()?.as_ref()?);
        if same_json(ours, theirs) {
            return None;
        }
        let sentences = [
            "the document in force is the one that the device was made by".to_owned(),
            "it is another".to_owned(),
            format!(
                "find out who changed it; `aws iot get-policy --policy-name {}` shows it, and the device's rules are in the journal",
                policy.name
            ),
        ];
        Some(self.finding(Class::PolicyDiffers, format!("policy {}", policy.name), sentences))
    }

    fn attached_to_another(&self, mine: bool) -> Option<Finding> {
        let (expected, held) = (self.expected, self.held);
        let elsewhere = self.managed_elsewhere();
        let Some(certificate) = &expected.certificate else {
            return elsewhere.map(|it| self.of_managed_thing(it));
        };
        let mut found = Vec::new();
        let things = held.things.iter().flatten().filter(|it| **it != expected.thing);
        found.extend(listed("its certificate is at the thing", things));
        let known = |arn: &&String| {
            **arn == certificate.arn || expected.earlier.iter().any(|it| arn.ends_with(&it.to_string()))
        };
        let principals = held.principals.iter().flatten().filter(|it| mine && !known(it));
        found.extend(listed("at its thing is also", principals));
        let own = expected.policy.as_ref().map(|it| &it.name);
        let policies = held.policies.iter().flatten().filter(|it| Some(*it) != own);
        found.extend(listed("its certificate also carries the policy", policies));
        if found.is_empty() {
            return elsewhere.map(|it| self.of_managed_thing(it));
        }
        found.extend(elsewhere);
        let sentences = [
            format!("certificate and thing {} belong to each other alone", expected.thing),
            found.join("; "),
            "find out who attached it, and detach what does not belong there".to_owned(),
        ];
        Some(self.finding(Class::AttachedToAnother, format!("certificate {}", certificate.id), sentences))
    }

    /// That its managed thing names another locker than the journal: a hub is then looked for in the wrong household.
    fn managed_elsewhere(&self) -> Option<String> {
        let (thing, theirs) = (self.expected.managed_thing.as_ref()?, self.held.managed_locker.as_ref()?);
        let ours = self.expected.managed_locker.as_ref();
        (ours != Some(theirs)).then(|| format!("its managed thing {thing} names the locker {theirs}"))
    }

    fn of_managed_thing(&self, held: String) -> Finding {
        let thing = self.expected.managed_thing.as_deref().unwrap_or_default();
        let (expected, remedy) = match &self.expected.managed_locker {
            Some(ours) => (
                format!("it names the locker {ours}"),
                format!(
                    "find out who changed it, or which locker was made again since; `aws iot-managed-integrations \
                     update-managed-thing --identifier {thing} --credential-locker-id {ours}` has it name the right one"
                ),
            ),
            None => ("it names no locker".to_owned(), "find out who put it into one, and why".to_owned()),
        };
        self.finding(Class::AttachedToAnother, format!("managed thing {thing}"), [expected, held, remedy])
    }

    fn duplicated(&self) -> Option<Finding> {
        let locker = self.expected.locker.as_ref()?;
        let others = listed("there are others of its name", self.held.other_lockers.iter())?;
        let sentences = [
            format!("it is the only one of the name {}", locker.name),
            others,
            "find out what they are for: a name proves nothing, so they are left as they are".to_owned(),
        ];
        Some(self.finding(Class::DuplicatedLocker, format!("locker {}", locker.id), sentences))
    }
}

/// `what` with the names behind it, or their number; none if there are none.
fn listed<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let more = names.len().saturating_sub(MAX_LISTED);
    let shown = names.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join(", ");
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("{what} {shown}")),
        (false, more) => Some(format!("{what} {shown} and {more} more")),
    }
}
