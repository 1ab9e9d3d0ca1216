//! Decisions: what a command would write. Nothing here changes a record.

use std::sync::Arc;

use crate::admin::Admin;
use crate::apply::store_trunk;
use crate::command::{Command, Condition, Decision, Expect, Match, Outcome, Violation, Write, validate_id};
use crate::members::Members;
use crate::parse::{self, Origin};
use crate::routes::write::pairs;
use crate::state::{ADMIN, Entry, Now, Registry, TRUNK};
use crate::trunk::{HEARTBEAT_SECONDS, Trunk, WEIGHT};

impl Registry {
    /// What a command comes to now. Where a record is already as asked nothing is written, and the heartbeat that
    /// the command implies is taken here.
    pub fn decide(&self, command: &Command, now: Now) -> Result<Decision, Violation> {
        match command {
            Command::Register { id, body, condition } => self.register(id, body, condition, now),
            Command::Patch { id, body, condition } => self.patch(id, body, condition, now),
            Command::Deregister { id, condition } => self.deregister(id, condition, now),
            Command::SetAdmin { id, body } => self.set_admin(id, body, now),
            Command::ClearAdmin { id } => self.clear_admin(id),
            Command::Bind { id, binding } => self.bind(id, binding, now),
            Command::Unbind { id } => self.unbind(id),
            Command::Edit { of, id, edit, condition } => self.edit(*of, id, edit, condition),
            Command::Expire { id, modified } => Ok(self.expire(id, *modified, now)),
            Command::PurgeAdmin { id, modified } => Ok(self.purge(id, *modified, now)),
        }
    }

    fn register(&self, id: &str, body: &[u8], condition: &Condition, now: Now) -> Result<Decision, Violation> {
        validate_id(id)?;
        let known = self.trunks.get(id);
        self.check(known, condition, now)?;
        let id = known.map_or_else(|| Arc::from(id), |entry| entry.trunk.id.clone());
        let trunk = parse::trunk(&id, &parse::object(body)?, self.client(known), "").map_err(Violation::faults)?;
        self.check_username(&trunk)?;
        let unknown = trunk.extra.iter().map(|(name, _)| name.to_owned()).collect();
        match known {
            Some(entry) => {
                Ok(Decision { writes: self.replace(entry, &trunk, now), outcome: Outcome::Replaced { unknown } })
            }
            None => Ok(Decision { writes: self.create(&trunk, now), outcome: Outcome::Created { unknown } }),
        }
    }

    /// Writes a record that is new.
    pub(crate) fn create(&self, trunk: &Trunk, now: Now) -> Vec<Write> {
        let id = &trunk.id;
        let mut writes = vec![Write {
            key: format!("{TRUNK}{id}"),
            expect: Expect::Absent,
            value: Some(store_trunk(trunk, now.wall)),
        }];
        // The intent is bound to a standing trunk again.
        if let Some(intent) = self.admins.get(id).filter(|intent| intent.deregistered_at.is_some()) {
            writes.push(Write {
                key: format!("{ADMIN}{id}"),
                expect: Expect::Modified(intent.modified),
                value: Some(intent.admin.store(None)),
            });
        }
        writes
    }

    fn patch(&self, id: &str, body: &[u8], condition: &Condition, now: Now) -> Result<Decision, Violation> {
        validate_id(id)?;
        // Before the conditions: a registrant that was forgotten must learn that, whatever else it asks.
        let unknown = || Violation::not_found("unknown trunk — re-register with PUT");
        let entry = self.trunks.get(id).ok_or_else(unknown)?;
        self.check(Some(entry), condition, now)?;
        let mut members = entry.trunk.to_members(false);
        let patch = parse::object(body)?;
        members.merge(&patch).map_err(|_| Violation::bad("malformed trunk record (invalid JSON)"))?;
        let trunk = parse::trunk(&entry.trunk.id, &members, self.client(Some(entry)), "").map_err(Violation::faults)?;
        self.check_username(&trunk)?;
        let unknown =
            trunk.extra.iter().map(|(name, _)| name.to_owned()).filter(|name| patch.get(name).is_some()).collect();
        let changed = trunk != *entry.trunk;
        Ok(Decision { writes: self.replace(entry, &trunk, now), outcome: Outcome::Patched { changed, unknown } })
    }

    /// Writes a record in place of another; nothing where they are the same and the lease stands.
    pub(crate) fn replace(&self, entry: &Entry, trunk: &Trunk, now: Now) -> Vec<Write> {
        if *trunk == *entry.trunk && (entry.lease_up || trunk.register.is_some()) {
            self.heartbeat(&trunk.id, now);
            return Vec::new();
        }
        let mut writes = vec![Write {
            key: format!("{TRUNK}{}", trunk.id),
            expect: Expect::Modified(entry.modified),
            value: Some(store_trunk(trunk, entry.registered_at)),
        }];
        // Who registered under another name is somebody else.
        let username = |trunk: &Trunk| trunk.register.as_ref().map(|register| register.username.clone());
        if username(trunk) != username(&entry.trunk) {
            writes.extend(self.forget_binding(&trunk.id));
        }
        writes
    }

    fn client<'a>(&'a self, known: Option<&'a Entry>) -> Origin<'a> {
        let known = known.and_then(|entry| entry.trunk.register.as_deref());
        Origin::Client { known, realm: &self.settings.realm }
    }

    /// A username stands for one trunk. Two that race for it on different nodes may both get it; then the first has it.
    fn check_username(&self, trunk: &Trunk) -> Result<(), Violation> {
        let Some(register) = &trunk.register else { return Ok(()) };
        match self.usernames.get(&register.username) {
            Some(ids) if ids.iter().any(|id| *id != trunk.id) => {
                Err(Violation::member("register.username", "register.username is taken by another trunk"))
            }
            _ => Ok(()),
        }
    }

    fn deregister(&self, id: &str, condition: &Condition, now: Now) -> Result<Decision, Violation> {
        validate_id(id)?;
        let entry = self.trunks.get(id);
        self.check(entry, condition, now)?;
        Ok(entry.map_or_else(nothing, |entry| self.remove(entry, Outcome::Deregistered, now)))
    }

    pub(crate) fn remove(&self, entry: &Entry, outcome: Outcome, now: Now) -> Decision {
        let id = &entry.trunk.id;
        let mut writes =
            vec![Write { key: format!("{TRUNK}{id}"), expect: Expect::Modified(entry.modified), value: None }];
        writes.extend(self.forget_binding(id));
        if let Some(intent) = self.admins.get(id) {
            writes.push(Write {
                key: format!("{ADMIN}{id}"),
                expect: Expect::Modified(intent.modified),
                value: Some(intent.admin.store(Some(now.wall))),
            });
        }
        Decision { writes, outcome }
    }

    fn expire(&self, id: &str, modified: u64, now: Now) -> Decision {
        let due = |entry: &&Entry| {
            let gone_at = entry.lease.deadline().saturating_add(self.settings.deregister_after.as_millis() as u64);
            entry.modified == modified && !entry.lease_up && self.lease_time(now) >= gone_at
        };
        self.trunks.get(id).filter(due).map_or_else(nothing, |entry| self.remove(entry, Outcome::Expired, now))
    }

    fn set_admin(&self, id: &str, body: &[u8], now: Now) -> Result<Decision, Violation> {
        validate_id(id)?;
        let intent = self.admins.get(id);
        if intent.is_none() && !self.trunks.contains_key(id) {
            return Err(Violation::not_found("unknown trunk"));
        }
        let admin = Admin::parse(body)?;
        if !admin.holds(now.wall) {
            return Err(Violation::member("until", "until must be in the future"));
        }
        let expect = intent.map_or(Expect::Absent, |intent| Expect::Modified(intent.modified));
        let value = Some(admin.store(intent.and_then(|intent| intent.deregistered_at)));
        Ok(Decision { writes: vec![Write { key: format!("{ADMIN}{id}"), expect, value }], outcome: Outcome::AdminSet })
    }

    fn clear_admin(&self, id: &str) -> Result<Decision, Violation> {
        validate_id(id)?;
        Ok(self.admins.get(id).map_or_else(nothing, |intent| Decision {
            writes: vec![Write { key: format!("{ADMIN}{id}"), expect: Expect::Modified(intent.modified), value: None }],
            outcome: Outcome::AdminCleared,
        }))
    }

    fn purge(&self, id: &str, modified: u64, now: Now) -> Decision {
        let Some(intent) = self.admins.get(id).filter(|intent| intent.modified == modified) else {
            return nothing();
        };
        let value = match intent.deregistered_at {
            Some(_) => None,
            None if self.trunks.contains_key(id) => return nothing(),
            None => Some(intent.admin.store(Some(now.wall))),
        };
        let write = Write { key: format!("{ADMIN}{id}"), expect: Expect::Modified(modified), value };
        Decision { writes: vec![write], outcome: Outcome::AdminCleared }
    }

    /// Holds a command to its conditions (RFC 9110 §13.2.2).
    fn check(&self, entry: Option<&Entry>, condition: &Condition, now: Now) -> Result<(), Violation> {
        if condition.if_match.is_none() && condition.if_none_match.is_none() {
            return Ok(());
        }
        let view = entry.map(|entry| self.view_of(entry, now));
        let names = |named: &Match| match (named, &view) {
            (_, None) => false,
            (Match::Any, Some(_)) => true,
            (Match::Tags(tags), Some(view)) => tags.iter().any(|tag| view.is_current(tag)),
        };
        let failed = |message: String| Err(Violation::precondition(message));
        if condition.if_match.as_ref().is_some_and(|named| !names(named)) {
            return failed(match &view {
                Some(view) => format!("the trunk has changed: its ETag is \"{}\" now", view.etag()),
                None => "the trunk is not registered".to_owned(),
            });
        }
        match condition.if_none_match.as_ref().filter(|named| names(named)) {
            Some(Match::Any) => failed("the trunk is registered already".to_owned()),
            Some(Match::Tags(_)) => failed("the trunk still has this ETag".to_owned()),
            None => Ok(()),
        }
    }
}

fn nothing() -> Decision {
    Decision { writes: Vec::new(), outcome: Outcome::Nothing }
}

impl Trunk {
    /// As a document has it (JSON): what differs from the defaults, without secrets.
    pub fn to_description(&self) -> Vec<u8> {
        // Plain data always serialises.
        serde_json::to_vec(&self.to_members(false)).unwrap_or_default()
    }

    /// The registrant's members: what differs from the defaults, so that a patch works on what was given.
    /// `stored`: with what is kept of secrets.
    pub(crate) fn to_members(&self, stored: bool) -> Members {
        let mut members = self.extra.clone();
        let mut set = |name: &str, value: serde_json::Value| {
            if let Ok(raw) = serde_json::value::to_raw_value(&value) {
                members.set(name.into(), raw);
            }
        };
        set("sip_uri", (&*self.sip_uri).into());
        if self.transport_given {
            set("transport", self.transport.as_str().into());
        }
        if !self.enabled {
            set("enabled", false.into());
        }
        if self.heartbeat_seconds != HEARTBEAT_SECONDS {
            set("heartbeat_seconds", self.heartbeat_seconds.into());
        }
        if let Some(max) = self.max_channels {
            set("max_channels", max.into());
        }
        if let Some(max) = self.max_cps {
            set("max_cps", max.into());
        }
        if let Some(group) = &self.group {
            set("group", (&**group).into());
        }
        if self.priority != 0 {
            set("priority", self.priority.into());
        }
        if self.weight != WEIGHT {
            set("weight", self.weight.into());
        }
        if !self.sources.is_empty() {
            set("sources", self.sources.iter().map(ToString::to_string).collect::<Vec<_>>().into());
        }
        if let Some(probe) = &self.probe {
            let mut value = serde_json::json!({
                "interval_seconds": probe.interval_seconds, "fall": probe.fall, "rise": probe.rise,
            });
            probe.add_optional(&mut value);
            set("probe", value);
        }
        if self.reroute_on.is_some() {
            set("reroute_on", self.reroute_list().into());
        }
        if self.trusted {
            set("trusted", true.into());
        }
        if self.large_over_tcp {
            set("large_over_tcp", true.into());
        }
        if let Some(tls) = &self.tls {
            set("tls", tls.to_json());
        }
        if !self.labels.is_empty() {
            set("labels", pairs(&self.labels));
        }
        if let Some(register) = &self.register {
            let mut value = serde_json::json!({ "username": register.username });
            if stored {
                value["ha1"] = register.ha1.to_text().into();
            }
            set("register", value);
        }
        members
    }
}
