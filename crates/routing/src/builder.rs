//! Builds tables from facts as they change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Facts, Live, RouteTable, Sources, Target, TargetLive, Trunk};

/// Holds what the next table is built of. A change of one trunk costs one look-up; a build costs a
/// walk over all trunks, so the caller gathers changes for a moment before it builds.
#[derive(Debug)]
pub struct Builder {
    trunks: BTreeMap<Arc<str>, Arc<Trunk>>,
    lives: HashMap<Arc<str>, Arc<Live>>,
    next_serial: u32,
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
            lives: HashMap::new(),
            next_serial: 0,
            allow,
            trust,
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
        let old = self.trunks.insert(id, trunk.clone());
        self.sources_stale |= old.is_none_or(|old| {
            let (old, new) = (&old.facts, &trunk.facts);
            old.places != new.places
                || old.sources != new.sources
                || old.trusted != new.trusted
                || old.certificate_name != new.certificate_name
        });
    }

    /// The trunk of this id, as the next table will have it.
    pub fn trunk(&self, id: &str) -> Option<&Arc<Trunk>> {
        self.trunks.get(id)
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
                sources.insert(*network, false);
            }
            for network in &self.trust {
                sources.trust(*network);
            }
            for Facts { places, sources: networks, trusted, certificate_name, .. } in
                self.trunks.values().map(|trunk| &trunk.facts)
            {
                for place in places {
                    sources.insert(IpNet::from(place.address.ip().to_canonical()), *trusted);
                }
                for network in networks {
                    sources.insert(*network, *trusted);
                }
                if let Some(name) = certificate_name {
                    sources.insert_name(name, *trusted);
                }
            }
            self.sources = Arc::new(sources);
        }
        RouteTable::new(revision, self.trunks.values().cloned().collect(), self.sources.clone())
    }
}
