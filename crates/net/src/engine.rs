//! Sockets, shards and threads as one value.
//!
//! Shards outnumber threads, each under its own lock: any thread may receive any datagram, so one
//! busy peer spreads over all of them, and two rarely want the same shard.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use proxy::{CallView, Router, Shard, Time};

use crate::clock::Clock;
use crate::socket::BoundSocket;
use crate::stats::{Counts, Stats};
use crate::worker::Worker;

/// Even an idle shard is fired this often, in microseconds, so that its wheel of timers never has a
/// long way to catch up.
const LONGEST_SLEEP: u64 = 1_000_000;

/// What an [`Engine`] is made of.
pub struct EngineConfig {
    /// The sockets, in the order of the listeners of `proxy`.
    pub sockets: Vec<BoundSocket>,
    /// Threads on each socket, at least one.
    pub threads: usize,
    /// Settings that the shards share.
    pub proxy: Arc<proxy::Config>,
    /// The shards, each made with its place in this list; two to eight per thread.
    pub shards: Vec<Shard>,
    /// Answers the questions of the shards. Called with a shard locked: must not block, nor call the engine.
    pub router: Arc<dyn Router>,
    /// The clock of the shards.
    pub clock: Clock,
}

/// Why an engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// No socket, no shard, more than 256 sockets, or not one socket for each listener.
    Config(&'static str),
    /// The system gave no thread.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(what) => write!(f, "the SIP engine cannot start: {what}"),
            StartError::Thread(error) => write!(f, "the SIP engine cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A shard and its lock.
pub(crate) struct Slot {
    pub state: Mutex<SlotState>,
    /// When its timers are due, in microseconds; read without the lock.
    next: AtomicU64,
}

pub(crate) struct SlotState {
    pub shard: Shard,
    /// The latest time that it was given: a shard's time never runs backwards.
    pub latest: Time,
}

impl Slot {
    fn new(shard: Shard) -> Slot {
        Slot { state: Mutex::new(SlotState { shard, latest: Time::default() }), next: AtomicU64::new(0) }
    }

    pub fn is_due(&self, now: Time) -> bool {
        self.next.load(Relaxed) <= now.0
    }

    /// Called under the lock, after each input.
    pub fn note_timeout(&self, now: Time, next: Option<Time>) {
        let longest = now.0.saturating_add(LONGEST_SLEEP);
        self.next.store(next.map_or(longest, |next| next.0.min(longest)), Relaxed);
    }
}

/// What the threads share.
pub(crate) struct Shared {
    pub sockets: Vec<BoundSocket>,
    pub slots: Vec<Slot>,
    pub proxy: Arc<proxy::Config>,
    pub router: Arc<dyn Router>,
    pub clock: Clock,
    /// Threads of all sockets together.
    pub threads: usize,
    pub stats: Stats,
    pub stop: AtomicBool,
}

/// The running SIP side of the process. Dropping it stops it.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the parts do not fit each other, or no thread can be had.
    pub fn start(config: EngineConfig) -> Result<Engine, StartError> {
        let EngineConfig { sockets, threads, proxy, shards, router, clock } = config;
        if sockets.is_empty() || sockets.len() > 256 {
            return Err(StartError::Config("it needs 1 to 256 sockets"));
        }
        if sockets.len() != proxy.listeners.len() {
            return Err(StartError::Config("each listener needs its socket"));
        }
        if shards.is_empty() || shards.len() > usize::from(u16::MAX) {
            return Err(StartError::Config("it needs 1 to 65,535 shards"));
        }
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            threads: threads * sockets.len(),
            sockets,
            slots: shards.into_iter().map(Slot::new).collect(),
            proxy,
            router,
            clock,
            stats: Stats::default(),
            stop: AtomicBool::new(false),
        });
        let engine = Engine { shared, threads: Mutex::default() };
        for number in 0..engine.shared.threads {
            let shared = engine.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("sip-{number}"))
                .spawn(move || Worker::new(shared, number / threads, number).run())
                .map_err(StartError::Thread)?;
            engine.threads.lock().push(thread);
        }
        Ok(engine)
    }

    /// Where it listens, in the order of the listeners.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.shared.sockets.iter().map(BoundSocket::local_addr).collect()
    }

    /// The clock of the shards: tells what [`CallView::since`] means.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Counters since the start.
    pub fn stats(&self) -> Counts {
        self.shared.stats.read()
    }

    /// Standing calls, in no order. Locks one shard at a time, so a call may begin or end meanwhile.
    pub fn calls(&self) -> Vec<CallView> {
        self.shared.slots.iter().flat_map(|slot| slot.state.lock().shard.calls()).collect()
    }

    /// Server transactions held, those that only wait for late repeats too.
    pub fn transactions(&self) -> usize {
        self.shared.slots.iter().map(|slot| slot.state.lock().shard.transactions()).sum()
    }

    /// Server transactions without a final answer: what a draining process waits for.
    pub fn undecided(&self) -> usize {
        self.shared.slots.iter().map(|slot| slot.state.lock().shard.undecided()).sum()
    }

    /// Whether every thread runs. False after [`Self::stop`], or when one has died of a defect.
    pub fn is_running(&self) -> bool {
        let threads = self.threads.lock();
        !threads.is_empty() && threads.iter().all(|thread| !thread.is_finished())
    }

    /// Stops the threads and waits for them: a few tens of milliseconds. Calls stand, unattended.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a SIP thread had died of a panic");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("listeners", &self.local_addresses()).finish_non_exhaustive()
    }
}
