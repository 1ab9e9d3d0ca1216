//! The decision: which trunk gets this request, and at which of its targets.
//!
//! Candidates are the trunks without an obstacle. The lowest `priority` that has room wins; inside
//! it the draw is weighted, and a trunk without room counts as absent from the draw, never as an
//! answer while another has room. Doubts (probes, failed calls, a rest asked for, the guard of its group) keep calls away from a trunk as long as
//! any trunk is without; when all are in doubt, the doubts are more likely wrong than all trunks, and are overruled.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sip::Transport;

use crate::random::SplitMix;
use crate::{Admission, Seat, Sources, Trunk};

/// All trunks at one revision of the registry.
#[derive(Debug, Default)]
pub struct RouteTable {
    revision: u64,
    trunks: Vec<Arc<Trunk>>,
    tiers: Vec<Tier>,
    blocked: Vec<Arc<Trunk>>,
    sources: Arc<Sources>,
}

/// Trunks of one priority.
#[derive(Debug, Default)]
struct Tier {
    /// Without a doubt when the table was built.
    good: Pool,
    /// Those in doubt, too; none where there are none.
    all: Option<Pool>,
}

/// Trunks to draw from; `ends[i]` is the sum of the weights up to and with trunk `i`.
#[derive(Debug, Default)]
struct Pool {
    trunks: Vec<Arc<Trunk>>,
    ends: Vec<u64>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// It begins a call: takes a channel, and counts against the rate.
    pub begins_call: bool,
    /// It may go by TLS alone (`sips:`, RFC 3261 §26.2.2).
    pub secure: bool,
    /// Serial numbers ([`crate::Live::serial`]) of trunks that had their chance.
    pub tried: &'a [u32],
    /// Id of the trunk whose further targets come first, and the serial numbers of those that had their chance (RFC 3263
    /// §4.3).
    pub again: Option<(&'a str, &'a [u32])>,
    /// Microseconds of the router's clock.
    pub now: u64,
    /// 64 random bits.
    pub draw: u64,
}

/// What [`RouteTable::decide`] found.
#[derive(Debug)]
pub enum Decision {
    /// A trunk.
    Trunk {
        /// The trunk, with a channel where one was asked for.
        seat: Seat,
        /// Which of its targets.
        target: usize,
        /// Whether all trunks were in doubt, and this one was taken nevertheless.
        panic: bool,
    },
    /// None, and why, in words.
    Nobody(String),
}

/// Draws by rejection before the exact draw, which walks the whole tier.
const QUICK_DRAWS: usize = 4;
/// Trunks named in a refusal; the rest is counted.
const NAMED: usize = 3;

impl RouteTable {
    pub(crate) fn new(revision: u64, trunks: Vec<Arc<Trunk>>, sources: Arc<Sources>) -> RouteTable {
        let mut tiers: BTreeMap<u32, Vec<Arc<Trunk>>> = BTreeMap::new();
        let mut blocked = Vec::new();
        for trunk in &trunks {
            if trunk.is_candidate() {
                tiers.entry(trunk.facts.priority).or_default().push(trunk.clone());
            } else {
                blocked.push(trunk.clone());
            }
        }
        let tier = |all: Vec<Arc<Trunk>>| {
            let good: Vec<_> = all.iter().filter(|trunk| trunk.facts.doubts.is_empty()).cloned().collect();
            let all = (good.len() < all.len()).then(|| Pool::new(all));
            Tier { good: Pool::new(good), all }
        };
        RouteTable { revision, trunks, tiers: tiers.into_values().map(tier).collect(), blocked, sources }
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

    /// What an address, with the names of its verified certificate, may do.
    pub fn admit(&self, source: IpAddr, names: &[Box<str>]) -> Admission {
        self.sources.admit(source, names)
    }

    /// Whether every trunk that could take calls is in doubt now.
    pub fn is_in_panic(&self) -> bool {
        !self.tiers.is_empty() && self.tiers.iter().all(|tier| !tier.good.trunks.iter().any(|trunk| trunk.is_well()))
    }

    /// Chooses a trunk and one of its targets.
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        let mut random = SplitMix(ask.draw);
        let again = ask.again.and_then(|(id, tried)| {
            let trunk = self.trunk(id).filter(|trunk| trunk.is_candidate())?;
            let well = pick(trunk, ask.secure, tried, false, &mut random).map(|target| (target, false));
            let any = |random: &mut SplitMix| pick(trunk, ask.secure, tried, true, random).map(|target| (target, true));
            let (target, panic) = well.or_else(|| self.is_in_panic().then(|| any(&mut random)).flatten())?;
            let seat = if ask.begins_call { Seat::take(trunk)? } else { Seat::without_channel(trunk) };
            Some(Decision::Trunk { seat, target, panic })
        });
        let choose = |pool: fn(&Tier) -> &Pool, panic: bool, random: &mut SplitMix| {
            self.tiers.iter().find_map(|tier| pool(tier).choose(ask, panic, random))
        };
        again
            .or_else(|| choose(|tier| &tier.good, false, &mut random))
            .or_else(|| {
                let panic = self.is_in_panic();
                panic.then(|| choose(|tier| tier.all.as_ref().unwrap_or(&tier.good), true, &mut random)).flatten()
            })
            .unwrap_or_else(|| Decision::Nobody(self.why_nobody(ask)))
    }

    fn why_nobody(&self, ask: &Ask<'_>) -> String {
        if self.trunks.is_empty() {
            return "no trunk is registered".to_owned();
        }
        let live = self.tiers.iter().flat_map(|tier| &tier.all.as_ref().unwrap_or(&tier.good).trunks);
        let mut text = String::from("no trunk:");
        for (n, trunk) in live.chain(&self.blocked).take(NAMED).enumerate() {
            let reasons = if ask.tried.contains(&trunk.live.serial()) {
                "tried".to_owned()
            } else {
                trunk.reasons(ask.now).join(", ")
            };
            let reasons = match reasons.as_str() {
                "" if trunk.targets.is_empty() => "unresolved",
                "" if ask.secure => "not reached by TLS",
                "" if !trunk.is_well() => "down",
                "" => "full",
                reasons => reasons,
            };
            text.push_str(if n == 0 { " " } else { "; " });
            text.push_str(&format!("{} {reasons}", trunk.id));
        }
        if self.trunks.len() > NAMED {
            text.push_str(&format!("; and {} more", self.trunks.len() - NAMED));
        }
        text
    }
}

impl Pool {
    fn new(trunks: Vec<Arc<Trunk>>) -> Pool {
        let mut end = 0;
        let sum = |trunk: &Arc<Trunk>| {
            end += u64::from(trunk.weight());
            end
        };
        Pool { ends: trunks.iter().map(sum).collect(), trunks }
    }

    fn choose(&self, ask: &Ask<'_>, panic: bool, random: &mut SplitMix) -> Option<Decision> {
        let total = *self.ends.last()?;
        for _ in 0..QUICK_DRAWS {
            let point = random.below(total);
            let trunk = &self.trunks[self.ends.partition_point(|end| *end <= point)];
            if let Some(decision) = take(trunk, ask, panic, random) {
                return Some(decision);
            }
        }
        let has_room = |trunk: &&Arc<Trunk>| {
            let full = ask.begins_call && (trunk.is_full() || trunk.is_at_rate(ask.now));
            !full && !ask.tried.contains(&trunk.live.serial()) && (panic || trunk.is_open(ask.now))
        };
        let mut left: Vec<&Arc<Trunk>> = self.trunks.iter().filter(has_room).collect();
        while !left.is_empty() {
            let mut point = random.below(left.iter().map(|trunk| u64::from(trunk.weight())).sum());
            let at = left.iter().position(|trunk| {
                let weight = u64::from(trunk.weight());
                let hit = point < weight;
                point = point.saturating_sub(weight);
                hit
            })?;
            // Another thread may have taken the last channel since.
            if let Some(decision) = take(left[at], ask, panic, random) {
                return Some(decision);
            }
            left.swap_remove(at);
        }
        None
    }
}

fn take(trunk: &Arc<Trunk>, ask: &Ask<'_>, panic: bool, random: &mut SplitMix) -> Option<Decision> {
    if ask.tried.contains(&trunk.live.serial()) || (!panic && !trunk.is_open(ask.now)) {
        return None;
    }
    let target = pick(trunk, ask.secure, &[], panic, random)?;
    if !ask.begins_call {
        return Some(Decision::Trunk { seat: Seat::without_channel(trunk), target, panic });
    }
    let seat = Seat::take(trunk)?;
    if trunk.facts.max_cps.is_some_and(|rate| !trunk.live.rate.take(rate, ask.now)) {
        return None;
    }
    // Last, as it takes the place of the next call on trial.
    if !panic && !trunk.live.gate().take(ask.now / 1000) {
        return None;
    }
    Some(Decision::Trunk { seat, target, panic })
}

/// A target of the lowest priority, drawn by weight (RFC 2782); usable ones alone, or in a panic any.
fn pick(trunk: &Trunk, secure: bool, tried: &[u32], panic: bool, random: &mut SplitMix) -> Option<usize> {
    let fits = |at: &usize| {
        let target = &trunk.targets[*at];
        (!secure || target.place.transport == Transport::Tls)
            && (panic || target.live.is_usable())
            && !tried.contains(&target.live.serial())
    };
    if let [_] = trunk.targets.as_slice() {
        return Some(0).filter(fits);
    }
    let all = 0..trunk.targets.len();
    let priority = all.clone().filter(fits).map(|at| trunk.targets[at].place.priority).min()?;
    let of_it = |at: &usize| trunk.targets[*at].place.priority == priority && fits(at);
    // A weight of 0 is to have a very small chance: a hundredth of the least one.
    let weight = |at: usize| u64::from(trunk.targets[at].place.weight) * 100 + 1;
    let mut point = random.below(all.clone().filter(of_it).map(weight).sum());
    all.filter(of_it).find(|at| {
        let hit = point < weight(*at);
        point = point.saturating_sub(weight(*at));
        hit
    })
}
