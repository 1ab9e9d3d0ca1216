//! Settings of the engine, the same for all shards.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sip::Transport;

use crate::{Hop, Keys, Time};

/// An address we listen on.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The bound address.
    pub address: SocketAddr,
    /// Its transport.
    pub transport: Transport,
    /// `host[:port]` for our Via and Record-Route.
    pub advertised: String,
}

/// Settings of the engine. Durations are in milliseconds.
#[derive(Debug)]
pub struct Config {
    /// Addresses we listen on; at most 256.
    pub listeners: Vec<Listener>,
    /// Secrets.
    pub keys: Keys,
    /// RFC 3261 table 4: estimate of the round trip.
    pub t1: u64,
    /// RFC 3261 table 4: longest interval of retransmissions.
    pub t2: u64,
    /// RFC 3261 table 4: longest life of a message in the network.
    pub t4: u64,
    /// An attempt without any answer is given up after this time.
    pub setup_timeout: u64,
    /// An attempt without a final answer is given up this long after its first 101 to 199.
    pub ring_timeout: u64,
    /// Timer C: above three minutes (RFC 3261 §16.6 step 11).
    pub timer_c: u64,
    /// A call that shows no life by session timer (RFC 4028) is given back after this time.
    pub max_call: u64,
    /// Our own 100 is sent this long after the INVITE, unless an answer came first; below the 200 ms of
    /// RFC 3261 §17.2.1.
    pub trying_delay: u64,
    /// Whether the next trunk may be tried after ringing has begun.
    pub reroute_after_ringing: bool,
    /// `Retry-After` of our own 503, in seconds.
    pub retry_after: u32,
    /// Most transactions that one shard holds; new requests beyond them are answered 503. Requests inside dialogs
    /// may make them twice as many, so that standing calls can end.
    pub max_transactions: usize,
    /// Session-Expires that is put into an INVITE without one, in seconds; 0: none is (RFC 4028 §8.1).
    pub session_expires: u32,
    /// Max-Breadth of requests that have none (RFC 5393 §5.3.3).
    pub max_breadth: u32,
    /// Whether REGISTER is served.
    pub registers: AtomicBool,
    /// Set to take no new calls.
    pub draining: AtomicBool,
    /// Most INVITEs that wait for their ACK, and calls that stand, of one source; beyond them it is left alone for a second.
    pub max_of_source: usize,
    /// Bounds our answers to unknown sources.
    pub gate: Gate,
    /// Sources whose messages are dropped before they are read.
    pub blocked: Blocked,
}

impl Config {
    /// The defaults of the documentation.
    pub fn new(listeners: Vec<Listener>, keys: Keys) -> Config {
        Config {
            listeners,
            keys,
            t1: 500,
            t2: 4000,
            t4: 5000,
            setup_timeout: 4000,
            ring_timeout: 180_000,
            timer_c: 185_000,
            max_call: 4 * 3600 * 1000,
            trying_delay: 100,
            reroute_after_ringing: false,
            retry_after: 5,
            max_transactions: 200_000,
            session_expires: 1800,
            max_breadth: 60,
            registers: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            max_of_source: usize::MAX,
            gate: Gate::default(),
            blocked: Blocked::default(),
        }
    }

    /// When anything but INVITE is owed a 100, in milliseconds after it came: once its sender's timer E has grown to T2, and
    /// over UDP no earlier (RFC 4320 §4.1).
    pub(crate) fn late_trying(&self) -> u64 {
        let (mut after, mut interval) = (0, self.t1.max(1));
        while interval < self.t2 {
            after += interval;
            interval *= 2;
        }
        after
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(crate) fn serves_register(&self) -> bool {
        self.registers.load(Relaxed)
    }

    pub(crate) fn transport(&self, listener: u8) -> Transport {
        self.listeners.get(usize::from(listener)).map(|listener| listener.transport).unwrap_or_default()
    }

    pub(crate) fn is_reliable(&self, hop: &Hop) -> bool {
        self.transport(hop.listener).is_reliable()
    }

    /// Whether a URI's `host[:port]` is one of our own addresses.
    pub(crate) fn is_us(&self, uri: &sip::Uri<'_>) -> bool {
        let port = uri.port.unwrap_or(uri.transport().default_port());
        self.listeners.iter().any(|listener| {
            let bound = match uri.host {
                sip::Host::Name(_) => false,
                sip::Host::Ip(ip) => {
                    let own = listener.address.ip();
                    listener.address.port() == port && (own == ip || (own.is_unspecified() && ip.is_loopback()))
                }
            };
            bound || {
                let (name, advertised_port) = split_port(&listener.advertised, listener.transport);
                port == advertised_port && name.as_bytes().eq_ignore_ascii_case(uri.host_bytes)
            }
        })
    }

    /// The listener to send from: the one the request came in by if it can.
    pub fn listener_towards(&self, destination: SocketAddr, transport: Transport, preferred: u8) -> Option<u8> {
        let family = |listener: &Listener| {
            listener.transport == transport && listener.address.is_ipv4() == destination.is_ipv4()
        };
        let fits = |listener: &Listener| {
            family(listener) && (!listener.address.ip().is_loopback() || destination.ip().is_loopback())
        };
        if self.listeners.get(usize::from(preferred)).is_some_and(fits) {
            return Some(preferred);
        }
        let at = self.listeners.iter().position(fits).or_else(|| self.listeners.iter().position(family))?;
        Some(at as u8)
    }
}

fn split_port(advertised: &str, transport: Transport) -> (&str, u16) {
    let usual = transport.default_port();
    match advertised.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.ends_with(']') => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => (advertised, usual),
        },
        _ => (advertised, usual),
    }
}

/// What is dropped of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Everything.
    All,
    /// REGISTER alone: it failed too often.
    Register,
}

/// Sources that are left alone for a while. Costs one atomic read while there are none.
#[derive(Debug, Default)]
pub struct Blocked {
    any: AtomicBool,
    sources: Mutex<HashMap<IpAddr, (Block, Time)>>,
}

impl Blocked {
    /// Leaves a source alone until then. Where too many are blocked already the new one is not.
    pub fn block(&self, source: IpAddr, what: Block, until: Time, now: Time) {
        let Ok(mut sources) = self.sources.lock() else { return };
        if sources.len() >= REMEMBERED {
            sources.retain(|_, (_, until)| now < *until);
            if sources.len() >= REMEMBERED {
                return;
            }
        }
        sources.insert(source, (what, until));
        self.any.store(true, Relaxed);
    }

    /// What is dropped of a source now.
    pub fn check(&self, source: IpAddr, now: Time) -> Option<Block> {
        if !self.any.load(Relaxed) {
            return None;
        }
        let mut sources = self.sources.lock().ok()?;
        let (what, until) = *sources.get(&source)?;
        if now < until {
            return Some(what);
        }
        sources.remove(&source);
        self.any.store(!sources.is_empty(), Relaxed);
        None
    }
}

/// Lets each unknown source have one answer a second, then silence.
#[derive(Debug, Default)]
pub struct Gate(Mutex<HashMap<IpAddr, Time>>);

/// Sources remembered; while so many were refused within a second, further ones get silence.
const REMEMBERED: usize = 4096;

impl Gate {
    pub(crate) fn opens(&self, source: IpAddr, now: Time) -> bool {
        let Ok(mut last) = self.0.lock() else { return false };
        if last.get(&source).is_some_and(|at| now < at.plus_millis(1000)) {
            return false;
        }
        if last.len() >= REMEMBERED {
            last.retain(|_, at| now < at.plus_millis(1000));
            if last.len() >= REMEMBERED {
                return false;
            }
        }
        last.insert(source, now);
        true
    }
}
