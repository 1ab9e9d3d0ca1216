//! Builds tables from facts as they change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Facts, Live, RouteTable, Sources, Trunk};

/// Holds what the next table is built of. A change of one trunk costs one look-up; a build costs a
/// walk over all trunks, so the caller gathers changes for a moment before it builds.
#[derive(Debug)]
pub struct Builder {
    trunks: BTreeMap<Arc<str>, Arc<Trunk>>,
    lives: HashMap<Arc<str>, Arc<Live>>,
    next_serial: u32,
    allow: Vec<IpNet>,
    sources: Arc<Sources>,
    sources_stale: bool,
}

impl Builder {
    /// `allow`: networks that may place calls beside the trunks themselves.
    pub fn new(allow: Vec<IpNet>) -> Builder {
        Builder {
            trunks: BTreeMap::new(),
            lives: HashMap::new(),
            next_serial: 0,
            allow,
            sources: Arc::default(),
            sources_stale: true,
        }
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
        let trunk = Arc::new(Trunk::new(id.clone(), facts, live));
        let old = self.trunks.insert(id, trunk.clone());
        self.sources_stale |= old.is_none_or(|old| old.addresses != trunk.addresses || old.sources != trunk.sources);
    }

    /// Removes a trunk. Its standing calls keep its counts, for when it comes back.
    pub fn remove(&mut self, id: &str) {
        if self.trunks.remove(id).is_some() {
            self.sources_stale = true;
        }
        if self.lives.get(id).is_some_and(|live| live.active() == 0) {
            self.lives.remove(id);
        }
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
            let mut sources = Sources::default();
            for network in &self.allow {
                sources.insert(*network);
            }
            for trunk in self.trunks.values() {
                for address in &trunk.addresses {
                    sources.insert(IpNet::from(address.ip().to_canonical()));
                }
                for network in &trunk.sources {
                    sources.insert(*network);
                }
            }
            self.sources = Arc::new(sources);
        }
        RouteTable::new(revision, self.trunks.values().cloned().collect(), self.sources.clone())
    }
}
