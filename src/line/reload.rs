//! Another configuration, while the line works. What a device was admitted by stays: its rules are its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::{Link, LinkState};
use super::{FixtureSettings, Input, Line, Product};
use crate::device::event::CloseReason;
use crate::journal::StationEvent;

/// What another configuration changes while the station works.
#[derive(Debug, Clone)]
pub struct News {
    /// The fixtures that there are from now on. New ones come behind all that there have been, in this order.
    pub fixtures: Vec<FixtureSettings>,
    /// The products; every one that there was is among them.
    pub products: BTreeMap<String, Product>,
    /// Hash of the configuration, for the record.
    pub config_hash: String,
    /// As in [`Settings`](super::Settings), like the others below.
    pub keep_undelivered: Duration,
    /// Likewise.
    pub backlog: usize,
    /// Likewise.
    pub in_progress: usize,
    /// What it changes, in words, for the record.
    pub changed: Vec<String>,
}

impl Input {
    /// The fixture that it comes from, if it comes from one.
    pub(super) fn fixture(&self) -> Option<usize> {
        match self {
            Self::PortOpened(it)
            | Self::PortLost(it)
            | Self::PortRefused(it, _)
            | Self::Message(it, _)
            | Self::BadFrame(it, ..)
            | Self::Sent(it, ..) => Some(*it),
            _ => None,
        }
    }
}

impl Line {
    /// The number of the fixture of that name.
    #[must_use]
    pub fn fixture_named(&self, name: &str) -> Option<usize> {
        self.links.iter().position(|it| it.settings.name == name && it.state != LinkState::Gone)
    }

    /// Whether the fixture of that number is not configured any more.
    pub(super) fn is_gone(&self, fixture: usize) -> bool {
        self.links[fixture].state == LinkState::Gone
    }

    /// Takes over what another configuration changes.
    pub(super) fn reconfigure(&mut self, news: News) {
        for fixture in 0..self.links.len() {
            let name = &self.links[fixture].settings.name;
            if !self.is_gone(fixture) && !news.fixtures.iter().any(|it| it.name == *name) {
                self.let_go(fixture);
            }
        }
        // Before the fixtures: what these present has to be there.
        self.settings.products = news.products;
        for settings in news.fixtures {
            match self.fixture_named(&settings.name) {
                Some(fixture) => self.links[fixture].settings = settings,
                None => {
                    let boot = self.boots.get(&settings.name).copied();
                    self.links.push(Link::new(settings, boot));
                }
            }
        }
        self.settings.config_hash.clone_from(&news.config_hash);
        self.settings.keep_undelivered = news.keep_undelivered;
        self.settings.backlog = news.backlog;
        self.settings.in_progress = news.in_progress;
        self.station_event(StationEvent::Reconfigured { config: news.config_hash, changed: news.changed });
        self.adopt_rules();
        self.note_hindrances();
    }

    /// A fixture is not configured any more. Its number stays its own: what is under way for it finds nobody.
    fn let_go(&mut self, fixture: usize) {
        self.close_all(fixture, CloseReason::FixtureAway);
        let link = &mut self.links[fixture];
        if let Some(boot) = link.boot {
            self.boots.insert(link.settings.name.clone(), boot);
        }
        link.let_go();
    }
}
