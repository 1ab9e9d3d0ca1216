//! A trunk as it reads: three parts of three writers.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use crate::admin::{Admin, AdminState};
use crate::binding::Binding;
use crate::health::Verdict;
use crate::routes::write::pairs;
use crate::state::{Entry, Now};
use crate::trunk::Trunk;

/// Why a trunk gets no calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reason {
    ConnectionClosed,
    Disabled,
    Draining,
    Flapping,
    /// What this process has observed.
    Health(String),
    LeaseExpired,
    NotRegistered,
    OutOfService,
    RegistrationExpired,
    /// What this process has observed, and gives it time to recover from.
    Rest(String),
}

impl Reason {
    /// Whether it is a doubt, that may be overruled when all trunks are in doubt; else it is a fact.
    pub fn is_doubt(&self) -> bool {
        matches!(self, Reason::Flapping | Reason::Health(_) | Reason::Rest(_))
    }

    /// Whether it is a doubt that only gives the trunk time: an emergency call goes there nevertheless.
    pub fn is_rest(&self) -> bool {
        matches!(self, Reason::Flapping | Reason::Rest(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ConnectionClosed => "connection closed",
            Reason::Disabled => "disabled",
            Reason::Draining => "draining",
            Reason::Flapping => "flapping",
            Reason::Health(why) | Reason::Rest(why) => why,
            Reason::LeaseExpired => "lease expired",
            Reason::NotRegistered => "not registered",
            Reason::OutOfService => "out of service",
            Reason::RegistrationExpired => "registration expired",
        })
    }
}

/// A trunk at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The registrant's record.
    pub trunk: Arc<Trunk>,
    /// The operator's intent, if it holds.
    pub admin: Option<Arc<Admin>>,
    /// Whether the lease stands, and nothing that was observed speaks against it.
    pub up: bool,
    /// Whether the lease, or the registration by SIP, stands.
    pub lease_up: bool,
    /// Where it registered from by SIP.
    pub binding: Option<Arc<Binding>>,
    /// When its lease was renewed last; none without a lease.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Why it gets no calls, as far as the registry knows.
    pub reasons: Vec<Reason>,
    /// When this registration began.
    pub registered_at: Timestamp,
    /// When the lease runs out, or ran out; none without a lease.
    pub lease_expires_at: Option<Timestamp>,
    /// The revision that last changed the record.
    pub revision: u64,
    /// The revision that last changed the intent, if it holds.
    pub intent: Option<u64>,
}

/// What an entity tag of a trunk that is down ends in.
const DOWN: &str = "-down";

impl View {
    /// Names what a reader sees of the three writers' parts, without quotes: a record, an intent, a status. Counts and
    /// the lease's end are left out, so a heartbeat does not change it.
    pub fn etag(&self) -> String {
        let down = if self.up { "" } else { DOWN };
        match self.intent {
            Some(intent) => format!("{}.{intent}{down}", self.revision),
            None => format!("{}{down}", self.revision),
        }
    }

    /// Whether a writer who read `tag` has seen the record and the intent of now. The status is not asked for: that a
    /// lease lapsed in between takes nothing from what was read.
    pub fn is_current(&self, tag: &str) -> bool {
        let own = self.etag();
        let bare = |tag: &str| tag.strip_suffix(DOWN).unwrap_or(tag).to_owned();
        bare(&own) == bare(tag)
    }

    /// A trunk that would just have been registered.
    pub(crate) fn fresh(trunk: Arc<Trunk>, now: Now) -> View {
        View {
            trunk,
            admin: None,
            up: true,
            lease_up: true,
            binding: None,
            last_heartbeat_at: None,
            reasons: Vec::new(),
            registered_at: now.wall,
            lease_expires_at: None,
            revision: 0,
            intent: None,
        }
    }

    pub(crate) fn reasons_of(entry: &Entry, admin: Option<&Admin>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if !entry.lease_up {
            reasons.push(match entry.trunk.register {
                None => Reason::LeaseExpired,
                Some(_) if !entry.bound => Reason::NotRegistered,
                Some(_) if entry.closed => Reason::ConnectionClosed,
                Some(_) => Reason::RegistrationExpired,
            });
        }
        let observed = entry.health.reasons.iter().cloned();
        match entry.health.verdict {
            Verdict::Good => {}
            Verdict::Down => reasons.extend(observed.map(Reason::Health)),
            Verdict::Resting => reasons.extend(observed.map(Reason::Rest)),
        }
        if entry.flaps.held_until.is_some() {
            reasons.push(Reason::Flapping);
        }
        if !entry.trunk.enabled {
            reasons.push(Reason::Disabled);
        }
        match admin.map(|admin| admin.state) {
            Some(AdminState::Draining) => reasons.push(Reason::Draining),
            Some(AdminState::OutOfService) => reasons.push(Reason::OutOfService),
            Some(AdminState::InService) | None => {}
        }
        reasons
    }

    /// Appends the record as the API shows it. `live_reasons`, `active_calls` and `targets` (a JSON list) are what the router sees.
    pub fn write_json(
        &self,
        out: &mut Vec<u8>,
        live_reasons: &[String],
        active_calls: u32,
        targets: Option<&RawValue>,
    ) {
        let trunk = &*self.trunk;
        let reasons: Vec<String> =
            self.reasons.iter().map(ToString::to_string).chain(live_reasons.iter().cloned()).collect();
        let probe = trunk.probe.as_ref().map(|probe| {
            let mut value = json!({
                "interval_seconds": probe.interval_seconds, "fall": probe.fall, "rise": probe.rise,
            });
            probe.add_optional(&mut value);
            value
        });
        out.push(b'{');
        let mut first = true;
        let mut member = |out: &mut Vec<u8>, name: &str, value: &dyn erased::Json| {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            erased::Json::write(name, out);
            out.push(b':');
            value.write(out);
        };
        member(out, "id", &&*trunk.id);
        member(out, "sip_uri", &&*trunk.sip_uri);
        member(out, "transport", &trunk.transport.as_str());
        member(out, "enabled", &trunk.enabled);
        member(out, "heartbeat_seconds", &trunk.heartbeat_seconds);
        member(out, "status", &if self.up { "up" } else { "down" });
        member(out, "status_reasons", &reasons);
        member(out, "max_channels", &trunk.max_channels);
        member(out, "max_cps", &trunk.max_cps);
        member(out, "group", &trunk.group());
        member(out, "priority", &trunk.priority);
        member(out, "weight", &trunk.weight);
        member(out, "sources", &&*trunk.sources);
        member(out, "probe", &probe);
        member(out, "reroute_on", &trunk.reroute_list());
        member(out, "trusted", &trunk.trusted);
        member(out, "large_over_tcp", &trunk.large_over_tcp);
        member(out, "tls", &trunk.tls.as_ref().map(|tls| tls.to_json()));
        let register = trunk.register.as_ref().map(|register| json!({ "username": register.username }));
        member(out, "register", &register);
        member(out, "labels", &pairs(&trunk.labels));
        member(out, "admin", &self.admin.as_deref());
        member(out, "registered_at", &self.registered_at);
        member(out, "lease_expires_at", &self.lease_expires_at);
        member(out, "last_heartbeat_at", &self.last_heartbeat_at);
        let registration = self.binding.as_ref().map(|binding| {
            json!({
                "contact": binding.contact,
                "source": binding.source,
                "transport": binding.transport.as_str(),
                "expires_seconds": binding.expires_seconds,
            })
        });
        member(out, "registration", &registration);
        member(out, "targets", &targets);
        member(out, "active_calls", &active_calls);
        for (name, raw) in trunk.extra.iter() {
            member(out, name, &raw);
        }
        out.push(b'}');
    }
}

/// Writes any serialisable value; an object-safe face of serde for one function.
mod erased {
    pub trait Json {
        fn write(&self, out: &mut Vec<u8>);
    }

    impl<T: serde::Serialize + ?Sized> Json for T {
        fn write(&self, out: &mut Vec<u8>) {
            // A Vec takes every write, and none of these values can fail to serialise.
            let _ = serde_json::to_writer(out, self);
        }
    }
}
