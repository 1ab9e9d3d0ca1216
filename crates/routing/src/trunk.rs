//! A trunk as routing sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::Live;

/// What is known of a trunk when a table is built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its `sip_uri`.
    pub sip_uri: String,
    /// Where it resolves to; none while it does not.
    pub addresses: Vec<SocketAddr>,
    /// Lower is tried first.
    pub priority: u32,
    /// Share of load inside one priority, 1 to 10,000.
    pub weight: u32,
    /// Simultaneous calls at most.
    pub max_channels: Option<u32>,
    /// Answers after which the next trunk is tried.
    pub reroute_on: Vec<u16>,
    /// Further addresses of its own calls.
    pub sources: Vec<IpNet>,
    /// Why it gets no calls now; none when it does.
    pub obstacles: Vec<String>,
    /// Why it has no addresses, where it has none.
    pub unreachable: Option<String>,
}

/// A trunk in a [`crate::RouteTable`].
#[derive(Debug)]
pub struct Trunk {
    /// Its id in the registry.
    pub id: Arc<str>,
    /// Where it resolves to.
    pub addresses: Vec<SocketAddr>,
    /// Lower is tried first.
    pub priority: u32,
    /// Share of load inside one priority.
    pub weight: u32,
    /// Simultaneous calls at most.
    pub max_channels: Option<u32>,
    /// Why it gets no calls now.
    pub obstacles: Vec<String>,
    /// Why it has no addresses, where it has none.
    pub unreachable: Option<String>,
    /// User part of its `sip_uri`, taken where a request names none.
    pub user: Option<Box<[u8]>>,
    /// `host[:port]` of its `sip_uri`, as written.
    pub host_port: Box<[u8]>,
    /// URI parameters of its `sip_uri` with the leading `;`, or empty.
    pub uri_params: Box<[u8]>,
    pub(crate) reroute_on: Box<[u16]>,
    pub(crate) sources: Vec<IpNet>,
    pub(crate) live: Arc<Live>,
}

impl Trunk {
    pub(crate) fn new(id: Arc<str>, facts: Facts, live: Arc<Live>) -> Trunk {
        let parts = split(facts.sip_uri.as_bytes());
        Trunk {
            id,
            addresses: facts.addresses,
            priority: facts.priority,
            weight: facts.weight.max(1),
            max_channels: facts.max_channels,
            obstacles: facts.obstacles,
            unreachable: facts.unreachable,
            user: parts.user.map(Into::into),
            host_port: parts.host_port.into(),
            uri_params: parts.params.into(),
            reroute_on: facts.reroute_on.into(),
            sources: facts.sources,
            live,
        }
    }

    /// Counts of this trunk.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Whether the next trunk is tried after this final answer. Busy and declined (486, 600, 603)
    /// and every other 6xx never are: a person has answered (RFC 3261 §21.6).
    pub fn reroutes_on(&self, status: u16) -> bool {
        status < 600 && status != 486 && self.reroute_on.contains(&status)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.max_channels.is_some_and(|max| self.live.active() >= max)
    }

    /// Whether calls may go there, room aside.
    pub fn is_candidate(&self) -> bool {
        self.obstacles.is_empty() && !self.addresses.is_empty()
    }

    /// Why it gets no calls now, limits included; empty when it does.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = self.obstacles.clone();
        reasons.extend(self.reasons_here());
        reasons
    }

    /// The part of [`Self::reasons`] that the router alone knows: reachability and limits.
    pub fn reasons_here(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.addresses.is_empty() {
            reasons.push(self.unreachable.clone().unwrap_or_else(|| "unresolved".to_owned()));
        }
        if let Some(max) = self.max_channels.filter(|_| self.is_full()) {
            reasons.push(format!("full {}/{max}", self.live.active()));
        }
        reasons
    }
}

struct Parts<'a> {
    user: Option<&'a [u8]>,
    host_port: &'a [u8],
    params: &'a [u8],
}

/// The registry has validated the URI (RFC 3261 §19.1); this only cuts it.
fn split(uri: &[u8]) -> Parts<'_> {
    let rest = uri.iter().position(|b| *b == b':').map_or(uri, |colon| &uri[colon + 1..]);
    let (user, rest) = match rest.iter().position(|b| *b == b'@') {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    let rest = rest.split(|b| *b == b'?').next().unwrap_or(rest);
    let end = rest.iter().position(|b| *b == b';').unwrap_or(rest.len());
    Parts { user, host_port: &rest[..end], params: &rest[end..] }
}
