//! Listening to a port that the station holds: whoever tends the port tells what it sees, if anybody listens, and
//! waits for nobody.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::broadcast::{self, error::RecvError};

use super::traffic::{Direction, Seen, Sighting};

/// Sightings that wait for a slow reader, for each port. A reader that falls farther behind gets a gap.
const CAPACITY: usize = 256;

/// Where one port's traffic is told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tap(broadcast::Sender<Arc<Sighting>>);

impl Default for Tap {
    fn default() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }
}

impl Tap {
    /// Tells what is seen, to those who listen. If nobody does, neither `now` nor `seen` is asked.
    pub fn tell(
        &self,
        direction: Option<Direction>,
        now: impl FnOnce() -> Timestamp,
        seen: impl FnOnce() -> Seen,
    ) {
        if self.is_heard() {
            // The last of them may have left in between.
            let _ = self.0.send(Arc::new(Sighting { at: now(), direction, seen: seen() }));
        }
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Hears what is told from now on.
    pub(super) fn listen(&self) -> Listener {
        Listener { told: self.0.subscribe(), behind_gap: None }
    }
}

/// A reader of one port's traffic.
#[derive(Debug)]
pub(super) struct Listener {
    told: broadcast::Receiver<Arc<Sighting>>,
    /// What came after a gap that was given out last.
    behind_gap: Option<Arc<Sighting>>,
}

impl Listener {
    /// The next sighting, or how many are missing before it; none when the port is tended no more. Nothing is lost if
    /// it is cancelled: but for a gap's length, should it be cut off in the middle of one.
    pub(super) async fn next(&mut self) -> Option<Arc<Sighting>> {
        if let Some(sighting) = self.behind_gap.take() {
            return Some(sighting);
        }
        let mut missed = 0;
        loop {
            match self.told.recv().await {
                Err(RecvError::Closed) => return None,
                // What is kept is there at once: this does not wait in the middle of a gap.
                Err(RecvError::Lagged(count)) => missed += count,
                Ok(sighting) if missed == 0 => return Some(sighting),
                Ok(sighting) => {
                    let gap = Sighting { at: sighting.at, direction: None, seen: Seen::Gap { missed } };
                    self.behind_gap = Some(sighting);
                    return Some(Arc::new(gap));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(tap: &Tap, count: usize) {
        for _ in 0..count {
            tap.tell(Some(Direction::In), || Timestamp::UNIX_EPOCH, || Seen::Echo);
        }
    }

    #[test]
    fn nothing_is_made_while_nobody_listens() {
        let tap = Tap::default();
        tap.tell(None, || panic!("the time is asked"), || panic!("a sighting is made"));
        drop(tap.listen());
        tap.tell(None, || panic!("the time is asked"), || panic!("a sighting is made"));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_a_gap_with_its_length_and_then_what_is_left() {
        let tap = Tap::default();
        let (mut slow, mut quick) = (tap.listen(), tap.listen());
        tell(&tap, 1);
        assert_eq!(quick.next().await.unwrap().seen, Seen::Echo);
        tell(&tap, CAPACITY + 9);
        assert_eq!(slow.next().await.unwrap().seen, Seen::Gap { missed: 10 });
        assert_eq!(quick.next().await.unwrap().seen, Seen::Gap { missed: 9 });
        drop(tap);
        for reader in [&mut slow, &mut quick] {
            let mut left = 0;
            while let Some(sighting) = reader.next().await {
                assert_eq!(sighting.seen, Seen::Echo);
                left += 1;
            }
            assert_eq!(left, CAPACITY);
        }
    }
}
