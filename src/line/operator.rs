//! What a person tells the station to do with a device: retry, release, scrap, label. Each order that changes
//! something is a record with who gave it and why, and is answered when that is on disk.

use super::{Action, Line};
use crate::device::event::{Event, Outcome};
use crate::device::operator::{Operator, Order, Refusal, StationOrder};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::device::{State, plan};
use crate::fixture::FailCode;
use crate::journal::{JournalError, Shelf, StationEvent};

impl Line {
    /// Carries out an order about a device.
    pub(super) fn order(
        &mut self,
        order: Order,
        serial: &SerialNumber,
        by: Operator,
        shelf: &dyn Shelf,
    ) -> Result<Result<(), Refusal>, JournalError> {
        if !self.fetch(serial, shelf)? {
            return Ok(Err(Refusal::Unknown));
        }
        tracing::info!(%serial, %order, uid = by.uid, name = by.name, reason = by.reason, "ordered");
        let result = match order {
            Order::Retry => self.retry(serial, by),
            Order::Release => self.release(serial, by),
            Order::Scrap => {
                self.scrap(serial, by);
                Ok(())
            }
            Order::Label => self.label_again(serial, by),
        };
        self.may_leave(serial);
        Ok(result)
    }

    /// Carries out an order about the station as a whole. Each is a record, even one that changes nothing: who
    /// gave it, and why, may.
    pub(super) fn order_station(&mut self, order: StationOrder, by: Operator) {
        match order {
            StationOrder::Drain => {
                self.draining = true;
                self.station_event(StationEvent::Drained { by });
            }
            StationOrder::Resume => {
                self.draining = false;
                self.station_event(StationEvent::Resumed { by });
            }
            StationOrder::LogLevel(level) => self.station_event(StationEvent::LogLevel { level, by }),
        }
    }

    /// Answers an order when all that it has decided is on disk.
    pub(super) fn answer_order(&mut self, ticket: u64, result: Result<(), Refusal>) {
        let after = self.seq;
        self.out.push(Action::Answer { ticket, result, after });
    }

    fn retry(&mut self, serial: &SerialNumber, by: Operator) -> Result<(), Refusal> {
        let delivering = self.deliver_now(serial);
        let Some(work) = self.works.get(serial) else { return Err(Refusal::Unknown) };
        let (device, scrapping) = (&work.device, work.device.is_scrapping());
        let not = |why: &str| Err(Refusal::Not(format!("{serial} {why}")));
        // A waiting step is tried now; one whose call is out is being tried already.
        let waiting = work.running.iter().filter(|(step, it)| {
            let waits_for_maker = self.maker_of(serial, **step).is_some();
            !it.is_out() && it.seeking.is_none() && !waits_for_maker
        });
        let mut waiting: Vec<Step> = waiting.map(|(step, _)| *step).collect();
        waiting.sort_unstable();
        let (generation, keys) = (device.generation, device.keys_to_destroy().next().is_some());
        let unfinished = device.state == State::Failed
            && device.certificate.is_some()
            && !device.has_passed_before()
            && !plan::is_complete(device, &work.rules);
        let to_start = work.waits_to_start && work.is_owed();
        if waiting.is_empty() && !keys && !unfinished && !to_start && !delivering {
            return match device.state {
                State::Scrapped => not("is scrapped"),
                State::Quarantined if !scrapping => not("is in quarantine: release it first"),
                _ if !work.running.is_empty() => Ok(()),
                State::Passed => not("has passed: there is nothing to retry"),
                State::Failed => not("waits for its fixture: present the unit again"),
                _ if scrapping => Ok(()),
                _ => not("has all that the cloud is to give it: it waits for its fixture"),
            };
        }
        self.record(serial, Event::Retried { by });
        if let Some(work) = self.works.get_mut(serial) {
            // What is being destroyed is not asked for twice.
            work.destroying.retain(|_, it| it.asked);
            for step in &waiting {
                work.running.entry(*step).and_modify(super::running::Running::begin_anew);
            }
        }
        self.start_now(serial);
        for step in waiting {
            self.retry_due(serial, step, generation);
            self.hurry(serial, step);
        }
        self.progress(serial);
        Ok(())
    }

    fn release(&mut self, serial: &SerialNumber, by: Operator) -> Result<(), Refusal> {
        let Some(work) = self.works.get(serial) else { return Err(Refusal::Unknown) };
        if work.device.scrap.is_some() {
            return Err(Refusal::Not(format!("{serial} is scrapped, and that is for good")));
        }
        if work.device.state != State::Quarantined {
            let state = work.device.state.as_str();
            return Err(Refusal::Not(format!("{serial} is not in quarantine: it is {state}")));
        }
        self.record(serial, Event::Released { by });
        self.progress(serial);
        Ok(())
    }

    /// Gives a device up. Once more is not an error, and changes nothing.
    fn scrap(&mut self, serial: &SerialNumber, by: Operator) {
        let Some(work) = self.works.get(serial) else { return };
        if work.device.scrap.is_some() {
            return;
        }
        if self.has_asked_in_vain(serial) {
            self.nothing_was_issued(serial);
        }
        let asked = self.certificate_is_asked_for(serial);
        let Some(work) = self.works.get_mut(serial) else { return };
        work.keep_calls_only();
        let policy = Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.policy_name();
        self.leave_shared(serial);
        let place = self.place_of(serial);
        let presentation = place.map(|(fixture, id)| self.links[fixture].key(id));
        let message = format!("scrapped by {}: {}", by.name, by.reason);
        // What earlier rules have made goes with it, whatever the rules of now say.
        let managed_thing = self
            .works
            .get(serial)
            .is_some_and(|it| it.rules.managed_thing.is_some() || it.device.done.managed_thing.is_some());
        let said = message.clone();
        let event = Event::Scrapping { presentation, by, policy, message: said, asked, managed_thing };
        if !self.record(serial, event) {
            return;
        }
        self.calls_wait(serial);
        if let Some((fixture, id)) = place {
            self.end(fixture, id, serial, &Outcome::failed(FailCode::Quarantined, &message));
        }
        self.progress(serial);
    }

    /// A scrapped device of which nothing is left.
    pub(super) fn scrapped_if_cleared(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get(serial) else { return };
        if work.device.is_scrapping() && work.running.is_empty() && work.device.is_cleared() {
            self.record(serial, Event::Scrapped);
            self.may_leave(serial);
        }
    }
}
