//! Whose turn it is: weighted sharing, smooth and exact.
//!
//! A trunk of weight `w` has its turns at the positions `(2k+1)/2w` of each round, evenly spread; turns are taken in the order of
//! their positions. So any run of as many turns as the weights add up to gives each trunk as many as its weight, while nobody is
//! passed over. Who is passed over (full, down, tried) loses the turns that go by: it comes back without a burst.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

/// A turn to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    round: u64,
    k: u32,
    weight: u32,
    /// Whose it is.
    index: u32,
}

/// The turns of some members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    heap: BinaryHeap<Reverse<Turn>>,
    /// The last turn that was taken.
    now: Option<Turn>,
    passed: Vec<Turn>,
}

impl Turn {
    /// (2k+1) of this and 2w of the other, over a common denominator.
    fn cross(&self, other: &Turn) -> u64 {
        (2 * u64::from(self.k) + 1) * u64::from(other.weight)
    }

    /// The position alone.
    fn compare_position(&self, other: &Turn) -> Ordering {
        self.round.cmp(&other.round).then(self.cross(other).cmp(&other.cross(self)))
    }

    fn next(self) -> Turn {
        if self.k + 1 < self.weight {
            Turn { k: self.k + 1, ..self }
        } else {
            Turn { round: self.round + 1, k: 0, ..self }
        }
    }

    /// The first turn of the same member after a position, not before this one.
    fn after(self, now: &Turn) -> Turn {
        if self.compare_position(now) == Ordering::Greater {
            return self;
        }
        // (2k+1)/2w > (2K+1)/2W
        let (weight, of) = (u64::from(self.weight), u64::from(now.weight));
        let past = ((2 * u64::from(now.k) + 1) * weight / of).saturating_sub(1) / 2;
        let mut turn = Turn { round: now.round, k: past as u32, ..self };
        while turn.compare_position(now) != Ordering::Greater {
            turn = turn.next();
        }
        turn
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Turn) -> Ordering {
        self.compare_position(other).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Turns {
    /// Turns of members with these keys and weights, 1 or more. Who was a member of `old` goes on where it stands; a new one
    /// begins now.
    pub fn new(members: impl Iterator<Item = (u32, u32)>, old: Option<(&Turns, &[u32])>) -> Turns {
        let known: HashMap<u32, Turn> = old
            .map(|(turns, keys)| turns.heap.iter().map(|Reverse(turn)| (keys[turn.index as usize], *turn)).collect())
            .unwrap_or_default();
        let now = old.and_then(|(turns, _)| turns.now);
        let turn = |(index, (key, weight)): (usize, (u32, u32))| {
            let first = Turn { round: 0, k: 0, weight, index: index as u32 };
            Reverse(match known.get(&key) {
                Some(known) => {
                    let k = (u64::from(known.k) * u64::from(weight) / u64::from(known.weight)) as u32;
                    Turn { round: known.round, k, ..first }
                }
                None => now.map_or(first, |now| first.after(&now)),
            })
        };
        Turns { heap: members.enumerate().map(turn).collect(), now, passed: Vec::new() }
    }

    /// Gives the next turn to the first member, in the order of turns, that takes it.
    pub fn give<T>(&mut self, mut take: impl FnMut(usize) -> Option<T>) -> Option<T> {
        let mut taken = None;
        let mut passed = std::mem::take(&mut self.passed);
        while let Some(Reverse(turn)) = self.heap.pop() {
            if let Some(value) = take(turn.index as usize) {
                self.heap.push(Reverse(turn.next()));
                self.now = Some(turn);
                taken = Some((value, turn));
                break;
            }
            passed.push(turn);
        }
        for turn in passed.drain(..) {
            self.heap.push(Reverse(taken.as_ref().map_or(turn, |(_, now)| turn.after(now))));
        }
        self.passed = passed;
        taken.map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(weights: &[u32]) -> Turns {
        Turns::new(weights.iter().enumerate().map(|(key, weight)| (key as u32, *weight)), None)
    }

    proptest! {
        /// Any run of turns as long as the sum of the weights has exactly each weight of its member's turns.
        #[test]
        fn shares_are_exact_over_any_window(weights in prop::collection::vec(1u32..12, 1..6), start in 0usize..40) {
            let mut turns = turns(&weights);
            let sum = weights.iter().sum::<u32>() as usize;
            let drawn: Vec<usize> = (0..start + 2 * sum).map(|_| turns.give(Some).unwrap()).collect();
            for window in drawn[start..].windows(sum) {
                for (member, weight) in weights.iter().enumerate() {
                    prop_assert_eq!(window.iter().filter(|one| **one == member).count() as u32, *weight);
                }
            }
        }

        /// Smooth: inside a window nobody runs ahead of its share, nor falls behind, by more than the number of members.
        #[test]
        fn turns_are_spread(weights in prop::collection::vec(1u32..40, 2..6)) {
            let mut turns = turns(&weights);
            let sum: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            for n in 1..=2 * sum {
                counts[turns.give(Some).unwrap()] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let due = f64::from(n) * f64::from(*weight) / f64::from(sum);
                    prop_assert!((f64::from(*count) - due).abs() <= weights.len() as f64, "{count} of {due}");
                }
            }
        }

        /// Members that are passed over are absent: the others share exactly; back again, they have no burst.
        #[test]
        fn who_is_passed_over_is_absent(weights in prop::collection::vec(1u32..30, 2..6), absent in 0usize..6) {
            let absent = absent % weights.len();
            let mut turns = turns(&weights);
            let sum: u32 = weights.iter().sum::<u32>() - weights[absent];
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..3 * sum {
                counts[turns.give(|member| (member != absent).then_some(member)).unwrap()] += 1;
            }
            for (member, weight) in weights.iter().enumerate() {
                let expected = if member == absent { 0 } else { 3 * weight };
                prop_assert!(counts[member].abs_diff(expected) <= 1, "{counts:?} {weights:?}");
            }
            let whole = sum + weights[absent];
            let back = (0..whole).filter(|_| turns.give(Some).unwrap() == absent).count() as u32;
            prop_assert!(back.abs_diff(weights[absent]) <= 1, "{back} of {}", weights[absent]);
        }

        /// A new set of members goes on where the old one stood.
        #[test]
        fn a_change_of_members_disturbs_nobody_else(weights in prop::collection::vec(1u32..30, 2..6), steps in 0usize..200) {
            let mut old = turns(&weights);
            for _ in 0..steps {
                old.give(Some).unwrap();
            }
            let keys: Vec<u32> = (0..weights.len() as u32).collect();
            let same = Turns::new(keys.iter().map(|key| (*key, weights[*key as usize])), Some((&old, &keys)));
            let (mut a, mut b) = (old.clone(), same);
            for _ in 0..100 {
                prop_assert_eq!(a.give(Some), b.give(Some));
            }
            let more: Vec<(u32, u32)> = keys.iter().map(|key| (*key, weights[*key as usize])).chain([(99, 7)]).collect();
            let sum: u32 = more.iter().map(|(_, weight)| weight).sum();
            let mut joined = Turns::new(more.iter().copied(), Some((&old, &keys)));
            let new = (0..sum).filter(|_| joined.give(Some) == Some(weights.len())).count();
            prop_assert!(new.abs_diff(7) <= 1, "{new}");
        }
    }

    #[test]
    fn where_nobody_takes_it_no_turn_is_lost() {
        let mut turns = turns(&[1, 2]);
        let mut other = turns.clone();
        assert_eq!(turns.give(|_| None::<()>), None);
        for _ in 0..10 {
            assert_eq!(turns.give(Some), other.give(Some));
        }
    }
}
