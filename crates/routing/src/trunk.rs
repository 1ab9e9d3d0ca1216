//! A trunk as routing sees it.

use std::sync::Arc;

use ipnet::IpNet;

use crate::{Live, Place, Target, rule};

/// What is known of a trunk when a table is built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its `sip_uri`.
    pub sip_uri: String,
    /// The set of trunks that it shares load with.
    pub group: Arc<str>,
    /// Where it is reached; none while its name does not resolve.
    pub places: Vec<Place>,
    /// Lower is tried first.
    pub priority: u32,
    /// Share of load inside one priority, 1 to 10,000.
    pub weight: u32,
    /// Simultaneous calls at most.
    pub max_channels: Option<u32>,
    /// New calls per second at most.
    pub max_cps: Option<f64>,
    /// Answers after which the next trunk is tried.
    pub reroute_on: Vec<u16>,
    /// Q.850 causes of a Reason header after which the next trunk is tried (RFC 3326).
    pub reroute_causes: Vec<u8>,
    /// Identities that it asserts, and that are asserted to it, pass (RFC 3325).
    pub trusted: bool,
    /// Large requests go to it by TCP where it is reached by UDP (RFC 3261 §18.1.1).
    pub large_over_tcp: bool,
    /// Further addresses of its own calls.
    pub sources: Vec<IpNet>,
    /// URI of From in probes; none: our own address.
    pub probe_from: Option<String>,
    /// `host[:port]` of the Request-URI of probes; none: that of the trunk.
    pub probe_host: Option<String>,
    /// A name that certificates of its own calls hold, in lower case.
    pub certificate_name: Option<String>,
    /// Why it gets no calls now, whatever else; none when it does.
    pub obstacles: Vec<String>,
    /// What speaks against it, unless all trunks are in such trouble: probes, calls, flapping.
    pub doubts: Vec<String>,
    /// Likewise, but it asked for it, or is to recover: an emergency call goes there nevertheless.
    pub rests: Vec<String>,
    /// Why it has no addresses, where it has none.
    pub unreachable: Option<String>,
    /// Its places are past their time: the name servers have not answered since.
    pub stale: bool,
}

/// A trunk in a [`crate::RouteTable`].
#[derive(Debug)]
pub struct Trunk {
    /// Its id in the registry.
    pub id: Arc<str>,
    /// Where it is reached.
    pub targets: Vec<Target>,
    /// What is known of it.
    pub facts: Facts,
    /// User part of its `sip_uri`, taken where a request names none.
    pub user: Option<Box<[u8]>>,
    /// `host[:port]` of its `sip_uri`, as written.
    pub host_port: Box<[u8]>,
    /// URI parameters of its `sip_uri` with the leading `;`, or empty.
    pub uri_params: Box<[u8]>,
    /// Words of the obstacles, of the doubts and of the rests, where there are any, and of why it has no targets.
    pub(crate) obstacle: Option<Arc<str>>,
    pub(crate) doubt: Option<Arc<str>>,
    pub(crate) rest: Option<Arc<str>>,
    pub(crate) unreachable: Option<Arc<str>>,
    pub(crate) live: Arc<Live>,
}

impl Trunk {
    pub(crate) fn new(id: Arc<str>, facts: Facts, live: Arc<Live>, targets: Vec<Target>) -> Trunk {
        let parts = split(facts.sip_uri.as_bytes());
        let words = |reasons: &[String]| (!reasons.is_empty()).then(|| Arc::from(reasons.join(", ")));
        Trunk {
            id,
            targets,
            user: parts.user.map(Into::into),
            host_port: parts.host_port.into(),
            uri_params: parts.params.into(),
            obstacle: words(&facts.obstacles),
            doubt: words(&facts.doubts),
            rest: words(&facts.rests),
            unreachable: facts.unreachable.as_deref().map(Arc::from),
            facts,
            live,
        }
    }

    /// Counts of this trunk.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Whether its `sip_uri` is a `sips:` URI.
    pub fn is_secure(&self) -> bool {
        self.facts.sip_uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"))
    }

    /// The host of its `sip_uri`, without port.
    pub fn host(&self) -> &[u8] {
        sip::Uri::parse(self.facts.sip_uri.as_bytes()).map(|uri| uri.host_bytes).unwrap_or_default()
    }

    pub(crate) fn weight(&self) -> u32 {
        self.facts.weight.max(1)
    }

    /// Whether the next trunk is tried after this final answer, or after one with this Q.850 cause. Busy and declined
    /// (486, 600, 603) and every other 6xx never are: a person has answered (RFC 3261 §21.6).
    pub fn reroutes_on(&self, status: u16, cause: Option<u8>) -> bool {
        rule::may_reroute(status) && rule::listed(&self.facts.reroute_on, &self.facts.reroute_causes, status, cause)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.facts.max_channels.is_some_and(|max| self.live.active() >= max)
    }

    pub(crate) fn is_at_rate(&self, now: u64) -> bool {
        self.facts.max_cps.is_some() && !self.live.rate.has_room(now)
    }

    /// Whether calls may go there, doubts and room aside.
    pub fn is_candidate(&self) -> bool {
        self.facts.obstacles.is_empty() && !self.targets.is_empty()
    }

    /// Whether no doubt speaks against it.
    pub(crate) fn is_well(&self) -> bool {
        self.doubt.is_none() && self.rest.is_none() && self.live.gate().is_open() && self.is_open(0)
    }

    /// Whether nothing that happened since the table was built keeps a call away now, room aside; `now` is in microseconds of the router's clock. A trunk on trial (its gate is
    /// ajar) is not well, but gets a call now and then.
    pub(crate) fn is_open(&self, now: u64) -> bool {
        self.live.gate().passes(now / 1000)
            && !self.live.is_resting()
            && self.targets.iter().any(|target| target.live.is_usable())
    }

    /// Why it gets no calls now, limits included; empty when it does.
    pub fn reasons(&self, now: u64) -> Vec<String> {
        let mut reasons = self.facts.obstacles.clone();
        reasons.extend(self.facts.doubts.iter().chain(&self.facts.rests).cloned());
        reasons.extend(self.reasons_here(now));
        reasons
    }

    /// The part of [`Self::reasons`] that the router alone knows: reachability, its guard and limits. `now` is in microseconds of the
    /// router's clock.
    pub fn reasons_here(&self, now: u64) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.targets.is_empty()
            && let Some(why) = &self.facts.unreachable
        {
            reasons.push(why.clone());
        }
        if let Some(why) = self.live.gate().reason(now / 1000) {
            reasons.push(why.to_string());
        }
        if let Some(max) = self.facts.max_channels.filter(|_| self.is_full()) {
            reasons.push(format!("full {}/{max}", self.live.active()));
        }
        if let Some(rate) = self.facts.max_cps.filter(|_| self.is_at_rate(now)) {
            reasons.push(format!("rate {rate}/s"));
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
