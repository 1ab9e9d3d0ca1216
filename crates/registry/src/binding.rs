//! Registrations by SIP (RFC 3261 §10): where a gateway that cannot do HTTP is reached, and how long that holds.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sip::Transport;

use crate::command::{Decision, Expect, Outcome, Violation, Write};
use crate::state::{BINDING, Entry, Now, Registry};

/// Where a trunk registered from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// URI of its Contact.
    pub contact: String,
    /// The address that its REGISTER came from.
    pub source: SocketAddr,
    /// The transport that it came by.
    #[serde(with = "transport_text")]
    pub transport: Transport,
    /// The connection that it came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// The process whose connection that is ([`crate::Settings::boot`]).
    #[serde(default)]
    pub boot: u64,
    /// Seconds that it holds from each REGISTER on.
    pub expires_seconds: u32,
    /// Call-ID of the last REGISTER that was written.
    pub call_id: String,
    /// Its CSeq number.
    pub cseq: u32,
}

impl Binding {
    /// Whether a REGISTER says just what is known.
    fn is_refresh(&self, other: &Binding) -> bool {
        (&self.contact, self.source, self.transport, self.connection, self.boot, self.expires_seconds)
            == (&other.contact, other.source, other.transport, other.connection, other.boot, other.expires_seconds)
    }
}

/// A binding in force, and the revision that wrote it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub binding: Arc<Binding>,
    pub modified: u64,
}

impl Registry {
    /// Whose username this is, and the digest of its password.
    pub fn by_username(&self, username: &str) -> Option<(&Arc<str>, &registrar::Ha1)> {
        let id = self.usernames.get(username)?.first()?;
        let register = self.trunks.get(id)?.trunk.register.as_ref()?;
        Some((id, &register.ha1))
    }

    /// Trunks that register by SIP.
    pub fn registering(&self) -> usize {
        self.usernames.len()
    }

    pub(crate) fn bind(&self, id: &str, binding: &Binding, now: Now) -> Result<Decision, Violation> {
        let entry = self.registrable(id)?;
        let old = self.bindings.get(&entry.trunk.id);
        if let Some(old) = old {
            if old.binding.call_id == binding.call_id && binding.cseq < old.binding.cseq {
                return Err(Violation::bad("the registration is older than the one that is known"));
            }
            if old.binding.is_refresh(binding) && entry.lease_up {
                entry.lease.renew(self.lease_time(now) + u64::from(binding.expires_seconds) * 1000);
                return Ok(Decision { writes: Vec::new(), outcome: Outcome::Bound });
            }
        }
        let write = Write {
            key: format!("{BINDING}{id}"),
            expect: old.map_or(Expect::Absent, |old| Expect::Modified(old.modified)),
            // Plain data always serialises.
            value: Some(serde_json::to_vec(binding).unwrap_or_default()),
        };
        Ok(Decision { writes: vec![write], outcome: Outcome::Bound })
    }

    pub(crate) fn unbind(&self, id: &str) -> Result<Decision, Violation> {
        let entry = self.registrable(id)?;
        Ok(Decision { writes: self.forget_binding(&entry.trunk.id).into_iter().collect(), outcome: Outcome::Unbound })
    }

    fn registrable(&self, id: &str) -> Result<&Entry, Violation> {
        let entry = self.trunks.get(id).filter(|entry| entry.trunk.register.is_some());
        entry.ok_or_else(|| Violation::not_found("no trunk registers by SIP under this id"))
    }

    /// The write that ends a binding.
    pub(crate) fn forget_binding(&self, id: &str) -> Option<Write> {
        let bound = self.bindings.get(id)?;
        Some(Write { key: format!("{BINDING}{id}"), expect: Expect::Modified(bound.modified), value: None })
    }

    pub(crate) fn apply_binding(&mut self, id: &str, entry: Option<(&[u8], u64)>, now: Now) {
        let id = self.trunks.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| id.clone());
        if let Some(old) = self.bindings.remove(&id)
            && let Some(connection) = old.binding.connection
        {
            self.connections.remove(&connection);
        }
        let read = |(value, modified): (&[u8], u64)| Some((serde_json::from_slice::<Binding>(value).ok()?, modified));
        if let Some((binding, modified)) = entry.and_then(read) {
            if let Some(connection) = binding.connection.filter(|_| binding.boot == self.settings.boot) {
                self.connections.insert(connection, id.clone());
            }
            self.bindings.insert(id.clone(), Bound { binding: Arc::new(binding), modified });
        }
        self.begin_binding(&id, now);
        self.settle(&id, now, true);
    }

    /// Begins the lease of a binding at its full length, or ends it where there is none.
    pub(crate) fn begin_binding(&mut self, id: &Arc<str>, now: Now) {
        let at = self.lease_time(now);
        let (boot, bound) = (self.settings.boot, self.bindings.get(id));
        let Some(entry) = self.trunks.get_mut(id).filter(|entry| entry.trunk.register.is_some()) else { return };
        // A connection does not outlive the process that held it.
        entry.closed = bound.is_some_and(|bound| bound.binding.connection.is_some() && bound.binding.boot != boot);
        entry.lease_up = bound.is_some() && !entry.closed;
        entry.bound = bound.is_some();
        let deadline = bound.map_or(u64::MAX, |bound| at + u64::from(bound.binding.expires_seconds) * 1000);
        entry.lease.set(deadline);
        if deadline != u64::MAX {
            self.queue.push(id, &mut entry.lease, deadline);
        }
    }

    /// Whether a trunk registered by this connection.
    pub fn has_connection(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    /// A connection of this process has ended: who registered by it is not reached any more. Its id, if there is one.
    pub fn connection_closed(&mut self, connection: u64, now: Now) -> Option<Arc<str>> {
        let id = self.connections.remove(&connection)?;
        let entry = self.trunks.get_mut(&id)?;
        entry.closed = true;
        entry.lease_up = false;
        self.settle(&id, now, true);
        Some(id)
    }
}

mod transport_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use sip::Transport;

    pub fn serialize<S: Serializer>(transport: &Transport, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(transport.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Transport, D::Error> {
        let text = String::deserialize(deserializer)?;
        Transport::parse(&text).ok_or_else(|| D::Error::custom("expected udp, tcp or tls"))
    }
}
