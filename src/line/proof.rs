//! Proof before PASS (`verify = "tls"`): the station connects as the device would, and is let in.
//!
//! The read-back of `verify = "cloud"` is a step like any other (`device::steps`).

use super::{Action, Line};
use crate::cloud::{CloudError, FailureKind, Operation};
use crate::device::KeyState;
use crate::device::event::Output;
use crate::device::retry::NOT_VISIBLE_TRIES;
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::fixture::FailCode;
use crate::pki::Fingerprint;

/// A connection to be tried as a device.
#[derive(Debug)]
pub struct Trial {
    /// The device.
    pub serial: SerialNumber,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// The same in PEM, with its chain.
    pub chain_pem: String,
    /// The name under which its private key is sealed.
    pub key: Fingerprint,
    /// Host, and port where it is another than MQTT's.
    pub endpoint: String,
    /// What the server is trusted by, PEM.
    pub roots_pem: String,
    /// What must be on disk first.
    pub after: u64,
}

/// Why a connection does not prove the device's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproved {
    /// The server was not reached, or has said nothing that counts.
    Unreachable(String),
    /// The server does not take the certificate; it may not know it yet.
    Refused(String),
    /// The server is not the one that it should be, or what is configured cannot work.
    Misconfigured(String),
    /// The sealed key could not be read now.
    Key(String),
}

impl Line {
    /// Has the connection tried.
    pub(super) fn connect(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get(serial) else { return };
        let Some(certificate) = &work.device.certificate else { return };
        let (Some(endpoint), Some(roots_pem)) = (&work.rules.endpoint, &work.rules.roots) else { return };
        if certificate.key != KeyState::Sealed {
            // Its device has it alone: nobody here could connect as that.
            self.step_done(serial, Step::Connect, Output::Nothing, false, None);
            return;
        }
        let Some((credentials, Some(key))) = self.credentials(0, serial) else { return };
        let trial = Trial {
            serial: serial.clone(),
            fingerprint: certificate.fingerprint,
            chain_pem: credentials.certificate,
            key,
            endpoint: endpoint.clone(),
            roots_pem: roots_pem.clone(),
            after: self.seq,
        };
        let Some(work) = self.works.get_mut(serial) else { return };
        let running = work.running.entry(Step::Connect).or_default();
        running.issuing = true;
        running.attempt += 1;
        self.out.push(Action::Connect(Box::new(trial)));
    }

    /// The connection was let in, or not.
    pub(super) fn connected(
        &mut self,
        serial: &SerialNumber,
        fingerprint: Fingerprint,
        result: Result<(), Unproved>,
    ) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&Step::Connect) else { return };
        running.issuing = false;
        if work.device.fingerprint() != Some(fingerprint) || !work.device.state.is_unfinished() {
            self.forget_step(serial, Step::Connect);
            self.progress(serial);
            self.may_leave(serial);
            return;
        }
        let (kind, message) = match result {
            Ok(()) => return self.step_done(serial, Step::Connect, Output::Nothing, false, None),
            Err(Unproved::Unreachable(it)) => (FailureKind::Unreachable, it),
            Err(Unproved::Key(it)) => (FailureKind::Unknown, it),
            Err(Unproved::Refused(it)) => (FailureKind::NotFound, it),
            Err(Unproved::Misconfigured(it)) => (FailureKind::Refused, it),
        };
        self.again_after(serial, Step::Connect, &not_connected(kind, message));
    }

    /// The locker that the device's managed thing is made in.
    fn locker_named(&self, serial: &SerialNumber) -> Option<String> {
        let work = self.works.get(serial)?;
        Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.locker_id()
    }

    /// What did not show in about half a minute, and is made by nobody here or was made long ago: quarantines the device,
    /// if it is that.
    pub(super) fn unproved(&mut self, serial: &SerialNumber, step: Step, error: &CloudError) -> bool {
        let tries = self.works.get(serial).and_then(|it| it.running.get(&step)).map_or(0, |it| it.not_found);
        if tries < NOT_VISIBLE_TRIES {
            return false;
        }
        let detail = match step {
            Step::Activate => format!("AWS does not show the certificate that it has issued: {error}"),
            Step::Verify => format!("AWS does not show what was made for {serial}: {error}"),
            Step::Connect => {
                format!("the endpoint does not take the certificate of {serial}: {}", error.message)
            }
            Step::ManagedThing => match self.locker_named(serial) {
                Some(locker) => format!("the locker {locker} is not there: {error}"),
                None => format!("AWS does not find what a managed thing for {serial} needs: {error}"),
            },
            _ => return false,
        };
        self.quarantine(serial, FailCode::Rejected, &detail);
        true
    }
}

/// Nothing that AWS's API said, but it waits the same way.
fn not_connected(kind: FailureKind, message: String) -> CloudError {
    CloudError {
        code: Some("connect".to_owned()),
        ..CloudError::new(Operation::DescribeEndpoint, kind, message)
    }
}
