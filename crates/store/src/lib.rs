//! The store port: revisioned records, compare-and-set batches and a change stream.
//!
//! What every engine promises, and what `contract` checks:
//!
//! - **Durable first.** [`Store::commit`] returns only when the batch survives the loss of the process (and of the
//!   machine, as far as its disks tell the truth).
//! - **One revision a batch.** A batch is applied whole or not at all. Revisions grow by one with every batch that
//!   changes something, so a watcher can prove to itself that it missed nothing.
//! - **Listing and watching agree.** A [`Listing`] at revision R followed by a watch from R is the store's whole history.
//! - **Writers never wait for watchers.** A slow watcher is fed from the kept change log; when that no longer reaches
//!   back far enough it is told so ([`WatchError::Compacted`]) and lists again. It is never skipped silently.
//!
//! Keys are paths by convention (`trunk/a`, `meta/b`); the store knows neither HTTP nor SIP, and no value's meaning.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod embedded;

use std::fmt;

use async_trait::async_trait;
pub use bytes::Bytes;

/// The number of a batch that changed something. Starts at 1; 0 is the empty store.
pub type Revision = u64;

/// One stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Its content.
    pub value: Bytes,
    /// The revision that brought the key into being (since it was last deleted).
    pub created: Revision,
    /// The revision that last wrote it.
    pub modified: Revision,
}

/// What a write takes for granted about its key: the compare half of compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and was last written by this revision.
    Modified(Revision),
}

/// One key's part of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key; 1 to [`MAX_KEY`] bytes.
    pub key: String,
    /// What must hold before the batch, or the whole batch is refused.
    pub expect: Expect,
    /// The new content; `None` deletes. Deleting a key that does not exist changes nothing and is no error.
    pub value: Option<Bytes>,
}

impl Write {
    /// Writes `value` at `key` whatever is there.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Write {
        Write { key: key.into(), expect: Expect::Any, value: Some(value.into()) }
    }

    /// Deletes `key` whatever is there.
    pub fn delete(key: impl Into<String>) -> Write {
        Write { key: key.into(), expect: Expect::Any, value: None }
    }

    /// The same write, on a condition.
    #[must_use]
    pub fn expecting(self, expect: Expect) -> Write {
        Write { expect, ..self }
    }
}

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// The most writes that one batch may hold.
pub const MAX_WRITES: usize = 4096;

/// The most bytes (keys and values together) that one batch may hold.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The batch that made it.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// What the key holds since; `None` when it was deleted.
    pub entry: Option<Entry>,
}

/// Every entry under a prefix, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The revision that the entries show: watch from here to stay current.
    pub revision: Revision,
    /// Ordered by key.
    pub entries: Vec<Entry>,
}

/// Why a batch was not (or not certainly) applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// An expectation did not hold; nothing was written.
    #[error("{key} is not as expected (last written at revision {found:?})")]
    Conflict {
        /// The first key in the batch that was not as expected.
        key: String,
        /// Its last revision, or none when it does not exist.
        found: Option<Revision>,
    },
    /// The batch is empty, names a key twice, or has an empty or overlong key: the caller's fault, nothing was written.
    #[error("invalid batch: {0}")]
    Invalid(String),
    /// The batch holds too much; nothing was written.
    #[error("batch too large: {0}")]
    TooLarge(String),
    /// The store cannot take writes now. Whether this batch was applied is not known; the change stream tells.
    #[error("store unavailable: {0}")]
    Unavailable(String),
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What is stored cannot be understood.
    #[error("store corrupt: {0}")]
    Corrupt(String),
    /// The store cannot be read now.
    #[error("store unavailable: {0}")]
    Unavailable(String),
}

/// Why a watch ended, or never began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The watch asked for changes after a revision that is yet to come: the watcher knows another store's history.
    #[error("watch from a revision that does not exist yet (the store is at {revision})")]
    Ahead {
        /// The store's revision.
        revision: Revision,
    },
    /// The store was closed.
    #[error("store closed")]
    Closed,
    /// The changes asked for are no longer kept: list again, and watch from the listing's revision.
    #[error("changes are kept since revision {oldest} only")]
    Compacted {
        /// The least revision from which a watch can still start.
        oldest: Revision,
    },
    /// The change log cannot be read now; the watch stands where it stood and may be asked again.
    #[error("store unavailable: {0}")]
    Unavailable(String),
}

/// A store engine.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies a batch, all of it or nothing, and returns its revision once it is durable.
    ///
    /// A key may stand in a batch once; every expectation is checked against the state before the batch. A batch that
    /// changes nothing (only deletes of absent keys) gets the current revision and leaves no trace. Dropping the
    /// future does not call the batch back.
    async fn commit(&self, batch: Vec<Write>) -> Result<Revision, CommitError>;

    /// Every entry whose key begins with `prefix`, ordered by key, at one revision.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// One entry.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Every change after revision `after`, in order, then live ones.
    async fn watch(&self, after: Revision) -> Result<Watch, WatchError>;

    /// The last durable revision. Whoever saw a commit acknowledged reads at least its revision here.
    async fn revision(&self) -> Revision;
}

/// An engine's side of a [`Watch`].
#[async_trait]
pub trait Changes: Send {
    /// The next batch's changes. Must be cancel safe: a dropped call loses nothing.
    async fn next(&mut self) -> Result<Vec<Change>, WatchError>;
}

/// A change stream. Batches come whole, in order, each exactly once.
pub struct Watch(Box<dyn Changes>);

impl Watch {
    /// Wraps an engine's stream.
    pub fn new(changes: impl Changes + 'static) -> Watch {
        Watch(Box::new(changes))
    }

    /// Waits for the next batch; its changes (never none) share one revision, one above the batch before it.
    ///
    /// Cancel safe. After [`WatchError::Unavailable`] the call may be repeated; after any other error the watch is over.
    pub async fn next(&mut self) -> Result<Vec<Change>, WatchError> {
        self.0.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Checks what every engine refuses in a batch before looking at any state.
pub fn check_batch(batch: &[Write]) -> Result<(), CommitError> {
    if batch.is_empty() {
        return Err(CommitError::Invalid("no writes".into()));
    }
    if batch.len() > MAX_WRITES {
        return Err(CommitError::TooLarge(format!("{} writes, at most {MAX_WRITES}", batch.len())));
    }
    let mut keys = std::collections::HashSet::with_capacity(batch.len());
    let mut bytes = 0;
    for write in batch {
        if write.key.is_empty() || write.key.len() > MAX_KEY {
            return Err(CommitError::Invalid(format!("a key of {} bytes, 1 to {MAX_KEY} allowed", write.key.len())));
        }
        if !keys.insert(write.key.as_str()) {
            return Err(CommitError::Invalid(format!("{} stands in it twice", write.key)));
        }
        bytes += write.key.len() + write.value.as_ref().map_or(0, Bytes::len);
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(CommitError::TooLarge(format!("{bytes} bytes, at most {MAX_BATCH_BYTES}")));
    }
    Ok(())
}
