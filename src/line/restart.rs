//! What a restart takes up again: the devices that are not done, and the units that lie in their nests still.

use super::Line;
use super::work::Work;
use crate::device::Device;
use crate::device::event::{CloseReason, Event, Waited};
use crate::device::serial::SerialNumber;
use crate::sabotage::sabotaged;

impl Line {
    /// Takes up what a restart has found.
    pub(super) fn recover(&mut self, pending: Vec<Device>) {
        let pending = if sabotaged!(PendingForgotten) { Vec::new() } else { pending };
        for fixture in 0..self.links.len() {
            self.is_away(fixture);
        }
        let serials: Vec<SerialNumber> = pending.iter().map(|it| it.serial.clone()).collect();
        for device in pending {
            let Some(rules) = self.rules.get(&device.rules).cloned() else {
                tracing::error!(serial = %device.serial, "the journal has lost this device's rules; it is left alone");
                continue;
            };
            let barrier = device.last_seq;
            self.works.insert(device.serial.clone(), Work::new(device, rules, barrier).recovered());
        }
        for serial in serials {
            self.reopen(&serial);
            self.progress(&serial);
        }
    }

    /// After a restart: the presentation is open still if its fixture is the same and was not reset.
    fn reopen(&mut self, serial: &SerialNumber) {
        let Some(device) = self.works.get(serial).map(|it| &it.device).filter(|it| it.is_open()) else {
            return;
        };
        let presentation = device.presentation.clone();
        let key = presentation.key.clone();
        let place =
            self.links.iter().position(|it| it.settings.name == key.fixture && it.boot == Some(key.boot));
        match place {
            Some(fixture) => {
                self.open(fixture, key.id, serial.clone(), presentation.nest);
                if let Some(open) = self.links[fixture].open.get_mut(&key.id) {
                    // Whatever is on disk, `ack` may have died on its way to the port: the next
                    // record, even `offered`, is written while it goes there.
                    open.acked = sabotaged!(OfferedUnacknowledged);
                }
            }
            None => {
                // What it waited for died with the process before.
                let (why, waited) = (CloseReason::FixtureAway, Waited::default());
                self.record(serial, Event::Closed { presentation: key, why, waited });
            }
        }
    }
}
