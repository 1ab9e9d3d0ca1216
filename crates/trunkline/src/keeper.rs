//! Keeps the route table: follows the registry and the resolver, and swaps a new table in.
//!
//! Changes are gathered while a table is being built, and a pause after each build grows with what it
//! cost, so building never takes more than a fraction of one core, however fast trunks change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use control::{Control, Feed};
use ipnet::IpNet;
use net::{Names, Service};
use registry::{Event, EventKind, Group, Transport, View};
use routing::{Builder, RouteTable};
use tracing::{debug, warn};

use crate::facts;
use crate::merit::Merits;
use crate::watch::{self, Watch};

/// The table of now.
pub type Table = Arc<ArcSwap<RouteTable>>;

/// Shortest pause between two builds.
const PAUSE: Duration = Duration::from_millis(2);
/// A pause is this many times as long as the build before it.
const REST: u32 = 4;

/// What does not come from the registry.
pub struct Rules {
    /// Networks that may place calls beside the trunks.
    pub allow: Vec<IpNet>,
    /// Networks whose asserted identities are believed.
    pub trust: Vec<IpNet>,
    /// Transports that we listen on; trunks of others cannot be reached.
    pub transports: Vec<Transport>,
}

/// Builds the first table; the returned task keeps it current until it is dropped.
pub fn start(
    control: &Arc<Control>,
    names: &Names,
    watch: &Arc<Watch>,
    merits: &Arc<Merits>,
    rules: Rules,
) -> (Table, impl Future<Output = ()> + use<>) {
    let mut keeper = Keeper {
        control: control.clone(),
        names: names.clone(),
        watch: watch.clone(),
        merits: merits.clone(),
        transports: rules.transports,
        builder: Builder::new(rules.allow, rules.trust),
        named: HashMap::new(),
        views: BTreeMap::new(),
        table: Arc::new(ArcSwap::from_pointee(RouteTable::default())),
    };
    let feed = keeper.begin();
    keeper.build();
    (keeper.table.clone(), keeper.run(feed))
}

struct Keeper {
    control: Arc<Control>,
    names: Names,
    watch: Arc<Watch>,
    merits: Arc<Merits>,
    transports: Vec<Transport>,
    builder: Builder,
    /// Services that trunks are found by, and how many trunks each has.
    named: HashMap<Service, usize>,
    /// Trunks with a host name, which change when the name does.
    views: BTreeMap<Arc<str>, View>,
    table: Table,
}

impl Keeper {
    async fn run(mut self, mut feed: Feed) {
        let mut resolved = self.names.changes();
        // When a table may be built again, where something has changed since the last.
        let mut due: Option<Instant> = None;
        let mut rested = Instant::now();
        let watch = self.watch.clone();
        loop {
            tokio::select! {
                events = feed.next_all() => match events {
                    Ok(events) => {
                        for (_, event) in events {
                            self.take(&event);
                        }
                    }
                    Err(lost) => {
                        warn!(reason = %lost, "route table: listing all trunks anew");
                        feed = self.begin();
                    }
                },
                changed = resolved.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.resolve_again();
                }
                () = watch.changed.notified() => {
                    self.judge();
                    continue;
                }
                () = until(due) => {}
            }
            if Instant::now() < rested {
                due = Some(rested);
                continue;
            }
            due = None;
            let cost = self.build();
            rested = Instant::now() + PAUSE.max(cost * REST);
        }
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Trunk(event) => match &event.view {
                Some(view) if event.kind != EventKind::Deregistered => self.set(view),
                _ => self.remove(&event.id),
            },
            Event::Route { route: Some(route), .. } => self.builder.set_route(route),
            Event::Route { id, route: None } => self.builder.remove_route(id),
            Event::Group { group: Some(group), .. } => self.set_group(group),
            Event::Group { id, group: None } => self.remove_group(id),
        }
    }

    /// Hands verdicts on: to decisions at once, and to the registry, whose events lead to the next table.
    fn judge(&mut self) {
        let mut observed = Vec::new();
        for change in self.watch.take_changes() {
            self.apply(&change);
            observed.push((change.id.clone(), self.watch.health(&change)));
        }
        if !observed.is_empty() {
            self.control.observe(observed);
        }
    }

    fn apply(&self, change: &liveness::Change) {
        let Some(trunk) = self.builder.trunk(&change.id) else { return };
        trunk.live().set_resting(change.resting);
        for target in &trunk.targets {
            let key = watch::key(&target.place);
            if let Some(flags) = change.targets.iter().find(|flags| flags.key == key) {
                watch::apply(target, flags.usable, flags.watched);
            }
        }
    }

    /// Takes all trunks over, and a feed of what comes after.
    fn begin(&mut self) -> Feed {
        let control = self.control.clone();
        let ((views, routes, groups), feed) = control.read_and_follow(|registry, now| {
            let routes: HashMap<Arc<str>, _> =
                registry.routes().map(|route| (route.id.clone(), route.clone())).collect();
            let groups: HashMap<Arc<str>, _> =
                registry.groups().map(|group| (group.id.clone(), group.clone())).collect();
            (registry.views(None, now).collect::<Vec<View>>(), routes, groups)
        });
        let known: Vec<Arc<str>> = self.table.load().trunks().iter().map(|trunk| trunk.id.clone()).collect();
        let current: std::collections::HashSet<&str> = views.iter().map(|view| &*view.trunk.id).collect();
        for gone in known.iter().filter(|id| !current.contains(&***id)) {
            self.remove(gone);
        }
        for view in &views {
            self.set(view);
        }
        let gone = |known: Vec<Arc<str>>, is_there: &dyn Fn(&str) -> bool| -> Vec<Arc<str>> {
            known.into_iter().filter(|id| !is_there(id)).collect()
        };
        for id in gone(self.builder.routes().cloned().collect(), &|id| routes.contains_key(id)) {
            self.builder.remove_route(&id);
        }
        for id in gone(self.builder.groups().cloned().collect(), &|id| groups.contains_key(id)) {
            self.remove_group(&id);
        }
        routes.values().for_each(|route| self.builder.set_route(route));
        groups.values().for_each(|group| self.set_group(group));
        feed
    }

    fn set_group(&mut self, group: &Group) {
        self.builder.set_group(group);
        self.merits.set_guard(&group.id, group.guard.as_ref());
    }

    fn remove_group(&mut self, id: &str) {
        self.builder.remove_group(id);
        self.merits.set_guard(id, None);
    }

    fn set(&mut self, view: &View) {
        let id = &view.trunk.id;
        let old = self.views.remove(id).and_then(|old| facts::service(&old));
        let new = facts::service(view);
        if let Some(name) = &new {
            self.views.insert(id.clone(), view.clone());
            if old.as_ref() != Some(name) {
                self.want(name);
            }
        }
        if let Some(name) = old.filter(|old| Some(old) != new.as_ref()) {
            self.unwant(&name);
        }
        self.place(view);
    }

    fn place(&mut self, view: &View) {
        let id = &view.trunk.id;
        let facts = facts::of(view, &self.names, &self.transports);
        self.watch.set(id, view.trunk.probe.as_deref(), &facts.places);
        self.builder.set(id, facts);
        if let Some(trunk) = self.builder.trunk(id) {
            self.merits.set(trunk, view.trunk.group());
        }
        // New targets take over what is known of them.
        if let Some(state) = self.watch.state_of(id) {
            self.apply(&state);
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(name) = self.views.remove(id).and_then(|view| facts::service(&view)) {
            self.unwant(&name);
        }
        self.watch.remove(id);
        self.merits.remove(id);
        self.builder.remove(id);
    }

    fn want(&mut self, name: &Service) {
        let count = self.named.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.names.watch(name);
        }
    }

    fn unwant(&mut self, name: &Service) {
        let Some(count) = self.named.get_mut(name) else { return };
        *count -= 1;
        if *count == 0 {
            self.named.remove(name);
            self.names.unwatch(name);
        }
    }

    fn resolve_again(&mut self) {
        for view in self.views.values().cloned().collect::<Vec<_>>() {
            self.place(&view);
        }
    }

    fn build(&mut self) -> Duration {
        let begun = Instant::now();
        let table = self.builder.build(self.control.revision());
        debug!(revision = table.revision(), trunks = table.trunks().len(), "route table built");
        self.table.store(Arc::new(table));
        begun.elapsed()
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
