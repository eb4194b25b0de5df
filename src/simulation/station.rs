//! One life of the station: the real line, codecs, journal writer and reader, key handling and holding back,
//! in one thread, with everything that waits put into the world's queue.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use super::calls::{Asker, Out};
use super::disk::Ending;
use super::folders::DIRECTORY;
use super::index::Index;
use super::issuer::Stopped;
use super::plan::{STATION, Trap};
use super::world::{Event, World};
use crate::delivery::tidy;
use crate::device::event::Event as DeviceEvent;
use crate::device::operator::Operator;
use crate::device::serial::SerialNumber;
use crate::fixture::StationMessage;
use crate::fixture::frame::encode_station;
use crate::journal::log::read::{Walk, repair};
use crate::journal::log::write::LogWriter;
use crate::journal::log::{ChainHash, Position};
use crate::journal::{Entry, What};
use crate::line::{Action, Held, Input, Line};
use crate::station::intake::{self, Outgoing, PortCounters};
use crate::station::vault::{self, Issue, Makers, destroy_group, issue_group};

/// Records in one commit at most: the scribe's limit is far more than a simulation ever has.
const GROUP: usize = 512;

const JOURNAL_ID: &str = "0123456789abcdef";

/// What one life of the station holds in memory.
pub(super) struct Life {
    pub(super) line: Line,
    held: Held,
    writer: LogWriter,
    pub(super) index: Index,
    durable: u64,
    records: VecDeque<Entry>,
    writing: Option<(Vec<Entry>, Vec<Position>)>,
    /// A write was put into the queue.
    asked: bool,
    counters: PortCounters,
    tick_at: Option<Duration>,
}

fn log_dir() -> &'static Path {
    Path::new("log")
}

impl World {
    /// The station starts from what is on disk.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let number = self.lives;
        self.lives += 1;
        self.tell(|| format!("the station starts, life {}", number + 1));
        let (index, writer) = self.open_journal().map_err(|it| format!("the journal does not open: {it}"))?;
        let recovered = index.recovered();
        if recovered.seq < self.truth.told {
            return Err(format!(
                "the log ends with record {}, but {} was said to be on disk",
                recovered.seq, self.truth.told
            ));
        }
        self.truth.told = recovered.seq;
        if self.plan.delivers {
            tidy(&self.folders, Path::new(DIRECTORY), STATION).map_err(|it| it.to_string())?;
        }
        crate::station::sweep_keys(&self.keys, &recovered).map_err(|it| it.to_string())?;
        let (line, first) = Line::start(self.plan.settings(number), recovered, self.now());
        self.life = Some(Life {
            line,
            held: Held::default(),
            writer,
            durable: index.at.seq,
            index,
            records: VecDeque::new(),
            writing: None,
            asked: false,
            counters: PortCounters::default(),
            tick_at: None,
        });
        self.carry_out(first)?;
        if self.plan.batch {
            // One that is open already is left as it is.
            let by = Operator { uid: 0, name: "root".to_owned(), reason: "a new lot".to_owned() };
            self.input(Input::Batch { order: self.plan.opens(), by, ticket: 0 })?;
        }
        let life = self.lives;
        for fixture in 0..self.plan.fixtures {
            let pause = self.millis(300);
            self.after(pause, Event::Opens(life, fixture));
        }
        self.set_tick();
        Ok(())
    }

    /// As `store::open` does: read the log from where the index is, cut off what is torn, go on.
    fn open_journal(&mut self) -> Result<(Index, LogWriter), String> {
        let failed = |it: crate::journal::JournalError| it.to_string();
        let mut disk = Box::new(self.disk.clone());
        let is_new =
            crate::journal::log::disk::Source::names(&*disk, log_dir()).is_ok_and(|it| it.is_empty());
        if is_new {
            LogWriter::create(log_dir(), JOURNAL_ID, disk.clone(), self.plan.max_file_bytes)
                .map_err(failed)?;
        }
        // The index may have been lost; then all of the log is read.
        let known = self.old_index.clone().filter(|_| self.rng.u8(..4) > 0);
        let mut walk = match &known {
            Some(index) => Walk::from_on(disk.clone(), log_dir(), JOURNAL_ID, index.at),
            None => Walk::from_start_on(disk.clone(), log_dir()),
        }
        .map_err(failed)?;
        let mut index = known.unwrap_or_else(|| Index::new(Position::genesis(JOURNAL_ID)));
        while let Some(commit) = walk.next_commit().map_err(failed)? {
            for found in commit {
                let device = index.take(&found.record, found.at)?.cloned();
                if found.at.seq > self.truth.seq {
                    self.truth.on_disk(&found.record, device.as_ref())?;
                }
            }
        }
        repair(&mut *disk, &walk).map_err(failed)?;
        self.old_index = Some(index.clone());
        index.at = walk.at();
        let sizes = (self.plan.max_file_bytes, 0);
        let writer = LogWriter::resume(log_dir(), JOURNAL_ID, disk, walk.at(), sizes).map_err(failed)?;
        // A start goes on only when that sync has been seen through.
        self.disk.end_sync();
        Ok((index, writer))
    }

    /// The station ends: whatever it had in memory is gone.
    pub(super) fn crash(&mut self, ending: Ending) {
        if self.life.take().is_none() {
            return;
        }
        self.stats.crashes += 1;
        // Nobody answers any more.
        self.waiting.clear();
        let unsynced = self.disk.unsynced();
        self.tell(|| format!("the station ends: {ending:?}, {unsynced} bytes are not synced"));
        self.disk.crash(ending, &mut self.rng);
        self.folders.crash(ending, &mut self.rng);
        for cable in &mut self.cables {
            cable.is_open = false;
            cable.epoch += 1;
        }
        // Some calls had not left yet.
        let drop_rate = self.rng.u32(..1000);
        let calls: Vec<u64> = self.out.keys().copied().collect();
        for call in calls {
            if self.happens(drop_rate) {
                self.out.remove(&call);
            }
        }
        self.truth.overtaken |= !self.out.is_empty();
        let quick = self.plan.rates.cloud == 0;
        let mut pause = if quick { Duration::from_secs(1) } else { self.millis(3_000) };
        if self.plan.loses_keys && !self.truth.keys_lost && self.stats.crashes > 1 {
            // A restore is made by people: what was on its way to AWS has arrived by then.
            self.tell(|| "the key files are lost".to_owned());
            self.keys.lose_all();
            self.truth.keys_lost = true;
            pause += Duration::from_secs(20);
        }
        self.after(pause, Event::Start);
    }

    pub(super) fn opens(&mut self, fixture: usize) -> Result<(), String> {
        let cable = &mut self.cables[fixture];
        if std::mem::replace(&mut cable.is_open, true) {
            return Ok(());
        }
        cable.epoch += 1;
        // As good as a new one, which would cost more than all else here: its room is wiped when it goes.
        cable.station_decoder.restart();
        cable.station_decoder.by_ref().for_each(drop);
        self.input(Input::PortOpened(fixture))
    }

    pub(super) fn at_station(&mut self, fixture: usize, epoch: u64, bytes: &[u8]) -> Result<(), String> {
        let cable = &mut self.cables[fixture];
        let Some(life) = self.life.as_mut().filter(|_| cable.is_open && cable.epoch == epoch) else {
            return Ok(());
        };
        let decoder = &mut cable.station_decoder;
        decoder.push(bytes);
        let inputs: Vec<Input> =
            decoder.by_ref().filter_map(|it| intake::heard(fixture, it, &life.counters)).collect();
        inputs.into_iter().try_for_each(|input| self.input(input))
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        let now = self.now;
        match &mut self.life {
            Some(life) if life.tick_at == Some(now) => life.tick_at = None,
            _ => return Ok(()),
        }
        self.input(Input::Tick)
    }

    /// As the engine does: the line decides, what has waited goes first, then what is new.
    pub(super) fn input(&mut self, input: Input) -> Result<(), String> {
        let now = self.now();
        let Some(life) = &mut self.life else { return Ok(()) };
        let actions = life.line.handle(now, input, &life.index).map_err(|it| it.to_string())?;
        let released = life.held.release(life.durable);
        for action in released {
            self.act(action)?;
        }
        self.carry_out(actions)?;
        self.set_tick();
        Ok(())
    }

    fn set_tick(&mut self) {
        let number = self.lives;
        let now = self.now;
        let Some(life) = &mut self.life else { return };
        let Some(due) = life.line.next_due() else { return };
        let due = due.max(now);
        if life.tick_at.is_none_or(|it| it > due) {
            life.tick_at = Some(due);
            self.after(due - now, Event::Tick(number));
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let durable = life.durable;
        for action in life.held.take(actions, durable) {
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        let number = self.lives;
        match action {
            Action::Record(entry) => self.record(*entry),
            Action::Send { fixture, message, tag, .. } => {
                return self.post(fixture, Outgoing::Message(message, tag));
            }
            Action::Offer { fixture, credentials, key, serial, .. } => {
                return self.post(fixture, Outgoing::Offer { credentials, key, serial });
            }
            Action::Issue { serial, generation, request, .. } => {
                let takes = self.millis(40);
                let what = vault::What::Certificate(request);
                self.after(takes, Event::Issue(number, vec![Issue { serial, generation, what }]));
            }
            Action::Call { serial, step, generation, call, .. } => {
                let device = self.life.as_ref().and_then(|it| it.index.devices.get(&serial));
                self.truth.calls(device, &call)?;
                self.tell(|| format!("call for {serial}: {step} {}", call.operation()));
                self.leaves(Out { life: number, asker: Asker::Step { serial, step, generation }, call });
            }
            Action::Survey { number: look, call, .. } => {
                self.tell(|| format!("look {look}: {}", call.operation()));
                self.leaves(Out { life: number, asker: Asker::Look(look), call });
            }
            Action::MakeCsr { serial, generation, common_name, .. } => {
                let takes = self.millis(40);
                let what = vault::What::Request { common_name };
                self.after(takes, Event::Issue(number, vec![Issue { serial, generation, what }]));
            }
            Action::Deliver(delivery) => {
                let takes = self.millis(60);
                self.after(takes, Event::Deliver(number, delivery));
            }
            Action::Label(label) => {
                let takes = self.millis(60);
                self.after(takes, Event::Label(number, label));
            }
            // No product here connects.
            Action::Connect(_) => {
                return Err(format!("nothing here asks for this: {action:?}"));
            }
            Action::Answer { ticket, result, .. } => return self.answered_order(ticket, &result),
            Action::DestroyKey { serial, fingerprint, .. } => {
                let takes = self.millis(60);
                self.after(takes, Event::Destroy(number, vec![(serial, fingerprint)]));
            }
        }
        Ok(())
    }

    fn record(&mut self, entry: Entry) {
        let number = self.lives;
        self.tell(|| {
            let serial = entry.record.serial.as_ref().map_or("the station", |it| it.as_str());
            let what = serde_json::to_string(&entry.record.what).unwrap_or_default();
            format!("record {} of {serial}: {}", entry.record.seq, what.chars().take(200).collect::<String>())
        });
        let Some(life) = &mut self.life else { return };
        life.records.push_back(entry);
        if !std::mem::replace(&mut life.asked, true) {
            let takes = self.millis(2);
            self.after(takes, Event::Write(number));
        }
    }

    /// As the scribe does: whatever waits is one commit.
    pub(super) fn write(&mut self) {
        let number = self.lives;
        let fails = self.plan.rates.disk;
        if self.happens(fails) {
            self.disk.fail_after(self.rng.usize(..500));
        }
        let Some(life) = &mut self.life else { return };
        if life.writing.is_some() || life.records.is_empty() {
            return;
        }
        let count = life.records.len().min(GROUP);
        let group: Vec<Entry> = life.records.drain(..count).collect();
        let result = life.writer.append(group.iter().map(|it| &it.record));
        let at = self.stats.writes;
        self.stats.writes += 1;
        match result {
            Ok(placed) => {
                if self.plan.crashes == 0 {
                    let begin = placed.first().map_or(0, |it| it.start);
                    let ends = placed.iter().map(|it| usize::try_from(it.end - begin).unwrap());
                    self.stats.cuts.push(ends.collect());
                }
                life.writing = Some((group, placed));
            }
            Err(error) => {
                self.tell(|| format!("a write fails: {error}"));
                return self.crash(Ending::Kill);
            }
        }
        let trap = self.trap(|it| match it {
            Trap::CrashAtWrite { number, kept } if *number == at => Some(*kept),
            _ => None,
        });
        if let Some(kept) = trap {
            return self.crash(Ending::PowerCutKeeping(kept));
        }
        let slow = self.rng.u8(..20) == 0;
        let takes = self.millis(if slow { 400 } else { 20 });
        self.after(takes, Event::Synced(number));
    }

    /// The sync is seen through: the index takes the commit, then the engine hears of it.
    pub(super) fn synced(&mut self) -> Result<(), String> {
        let number = self.lives;
        self.disk.end_sync();
        let Some(life) = &mut self.life else { return Ok(()) };
        let Some((group, placed)) = life.writing.take() else { return Ok(()) };
        for (entry, at) in group.iter().zip(placed) {
            let device = life.index.take(&entry.record, at)?;
            if device != entry.device.as_ref().map(|(it, _)| &**it) {
                return Err(format!("record {} makes another device than the line's", entry.record.seq));
            }
            self.truth.on_disk(&entry.record, device)?;
            if let (true, What::Device(DeviceEvent::Passed { .. }), Some(device)) =
                (self.plan.delivers, &entry.record.what, device)
                && let Some(live) = device.fingerprint()
            {
                self.truth.delivers(device.serial.as_str(), live, &self.folders)?;
            }
        }
        self.stats.records += group.len() as u64;
        let seq = life.index.at.seq;
        life.durable = seq;
        self.truth.told = seq;
        life.asked = !life.records.is_empty();
        let (asked, snapshot) = (life.asked, self.rng.u8(..6) == 0);
        if snapshot {
            self.old_index = Some(life.index.clone());
        }
        if asked {
            self.after(Duration::ZERO, Event::Write(number));
        }
        let at = self.stats.writes - 1;
        let trap = self.trap(|it| match it {
            Trap::CrashAfterSync { number, ending } if *number == at => Some(*ending),
            _ => None,
        });
        if let Some(ending) = trap {
            self.crash(ending);
            return Ok(());
        }
        let takes = self.millis(2);
        self.after(takes, Event::Durable(number, seq));
        Ok(())
    }

    pub(super) fn issue(&mut self, group: Vec<Issue>) {
        let number = self.lives;
        let rate = self.plan.rates.issue;
        if self.happens(rate) {
            for Issue { serial, generation, what } in group {
                let busy = "the CA is busy".to_owned();
                let input = match what {
                    vault::What::Certificate(_) => Input::Issued { serial, generation, result: Err(busy) },
                    vault::What::Request { .. } => Input::CsrMade { serial, generation, result: Err(busy) },
                };
                self.after(Duration::ZERO, Event::Input(number, input));
            }
            return;
        }
        let (issuer, clock) = (&self.issuer, Stopped(self.now()));
        let request = |_: &str| issuer.request();
        let makers = Makers { issuer: Some(issuer), request: &request, clock: &clock, gets_on: &|| () };
        for input in issue_group(&makers, &self.keys, group) {
            let takes = self.millis(5);
            self.after(takes, Event::Input(number, input));
        }
    }

    pub(super) fn destroy(
        &mut self,
        group: Vec<(SerialNumber, crate::pki::Fingerprint)>,
    ) -> Result<(), String> {
        let number = self.lives;
        for (serial, fingerprint) in &group {
            self.truth.destroys(serial.as_str(), fingerprint)?;
            if self.happens(100) {
                // It is overwritten, and then the power goes.
                self.keys.break_one(fingerprint);
                self.crash(Ending::PowerCut);
                return Ok(());
            }
        }
        for input in destroy_group(&self.keys, group) {
            let takes = self.millis(5);
            self.after(takes, Event::Input(number, input));
        }
        Ok(())
    }

    /// As the port's tender does: the key is put in, the message becomes bytes.
    fn post(&mut self, fixture: usize, outgoing: Outgoing) -> Result<(), String> {
        let number = self.lives;
        if !self.cables[fixture].is_open {
            // An `ack` into a port that is gone counts as said: it might as well have been lost on the cable.
            return match outgoing {
                Outgoing::Message(message @ StationMessage::Ack { .. }, _) => self.say(fixture, &message),
                _ => Ok(()),
            };
        }
        let tag = outgoing.tag();
        let message = match intake::complete(outgoing, &self.keys) {
            Ok(message) => message,
            Err(lost) => {
                self.after(Duration::ZERO, Event::Input(number, lost));
                return Ok(());
            }
        };
        let leaves_in = match message {
            Some(message) => {
                self.say(fixture, &message)?;
                let frame = encode_station(&message).map_err(|it| it.to_string())?;
                self.send(fixture, false, &frame)
            }
            None => Duration::ZERO,
        };
        if let Some(tag) = tag {
            self.after(Duration::ZERO, Event::Input(number, Input::Sent(fixture, tag, leaves_in)));
        }
        Ok(())
    }

    /// The hash of the last record, and how many there are: two runs of a seed have to agree.
    pub(super) fn end_of_log(&self) -> Option<(u64, ChainHash)> {
        self.life.as_ref().map(|it| (it.index.at.seq, it.index.at.hash))
    }

    /// The last index must be what the whole log makes.
    pub(super) fn check_log(&self) -> Result<(), String> {
        let mut walk =
            Walk::from_start_on(Box::new(self.disk.clone()), log_dir()).map_err(|it| it.to_string())?;
        let mut index = Index::new(walk.at());
        while let Some(commit) = walk.next_commit().map_err(|it| it.to_string())? {
            for found in commit {
                index.take(&found.record, found.at)?;
            }
        }
        match &self.life {
            Some(life) if life.index == index => Ok(()),
            _ => Err("the log does not make the index that the station has".to_owned()),
        }
    }
}
