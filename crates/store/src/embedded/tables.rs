//! What lies in the database file, and how it is read.
//!
//! Three tables: the records as they are now, the log of what each revision changed, and a few numbers. All three are
//! written in one transaction, so the log never tells of a change that the records do not show, or the other way round.
//! A file damaged behind our back must read as [`StoreError::Corrupt`], never as a panic or an endless allocation.

use std::ops::RangeInclusive;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition};

use crate::{Change, Entry, Listing, Revision, StoreError};

/// Key → created, modified (u64, little endian), value.
pub(super) const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// Revision → its changes, see [`encode_changes`].
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Name → number.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// [`META`]: the layout of this file.
pub(super) const FORMAT: &str = "format";
/// [`META`]: the last revision.
pub(super) const REVISION: &str = "revision";
/// [`META`]: the last revision that was trimmed from [`LOG`], 0 when none was.
pub(super) const COMPACTED: &str = "compacted";

/// The layout that this code reads and writes.
pub(super) const FORMAT_VERSION: u64 = 1;

const HEADER: usize = 16;

/// Turns any database error into ours; the words are the engine's.
pub(super) fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Corrupt(what),
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

pub(super) fn number<T: ReadableTable<&'static str, u64>>(meta: &T, name: &str) -> Result<u64, StoreError> {
    Ok(meta.get(name).map_err(unavailable)?.map_or(0, |guard| guard.value()))
}

pub(super) fn encode_entry(created: Revision, modified: Revision, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + value.len());
    out.extend_from_slice(&created.to_le_bytes());
    out.extend_from_slice(&modified.to_le_bytes());
    out.extend_from_slice(value);
    out
}

/// The revisions that created and last modified an encoded entry.
pub(super) fn stamps(stored: &[u8]) -> Result<(Revision, Revision), StoreError> {
    let mut cursor = Cursor(stored);
    Ok((cursor.u64()?, cursor.u64()?))
}

fn decode_entry(key: &str, stored: &[u8]) -> Result<Entry, StoreError> {
    let (created, modified) = stamps(stored)?;
    Ok(Entry { key: key.to_owned(), value: Bytes::copy_from_slice(&stored[HEADER..]), created, modified })
}

/// Per change: key length (u32), key, a byte (0 deleted, 1 written), and if written: created (u64), value length (u32),
/// value. The revision is the row's key and, for written keys, their `modified`.
pub(super) fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let size = |c: &Change| 17 + c.key.len() + c.entry.as_ref().map_or(0, |e| e.value.len());
    let mut out = Vec::with_capacity(changes.iter().map(size).sum());
    for change in changes {
        // Lengths fit: a batch is bounded far below 4 GiB.
        out.extend_from_slice(&(change.key.len() as u32).to_le_bytes());
        out.extend_from_slice(change.key.as_bytes());
        match &change.entry {
            None => out.push(0),
            Some(entry) => {
                out.push(1);
                out.extend_from_slice(&entry.created.to_le_bytes());
                out.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
                out.extend_from_slice(&entry.value);
            }
        }
    }
    out
}

pub(super) fn decode_changes(revision: Revision, stored: &[u8]) -> Result<Vec<Change>, StoreError> {
    let mut cursor = Cursor(stored);
    let mut changes = Vec::new();
    while !cursor.0.is_empty() {
        let length = cursor.u32()?;
        let key = String::from_utf8(cursor.take(length)?.to_vec()).map_err(|_| corrupt("a logged key is not UTF-8"))?;
        let entry = match cursor.take(1)? {
            [0] => None,
            [1] => {
                let created = cursor.u64()?;
                let length = cursor.u32()?;
                let value = Bytes::copy_from_slice(cursor.take(length)?);
                Some(Entry { key: key.clone(), value, created, modified: revision })
            }
            _ => return Err(corrupt("a logged change is neither a write nor a delete")),
        };
        changes.push(Change { revision, key, entry });
    }
    if changes.is_empty() {
        return Err(corrupt("a logged revision changes nothing"));
    }
    Ok(changes)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| corrupt("a stored value is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u64(&mut self) -> Result<u64, StoreError> {
        let bytes = self.take(8)?.try_into().map_err(|_| corrupt("a stored number is cut short"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn u32(&mut self) -> Result<usize, StoreError> {
        let bytes = self.take(4)?.try_into().map_err(|_| corrupt("a stored number is cut short"))?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }
}

pub(super) fn list(txn: &ReadTransaction, prefix: &str) -> Result<Listing, StoreError> {
    let revision = number(&txn.open_table(META).map_err(unavailable)?, REVISION)?;
    let table = txn.open_table(ENTRIES).map_err(unavailable)?;
    let mut entries = Vec::new();
    for row in table.range(prefix..).map_err(unavailable)? {
        let (key, stored) = row.map_err(unavailable)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        entries.push(decode_entry(key.value(), stored.value())?);
    }
    Ok(Listing { revision, entries })
}

pub(super) fn get(txn: &ReadTransaction, key: &str) -> Result<Option<Entry>, StoreError> {
    let table = txn.open_table(ENTRIES).map_err(unavailable)?;
    match table.get(key).map_err(unavailable)? {
        Some(stored) => decode_entry(key, stored.value()).map(Some),
        None => Ok(None),
    }
}

/// The span of `after` values from which a watch can start.
pub(super) fn kept(txn: &ReadTransaction) -> Result<RangeInclusive<Revision>, StoreError> {
    let meta = txn.open_table(META).map_err(unavailable)?;
    Ok(number(&meta, COMPACTED)?..=number(&meta, REVISION)?)
}

/// The logged batches after `after`, at most `limit` of them. The caller has checked `after` against [`kept`].
pub(super) fn logged(txn: &ReadTransaction, after: Revision, limit: usize) -> Result<Vec<Vec<Change>>, StoreError> {
    let table = txn.open_table(LOG).map_err(unavailable)?;
    let mut batches = Vec::new();
    for (row, expected) in table.range(after + 1..).map_err(unavailable)?.take(limit).zip(after + 1..) {
        let (revision, stored) = row.map_err(unavailable)?;
        if revision.value() != expected {
            return Err(corrupt("a revision is missing from the change log"));
        }
        batches.push(decode_changes(expected, stored.value())?);
    }
    Ok(batches)
}

/// Drops log rows so that the last `keep` revisions up to `revision` stay, at most `budget` rows at once.
pub(super) fn trim(
    log: &mut Table<'_, u64, &'static [u8]>,
    meta: &mut Table<'_, &'static str, u64>,
    revision: Revision,
    keep: u64,
    budget: u64,
) -> Result<(), StoreError> {
    let from = number(meta, COMPACTED)?;
    let to = revision.saturating_sub(keep).min(from + budget);
    if to <= from {
        return Ok(());
    }
    for old in from + 1..=to {
        log.remove(old).map_err(unavailable)?;
    }
    meta.insert(COMPACTED, to).map_err(unavailable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let entry = proptest::option::of((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)));
        proptest::collection::vec((".{0,12}", entry), 1..5).prop_map(|list| {
            let change = |(key, entry): (String, Option<(u64, Vec<u8>)>)| Change {
                revision: 7,
                key: key.clone(),
                entry: entry.map(|(created, value)| Entry { key, value: value.into(), created, modified: 7 }),
            };
            list.into_iter().map(change).collect()
        })
    }

    proptest! {
        #[test]
        fn changes_survive_the_log(changes in changes()) {
            prop_assert_eq!(decode_changes(7, &encode_changes(&changes)), Ok(changes));
        }

        #[test]
        fn a_cut_log_row_is_corrupt_not_a_panic(changes in changes(), cut in 1usize..10) {
            let mut row = encode_changes(&changes[..1]);
            row.truncate(row.len().saturating_sub(cut));
            prop_assert!(matches!(decode_changes(7, &row), Err(StoreError::Corrupt(_))));
        }

        #[test]
        fn noise_in_the_log_never_panics(row in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_changes(7, &row);
            let _ = decode_entry("k", &row);
        }
    }
}
