//! The simulated fixture with one thing wrong, by what is changed on its way in or out.

use std::time::Duration;

use crate::fixture::frame::{Decoded, FixtureDecoder, encode_fixture};
use crate::fixture::{FixtureMessage, StationMessage};
use crate::rehearsal::fixture::{FixtureModel, FixtureOptions};

/// What is wrong.
pub(super) trait Fault {
    /// What becomes of bytes that come from the station.
    fn bytes_in(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    /// What the fixture makes of a message; none if nothing.
    fn heard(&mut self, message: StationMessage, _now: Duration) -> Option<StationMessage> {
        Some(message)
    }

    /// What it says beside, whatever the model does about it.
    fn answers(&mut self, _message: &Decoded<StationMessage>) -> Vec<FixtureMessage> {
        Vec::new()
    }

    /// What it says instead.
    fn said(&mut self, message: FixtureMessage, _now: Duration) -> Vec<FixtureMessage> {
        vec![message]
    }

    /// The frame as it is sent.
    fn frame(&mut self, frame: Vec<u8>) -> Vec<u8> {
        frame
    }

    /// When it wants to say something by itself.
    fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// What it says by itself.
    fn unasked(&mut self, _now: Duration) -> Vec<FixtureMessage> {
        Vec::new()
    }
}

/// Nothing.
#[derive(Debug)]
struct Sound;

impl Fault for Sound {}

/// A fixture on a bench.
pub(super) struct Fixture {
    model: FixtureModel,
    decoder: FixtureDecoder,
    fault: Box<dyn Fault>,
    beside: Vec<FixtureMessage>,
}

impl Fixture {
    fn of(options: FixtureOptions, fault: Box<dyn Fault>) -> Self {
        Self { model: FixtureModel::new(options), decoder: FixtureDecoder::new(), fault, beside: Vec::new() }
    }

    fn options(count: usize) -> FixtureOptions {
        FixtureOptions::new((0..count).map(|it| format!("SN{it}")).collect())
    }

    pub(super) fn with_keys(count: usize, device_key: bool) -> Self {
        let options = FixtureOptions { station_key: !device_key, with_mac: true, ..Self::options(count) };
        Self::of(options, Box::new(Sound))
    }

    pub(super) fn with_nests(count: usize, nests: usize) -> Self {
        Self::of(FixtureOptions { nests, ..Self::options(count) }, Box::new(Sound))
    }

    pub(super) fn with(fault: impl Fault + 'static) -> Self {
        Self::of(Self::options(16), Box::new(fault))
    }

    pub(super) fn of_one_nest(fault: impl Fault + 'static) -> Self {
        Self::of(FixtureOptions { nests: 1, ..Self::options(16) }, Box::new(fault))
    }

    pub(super) fn lose_power(&mut self) {
        self.model.lose_power();
    }

    pub(super) fn receive(&mut self, bytes: &[u8], now: Duration) {
        self.decoder.push(&self.fault.bytes_in(bytes));
        for decoded in self.decoder.by_ref() {
            self.beside.extend(self.fault.answers(&decoded));
            match decoded {
                Decoded::Message(message) => {
                    if let Some(message) = self.fault.heard(message, now) {
                        self.model.on_decoded(Decoded::Message(message), now);
                    }
                }
                other => self.model.on_decoded(other, now),
            }
        }
    }

    /// What it says now.
    pub(super) fn said(&mut self, now: Duration) -> Vec<u8> {
        self.model.on_time(now);
        let mut said = std::mem::take(&mut self.beside);
        while let Some(message) = self.model.output() {
            said.extend(self.fault.said(message, now));
        }
        said.extend(self.fault.unasked(now));
        self.model.flushed(now);
        said.iter().flat_map(|it| self.fault.frame(encode_fixture(it).unwrap().to_vec())).collect()
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        [self.model.wake_at(), self.fault.wake_at()].into_iter().flatten().min()
    }
}
