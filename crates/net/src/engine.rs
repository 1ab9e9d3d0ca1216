//! Sockets, shards and threads as one value.
//!
//! Shards outnumber threads, each under its own lock: any thread may receive any datagram, so one
//! busy peer spreads over all of them, and two rarely want the same shard.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use proxy::{
    Block, CallRecord, CallView, Connection, Event, Located, Lookup, Outbox, Probe, Registration, Router, Shard, Time,
};
use sip::Transport;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::hands::{Arrived, Hands, Tally};
use crate::socket::BoundSocket;
use crate::stats::{Counts, Stats};
use crate::stream::{Arrival, BoundStream, Sink, StreamSettings, Streams, Tls};
use crate::worker::Worker;

/// Even an idle shard is fired this often, in microseconds, so that its wheel of timers never has a
/// long way to catch up.
const LONGEST_SLEEP: u64 = 1_000_000;

/// A place to listen at, bound.
#[derive(Debug)]
pub enum Bound {
    /// UDP.
    Udp(BoundSocket),
    /// TCP or TLS, as the listener has it.
    Stream(BoundStream),
}

impl Bound {
    /// The bound address, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        match self {
            Bound::Udp(socket) => socket.local_addr(),
            Bound::Stream(stream) => stream.local_addr(),
        }
    }
}

/// What an [`Engine`] is made of.
pub struct EngineConfig {
    /// Where it listens, in the order of the listeners of `proxy`.
    pub ports: Vec<Bound>,
    /// Threads on each UDP socket, at least one.
    pub threads: usize,
    /// Bounds of the stream connections.
    pub streams: StreamSettings,
    /// Certificates; needed by a TLS listener.
    pub tls: Option<Tls>,
    /// Runs the stream connections.
    pub runtime: Handle,
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
    /// No port, no shard, more than 256 ports, or not one port for each listener.
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

/// A listener as its threads see it.
pub(crate) enum Port {
    Udp(BoundSocket),
    Stream,
}

/// What the threads share.
pub(crate) struct Shared {
    pub ports: Vec<Port>,
    pub streams: OnceLock<Arc<Streams>>,
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
    addresses: Vec<SocketAddr>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the parts do not fit each other, or no thread can be had.
    pub fn start(config: EngineConfig) -> Result<Engine, StartError> {
        let EngineConfig { ports, threads, streams, tls, runtime, proxy, shards, router, clock } = config;
        if ports.is_empty() || ports.len() > 256 {
            return Err(StartError::Config("it needs 1 to 256 ports"));
        }
        if ports.len() != proxy.listeners.len() {
            return Err(StartError::Config("each listener needs its port"));
        }
        if shards.is_empty() || shards.len() > usize::from(u16::MAX) {
            return Err(StartError::Config("it needs 1 to 65,535 shards"));
        }
        let addresses = ports.iter().map(Bound::local_addr).collect();
        let (ports, bound_streams) = split(ports, &proxy);
        let udp = ports.iter().enumerate().filter(|(_, port)| matches!(port, Port::Udp(_)));
        let mut workers: Vec<Option<u8>> =
            udp.flat_map(|(listener, _)| std::iter::repeat_n(Some(listener as u8), threads.max(1))).collect();
        if workers.is_empty() {
            workers.push(None);
        }
        let shared = Arc::new(Shared {
            threads: workers.len(),
            ports,
            streams: OnceLock::new(),
            slots: shards.into_iter().map(Slot::new).collect(),
            proxy,
            router,
            clock,
            stats: Stats::default(),
            stop: AtomicBool::new(false),
        });
        if !bound_streams.is_empty() {
            let sink = Arc::new(StreamSink(Arc::downgrade(&shared)));
            // The cell is empty until here.
            let _ = shared.streams.set(Streams::start(bound_streams, streams, tls, sink, &runtime));
        }
        let engine = Engine { shared, addresses, threads: Mutex::default() };
        for (number, listener) in workers.into_iter().enumerate() {
            let shared = engine.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("sip-{number}"))
                .spawn(move || Worker::new(shared, listener, number).run())
                .map_err(StartError::Thread)?;
            engine.threads.lock().push(thread);
        }
        Ok(engine)
    }

    /// Where it listens, in the order of the listeners.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Sends OPTIONS requests. Their outcomes come as [`proxy::Event::Probed`].
    pub fn probe(&self, probes: &[Probe]) {
        Hands::borrow(&self.shared, |hands| {
            let now = self.shared.clock.now();
            for probe in probes {
                let slot = &self.shared.slots[probe.token as usize % self.shared.slots.len()];
                slot.with(now, &self.shared, &mut hands.out, |shard, now, out| shard.probe(now, probe, out));
            }
        });
    }

    /// The transport of a listener.
    pub fn transport(&self, listener: u8) -> Transport {
        let listener = self.shared.proxy.listeners.get(usize::from(listener));
        listener.map(|listener| listener.transport).unwrap_or_default()
    }

    /// Answers a REGISTER, or drops it. `headers` are lines with their CRLF.
    pub fn reply(&self, registration: &Registration, answer: Option<(u16, &str, &[u8])>) {
        self.input(usize::from(registration.shard), |shard, now, out| {
            shard.reply(now, registration.context, answer, out);
        });
    }

    /// Answers a look-up; an empty list says that the name leads nowhere.
    pub fn located(&self, lookup: &Lookup, places: Vec<Located>) {
        self.input(usize::from(lookup.shard), |shard, now, out| shard.located(now, lookup.id, places, out));
    }

    /// Gives an input to a shard, from any thread.
    fn input(&self, shard: usize, input: impl FnOnce(&mut Shard, Time, &mut Outbox)) {
        let Some(slot) = self.shared.slots.get(shard) else { return };
        Hands::borrow(&self.shared, |hands| {
            slot.with(self.shared.clock.now(), &self.shared, &mut hands.out, input);
        });
    }

    /// The stream connections, where there are such listeners.
    pub fn streams(&self) -> Option<&Arc<Streams>> {
        self.shared.streams.get()
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

    /// The call of this Call-ID, as it stands.
    pub fn call(&self, call_id: &str) -> Option<Box<CallRecord>> {
        let owner = proxy::owner_of_call(call_id, &self.shared.proxy.keys, self.shared.slots.len());
        self.shared.slots[owner].state.lock().shard.call(call_id)
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

    /// Stops the threads and waits for them: a few tens of milliseconds. Calls go on without us; each that stands is told as
    /// ended ([`proxy::Cause::Shutdown`]).
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(streams) = self.shared.streams.get() {
            streams.stop();
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a SIP thread had died of a panic");
            }
        }
        for shard in 0..self.shared.slots.len() {
            self.input(shard, |shard, now, out| shard.leave(now, out));
        }
    }
}

/// Ports as the threads see them, and the streams among them by the index of their listener.
fn split(ports: Vec<Bound>, proxy: &proxy::Config) -> (Vec<Port>, Vec<(u8, BoundStream, Transport)>) {
    let mut streams = Vec::new();
    let listeners = proxy.listeners.iter().map(|listener| listener.transport);
    let port = |(at, (port, transport)): (usize, (Bound, Transport))| match port {
        Bound::Udp(socket) => Port::Udp(socket),
        Bound::Stream(stream) => {
            streams.push((at as u8, stream, transport));
            Port::Stream
        }
    };
    (ports.into_iter().zip(listeners).enumerate().map(port).collect(), streams)
}

/// Takes what comes by stream connections. Holds the engine weakly: it ends with its owner.
struct StreamSink(Weak<Shared>);

impl Sink for StreamSink {
    fn received(&self, arrival: &Arrival, message: &[u8]) {
        let Some(shared) = self.0.upgrade() else { return };
        let mut tally = Tally::default();
        if shared.proxy.blocked.check(arrival.source.ip(), shared.clock.now()) == Some(Block::All) {
            (tally.received, tally.shed) = (1, 1);
            return tally.add_to(&shared);
        }
        let arrived = Arrived {
            listener: arrival.listener,
            source: arrival.source,
            connection: Some(arrival.connection),
            names: Some(&arrival.names).filter(|names| !names.is_empty()),
        };
        Hands::borrow(&shared, |hands| {
            hands.deliver(&shared, shared.clock.now(), &arrived, message, &mut tally);
        });
        tally.add_to(&shared);
    }

    fn unsent(&self, message: &[u8]) {
        let Some(shared) = self.0.upgrade() else { return };
        Hands::borrow(&shared, |hands| hands.returned.push(message));
    }

    fn closed(&self, connection: Connection) {
        if let Some(shared) = self.0.upgrade() {
            shared.router.event(Event::Closed { connection });
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
