//! What a work order lists and nobody has presented here: whether the account holds it all the same, made by another
//! station, by hand, or by this one with another journal.

use std::sync::Arc;

use super::{Journal, Run, Stop};
use crate::batch::BatchId;
use crate::cloud::Cloud;
use crate::device::rules::{Filling, ProductRules};
use crate::device::serial::SerialNumber;
use crate::device::{Device, State};
use crate::reconcile::{Finding, Owner, is_in_flight, on_order, serial_on_order};

/// Serial numbers of a list that are read from the journal at once.
const PAGE: usize = 1_000;

/// What is on the order and was never presented here.
#[derive(Default)]
pub(super) struct Ordered {
    /// The order's product, by the rules of now.
    rules: Option<Arc<ProductRules>>,
    /// The first names, where there are so few that they are asked for one by one.
    few: Vec<String>,
    /// How many are looked for.
    pub(super) sought: u64,
    /// How many are not: their names cannot be told.
    pub(super) unsought: u64,
}

impl<C: Cloud + 'static> Run<'_, C> {
    /// Reads from the order of the selected batch what never came, with the names that it would have here. A selection
    /// that is narrowed by time has none: what never came has no time.
    pub(super) async fn read_order(&self, journal: &mut Journal) -> Result<(), Stop> {
        let filter = &self.filter;
        let Some(Ok(id)) = filter.batch.as_ref().map(|it| BatchId::parse(it)) else { return Ok(()) };
        if filter.since.is_some() || filter.until.is_some() {
            return Ok(());
        }
        let wanted = id.clone();
        let Some(batch) = self.reconciler.journal(move |store| store.find_batch(&wanted)).await? else {
            return Ok(());
        };
        let product = batch.terms.product.clone();
        let rules = self.reconciler.products.get(&product).map(|it| it.rules.clone());
        let mut ordered = Ordered { rules: rules.clone(), ..Ordered::default() };
        let mut after: Option<SerialNumber> = None;
        loop {
            let (order, from) = (batch.clone(), after.take());
            let page = self
                .reconciler
                .journal(move |store| store.listed(&order, from.as_ref(), PAGE, |it| it.state.is_none()))
                .await?;
            for it in &page.found {
                let name = rules.as_ref().and_then(|rules| self.name_of(&it.serial, rules, id.as_str()));
                let Some(name) = name else {
                    ordered.unsought += 1;
                    continue;
                };
                ordered.sought += 1;
                journal.roster.order(&name).map_err(|error| Stop::Problem(error.to_string()))?;
                if (ordered.few.len() as u64) < super::LISTS_FROM {
                    ordered.few.push(name);
                }
            }
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        journal.ordered = ordered;
        Ok(())
    }

    /// The name of the thing that it would get here; none if its serial number alone does not tell.
    fn name_of(&self, serial: &SerialNumber, rules: &ProductRules, batch: &str) -> Option<String> {
        let (station, product) = (self.reconciler.station.as_str(), rules.product.as_str());
        let name = rules.thing.fill(&Filling { serial, mac: None, batch: Some(batch), station, product });
        let back = serial_on_order(&rules.thing, &name, (station, product, batch));
        (back == Some(serial.as_str())).then_some(name)
    }

    /// The things to be looked into: those of the order that the lists have shown, or all where none were read.
    pub(super) fn ordered_names(&self, journal: &Journal, listed: bool) -> Vec<String> {
        match listed {
            true => journal.roster.ordered_there().to_vec(),
            false => journal.ordered.few.clone(),
        }
    }

    /// Whether a thing is there whose device the order lists and nobody has presented here.
    pub(super) async fn ordered(
        &self,
        journal: &Journal,
        thing: &str,
    ) -> Result<Option<(Finding, u64)>, Stop> {
        let (Some(rules), Some(batch)) = (&journal.ordered.rules, &self.filter.batch) else {
            return Ok(None);
        };
        let (station, product) = (self.reconciler.station.as_str(), rules.product.as_str());
        let Some(owner) = self.owner(thing, station).await? else { return Ok(None) };
        let serial = serial_on_order(&rules.thing, thing, (station, product, batch));
        let Some(serial) = serial.and_then(|it| SerialNumber::parse(it).ok()) else { return Ok(None) };
        let device = self.reconciler.device(serial.clone()).await?;
        if device.as_ref().is_some_and(|it| is_told_otherwise(it, batch, &owner)) {
            return Ok(None);
        }
        let scrapped = device.is_some_and(|it| it.state == State::Scrapped);
        Ok(Some((on_order(thing, (serial.as_str(), scrapped), batch, &owner), 0)))
    }
}

/// Whether what is there need not be told of a device that the journal knows: it has come meanwhile, is being worked on,
/// has made the thing, or belongs to the batch and is compared with what it should have.
fn is_told_otherwise(device: &Device, batch: &str, owner: &Owner) -> bool {
    let (made, scrapped) = (device.done.thing, device.state == State::Scrapped);
    let compared = device.batch.as_deref() == Some(batch) && (made || scrapped);
    let ours = *owner == Owner::Us && made && !scrapped;
    device.was_presented() || compared || ours || is_in_flight(device)
}
