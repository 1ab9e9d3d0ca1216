//! History: what was changed, kept in the store beside the records and listed from there.
//!
//! Each batch that changes something for people writes one entry in the same commit, so neither is ever there without
//! the other. In memory is only where the entries lie: their keys in the order of their revisions.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use registry::HistoryEntry;
use store::{Change, CommitError, Entry, Expect, Listing, MAX_WRITES, Revision, StoreError, Write};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::Core;

/// Keys under this prefix are history's, and no business of the registry's.
pub(crate) const HISTORY: &str = "history/";

/// Holds the revision that history begins after, where it is not whole.
pub(crate) const FLOOR: &str = "meta/history";

/// How often what is too old is looked for.
const TRIM: Duration = Duration::from_secs(1);

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Entries.
    pub entries: usize,
    /// Bytes, as stored.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { entries: 1000, bytes: 64 << 20 }
    }
}

/// Names for entries that no other process and no other batch uses; in the order of time, roughly.
#[derive(Debug, Default)]
pub(crate) struct Names(AtomicU64);

impl Names {
    pub(crate) fn next(&self, boot: u64) -> String {
        let micros = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
        format!("{HISTORY}{micros:016x}-{boot:x}-{:x}", self.0.fetch_add(1, Relaxed))
    }
}

/// Where the entries lie, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    places: VecDeque<Place>,
    bytes: u64,
    /// All changes after this revision are there.
    floor: Revision,
}

#[derive(Debug)]
struct Place {
    revision: Revision,
    key: Box<str>,
    bytes: u32,
}

impl Index {
    /// Takes over a change, if it is of history.
    pub(crate) fn apply(&mut self, change: &Change) {
        if change.key == FLOOR {
            self.floor = change.entry.as_ref().map_or(self.floor, revision);
        }
        if !change.key.starts_with(HISTORY) {
            return;
        }
        match &change.entry {
            Some(entry) => self.push(entry),
            // What goes is old, so it is found soon.
            None => {
                let at = self.places.iter().position(|place| *place.key == *change.key);
                if let Some(gone) = at.and_then(|at| self.places.remove(at)) {
                    self.bytes -= u64::from(gone.bytes);
                }
            }
        }
    }

    /// Begins anew from a listing.
    pub(crate) fn adopt(&mut self, listing: &Listing) {
        let mut entries: Vec<&Entry> = listing.entries.iter().filter(|entry| entry.key.starts_with(HISTORY)).collect();
        entries.sort_by_key(|entry| entry.modified);
        let floor = listing.entries.iter().find(|entry| entry.key == FLOOR).map(revision);
        *self = Index { floor: floor.unwrap_or_default(), ..Index::default() };
        entries.into_iter().for_each(|entry| self.push(entry));
    }

    fn push(&mut self, entry: &Entry) {
        // A batch is far below 4 GiB.
        let bytes = (entry.key.len() + entry.value.len()) as u32;
        self.places.push_back(Place { revision: entry.modified, key: entry.key.as_str().into(), bytes });
        self.bytes += u64::from(bytes);
    }

    /// The entries of revisions below `before`, the newest first, and where each lies.
    pub(crate) fn newest(&self, before: Revision, most: usize) -> Vec<(Revision, String)> {
        let end = self.places.partition_point(|place| place.revision < before);
        let places = self.places.range(..end).rev().take(most);
        places.map(|place| (place.revision, place.key.to_string())).collect()
    }

    /// The oldest revision whose state can still be told.
    pub(crate) fn reach(&self) -> Revision {
        self.floor
    }

    /// What takes away what is beyond what is kept, as much as fits a batch.
    fn excess(&self, keep: Keep) -> Vec<Write> {
        let (mut entries, mut bytes) = (self.places.len(), self.bytes);
        // A little more is let stand, so that one batch takes many.
        if entries <= keep.entries + keep.entries / 8 && bytes <= keep.bytes {
            return Vec::new();
        }
        let mut batch = Vec::new();
        let mut floor = self.floor;
        for place in self.places.iter().take(MAX_WRITES - 1) {
            if entries <= keep.entries && bytes <= keep.bytes {
                break;
            }
            entries -= 1;
            bytes -= u64::from(place.bytes);
            floor = place.revision;
            batch.push(Write::delete(&*place.key));
        }
        batch.push(Write::put(FLOOR, floor.to_string()));
        batch
    }
}

/// Where there are records and never was history, it begins now.
pub(crate) async fn begin(core: &Core) -> Result<(), StoreError> {
    let applied = core.mirror.history(|index, at| (index.places.is_empty() && index.floor == 0).then_some(at.applied));
    let holds = core.mirror.read(|registry, _| registry.keys().next().is_some());
    if let Some(applied) = applied.filter(|_| holds) {
        let write = Write::put(FLOOR, applied.to_string()).expecting(Expect::Absent);
        match core.store.commit(vec![write]).await {
            Ok(revision) => core.mirror.caught_up(revision).await,
            // Another process has said so.
            Err(CommitError::Conflict { .. }) => {}
            Err(why) => return Err(StoreError::Unavailable(why.to_string())),
        }
    }
    Ok(())
}

/// A revision as [`FLOOR`] holds it.
fn revision(entry: &Entry) -> Revision {
    std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(entry.modified)
}

/// Takes away for ever what is too old.
pub(crate) async fn trim(core: std::sync::Arc<Core>) {
    let mut looks = interval(TRIM);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let batch = core.mirror.history(|index, _| index.excess(core.keep));
        if batch.is_empty() {
            continue;
        }
        if let Err(why) = core.store.commit(batch).await {
            warn!(error = %why, "cannot trim the history, trying again");
        }
    }
}

/// One entry with its revision.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The revision of its batch.
    pub revision: Revision,
    /// What was changed.
    pub entry: HistoryEntry,
}

impl Core {
    /// Entries below a revision, the newest first, at most `limit` of those that are wanted.
    pub(crate) async fn entries(
        &self,
        before: Revision,
        limit: usize,
        wanted: impl Fn(&HistoryEntry) -> bool,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut found = Vec::new();
        let mut before = before;
        while found.len() < limit {
            let places = self.mirror.history(|index, _| index.newest(before, 64));
            let Some((last, _)) = places.last() else { break };
            before = *last;
            for (revision, key) in places {
                // One that was trimmed meanwhile is as if it had been before.
                let stored = self.store.get(&key).await?;
                let entry = stored.and_then(|stored| HistoryEntry::decode(&stored.value));
                if let Some(entry) = entry.filter(|entry| wanted(entry)) {
                    found.push(Recorded { revision, entry });
                    if found.len() == limit {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}
