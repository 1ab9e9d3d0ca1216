//! The one thread that writes.
//!
//! Every batch that waits when the thread comes round goes into one transaction and shares its one fsync: this is where
//! the throughput of concurrent writers comes from. The order is always: on disk, then the revision moves, then watchers
//! are told, then the writers are answered. So nobody learns of a change that a crash could take back, and a writer that
//! was answered finds its own revision everywhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Durability, ReadableTable, Table};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{error, info};

use super::Shared;
use super::tables::{self, unavailable};
use crate::{Change, CommitError, Entry, Expect, Revision, StoreError, Write};

/// What a watcher gets for one batch.
pub(super) type Published = Arc<[Change]>;

/// The most batches, and about the most bytes, that share one transaction: bounds how long the first of them waits.
const GROUP_BATCHES: usize = 1024;
const GROUP_BYTES: usize = 8 << 20;

/// When a store that failed is opened anew: soon at first, then ever more seldom.
const REOPEN_AFTER: Duration = Duration::from_millis(100);
const REOPEN_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// One caller's batch and where its answer goes.
pub(super) struct Job {
    pub(super) batch: Vec<Write>,
    pub(super) reply: oneshot::Sender<Result<Revision, CommitError>>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    watchers: broadcast::Sender<Published>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Job>,
        watchers: broadcast::Sender<Published>,
    ) -> Writer {
        Writer { shared, queue, watchers }
    }

    /// Runs until every sender of the queue is gone.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let mut group = vec![first];
            let mut bytes = size(&group[0].batch);
            while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
                let Ok(job) = self.queue.try_recv() else { break };
                bytes += size(&job.batch);
                group.push(job);
            }
            if !self.write(group) && !self.recover() {
                return;
            }
        }
    }

    /// Writes a group and answers it; false when the database failed under it.
    fn write(&self, group: Vec<Job>) -> bool {
        let base = self.shared.revision.load(Ordering::Acquire);
        let batches: Vec<&[Write]> = group.iter().map(|job| job.batch.as_slice()).collect();
        // The database panics on damage that it did not expect. Writers are owed an answer all the same.
        let result = catch_unwind(AssertUnwindSafe(|| self.transact(base, &batches)))
            .unwrap_or_else(|_| Err(StoreError::Corrupt("the database panicked".into())));
        match result {
            Ok(Outcome { verdicts, published }) => {
                self.publish(published);
                for (job, verdict) in group.into_iter().zip(verdicts) {
                    // A caller that stopped waiting has nothing to hear.
                    let _ = job.reply.send(verdict);
                }
                true
            }
            Err(why) => {
                error!(file = %self.shared.path.display(), error = %why, batches = group.len(), "write failed");
                refuse(group, &why.to_string());
                false
            }
        }
    }

    fn transact(&self, base: Revision, batches: &[&[Write]]) -> Result<Outcome, StoreError> {
        let guard = self.shared.database();
        let database = guard.as_ref().ok_or_else(|| StoreError::Unavailable("not open".into()))?;
        let mut txn = database.begin_write().map_err(unavailable)?;
        txn.set_durability(Durability::Immediate).map_err(unavailable)?;
        let mut outcome = Outcome { verdicts: Vec::with_capacity(batches.len()), published: Vec::new() };
        let mut revision = base;
        {
            let mut entries = txn.open_table(tables::ENTRIES).map_err(unavailable)?;
            let mut log = txn.open_table(tables::LOG).map_err(unavailable)?;
            for batch in batches {
                let existing = match check(&entries, batch)? {
                    Ok(existing) => existing,
                    Err(conflict) => {
                        outcome.verdicts.push(Err(conflict));
                        continue;
                    }
                };
                let changes = apply(&mut entries, batch, &existing, revision + 1)?;
                if !changes.is_empty() {
                    revision += 1;
                    log.insert(revision, tables::encode_changes(&changes).as_slice()).map_err(unavailable)?;
                    outcome.published.push(changes.into());
                }
                outcome.verdicts.push(Ok(revision));
            }
            if revision > base {
                let mut meta = txn.open_table(tables::META).map_err(unavailable)?;
                meta.insert(tables::REVISION, revision).map_err(unavailable)?;
                // Twice what was added, so that a log_keep lowered between runs is reached, bit by bit.
                let budget = 2 * (revision - base) + 16;
                tables::trim(&mut log, &mut meta, revision, self.shared.options.log_keep, budget)?;
            }
        }
        if revision > base {
            txn.commit().map_err(unavailable)?;
        } else {
            txn.abort().map_err(unavailable)?;
        }
        Ok(outcome)
    }

    fn publish(&self, batches: Vec<Published>) {
        for changes in batches {
            if let Some(change) = changes.first() {
                self.shared.revision.store(change.revision, Ordering::Release);
            }
            // No watchers is no error.
            let _ = self.watchers.send(changes);
        }
    }

    /// After a failed write the database takes no more (what is on disk may differ from what it has in memory), so it is
    /// opened anew until that works; meanwhile writers are answered at once. False when the store is being closed.
    fn recover(&mut self) -> bool {
        let mut pause = REOPEN_AFTER;
        let mut next = Instant::now() + pause;
        loop {
            loop {
                match self.queue.try_recv() {
                    Ok(job) => refuse(vec![job], "recovering from a failed write"),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return false,
                }
            }
            if Instant::now() >= next {
                match self.reopen() {
                    Ok(()) => {
                        info!(file = %self.shared.path.display(), "store recovered");
                        return true;
                    }
                    Err(why) => error!(file = %self.shared.path.display(), error = %why, "store still unavailable"),
                }
                pause = (2 * pause).min(REOPEN_AT_LEAST_EVERY);
                next = Instant::now() + pause;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Opens the file again. A write that failed may have reached the disk all the same: watchers are told what they missed.
    fn reopen(&self) -> Result<(), StoreError> {
        let known = self.shared.revision.load(Ordering::Acquire);
        self.shared.reopen().map_err(|e| StoreError::Unavailable(e.to_string()))?;
        let missed = self.shared.read(|txn| {
            let last = *tables::kept(txn)?.end();
            if last < known {
                return Err(StoreError::Corrupt(format!("revision {known} was on disk and is gone, found {last}")));
            }
            tables::logged(txn, known, usize::MAX)
        })?;
        self.publish(missed.into_iter().map(Published::from).collect());
        Ok(())
    }
}

struct Outcome {
    verdicts: Vec<Result<Revision, CommitError>>,
    published: Vec<Published>,
}

fn size(batch: &[Write]) -> usize {
    batch.iter().map(|w| w.key.len() + w.value.as_ref().map_or(0, Bytes::len)).sum()
}

fn refuse(group: Vec<Job>, why: &str) {
    for job in group {
        let _ = job.reply.send(Err(CommitError::Unavailable(why.to_owned())));
    }
}

type Stamps = Option<(Revision, Revision)>;

/// Compares before anything is written, so that a refused batch leaves no trace in the shared transaction.
/// Returns each key's stamps.
fn check(
    entries: &Table<'_, &'static str, &'static [u8]>,
    batch: &[Write],
) -> Result<Result<Vec<Stamps>, CommitError>, StoreError> {
    let mut existing = Vec::with_capacity(batch.len());
    for write in batch {
        let found: Stamps = match entries.get(write.key.as_str()).map_err(unavailable)? {
            Some(stored) => Some(tables::stamps(stored.value())?),
            None => None,
        };
        let modified = found.map(|(_, modified)| modified);
        let holds = match write.expect {
            Expect::Any => true,
            Expect::Absent => modified.is_none(),
            Expect::Modified(revision) => modified == Some(revision),
        };
        if !holds {
            return Ok(Err(CommitError::Conflict { key: write.key.clone(), found: modified }));
        }
        existing.push(found);
    }
    Ok(Ok(existing))
}

fn apply(
    entries: &mut Table<'_, &'static str, &'static [u8]>,
    batch: &[Write],
    existing: &[Stamps],
    revision: Revision,
) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::with_capacity(batch.len());
    for (write, stamps) in batch.iter().zip(existing) {
        let entry = match (&write.value, stamps) {
            (None, None) => continue,
            (None, Some(_)) => {
                entries.remove(write.key.as_str()).map_err(unavailable)?;
                None
            }
            (Some(value), stamps) => {
                let created = stamps.map_or(revision, |(created, _)| created);
                let stored = tables::encode_entry(created, revision, value);
                entries.insert(write.key.as_str(), stored.as_slice()).map_err(unavailable)?;
                Some(Entry { key: write.key.clone(), value: value.clone(), created, modified: revision })
            }
        };
        changes.push(Change { revision, key: write.key.clone(), entry });
    }
    Ok(changes)
}
