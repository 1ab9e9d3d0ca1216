//! Takes over what the store says: the only place where a record changes.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::{Admin, Stored};
use crate::event::EventKind;
use crate::health::{Flaps, Health};
use crate::lease::Lease;
use crate::members::Members;
use crate::parse::{self, Origin};
use crate::state::{ADMIN, BINDING, Entry, GROUP, Intent, Now, ROUTE, Registry, TRUNK};
use crate::trunk::Trunk;

/// A trunk as stored.
#[derive(Serialize, Deserialize)]
struct StoredTrunk {
    registered_at: Timestamp,
    record: Members,
}

impl Registry {
    /// Takes over a change from the store: a key with its value, creation and modification revision, or none
    /// when it was deleted. Values that cannot be read are left out, as a newer version may have written them.
    pub fn apply(&mut self, key: &str, entry: Option<(&[u8], u64, u64)>, now: Now) {
        if let Some(id) = key.strip_prefix(TRUNK) {
            match entry {
                Some((value, _, modified)) => self.apply_trunk(id, value, modified, now),
                None => self.forget_trunk(id, now),
            }
        } else if let Some(id) = key.strip_prefix(BINDING) {
            self.apply_binding(id, entry.map(|(value, _, modified)| (value, modified)), now);
        } else if let Some(id) = key.strip_prefix(ROUTE) {
            self.apply_route(id, entry.map(|(value, _, modified)| (value, modified)));
        } else if let Some(id) = key.strip_prefix(GROUP) {
            self.apply_group(id, entry.map(|(value, _, modified)| (value, modified)));
        } else if let Some(id) = key.strip_prefix(ADMIN) {
            match entry {
                Some((value, _, modified)) => self.apply_admin(id, value, modified),
                None => drop(self.admins.remove(id)),
            }
            if self.trunks.contains_key(id) {
                let id = Arc::from(id);
                self.tell(EventKind::Updated, &id, now);
            }
        }
    }

    fn apply_trunk(&mut self, id: &str, value: &[u8], modified: u64, now: Now) {
        let id = self.trunks.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| id.clone());
        let Some((trunk, registered_at)) = read_trunk(&id, value) else {
            return;
        };
        let trunk = Arc::new(trunk);
        self.follow_wall(now);
        let at = self.lease_time(now);
        let deadline = trunk.lease_ms().map_or(u64::MAX, |lease| at + lease);
        let registers = trunk.register.is_some();
        let mut kind = EventKind::Updated;
        let mut registered_before = false;
        match self.trunks.get_mut(&id) {
            Some(entry) if entry.modified >= modified => return,
            Some(entry) => {
                let old = std::mem::replace(&mut entry.trunk, trunk.clone());
                registered_before = old.register.is_some();
                entry.registered_at = registered_at;
                entry.modified = modified;
                self.leave(old.group());
                let gone = old.register.as_ref().map(|register| register.username.clone());
                self.rename(gone, &trunk);
            }
            None => {
                let entry = Entry {
                    trunk: trunk.clone(),
                    registered_at,
                    modified,
                    lease_up: false,
                    bound: false,
                    closed: false,
                    health: Health::default(),
                    flaps: Flaps::default(),
                    up: false,
                    lease: Lease::new(),
                };
                self.trunks.insert(id.clone(), entry);
                self.down += 1;
                self.rename(None, &trunk);
                kind = EventKind::Registered;
            }
        }
        *self.members.entry(trunk.group().into()).or_default() += 1;
        // What registers by SIP has its lease from there: a change of its record renews nothing.
        if registers && !registered_before {
            self.begin_binding(&id, now);
        } else if !registers && let Some(entry) = self.trunks.get_mut(&id) {
            (entry.lease_up, entry.bound, entry.closed) = (true, false, false);
            entry.lease.set(deadline);
            if deadline != u64::MAX {
                self.queue.push(&id, &mut entry.lease, deadline);
            }
        }
        if kind == EventKind::Registered {
            // It is new: its status is part of that news.
            self.start(&id);
            return self.tell(kind, &id, now);
        }
        self.tell(kind, &id, now);
        self.settle(&id, now, false);
    }

    /// The status of a trunk that has just been registered.
    fn start(&mut self, id: &Arc<str>) {
        let Some(entry) = self.trunks.get_mut(id) else { return };
        if entry.lease_up {
            entry.flaps.was_good = true;
            entry.up = true;
            self.down -= 1;
        }
    }

    /// A trunk is no longer in a group.
    fn leave(&mut self, group: &str) {
        let Some(count) = self.members.get_mut(group) else { return };
        *count -= 1;
        if *count == 0 {
            self.members.remove(group);
        }
    }

    /// Keeps the usernames of SIP registrations.
    fn rename(&mut self, gone: Option<Box<str>>, trunk: &Trunk) {
        let new = trunk.register.as_ref().map(|register| &register.username);
        if gone.as_ref() == new {
            return;
        }
        if let Some(gone) = gone
            && let Some(ids) = self.usernames.get_mut(&gone)
        {
            ids.retain(|id| *id != trunk.id);
            if ids.is_empty() {
                self.usernames.remove(&gone);
            }
        }
        if let Some(new) = new {
            self.usernames.entry(new.clone()).or_default().push(trunk.id.clone());
        }
    }

    fn forget_trunk(&mut self, id: &str, now: Now) {
        let Some((id, entry)) = self.trunks.remove_entry(id) else {
            return;
        };
        self.down -= usize::from(!entry.up);
        self.leave(entry.trunk.group());
        if let Some(register) = &entry.trunk.register {
            let nobody = Trunk { register: None, ..(*entry.trunk).clone() };
            self.rename(Some(register.username.clone()), &nobody);
        }
        let view = Some(self.view_of(&entry, now));
        self.push_trunk(EventKind::Deregistered, id, view);
    }

    fn apply_admin(&mut self, id: &str, value: &[u8], modified: u64) {
        let Ok(stored) = serde_json::from_slice::<Stored>(value) else {
            return;
        };
        let admin = Admin { state: stored.state, reason: stored.reason, until: stored.until };
        let intent = Intent { admin: Arc::new(admin), modified, deregistered_at: stored.deregistered_at, ended: false };
        let id = self.trunks.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| id.clone());
        self.admins.insert(id, intent);
    }
}

/// A trunk as it was stored, and when its registration began.
pub(crate) fn read_trunk(id: &Arc<str>, value: &[u8]) -> Option<(Trunk, Timestamp)> {
    let stored: StoredTrunk = serde_json::from_slice(value).ok()?;
    Some((parse::trunk(id, &stored.record, Origin::Store, "").ok()?, stored.registered_at))
}

/// To the millisecond, which is what people can use.
pub(crate) fn store_trunk(trunk: &Trunk, registered_at: Timestamp) -> Vec<u8> {
    let registered_at = Timestamp::from_millisecond(registered_at.as_millisecond()).unwrap_or(registered_at);
    serde_json::to_vec(&StoredTrunk { registered_at, record: trunk.to_members(true) }).unwrap_or_default()
}
