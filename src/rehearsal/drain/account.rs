//! An account that can be out of reach, and notes what it is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Scene, Wrong, wrong};
use crate::clock::TimeSource as _;
use crate::cloud::pace::Sleep as _;
use crate::cloud::pace::world::World;
use crate::cloud::{Answer, Call, Cloud, CloudError, FailureKind, Operation, Reply};
use crate::pki::Fingerprint;
use crate::rehearsal::cloud::{Limits, Throttling};
use base64::Engine as _;

/// Calls of a device that make all of it.
const ALL: usize = 6;

/// What AWS has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Calls that came through, by when.
    pub(super) calls: Vec<(Duration, Operation)>,
    /// When it was tried in vain.
    pub(super) in_vain: Vec<Duration>,
    pub(super) throttled: usize,
    /// When each device was made whole.
    pub(super) whole: BTreeMap<String, Duration>,
    /// Devices of which some, but not all, calls were made: most at a time.
    pub(super) most_begun: usize,
    begun: HashMap<String, usize>,
    /// Whose certificate it is, by its id.
    owners: HashMap<Fingerprint, String>,
    /// What must not happen, and has.
    pub(super) wrong: Option<Wrong>,
}

/// The account.
pub(super) struct Account {
    world: World,
    rtt: Duration,
    away_until: Duration,
    limits: Mutex<Limits>,
    seen: Arc<Mutex<Seen>>,
}

impl Account {
    pub(super) fn new(world: &World, scene: &Scene) -> Self {
        Self {
            world: world.clone(),
            rtt: scene.rtt,
            away_until: scene.away_until,
            limits: Mutex::new(Limits::new(&scene.quotas, &Throttling::default(), Duration::ZERO)),
            seen: Arc::default(),
        }
    }

    pub(super) fn seen(&self) -> Arc<Mutex<Seen>> {
        self.seen.clone()
    }

    fn note(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cloud for Account {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        let operation = call.operation();
        if self.world.now().mono < self.away_until {
            self.note().in_vain.push(self.world.now().mono);
            self.world.sleep(Duration::from_millis(1)).await;
            return Err(CloudError::new(operation, FailureKind::Unreachable, "as AWS says it"));
        }
        self.world.sleep(self.rtt / 2).await;
        let time = self.world.now().mono;
        let admitted = self.limits.lock().unwrap_or_else(PoisonError::into_inner).admit(operation, time);
        let reply = admitted.then(|| self.note().take(call, time));
        self.world.sleep(self.rtt / 2).await;
        match reply {
            Some(Ok(reply)) => Ok(Answer { reply, request_id: Some("r".to_owned()) }),
            Some(Err(wrong)) => {
                self.note().wrong.get_or_insert(wrong);
                Err(CloudError::new(operation, FailureKind::Unknown, "as AWS says it"))
            }
            None => {
                self.note().throttled += 1;
                Err(CloudError::new(operation, FailureKind::Throttled, "as AWS says it"))
            }
        }
    }
}

impl Seen {
    fn take(&mut self, call: &Call, time: Duration) -> Result<Reply, Wrong> {
        self.calls.push((time, call.operation()));
        let (serial, reply) = self.answer(call)?;
        let done = self.begun.entry(serial.clone()).or_default();
        *done += 1;
        if *done == ALL {
            self.begun.remove(&serial);
            if self.whole.insert(serial.clone(), time).is_some() {
                return Err(wrong(format!("{serial} is made twice")));
            }
        }
        self.most_begun = self.most_begun.max(self.begun.len());
        Ok(reply)
    }

    /// Whose call it is, and what is answered.
    fn answer(&mut self, call: &Call) -> Result<(String, Reply), Wrong> {
        let text = String::from;
        Ok(match call {
            Call::CreateCredentialLocker { name, .. } => {
                (name.clone(), Reply::Locker { id: format!("l{name}"), arn: text("arn:l") })
            }
            Call::CreatePolicy { name, document, .. } => {
                let document = document.clone();
                (name.clone(), Reply::Policy { name: name.clone(), arn: text("arn:p"), document })
            }
            Call::CreateThing { name, .. } => {
                (name.clone(), Reply::Thing { name: name.clone(), arn: text("arn:t") })
            }
            Call::RegisterCertificateWithoutCa { certificate_pem } => {
                let body: String = certificate_pem.lines().filter(|it| !it.starts_with('-')).collect();
                let der = base64::engine::general_purpose::STANDARD.decode(body).map_err(wrong)?;
                let id = Fingerprint::of(&der);
                let serial =
                    String::from_utf8(der).map_err(wrong)?.rsplit(' ').next().unwrap_or_default().to_owned();
                self.owners.insert(id, serial.clone());
                (serial, Reply::Certificate { id: id.to_string(), arn: format!("arn:cert/{id}") })
            }
            Call::AttachPolicy { policy, target } => {
                self.is_of(target, policy)?;
                (policy.clone(), Reply::Empty)
            }
            Call::AttachThingPrincipal { thing, principal } => {
                self.is_of(principal, thing)?;
                (thing.clone(), Reply::Empty)
            }
            other => return Err(wrong(format!("a first identity needs no {other:?}"))),
        })
    }

    /// The certificate is attached to what is the same device's.
    fn is_of(&self, arn: &str, name: &str) -> Result<(), Wrong> {
        let id = arn.rsplit('/').next().unwrap_or_default().parse().map_err(wrong)?;
        match self.owners.get(&id) {
            Some(owner) if owner == name => Ok(()),
            owner => Err(wrong(format!("{arn} is of {owner:?} and is attached to {name}"))),
        }
    }
}
