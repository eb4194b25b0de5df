//! The account of these tests.

use super::*;

/// An account that holds two whole devices and some certificates more. When one of these is looked at,
/// something may happen in the station.
#[derive(Default)]
pub(super) struct Account {
    pub(super) leaves: Vec<Leaf>,
    /// Ids of lockers, beside those of the two.
    pub(super) lockers: Vec<String>,
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    pub(super) asked: Mutex<BTreeSet<Operation>>,
    /// How often lockers were read one by one.
    pub(super) locker_reads: AtomicU64,
    /// Further things, each with the station that has made it.
    pub(super) others: Vec<(String, Option<String>)>,
    /// How often things were read one by one.
    pub(super) thing_reads: AtomicU64,
    /// Things that certificates beside those of the two are at.
    pub(super) attached: Vec<(Fingerprint, String)>,
    /// The policies are at no certificate.
    pub(super) policies_detached: bool,
    /// What every policy says, where that is not what it should.
    pub(super) document: Option<String>,
    /// The certificates of the two are not active.
    pub(super) inactive: bool,
}

impl Account {
    pub(super) fn own(name: &str) -> Fingerprint {
        Fingerprint::of(der_of(&serial(name)).as_bytes())
    }

    fn certificates(&self) -> Vec<ListedCertificate> {
        let own = DEVICES.into_iter().map(|it| (Self::own(it), self.own_status()));
        let all = own.chain(self.leaves.iter().map(|it| (it.id, CertificateStatus::Active)));
        all.map(|(id, status)| ListedCertificate { id, status, created: Timestamp::MAX }).collect()
    }

    fn own_status(&self) -> CertificateStatus {
        if self.inactive { CertificateStatus::Inactive } else { CertificateStatus::Active }
    }

    fn whose(arn: &str) -> Option<&'static str> {
        DEVICES.into_iter().find(|it| arn == arn_of(Self::own(it)))
    }

    fn policies_at(&self, arn: &str) -> Vec<String> {
        let own = Self::whose(arn);
        if own.is_none()
            && let Some(meanwhile) = self.meanwhile.lock().unwrap().take()
        {
            meanwhile();
        }
        own.into_iter().filter(|_| !self.policies_detached).map(str::to_owned).collect()
    }

    fn things_at(&self, arn: &str) -> Vec<String> {
        let others = self.attached.iter().filter(|it| arn == arn_of(it.0)).map(|it| it.1.clone());
        Self::whose(arn).into_iter().map(str::to_owned).chain(others).collect()
    }

    fn things(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let own = DEVICES.into_iter().map(|it| (it.to_owned(), Some(STATION.to_owned())));
        own.chain(self.others.iter().cloned())
    }

    fn answer(&self, call: &Call) -> Option<Reply> {
        let next = None;
        let names = || DEVICES.into_iter().map(str::to_owned);
        Some(match call {
            Call::ListThings { .. } => {
                let thing = |(name, by)| ListedThing { name, attributes: made_by(by) };
                Reply::Things { items: self.things().map(thing).collect(), next }
            }
            Call::DescribeThing { name } => {
                self.thing_reads.fetch_add(1, Ordering::Relaxed);
                let (name, by) = self.things().find(|it| it.0 == *name)?;
                Reply::ThingDescription { name, arn: String::new(), attributes: made_by(by) }
            }
            Call::ListPolicies { .. } => Reply::Policies { names: names().collect(), next },
            Call::ListCredentialLockers { .. } => {
                let locker = |name: String| ListedLocker {
                    id: format!("locker-{name}"),
                    arn: String::new(),
                    name: Some(name),
                    created: Timestamp::UNIX_EPOCH,
                };
                Reply::Lockers { items: names().map(locker).collect(), next }
            }
            Call::ListCertificates { .. } | Call::ListCertificatesByCa { .. } => {
                Reply::Certificates { items: self.certificates(), next }
            }
            Call::GetCredentialLocker { id } => {
                self.locker_reads.fetch_add(1, Ordering::Relaxed);
                let id = self.lockers.iter().find(|it| *it == id)?.clone();
                Reply::LockerDescription { id, arn: String::new(), tags: BTreeMap::new() }
            }
            Call::GetPolicy { name } => {
                let (name, arn) = (name.clone(), String::new());
                let document = self.document.clone().unwrap_or_else(|| DOCUMENT.to_owned());
                Reply::Policy { name, arn, document }
            }
            Call::ListThingPrincipals { thing, .. } => {
                let own = DEVICES.contains(&thing.as_str()).then(|| arn_of(Self::own(thing)));
                let others = self.attached.iter().filter(|it| it.1 == *thing).map(|it| arn_of(it.0));
                Reply::Principals { arns: own.into_iter().chain(others).collect(), next }
            }
            Call::ListAttachedPolicies { target, .. } => {
                Reply::Policies { names: self.policies_at(target), next }
            }
            Call::ListPrincipalThings { principal, .. } => {
                Reply::ThingNames { names: self.things_at(principal), next }
            }
            Call::DescribeCertificate { id } => {
                let own = DEVICES.into_iter().map(|it| (Self::own(it), self.own_status(), None));
                let others = self.leaves.iter();
                let others = others.map(|it| (it.id, CertificateStatus::Active, Some(it.pem.clone())));
                let (it, status, pem) = own.chain(others).find(|it| it.0.to_string() == *id)?;
                Reply::CertificateDescription { id: id.clone(), arn: arn_of(it), status, pem }
            }
            _ => return None,
        })
    }
}

fn made_by(station: Option<String>) -> BTreeMap<String, String> {
    station.into_iter().map(|it| ("linemint".to_owned(), it)).collect()
}

impl Cloud for Account {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        self.asked.lock().unwrap().insert(call.operation());
        match self.answer(call) {
            Some(reply) => Ok(Answer { reply, request_id: Some("r".to_owned()) }),
            None => Err(failure(call.operation(), FailureKind::NotFound)),
        }
    }
}
