//! The registrant's record.

use std::sync::Arc;

use ipnet::IpNet;
use registrar::Ha1;
use sip::Transport;

use crate::members::Members;
use crate::routes::Labels;

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
    /// URI of From; none: the router's own address.
    pub from: Option<Box<str>>,
    /// `host[:port]` of the Request-URI; none: that of the trunk.
    pub host: Option<Box<str>>,
}

/// How its certificate is verified, and what it is shown. Names of the files that the operator has put on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The name that its certificate must hold; none: the host of `sip_uri`.
    pub verify_name: Option<Box<str>>,
    /// Who must have signed it.
    pub authority: Option<Box<str>>,
    /// Our certificate towards it.
    pub certificate: Option<Box<str>>,
}

impl Probe {
    /// Sets the members that are there only where they were given.
    pub(crate) fn add_optional(&self, value: &mut serde_json::Value) {
        if let Some(codes) = &self.ok_codes {
            value["ok_codes"] = codes.clone().into();
        }
        for (name, text) in [("from", &self.from), ("host", &self.host)] {
            if let Some(text) = text {
                value[name] = (&**text).into();
            }
        }
    }
}

impl Tls {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let members =
            [("verify_name", &self.verify_name), ("authority", &self.authority), ("certificate", &self.certificate)];
        let given = members.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())));
        serde_json::Value::Object(given.collect())
    }
}

/// It registers by SIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Username of its digests.
    pub username: Box<str>,
    /// What is kept of its password.
    pub ha1: Ha1,
}

/// After which answers the next trunk is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reroute {
    /// Status codes.
    pub codes: Vec<u16>,
    /// Q.850 causes of a Reason header (RFC 3326).
    pub causes: Vec<u8>,
}

impl Reroute {
    /// As the API has it.
    pub(crate) fn to_json(&self) -> Vec<serde_json::Value> {
        let codes = self.codes.iter().map(|code| (*code).into());
        codes.chain(self.causes.iter().map(|cause| format!("{Q850}{cause}").into())).collect()
    }
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
    pub reroute_on: Option<Box<Reroute>>,
    /// Identities that it asserts, and that are asserted to it, pass (RFC 3325).
    pub trusted: bool,
    /// Large requests go to it by TCP where it is reached by UDP (RFC 3261 §18.1.1).
    pub large_over_tcp: bool,
    /// How it is verified over TLS.
    pub tls: Option<Box<Tls>>,
    /// It registers by SIP.
    pub register: Option<Box<Register>>,
    /// For people and for pruning.
    pub labels: Labels,
    /// Members that the registry does not know.
    pub extra: Members,
}

/// Begins a Q.850 cause in `reroute_on`.
pub(crate) const Q850: &str = "Q.850:";
/// Default of `reroute_on`.
pub const REROUTE_ON: [u16; 5] = [408, 500, 502, 503, 504];
/// Default of `heartbeat_seconds`.
pub const HEARTBEAT_SECONDS: u32 = 30;
/// Default of `weight`.
pub const WEIGHT: u32 = 100;
/// Default of `group`.
pub const GROUP: &str = "default";

impl Trunk {
    /// The defaults; it has no URI, so it is no trunk yet.
    pub(crate) fn usual(id: Arc<str>) -> Trunk {
        Trunk {
            id,
            sip_uri: Box::default(),
            transport: Transport::default(),
            transport_given: false,
            enabled: true,
            heartbeat_seconds: HEARTBEAT_SECONDS,
            max_channels: None,
            max_cps: None,
            group: None,
            priority: 0,
            weight: WEIGHT,
            sources: Box::default(),
            probe: None,
            reroute_on: None,
            trusted: false,
            large_over_tcp: false,
            tls: None,
            register: None,
            labels: Box::default(),
            extra: Members::default(),
        }
    }

    /// The group.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GROUP)
    }

    /// The codes after which the next trunk is tried.
    pub fn reroute_on(&self) -> &[u16] {
        self.reroute_on.as_ref().map_or(&REROUTE_ON, |reroute| reroute.codes.as_slice())
    }

    /// The Q.850 causes after which the next trunk is tried.
    pub fn reroute_causes(&self) -> &[u8] {
        self.reroute_on.as_ref().map_or(&[], |reroute| reroute.causes.as_slice())
    }

    /// The whole list, as the API has it.
    pub(crate) fn reroute_list(&self) -> Vec<serde_json::Value> {
        match &self.reroute_on {
            Some(reroute) => reroute.to_json(),
            None => REROUTE_ON.iter().map(|code| (*code).into()).collect(),
        }
    }

    /// Length of its lease in milliseconds: three heartbeats; none without a lease.
    pub fn lease_ms(&self) -> Option<u64> {
        (self.heartbeat_seconds > 0).then(|| u64::from(self.heartbeat_seconds) * 3000)
    }
}
