//! The registry's state: what `apply` builds and `tick` ages.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::{Admin, Stored};
use crate::binding::Bound;
use crate::command::Command;
use crate::health::{Flaps, Health};
use crate::lease::{Beat, Lease, Queue};
use crate::members::Members;
use crate::parse::{self, Origin};
use crate::trunk::Trunk;
use crate::view::View;

/// Settings of the registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From the end of a lease to deregistration.
    pub deregister_after: Duration,
    /// How long an intent outlives its trunk.
    pub admin_kept: Duration,
    /// A trunk that went down more often than this within `flap_window` is held back when it is good again.
    pub flap_limit: u32,
    /// See `flap_limit`.
    pub flap_window: Duration,
    /// How long it must stay good then.
    pub flap_hold: Duration,
    /// Realm of the digests of trunks that register by SIP.
    pub realm: String,
    /// Names this process: connections are its own.
    pub boot: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            deregister_after: Duration::from_secs(600),
            admin_kept: Duration::from_secs(30 * 86_400),
            flap_limit: 3,
            flap_window: Duration::from_secs(600),
            flap_hold: Duration::from_secs(120),
            realm: "trunkline".to_owned(),
            boot: 0,
        }
    }
}

/// A moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a clock that never runs backwards.
    pub mono_ms: u64,
    /// The time of day, for people and for `until`.
    pub wall: Timestamp,
}

/// Something that readers of the registry may want to know.
#[derive(Clone, Debug)]
pub struct Event {
    /// Of which kind.
    pub kind: EventKind,
    /// The trunk.
    pub id: Arc<str>,
    /// The trunk as it reads after it; as it last read, when it went.
    pub view: Option<View>,
}

/// Kinds of events, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventKind {
    Deregistered,
    Down,
    Registered,
    Up,
    Updated,
}

impl EventKind {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Deregistered => "deregistered",
            EventKind::Down => "down",
            EventKind::Registered => "registered",
            EventKind::Up => "up",
            EventKind::Updated => "updated",
        }
    }
}

/// All trunks.
#[derive(Debug)]
pub struct Registry {
    pub(crate) settings: Settings,
    pub(crate) trunks: BTreeMap<Arc<str>, Entry>,
    pub(crate) admins: HashMap<Arc<str>, Intent>,
    pub(crate) bindings: HashMap<Arc<str>, Bound>,
    /// Trunks that registered by a connection of this process.
    pub(crate) connections: HashMap<u64, Arc<str>>,
    /// Ids by username; one each, but for races that the store cannot see.
    pub(crate) usernames: HashMap<Box<str>, Vec<Arc<str>>>,
    /// Trunks held back for flapping, by when they may be let go.
    pub(crate) held: VecDeque<(u64, Arc<str>)>,
    pub(crate) queue: Queue,
    /// Milliseconds of the clock that do not count against leases.
    forgiven: u64,
    last_tick: Option<u64>,
    /// From lease time to the time of day, in milliseconds.
    offset: Option<i64>,
    next_sweep: u64,
    events: Vec<Event>,
    lease_expiries: u64,
    /// Trunks that are not up.
    pub(crate) down: usize,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub trunk: Arc<Trunk>,
    pub registered_at: Timestamp,
    pub modified: u64,
    /// Whether its lease, or its registration by SIP, stands.
    pub lease_up: bool,
    /// Whether it is bound by SIP.
    pub bound: bool,
    /// The connection that it registered by has ended.
    pub closed: bool,
    pub health: Health,
    pub flaps: Flaps,
    /// Whether all of that speaks for it.
    pub up: bool,
    pub lease: Lease,
}

#[derive(Debug)]
pub(crate) struct Intent {
    pub admin: Arc<Admin>,
    pub modified: u64,
    pub deregistered_at: Option<Timestamp>,
    /// Whether its end has been told.
    ended: bool,
}

/// A trunk as stored.
#[derive(Serialize, Deserialize)]
struct StoredTrunk {
    registered_at: Timestamp,
    record: Members,
}

pub(crate) const TRUNK: &str = "trunk/";
pub(crate) const ADMIN: &str = "admin/";
pub(crate) const BINDING: &str = "binding/";

/// A longer time between ticks means that this process could not take heartbeats.
const LONGEST_TICK: u64 = 1000;
/// After an order to deregister, the time until it is given again.
const REPEAT: u64 = 5000;
/// Milliseconds by which two clocks may seem to drift because they are not read at once.
const FLUTTER: u64 = 50;
/// Entries of the queue that may be out of use beside as many as there are trunks.
const SPARE: usize = 1024;
/// Time between looks at intents.
const SWEEP: u64 = 500;

impl Registry {
    /// An empty registry.
    pub fn new(settings: Settings) -> Registry {
        Registry {
            settings,
            trunks: BTreeMap::new(),
            admins: HashMap::new(),
            bindings: HashMap::new(),
            connections: HashMap::new(),
            usernames: HashMap::new(),
            held: VecDeque::new(),
            queue: Queue::default(),
            forgiven: 0,
            last_tick: None,
            offset: None,
            next_sweep: 0,
            events: Vec::new(),
            lease_expiries: 0,
            down: 0,
        }
    }

    /// Registered trunks.
    pub fn len(&self) -> usize {
        self.trunks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.trunks.is_empty()
    }

    /// Trunks that are up.
    pub fn up(&self) -> usize {
        self.trunks.len() - self.down
    }

    /// Leases that have run out since the start.
    pub fn lease_expiries(&self) -> u64 {
        self.lease_expiries
    }

    /// Keys of all records held.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        let trunks = self.trunks.keys().map(|id| format!("{TRUNK}{id}"));
        let bindings = self.bindings.keys().map(|id| format!("{BINDING}{id}"));
        trunks.chain(bindings).chain(self.admins.keys().map(|id| format!("{ADMIN}{id}")))
    }

    /// The time that leases live in: it stands still while the process does.
    pub(crate) fn lease_time(&self, now: Now) -> u64 {
        let mono = self.last_tick.map_or(now.mono_ms, |last| now.mono_ms.min(last + LONGEST_TICK));
        mono.saturating_sub(self.forgiven)
    }

    fn wall_offset(&self, now: Now) -> i64 {
        now.wall.as_millisecond().saturating_sub_unsigned(self.lease_time(now))
    }

    /// Follows the time of day, but not its flutter: what was read of a lease's end stays true to the millisecond.
    fn follow_wall(&mut self, now: Now) {
        let offset = self.wall_offset(now);
        if self.offset.is_none_or(|old| old.abs_diff(offset) > FLUTTER) {
            self.offset = Some(offset);
        }
    }

    /// A trunk as it reads now.
    pub fn view(&self, id: &str, now: Now) -> Option<View> {
        self.trunks.get(id).map(|entry| self.view_of(entry, now))
    }

    /// The trunks after an id, in the order of their ids.
    pub fn views<'a>(&'a self, after: Option<&str>, now: Now) -> impl Iterator<Item = View> + 'a {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.trunks.range::<str, _>((from, Unbounded)).map(move |(_, entry)| self.view_of(entry, now))
    }

    /// The operator's intent for an id, registered or not, if it holds.
    pub fn admin(&self, id: &str, now: Now) -> Option<Arc<Admin>> {
        self.admins.get(id).filter(|intent| intent.admin.holds(now.wall)).map(|intent| intent.admin.clone())
    }

    pub(crate) fn view_of(&self, entry: &Entry, now: Now) -> View {
        let intent = self.admins.get(&entry.trunk.id);
        let held = intent.filter(|intent| intent.admin.holds(now.wall));
        let admin = held.map(|intent| intent.admin.clone());
        let deadline = Some(entry.lease.deadline()).filter(|deadline| *deadline != u64::MAX);
        let offset = self.offset.unwrap_or_else(|| self.wall_offset(now));
        let moment = |at: u64| Timestamp::from_millisecond(i64::try_from(at).ok()?.checked_add(offset)?).ok();
        let binding = self.bindings.get(&entry.trunk.id).map(|bound| bound.binding.clone());
        let length = match &binding {
            Some(binding) => Some(u64::from(binding.expires_seconds) * 1000),
            None => entry.trunk.lease_ms(),
        };
        let beat = deadline.zip(length).map(|(at, length)| at.saturating_sub(length));
        View {
            reasons: View::reasons_of(entry, admin.as_deref()),
            lease_up: entry.lease_up,
            binding,
            last_heartbeat_at: beat.and_then(moment),
            lease_expires_at: deadline.and_then(moment),
            trunk: entry.trunk.clone(),
            admin,
            up: entry.up,
            registered_at: entry.registered_at,
            revision: entry.modified,
            intent: held.map(|intent| intent.modified),
        }
    }

    /// Renews a lease. No lock is needed beyond a shared one.
    pub fn heartbeat(&self, id: &str, now: Now) -> Beat {
        match self.trunks.get(id) {
            None => Beat::Unknown,
            // Its heartbeat is the REGISTER.
            Some(entry) if entry.trunk.register.is_some() => Beat::Renewed,
            Some(entry) if !entry.lease_up => Beat::Lapsed,
            Some(entry) => {
                if let Some(lease) = entry.trunk.lease_ms() {
                    entry.lease.renew(self.lease_time(now) + lease);
                }
                Beat::Renewed
            }
        }
    }

    /// A heartbeat for a trunk whose lease may have lapsed.
    pub fn revive(&mut self, id: &str, now: Now) -> Beat {
        let at = self.lease_time(now);
        let Some((id, entry)) = self.trunks.get_key_value(id).map(|(id, _)| id.clone()).and_then(|id| {
            let entry = self.trunks.get_mut(&id)?;
            Some((id, entry))
        }) else {
            return Beat::Unknown;
        };
        if let Some(lease) = entry.trunk.lease_ms() {
            entry.lease.set(at + lease);
            self.queue.push(&id, &mut entry.lease, at + lease);
        }
        entry.lease_up = true;
        self.settle(&id, now, true);
        Beat::Renewed
    }

    /// Ages the leases; returns what is to be deregistered. Wants to be called several times a second: a longer gap than
    /// a second counts as one second, as nobody could send a heartbeat meanwhile.
    pub fn tick(&mut self, now: Now) -> Vec<Command> {
        if let Some(last) = self.last_tick {
            self.forgiven += now.mono_ms.saturating_sub(last).saturating_sub(LONGEST_TICK);
        }
        self.last_tick = Some(now.mono_ms);
        self.follow_wall(now);
        let at = self.lease_time(now);
        // Trunks that come and go leave entries behind until those come up: keep them in proportion.
        if self.queue.len() > 2 * self.trunks.len() + SPARE {
            let trunks = &self.trunks;
            self.queue.retain(|at, id| trunks.get(id).is_some_and(|entry| entry.lease.is_queued_at(at)));
        }
        let mut orders = Vec::new();
        while let Some((due, id)) = self.queue.pop(at) {
            self.come_up(due, &id, at, now, &mut orders);
        }
        self.release(at, now);
        if at >= self.next_sweep {
            self.next_sweep = at + SWEEP;
            self.sweep(now, &mut orders);
        }
        orders
    }

    fn come_up(&mut self, due: u64, id: &Arc<str>, at: u64, now: Now, orders: &mut Vec<Command>) {
        let deregister_after = self.settings.deregister_after.as_millis() as u64;
        let Some(entry) = self.trunks.get_mut(id) else {
            return;
        };
        let registers = entry.trunk.register.is_some();
        // Taken even where the lease has been given up: it may come back.
        if !entry.lease.takes(due) || (entry.trunk.lease_ms().is_none() && !registers) {
            return;
        }
        let deadline = entry.lease.deadline();
        let gone_at = deadline.saturating_add(deregister_after);
        if deadline > at {
            return self.queue.push(id, &mut entry.lease, deadline);
        }
        if std::mem::take(&mut entry.lease_up) {
            self.queue.push(id, &mut entry.lease, gone_at);
            self.lease_expiries += 1;
            return self.settle(id, now, true);
        }
        // Whoever provisioned it takes it away, no lapse does.
        if registers {
            return;
        }
        if gone_at > at {
            return self.queue.push(id, &mut entry.lease, gone_at);
        }
        orders.push(Command::Expire { id: id.to_string(), modified: entry.modified });
        self.queue.push(id, &mut entry.lease, at + REPEAT);
    }

    /// Looks at intents: those that have ended, and those whose trunk is long gone.
    fn sweep(&mut self, now: Now, orders: &mut Vec<Command>) {
        let kept = jiff::SignedDuration::try_from(self.settings.admin_kept).unwrap_or(jiff::SignedDuration::MAX);
        let mut ended = Vec::new();
        for (id, intent) in &mut self.admins {
            if !intent.ended && !intent.admin.holds(now.wall) {
                intent.ended = true;
                ended.push(id.clone());
            }
            let due = match intent.deregistered_at {
                Some(at) => now.wall.duration_since(at) > kept,
                // Its trunk went while it was being set: it has yet to learn so.
                None => !self.trunks.contains_key(id),
            };
            if due {
                orders.push(Command::PurgeAdmin { id: id.to_string(), modified: intent.modified });
            }
        }
        for id in ended {
            if self.trunks.contains_key(&id) {
                self.tell(EventKind::Updated, &id, now);
            }
        }
    }

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
        let Ok(stored) = serde_json::from_slice::<StoredTrunk>(value) else {
            return;
        };
        let Ok(trunk) = parse::trunk(&id, &stored.record, Origin::Store) else {
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
                entry.registered_at = stored.registered_at;
                entry.modified = modified;
                let gone = old.register.as_ref().map(|register| register.username.clone());
                self.rename(gone, &trunk);
            }
            None => {
                let entry = Entry {
                    trunk: trunk.clone(),
                    registered_at: stored.registered_at,
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
        if let Some(register) = &entry.trunk.register {
            let nobody = Trunk { register: None, ..(*entry.trunk).clone() };
            self.rename(Some(register.username.clone()), &nobody);
        }
        let view = Some(self.view_of(&entry, now));
        self.events.push(Event { kind: EventKind::Deregistered, id, view });
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

    pub(crate) fn tell(&mut self, kind: EventKind, id: &Arc<str>, now: Now) {
        let view = self.view(id, now);
        self.events.push(Event { kind, id: id.clone(), view });
    }

    /// What has happened since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// To the millisecond, which is what people can use.
pub(crate) fn store_trunk(trunk: &Trunk, registered_at: Timestamp) -> Vec<u8> {
    let registered_at = Timestamp::from_millisecond(registered_at.as_millisecond()).unwrap_or(registered_at);
    serde_json::to_vec(&StoredTrunk { registered_at, record: trunk.to_members(true) }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Condition;

    #[test]
    fn the_queue_does_not_grow_with_trunks_that_come_and_go() {
        let mut registry = Registry::new(Settings::default());
        let wall = Timestamp::UNIX_EPOCH;
        let body = br#"{"sip_uri":"sip:a","heartbeat_seconds":3600}"#.to_vec();
        let command = Command::Register { id: "a".into(), body, condition: Condition::default() };
        for n in 0..5000 {
            let now = Now { mono_ms: n, wall };
            let decision = registry.decide(&command, now).unwrap();
            let stored = decision.writes[0].value.clone().unwrap();
            registry.apply("trunk/a", Some((&stored, n + 1, n + 1)), now);
            registry.tick(now);
            if n < 4999 {
                registry.apply("trunk/a", None, now);
            }
        }
        assert!(registry.queue.len() <= SPARE + 2, "{}", registry.queue.len());
        // What is left of it still ends the lease.
        for n in 5000.. {
            registry.tick(Now { mono_ms: n * 1000, wall });
            if registry.lease_expiries() == 1 {
                break;
            }
            assert!(n < 20_000);
        }
    }
}
