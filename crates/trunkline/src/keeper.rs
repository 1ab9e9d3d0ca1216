//! Keeps the route table: follows the registry and the resolver, and swaps a new table in.
//!
//! Changes are gathered while a table is being built, and a pause after each build grows with what it
//! cost, so building never takes more than a fraction of one core, however fast trunks change.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use control::{Control, Feed};
use ipnet::IpNet;
use net::{Names, State};
use registry::{Transport, Trunk, View};
use routing::{Builder, Facts, RouteTable};
use tracing::{debug, warn};

/// The table of now.
pub type Table = Arc<ArcSwap<RouteTable>>;

/// Shortest pause between two builds.
const PAUSE: Duration = Duration::from_millis(2);
/// A pause is this many times as long as the build before it.
const REST: u32 = 4;

/// Builds the first table; the returned task keeps it current until it is dropped.
pub fn start(control: &Arc<Control>, names: &Names, allow: Vec<IpNet>) -> (Table, impl Future<Output = ()> + use<>) {
    let mut keeper = Keeper {
        control: control.clone(),
        names: names.clone(),
        builder: Builder::new(allow),
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
    /// Host names of trunks, and how many trunks each has.
    named: HashMap<Box<str>, usize>,
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
        let old = self.views.remove(id).and_then(|old| host_name(&old.trunk));
        let new = host_name(&view.trunk);
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
        if let Some(name) = self.views.remove(id).and_then(|view| host_name(&view.trunk)) {
            self.unwant(&name);
        }
        self.builder.remove(id);
    }

    fn want(&mut self, name: &str) {
        let count = self.named.entry(name.into()).or_default();
        *count += 1;
        if *count == 1 {
            self.names.watch(name);
        }
    }

    fn unwant(&mut self, name: &str) {
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

fn host_name(trunk: &Trunk) -> Option<Box<str>> {
    match sip::Uri::parse(trunk.sip_uri.as_bytes()).ok()?.host {
        sip::Host::Name(name) => std::str::from_utf8(name).ok().map(|name| name.to_ascii_lowercase().into()),
        sip::Host::Ip(_) => None,
    }
}

fn facts(view: &View, names: &Names) -> Facts {
    let trunk = &*view.trunk;
    let (addresses, unreachable) = match trunk.transport {
        Transport::Udp => resolve(trunk, names),
        other => (Vec::new(), Some(format!("transport {other} is not available"))),
    };
    Facts {
        sip_uri: trunk.sip_uri.to_string(),
        addresses,
        priority: trunk.priority,
        weight: trunk.weight,
        max_channels: trunk.max_channels,
        reroute_on: trunk.reroute_on().to_vec(),
        sources: trunk.sources.to_vec(),
        obstacles: view.reasons.iter().map(ToString::to_string).collect(),
        unreachable,
    }
}

fn resolve(trunk: &Trunk, names: &Names) -> (Vec<SocketAddr>, Option<String>) {
    let Ok(uri) = sip::Uri::parse(trunk.sip_uri.as_bytes()) else { return (Vec::new(), None) };
    let port = uri.port.unwrap_or(5060);
    let at = |ip: &IpAddr| SocketAddr::new(*ip, port);
    match uri.host {
        sip::Host::Ip(ip) => (vec![at(&ip)], None),
        sip::Host::Name(name) => {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            match names.get(&name) {
                State::Known { addresses, .. } => (addresses.iter().map(at).collect(), None),
                State::Pending => (Vec::new(), Some(format!("unresolved: {name} (asking)"))),
                State::Failed(why) => (Vec::new(), Some(format!("unresolved: {name} ({why})"))),
            }
        }
    }
}
