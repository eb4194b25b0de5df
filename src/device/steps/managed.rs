//! The managed thing: by what IoT managed integrations knows a device before anybody has set it up.

use super::Subject;
use crate::cloud::Call;
use crate::device::rules::{LockerRule, ManagedRole};
use crate::label::material;
use crate::pki::Fingerprint;

impl Subject<'_> {
    /// Its client token follows from station and serial, whatever else changes, and from how often it had to be made
    /// again: AWS takes a serial and article number once for an account, and a device has one managed thing for
    /// all its lives.
    fn managed_token(&self) -> String {
        let mut of = format!("linemint/1/managed-thing/{}/{}", self.rules.station, self.device.serial);
        if self.device.managed_things_remade > 0 {
            of.push_str(&format!("/{}", self.device.managed_things_remade));
        }
        Fingerprint::of(of.as_bytes()).to_string()
    }

    /// None if the product has none, or the locker that goes into it is not known yet.
    pub(in crate::device) fn create_managed_thing(&self) -> Option<Call> {
        let rule = self.rules.managed_thing.as_ref()?;
        let locker = self.locker_id();
        if locker.is_none() && self.rules.locker != LockerRule::None {
            return None;
        }
        let serial = self.device.serial.to_string();
        Some(Call::CreateManagedThing {
            controller: rule.role == ManagedRole::Controller,
            material: material(&serial, self.rules.article.as_ref()),
            serial,
            locker,
            client_token: self.managed_token(),
        })
    }
}
