//! A port with a scanner on it: what `fixture::scanner` decides is carried out here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::{Outgoing, Over, PortCounters, READ_LEN};
use crate::clock::TimeSource;
use crate::control::traffic::{Direction, Seen};
use crate::fixture::StationMessage;
use crate::fixture::port::{Port, PortError, PortWriter};
use crate::fixture::scanner::{Output, Scanner};
use crate::line::Input;

/// Replies that may wait for the port. What it does not take after that is lost, as on a cable that nobody
/// listens at.
const REPLIES: usize = 64;

/// One scanner at its open port.
pub(super) struct Scanning<'a> {
    pub(super) fixture: usize,
    pub(super) scanner: &'a mut Scanner,
    pub(super) inputs: &'a mpsc::Sender<Input>,
    pub(super) counters: &'a PortCounters,
    pub(super) clock: &'a Arc<dyn TimeSource>,
}

impl Scanning<'_> {
    /// Reads and writes until the port is lost.
    pub(super) async fn converse(
        mut self,
        port: Port,
        outgoing: &mut mpsc::Receiver<Outgoing>,
    ) -> Result<PortError, Over> {
        let (mut reader, writer) = port.split();
        let (replies, to_write) = mpsc::channel(REPLIES);
        let (counters, clock) = (self.counters, self.clock);
        // Beside the rest: a port that takes nothing delays no reading.
        let writes = write(writer, to_write, counters, &**clock);
        let turns = async move {
            let mut buffer = [0; READ_LEN];
            self.scanner.opened(self.clock.now().mono);
            loop {
                let now = self.clock.now().mono;
                let wake_at = self.scanner.wake_at();
                tokio::select! {
                    read = reader.read(&mut buffer) => match read {
                        Ok(len) => self.scanner.received(&buffer[..len], self.clock.now().mono),
                        Err(error) => return Ok(error),
                    },
                    said = outgoing.recv() => self.heard(said.ok_or(Over)?).await?,
                    () = tokio::time::sleep(wake_at.unwrap_or_default().saturating_sub(now)), if wake_at.is_some() => {
                        self.scanner.on_time(self.clock.now().mono);
                    }
                }
                self.carry_out(&replies).await?;
            }
        };
        tokio::select! {
            ended = turns => ended,
            ended = writes => ended,
        }
    }

    async fn heard(&mut self, said: Outgoing) -> Result<(), Over> {
        let message = match said {
            Outgoing::Message(message, tag) => {
                if let Some(tag) = tag {
                    // It has arrived: nothing lies between this and the line.
                    self.tell(Input::Sent(self.fixture, tag, std::time::Duration::ZERO)).await?;
                }
                message
            }
            // Without its private key: a scanner does not take it anyway.
            Outgoing::Offer { credentials, .. } => {
                let tag = crate::line::Tag::Credentials(credentials.id);
                self.tell(Input::Sent(self.fixture, tag, std::time::Duration::ZERO)).await?;
                StationMessage::Credentials(*credentials)
            }
        };
        self.scanner.heard(message, self.clock.now().mono);
        Ok(())
    }

    async fn carry_out(&mut self, replies: &mpsc::Sender<Vec<u8>>) -> Result<(), Over> {
        let (fixture, counters) = (self.fixture, self.counters);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        while let Some(output) = self.scanner.output() {
            match output {
                Output::Say(message) => self.tell(Input::Message(fixture, message)).await?,
                Output::Write(bytes) => {
                    if replies.try_send(bytes).is_err() {
                        tracing::warn!(fixture, "a reply is dropped: the scanner's port does not take it");
                    }
                }
                Output::Read(text) => {
                    count(&counters.frames_in);
                    self.show(|| Seen::line(&text, self.scanner.decode(&text)));
                }
                Output::Duplicate => {
                    count(&counters.duplicates);
                    self.show(|| Seen::Duplicate);
                }
                Output::Echo(_) => {
                    count(&counters.echoes);
                    self.show(|| Seen::Echo);
                }
                Output::Bad(why, sample) => {
                    count(&counters.bad_frames);
                    self.show(|| Seen::noise(&format!("the line {why}"), &sample));
                    tracing::warn!(fixture, %sample, "a line from the scanner {why}");
                }
            }
        }
        Ok(())
    }

    fn show(&self, seen: impl FnOnce() -> Seen) {
        self.counters.traffic.tell(Some(Direction::In), || self.clock.now().wall, seen);
    }

    async fn tell(&self, input: Input) -> Result<(), Over> {
        self.inputs.send(input).await.map_err(|_| Over)
    }
}

async fn write(
    mut writer: PortWriter,
    mut to_write: mpsc::Receiver<Vec<u8>>,
    counters: &PortCounters,
    clock: &dyn TimeSource,
) -> Result<PortError, Over> {
    while let Some(bytes) = to_write.recv().await {
        if let Err(error) = writer.write_all(&bytes).await {
            return Ok(error);
        }
        counters.frames_out.fetch_add(1, Ordering::Relaxed);
        let written = || Seen::line(&String::from_utf8_lossy(&bytes), None);
        counters.traffic.tell(Some(Direction::Out), || clock.now().wall, written);
    }
    Err(Over)
}
