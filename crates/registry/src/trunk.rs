//! The registrant's record.

use std::sync::Arc;

use ipnet::IpNet;
use sip::Transport;

use crate::members::Members;

/// OPTIONS probing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Seconds between probes.
    pub interval_seconds: u32,
    /// Misses in a row until the trunk is down.
    pub fall: u32,
    /// Answers in a row until it is up.
    pub rise: u32,
    /// Codes that prove life; none: any but 503 and 408.
    pub ok_codes: Option<Vec<u16>>,
}

/// A trunk as its registrant describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    /// Its id.
    pub id: Arc<str>,
    /// Where calls go: a `sip:` or `sips:` URI.
    pub sip_uri: Box<str>,
    /// How it is reached.
    pub transport: Transport,
    /// Whether the registrant named the transport, or it follows from the URI.
    pub transport_given: bool,
    /// False drains.
    pub enabled: bool,
    /// Seconds between heartbeats; 0: no lease.
    pub heartbeat_seconds: u32,
    /// Simultaneous calls at most.
    pub max_channels: Option<u32>,
    /// New calls per second at most.
    pub max_cps: Option<f64>,
    /// The set of trunks that share load; none stands for `default`.
    pub group: Option<Box<str>>,
    /// Lower is tried first.
    pub priority: u32,
    /// Share of load inside one priority, 1 to 10,000.
    pub weight: u32,
    /// Addresses of its own calls.
    pub sources: Box<[IpNet]>,
    /// OPTIONS probing.
    pub probe: Option<Box<Probe>>,
    /// Answers after which the next trunk is tried; none stands for 408, 500, 502, 503, 504.
    pub reroute_on: Option<Box<[u16]>>,
    /// Members that the registry does not know.
    pub extra: Members,
}

/// Default of `reroute_on`.
pub const REROUTE_ON: [u16; 5] = [408, 500, 502, 503, 504];
/// Default of `heartbeat_seconds`.
pub const HEARTBEAT_SECONDS: u32 = 30;
/// Default of `weight`.
pub const WEIGHT: u32 = 100;
/// Default of `group`.
pub const GROUP: &str = "default";

impl Trunk {
    /// The group.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GROUP)
    }

    /// The codes after which the next trunk is tried.
    pub fn reroute_on(&self) -> &[u16] {
        self.reroute_on.as_deref().unwrap_or(&REROUTE_ON)
    }

    /// Length of its lease in milliseconds: three heartbeats; none without a lease.
    pub fn lease_ms(&self) -> Option<u64> {
        (self.heartbeat_seconds > 0).then(|| u64::from(self.heartbeat_seconds) * 3000)
    }
}
