//! An account that can be out of reach, and notes what it is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Scene;
use crate::clock::TimeSource as _;
use crate::cloud::pace::Sleep as _;
use crate::cloud::pace::world::World;
use crate::cloud::testing::failure;
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
}

impl Cloud for Account {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        let operation = call.operation();
        if self.world.now().mono < self.away_until {
            self.seen.lock().unwrap().in_vain.push(self.world.now().mono);
            self.world.sleep(Duration::from_millis(1)).await;
            return Err(failure(operation, FailureKind::Unreachable));
        }
        self.world.sleep(self.rtt / 2).await;
        let time = self.world.now().mono;
        let admitted = self.limits.lock().unwrap().admit(operation, time);
        let reply = admitted.then(|| self.seen.lock().unwrap().take(call, time));
        self.world.sleep(self.rtt / 2).await;
        match reply {
            Some(reply) => Ok(Answer { reply, request_id: Some("r".to_owned()) }),
            None => {
                self.seen.lock().unwrap().throttled += 1;
                Err(failure(operation, FailureKind::Throttled))
            }
        }
    }
}

impl Seen {
    fn take(&mut self, call: &Call, time: Duration) -> Reply {
        self.calls.push((time, call.operation()));
        let (serial, reply) = self.answer(call);
        let done = self.begun.entry(serial.clone()).or_default();
        *done += 1;
        if *done == ALL {
            self.begun.remove(&serial);
            assert_eq!(self.whole.insert(serial, time), None, "a device is made twice");
        }
        self.most_begun = self.most_begun.max(self.begun.len());
        reply
    }

    /// Whose call it is, and what is answered.
    fn answer(&mut self, call: &Call) -> (String, Reply) {
        let text = String::from;
        match call {
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
                let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
                let id = Fingerprint::of(&der);
                let serial = String::from_utf8(der).unwrap().rsplit(' ').next().unwrap().to_owned();
                self.owners.insert(id, serial.clone());
                (serial, Reply::Certificate { id: id.to_string(), arn: format!("arn:cert/{id}") })
            }
            Call::AttachPolicy { policy, target } => {
                assert_eq!(self.owner(target), *policy);
                (policy.clone(), Reply::Empty)
            }
            Call::AttachThingPrincipal { thing, principal } => {
                assert_eq!(self.owner(principal), *thing);
                (thing.clone(), Reply::Empty)
            }
            other => panic!("a first identity needs no {other:?}"),
        }
    }

    fn owner(&self, arn: &str) -> String {
        let id = arn.rsplit('/').next().unwrap().parse().unwrap();
        self.owners.get(&id).expect("it is registered").clone()
    }
}
