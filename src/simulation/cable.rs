//! The cable between a station's port and a fixture: bytes in order, not always all of them, nor as sent.

use std::time::Duration;

use super::world::{Event, World};
use crate::fixture::frame::{FixtureDecoder, StationDecoder};

/// Most bytes that go in one piece.
const PIECE: usize = 400;

/// One cable. Nothing overtakes on it.
#[derive(Debug, Default)]
pub(super) struct Cable {
    /// Whether the station has its end open.
    pub(super) is_open: bool,
    /// Number of the opening: what was on the way at an earlier one is lost.
    pub(super) epoch: u64,
    /// When the last bytes of each direction will have come out.
    free_at: [Duration; 2],
    /// The station's reading half, begun anew with each opening.
    pub(super) station_decoder: StationDecoder,
    /// The fixture's reading half.
    pub(super) decoder: FixtureDecoder,
}

impl World {
    /// Puts bytes on a cable; when the last one will have left.
    pub(super) fn send(&mut self, fixture: usize, to_station: bool, bytes: &[u8]) -> Duration {
        let rate = self.plan.rates.wire;
        let direction = usize::from(to_station);
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for piece in bytes.chunks(PIECE) {
            let mut piece = piece.to_vec();
            if self.happens(rate) {
                match self.rng.u8(..4) {
                    0 => continue,
                    1 => pieces.push(piece.clone()),
                    2 => piece.truncate(self.rng.usize(..piece.len())),
                    _ => {
                        let at = self.rng.usize(..piece.len());
                        piece[at] ^= 1 << self.rng.u8(..8);
                    }
                }
            }
            pieces.push(piece);
        }
        let epoch = self.cables[fixture].epoch;
        let before = self.cables[fixture].free_at[direction].max(self.now);
        let mut at = before;
        for piece in pieces {
            at += self.millis(20);
            let event = if to_station {
                Event::ToStation(fixture, epoch, piece)
            } else {
                Event::ToFixture(fixture, epoch, piece)
            };
            // Equal instants would be put in any order.
            at += Duration::from_nanos(1);
            self.after(at - self.now, event);
        }
        self.cables[fixture].free_at[direction] = at;
        let hang_up = self.plan.rates.hang_up;
        if self.happens(hang_up) {
            self.hang_up(fixture);
        }
        at - self.now
    }

    /// The cable comes off: the station loses its port, and finds it again later.
    pub(super) fn hang_up(&mut self, fixture: usize) {
        let cable = &mut self.cables[fixture];
        if !cable.is_open {
            return;
        }
        cable.is_open = false;
        cable.epoch += 1;
        self.tell(|| format!("the cable of jig-{} comes off", fixture + 1));
        let life = self.lives;
        if self.life.is_some() {
            self.after(Duration::ZERO, Event::Input(life, crate::line::Input::PortLost(fixture)));
            let pause = self.millis(8_000);
            self.after(pause + Duration::from_millis(1), Event::Opens(life, fixture));
        }
    }
}
