//! A group in a table: the trunks that share load, by priority.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use registry::{HashOn, Policy};

use crate::Trunk;
use crate::policy::fnv;
use crate::turns::Turns;

/// Trunks that share load.
#[derive(Debug)]
pub(crate) struct Group {
    pub id: Arc<str>,
    pub policy: Policy,
    pub hash_on: HashOn,
    /// All of them, by priority and id.
    pub trunks: Vec<Arc<Trunk>>,
    pub tiers: Vec<Tier>,
}

/// Candidates of one priority: those without an obstacle.
#[derive(Debug)]
pub(crate) struct Tier {
    pub priority: u32,
    pub trunks: Vec<Arc<Trunk>>,
    /// Serial numbers and weights of the trunks.
    members: Vec<(u32, u32)>,
    /// `ends[i]` is the sum of the weights up to and with trunk `i`.
    pub ends: Vec<u64>,
    /// Hashes of the trunks' ids.
    pub hashes: Vec<u64>,
    /// Shared by all tables that have the same members.
    pub turns: Arc<Mutex<Turns>>,
}

impl Group {
    /// `trunks` are by priority and id; `old` is the group as it was, whose turns go on.
    pub fn new(id: Arc<str>, settings: (Policy, HashOn), trunks: Vec<Arc<Trunk>>, old: Option<&Group>) -> Group {
        let mut tiers: BTreeMap<u32, Vec<Arc<Trunk>>> = BTreeMap::new();
        for trunk in trunks.iter().filter(|trunk| trunk.is_candidate()) {
            tiers.entry(trunk.facts.priority).or_default().push(trunk.clone());
        }
        let before = |priority: u32| old?.tiers.iter().find(|tier| tier.priority == priority);
        let tiers = tiers.into_iter().map(|(priority, trunks)| Tier::new(priority, trunks, before(priority))).collect();
        let (policy, hash_on) = settings;
        Group { id, policy, hash_on, trunks, tiers }
    }

    /// Whether it could take calls, but every trunk of it is in doubt.
    pub fn is_in_panic(&self) -> bool {
        !self.tiers.is_empty() && !self.tiers.iter().any(|tier| tier.trunks.iter().any(|trunk| trunk.is_well()))
    }
}

impl Tier {
    fn new(priority: u32, trunks: Vec<Arc<Trunk>>, old: Option<&Tier>) -> Tier {
        let members: Vec<(u32, u32)> = trunks.iter().map(|trunk| (trunk.live.serial(), trunk.weight())).collect();
        let turns = match old {
            Some(old) if old.members == members => old.turns.clone(),
            Some(old) => {
                let keys: Vec<u32> = old.members.iter().map(|(serial, _)| *serial).collect();
                let before = old.turns.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::new(Mutex::new(Turns::new(members.iter().copied(), Some((&before, &keys)))))
            }
            None => Arc::new(Mutex::new(Turns::new(members.iter().copied(), None))),
        };
        let mut end = 0;
        let sum = |(_, weight): &(u32, u32)| {
            end += u64::from(*weight);
            end
        };
        Tier {
            priority,
            ends: members.iter().map(sum).collect(),
            hashes: trunks.iter().map(|trunk| fnv(trunk.id.as_bytes())).collect(),
            trunks,
            members,
            turns,
        }
    }
}
