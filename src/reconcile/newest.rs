//! The look at the account that came to its end last, for the report that is made beside it.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::{Finding, Summary};

/// Findings that are kept of a look; the others are counted.
pub const MAX_KEPT: usize = 200;

/// A look at the account that came to its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// When it ended.
    pub at: Timestamp,
    /// The batch that was selected.
    pub batch: Option<String>,
    /// Devices first presented since then were selected.
    pub since: Option<Timestamp>,
    /// Devices first presented before then were selected; none: up to when it was begun.
    pub until: Option<Timestamp>,
    /// Only existence and status were looked at.
    pub quick: bool,
    /// What it comes to.
    pub summary: Summary,
    /// The first findings.
    pub findings: Vec<Finding>,
}

/// Where the newest look is kept. Copies are the same place.
#[derive(Debug, Clone, Default)]
pub struct Newest(Arc<Mutex<Option<Arc<Look>>>>);

impl Newest {
    /// Keeps this one instead of the one before.
    pub fn put(&self, look: Look) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(look));
    }

    /// The newest, if it was a look at just these devices.
    #[must_use]
    pub fn of(
        &self,
        batch: Option<&str>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Option<Arc<Look>> {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        newest.filter(|it| {
            let same_end = it.until == until || (it.until.is_none() && until.is_none_or(|end| end >= it.at));
            it.batch.as_deref() == batch && it.since == since && same_end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_other_devices_is_none_of_the_reports() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let newest = Newest::default();
        assert_eq!(newest.of(None, None, None), None);
        let (since, until) = (Some(time(100)), Some(time(200)));
        newest.put(Look { at: time(300), since, until, ..Look::default() });
        assert!(newest.of(None, since, until).is_some());
        assert!(newest.of(None, since, Some(time(201))).is_none());
        assert!(newest.of(Some("WO-1"), since, until).is_none());
        // Everything from then on: a report that ends behind the look is of the same devices.
        newest.put(Look { at: time(300), since, ..Look::default() });
        assert!(newest.of(None, since, Some(time(301))).is_some());
        assert!(newest.of(None, since, until).is_none());
    }
}
