//! The presentations that are known, several to a row: those whose numbers follow each other.
//!
//! A row each would be simpler, and costs a station with a million of them 30 MiB of memory: sled keeps some 250
//! bytes for each leaf of its tree, and splits a leaf at its seventeenth row however small the rows are.

use std::collections::BTreeMap;
use std::path::Path;

use super::index::{Rows, failed, read};
use super::{damaged, key};
use crate::device::event::PresentationKey;
use crate::journal::record::{decode, encode};
use crate::journal::{JournalError, KnownPresentation};

/// Numbers in one row: under 3 KB with the longest serial numbers and messages.
const ROW: u64 = 8;

/// A row: what is known of each number.
type Known = BTreeMap<u64, KnownPresentation>;

fn row_key(it: &PresentationKey) -> Vec<u8> {
    [&prefix(&it.fixture)[..], &it.boot.to_be_bytes(), &(it.id / ROW).to_be_bytes()].concat()
}

/// What the rows of a fixture begin with.
fn prefix(fixture: &str) -> Vec<u8> {
    [&key(b'p', fixture)[..], &[0]].concat()
}

/// What the index says of a presentation.
pub(super) fn find(
    db: &sled::Db,
    path: &Path,
    it: &PresentationKey,
) -> Result<Option<KnownPresentation>, JournalError> {
    let row: Option<Known> = read(db, path, &row_key(it))?;
    Ok(row.and_then(|mut row| row.remove(&it.id)))
}

/// Notes what is known of a presentation now, among rows that are about to be written.
pub(super) fn note(
    db: &sled::Db,
    path: &Path,
    rows: &mut Rows,
    it: &PresentationKey,
    known: KnownPresentation,
) -> Result<(), JournalError> {
    let row = row_key(it);
    let failed = |error| damaged(path, &format!("a row of presentations is wrong: {error}"));
    let mut all: Known = match rows.get(&row) {
        Some(Some(value)) => decode(value).map_err(failed)?,
        Some(None) => Known::new(),
        None => read(db, path, &row)?.unwrap_or_default(),
    };
    all.insert(it.id, known);
    rows.insert(row, Some(encode(&all).map_err(failed)?));
    Ok(())
}

/// Presentations of earlier resets can be asked for no more, whether written or about to be. What was written is removed
/// at once and one by one: the log has the reset already, so that a crash in between loses nothing that is asked for. After
/// a million units there are 125,000 rows, and in one batch sled takes 1.6 GiB for them.
pub(super) fn forget(db: &sled::Db, path: &Path, rows: &mut Rows, fixture: &str) -> Result<(), JournalError> {
    let prefix = prefix(fixture);
    for row in db.scan_prefix(&prefix).keys() {
        let row = row.map_err(|source| failed(path, "read", source))?;
        db.remove(row).map_err(|source| failed(path, "write", source))?;
    }
    for (_, row) in rows.range_mut(prefix.clone()..).take_while(|(row, _)| row.starts_with(&prefix)) {
        *row = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::event::Outcome;
    use crate::device::serial::SerialNumber;
    use crate::fixture::FailCode;
    use crate::fixture::text::MAX_MESSAGE_LEN;
    use crate::journal::store::device_row::MAX_VALUE;

    fn key(boot: u64, id: u64) -> PresentationKey {
        PresentationKey { fixture: "nest-1".to_owned(), boot, id }
    }

    fn known(id: u64) -> KnownPresentation {
        let serial = SerialNumber::parse(&format!("{id:0>128}")).unwrap();
        let message = "m".repeat(MAX_MESSAGE_LEN);
        KnownPresentation { serial, outcome: Some(Outcome::failed(FailCode::Quarantined, &message)) }
    }

    #[test]
    fn each_is_found_across_rows_and_writes_and_the_largest_row_is_small() {
        let dir = tempfile::tempdir().unwrap();
        let db = super::super::index::open_sled(dir.path()).unwrap();
        for ids in [0..5, 3..20, u64::MAX - 9..u64::MAX] {
            let mut rows = Rows::new();
            for id in ids {
                note(&db, dir.path(), &mut rows, &key(1, id), known(id)).unwrap();
            }
            for (row, value) in rows {
                db.insert(row, value.unwrap()).unwrap();
            }
        }
        for id in (0..20).chain(u64::MAX - 9..u64::MAX) {
            assert_eq!(find(&db, dir.path(), &key(1, id)).unwrap(), Some(known(id)));
        }
        assert_eq!(find(&db, dir.path(), &key(1, 20)).unwrap(), None);
        assert_eq!(find(&db, dir.path(), &key(2, 3)).unwrap(), None);
        assert_eq!(db.len(), 3 + 2);
        assert!(db.iter().all(|it| it.unwrap().1.len() <= MAX_VALUE));

        let mut rows = Rows::new();
        note(&db, dir.path(), &mut rows, &key(1, 50), known(50)).unwrap();
        forget(&db, dir.path(), &mut rows, "nest-1").unwrap();
        assert_eq!((db.len(), rows.len(), rows.values().flatten().count()), (0, 1, 0));
        // What comes after the reset begins anew, though nothing of it is written yet.
        note(&db, dir.path(), &mut rows, &key(1, 50), known(51)).unwrap();
        assert_eq!(rows.values().flatten().count(), 1);
    }
}
