//! The last word of each device of a shift, in little room: a station passes a hundred thousand a day.

use std::collections::HashSet;

use crate::device::serial::SerialNumber;
use crate::pki::Fingerprint;

/// Devices of one shift that are told apart; those beyond count, and count again when they come back.
const MAX_JUDGED: usize = 100_000;

/// What the last word of a device is in this shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    PassedAtOnce,
    Passed,
    Failed,
    Deferred,
}

impl Word {
    /// As many as two bits tell apart.
    const ALL: [Self; 4] = [Self::PassedAtOnce, Self::Passed, Self::Failed, Self::Deferred];
}

/// Of each serial number only 62 bits of a hash are kept, and beside them the word: some ten bytes. Two of a
/// hundred thousand devices are taken for one at a chance of 1 in 10⁹, and a figure of the board is then one off.
#[derive(Debug, Default)]
pub(super) struct Judged(HashSet<u64>);

impl Judged {
    /// The word on that device, if one was said.
    pub(super) fn get(&self, serial: &SerialNumber) -> Option<Word> {
        let key = key(serial);
        Word::ALL.into_iter().find(|word| self.0.contains(&(key | *word as u64)))
    }

    /// Another word is the last one now.
    pub(super) fn insert(&mut self, serial: &SerialNumber, word: Word) {
        let key = key(serial);
        let known = Word::ALL.into_iter().any(|it| self.0.remove(&(key | it as u64)));
        // Room for all of them at once: what grows by doubling is for a while there twice.
        self.0.reserve(if self.0.is_empty() { MAX_JUDGED } else { 0 });
        if known || self.0.len() < MAX_JUDGED {
            self.0.insert(key | word as u64);
        }
    }

    /// Another shift begins.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Leaves room for the word in its lowest bits.
fn key(serial: &SerialNumber) -> u64 {
    Fingerprint::of(serial.as_str().as_bytes()).short() & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_its_last_word_and_what_is_beyond_the_bound_is_not_kept() {
        let serial = |number: usize| SerialNumber::parse(&format!("SN{number:010}")).unwrap();
        let mut judged = Judged::default();
        for number in 0..MAX_JUDGED {
            judged.insert(&serial(number), Word::ALL[number % 4]);
        }
        judged.insert(&serial(MAX_JUDGED), Word::Failed);
        assert_eq!(judged.get(&serial(MAX_JUDGED)), None);
        judged.insert(&serial(0), Word::Failed);
        assert_eq!(judged.get(&serial(0)), Some(Word::Failed));
        assert!((1..MAX_JUDGED).all(|it| judged.get(&serial(it)) == Some(Word::ALL[it % 4])));
        assert_eq!(judged.0.len(), MAX_JUDGED);
        judged.clear();
        assert_eq!(judged.get(&serial(1)), None);
    }
}
