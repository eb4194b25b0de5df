//! A unit is presented: what it is answered, from the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batches::{Joined, Joining};
use super::link::{LinkState, Open};
use super::told::Told;
use super::{Line, Timer};
use crate::device::State;
use crate::device::event::{Admission, CloseReason, Event, Outcome, Waited};
use crate::device::request::CertificateRequest;
use crate::device::rules::{Filling, Place, ProductRules, Repeat, Template};
use crate::device::serial::{Mac, SerialNumber};
use crate::device::steps::Subject;
use crate::fixture::{FailCode, NakCode, StationMessage, Unit};
use crate::journal::{JournalError, KnownPresentation, Shelf};
use crate::pki::{DevicePublicKey, Fingerprint};
use crate::sabotage::sabotaged;

/// Members of `attributes` at most.
const MAX_ATTRIBUTES: usize = 16;

/// A unit whose texts have been read.
pub(super) struct Presented {
    pub(super) id: u64,
    pub(super) serial: SerialNumber,
    /// What it is taken for.
    pub(super) product: String,
    nest: Option<String>,
    mac: Option<Mac>,
    pub(super) key: Option<DevicePublicKey>,
    /// Its certificate signing request, where AWS gets it.
    request: Option<CertificateRequest>,
    /// The certificate that it says it holds: `Some(None)` if it says that it holds none.
    holds: Option<Option<Fingerprint>>,
    attributes: BTreeMap<String, String>,
    /// It was taken before under the same id, and closed without an answer: its fixture has had its `ack`.
    was_closed: bool,
}

/// Why a unit is not taken.
type Refusal = (NakCode, String);

/// What a device's old certificates hang on when it gets another.
#[derive(Default)]
pub(super) struct Replaced {
    /// The policy.
    policy: Option<String>,
    /// The thing, if it gets another name.
    thing: Option<String>,
}

impl Line {
    pub(super) fn unit(&mut self, fixture: usize, unit: Unit, shelf: &dyn Shelf) -> Result<(), JournalError> {
        let id = unit.id;
        match self.links[fixture].state {
            LinkState::Ready => {}
            LinkState::Foreign(code) => {
                self.nak(fixture, Some(id), code, "");
                return Ok(());
            }
            LinkState::AwaitHello | LinkState::Closed | LinkState::Gone => {
                self.nak(fixture, Some(id), NakCode::Busy, "the fixture has not said hello yet");
                return Ok(());
            }
        }
        self.pull_answered(fixture);
        let mut was_closed = false;
        if let Some(known) = self.known(fixture, id, shelf)? {
            match self.contradicts(fixture, &unit, &known, shelf)? {
                // A fixture that tells no boot number and counts from 1 again was reset.
                Some(_) if self.links[fixture].boot == Some(0) => self.was_reset(fixture, 0),
                Some(what) if self.doubted(fixture, &unit, what) => {
                    return Ok(());
                }
                _ if known.outcome != Some(Outcome::Closed) => {
                    return self.again(fixture, id, &known, shelf);
                }
                what => was_closed = what.is_none(),
            }
        }
        self.vacate(fixture, unit.nest.as_deref(), id);
        if self.draining {
            self.nak(fixture, Some(id), NakCode::Draining, "");
            return Ok(());
        }
        let product = self.taken_for(fixture, &unit.serial, shelf)?;
        match self.read_unit(product, unit) {
            Ok(it) => self.present(fixture, Presented { was_closed, ..it }, shelf),
            Err((code, detail)) => {
                self.nak(fixture, Some(id), code, &detail);
                Ok(())
            }
        }
    }

    /// The presentation that `id` stands for, open or ended.
    pub(super) fn known(
        &self,
        fixture: usize,
        id: u64,
        shelf: &dyn Shelf,
    ) -> Result<Option<KnownPresentation>, JournalError> {
        let link = &self.links[fixture];
        if let Some(open) = link.open.get(&id) {
            return Ok(Some(KnownPresentation { serial: open.serial.clone(), outcome: None }));
        }
        if let Some(ended) = link.ended(id) {
            return Ok(Some(ended.clone()));
        }
        if link.reset_seq > self.durable {
            return Ok(None);
        }
        shelf.presentation(&link.key(id))
    }

    /// A unit that was presented before, under the same id: `ack`, then where it stands.
    fn again(
        &mut self,
        fixture: usize,
        id: u64,
        known: &KnownPresentation,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        self.say(fixture, StationMessage::Ack { id }, None);
        if let Some(open) = self.links[fixture].open.get_mut(&id) {
            open.acked = true;
        }
        match &known.outcome {
            Some(outcome) => self.say_outcome(fixture, id, known.serial.as_str(), outcome),
            None if self.links[fixture].open.contains_key(&id) => self.offer_again(fixture, id),
            None => {
                // The journal has it open, this process has not: taken up where it stood.
                if self.fetch(&known.serial, shelf)? {
                    let nest =
                        self.works.get(&known.serial).and_then(|it| it.device.presentation.nest.clone());
                    self.open(fixture, id, known.serial.clone(), nest);
                    self.progress(&known.serial.clone());
                }
            }
        }
        Ok(())
    }

    /// What a unit is taken for: what its fixture presents now, or what it was when it was presented there last.
    /// A change-over in between is no reason to refuse it.
    fn taken_for(&mut self, fixture: usize, serial: &str, shelf: &dyn Shelf) -> Result<String, JournalError> {
        if let Ok(serial) = SerialNumber::parse(serial)
            && self.fetch(&serial, shelf)?
        {
            let device = &self.works[&serial].device;
            let was_here = device.presentation.key.fixture == self.links[fixture].settings.name;
            if was_here && self.settings.products.contains_key(&device.product) {
                return Ok(device.product.clone());
            }
        }
        Ok(self.presents(fixture).to_owned())
    }

    fn read_unit(&self, name: String, unit: Unit) -> Result<Presented, Refusal> {
        let product = &self.settings.products[&name];
        let serial = SerialNumber::parse_as(&unit.serial, &product.serial)
            .map_err(|error| (NakCode::BadSerial, error.to_string()))?;
        let bad = |detail: String| (NakCode::BadUnit, detail);
        let mac = match &unit.mac {
            Some(text) => Some(Mac::parse(text).map_err(|error| bad(error.to_string()))?),
            None => None,
        };
        if mac.is_none() && needs_mac(&product.rules) {
            return Err(bad("this product's names need a MAC address".to_owned()));
        }
        if unit.attributes.len() > MAX_ATTRIBUTES {
            return Err(bad(format!("more than {MAX_ATTRIBUTES} attributes")));
        }
        let told = Told { csr: unit.csr.as_deref() };
        let (key, request) = told.keys(&product.rules).map_err(bad)?;
        let holds = match unit.holds.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(text) => Some(Some(text.parse().map_err(|_| bad("holds is no SHA-256".to_owned()))?)),
        };
        let Unit { id, nest, attributes, .. } = unit;
        let was_closed = false;
        Ok(Presented { id, serial, product: name, nest, mac, key, request, holds, attributes, was_closed })
    }

    fn present(&mut self, fixture: usize, it: Presented, shelf: &dyn Shelf) -> Result<(), JournalError> {
        if self.is_clone(fixture, &it, shelf)? {
            return Ok(());
        }
        if !self.fetch(&it.serial, shelf)? {
            let joined = self.joins(&it.product, &it.serial, shelf)?;
            self.present_new(fixture, &it, joined);
            return Ok(());
        }
        let device = &self.works[&it.serial].device;
        let wanted = &it.product;
        if device.product != *wanted {
            let why = format!("{} is a {}, this fixture's product is a {wanted}", it.serial, device.product);
            self.refuse_known(fixture, &it, (NakCode::BadUnit, FailCode::Rejected), &why);
            return Ok(());
        }
        if matches!(device.state, State::Quarantined | State::Scrapped) {
            let why = device.failure.as_ref().map(|it| it.message.clone()).unwrap_or_default();
            self.refuse_known(fixture, &it, (NakCode::Quarantined, FailCode::Quarantined), &why);
            return Ok(());
        }
        if !self.take_place(fixture, &it) {
            self.nak(fixture, Some(it.id), NakCode::Elsewhere, "");
            return Ok(());
        }
        let joined = self.joins_late(&it.product, &it.serial, shelf)?;
        let device = &self.works[&it.serial].device;
        if device.state == State::Passed {
            self.present_passed(fixture, &it, joined);
        } else if device.has_passed_before() && differs(device, &it).is_none() {
            self.present_released(fixture, &it, joined);
        } else {
            self.present_unfinished(fixture, &it, joined);
        }
        Ok(())
    }

    /// Says why a device that the journal knows is not taken.
    fn refuse_known(&mut self, fixture: usize, it: &Presented, (nak, fail): (NakCode, FailCode), why: &str) {
        if it.was_closed {
            // After its `ack` a fixture waits for a verdict, and heeds no `nak`.
            self.say(fixture, StationMessage::Ack { id: it.id }, None);
            self.fail(fixture, it.id, it.serial.as_str(), fail, why);
        } else {
            self.nak(fixture, Some(it.id), nak, why);
        }
    }

    /// One serial, one place: whether the serial is nowhere else. If it is open in this very
    /// place, that presentation is closed.
    fn take_place(&mut self, fixture: usize, it: &Presented) -> bool {
        if sabotaged!(TwoPlaces) {
            return true;
        }
        let here = self.links[fixture].open.iter().find(|(_, open)| open.serial == it.serial);
        if let Some((id, open)) = here {
            let (id, same) = (*id, open.nest == it.nest);
            if same {
                self.close_open(fixture, id, CloseReason::NewUnit);
            }
            return same;
        }
        !self.links.iter().any(|link| link.open.values().any(|open| open.serial == it.serial))
    }

    fn present_new(&mut self, fixture: usize, it: &Presented, joined: Joined) {
        let joining = match joined {
            Ok(joining) => joining,
            Err((code, detail)) => return self.nak(fixture, Some(it.id), code, &detail),
        };
        if let Some(reason) = self.refuse_new() {
            self.nak(fixture, Some(it.id), NakCode::Busy, &reason);
            return;
        }
        let rules = self.settings.products[&it.product].rules.clone();
        let admission = self.admission((fixture, it), &rules, Replaced::default(), joining);
        self.admit(&it.serial, Event::Admitted(Box::new(admission)), rules);
        self.accept(fixture, it);
    }

    fn present_unfinished(&mut self, fixture: usize, it: &Presented, joined: Joined) {
        let device = &self.works[&it.serial].device;
        if let Some(what) = differs(device, it) {
            let detail =
                format!("the unit's {what} differs from the one that {} had before: a clone", it.serial);
            tracing::error!(serial = %it.serial, detail, "clone alarm: a serial number on another unit");
            self.quarantine(&it.serial, FailCode::Quarantined, &detail);
            self.nak(fixture, Some(it.id), NakCode::Quarantined, &detail);
            return;
        }
        let joining = match joined {
            Ok(joining) => joining,
            Err((code, detail)) => return self.nak(fixture, Some(it.id), code, &detail),
        };
        let joins = || joining.is_some().then(|| self.works[&it.serial].rules.clone());
        let rules = self.rules_anew(it).or_else(joins);
        if rules.is_some() && self.works[&it.serial].is_calling() {
            // An answer to what was asked under the old rules must not be taken for one under the new.
            self.nak(fixture, Some(it.id), NakCode::Busy, "AWS has yet to answer what it was asked before");
            return;
        }
        let anew = rules.as_ref().map(|rules| {
            let replaced = self.replaced(it, rules, joining.as_ref());
            Box::new(self.admission((fixture, it), rules, replaced, joining.clone()))
        });
        let presentation = self.links[fixture].key(it.id);
        let (nest, mac, attributes) = (it.nest.clone(), it.mac.clone(), it.attributes.clone());
        let event = Event::Presented { presentation, nest, mac, anew, attributes };
        let recorded = self.record(&it.serial, event);
        let (seq, now) = (self.seq, self.now.mono);
        if let Some(work) = self.works.get_mut(&it.serial) {
            work.waits.begin(now);
        }
        if let (true, Some(rules), Some(work)) = (recorded, rules, self.works.get_mut(&it.serial)) {
            work.begin_anew(rules, seq);
        }
        self.accept(fixture, it);
    }

    /// The rules of now, if a device that never passed is to be made by them: a person has let it out of
    /// quarantine, and they are not those that it was refused with, or it now tells its own key. What AWS was
    /// asked to issue is not changed.
    fn rules_anew(&self, it: &Presented) -> Option<Arc<ProductRules>> {
        let work = &self.works[&it.serial];
        let rules = work.rules_now(&self.settings.products);
        let tells_key = work.device.device_key.is_none() && it.key.is_some();
        let changed = rules.id() != work.device.rules || tells_key;
        let asked = work.device.request.is_some() && rules.certificate != work.rules.certificate;
        (work.device.released && changed && !asked).then(|| rules.clone())
    }

    /// What the old certificates of a device hang on that is made by `rules` from now on.
    fn replaced(&self, it: &Presented, rules: &ProductRules, joining: Option<&Joining>) -> Replaced {
        let work = &self.works[&it.serial];
        let old = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let thing = rules.thing.fill(&Filling {
            serial: &it.serial,
            mac: it.mac.as_ref().or(work.device.mac.as_ref()),
            batch: work.device.batch.as_deref().or(joining.map(|it| it.batch.as_str())),
            station: &rules.station,
            product: &rules.product,
        });
        Replaced { policy: old.policy_name(), thing: Some(old.thing_name()).filter(|it| *it != thing) }
    }

    fn present_passed(&mut self, fixture: usize, it: &Presented, joined: Joined) {
        let device = &self.works[&it.serial].device;
        let live = device.fingerprint();
        if it.holds.is_some_and(|holds| holds.is_some() && holds == live) {
            self.pass_again(fixture, it);
            return;
        }
        // Its credentials came into their directory after its fixture had been told to present it again.
        let unclaimed = device.unclaimed;
        match self.works[&it.serial].rules_now(&self.settings.products).repeat {
            Repeat::Reject | Repeat::Renew
                if unclaimed && differs(device, it).is_none() && it.holds.is_none() =>
            {
                self.pass_again(fixture, it);
            }
            Repeat::Reject => self.nak(fixture, Some(it.id), NakCode::Duplicate, ""),
            Repeat::Renew => self.renew(fixture, it, joined),
            Repeat::Return => {
                let what = match it.holds {
                    None => differs(device, it).map(|what| format!("another {what}")),
                    Some(None) => Some("no certificate".to_owned()),
                    Some(Some(_)) => Some("another certificate".to_owned()),
                };
                match what {
                    None => self.pass_again(fixture, it),
                    Some(what) => {
                        let detail = format!("{} has passed before, but this unit has {what}", it.serial);
                        self.fail_presented(fixture, it, &detail);
                    }
                }
            }
        }
    }

    /// A person has let it out of quarantine: with the certificate that it has proved it passes, else
    /// it gets another, whatever the product does with others that come again.
    fn present_released(&mut self, fixture: usize, it: &Presented, joined: Joined) {
        let live = self.works[&it.serial].device.fingerprint();
        if live.is_some() && it.holds == Some(live) {
            self.pass_again(fixture, it);
        } else {
            self.renew(fixture, it, joined);
        }
    }

    fn pass_again(&mut self, fixture: usize, it: &Presented) {
        let presentation = self.links[fixture].key(it.id);
        let (nest, attributes) = (it.nest.clone(), it.attributes.clone());
        self.record(&it.serial, Event::Repeated { presentation, nest, attributes });
        self.end(fixture, it.id, &it.serial, &Outcome::Passed { again: true });
        self.progress(&it.serial);
        self.may_leave(&it.serial);
    }

    fn renew(&mut self, fixture: usize, it: &Presented, joined: Joined) {
        let joining = match joined {
            Ok(joining) => joining,
            Err((code, detail)) => return self.nak(fixture, Some(it.id), code, &detail),
        };
        if let Some(reason) = self.refuse_new() {
            self.nak(fixture, Some(it.id), NakCode::Busy, &reason);
            return;
        }
        let rules = self.works[&it.serial].rules_now(&self.settings.products).clone();
        let replaced = self.replaced(it, &rules, joining.as_ref());
        let admission = self.admission((fixture, it), &rules, replaced, joining);
        if self.record(&it.serial, Event::Renewed(Box::new(admission))) {
            let seq = self.seq;
            if let Some(work) = self.works.get_mut(&it.serial) {
                work.begin_generation(rules, seq);
            }
            self.accept(fixture, it);
        }
    }

    /// A passed serial presented by what is not the device that passed.
    fn fail_presented(&mut self, fixture: usize, it: &Presented, detail: &str) {
        tracing::error!(serial = %it.serial, detail, "clone alarm: a serial number on another unit");
        let presentation = self.links[fixture].key(it.id);
        let event = Event::Quarantined {
            presentation: Some(presentation),
            code: FailCode::Mismatch,
            message: detail.to_owned(),
            // It is not the unit that anything was made for.
            waited: Waited::default(),
        };
        if let Some(work) = self.works.get_mut(&it.serial) {
            work.keep_calls_only();
        }
        self.record(&it.serial, event);
        self.end(fixture, it.id, &it.serial, &Outcome::failed(FailCode::Mismatch, detail));
        self.may_leave(&it.serial);
    }

    fn accept(&mut self, fixture: usize, it: &Presented) {
        self.say(fixture, StationMessage::Ack { id: it.id }, None);
        self.open(fixture, it.id, it.serial.clone(), it.nest.clone());
        self.progress(&it.serial);
    }

    /// Notes a presentation as open and starts its patience.
    pub(super) fn open(&mut self, fixture: usize, id: u64, serial: SerialNumber, nest: Option<String>) {
        let epoch = self.next_epoch();
        let since = self.now.mono;
        let link = &mut self.links[fixture];
        link.open
            .insert(id, Open { serial, nest, since, epoch, offer: None, acked: true, timers: Vec::new() });
        let patience = link.settings.patience;
        self.later_for((fixture, id), patience, Timer::Patience(fixture, id, epoch));
    }

    /// Why no new device may be taken in now.
    pub(super) fn refuse_new(&self) -> Option<String> {
        if let Some(reason) = self.gate.as_deref().or_else(|| self.clock.closed()) {
            return Some(reason.to_owned());
        }
        let backlog = self.backlog();
        let full = || format!("the station's backlog is full: {backlog} devices are not finished");
        self.backlog_is_full().then(full)
    }

    pub(super) fn admission(
        &self,
        (fixture, it): (usize, &Presented),
        rules: &Arc<ProductRules>,
        replaced: Replaced,
        joining: Option<Joining>,
    ) -> Admission {
        let extra = joining.as_ref().is_some_and(|it| it.extra);
        Admission {
            product: rules.product.clone(),
            rules: rules.id(),
            batch: joining.map(|it| it.batch.into()),
            extra,
            presentation: self.links[fixture].key(it.id),
            nest: it.nest.clone(),
            mac: it.mac.clone(),
            device_key: it.key.clone(),
            request: it.request.clone(),
            attributes: it.attributes.clone(),
            replaces_policy: replaced.policy,
            replaces_thing: replaced.thing,
        }
    }
}

/// What tells that this is not the device that had the serial before.
fn differs(device: &crate::device::Device, it: &Presented) -> Option<&'static str> {
    if matches!((&device.mac, &it.mac), (Some(before), Some(now)) if before != now) {
        Some("MAC address")
    } else if matches!((&device.device_key, &it.key), (Some(before), Some(now)) if before != now) {
        Some("public key")
    } else {
        None
    }
}

/// Whether a name of the product holds the MAC address.
fn needs_mac(rules: &ProductRules) -> bool {
    use crate::device::rules::{LockerRule, PolicyRule};
    let has = |template: &Template| template.has(Place::Mac);
    has(&rules.thing)
        || has(&rules.certificate.common_name)
        || matches!(&rules.locker, LockerRule::Device { name, .. } if has(name))
        || matches!(&rules.policy, PolicyRule::Device { name, .. } if has(name))
}
