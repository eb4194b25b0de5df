//! The conversation with one fixture: who is there, whose turn it is, what is repeated.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::doubt::Doubts;
use super::refused::Refused;
use super::{Action, Due, FixtureSettings, Line, Tag, Timer};
use crate::device::event::{CloseReason, Event, Outcome, PresentationKey};
use crate::device::serial::SerialNumber;
use crate::fixture::frame::BadReason;
use crate::fixture::{NakCode, PROTOCOL, StationMessage};
use crate::journal::{KnownPresentation, StationEvent};
use crate::sabotage::sabotaged;

/// `bad-frame` answers a second at most (the protocol's figure).
const BAD_FRAME_ANSWERS: usize = 5;

/// Ended presentations kept at hand for each fixture; older ones are read from the journal.
const RECENT: usize = 1024;

/// One fixture, as the line knows it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: FixtureSettings,
    pub(super) state: LinkState,
    /// Why the port could not be opened when it was tried last; none once it is open.
    pub(super) refusal: Option<String>,
    /// The reset that open presentations belong to; none before the first `hello` ever.
    pub(super) boot: Option<u64>,
    pub(super) firmware: Option<String>,
    /// Sequence number of the record of that reset: until it is on disk, the journal's presentations may be
    /// those of the reset before.
    pub(super) reset_seq: u64,
    /// Presentations that have no outcome yet, by the fixture's id.
    pub(super) open: BTreeMap<u64, Open>,
    /// Presentations that ended, by id: the newest, with what was answered.
    recent: HashMap<u64, KnownPresentation>,
    recent_order: VecDeque<u64>,
    /// Number of the present opening of the port.
    epoch: u64,
    /// Number of the absence, while the fixture has not said hello.
    away: Option<u64>,
    pull: Pull,
    answered_bad_frames: VecDeque<Duration>,
    /// What was answered `nak` so far.
    pub(super) refused: Refused,
    /// Units that contradict what is known of their ids.
    pub(super) doubts: Doubts,
    /// The newest verdict, for whoever looks: serial, `pass` or the code, nest.
    pub(super) last_verdict: Option<(String, String)>,
}

/// How far the conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    /// The port is not open.
    Closed,
    /// The port is open, the fixture's `hello` has not come.
    AwaitHello,
    /// It may present units.
    Ready,
    /// Another protocol or fixture: left alone until the right one says `hello`.
    Foreign(NakCode),
    /// It is not configured any more.
    Gone,
}

/// A presentation without an outcome.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) serial: SerialNumber,
    pub(super) nest: Option<String>,
    /// When it was taken, monotonic.
    pub(super) since: Duration,
    /// Number of its patience timer.
    pub(super) epoch: u64,
    pub(super) offer: Option<Offer>,
    /// `ack` was said: nothing else comes before it.
    pub(super) acked: bool,
    /// What is due of it.
    pub(super) timers: Vec<Due>,
}

/// Credentials on their way to a nest.
#[derive(Debug)]
pub(super) struct Offer {
    /// Number of the offer: its answer has its own time.
    pub(super) number: u64,
    /// When the last byte of the newest copy has left; none while it waits for the port.
    pub(super) leaves_at: Option<Duration>,
    /// Whether a copy has been sent.
    pub(super) first_sent: bool,
    /// Number of the newest copy.
    pub(super) copy: u64,
}

impl Offer {
    /// Whether a copy is on its way to the cable: then there must not be a second.
    pub(super) fn is_queued(&self, now: Duration) -> bool {
        is_queued(self.leaves_at, now)
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pull {
    /// No `pull` is open.
    None,
    /// One waits to be sent, or is open.
    Open {
        number: u64,
        /// When its last byte has left; none while it waits for the port.
        leaves_at: Option<Duration>,
    },
    /// The fixture had nothing; it is asked again when the timer says so.
    Idle(u64),
}

fn is_queued(leaves_at: Option<Duration>, now: Duration) -> bool {
    leaves_at.is_none_or(|it| it > now)
}

impl Link {
    pub(super) fn new(settings: FixtureSettings, boot: Option<u64>) -> Self {
        Self {
            settings,
            state: LinkState::Closed,
            refusal: None,
            boot,
            firmware: None,
            reset_seq: 0,
            open: BTreeMap::new(),
            recent: HashMap::new(),
            recent_order: VecDeque::new(),
            epoch: 0,
            away: None,
            pull: Pull::None,
            answered_bad_frames: VecDeque::new(),
            refused: Refused::default(),
            doubts: Doubts::default(),
            last_verdict: None,
        }
    }

    /// The key of this fixture's presentation `id`.
    pub(super) fn key(&self, id: u64) -> PresentationKey {
        PresentationKey { fixture: self.settings.name.clone(), boot: self.boot.unwrap_or(0), id }
    }

    /// It is not configured any more. It has no name by which it could be found.
    pub(super) fn let_go(&mut self) {
        self.state = LinkState::Gone;
        self.settings.name.clear();
        self.away = None;
        self.pull = Pull::None;
        self.recent.clear();
        self.recent_order.clear();
    }

    /// A presentation that has ended, if it is at hand.
    pub(super) fn ended(&self, id: u64) -> Option<&KnownPresentation> {
        self.recent.get(&id)
    }

    /// Keeps an ended presentation at hand.
    pub(super) fn remember(&mut self, id: u64, known: KnownPresentation) {
        if self.recent.insert(id, known).is_none() {
            self.recent_order.push_back(id);
            if self.recent_order.len() > RECENT
                && let Some(oldest) = self.recent_order.pop_front()
            {
                self.recent.remove(&oldest);
            }
        }
    }
}

impl Line {
    pub(super) fn port_opened(&mut self, fixture: usize) {
        let epoch = self.next_epoch();
        let link = &mut self.links[fixture];
        link.state = LinkState::AwaitHello;
        link.refusal = None;
        link.epoch = epoch;
        link.pull = Pull::None;
        link.doubts = Doubts::default();
        for open in link.open.values_mut() {
            open.offer = None;
        }
        self.is_away(fixture);
        self.say_hello(fixture);
    }

    pub(super) fn port_lost(&mut self, fixture: usize) {
        let link = &mut self.links[fixture];
        link.state = LinkState::Closed;
        link.pull = Pull::None;
        self.is_away(fixture);
    }

    /// The fixture is not there, or not known to be: from when on, if it was until now.
    pub(super) fn is_away(&mut self, fixture: usize) {
        let number = self.next_epoch();
        let link = &mut self.links[fixture];
        if link.away.is_none() {
            link.away = Some(number);
            let limit = link.settings.answer_within;
            self.later(limit, Timer::Away(fixture, number));
        }
    }

    /// What a fixture had open is closed when it has been away for as long as it may take for an
    /// answer: the units can then be presented anywhere. A port that is open does not count, nor
    /// does another fixture on it: only the fixture's hello ends its absence.
    pub(super) fn away_too_long(&mut self, fixture: usize, number: u64) {
        if self.links[fixture].away == Some(number) {
            self.close_all(fixture, CloseReason::FixtureAway);
        }
    }

    pub(super) fn hello(
        &mut self,
        fixture: usize,
        protocol: u64,
        name: &str,
        boot: u64,
        firmware: Option<String>,
    ) {
        let link = &mut self.links[fixture];
        let foreign = if protocol != PROTOCOL {
            Some((NakCode::Protocol, format!("it said {protocol}, this is {PROTOCOL}")))
        } else if name != link.settings.name {
            Some((NakCode::WrongFixture, format!("{name:.40} instead of {}", link.settings.name)))
        } else {
            None
        };
        if let Some((code, detail)) = foreign {
            link.state = LinkState::Foreign(code);
            // Copies fall due while it is there, and are dropped: offered anew when the right one is back.
            link.open.values_mut().for_each(|it| it.offer = None);
            tracing::warn!(fixture = link.settings.name, %code, detail, "the fixture is refused");
            self.nak(fixture, None, code, &detail);
            self.is_away(fixture);
            return;
        }
        link.firmware = firmware;
        if link.boot != Some(boot) && !(sabotaged!(ResetIgnored) && link.boot.is_some()) {
            self.was_reset(fixture, boot);
        }
        self.links[fixture].doubts.same_boot();
        self.links[fixture].state = LinkState::Ready;
        self.links[fixture].away = None;
        self.pull_answered(fixture);
        self.offer_open(fixture);
    }

    /// The fixture was reset: what was open is closed, and its ids begin anew.
    pub(super) fn was_reset(&mut self, fixture: usize, boot: u64) {
        self.close_all(fixture, CloseReason::NewBoot);
        let link = &mut self.links[fixture];
        link.boot = Some(boot);
        link.doubts = Doubts::default();
        link.recent.clear();
        link.recent_order.clear();
        let name = link.settings.name.clone();
        self.station_event(StationEvent::FixtureReset { fixture: name, boot });
        self.links[fixture].reset_seq = self.seq;
    }

    pub(super) fn idle(&mut self, fixture: usize) {
        let epoch = self.next_epoch();
        self.pull_answered(fixture);
        let link = &mut self.links[fixture];
        if link.state != LinkState::Ready || link.pull != Pull::None {
            return;
        }
        link.pull = Pull::Idle(epoch);
        let resend = link.settings.resend;
        self.later(resend, Timer::Pull(fixture, epoch));
    }

    /// A unit has come, asked for or not: no `pull` is open any more. One that has not left the
    /// port yet is not what was answered; it asks for the next.
    pub(super) fn pull_answered(&mut self, fixture: usize) {
        let now = self.now.mono;
        let pull = &mut self.links[fixture].pull;
        if !matches!(pull, Pull::Open { leaves_at, .. } if is_queued(*leaves_at, now)) {
            *pull = Pull::None;
        }
    }

    /// Sees that each fixture that may present one more unit is asked for it.
    pub(super) fn pull_all(&mut self) {
        let gate = self.gate.as_deref().or_else(|| self.clock.closed());
        if self.draining || gate.is_some() || self.backlog_is_full() {
            return;
        }
        for fixture in 0..self.links.len() {
            let link = &self.links[fixture];
            if link.state == LinkState::Ready && link.pull == Pull::None {
                self.pull(fixture);
            }
        }
    }

    /// A `pass` or `fail` has freed a nest: there is no need to wait out an `idle`.
    pub(super) fn nest_freed(&mut self, fixture: usize) {
        let link = &mut self.links[fixture];
        if matches!(link.pull, Pull::Idle(_)) {
            link.pull = Pull::None;
        }
    }

    pub(super) fn bad_frame(&mut self, fixture: usize, id: Option<u64>, reason: &BadReason) {
        if matches!(self.links[fixture].state, LinkState::Foreign(_)) {
            return;
        }
        let now = self.now.mono;
        let times = &mut self.links[fixture].answered_bad_frames;
        while times.front().is_some_and(|it| now >= *it + Duration::from_secs(1)) {
            times.pop_front();
        }
        if times.len() < BAD_FRAME_ANSWERS {
            times.push_back(now);
            self.nak(fixture, id, NakCode::BadFrame, &reason.to_string());
        }
    }

    pub(super) fn nak(&mut self, fixture: usize, id: Option<u64>, code: NakCode, detail: &str) {
        let message = self.settings.messages.nak(code, detail);
        self.links[fixture].refused.said(code, &message);
        self.say(fixture, StationMessage::Nak { id, code, message }, None);
    }

    /// Says something, once all that has been decided so far is on disk. To a fixture that has not
    /// said that it is the right one nothing is said but `nak`: it asks again when it is there.
    pub(super) fn say(&mut self, fixture: usize, message: StationMessage, tag: Option<Tag>) {
        let refused = matches!(message, StationMessage::Nak { .. });
        if self.links[fixture].state != LinkState::Ready && !refused {
            return;
        }
        let after = self.seq;
        self.out.push(Action::Send { fixture, message, tag, after });
    }

    pub(super) fn sent(&mut self, fixture: usize, tag: Tag, leaves_in: Duration) {
        let left = self.now.mono + leaves_in;
        let link = &mut self.links[fixture];
        let due = leaves_in + link.settings.resend;
        match tag {
            Tag::Hello if link.state == LinkState::AwaitHello => {
                let timer = Timer::Hello(fixture, link.epoch);
                self.later(due, timer);
            }
            Tag::Pull => {
                if let Pull::Open { number, leaves_at } = &mut link.pull {
                    *leaves_at = Some(left);
                    let timer = Timer::Pull(fixture, *number);
                    self.later(due, timer);
                }
            }
            Tag::Credentials(id) => self.offer_sent(fixture, id, leaves_in),
            Tag::Hello => link.doubts.asked(left),
        }
    }

    pub(super) fn hello_due(&mut self, fixture: usize, epoch: u64) {
        let link = &self.links[fixture];
        if link.state == LinkState::AwaitHello && link.epoch == epoch {
            self.say_hello(fixture);
        }
    }

    pub(super) fn pull_due(&mut self, fixture: usize, epoch: u64) {
        let link = &mut self.links[fixture];
        if matches!(link.pull, Pull::Open { number: it, .. } | Pull::Idle(it) if it == epoch) {
            // `pull_all` asks again, if a unit can be taken at all.
            link.pull = Pull::None;
        }
    }

    /// Closes the presentation that holds `nest` of a fixture, unless it is `id` itself.
    pub(super) fn vacate(&mut self, fixture: usize, nest: Option<&str>, id: u64) {
        let Some(nest) = nest else { return };
        let stale: Vec<u64> = self.links[fixture]
            .open
            .iter()
            .filter(|(other, open)| **other != id && open.nest.as_deref() == Some(nest))
            .map(|(other, _)| *other)
            .collect();
        for other in stale {
            self.close_open(fixture, other, CloseReason::NewUnit);
        }
    }

    /// Closes a presentation without an answer; the device stays as it is.
    pub(super) fn close_open(&mut self, fixture: usize, id: u64, why: CloseReason) {
        let Some(open) = self.links[fixture].open.remove(&id) else { return };
        self.forget_timers(&open);
        let link = &mut self.links[fixture];
        // Remembered, because on disk it is open until the record is written.
        link.remember(id, KnownPresentation { serial: open.serial.clone(), outcome: Some(Outcome::Closed) });
        let presentation = link.key(id);
        let waited = self.waited(&open.serial);
        self.record(&open.serial, Event::Closed { presentation, why, waited });
        self.may_leave(&open.serial);
    }

    pub(super) fn close_all(&mut self, fixture: usize, why: CloseReason) {
        let ids: Vec<u64> = self.links[fixture].open.keys().copied().collect();
        for id in ids {
            self.close_open(fixture, id, why);
        }
    }

    pub(super) fn say_hello(&mut self, fixture: usize) {
        // It promises nothing, so it waits for nothing.
        self.say_hello_after(fixture, 0);
    }

    /// Asks a fixture that was answered just now who it is: behind that answer, which may wait for the disk.
    pub(super) fn ask_again(&mut self, fixture: usize) {
        self.say_hello_after(fixture, self.seq);
    }

    fn say_hello_after(&mut self, fixture: usize, after: u64) {
        let message = StationMessage::Hello { protocol: PROTOCOL, station: self.settings.station.clone() };
        self.out.push(Action::Send { fixture, message, tag: Some(Tag::Hello), after });
    }

    fn pull(&mut self, fixture: usize) {
        let number = self.next_epoch();
        self.links[fixture].pull = Pull::Open { number, leaves_at: None };
        self.say(fixture, StationMessage::Pull, Some(Tag::Pull));
    }
}
