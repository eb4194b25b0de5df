//! What the journal does not know: things that bear this station's attribute, and certificates that its CAs
//! have signed. Nothing else can be proved to be this station's, and nothing else is told.

use std::collections::HashSet;
use std::sync::PoisonError;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use jiff::{Timestamp, ToSpan as _};

use super::{Journal, Look, PAGE, Repairs, Run, Stop};
use crate::cloud::{Call, CertificateStatus, Cloud, ListedCertificate, Reply};
use crate::device::mend::Orphan;
use crate::device::rules::ProductRules;
use crate::device::serial::SerialNumber;
use crate::device::steps::Subject;
use crate::device::{Device, State};
use crate::pki::Fingerprint;
use crate::pki::leaf::{Leaf, is_signed_by, read_leaf};
use crate::reconcile::{Finding, Owner, Phase, Summary, extra, is_in_flight, orphan, serial_in};

/// Read at the same time.
const AT_ONCE: usize = 16;

/// Certificates that are looked into in one run: 10 a second, the newest first.
const MAX_EXAMINED: usize = 5_000;

/// Certificates that are remembered as not this station's.
const MAX_FOREIGN: usize = 1_000_000;

/// What is looked into.
enum Stranger {
    /// A certificate that a device had before.
    Retired(SerialNumber, ListedCertificate),
    /// A thing that the journal does not know.
    Extra(String),
    /// A thing that a device of the order would have, which was never presented here.
    Ordered(String),
    /// A certificate that the journal does not know.
    Unknown(ListedCertificate),
}

impl<C: Cloud + 'static> Run<'_, C> {
    /// Looks at what the lists have shown and the journal does not know. Extras and unknown certificates
    /// have no shift and no batch: they are told where everything is selected.
    pub(super) async fn strangers(
        &self,
        journal: &Journal,
        all: bool,
        summary: &mut Summary,
        repairs: &mut Repairs,
    ) -> Result<(), Stop> {
        let retired: Vec<_> =
            journal.roster.retired().map(|(serial, it)| (serial.clone(), it.clone())).collect();
        let extras = if all { self.extras_left(journal).await? } else { Vec::new() };
        let unknown = if all { self.to_examine(journal, summary) } else { Vec::new() };
        let ordered = self.ordered_names(journal, summary.listed.is_some());
        let of = (retired.len() + extras.len() + ordered.len() + unknown.len()) as u64;
        let retired = retired.into_iter().map(|(serial, it)| Stranger::Retired(serial, it));
        let strangers = retired.chain(extras.into_iter().map(Stranger::Extra));
        let strangers = strangers.chain(ordered.into_iter().map(Stranger::Ordered));
        let mut waiting = strangers.chain(unknown.into_iter().map(Stranger::Unknown));
        let mut looks = FuturesOrdered::<Look<'_, _>>::new();
        let mut done = 0;
        loop {
            for stranger in waiting.by_ref().take(AT_ONCE - looks.len()) {
                looks.push_back(Box::pin(self.stranger(journal, stranger)));
            }
            let Some(looked) = looks.next().await else { return Ok(()) };
            match looked {
                Ok(Some(finding)) => self.found(finding, summary, repairs).await?,
                Ok(None) => {}
                Err(Stop::Unread(error)) => {
                    tracing::warn!(%error, "something that the journal does not know could not be read");
                    summary.unread += 1;
                }
                Err(stop) => return Err(stop),
            }
            done += 1;
            self.progress(Phase::Strangers, done, Some(of))?;
        }
    }

    async fn stranger(&self, journal: &Journal, stranger: Stranger) -> Result<Option<(Finding, u64)>, Stop> {
        match stranger {
            Stranger::Retired(serial, it) => self.retired(serial, &it).await,
            Stranger::Extra(thing) => self.extra(journal, &thing).await,
            Stranger::Ordered(thing) => self.ordered(journal, &thing).await,
            Stranger::Unknown(it) => self.unknown(journal, &it).await,
        }
    }

    /// The extras, without those that were admitted while the lists were read.
    async fn extras_left(&self, journal: &Journal) -> Result<Vec<String>, Stop> {
        let mut extras = journal.roster.extras().to_vec();
        if extras.is_empty() {
            return Ok(extras);
        }
        let (since, mut after) = (journal.seq, None::<String>);
        let mut known = journal.rules.clone();
        let mut names = HashSet::new();
        loop {
            let from = after.take();
            let page = self
                .reconciler
                .journal(move |store| store.devices(from.as_deref(), PAGE, |it| it.last_seq > since));
            let page = page.await?;
            let Some(last) = page.last() else { break };
            after = Some(last.serial.to_string());
            for device in &page {
                let rules = self.rules(&mut known, device.rules).await?;
                names.insert(Subject { device, rules: &rules, ca_pem: "" }.thing_name());
            }
        }
        extras.retain(|it| !names.contains(it));
        Ok(extras)
    }

    /// Certificates that may be orphans: none older than the journal's first device. Without a CA nothing tells
    /// whose they are: no look, however long, would.
    fn to_examine(&self, journal: &Journal, summary: &mut Summary) -> Vec<ListedCertificate> {
        if self.reconciler.cas.is_empty() {
            return Vec::new();
        }
        let first = journal.first.unwrap_or(Timestamp::MAX);
        let since = first.checked_sub(24.hours()).unwrap_or(first);
        let foreign = self.reconciler.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let strangers = journal.roster.strangers().iter();
        let young = strangers.filter(|it| it.created >= since && !foreign.contains(&it.id.short()));
        let mut young: Vec<ListedCertificate> = young.cloned().collect();
        drop(foreign);
        if self.wish.quick {
            summary.unexamined += young.len() as u64;
            return Vec::new();
        }
        summary.unexamined += young.len().saturating_sub(MAX_EXAMINED) as u64;
        young.truncate(MAX_EXAMINED);
        young
    }

    /// A certificate that a device had before.
    async fn retired(
        &self,
        serial: SerialNumber,
        it: &ListedCertificate,
    ) -> Result<Option<(Finding, u64)>, Stop> {
        let Some(device) = self.reconciler.device(serial).await? else { return Ok(None) };
        let Some(old) = device.superseded.iter().find(|old| old.fingerprint == it.id) else {
            return Ok(None);
        };
        let active = it.status == CertificateStatus::Active;
        let should_be_gone = old.is_deleted();
        let told = (active || should_be_gone) && old.is_retired() && !is_in_flight(&device);
        match self.leaf(it.id).await?.filter(|_| told) {
            Some((leaf, arn, status)) => {
                let active = status == CertificateStatus::Active;
                if !active && !should_be_gone {
                    return Ok(None);
                }
                let things = self.things_of(&arn).await?.unwrap_or_default();
                self.orphan(&device, &leaf, (arn, things), (active, true)).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// A certificate that the journal does not know.
    async fn unknown(
        &self,
        journal: &Journal,
        it: &ListedCertificate,
    ) -> Result<Option<(Finding, u64)>, Stop> {
        let Some((leaf, arn, status)) = self.leaf(it.id).await? else { return Ok(None) };
        if !self.is_ours(&leaf) {
            self.note_foreign(it.id);
            return Ok(None);
        }
        let things = self.things_of(&arn).await?.unwrap_or_default();
        let mut ours = true;
        for thing in &things {
            match self.owner(thing, &self.reconciler.station).await? {
                // Stations may share a CA: what hangs on another's thing is that one's, whatever its name.
                Some(Owner::Station(_)) => {
                    self.note_foreign(it.id);
                    return Ok(None);
                }
                Some(Owner::Nobody) => ours = false,
                Some(Owner::Us) | None => {}
            }
        }
        let active = status == CertificateStatus::Active;
        let id = it.id.to_string();
        let name = leaf.common_name.clone().unwrap_or_default();
        for (rules, serial) in self.serials(journal, &name, |it| &it.certificate.common_name) {
            let Some(device) = self.reconciler.device(serial.clone()).await? else { continue };
            if device.product != rules {
                continue;
            }
            if device.knows_certificate(&it.id) || is_in_flight(&device) {
                return Ok(None);
            }
            let Some(rules) = journal.rules.get(&device.rules) else { return Ok(None) };
            let own_thing = Subject { device: &device, rules, ca_pem: "" }.thing_name();
            // Not attached yet, it may be what the station is making that has the thing.
            let owner = self.owner(&own_thing, &self.reconciler.station).await?;
            if matches!(owner, Some(Owner::Station(_))) {
                return Ok(None);
            }
            if !ours || things.contains(&own_thing) && !self.is_active(&device).await? {
                // Somebody who has made the thing by hand may be using it; or it is what the device lives by, where an
                // older journal was restored.
                let finding = orphan(&id, Some(device.serial.as_str()), (active, false), None);
                return Ok(Some((finding, device.last_seq)));
            }
            return self.orphan(&device, &leaf, (arn, things), (active, false)).await.map(Some);
        }
        // At a thing of this station's that the journal does not know it is a part of that.
        if things.iter().any(|thing| journal.roster.extras().contains(thing)) {
            return Ok(None);
        }
        Ok(Some((orphan(&id, None, (active, false), None), 0)))
    }

    /// It is not looked into again.
    fn note_foreign(&self, id: Fingerprint) {
        let mut foreign = self.reconciler.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        if foreign.len() < MAX_FOREIGN {
            foreign.insert(id.short());
        }
    }

    /// Whether the certificate that the journal has for the device is active.
    async fn is_active(&self, device: &Device) -> Result<bool, Stop> {
        let Some(id) = device.fingerprint() else { return Ok(false) };
        Ok(self.certificate(&id.to_string()).await? == Some(CertificateStatus::Active))
    }

    async fn orphan(
        &self,
        device: &Device,
        leaf: &Leaf,
        (arn, things): (String, Vec<String>),
        (active, known): (bool, bool),
    ) -> Result<(Finding, u64), Stop> {
        let policies = self.policies_of(&arn).await?.unwrap_or_default();
        let fingerprint = leaf.fingerprint;
        let can = policies.len() <= 1 && things.len() <= 1;
        let (policy, thing) = (policies.into_iter().next(), things.into_iter().next());
        let found = Orphan { fingerprint, public_key: leaf.public_key, arn, policy, thing };
        let serial = device.serial.as_str();
        let finding = orphan(&fingerprint.to_string(), Some(serial), (active, known), can.then_some(found));
        Ok((finding, device.last_seq))
    }

    async fn leaf(&self, id: Fingerprint) -> Result<Option<(Leaf, String, CertificateStatus)>, Stop> {
        let reply = self.ask(&Call::DescribeCertificate { id: id.to_string() }).await?;
        let Some(Reply::CertificateDescription { arn, status, pem: Some(pem), .. }) = reply else {
            return Ok(None);
        };
        Ok(read_leaf(&pem).map(|leaf| (leaf, arn, status)))
    }

    /// A thing that bears this station's attribute, and that the journal does not know.
    async fn extra(&self, journal: &Journal, thing: &str) -> Result<Option<(Finding, u64)>, Stop> {
        if self.owner(thing, &self.reconciler.station).await? != Some(Owner::Us) {
            return Ok(None);
        }
        let mut fitting = self.reconciler.products.iter().filter_map(|(product, it)| {
            let serial = serial_in(&it.rules.thing, thing, &self.reconciler.station, product)?;
            SerialNumber::parse_as(serial, &it.serial).ok().map(|serial| (product.as_str(), serial))
        });
        let (first, second) = (fitting.next(), fitting.next());
        // Of which product it is has to be sure: from that follows what else is deleted.
        let Some((product, serial)) = first.filter(|_| second.is_none()) else {
            return Ok(Some((extra(thing, None, None), 0)));
        };
        let proved = !self.wish.quick && self.all_ours(journal, thing).await?;
        let device = self.reconciler.device(serial.clone()).await?;
        let known = device.as_ref().is_some_and(|it| it.state != State::Scrapped);
        let product = Some(product).filter(|_| proved && !known);
        let seq = device.map_or(0, |it| it.last_seq);
        Ok(Some((extra(thing, Some(serial.as_str()), product), seq)))
    }

    /// Whether a CA of this station's has signed it.
    fn is_ours(&self, leaf: &Leaf) -> bool {
        self.reconciler.cas.iter().any(|(_, pem)| is_signed_by(&leaf.der, pem))
    }

    /// Whether every certificate at a thing was signed by a CA of this station's, is no device's of the journal and at no
    /// other thing: with the thing they are deleted.
    async fn all_ours(&self, journal: &Journal, thing: &str) -> Result<bool, Stop> {
        for arn in self.principals(thing).await?.unwrap_or_default() {
            let id = arn.rsplit_once(":cert/").and_then(|(_, id)| id.parse().ok());
            let Some(id) = id.filter(|id| !journal.roster.knows_certificate(id)) else { return Ok(false) };
            let things = self.things_of(&arn).await?.unwrap_or_default();
            let alone = things.iter().all(|it| it == thing);
            if !alone || !self.leaf(id).await?.is_some_and(|it| self.is_ours(&it.0)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a name may be the serial number of, by the templates of all rules: product and serial.
    fn serials(
        &self,
        journal: &Journal,
        name: &str,
        template: impl Fn(&ProductRules) -> &crate::device::rules::Template,
    ) -> Vec<(String, SerialNumber)> {
        let all = journal.rules.values().filter_map(|rules| {
            let serial = serial_in(template(rules), name, &rules.station, &rules.product)?;
            Some((rules.product.clone(), SerialNumber::parse(serial).ok()?))
        });
        let mut all: Vec<_> = all.collect();
        all.sort();
        all.dedup();
        all
    }
}
