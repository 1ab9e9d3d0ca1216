//! Builds tables from facts as they change.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ipnet::IpNet;
use registry::{Called, HashOn, Policy, Route};

use crate::group::Group;
use crate::trie::Trie;
use crate::{Facts, Live, RouteTable, Rule, Sources, Target, TargetLive, Trunk};

/// Holds what the next table is built of. A change of one route costs its numbers' way through the trie; one of a trunk costs a
/// look-up, and the next build a walk over its group: so the caller gathers changes for a moment before it builds.
#[derive(Clone, Debug)]
pub struct Builder {
    trunks: BTreeMap<Arc<str>, Arc<Trunk>>,
    /// The trunks as a list, until one changes.
    list: Option<Arc<[Arc<Trunk>]>>,
    lives: HashMap<Arc<str>, Arc<Live>>,
    next_serial: u32,
    /// Members of groups, by priority and id.
    members: HashMap<Arc<str>, BTreeSet<(u32, Arc<str>)>>,
    settings: HashMap<Arc<str>, (Policy, HashOn)>,
    groups: HashMap<Arc<str>, Arc<Group>>,
    /// Groups that have changed since the last table.
    stale: HashSet<Arc<str>>,
    everyone: Option<Arc<Group>>,
    rules: Trie,
    /// Routes in the trie.
    count: usize,
    routes: HashSet<ById>,
    allow: Vec<IpNet>,
    trust: Vec<IpNet>,
    sources: Arc<Sources>,
    sources_stale: bool,
}

impl Builder {
    /// `allow`: networks that may place calls beside the trunks themselves; `trust`: networks whose asserted identities are
    /// believed (RFC 3325).
    pub fn new(allow: Vec<IpNet>, trust: Vec<IpNet>) -> Builder {
        Builder {
            trunks: BTreeMap::new(),
            list: None,
            lives: HashMap::new(),
            next_serial: 0,
            members: HashMap::new(),
            settings: HashMap::new(),
            groups: HashMap::new(),
            stale: HashSet::new(),
            everyone: None,
            rules: Trie::default(),
            count: 0,
            routes: HashSet::new(),
            allow,
            trust,
            sources: Arc::default(),
            sources_stale: true,
        }
    }

    /// Holds what a table was built of, to imagine another. It shares the counts and verdicts of the table's trunks, but knows
    /// neither who may call beside them, nor its routes by their ids: those change by [`Self::swap_route`].
    pub fn of(table: &RouteTable) -> Builder {
        let mut builder = Builder::new(Vec::new(), Vec::new());
        for trunk in table.trunks() {
            builder.next_serial = builder.next_serial.max(trunk.live.serial() + 1);
            for target in &trunk.targets {
                builder.next_serial = builder.next_serial.max(target.live.serial() + 1);
            }
            builder.lives.insert(trunk.id.clone(), trunk.live.clone());
            builder.trunks.insert(trunk.id.clone(), trunk.clone());
            builder.join(trunk);
        }
        for (id, group) in &table.groups {
            builder.settings.insert(id.clone(), (group.policy, group.hash_on.clone()));
        }
        builder.groups = table.groups.clone();
        builder.everyone = table.everyone.clone();
        builder.stale.clear();
        (builder.rules, builder.count) = (table.rules.clone(), table.routes);
        (builder.sources, builder.sources_stale) = (table.sources.clone(), false);
        builder
    }

    /// Adds or replaces a trunk; its counts stay.
    pub fn set(&mut self, id: &str, facts: Facts) {
        let (id, live) = match self.lives.get_key_value(id) {
            Some((id, live)) => (id.clone(), live.clone()),
            None => {
                let (id, live) = (Arc::<str>::from(id), Arc::new(Live::new(self.next_serial)));
                self.next_serial += 1;
                self.lives.insert(id.clone(), live.clone());
                (id, live)
            }
        };
        let known = self.trunks.get(&id).map(|trunk| trunk.targets.as_slice()).unwrap_or_default();
        let mut targets = Vec::with_capacity(facts.places.len());
        for place in &facts.places {
            let live = match known.iter().find(|target| target.place.is_same(place)) {
                Some(target) => target.live.clone(),
                None => {
                    self.next_serial += 1;
                    Arc::new(TargetLive::new(self.next_serial))
                }
            };
            targets.push(Target { place: place.clone(), live });
        }
        let trunk = Arc::new(Trunk::new(id.clone(), facts, live, targets));
        self.list = None;
        let old = self.trunks.insert(id, trunk.clone());
        if let Some(old) = &old {
            self.leave(old);
        }
        self.join(&trunk);
        self.sources_stale |= old.is_none_or(|old| {
            let (old, new) = (&old.facts, &trunk.facts);
            old.places != new.places
                || old.sources != new.sources
                || old.trusted != new.trusted
                || old.certificate_name != new.certificate_name
        });
    }

    fn join(&mut self, trunk: &Trunk) {
        let group = &trunk.facts.group;
        self.members.entry(group.clone()).or_default().insert((trunk.facts.priority, trunk.id.clone()));
        self.stale.insert(group.clone());
    }

    fn leave(&mut self, trunk: &Trunk) {
        let group = &trunk.facts.group;
        if let Some(members) = self.members.get_mut(group) {
            members.remove(&(trunk.facts.priority, trunk.id.clone()));
            if members.is_empty() {
                self.members.remove(group);
            }
        }
        self.stale.insert(group.clone());
    }

    /// The trunk of this id, as the next table will have it.
    pub fn trunk(&self, id: &str) -> Option<&Arc<Trunk>> {
        self.trunks.get(id)
    }

    /// Removes a trunk. Its standing calls keep its counts, for when it comes back.
    pub fn remove(&mut self, id: &str) {
        if let Some(trunk) = self.trunks.remove(id) {
            self.list = None;
            self.leave(&trunk);
            self.sources_stale = true;
        }
        if self.lives.get(id).is_some_and(|live| live.active() == 0) {
            self.lives.remove(id);
        }
    }

    /// Adds or replaces a route.
    pub fn set_route(&mut self, route: &Arc<Route>) {
        let rule = Rule::new(route.clone());
        let old = self.routes.replace(ById(rule.clone()));
        self.swap(old.as_ref().map(|old| &old.0), Some(&rule));
    }

    /// Removes a route.
    pub fn remove_route(&mut self, id: &str) {
        let old = self.routes.take(id);
        self.swap(old.as_ref().map(|old| &old.0), None);
    }

    /// Puts a route in the place of another that the table has.
    pub fn swap_route(&mut self, old: Option<&Arc<Route>>, new: Option<&Arc<Route>>) {
        let rule = |route: &Arc<Route>| Rule::new(route.clone());
        self.swap(old.map(rule).as_ref(), new.map(rule).as_ref());
    }

    fn swap(&mut self, old: Option<&Rule>, new: Option<&Rule>) {
        if let Some(old) = old {
            numbers(old.route()).for_each(|(number, exact)| self.rules.remove(number, exact, old));
        }
        if let Some(new) = new {
            numbers(new.route()).for_each(|(number, exact)| self.rules.insert(number, exact, new));
        }
        self.count = self.count + usize::from(new.is_some()) - usize::from(old.is_some());
    }

    /// Ids of the routes that it holds.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.routes.iter().map(|rule| rule.0.id())
    }

    /// Sets how a group shares load.
    pub fn set_group(&mut self, group: &registry::Group) {
        self.settings.insert(group.id.clone(), (group.policy, group.hash_on.clone()));
        self.stale.insert(group.id.clone());
    }

    /// A group shares load as one without a record does.
    pub fn remove_group(&mut self, id: &str) {
        if let Some((id, _)) = self.settings.remove_entry(id) {
            self.stale.insert(id);
        }
    }

    /// Ids of the groups that have settings of their own.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.settings.keys()
    }

    /// Trunks it holds.
    pub fn len(&self) -> usize {
        self.trunks.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.trunks.is_empty()
    }

    /// The table of now. `revision` is what the registry calls this state.
    pub fn build(&mut self, revision: u64) -> RouteTable {
        if self.lives.len() > self.trunks.len() {
            let trunks = &self.trunks;
            self.lives.retain(|id, live| live.active() > 0 || trunks.contains_key(id));
        }
        if std::mem::take(&mut self.sources_stale) {
            self.sources = Arc::new(self.build_sources());
        }
        self.build_groups();
        let trunks = self.list.get_or_insert_with(|| self.trunks.values().cloned().collect()).clone();
        RouteTable {
            revision,
            trunks,
            groups: self.groups.clone(),
            everyone: self.everyone.clone(),
            rules: self.rules.clone(),
            routes: self.count,
            sources: self.sources.clone(),
        }
    }

    fn build_groups(&mut self) {
        let everyone_stale = !self.stale.is_empty() || self.everyone.is_none();
        for id in std::mem::take(&mut self.stale) {
            let Some(members) = self.members.get(&id) else {
                self.groups.remove(&id);
                continue;
            };
            let trunks = members.iter().filter_map(|(_, member)| self.trunks.get(member)).cloned().collect();
            let settings = self.settings.get(&id).cloned().unwrap_or_default();
            let old = self.groups.get(&id).map(|group| &**group);
            let group = Group::new(id.clone(), settings, trunks, old);
            self.groups.insert(id, Arc::new(group));
        }
        if self.count > 0 {
            self.everyone = None;
        } else if everyone_stale {
            // The record of the default group says how all share load where all are one group.
            let settings = self.settings.get(registry::GROUP).cloned().unwrap_or_default();
            let mut trunks: Vec<_> = self.trunks.values().cloned().collect();
            trunks.sort_by_key(|trunk| trunk.facts.priority);
            let group = Group::new(Arc::from(""), settings, trunks, self.everyone.as_deref());
            self.everyone = Some(Arc::new(group));
        }
    }

    fn build_sources(&self) -> Sources {
        let mut sources = Sources::default();
        for network in &self.allow {
            sources.insert(*network, false, None);
        }
        for network in &self.trust {
            sources.trust(*network);
        }
        for trunk in self.trunks.values() {
            let (facts, id) = (&trunk.facts, Some(&trunk.id));
            for place in &facts.places {
                sources.insert(IpNet::from(place.address.ip().to_canonical()), facts.trusted, id);
            }
            for network in &facts.sources {
                sources.insert(*network, facts.trusted, id);
            }
            if let Some(name) = &facts.certificate_name {
                sources.insert_name(name, facts.trusted, &trunk.id);
            }
        }
        sources
    }
}

/// A rule that is told apart by its id: a million of them need no ids beside.
#[derive(Clone, Debug)]
struct ById(Rule);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a text hashes, since it is looked for by one.
        let id: &str = self.borrow();
        id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &ById) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for ById {}

/// The numbers that a route stands under, and whether each is the whole number.
fn numbers(route: &Route) -> impl Iterator<Item = (&[u8], bool)> {
    let any = route.called.is_empty().then_some((b"".as_slice(), false));
    let named = route.called.iter().map(|called| match called {
        Called::Prefix(number) => (number.as_bytes(), false),
        Called::Exact(number) => (number.as_bytes(), true),
    });
    any.into_iter().chain(named)
}
