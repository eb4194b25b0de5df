//! Another configuration while the station works: SIGHUP, `systemctl reload`.
//!
//! It is taken over as a whole or not at all. What can change is said by [`Changes`]; the line journals it before
//! anything else follows. Devices that were admitted keep their rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::Daemon;
use crate::config::{Changes, Config, ConfigErrors};
use crate::control::sight::Plant;
use crate::control::tap::Tap;
use crate::pki::Fingerprint;
use crate::service_manager;
use crate::station::reporter::limits;
use crate::station::setup::{StationCloud, ca_files, line_products, news};
use crate::station::{Command, PortCounters, Station};

/// What follows another configuration while the daemon works.
pub(super) struct Alive {
    pub(super) cloud: Arc<StationCloud>,
    pub(super) plant: watch::Sender<Arc<Plant>>,
    /// By the fixtures' numbers.
    pub(super) ports: watch::Sender<Vec<Arc<PortCounters>>>,
    /// By the fixtures' names.
    pub(super) taps: watch::Sender<BTreeMap<String, Tap>>,
}

impl Alive {
    /// As the daemon begins.
    pub(super) fn of(config: &Config, station: &Station, cloud: &Arc<StationCloud>) -> Self {
        let names = config.fixtures.iter().map(|it| it.name.clone());
        let taps = names.zip(station.ports.iter().map(|it| it.traffic.clone()));
        Self {
            cloud: cloud.clone(),
            plant: watch::Sender::new(Arc::new(plant(config))),
            ports: watch::Sender::new(station.ports.clone()),
            taps: watch::Sender::new(taps.collect()),
        }
    }
}

impl Daemon {
    /// Reads the configuration again, and takes it over as a whole or not at all.
    pub(super) async fn reload(&mut self) {
        service_manager::reloading();
        let path = self.config.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let new = Config::load(&path)?;
            let ca_files = ca_files(&new);
            Ok::<_, ConfigErrors>((new, ca_files))
        });
        let taken = match read.await {
            Ok(Ok((new, ca_files))) => self.take_over(new, &ca_files).await,
            Ok(Err(errors)) => Err(errors.to_string()),
            // The runtime is ending.
            Err(_) => return,
        };
        match taken {
            Ok(changed) if changed.is_empty() => {
                tracing::info!("the configuration was read again: it says the same");
            }
            Ok(changed) => tracing::info!(changed = changed.join(", "), "the configuration is taken over"),
            Err(why) => {
                tracing::error!(why, "the configuration is not taken over: all stays as it was");
            }
        }
        service_manager::ready(&self.sentence());
    }

    /// What it has changed; or why it changes nothing. `ca_files` is what lies in the CAs' files now.
    async fn take_over(
        &mut self,
        new: Config,
        ca_files: &[Option<Fingerprint>],
    ) -> Result<Vec<String>, String> {
        let Changes { alive: changed, mut restart } = self.config.changes(&new);
        if restart.iter().all(|it| it != "[pki]") && self.ca_files != ca_files {
            restart.push("[pki] (a CA's certificate was replaced in its place)".to_owned());
        }
        if !restart.is_empty() {
            return Err(format!("{} cannot change while the station works: restart it", restart.join(", ")));
        }
        if changed.is_empty() {
            return Ok(changed);
        }
        let (news, ports) = news(&self.config, &new, changed.clone());
        let (opened, counters) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let ended = |_| "the station is ending".to_owned();
        let order = Command::Reconfigure { news: Box::new(news), ports, opened, reply };
        self.station.commands.send(order).await.map_err(|_| "the station is ending".to_owned())?;
        let counters = counters.await.map_err(ended)?;
        answer.await.map_err(ended)?.map_err(|refusal| refusal.to_string())?;
        self.follow(new, counters);
        Ok(changed)
    }

    /// Has everything but the line follow the configuration; `opened` are the ports of its new fixtures.
    fn follow(&mut self, new: Config, opened: Vec<Arc<PortCounters>>) {
        self.alive.cloud.set_quotas(&new.aws.quotas);
        self.alive.taps.send_modify(|taps| {
            taps.retain(|name, _| new.fixtures.iter().any(|it| it.name == *name));
            for (it, counters) in new.fixtures_without(&self.config).into_iter().zip(&opened) {
                taps.insert(it.name.clone(), counters.traffic.clone());
            }
        });
        self.alive.ports.send_modify(|ports| ports.extend(opened));
        self.alive.plant.send_replace(Arc::new(plant(&new)));
        self.reconciler = Arc::new(self.reconciler.following(line_products(&new), new.calendar()));
        self.config = new;
    }
}

/// What of a configuration is looked at while the station works.
fn plant(config: &Config) -> Plant {
    let (calendar, takt) = (config.calendar(), config.station.takt);
    Plant { calendar, takt, limits: limits(&config.aws.quotas), config: config.hash.to_string() }
}
