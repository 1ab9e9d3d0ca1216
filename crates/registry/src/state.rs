//! The registry's state: what `apply` builds and `tick` ages.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::admin::Admin;
use crate::binding::Bound;
use crate::event::Event;
use crate::health::{Flaps, Health};
use crate::lease::{Lease, Queue};
use crate::plan::Records;
use crate::routes::{Group, Route};
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

/// All trunks, routes and groups.
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
    /// How many trunks each group has.
    pub(crate) members: HashMap<Box<str>, u32>,
    pub(crate) routes: Records<Route>,
    pub(crate) groups: Records<Group>,
    pub(crate) queue: Queue,
    /// Milliseconds of the clock that do not count against leases.
    pub(crate) forgiven: u64,
    pub(crate) last_tick: Option<u64>,
    /// From lease time to the time of day, in milliseconds.
    pub(crate) offset: Option<i64>,
    pub(crate) next_sweep: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) lease_expiries: u64,
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
    pub ended: bool,
}

pub(crate) const TRUNK: &str = "trunk/";
pub(crate) const ADMIN: &str = "admin/";
pub(crate) const BINDING: &str = "binding/";
pub(crate) const GROUP: &str = "group/";
pub(crate) const ROUTE: &str = "route/";

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
            members: HashMap::new(),
            routes: Records::new(),
            groups: Records::new(),
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
        let routes = self.routes.keys().map(|id| format!("{ROUTE}{id}"));
        let groups = self.groups.keys().map(|id| format!("{GROUP}{id}"));
        trunks.chain(bindings).chain(routes).chain(groups).chain(self.admins.keys().map(|id| format!("{ADMIN}{id}")))
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

    /// All trunks' records, in the order of their ids.
    pub fn trunks(&self) -> impl ExactSizeIterator<Item = &Arc<Trunk>> {
        self.trunks.values().map(|entry| &entry.trunk)
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
}
