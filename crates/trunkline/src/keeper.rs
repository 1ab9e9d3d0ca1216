//! Keeps the route table: follows the registry and the resolver, and swaps a new table in.
//!
//! Changes are gathered while a table is being built, and a pause after each build grows with what it
//! cost, so building never takes more than a fraction of one core, however fast trunks change.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use control::{Control, Feed};
use ipnet::IpNet;
use net::{Names, Service, State};
use registry::{Trunk, View};
use routing::{Builder, Facts, Place, RouteTable};
use tracing::{debug, warn};

/// The table of now.
pub type Table = Arc<ArcSwap<RouteTable>>;

/// Shortest pause between two builds.
const PAUSE: Duration = Duration::from_millis(2);
/// A pause is this many times as long as the build before it.
const REST: u32 = 4;

/// Builds the first table; the returned task keeps it current until it is dropped.
pub fn start(
    control: &Arc<Control>,
    names: &Names,
    allow: Vec<IpNet>,
    trust: Vec<IpNet>,
) -> (Table, impl Future<Output = ()> + use<>) {
    let mut keeper = Keeper {
        control: control.clone(),
        names: names.clone(),
        builder: Builder::new(allow, trust),
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
        loop {
            tokio::select! {
                events = feed.next() => match events {
                    Ok(events) => {
                        for (_, event) in events {
                            match &event.view {
                                Some(view) if event.kind != registry::EventKind::Deregistered => self.set(view),
                                _ => self.remove(&event.id),
                            }
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
            }
            let cost = self.build();
            tokio::time::sleep(PAUSE.max(cost * REST)).await;
        }
    }

    /// Takes all trunks over, and a feed of what comes after.
    fn begin(&mut self) -> Feed {
        let control = self.control.clone();
        let (views, feed) = control.read_and_follow(|registry, now| registry.views(None, now).collect::<Vec<View>>());
        let known: Vec<Arc<str>> = self.table.load().trunks().iter().map(|trunk| trunk.id.clone()).collect();
        let current: std::collections::HashSet<&str> = views.iter().map(|view| &*view.trunk.id).collect();
        for gone in known.iter().filter(|id| !current.contains(&***id)) {
            self.remove(gone);
        }
        for view in &views {
            self.set(view);
        }
        feed
    }

    fn set(&mut self, view: &View) {
        let id = &view.trunk.id;
        let old = self.views.remove(id).and_then(|old| service(&old.trunk));
        let new = service(&view.trunk);
        if let Some(name) = &new {
            self.views.insert(id.clone(), view.clone());
            if old.as_ref() != Some(name) {
                self.want(name);
            }
        }
        if let Some(name) = old.filter(|old| Some(old) != new.as_ref()) {
            self.unwant(&name);
        }
        self.builder.set(id, facts(view, &self.names));
    }

    fn remove(&mut self, id: &str) {
        if let Some(name) = self.views.remove(id).and_then(|view| service(&view.trunk)) {
            self.unwant(&name);
        }
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
        for (id, view) in &self.views {
            self.builder.set(id, facts(view, &self.names));
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

/// What a trunk is found by; none where its URI has an address.
fn service(trunk: &Trunk) -> Option<Service> {
    let uri = sip::Uri::parse(trunk.sip_uri.as_bytes()).ok()?;
    Service::of(&uri, trunk.transport_given.then_some(trunk.transport))
}

fn facts(view: &View, names: &Names) -> Facts {
    let trunk = &*view.trunk;
    let (places, unreachable) = resolve(trunk, names);
    Facts {
        sip_uri: trunk.sip_uri.to_string(),
        places,
        priority: trunk.priority,
        weight: trunk.weight,
        max_channels: trunk.max_channels,
        max_cps: trunk.max_cps,
        reroute_on: trunk.reroute_on().to_vec(),
        sources: trunk.sources.to_vec(),
        obstacles: view.reasons.iter().map(ToString::to_string).collect(),
        unreachable,
        ..Facts::default()
    }
}

fn resolve(trunk: &Trunk, names: &Names) -> (Vec<Place>, Option<String>) {
    let Ok(uri) = sip::Uri::parse(trunk.sip_uri.as_bytes()) else { return (Vec::new(), None) };
    if let sip::Host::Ip(ip) = uri.host {
        let port = uri.port.unwrap_or(trunk.transport.default_port());
        let place = Place { transport: trunk.transport, ..Place::udp(SocketAddr::new(ip, port)) };
        return (vec![place], None);
    }
    let Some(service) = service(trunk) else { return (Vec::new(), None) };
    let name = &service.host;
    match names.get(&service) {
        State::Known { places, .. } => (places.to_vec(), None),
        State::Pending => (Vec::new(), Some(format!("unresolved: {name} (asking)"))),
        State::Failed(why) => (Vec::new(), Some(format!("unresolved: {name} ({why})"))),
    }
}
