//! What is behind the line: disk, CA, AWS and the ports' queues do what its actions say.

use super::checks::is_old;
use super::{Harness, Pending};
use crate::cloud::{Call, Class};
use crate::device::event::Event;
use crate::device::request::CertificateRequest;
use crate::device::{Certificate, KeyState};
use crate::fixture::StationMessage;
use crate::journal::What;
use crate::line::{Action, Delivery, Input, Labelling, Tag};
use crate::pki::request::make_request;
use crate::pki::{Fingerprint, LeafKey};
use jiff::Timestamp;
use std::time::Duration;

impl Harness {
    pub(super) fn feed(&mut self, input: Input) {
        let actions = self.line.handle(self.now, input, &self.shelf).unwrap();
        self.take(actions);
    }

    pub(super) fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(entry) => {
                    if let What::Device(event) = &entry.record.what
                        && let Some((presentation, Some(_))) = event.presentation()
                    {
                        // What still waits for it is none of the next presentation's copies.
                        let at = self.setup.fixtures.iter().position(|it| *it == presentation.fixture);
                        let tag = Tag::Credentials(presentation.id);
                        at.and_then(|fixture| self.on_the_way.remove(&(fixture, tag)));
                    }
                    self.unwritten.push_back(*entry);
                }
                action => {
                    if let Some(tag) = tag(&action) {
                        let on_the_way = self.on_the_way.insert(tag, None);
                        let queued = on_the_way.is_some_and(|left| left.is_none_or(|it| it > self.now.mono));
                        assert!(!queued || self.replaces_lost(&action), "a second copy is queued: {tag:?}");
                    }
                    self.held.push_back(action);
                }
            }
        }
    }

    /// Whether the copy that waits is of another certificate: its key is lost, so that it will not be sent.
    pub(super) fn replaces_lost(&self, action: &Action) -> bool {
        let offer = |it: &Action| match it {
            Action::Offer { credentials, .. } => {
                Some((credentials.id, credentials.certificate_sha256.clone()))
            }
            _ => None,
        };
        let Some((id, sha256)) = offer(action) else { return false };
        self.held.iter().filter_map(offer).any(|(it, other)| it == id && other != sha256)
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.syncs && !self.unwritten.is_empty() {
                self.write(usize::MAX);
            }
            self.release();
            let Some(input) = self.inputs.pop_front() else { return };
            self.feed(input);
        }
        panic!("the line never comes to rest");
    }

    pub(super) fn write(&mut self, count: usize) {
        for _ in 0..count.min(self.unwritten.len()) {
            let entry = self.unwritten.pop_front().unwrap();
            if let (What::Device(event), Some(serial)) = (&entry.record.what, &entry.record.serial) {
                match event {
                    Event::Passed { .. } => {
                        self.passed.insert(serial.to_string());
                        self.confirmed.insert(serial.to_string());
                    }
                    Event::Renewed(_)
                    | Event::Presented { anew: Some(_), .. }
                    | Event::KeyLost { .. }
                    | Event::KeyExpired { .. }
                    | Event::Scrapping { .. } => {
                        self.offered.remove(serial.as_str());
                    }
                    Event::Issued { certificate } => {
                        self.confirmed.remove(serial.as_str());
                        if certificate.public_key.is_some() {
                            self.issued.push((serial.to_string(), certificate.fingerprint));
                        }
                    }
                    _ => {}
                }
            }
            self.shelf.commit(entry);
        }
        self.inputs.push_back(Input::Durable(self.shelf.seq));
    }

    pub(super) fn release(&mut self) {
        let mut at = 0;
        while at < self.held.len() {
            if self.held[at].after() <= self.shelf.seq {
                let action = self.held.remove(at).unwrap();
                self.act(action);
            } else {
                at += 1;
            }
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Record(_) => unreachable!("records are taken at once"),
            Action::Send { fixture, message, tag, .. } => {
                self.speak(fixture, message);
                self.leaves(fixture, tag);
            }
            Action::Offer { fixture, mut credentials, key, serial, .. } => {
                if let Some(fingerprint) = key {
                    if !self.keys.contains(&fingerprint) {
                        self.on_the_way.remove(&(fixture, Tag::Credentials(credentials.id)));
                        return self.inputs.push_back(Input::KeyLost(serial, fingerprint));
                    }
                    credentials.private_key = Some(zeroize::Zeroizing::new("a private key".to_owned()));
                }
                let id = credentials.id;
                self.speak(fixture, StationMessage::Credentials(*credentials));
                self.leaves(fixture, Some(Tag::Credentials(id)));
            }
            Action::Deliver(it) => self.take_delivery(*it),
            Action::Label(it) => self.take_label(*it),
            Action::Connect(it) => self.trials.push(*it),
            Action::Issue { serial, generation, request, .. } => {
                assert!(
                    self.shelf.devices.contains_key(&serial),
                    "{serial} gets a certificate, but is not on disk"
                );
                self.to_issue.push((serial, generation, request));
                if self.issues {
                    self.issue();
                }
            }
            Action::Call { serial, step, generation, urgency, call, .. } => {
                self.check_call(&serial, &call);
                if self.answers {
                    let (result, waited) = (self.reply(&call), Duration::ZERO);
                    self.inputs.push_back(Input::Called { serial, step, generation, result, waited });
                } else {
                    self.calls.push(Pending { serial, step, generation, urgency, call });
                }
            }
            Action::Answer { ticket, result, .. } => {
                self.answers_to_orders.insert(ticket, result);
            }
            Action::MakeCsr { serial, generation, common_name, .. } => {
                assert!(self.shelf.devices.contains_key(&serial), "{serial} gets a key, but is not on disk");
                self.to_request.push((serial, generation, common_name));
                if self.issues {
                    self.issue();
                }
            }
            Action::Survey { number, class, call, .. } => self.look(number, class, call),
            Action::DestroyKey { serial, fingerprint, .. } => {
                let device = &self.shelf.devices[&serial];
                assert!(
                    is_old(device, fingerprint) || self.passed.contains(serial.as_str()),
                    "the key of {serial} is destroyed too early"
                );
                self.to_destroy.push((serial, fingerprint));
                if self.destroys {
                    self.destroy();
                }
            }
        }
    }

    fn look(&mut self, number: u64, class: Class, call: Call) {
        self.survey_classes.push(class);
        if self.answers {
            let result = self.reply(&call);
            self.inputs.push_back(Input::Surveyed { number, result });
        } else {
            self.surveys.push((number, call));
        }
    }

    fn take_label(&mut self, it: Labelling) {
        let (serial, number) = (it.serial, it.label.number);
        let result = self.labels.clone();
        if result.is_ok() {
            self.labelled.push((serial.to_string(), number));
        }
        self.inputs.push_back(Input::Labelled { serial, number, result });
    }

    fn take_delivery(&mut self, it: Delivery) {
        let device = self.device(it.serial.as_str());
        assert_eq!(device.fingerprint(), Some(it.fingerprint), "a delivery that is not on disk");
        let key = it.key.expect("the station has made the key");
        if !self.keys.contains(&key) {
            return self.inputs.push_back(Input::KeyLost(it.serial, key));
        }
        self.to_deliver.push(it);
        if self.delivers {
            self.put(Ok(()));
        }
    }

    /// Whatever waits for its directory gets there, or does not.
    pub(in crate::line::tests) fn put(&mut self, result: Result<(), &str>) {
        for it in std::mem::take(&mut self.to_deliver) {
            let result = result.map_err(str::to_owned);
            if result.is_ok() {
                self.directory.push((it.serial.to_string(), it.fingerprint));
            }
            let (serial, fingerprint) = (it.serial, it.fingerprint);
            self.inputs.push_back(Input::Delivered { serial, fingerprint, result });
        }
    }

    /// Destroys what is to be destroyed.
    pub(in crate::line::tests) fn destroy(&mut self) {
        for (serial, fingerprint) in std::mem::take(&mut self.to_destroy) {
            self.keys.remove(&fingerprint);
            self.inputs.push_back(Input::KeyDestroyed(serial, fingerprint));
        }
    }

    /// Issues what waits for the CA.
    pub(in crate::line::tests) fn issue(&mut self) {
        for (serial, generation, common_name) in std::mem::take(&mut self.to_request) {
            let made = make_request(&common_name).unwrap();
            self.keys.insert(made.public_key);
            let request = CertificateRequest {
                public_key: made.public_key,
                csr: made.csr,
                key: KeyState::Sealed,
                asked: 0,
                open_since: None,
                made_at: None,
            };
            self.inputs.push_back(Input::CsrMade { serial, generation, result: Ok(request) });
        }
        for (serial, generation, request) in std::mem::take(&mut self.to_issue) {
            let number = self.issued.len();
            let der = format!("certificate {number} of {serial} as {}", request.common_name).into_bytes();
            let fingerprint = Fingerprint::of(&der);
            let key = if request.key == LeafKey::Station { KeyState::Sealed } else { KeyState::Device };
            if key == KeyState::Sealed {
                self.keys.insert(fingerprint);
            }
            self.issued.push((serial.to_string(), fingerprint));
            let certificate = Certificate {
                fingerprint,
                der,
                serial_number: format!("{number:x}"),
                not_after: Timestamp::from_second(2_100_000_000).unwrap(),
                key,
                arn: None,
                public_key: None,
                issuer: Some(Fingerprint::of(self.setup.ca.as_bytes())),
            };
            self.inputs.push_back(Input::Issued { serial, generation, result: Ok(certificate) });
        }
    }

    /// Lets inputs that the test has caused take effect.
    pub(in crate::line::tests) fn go_on(&mut self) {
        self.settle();
    }

    pub(super) fn leaves(&mut self, fixture: usize, tag: Option<Tag>) {
        if let (Some(tag), Some(leaves_in)) = (tag, self.leaves_in) {
            self.on_the_way.insert((fixture, tag), Some(self.now.mono + leaves_in));
            self.inputs.push_back(Input::Sent(fixture, tag, leaves_in));
        }
    }

    /// A tagged message has been handed to the port and will have left it after `leaves_in`.
    pub(in crate::line::tests) fn sent(&mut self, fixture: usize, tag: Tag, leaves_in: Duration) {
        self.on_the_way.insert((fixture, tag), Some(self.now.mono + leaves_in));
        self.input(Input::Sent(fixture, tag, leaves_in));
    }
}

fn tag(action: &Action) -> Option<(usize, Tag)> {
    match action {
        Action::Send { fixture, tag, .. } => tag.map(|tag| (*fixture, tag)),
        Action::Offer { fixture, credentials, .. } => Some((*fixture, Tag::Credentials(credentials.id))),
        _ => None,
    }
}
