//! What is counted, and its snapshot.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;

/// Why a record was not kept, or not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The queue to the writer was full.
    QueueFull,
    /// It came after the stop.
    Stopped,
    /// The disk failed until the stop.
    DiskError,
    /// What waits for a receiver was close to the limit of the disk, and the call was not answered.
    DiskLimit,
    /// Its file was removed at the limit of the disk before every receiver had it.
    RemovedUnread,
}

impl Shed {
    /// All of them, with their names.
    pub const ALL: [(Shed, &'static str); 5] = [
        (Shed::QueueFull, "queue_full"),
        (Shed::Stopped, "stopped"),
        (Shed::DiskError, "disk_error"),
        (Shed::DiskLimit, "disk_limit"),
        (Shed::RemovedUnread, "removed_unread"),
    ];
}

/// Counters of all.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records in the files.
    pub written: AtomicU64,
    /// Writes that failed.
    pub write_failures: AtomicU64,
    /// Lines that are no record, and were passed over.
    pub damaged: AtomicU64,
    shed: [[AtomicU64; 2]; Shed::ALL.len()],
}

impl Counts {
    /// Counts what was shed.
    pub fn shed(&self, cause: Shed, answered: bool, count: u64) {
        self.shed[cause as usize][usize::from(answered)].fetch_add(count, Relaxed);
    }

    /// What was shed for a cause.
    pub fn shed_of(&self, cause: Shed, answered: bool) -> u64 {
        self.shed[cause as usize][usize::from(answered)].load(Relaxed)
    }
}

/// Counters of one delivery.
#[derive(Debug, Default)]
pub struct SinkCounts {
    /// Records that the receiver has taken.
    pub delivered: AtomicU64,
    /// Records that it refused, while it took others.
    pub refused: AtomicU64,
    /// Deliveries that failed, each tried again.
    pub failures: AtomicU64,
    /// When the oldest call that waits ended, in milliseconds since 1970; 0 where none waits.
    pub oldest: AtomicI64,
}

impl SinkCounts {
    /// Age of the oldest record that is under way, in seconds.
    pub fn age(&self, now: Timestamp) -> f64 {
        match self.oldest.load(Relaxed) {
            0 => 0.0,
            oldest => (now.as_millisecond() - oldest).max(0) as f64 / 1000.0,
        }
    }
}

/// All counters at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Records in the files, since the start.
    pub written: u64,
    /// Records that wait for the writer.
    pub waiting: u64,
    /// Writes that failed, each tried again.
    pub write_failures: u64,
    /// Lines that are no record, and were passed over.
    pub damaged: u64,
    /// What was shed: cause, whether the call was answered, how many. Each cause is there, also with 0.
    pub shed: Vec<(&'static str, bool, u64)>,
    /// Files there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Each delivery.
    pub sinks: Vec<SinkSnapshot>,
}

/// Counters of one delivery at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSnapshot {
    /// `postgres` or `webhook`.
    pub name: &'static str,
    /// Records that the receiver has taken, since the start.
    pub delivered: u64,
    /// Records that it refused, while it took others.
    pub refused: u64,
    /// Deliveries that failed, each tried again.
    pub failures: u64,
    /// Records in the files that it has not taken.
    pub backlog: u64,
    /// Age of the oldest of them, in seconds.
    pub backlog_seconds: f64,
}
