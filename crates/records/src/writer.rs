//! The thread that writes: takes what waits, makes lines of it, appends them, and keeps the directory in its bounds.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use crate::counts::{Counts, Shed};
use crate::files::Files;
use crate::id::Ids;
use crate::queue::Queue;
use crate::record::Record;

/// What is appended at once, in bytes.
const CHUNK: usize = 256 << 10;
/// A loss of power takes no more than was written in this time.
const SYNC: Duration = Duration::from_secs(1);
/// Between two tries of a disk that fails.
const AGAIN: Duration = Duration::from_secs(1);

/// The writer before it runs.
pub struct Writer {
    /// What waits.
    pub queue: Arc<Queue>,
    /// Where it goes.
    pub files: Files,
    /// Counters.
    pub counts: Arc<Counts>,
    /// Makes ids.
    pub ids: Ids,
    /// Longest chunk, in bytes.
    pub chunk: usize,
}

/// Lines on their way to the file.
#[derive(Default)]
struct Chunk {
    text: Vec<u8>,
    answered: u64,
    unanswered: u64,
}

impl Writer {
    /// The longest chunk for files of so many bytes: none is longer than a file may be.
    pub fn chunk(rotate_bytes: u64) -> usize {
        usize::try_from(rotate_bytes).map_or(CHUNK, |most| most.min(CHUNK))
    }

    /// Writes until the queue ends.
    pub fn run(mut self) {
        self.prune();
        let mut synced = Instant::now();
        loop {
            let work = self.queue.take(self.until(synced));
            if work.reopen {
                self.files.rotate();
            }
            self.write(work.records);
            if self.files.is_due(Timestamp::now()) {
                self.files.rotate();
            }
            if synced.elapsed() >= SYNC {
                self.files.sync();
                synced = Instant::now();
            }
            self.prune();
            if work.stopping {
                self.files.rotate();
                return;
            }
        }
    }

    /// When there is something to do without a record.
    fn until(&self, synced: Instant) -> Option<Instant> {
        let sync = self.files.is_unsynced().then(|| synced + SYNC);
        let due = self.files.due().map(|due| {
            let left = due.as_millisecond() - Timestamp::now().as_millisecond();
            // The clock may be set meanwhile.
            Instant::now() + Duration::from_millis(left.clamp(0, 60_000) as u64)
        });
        sync.into_iter().chain(due).min()
    }

    fn write(&mut self, records: Vec<Record>) {
        let mut chunk = Chunk::default();
        for mut record in records {
            let answered = record.is_answered();
            if !answered && self.files.is_crowded() {
                self.counts.shed(Shed::DiskLimit, false, 1);
                continue;
            }
            record.seal(self.ids.next(Timestamp::now()));
            let before = chunk.text.len();
            if let Err(error) = serde_json::to_writer(&mut chunk.text, &record) {
                // A vector takes everything, and the type has nothing that JSON has not.
                warn!(%error, "a call record is not written");
                chunk.text.truncate(before);
                self.counts.shed(Shed::DiskError, answered, 1);
                continue;
            }
            chunk.text.push(b'\n');
            if chunk.text.len() > self.chunk && before > 0 {
                let line = chunk.text.split_off(before);
                self.append(std::mem::take(&mut chunk));
                chunk.text = line;
            }
            if answered { chunk.answered += 1 } else { chunk.unanswered += 1 }
        }
        if !chunk.text.is_empty() {
            self.append(chunk);
        }
    }

    /// Appends, and tries again for as long as it takes: meanwhile the queue fills, and sheds.
    fn append(&mut self, chunk: Chunk) {
        let mut failed = false;
        loop {
            let count = chunk.answered + chunk.unanswered;
            let Err(error) = self.files.append(&chunk.text, count, Timestamp::now()) else {
                self.counts.written.fetch_add(count, Relaxed);
                if failed {
                    info!("call records are written again");
                }
                return;
            };
            self.counts.write_failures.fetch_add(1, Relaxed);
            if !failed {
                warn!(%error, "call records cannot be written, and wait in memory");
            }
            // Once more after the stop was asked for, as it cuts the pause short.
            if self.queue.pause(AGAIN) && failed {
                self.counts.shed(Shed::DiskError, true, chunk.answered);
                self.counts.shed(Shed::DiskError, false, chunk.unanswered);
                return;
            }
            failed = true;
        }
    }

    fn prune(&mut self) {
        let lost = self.files.prune();
        if lost.answered + lost.unanswered > 0 {
            let (answered, unanswered) = (lost.answered, lost.unanswered);
            warn!(answered, unanswered, "call records were removed undelivered, as they take the room of max_bytes");
            self.counts.shed(Shed::RemovedUnread, true, answered);
            self.counts.shed(Shed::RemovedUnread, false, unanswered);
        }
    }
}
