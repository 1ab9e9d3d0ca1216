//! How one tier shares load.
//!
//! A policy only orders: whether a trunk may have the request is asked of the [`Search`], which also takes the place on it. So a
//! trunk without life or room gets nothing by any policy, and while one has both, somebody gets it.

use registry::{HashOn, Policy};

use crate::group::{Group, Tier};
use crate::hand::Hand;
use crate::random::SplitMix;
use crate::search::{Found, Search};
use crate::{Subject, Trunk};

/// Draws by rejection before the exact draw, which walks the whole tier.
const QUICK_DRAWS: usize = 4;

impl Tier {
    /// Gives the request to one of the trunks that may have it.
    pub fn choose<H: Hand>(&self, group: &Group, search: &mut Search<'_, H>) -> Option<Found<H::Taken>> {
        match group.policy {
            Policy::Weighted => search.turn(&self.turns, |search, at| search.take(&self.trunks[at])),
            Policy::Hash => {
                let key = key(&group.hash_on, &search.ask.subject);
                self.best(search, |at| rendezvous(key ^ self.hashes[at], self.trunks[at].weight()))
            }
            Policy::LeastCalls => self.best(search, |at| -load(&self.trunks[at])),
            Policy::Fastest => self.fastest(search),
        }
    }

    /// The highest score of those that may have it; among equals by lot.
    fn best<H: Hand>(&self, search: &mut Search<'_, H>, score: impl Fn(usize) -> f64) -> Option<Found<H::Taken>> {
        let mut failed: Vec<usize> = Vec::new();
        loop {
            let mut best: Option<(f64, u64, usize)> = None;
            for (at, trunk) in self.trunks.iter().enumerate() {
                let score = score(at);
                // What cannot win need not be looked at: of a large tier few are.
                if best.is_some_and(|(other, _, _)| score < other) {
                    continue;
                }
                let lot = search.random.next();
                let wins = best.is_none_or(|(other, others, _)| score.total_cmp(&other).then(lot.cmp(&others)).is_gt());
                if wins && !failed.contains(&at) && search.fits(trunk) {
                    best = Some((score, lot, at));
                }
            }
            let (_, _, at) = best?;
            if let Some(found) = search.take(&self.trunks[at]) {
                return Some(found);
            }
            // Another thread has taken the last channel since.
            failed.push(at);
        }
    }

    /// The better of two that are drawn by weight: "the power of two choices" (Mitzenmacher, 2001). Nobody is flooded because it
    /// was the fastest a moment ago.
    fn fastest<H: Hand>(&self, search: &mut Search<'_, H>) -> Option<Found<H::Taken>> {
        let millis = search.ask.now / 1000;
        let cost = |at: usize| self.trunks[at].live.averages().cost(millis);
        let mut drawn = self.draw_two(search);
        drawn.sort_by(|one, other| cost(*one).total_cmp(&cost(*other)));
        let found = drawn.into_iter().find_map(|at| search.take(&self.trunks[at]));
        // Where other threads were faster with both, or nobody fits.
        found.or_else(|| self.best(search, |at| -f64::from(cost(at))))
    }

    /// Two that may have it, drawn by weight; fewer where there are no two.
    fn draw_two<H: Hand>(&self, search: &mut Search<'_, H>) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(2);
        let Some(total) = self.ends.last() else { return drawn };
        for _ in 0..QUICK_DRAWS {
            let point = search.random.below(*total);
            let at = self.ends.partition_point(|end| *end <= point);
            if !drawn.contains(&at) && search.fits(&self.trunks[at]) {
                drawn.push(at);
            }
            if drawn.len() == 2 {
                return drawn;
            }
        }
        let mut left: Vec<usize> = (0..self.trunks.len()).collect();
        left.retain(|at| !drawn.contains(at) && search.fits(&self.trunks[*at]));
        while drawn.len() < 2 && !left.is_empty() {
            let weight = |at: &usize| u64::from(self.trunks[*at].weight());
            let mut point = search.random.below(left.iter().map(weight).sum());
            let hit = left.iter().position(|at| {
                let hit = point < weight(at);
                point = point.saturating_sub(weight(at));
                hit
            });
            drawn.push(left.swap_remove(hit.unwrap_or(0)));
        }
        drawn
    }
}

/// Active calls for each channel. A trunk without `max_channels` counts as one with as many channels as its weight.
fn load(trunk: &Trunk) -> f64 {
    let channels = trunk.facts.max_channels.unwrap_or(trunk.weight()).max(1);
    f64::from(trunk.live.active()) / f64::from(channels)
}

/// The score of a trunk for a key: the highest wins, each as often as its weight says (rendezvous hashing; Schindelhauer and
/// Schomaker, "Weighted distributed hash tables", 2005). When a trunk leaves, the scores of all others stay.
fn rendezvous(hash: u64, weight: u32) -> f64 {
    // Uniform above 0 and up to 1, in 53 bits.
    let unit = ((mix(hash) >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -f64::from(weight) / unit.ln().min(-f64::MIN_POSITIVE)
}

/// What the hash is computed from; the same in all processes.
fn key(on: &HashOn, subject: &Subject<'_>) -> u64 {
    let mut hash = 0;
    let uri = |value: &[u8]| {
        let uri = sip::NameAddr::parse(value).ok().and_then(|address| sip::Uri::parse(address.uri).ok());
        uri.map_or_else(
            || fnv(value),
            |uri| fnv(uri.user.unwrap_or_default()) ^ mix(fnv(&uri.host_bytes.to_ascii_lowercase())),
        )
    };
    match on {
        HashOn::CallId => hash = fnv(subject.call_id),
        HashOn::From => drop(subject.headers.any("From", &mut |value| {
            hash = uri(value);
            true
        })),
        HashOn::To => drop(subject.headers.any("To", &mut |value| {
            hash = uri(value);
            true
        })),
        // All lines of the name, in any order.
        HashOn::Header(name) => drop(subject.headers.any(name, &mut |value| {
            hash ^= mix(fnv(value));
            false
        })),
    }
    hash
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

fn mix(hash: u64) -> u64 {
    SplitMix(hash).next()
}
