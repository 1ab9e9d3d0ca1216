//! Records of calls: one line of JSON for each, in files that are rotated, and from there to PostgreSQL or a webhook.
//!
//! [`Records::offer`] is called where a call ends and never waits: a bounded queue leads to a thread that writes. The files
//! are the record and the spool at once: each delivery reads them at its own pace and remembers how far it is, so a receiver
//! that is away costs disk and nothing else. A file is removed when it is old enough and every delivery has read it, or at the
//! limit of the disk, counted.

mod authorities;
mod counts;
mod deliver;
mod files;
mod id;
mod index;
mod postgres;
mod queue;
mod record;
mod spool;
mod time;
mod webhook;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

pub use counts::{SinkSnapshot, Snapshot};
pub use deliver::Retry;
pub use postgres::{Address, PostgresSettings, is_table};
pub use record::{Attempt, Cause, Local, Party, Record, SCHEMA, Transport};
pub use webhook::{Secret, Token, Url, WebhookSettings};

use counts::{Counts, Shed, SinkCounts};
use deliver::{Delivery, Sink};
use files::{Files, Rules};
use index::{Cursor, Index};
use queue::Queue;
use writer::Writer;

/// Settings of the records.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the files are.
    pub directory: PathBuf,
    /// A file ends before it is larger, in bytes.
    pub rotate_bytes: u64,
    /// A file ends when it is as old.
    pub rotate_after: Duration,
    /// So many files are kept; 0: any number.
    pub keep_files: usize,
    /// So many bytes of files are kept; what no delivery needs any more goes beyond it.
    pub keep_bytes: u64,
    /// So many bytes of files are kept at most, delivered or not. From three quarters of it undelivered, only answered calls
    /// are still written.
    pub max_bytes: u64,
    /// Records that may wait for the writer.
    pub queue_records: usize,
    /// Bytes that they may take.
    pub queue_bytes: usize,
    /// Delivery to PostgreSQL.
    pub postgres: Option<PostgresSettings>,
    /// Delivery by HTTP.
    pub webhook: Option<WebhookSettings>,
    /// Waits after failed deliveries.
    pub retry: Retry,
    /// A delivery that takes longer has failed.
    pub timeout: Duration,
}

impl Settings {
    /// The defaults, for a directory.
    pub fn new(directory: PathBuf) -> Settings {
        Settings {
            directory,
            rotate_bytes: 64 << 20,
            rotate_after: Duration::from_secs(86_400),
            keep_files: 1000,
            keep_bytes: 1 << 30,
            max_bytes: 4 << 30,
            queue_records: 16_384,
            queue_bytes: 64 << 20,
            postgres: None,
            webhook: None,
            retry: Retry { first: Duration::from_millis(250), most: Duration::from_secs(30) },
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why it cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error("{}: {error}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The system gives no thread, or no random number.
    #[error("{0}")]
    System(String),
    /// The settings of a delivery cannot be used.
    #[error("{0}")]
    Delivery(String),
}

/// The records of calls, while the process runs.
#[derive(Debug)]
pub struct Records {
    queue: Arc<Queue>,
    index: Arc<Index>,
    counts: Arc<Counts>,
    sinks: Vec<(&'static str, Arc<SinkCounts>)>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    deliveries: Vec<JoinHandle<()>>,
}

impl Records {
    /// Makes the directory, finds what is there, and starts the threads. A receiver that is away is no error.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(settings: Settings) -> Result<Records, StartError> {
        let directory = settings.directory.clone();
        let unusable = |error| StartError::Directory { directory: directory.clone(), error };
        let found = files::list(&directory).map_err(unusable)?;
        let sinks = sinks(&settings)?;
        let cursor_file = |name: &str| directory.join(format!("{name}.cursor"));
        let cursors: Vec<Cursor> = sinks.iter().map(|(sink, _)| Cursor::load(&cursor_file(sink.name()))).collect();
        let next = files::next_number(&found, &cursors);
        let index = Arc::new(Index::new(found, cursors));
        let counts = Arc::new(Counts::default());
        let queue = Arc::new(Queue::new(settings.queue_records, settings.queue_bytes));
        let rules = Rules {
            rotate_bytes: settings.rotate_bytes,
            rotate_after: settings.rotate_after,
            keep_files: settings.keep_files,
            keep_bytes: settings.keep_bytes,
            max_bytes: settings.max_bytes,
        };
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| StartError::System(error.to_string()))?;
        let writer = Writer {
            queue: queue.clone(),
            files: Files::new(directory.clone(), rules, index.clone(), next),
            counts: counts.clone(),
            ids: id::Ids::new(u64::from_be_bytes(random)),
            chunk: Writer::chunk(settings.rotate_bytes),
        };
        let records = Records { queue, index, counts, sinks: Vec::new(), threads: Mutex::default() };
        records.run(settings, sinks, writer, cursor_file)
    }

    fn run(
        mut self,
        settings: Settings,
        sinks: Vec<Batched>,
        writer: Writer,
        cursor_file: impl Fn(&str) -> PathBuf,
    ) -> Result<Records, StartError> {
        let threads = self.threads.get_mut();
        threads.writer = Some(spawn("records", move || writer.run())?);
        for (reader, (mut sink, batch)) in sinks.into_iter().enumerate() {
            let name = sink.name();
            let delivery = Delivery {
                reader,
                cursor_file: cursor_file(name),
                index: self.index.clone(),
                counts: Arc::default(),
                all: self.counts.clone(),
                retry: settings.retry,
                batch,
            };
            self.sinks.push((name, delivery.counts.clone()));
            threads.deliveries.push(spawn(name, move || delivery.run(&mut *sink))?);
        }
        Ok(self)
    }

    /// Takes the record of a call that has ended. Never waits; what finds no room is shed and counted, records of
    /// unanswered calls first.
    pub fn offer(&self, record: Record) {
        self.queue.offer(record, &self.counts);
    }

    /// Ends the file that grows: what has been written up to here may be taken away.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// All counters.
    pub fn snapshot(&self) -> Snapshot {
        let (files, bytes) = self.index.size();
        let now = Timestamp::now();
        let sinks = self.sinks.iter().enumerate().map(|(reader, (name, counts))| SinkSnapshot {
            name,
            delivered: counts.delivered.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            backlog: self.index.backlog(reader),
            backlog_seconds: counts.age(now),
        });
        let shed = Shed::ALL.iter().flat_map(|(cause, name)| {
            [true, false].map(|answered| (*name, answered, self.counts.shed_of(*cause, answered)))
        });
        Snapshot {
            written: self.counts.written.load(Relaxed),
            waiting: self.queue.len() as u64,
            write_failures: self.counts.write_failures.load(Relaxed),
            damaged: self.counts.damaged.load(Relaxed),
            shed: shed.collect(),
            files: files as u64,
            bytes,
            sinks: sinks.collect(),
        }
    }

    /// Writes what waits, and gives deliveries `time` to finish; what they have not delivered stays for the next process.
    /// Blocks for as long. Further records are shed.
    pub fn stop(&self, time: Duration) {
        let until = Instant::now() + time;
        self.queue.stop();
        let mut threads = self.threads.lock();
        let Threads { writer, deliveries } = &mut *threads;
        let join = |thread: &mut JoinHandle<()>| {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        if let Some(writer) = writer {
            join(writer);
        }
        self.index.leave(until);
        deliveries.iter_mut().for_each(join);
    }
}

/// A receiver, and how many records it gets at once.
type Batched = (Box<dyn Sink>, usize);

/// The receivers of the settings.
fn sinks(settings: &Settings) -> Result<Vec<Batched>, StartError> {
    let mut sinks: Vec<Batched> = Vec::new();
    if let Some(postgres) = &settings.postgres {
        let sink = postgres::Postgres::new(postgres.clone(), settings.timeout);
        sinks.push((Box::new(sink.map_err(|error| StartError::System(error.to_string()))?), postgres.batch));
    }
    if let Some(webhook) = &settings.webhook {
        let sink = webhook::Webhook::new(webhook.clone(), settings.timeout).map_err(StartError::Delivery)?;
        sinks.push((Box::new(sink), webhook.batch));
    }
    Ok(sinks)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let thread = std::thread::Builder::new().name(format!("{name:.15}"));
    thread.spawn(run).map_err(|error| StartError::System(error.to_string()))
}
