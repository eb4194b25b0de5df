//! Simulated fixtures that keep the protocol, the units that they hold and the people who handle them.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use super::cloud::der_of;
use crate::device::rules::KeyOrigin;
use crate::fixture::{Credentials, FailCode, FixtureMessage, NakCode, StationMessage, Unit};
use crate::pki::Fingerprint;

/// Periods after which an acknowledged `unit` is said again.
const ACKED_PERIODS: u32 = 5;

/// What devices that make their own keys send; always the same, so that a seed is. Their private keys
/// were thrown away.
static CSRS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    include_str!("device-csrs.pem").split_inclusive("-----END CERTIFICATE REQUEST-----\n").collect()
});

/// A thing that is made on the line.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) serial: String,
    pub(super) stored: Option<Fingerprint>,
    /// It has left the line: `pass` was heard, or it was refused for good.
    pub(super) is_out: bool,
    /// Whether `pass` was ever heard for it.
    pub(super) passed: bool,
    /// Whether the operator asks with what it holds when it comes again.
    pub(super) tells_holds: bool,
    /// How often an operator may bring it back after it has passed.
    pub(super) comebacks: u32,
}

/// Where a unit in a nest stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Offered,
    Acked,
    /// It stores; then it says that.
    Storing(Box<FixtureMessage>, Option<Fingerprint>),
    /// It has said so, and says it again until `pass` or `fail`.
    Told(Box<FixtureMessage>),
}

/// A unit in a nest, once.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) piece: usize,
    pub(super) id: u64,
    pub(super) stage: Stage,
    /// When it says something again, or has stored.
    pub(super) due: Duration,
    pub(super) told_holds: bool,
}

/// One fixture.
#[derive(Debug)]
pub(super) struct Jig {
    pub(super) name: String,
    pub(super) boot: u64,
    pub(super) next_id: u64,
    pub(super) nests: Vec<Option<Seat>>,
    /// Units that wait to be presented, and from when on.
    pub(super) waiting: VecDeque<(Duration, usize)>,
    /// It is under power from then on; what comes before is not heard.
    pub(super) up_from: Duration,
    /// An unanswered `pull`.
    pub(super) pulled: bool,
    pub(super) resend: Duration,
    /// The CA's rule on keys, as the fixture was told.
    pub(super) key: KeyOrigin,
    pub(super) out: VecDeque<FixtureMessage>,
    /// When it wakes next.
    pub(super) wakes_at: Option<Duration>,
}

/// What a fixture has noticed that matters outside of it.
#[derive(Debug)]
pub(super) enum Noticed {
    Acked {
        id: u64,
        piece: usize,
    },
    Passed {
        piece: usize,
        again: bool,
        told_holds: bool,
    },
    Failed {
        piece: usize,
        code: FailCode,
        retry: bool,
    },
    Refused {
        piece: usize,
        code: NakCode,
    },
    /// What came is not what may come.
    Wrong(String),
}

/// How storing goes, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    pub(super) takes: Duration,
    pub(super) fails: bool,
    /// It is taken out before it has answered; whether it had stored by then.
    pub(super) removed: Option<bool>,
    /// Another certificate is named, and nothing stored: the fixture is broken.
    pub(super) confused: bool,
}

impl Jig {
    /// What the station says; what is to be noticed.
    pub(super) fn hear(
        &mut self,
        message: StationMessage,
        pieces: &mut [Piece],
        fate: Fate,
        now: Duration,
    ) -> Option<Noticed> {
        match message {
            StationMessage::Hello { .. } => {
                self.say_hello();
                None
            }
            StationMessage::Pull => {
                self.pulled = true;
                self.present(pieces, now);
                None
            }
            StationMessage::Ack { id } => {
                let resend = self.resend;
                let seat = self.seat(id)?;
                if seat.stage == Stage::Offered {
                    seat.stage = Stage::Acked;
                    seat.due = now + resend * ACKED_PERIODS;
                }
                Some(Noticed::Acked { id, piece: seat.piece })
            }
            StationMessage::Nak { id, code, .. } => self.on_nak(id?, code, now),
            StationMessage::Credentials(it) => self.on_credentials(&it, pieces, fate, now),
            StationMessage::Pass { id, serial, again } => {
                let seat = self.leave(id, &serial, pieces)?;
                Some(Noticed::Passed { piece: seat.piece, again, told_holds: seat.told_holds })
            }
            StationMessage::Fail { id, serial, code, retry, .. } => {
                let seat = self.leave(id, &serial, pieces)?;
                Some(Noticed::Failed { piece: seat.piece, code, retry })
            }
        }
    }

    pub(super) fn say_hello(&mut self) {
        let (fixture, boot) = (self.name.clone(), self.boot);
        self.out.push_back(FixtureMessage::Hello { protocol: 1, fixture, boot, firmware: None });
    }

    fn seat(&mut self, id: u64) -> Option<&mut Seat> {
        self.nests.iter_mut().flatten().find(|it| it.id == id)
    }

    /// Empties the nest of a presentation, if it is that serial's.
    fn leave(&mut self, id: u64, serial: &str, pieces: &[Piece]) -> Option<Seat> {
        let is_it = |it: &Seat| it.id == id && pieces[it.piece].serial == serial;
        self.nests.iter_mut().find(|it| it.as_ref().is_some_and(is_it))?.take()
    }

    fn on_nak(&mut self, id: u64, code: NakCode, now: Duration) -> Option<Noticed> {
        let resend = self.resend;
        let seat = self.seat(id)?;
        // After `ack` too: the station may have found out about a reset since.
        if !matches!(seat.stage, Stage::Offered | Stage::Acked) {
            return None;
        }
        if !code.is_final() {
            seat.due = now + resend;
            return None;
        }
        let piece = seat.piece;
        self.nests.iter_mut().find(|it| it.as_ref().is_some_and(|it| it.id == id))?.take();
        Some(Noticed::Refused { piece, code })
    }

    fn on_credentials(
        &mut self,
        it: &Credentials,
        pieces: &[Piece],
        fate: Fate,
        now: Duration,
    ) -> Option<Noticed> {
        let (id, serial) = (it.id, it.serial.clone());
        let (wants_key, resend) = (self.key == KeyOrigin::Station, self.resend);
        let Some(seat) = self.seat(id).filter(|seat| pieces[seat.piece].serial == serial) else {
            self.out.push_back(FixtureMessage::Removed { id, serial });
            return None;
        };
        let fingerprint = Fingerprint::of(&der_of(&it.certificate));
        if it.certificate_sha256 != fingerprint.to_string() {
            return Some(Noticed::Wrong(format!("{serial}: certificate_sha256 is not the certificate's")));
        }
        if it.private_key.is_some() != wants_key {
            return Some(Noticed::Wrong(format!("{serial}: a private key is missing, or one too many")));
        }
        match &seat.stage {
            Stage::Offered => {
                // Its `ack` may have been lost on the way; the order of sending is checked at the station.
            }
            Stage::Storing(..) => return None,
            Stage::Told(told) if !matches!(**told, FixtureMessage::Written { .. }) => {
                let told = (**told).clone();
                self.out.push_back(told);
                return None;
            }
            Stage::Acked | Stage::Told(_) => {}
        }
        let named = if fate.confused { Fingerprint::of(b"another") } else { fingerprint };
        let written =
            FixtureMessage::Written { id, serial: serial.clone(), certificate_sha256: named.to_string() };
        if pieces[seat.piece].stored == Some(fingerprint) {
            seat.stage = Stage::Told(Box::new(written.clone()));
            seat.due = now + resend;
            self.out.push_back(written);
            return None;
        }
        let (told, stored) = match fate.removed {
            Some(stored) => (FixtureMessage::Removed { id, serial }, stored),
            None if fate.fails => {
                let reason = "the flash did not verify".to_owned();
                (FixtureMessage::WriteFailed { id, serial, reason }, false)
            }
            // A broken fixture has stored nothing, and names a certificate that nobody has issued.
            None => (written, !fate.confused),
        };
        seat.stage = Stage::Storing(Box::new(told), stored.then_some(fingerprint));
        seat.due = now + fate.takes;
        None
    }

    /// Does what is due. Which units have stored what.
    pub(super) fn on_time(&mut self, pieces: &mut [Piece], now: Duration) -> Vec<(usize, Fingerprint)> {
        let mut stored = Vec::new();
        for nest in 0..self.nests.len() {
            let Some(seat) = self.nests[nest].as_mut().filter(|it| it.due <= now) else { continue };
            seat.due = now + self.resend;
            match seat.stage.clone() {
                Stage::Offered => self.say_unit(nest, pieces),
                Stage::Acked => {
                    seat.due = now + self.resend * ACKED_PERIODS;
                    self.say_unit(nest, pieces);
                }
                Stage::Storing(told, certificate) => {
                    if let Some(it) = certificate {
                        pieces[seat.piece].stored = Some(it);
                        stored.push((seat.piece, it));
                    }
                    self.out.push_back((*told).clone());
                    seat.stage = Stage::Told(told);
                }
                Stage::Told(told) => self.out.push_back(*told),
            }
        }
        self.present(pieces, now);
        stored
    }

    /// When something is due by itself.
    pub(super) fn due(&self) -> Option<Duration> {
        let nests = self.nests.iter().flatten().map(|it| it.due);
        let free = self.pulled && self.nests.iter().any(Option::is_none);
        nests.chain(self.waiting.front().filter(|_| free).map(|it| it.0)).min()
    }

    /// Answers a `pull` with a unit if there is one for a free nest; else with `idle`.
    fn present(&mut self, pieces: &[Piece], now: Duration) {
        if !self.pulled {
            return;
        }
        let free = self.nests.iter().position(Option::is_none);
        let next = self.waiting.iter().position(|(from, _)| *from <= now);
        self.pulled = false;
        match (free, next) {
            (Some(nest), Some(next)) => {
                let (_, piece) = self.waiting.remove(next).unwrap();
                self.seat_piece(nest, piece, pieces, now);
            }
            _ => self.out.push_back(FixtureMessage::Idle),
        }
    }

    /// Puts a unit into a nest and says so.
    pub(super) fn seat_piece(&mut self, nest: usize, piece: usize, pieces: &[Piece], now: Duration) {
        let id = self.next_id;
        self.next_id += 1;
        let told_holds = pieces[piece].tells_holds;
        let due = now + self.resend;
        self.nests[nest] = Some(Seat { piece, id, stage: Stage::Offered, due, told_holds });
        self.say_unit(nest, pieces);
    }

    fn say_unit(&mut self, nest: usize, pieces: &[Piece]) {
        let Some(seat) = &self.nests[nest] else { return };
        let piece = &pieces[seat.piece];
        let csr = (self.key == KeyOrigin::Device).then(|| CSRS[seat.piece % CSRS.len()].to_owned());
        let holds = seat.told_holds.then(|| piece.stored.map(|it| it.to_string()).unwrap_or_default());
        let (id, serial) = (seat.id, piece.serial.clone());
        let unit = Unit { id, serial, nest: Some(nest.to_string()), csr, holds, ..Unit::default() };
        self.out.push_back(FixtureMessage::Unit(unit));
    }

    /// Power goes and comes: units stay in their nests, all else is forgotten.
    pub(super) fn reset(&mut self, ids_begin_anew: bool, quiet: Duration, now: Duration) {
        self.boot += 1;
        if ids_begin_anew {
            self.next_id = 1;
        }
        self.pulled = false;
        self.out.clear();
        self.up_from = now + quiet;
        for nest in &mut self.nests {
            if let Some(seat) = nest.take() {
                self.waiting.push_front((self.up_from, seat.piece));
            }
        }
    }

    /// A person takes a unit out; it may have stored by then, and what it was to be told is too late.
    pub(super) fn pull_out(&mut self, nest: usize, pieces: &[Piece], now: Duration) {
        let resend = self.resend;
        let Some(seat) = &mut self.nests[nest] else { return };
        if matches!(seat.stage, Stage::Told(_)) {
            return;
        }
        let removed = FixtureMessage::Removed { id: seat.id, serial: pieces[seat.piece].serial.clone() };
        seat.stage = Stage::Told(Box::new(removed.clone()));
        seat.due = now + resend;
        self.out.push_back(removed);
    }
}
