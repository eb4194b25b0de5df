//! What the line wants done, held back until the record that it depends on is on disk.

use std::collections::BTreeMap;

use super::Action;
use crate::sabotage::sabotaged;

/// Actions that wait for a record to be on disk, by its number, in order.
#[derive(Debug, Default)]
pub struct Held(BTreeMap<u64, Vec<Action>>);

impl Held {
    /// Keeps what has to wait for a record after `durable`; gives back, in order, what is to be done now:
    /// every record, and whatever depends on nothing that is not on disk.
    ///
    /// Take out what [`release`](Self::release) gives before: what waits was said earlier.
    #[must_use]
    pub fn take(&mut self, actions: Vec<Action>, durable: u64) -> Vec<Action> {
        let mut now = Vec::with_capacity(actions.len());
        for action in actions {
            if may_go(&action, durable) {
                now.push(action);
            } else {
                self.0.entry(action.after()).or_default().push(action);
            }
        }
        now
    }

    /// What has waited for a record up to `durable`, in order.
    #[must_use]
    pub fn release(&mut self, durable: u64) -> Vec<Action> {
        match self.0.first_key_value() {
            Some((first, _)) if *first <= durable => {}
            _ => return Vec::new(),
        }
        let later = self.0.split_off(&durable.saturating_add(1));
        std::mem::replace(&mut self.0, later).into_values().flatten().collect()
    }
}

fn may_go(action: &Action, durable: u64) -> bool {
    use crate::fixture::StationMessage;
    let hasty = match action {
        Action::Record(_) => true,
        Action::Send { message: StationMessage::Ack { .. }, .. } => sabotaged!(AckBeforeDurable),
        Action::Send { message: StationMessage::Pass { .. }, .. } => sabotaged!(PassBeforeDurable),
        Action::Call { .. } => sabotaged!(CallBeforeDurable),
        Action::Answer { .. } => sabotaged!(AnsweredBeforeDurable),
        Action::DestroyKey { .. } => sabotaged!(KeyDestroyedBeforeDurable),
        _ => false,
    };
    hasty || action.after() <= durable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StationMessage;

    fn ack(id: u64, after: u64) -> Action {
        Action::Send { fixture: 0, message: StationMessage::Ack { id }, tag: None, after }
    }

    fn ids(actions: &[Action]) -> Vec<u64> {
        let id = |it: &Action| match it {
            Action::Send { message: StationMessage::Ack { id }, .. } => *id,
            _ => 0,
        };
        actions.iter().map(id).collect()
    }

    #[test]
    fn what_waits_comes_out_in_order_once_its_record_is_on_disk() {
        let mut held = Held::default();
        assert_eq!(ids(&held.take(vec![ack(1, 7), ack(2, 5), ack(3, 6), ack(4, 7)], 5)), [2]);
        assert!(held.release(5).is_empty());
        assert_eq!(ids(&held.release(6)), [3]);
        assert_eq!(ids(&held.take(vec![ack(5, 7), ack(6, 0)], 6)), [6]);
        assert_eq!(ids(&held.release(u64::MAX)), [1, 4, 5]);
        assert!(held.release(u64::MAX).is_empty());
    }
}
