//! The decision: which trunk gets this request.
//!
//! Candidates are the trunks without an obstacle. The lowest `priority` that has room wins; inside
//! it the draw is weighted, and a trunk without room counts as absent from the draw, never as an
//! answer while another has room.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{Seat, Sources, Trunk};

/// All trunks at one revision of the registry.
#[derive(Debug, Default)]
pub struct RouteTable {
    revision: u64,
    trunks: Vec<Arc<Trunk>>,
    tiers: Vec<Tier>,
    blocked: Vec<Arc<Trunk>>,
    sources: Arc<Sources>,
}

/// Trunks of one priority; `ends[i]` is the sum of the weights up to and with trunk `i`.
#[derive(Debug, Default)]
struct Tier {
    trunks: Vec<Arc<Trunk>>,
    ends: Vec<u64>,
}

/// What [`RouteTable::decide`] found.
#[derive(Debug)]
pub enum Decision {
    /// The trunk, with a channel where one was asked for.
    Trunk(Seat),
    /// None, and why, in words.
    Nobody(String),
}

/// Draws by rejection before the exact draw, which walks the whole tier.
const QUICK_DRAWS: usize = 4;
/// Trunks named in a refusal; the rest is counted.
const NAMED: usize = 3;

impl RouteTable {
    pub(crate) fn new(revision: u64, trunks: Vec<Arc<Trunk>>, sources: Arc<Sources>) -> RouteTable {
        let mut tiers: BTreeMap<u32, Tier> = BTreeMap::new();
        let mut blocked = Vec::new();
        for trunk in &trunks {
            if trunk.is_candidate() {
                let tier = tiers.entry(trunk.priority).or_default();
                tier.ends.push(tier.ends.last().copied().unwrap_or(0) + u64::from(trunk.weight));
                tier.trunks.push(trunk.clone());
            } else {
                blocked.push(trunk.clone());
            }
        }
        RouteTable { revision, trunks, tiers: tiers.into_values().collect(), blocked, sources }
    }

    /// What the registry calls this state.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Trunks in all, by id.
    pub fn trunks(&self) -> &[Arc<Trunk>] {
        &self.trunks
    }

    /// The trunk of this id.
    pub fn trunk(&self, id: &str) -> Option<&Arc<Trunk>> {
        self.trunks.binary_search_by(|trunk| (*trunk.id).cmp(id)).ok().map(|at| &self.trunks[at])
    }

    /// Whether this address may place calls.
    pub fn allows(&self, source: IpAddr) -> bool {
        self.sources.contains(source)
    }

    /// Chooses a trunk. `tried` holds serial numbers ([`crate::Live::serial`]) of trunks that had
    /// their chance; `draw` is 64 random bits.
    pub fn decide(&self, takes_channel: bool, tried: &[u32], draw: u64) -> Decision {
        let mut random = SplitMix(draw);
        self.tiers
            .iter()
            .find_map(|tier| tier.choose(takes_channel, tried, &mut random))
            .map_or_else(|| Decision::Nobody(self.why_nobody(tried)), Decision::Trunk)
    }

    fn why_nobody(&self, tried: &[u32]) -> String {
        if self.trunks.is_empty() {
            return "no trunk is registered".to_owned();
        }
        let live = self.tiers.iter().flat_map(|tier| &tier.trunks);
        let mut text = String::from("no trunk:");
        for (n, trunk) in live.chain(&self.blocked).take(NAMED).enumerate() {
            let reasons =
                if tried.contains(&trunk.live.serial()) { "tried".to_owned() } else { trunk.reasons().join(", ") };
            let reasons = if reasons.is_empty() { "full" } else { &reasons };
            text.push_str(if n == 0 { " " } else { "; " });
            text.push_str(&format!("{} {reasons}", trunk.id));
        }
        if self.trunks.len() > NAMED {
            text.push_str(&format!("; and {} more", self.trunks.len() - NAMED));
        }
        text
    }
}

impl Tier {
    fn choose(&self, takes_channel: bool, tried: &[u32], random: &mut SplitMix) -> Option<Seat> {
        let seat = |trunk: &Arc<Trunk>| {
            if takes_channel { Seat::take(trunk) } else { Some(Seat::without_channel(trunk)) }
        };
        let total = *self.ends.last()?;
        for _ in 0..QUICK_DRAWS {
            let point = random.below(total);
            let trunk = &self.trunks[self.ends.partition_point(|end| *end <= point)];
            if !tried.contains(&trunk.live.serial())
                && let Some(seat) = seat(trunk)
            {
                return Some(seat);
            }
        }
        let has_room =
            |trunk: &&Arc<Trunk>| !(tried.contains(&trunk.live.serial()) || takes_channel && trunk.is_full());
        let mut left: Vec<&Arc<Trunk>> = self.trunks.iter().filter(has_room).collect();
        while !left.is_empty() {
            let mut point = random.below(left.iter().map(|trunk| u64::from(trunk.weight)).sum());
            let at = left.iter().position(|trunk| {
                let weight = u64::from(trunk.weight);
                let hit = point < weight;
                point = point.saturating_sub(weight);
                hit
            })?;
            // Another thread may have taken the last channel since.
            if let Some(seat) = seat(left[at]) {
                return Some(seat);
            }
            left.swap_remove(at);
        }
        None
    }
}

/// Stretches 64 random bits over several draws (Steele et al., SplitMix64).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0; the bias of the multiplication is below 2^-40 here.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
