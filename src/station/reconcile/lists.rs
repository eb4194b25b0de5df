//! The account's lists, all four at the same time: each has its own quota.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Journal, Run, Stop};
use crate::cloud::{Call, Cloud, Reply};
use crate::device::rules::{LockerRule, PolicyRule, Register};
use crate::reconcile::{Phase, Roster};

/// Pages of one list at most: far more than names are taken.
const MAX_PAGES: u32 = 20_000;

type Guarded<'a> = Mutex<&'a mut Roster>;

fn lock<'a, 'b>(roster: &'a Guarded<'b>) -> MutexGuard<'a, &'b mut Roster> {
    roster.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Cloud + 'static> Run<'_, C> {
    /// Reads the lists into the roster.
    pub(super) async fn read_lists(&self, journal: &mut Journal) -> Result<(), Stop> {
        let rules = || journal.rules.values();
        // Where every certificate was registered under the station's CA, its list is the shorter one.
        let by_ca = rules().all(|it| it.certificate.register == Register::WithCa);
        // With two of them, what the older one has signed would not be on it.
        let ca = match self.reconciler.cas.as_slice() {
            [(ca, _)] if by_ca && !journal.rules.is_empty() => Some(*ca),
            _ => None,
        };
        // What no device can have is not read.
        let lockers = rules().any(|it| matches!(it.locker, LockerRule::Device { .. }));
        let policies = rules().any(|it| matches!(it.policy, PolicyRule::Device { .. }));
        let certificates = rules().any(|it| it.certificate.register != Register::Jitp);
        let roster = Mutex::new(&mut journal.roster);
        let station = self.reconciler.station.as_str();
        let things = self.pages(
            &roster,
            |next_token| Call::ListThings { next_token },
            |roster, reply| {
                let Reply::Things { items, next } = reply else { return Err(()) };
                roster.things(&items, station);
                Ok(next)
            },
        );
        let policies = async {
            if !policies {
                return Ok(());
            }
            self.pages(
                &roster,
                |marker| Call::ListPolicies { marker },
                |roster, reply| {
                    let Reply::Policies { names, next } = reply else { return Err(()) };
                    roster.policies(&names);
                    Ok(next)
                },
            )
            .await
        };
        let certificates = async {
            if !certificates {
                return Ok(());
            }
            let call = |marker: Option<String>| match ca {
                Some(ca) => Call::ListCertificatesByCa { ca: ca.to_string(), marker },
                None => Call::ListCertificates { marker },
            };
            self.pages(&roster, call, |roster, reply| {
                let Reply::Certificates { items, next } = reply else { return Err(()) };
                roster.certificates(items);
                Ok(next)
            })
            .await
        };
        let lockers = async {
            if !lockers {
                return Ok(());
            }
            let call = |next_token| Call::ListCredentialLockers { next_token };
            self.pages(&roster, call, |roster, reply| {
                let Reply::Lockers { items, next } = reply else { return Err(()) };
                roster.lockers(&items);
                Ok(next)
            })
            .await
        };
        let read = tokio::try_join!(things, policies, certificates, lockers);
        read.map(|_| ()).map_err(|stop| match stop {
            Stop::Unread(error) => Stop::Problem(format!("the account's lists cannot be read: {error}")),
            other => other,
        })
    }

    async fn pages(
        &self,
        roster: &Guarded<'_>,
        call: impl Fn(Option<String>) -> Call,
        take: impl Fn(&mut Roster, Reply) -> Result<Option<String>, ()>,
    ) -> Result<(), Stop> {
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let call = call(next.take());
            // A list that is not found is an empty one: that of a CA that is not registered.
            let Some(reply) = self.ask(&call).await? else { return Ok(()) };
            let (more, listed) = {
                let mut roster = lock(roster);
                (take(&mut roster, reply), roster.listed())
            };
            self.progress(Phase::Lists, listed, None)?;
            match more {
                Ok(None) => return Ok(()),
                Ok(more) => next = more,
                Err(()) => {
                    return Err(Stop::Problem(format!(
                        "{} was answered with something else",
                        call.operation()
                    )));
                }
            }
        }
        Err(Stop::Problem(
            "the account holds more names than are taken: select a shift or a batch".to_owned(),
        ))
    }
}
