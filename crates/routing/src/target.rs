//! The places that a trunk is reached at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sip::Transport;

use crate::TlsPeer;

/// One place that a trunk resolves to (RFC 3263 §4), or that it registered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Lower is tried first (RFC 2782).
    pub priority: u32,
    /// Share of load inside one priority; 0 is the least.
    pub weight: u16,
    /// The connection that it registered by.
    pub connection: Option<u64>,
    /// Whether it is reached there alone, whatever its Contact says: it registered from behind a NAT, or by a connection.
    pub only: bool,
    /// How it is verified, over TLS.
    pub tls: Option<Arc<TlsPeer>>,
}

impl Place {
    /// A place as an address alone has it.
    pub fn udp(address: SocketAddr) -> Place {
        Place { address, transport: Transport::Udp, priority: 0, weight: 0, connection: None, only: false, tls: None }
    }

    /// Whether evidence about one is evidence about the other.
    pub fn is_same(&self, other: &Place) -> bool {
        (self.address, self.transport, self.connection) == (other.address, other.transport, other.connection)
    }
}

/// A place and its verdict.
#[derive(Debug)]
pub struct Target {
    /// The place.
    pub place: Place,
    /// Its verdict, shared by all tables that know it.
    pub live: Arc<TargetLive>,
}

/// What is known of a target now; written by whoever judges, read by every decision.
#[derive(Debug)]
pub struct TargetLive {
    serial: u32,
    usable: AtomicBool,
    watched: AtomicBool,
}

impl TargetLive {
    pub(crate) fn new(serial: u32) -> TargetLive {
        TargetLive { serial, usable: AtomicBool::new(true), watched: AtomicBool::new(false) }
    }

    /// A number that no other target of this process has.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether calls may go there.
    pub fn is_usable(&self) -> bool {
        self.usable.load(Relaxed)
    }

    /// Says whether calls may go there.
    pub fn set_usable(&self, usable: bool) {
        self.usable.store(usable, Relaxed);
    }

    /// Whether the judge wants to hear of answers too: something speaks against it.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Relaxed)
    }

    /// Asks to hear of answers, or no longer.
    pub fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Relaxed);
    }
}
