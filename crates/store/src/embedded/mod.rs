//! The embedded engine: one file, one writer thread, no other process.
//!
//! The file is a redb database: a copy-on-write tree that is whole after a crash at any moment. What this module adds is
//! the port's promises: revisions, conditions, the change log, shared fsyncs (`writer`) and watches (`follow`).

mod follow;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::error;

use self::follow::Follower;
use self::writer::{Job, Published, Writer};
use crate::{CommitError, Entry, Listing, Revision, Store, StoreError, Watch, WatchError, Write, check_batch};

/// The name of the database file in its directory.
pub const FILE_NAME: &str = "registry.redb";

/// What the engine may use and keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for database pages, in bytes.
    pub cache_bytes: usize,
    /// How long [`Embedded::open`] waits for another process to let go of the file.
    pub lock_wait: Duration,
    /// How many of the last revisions a watch can start from.
    pub log_keep: u64,
    /// How many batches may wait for the writer; further callers wait for a place.
    pub queue: usize,
    /// How many live batches a watcher may lag before it reads the log instead.
    pub watch_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: 16 << 20,
            lock_wait: Duration::from_secs(1),
            log_keep: 100_000,
            queue: 1024,
            watch_buffer: 1024,
        }
    }
}

/// Why the store did not open. Each says which file, and what to look at.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or used.
    #[error("cannot use data directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was written by another version.
    #[error("{} has layout {found}, this version reads layout {}", path.display(), tables::FORMAT_VERSION)]
    Format {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// Another process holds the file.
    #[error("{} is in use by another process: is a server already running on this data directory?", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, no store, or unreadable.
    #[error("cannot open {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
}

/// The engine. Dropping it waits for the writer to finish what it has accepted, then releases the file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    watchers: broadcast::Sender<Published>,
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in `dir`, making both when they do not exist. Every page's checksum is verified, so a damaged file
    /// is refused here instead of being served. Blocks for as long as that takes (about a second for a million records)
    /// and, when another process holds the file, up to `lock_wait`.
    pub fn open(dir: &Path, options: Options) -> Result<Embedded, OpenError> {
        let directory = |source| OpenError::Directory { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(directory)?;
        let path = dir.join(FILE_NAME);
        let cache = options.cache_bytes;
        let file = path.clone();
        let opener = move || builder(cache).create(&file);
        let embedded = Embedded::open_with(path, options, Box::new(opener))?;
        // The file's name must be on disk too, or a power cut could take the whole first run with it.
        File::open(dir).and_then(|d| d.sync_all()).map_err(directory)?;
        Ok(embedded)
    }

    fn open_with(path: PathBuf, options: Options, opener: Opener) -> Result<Embedded, OpenError> {
        let shared =
            Arc::new(Shared { path, options, opener, database: RwLock::new(None), revision: AtomicU64::new(0) });
        shared.reopen()?;
        let last = shared.read(|txn| tables::kept(txn).map(|kept| *kept.end()));
        let last = last.map_err(|e| shared.open_error(&e.to_string()))?;
        shared.revision.store(last, Ordering::Release);

        let (queue, jobs) = mpsc::channel(shared.options.queue.max(1));
        let (watchers, _) = broadcast::channel(shared.options.watch_buffer.max(1));
        let writer = Writer::new(shared.clone(), jobs, watchers.clone());
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|e| shared.open_error(&format!("cannot start the writer thread: {e}")))?;
        Ok(Embedded { shared, watchers, queue: Some(queue), thread: Some(thread) })
    }

    /// How many batches wait for the writer, for metrics.
    pub fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(file = %self.shared.path.display(), "the store's writer ended in a panic");
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn commit(&self, batch: Vec<Write>) -> Result<Revision, CommitError> {
        check_batch(&batch)?;
        let stopped = || CommitError::Unavailable("the writer has stopped".into());
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(Job { batch, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let (shared, prefix) = (self.shared.clone(), prefix.to_owned());
        blocking(move || shared.read(|txn| tables::list(txn, &prefix))).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let (shared, key) = (self.shared.clone(), key.to_owned());
        blocking(move || shared.read(|txn| tables::get(txn, &key))).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, WatchError> {
        let live = self.watchers.subscribe();
        let shared = self.shared.clone();
        let kept = blocking(move || shared.read(tables::kept)).await;
        let kept = kept.map_err(|error| WatchError::Unavailable(error.to_string()))?;
        if after < *kept.start() {
            return Err(WatchError::Compacted { oldest: *kept.start() });
        }
        if after > *kept.end() {
            return Err(WatchError::Ahead { revision: *kept.end() });
        }
        Ok(Watch::new(Follower::new(&self.shared, live, after)))
    }

    async fn revision(&self) -> Revision {
        self.shared.revision.load(Ordering::Acquire)
    }
}

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// What the engine, its writer and its readers have in common.
struct Shared {
    path: PathBuf,
    options: Options,
    opener: Opener,
    /// None between a failure and the next successful opening.
    database: RwLock<Option<Database>>,
    /// The last revision that is on disk and was published.
    revision: AtomicU64,
}

impl Shared {
    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, f: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let txn = match self.database().as_ref() {
            Some(database) => database.begin_read().map_err(tables::unavailable)?,
            None => return Err(StoreError::Unavailable("not open".into())),
        };
        f(&txn)
    }

    /// Lets go of the file, opens it again and makes sure that it is ours and has its tables.
    fn reopen(&self) -> Result<(), OpenError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        let deadline = Instant::now() + self.options.lock_wait;
        let database = loop {
            match (self.opener)() {
                Ok(database) => break database,
                Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    return Err(OpenError::InUse { path: self.path.clone() });
                }
                Err(DatabaseError::Storage(StorageError::Corrupted(what))) => {
                    return Err(self.open_error(&format!("the file is damaged, restore it from a copy ({what})")));
                }
                Err(other) => return Err(self.open_error(&other.to_string())),
            }
        };
        let found = prepare(&database).map_err(|e| self.open_error(&e.to_string()))?;
        if found != tables::FORMAT_VERSION {
            return Err(OpenError::Format { path: self.path.clone(), found });
        }
        *slot = Some(database);
        Ok(())
    }

    fn open_error(&self, reason: &str) -> OpenError {
        OpenError::Open { path: self.path.clone(), reason: reason.to_owned() }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).field("options", &self.options).finish_non_exhaustive()
    }
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
    builder
}

/// Makes the tables of a new file; returns the layout of the file as it is.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let txn = database.begin_write()?;
    let (found, made) = {
        let mut meta = txn.open_table(tables::META)?;
        let found = meta.get(tables::FORMAT)?.map(|guard| guard.value());
        if found.is_none() {
            meta.insert(tables::FORMAT, tables::FORMAT_VERSION)?;
            txn.open_table(tables::ENTRIES)?;
            txn.open_table(tables::LOG)?;
        }
        (found.unwrap_or(tables::FORMAT_VERSION), found.is_none())
    };
    if made {
        txn.commit()?
    } else {
        txn.abort()?
    }
    Ok(found)
}

/// Runs a read off the async threads: it may have to wait for the disk.
async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(f).await.map_err(|e| StoreError::Unavailable(e.to_string()))?
}
