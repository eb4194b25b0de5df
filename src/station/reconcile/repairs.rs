//! Repairs: each is an order to the line, which journals it with who wants it and why before AWS is called,
//! goes on with it over a restart, and journals what has come of it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::oneshot;

use super::{Command, Look, Repairs, Run, Stop};
use crate::cloud::Cloud;
use crate::device::event::Event;
use crate::device::mend::MendOrder;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::device::{Device, State};
use crate::journal::What;
use crate::reconcile::{Class, Finding, Phase, Repair, Summary, Told, is_in_flight};

/// Devices that are repaired at the same time.
const AT_ONCE: usize = 32;

/// How often it is looked whether a repair is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a repair is waited for: a policy can be deleted up to five minutes after it was detached.
const WITHIN: Duration = Duration::from_secs(600);

/// Records of a device that are looked through for its certificate.
const HISTORY: usize = 10_000;

/// What has come of a device's repairs.
type Outcomes = Vec<(String, Class, Result<(), String>)>;

impl<C: Cloud + 'static> Run<'_, C> {
    /// Has the line put right what can be, and waits for what comes of it.
    pub(super) async fn repair(&self, findings: Repairs, summary: &mut Summary) -> Result<(), Stop> {
        let mut by_serial: BTreeMap<String, Repairs> = BTreeMap::new();
        for (finding, seq) in findings {
            let extra = matches!(finding.repair, Some(Repair::Clear { .. }));
            if let Some(serial) = finding.serial.clone().filter(|_| !extra || self.wish.delete_extras) {
                by_serial.entry(serial).or_default().push((finding, seq));
            }
        }
        let of = by_serial.values().map(Vec::len).sum::<usize>() as u64;
        let mut waiting = by_serial.into_iter();
        let mut repairs = FuturesUnordered::<Look<'_, _>>::new();
        let mut done = 0;
        loop {
            for (serial, findings) in waiting.by_ref().take(AT_ONCE - repairs.len()) {
                repairs.push(Box::pin(self.put_all_right(serial, findings)));
            }
            let next = tokio::time::timeout(Duration::from_secs(2), repairs.next()).await;
            let Ok(next) = next else {
                self.progress(Phase::Repairs, done, Some(of))?;
                continue;
            };
            let Some(outcomes) = next else { return Ok(()) };
            for (serial, class, outcome) in outcomes? {
                done += 1;
                match outcome {
                    Ok(()) => summary.repaired += 1,
                    Err(_) => summary.unrepaired += 1,
                }
                let (done, why) = (outcome.is_ok(), outcome.err());
                self.tell(Told::Repaired { serial, class, done, why }).await?;
            }
            self.progress(Phase::Repairs, done, Some(of))?;
        }
    }

    async fn put_all_right(&self, serial: String, findings: Repairs) -> Result<Outcomes, Stop> {
        let mut outcomes = Vec::new();
        // What was repaired last, as it was looked at, and the device's newest record after that.
        let mut ours = None;
        for (finding, found_at) in findings {
            let mut seq = match ours {
                Some((from, to)) if from == found_at => to,
                _ => found_at,
            };
            let outcome = match self.put_right(&serial, &finding, &mut seq).await {
                Err(Stop::Unread(error)) => Err(error.to_string()),
                other => other?,
            };
            ours = Some((found_at, seq));
            outcomes.push((serial.clone(), finding.class, outcome));
        }
        Ok(outcomes)
    }

    /// `seq` is the device's newest record when it was looked at; then its newest after the repair.
    async fn put_right(
        &self,
        serial: &str,
        finding: &Finding,
        seq: &mut u64,
    ) -> Result<Result<(), String>, Stop> {
        let (Some(repair), Ok(serial)) = (&finding.repair, SerialNumber::parse(serial)) else {
            return Ok(Err("it cannot be repaired".to_owned()));
        };
        // An earlier finding of the same device may be being repaired.
        let before = match self.rested(&serial).await? {
            Ok(before) => before,
            Err(why) => return Ok(Err(why)),
        };
        let since = before.as_ref().map_or(0, |it| it.last_seq);
        if since != *seq {
            return Ok(Err("it has changed since it was looked at: reconcile again".to_owned()));
        }
        let order = match (repair, &before) {
            (Repair::Clear { product }, None) => MendOrder::Clear { product: product.clone() },
            (Repair::Finish { steps }, Some(device)) => {
                let der = if steps.contains(&Step::Certificate) {
                    self.der(device).await?
                } else {
                    Some(Vec::new())
                };
                let Some(der) = der else {
                    return Ok(Err("its certificate is not in the journal any more".to_owned()));
                };
                MendOrder::Finish { steps: steps.clone(), der, seq: device.last_seq }
            }
            (Repair::Retire(orphan), Some(device)) => {
                MendOrder::Retire { orphan: orphan.clone(), seq: device.last_seq }
            }
            _ => return Ok(Err("the journal says something else by now".to_owned())),
        };
        if let Err(why) = self.order(serial.clone(), order).await? {
            return Ok(Err(why));
        }
        match self.rested(&serial).await? {
            Ok(after) => {
                *seq = after.as_ref().map_or(0, |it| it.last_seq);
                self.outcome(&serial, repair, after, since).await
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// The device, once nothing is being done with it.
    async fn rested(&self, serial: &SerialNumber) -> Result<Result<Option<Device>, String>, Stop> {
        let clock = &self.reconciler.clock;
        let until = clock.now().mono + WITHIN;
        loop {
            match self.reconciler.device(serial.clone()).await? {
                Some(device) if is_in_flight(&device) => {}
                other => return Ok(Ok(other)),
            }
            if clock.now().mono >= until {
                return Ok(Err("it is not done yet; the station goes on with it".to_owned()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn order(&self, serial: SerialNumber, order: MendOrder) -> Result<Result<(), String>, Stop> {
        let (reply, answer) = oneshot::channel();
        let by = self.by.clone();
        let stopping = || Stop::Problem("the station is stopping".to_owned());
        let command = Command::Mend { serial, order, by, reply };
        self.reconciler.commands.send(command).await.map_err(|_| stopping())?;
        let answer = answer.await.map_err(|_| stopping())?;
        Ok(answer.map_err(|refusal| refusal.to_string()))
    }

    /// What the journal says of a repair that is over.
    async fn outcome(
        &self,
        serial: &SerialNumber,
        repair: &Repair,
        after: Option<Device>,
        since: u64,
    ) -> Result<Result<(), String>, Stop> {
        let wanted = serial.clone();
        let records = self.reconciler.journal(move |store| store.history(&wanted, HISTORY)).await?;
        let failed = records.into_iter().filter(|it| it.seq > since).find_map(|it| match it.what {
            What::Device(Event::MendFailed { step, message }) => Some(format!("{step}: {message}")),
            _ => None,
        });
        let Some(device) = after else { return Ok(Err("the journal does not have it".to_owned())) };
        let done = match repair {
            Repair::Finish { .. } => failed.is_none(),
            Repair::Retire(it) => {
                device.superseded.iter().any(|old| old.fingerprint == it.fingerprint && old.is_deleted())
            }
            Repair::Clear { .. } => device.state == State::Scrapped,
        };
        Ok(if done { Ok(()) } else { Err(failed.unwrap_or_else(|| "it was not done".to_owned())) })
    }

    /// The present certificate's DER, out of its record.
    async fn der(&self, device: &Device) -> Result<Option<Vec<u8>>, Stop> {
        let Some(certificate) = &device.certificate else { return Ok(None) };
        if !certificate.der.is_empty() {
            return Ok(Some(certificate.der.clone()));
        }
        let (serial, fingerprint) = (device.serial.clone(), certificate.fingerprint);
        let records = self.reconciler.journal(move |store| store.history(&serial, HISTORY)).await?;
        Ok(records.into_iter().rev().find_map(|it| match it.what {
            What::Device(Event::Issued { certificate }) if certificate.fingerprint == fingerprint => {
                Some(certificate.der)
            }
            _ => None,
        }))
    }
}
