//! A delivery: reads the files and hands what stands there to a receiver, at least once, in order, each on a thread of its own.
//!
//! Its cursor moves only after the receiver has said yes, so whatever ends a delivery, a process or a receiver, the next try
//! begins with what was not taken. Its memory is one batch.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::counts::{Counts, SinkCounts};
use crate::files::count_lines;
use crate::index::{Cursor, Index, Step};
use crate::spool::{Batch, Line, Spool};

/// A receiver.
pub trait Sink: Send {
    /// Its name in metrics, log and the file of its cursor.
    fn name(&self) -> &'static str;

    /// Hands lines over; returns when the receiver has them for good.
    ///
    /// # Errors
    /// Why it has not taken them; then it may have taken some of them.
    fn send(&mut self, lines: &[Line]) -> Result<(), Failure>;
}

/// Why a receiver has not taken lines, in words.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Whatever it had been sent: it is tried again.
    Away(String),
    /// Something in these lines.
    Refused(String),
}

/// How long a delivery waits after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After the first one; each further one doubles it.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

/// A delivery before it runs.
pub struct Delivery {
    /// Its place among the cursors of the index.
    pub reader: usize,
    /// Where its cursor is kept.
    pub cursor_file: PathBuf,
    /// What there is to read.
    pub index: Arc<Index>,
    /// Its counters.
    pub counts: Arc<SinkCounts>,
    /// Counters of all.
    pub all: Arc<Counts>,
    /// Waits after failures.
    pub retry: Retry,
    /// Records in a batch at most.
    pub batch: usize,
}

impl Delivery {
    /// Delivers until the index says that it is over.
    pub fn run(&self, sink: &mut dyn Sink) {
        let mut spool = Spool::new(self.index.clone());
        let mut cursor = self.index.cursor(self.reader);
        self.count_backlog(cursor);
        let mut wait = Wait { retry: self.retry, next: self.retry.first, failed: false };
        while self.index.wait(cursor) {
            let batch = match spool.read(cursor, self.batch) {
                Ok(batch) => batch,
                Err(error) => {
                    if !self.fail(sink.name(), &mut wait, &format!("the files cannot be read: {error}")) {
                        return;
                    }
                    continue;
                }
            };
            self.counts.oldest.store(batch.lines.first().map_or(0, |line| line.ended_at.as_millisecond()), Relaxed);
            match self.hand_over(sink, &batch, &mut wait) {
                Outcome::Done => {}
                Outcome::Again => continue,
                Outcome::Leave => return,
            }
            self.all.damaged.fetch_add(batch.damaged, Relaxed);
            if batch.end != cursor {
                cursor = batch.end;
                self.keep(sink.name(), cursor);
            }
            if self.index.step(cursor) == Step::Wait {
                self.counts.oldest.store(0, Relaxed);
            }
        }
    }

    /// Tries one and the same batch until it is taken, so that the receiver may know it by its name.
    fn hand_over(&self, sink: &mut dyn Sink, batch: &Batch, wait: &mut Wait) -> Outcome {
        if batch.lines.is_empty() {
            return Outcome::Done;
        }
        loop {
            let failure = match self.send(sink, &batch.lines) {
                Ok(refused) => {
                    self.counts.delivered.fetch_add(batch.lines.len() as u64 - refused, Relaxed);
                    self.counts.refused.fetch_add(refused, Relaxed);
                    if wait.failed {
                        info!(sink = sink.name(), "call records are delivered again");
                    }
                    *wait = Wait { next: self.retry.first, failed: false, ..*wait };
                    return Outcome::Done;
                }
                Err(failure) => failure,
            };
            let (again, why) = match failure {
                Failure::Away(why) => (false, why),
                Failure::Refused(why) => (true, why),
            };
            if !self.fail(sink.name(), wait, &why) {
                return Outcome::Leave;
            }
            if again {
                return Outcome::Again;
            }
        }
    }

    /// Sends lines together, or, where the receiver refuses them, each alone: what it refuses while it takes others is passed
    /// over and counted. A receiver that refuses everything is no judge of records.
    fn send(&self, sink: &mut dyn Sink, lines: &[Line]) -> Result<u64, Failure> {
        let why = match sink.send(lines) {
            Ok(()) => return Ok(0),
            Err(Failure::Refused(why)) if lines.len() > 1 => why,
            Err(failure) => return Err(failure),
        };
        let mut refused = Vec::new();
        for line in lines {
            match sink.send(std::slice::from_ref(line)) {
                Ok(()) => {}
                Err(Failure::Refused(why)) => refused.push((&line.id, why)),
                Err(away) => return Err(away),
            }
            if self.index.is_over() {
                return Err(Failure::Away("the process leaves".into()));
            }
        }
        if refused.len() == lines.len() {
            return Err(Failure::Refused(why));
        }
        for (id, why) in &refused {
            warn!(sink = sink.name(), id, why, "a call record was refused by its receiver, and is passed over");
        }
        Ok(refused.len() as u64)
    }

    /// Counts a failure and waits it out: false where it is time to leave.
    fn fail(&self, name: &'static str, wait: &mut Wait, why: &str) -> bool {
        self.counts.failures.fetch_add(1, Relaxed);
        if wait.failed {
            debug!(sink = name, why, "call records still wait");
        } else {
            warn!(sink = name, why, "call records are not taken, and wait in their files");
        }
        wait.failed = true;
        let time = wait.next;
        wait.next = (wait.next * 2).min(wait.retry.most);
        self.index.pause(time)
    }

    fn keep(&self, name: &'static str, cursor: Cursor) {
        if let Err(error) = cursor.save(&self.cursor_file) {
            warn!(sink = name, %error, "what was delivered cannot be noted, and may be delivered again");
        }
        self.index.advance(self.reader, cursor);
    }

    /// Files of earlier processes have never been counted.
    fn count_backlog(&self, from: Cursor) {
        for entry in self.index.uncounted(from) {
            if let Ok(lines) = count_lines(&entry.path) {
                self.index.counted(entry.number, lines);
            }
        }
    }
}

enum Outcome {
    Done,
    /// Read again, with what has come meanwhile.
    Again,
    Leave,
}

struct Wait {
    retry: Retry,
    next: Duration,
    failed: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;

    use super::*;
    use crate::files::{self, Files, Rules};

    /// A receiver that refuses some ids, and is away at first.
    #[derive(Default)]
    struct Receiver {
        away: usize,
        refuses: Vec<&'static str>,
        batches: Vec<Vec<String>>,
    }

    impl Sink for Receiver {
        fn name(&self) -> &'static str {
            "test"
        }

        fn send(&mut self, lines: &[Line]) -> Result<(), Failure> {
            if self.away > 0 {
                self.away -= 1;
                return Err(Failure::Away("away".into()));
            }
            if lines.iter().any(|line| self.refuses.contains(&line.id.as_str())) {
                return Err(Failure::Refused("no".into()));
            }
            self.batches.push(lines.iter().map(|line| line.id.clone()).collect());
            Ok(())
        }
    }

    struct House {
        dir: tempfile::TempDir,
        delivery: Delivery,
        files: Files,
    }

    fn house(dir: tempfile::TempDir, rotate_bytes: u64) -> House {
        let cursor_file = dir.path().join("test.cursor");
        let cursors = vec![Cursor::load(&cursor_file)];
        let found = files::list(dir.path()).unwrap();
        let next = files::next_number(&found, &cursors);
        let index = Arc::new(Index::new(found, cursors));
        let rules = Rules {
            rotate_bytes,
            rotate_after: Duration::from_secs(3600),
            keep_files: 0,
            keep_bytes: 1 << 30,
            max_bytes: 1 << 30,
        };
        let files = Files::new(dir.path().to_owned(), rules, index.clone(), next);
        let retry = Retry { first: Duration::ZERO, most: Duration::from_millis(1) };
        let (counts, all) = Default::default();
        House { dir, delivery: Delivery { reader: 0, cursor_file, index, counts, all, retry, batch: 3 }, files }
    }

    impl House {
        fn append(&mut self, id: &str) {
            self.raw(&format!("{{\"id\":\"{id}\",\"ended_at\":\"2026-01-31T12:00:00.000Z\"}}\n"));
        }

        fn raw(&mut self, line: &str) {
            self.files.append(line.as_bytes(), 1, Timestamp::UNIX_EPOCH).unwrap();
        }

        /// Delivers all that is there, as at a stop.
        fn deliver(&self, receiver: &mut Receiver) {
            self.delivery.index.leave(Instant::now() + Duration::from_secs(60));
            self.delivery.run(receiver);
        }

        fn counts(&self) -> (u64, u64, u64, u64) {
            let counts = &self.delivery.counts;
            let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
            let backlog = self.delivery.index.backlog(0);
            (of(&counts.delivered), of(&counts.refused), of(&counts.failures), backlog)
        }
    }

    #[test]
    fn records_come_in_order_and_in_batches_and_the_next_process_goes_on() {
        let mut h = house(tempfile::tempdir().unwrap(), 220);
        for id in ["a", "b", "c", "d", "e"] {
            h.append(id);
        }
        let mut receiver = Receiver::default();
        h.deliver(&mut receiver);
        assert_eq!(receiver.batches.concat(), ["a", "b", "c", "d", "e"]);
        assert!(receiver.batches.iter().all(|batch| batch.len() <= 3));
        assert_eq!(h.counts(), (5, 0, 0, 0));
        h.append("f");
        assert_eq!(h.counts(), (5, 0, 0, 1));

        let mut h = house(h.dir, 220);
        h.append("g");
        let mut receiver = Receiver::default();
        h.deliver(&mut receiver);
        assert_eq!(receiver.batches.concat(), ["f", "g"]);
        assert_eq!(h.counts(), (2, 0, 0, 0));
    }

    #[test]
    fn lines_that_are_no_records_are_passed_over() {
        let mut h = house(tempfile::tempdir().unwrap(), 1 << 30);
        h.append("a");
        for line in ["{\"half\":\n", "\0\0\n", "\n", &format!("\"{}\"\n", "x".repeat(3 << 20))] {
            h.raw(line);
        }
        h.append("b");
        let mut receiver = Receiver::default();
        h.deliver(&mut receiver);
        assert_eq!(receiver.batches.concat(), ["a", "b"]);
        assert!(h.delivery.all.damaged.load(Relaxed) >= 4);
    }

    #[test]
    fn a_receiver_that_is_away_is_tried_again_with_the_same_batch() {
        let mut h = house(tempfile::tempdir().unwrap(), 1 << 30);
        for id in ["a", "b", "c", "d"] {
            h.append(id);
        }
        let (delivery, mut receiver) = (&h.delivery, Receiver { away: 5, ..Receiver::default() });
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                delivery.run(&mut receiver);
                receiver.batches
            });
            while delivery.counts.delivered.load(Relaxed) < 4 {
                std::thread::sleep(Duration::from_millis(1));
            }
            delivery.index.leave(Instant::now());
            assert_eq!(running.join().unwrap(), [vec!["a", "b", "c"], vec!["d"]]);
        });
        assert_eq!(h.counts(), (4, 0, 5, 0));
    }

    #[test]
    fn a_receiver_that_is_away_keeps_nobody_from_leaving() {
        let mut h = house(tempfile::tempdir().unwrap(), 1 << 30);
        h.append("a");
        h.deliver(&mut Receiver { away: usize::MAX, ..Receiver::default() });
        assert_eq!(h.counts(), (0, 0, 1, 1));
    }

    #[test]
    fn a_record_that_is_refused_while_others_are_taken_is_passed_over() {
        let mut h = house(tempfile::tempdir().unwrap(), 1 << 30);
        for id in ["a", "bad", "b", "c"] {
            h.append(id);
        }
        let mut receiver = Receiver { refuses: vec!["bad"], ..Receiver::default() };
        h.deliver(&mut receiver);
        assert_eq!(receiver.batches.concat(), ["a", "b", "c"]);
        assert_eq!(h.counts(), (3, 1, 0, 0));
    }

    #[test]
    fn a_receiver_that_refuses_everything_loses_nothing() {
        let mut h = house(tempfile::tempdir().unwrap(), 1 << 30);
        h.append("a");
        h.append("b");
        h.deliver(&mut Receiver { refuses: vec!["a", "b"], ..Receiver::default() });
        assert_eq!(h.counts(), (0, 0, 1, 2));
    }

    #[test]
    fn a_damaged_cursor_begins_anew() {
        let mut h = house(tempfile::tempdir().unwrap(), 1 << 30);
        h.append("a");
        h.deliver(&mut Receiver::default());
        std::fs::write(&h.delivery.cursor_file, "{").unwrap();
        let h = house(h.dir, 1 << 30);
        let mut receiver = Receiver::default();
        h.deliver(&mut receiver);
        assert_eq!(receiver.batches.concat(), ["a"], "at least once");
    }
}
