//! Single reads: what the lists do not show, and attachments and documents.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt as _};

use super::{Journal, Look, Repairs, Run, Stop};
use crate::cloud::{Call, CertificateStatus, Cloud, Reply};
use crate::device::rules::{PolicyRule, ProductRules};
use crate::reconcile::{
    Class, Expected, Finding, Held, Owner, Phase, Row, Seen, Summary, compare, fixed_name, is_in_flight,
};

/// Devices that are read at the same time: enough for each quota at round trips of half a second.
const AT_ONCE: usize = 64;

/// Pages of one device's attachments at most.
const MAX_PAGES: usize = 40;

/// How long what does not show is given to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(3);

/// [`Held::managed_thing`], [`Held::managed_locker`] and [`Held::managed_into`].
type Managed = (Option<bool>, Option<String>, Option<bool>);

/// What came of one device.
enum Looked {
    Compared(Vec<Finding>),
    InFlight,
    Unread,
}

impl<C: Cloud + 'static> Run<'_, C> {
    /// Holds every selected device against the account, in the order of their serials.
    pub(super) async fn devices(
        &self,
        journal: &Journal,
        summary: &mut Summary,
        repairs: &mut Repairs,
    ) -> Result<(), Stop> {
        let listed = summary.listed.is_some();
        let rows = journal.roster.rows();
        let of = journal.roster.selected();
        let mut waiting = rows.iter().enumerate().filter(|(_, row)| row.waits);
        let mut looks = FuturesOrdered::<Look<'_, _>>::new();
        let mut done = 0;
        loop {
            for (at, row) in waiting.by_ref().take(AT_ONCE - looks.len()) {
                let others = journal.roster.other_lockers(at);
                looks.push_back(Box::pin(
                    async move { (row, self.device(journal, row, listed, others).await) },
                ));
            }
            let Some((row, looked)) = looks.next().await else { return Ok(()) };
            match looked? {
                Looked::Compared(findings) => {
                    summary.compared += 1;
                    for finding in findings {
                        self.found((finding, row.seq), summary, repairs).await?;
                    }
                }
                Looked::InFlight => summary.in_flight += 1,
                Looked::Unread => summary.unread += 1,
            }
            done += 1;
            // Repairs come at the end, of what this run has found: one that was cut off is begun anew.
            if !self.wish.repair {
                *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(row.serial.to_string());
            }
            self.progress(Phase::Devices, done, Some(of))?;
        }
    }

    async fn device(
        &self,
        journal: &Journal,
        row: &Row,
        listed: bool,
        others: Vec<String>,
    ) -> Result<Looked, Stop> {
        let Some((expected, rules)) = self.expected(journal, row).await? else { return Ok(Looked::InFlight) };
        let nothing = Seen::default();
        let seen = if listed { &row.seen } else { &nothing };
        let findings = match self.compared(&expected, (seen, listed), &others).await {
            Ok(findings) => findings,
            Err(Stop::Unread(error)) => {
                tracing::warn!(serial = %row.serial, %error, "a device could not be read");
                return Ok(Looked::Unread);
            }
            Err(stop) => return Err(stop),
        };
        drop(rules);
        if findings.is_empty() {
            return Ok(Looked::Compared(findings));
        }
        // What was recorded meanwhile may explain it.
        let now = self.reconciler.device(row.serial.clone()).await?;
        Ok(match now {
            Some(now) if now.last_seq == expected.seq => Looked::Compared(findings),
            _ => Looked::InFlight,
        })
    }

    /// What is expected of a device; none if it is being worked on, or was since the journal was read.
    async fn expected(
        &self,
        journal: &Journal,
        row: &Row,
    ) -> Result<Option<(Expected, Arc<ProductRules>)>, Stop> {
        let Some(device) = self.reconciler.device(row.serial.clone()).await? else { return Ok(None) };
        let Some(rules) = journal.rules.get(&device.rules).filter(|_| device.last_seq == row.seq) else {
            return Ok(None);
        };
        let lockers = &journal.batch_lockers;
        Ok((!is_in_flight(&device)).then(|| (Expected::of(&device, rules, lockers), rules.clone())))
    }

    async fn compared(
        &self,
        expected: &Expected,
        (seen, listed): (&Seen, bool),
        others: &[String],
    ) -> Result<Vec<Finding>, Stop> {
        let mut held = self.held(expected, (seen, listed)).await?;
        held.other_lockers = others.to_vec();
        let findings = compare(expected, &held);
        if !findings.iter().any(|it| matches!(it.class, Class::HalfMade | Class::Missing)) {
            return Ok(findings);
        }
        // AWS's lists lag behind what was attached, and its reads behind what was made.
        tokio::time::sleep(SHOWS_WITHIN).await;
        let mut held = self.held(expected, (&Seen::default(), false)).await?;
        held.other_lockers = others.to_vec();
        // Of a product's policy only this reads it for a device: what is to be attached is seen before that is told.
        if let Some(shared) = expected.policy.as_ref().filter(|it| !it.own && it.document.is_some()) {
            held.policy = self.policy(&shared.name).await?.map(Some);
        }
        Ok(compare(expected, &held))
    }

    /// Reads what the account holds for a device, and the lists have not shown already.
    async fn held(&self, expected: &Expected, (seen, listed): (&Seen, bool)) -> Result<Held, Stop> {
        if expected.gone {
            let thing = match (seen.thing, listed) {
                (true, _) => Some(Owner::Us),
                (false, true) => None,
                (false, false) => self.thing(expected).await?,
            };
            return Ok(Held { thing, ..Held::default() });
        }
        let deep = !self.wish.quick;
        let thing = async {
            match expected.has_thing {
                true if seen.thing => Ok(Some(Owner::Us)),
                true => self.thing(expected).await,
                false => Ok(None),
            }
        };
        let certificate = async {
            match &expected.certificate {
                Some(_) if seen.certificate == Some(CertificateStatus::Active) => Ok(seen.certificate),
                Some(it) => self.certificate(&it.id.to_string()).await,
                None => Ok(None),
            }
        };
        let policy = async {
            match expected.policy.as_ref().filter(|it| it.own) {
                Some(_) if !deep && seen.policy => Ok(Some(None)),
                Some(it) => Ok(self.policy(&it.name).await?.map(Some)),
                None => Ok(None),
            }
        };
        let locker = async {
            match &expected.locker {
                Some(_) if seen.locker => Ok(true),
                Some(it) => self.has_locker(&it.id).await,
                None => Ok(false),
            }
        };
        let (managed, attachments) = (self.managed_thing(expected), self.attachments(expected));
        let (thing, certificate, policy, locker, managed, [principals, policies, things]) =
            tokio::try_join!(thing, certificate, policy, locker, managed, attachments)?;
        let (managed_thing, managed_locker, managed_into) = managed;
        Ok(Held {
            thing,
            policy,
            certificate,
            locker,
            other_lockers: Vec::new(),
            managed_thing,
            managed_locker,
            managed_into,
            principals,
            policies,
            things,
        })
    }

    /// Whether its managed thing is there, and the locker that it names; and if it is not, whether the locker is there
    /// that it would go into again, where that is not its own.
    async fn managed_thing(&self, expected: &Expected) -> Result<Managed, Stop> {
        let Some(id) = expected.managed_thing.as_ref().filter(|_| !self.wish.quick) else {
            return Ok((None, None, None));
        };
        let (there, locker) = match self.ask(&Call::GetManagedThing { id: id.clone() }).await? {
            Some(Reply::ManagedThingDescription { locker, .. }) => (true, locker),
            other => (other.is_some(), None),
        };
        let into = match &expected.managed_into {
            Some(id) if !there => Some(self.has_locker(id).await?),
            _ => None,
        };
        Ok((Some(there), locker, into))
    }

    /// What is attached: certificates to the thing, policies to the certificate, the certificate to things.
    async fn attachments(&self, expected: &Expected) -> Result<[Option<Vec<String>>; 3], Stop> {
        let arn = expected.certificate.as_ref().map(|it| it.arn.as_str()).filter(|_| !self.wish.quick);
        let principals = async {
            match arn.filter(|_| expected.has_thing) {
                Some(_) => self.principals(&expected.thing).await,
                None => Ok(None),
            }
        };
        let policies = async {
            match arn {
                Some(arn) => self.policies_of(arn).await,
                None => Ok(None),
            }
        };
        let things = async {
            match arn {
                Some(arn) => self.things_of(arn).await,
                None => Ok(None),
            }
        };
        let (principals, policies, things) = tokio::try_join!(principals, policies, things)?;
        Ok([principals, policies, things])
    }

    async fn thing(&self, expected: &Expected) -> Result<Option<Owner>, Stop> {
        self.owner(&expected.thing, &expected.station).await
    }

    /// Whose a thing is, if it is there.
    pub(super) async fn owner(&self, name: &str, station: &str) -> Result<Option<Owner>, Stop> {
        let reply = self.ask(&Call::DescribeThing { name: name.to_owned() }).await?;
        Ok(match reply {
            Some(Reply::ThingDescription { attributes, .. }) => Some(Owner::of(&attributes, station)),
            _ => None,
        })
    }

    pub(super) async fn certificate(&self, id: &str) -> Result<Option<CertificateStatus>, Stop> {
        let reply = self.ask(&Call::DescribeCertificate { id: id.to_owned() }).await?;
        Ok(match reply {
            Some(Reply::CertificateDescription { status, .. }) => Some(status),
            _ => None,
        })
    }

    async fn policy(&self, name: &str) -> Result<Option<String>, Stop> {
        let reply = self.ask(&Call::GetPolicy { name: name.to_owned() }).await?;
        Ok(match reply {
            Some(Reply::Policy { document, .. }) => Some(document),
            _ => None,
        })
    }

    /// ARNs of the certificates at a thing; none if there is no such thing.
    pub(super) async fn principals(&self, thing: &str) -> Result<Option<Vec<String>>, Stop> {
        let call = |next_token| Call::ListThingPrincipals { thing: thing.to_owned(), next_token };
        self.names(call, |reply| match reply {
            Reply::Principals { arns, next } => Some((arns, next)),
            _ => None,
        })
        .await
    }

    /// Names of the policies at a certificate.
    pub(super) async fn policies_of(&self, arn: &str) -> Result<Option<Vec<String>>, Stop> {
        let call = |marker| Call::ListAttachedPolicies { target: arn.to_owned(), marker };
        self.names(call, |reply| match reply {
            Reply::Policies { names, next } => Some((names, next)),
            _ => None,
        })
        .await
    }

    /// Names of the things that a certificate is at.
    pub(super) async fn things_of(&self, arn: &str) -> Result<Option<Vec<String>>, Stop> {
        let call = |next_token| Call::ListPrincipalThings { principal: arn.to_owned(), next_token };
        self.names(call, |reply| match reply {
            Reply::ThingNames { names, next } => Some((names, next)),
            _ => None,
        })
        .await
    }

    async fn names(
        &self,
        call: impl Fn(Option<String>) -> Call,
        take: impl Fn(Reply) -> Option<(Vec<String>, Option<String>)>,
    ) -> Result<Option<Vec<String>>, Stop> {
        let (mut all, mut next) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let Some(reply) = self.ask(&call(next.take())).await? else { return Ok(None) };
            let Some((names, more)) = take(reply) else { break };
            all.extend(names);
            next = more;
            if next.is_none() {
                break;
            }
        }
        Ok(Some(all))
    }

    /// Policies that many devices share: looked at once each.
    pub(super) async fn shared_policies(&self, journal: &Journal, summary: &mut Summary) -> Result<(), Stop> {
        let mut seen = std::collections::BTreeSet::new();
        for rules in journal.used.values() {
            let PolicyRule::Product { name, document, .. } = &rules.policy else { continue };
            let Some(name) = fixed_name(name, &rules.station, &rules.product) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            let finding = match self.policy(&name).await.map_err(whole)? {
                Some(held) if crate::device::steps::same_json(document, &held) => continue,
                Some(_) => crate::reconcile::shared_policy(&name, true),
                None => crate::reconcile::shared_policy(&name, false),
            };
            self.found((finding, 0), summary, &mut Repairs::new()).await?;
        }
        Ok(())
    }

    async fn has_locker(&self, id: &str) -> Result<bool, Stop> {
        Ok(self.ask(&Call::GetCredentialLocker { id: id.to_owned() }).await?.is_some())
    }

    /// Lockers that a batch's devices share: looked at once each. Others of the same name are no finding: another
    /// station at the same order may have asked for its own long after.
    pub(super) async fn shared_lockers(&self, journal: &Journal, summary: &mut Summary) -> Result<(), Stop> {
        let mut missing = Vec::new();
        for it in &journal.lockers {
            if !self.has_locker(&it.id).await.map_err(whole)? {
                missing.push(it);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(SHOWS_WITHIN).await;
        for it in missing {
            if !self.has_locker(&it.id).await.map_err(whole)? {
                let finding = crate::reconcile::shared_locker(it);
                self.found((finding, 0), summary, &mut Repairs::new()).await?;
            }
        }
        Ok(())
    }
}

/// What is no single device's cannot be passed over.
fn whole(stop: Stop) -> Stop {
    match stop {
        Stop::Unread(error) => Stop::Problem(error.to_string()),
        other => other,
    }
}
