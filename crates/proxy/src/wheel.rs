//! A hierarchical timer wheel: arming costs a push, cancelling costs nothing.
//!
//! An entry names its object by id; when it fires, the object says whether anything is due. So an
//! object that is gone, or whose deadline has moved, needs no search here.

use crate::Time;
use crate::slab::Id;

/// Length of a tick in microseconds: T1 is fifty of them.
const TICK: u64 = 10_000;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// 64^4 ticks of 10 ms are 46 hours, above every timer there is.
const LEVELS: usize = 4;

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Call(Id),
    Client(Id),
    Context(Id),
}

#[derive(Debug)]
pub(crate) struct Wheel {
    now: u64,
    slots: Vec<Vec<(u64, Owner)>>,
    len: usize,
}

impl Wheel {
    pub fn new() -> Wheel {
        Wheel { now: 0, slots: (0..LEVELS * SLOTS).map(|_| Vec::new()).collect(), len: 0 }
    }

    /// Fires `owner` at the first tick that is not before `at`.
    pub fn arm(&mut self, at: Time, owner: Owner) {
        let tick = at.0.div_ceil(TICK).max(self.now + 1);
        self.place(tick, owner);
        self.len += 1;
    }

    /// The earliest moment at which [`Self::advance`] may find something, at most a few ticks early.
    pub fn next(&self) -> Option<Time> {
        if self.len == 0 {
            return None;
        }
        for ahead in 1..SLOTS as u64 {
            let tick = self.now + ahead;
            // A new lap of the lowest level takes entries down from the level above.
            if !self.slots[(tick % SLOTS as u64) as usize].is_empty() || tick.is_multiple_of(SLOTS as u64) {
                return Some(Time(tick * TICK));
            }
        }
        Some(Time((self.now + SLOTS as u64) * TICK))
    }

    /// Moves to `now` and puts everything that is due into `due`.
    pub fn advance(&mut self, now: Time, due: &mut Vec<Owner>) {
        let target = now.0 / TICK;
        if self.len == 0 {
            self.now = self.now.max(target);
            return;
        }
        while self.now < target {
            self.now += 1;
            for level in 1..LEVELS {
                if self.now.trailing_zeros() < BITS * level as u32 {
                    break;
                }
                let index = level * SLOTS + ((self.now >> (BITS * level as u32)) % SLOTS as u64) as usize;
                for (tick, owner) in std::mem::take(&mut self.slots[index]) {
                    self.place(tick.max(self.now), owner);
                }
            }
            let slot = &mut self.slots[(self.now % SLOTS as u64) as usize];
            self.len -= slot.len();
            due.extend(slot.drain(..).map(|(_, owner)| owner));
        }
    }

    fn place(&mut self, tick: u64, owner: Owner) {
        let ahead = tick - self.now;
        let mut level = 0;
        while level + 1 < LEVELS && ahead >= 1 << (BITS * (level as u32 + 1)) {
            level += 1;
        }
        let shift = BITS * level as u32;
        // Beyond the top level's span: comes round early, and its owner arms it again.
        let tick_there = if ahead >> shift >= SLOTS as u64 { self.now + ((SLOTS as u64 - 1) << shift) } else { tick };
        self.slots[level * SLOTS + ((tick_there >> shift) % SLOTS as u64) as usize].push((tick, owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Everything fires once, never early, and at most two ticks late.
        #[test]
        fn fires_in_time(delays in prop::collection::vec(0u64..400_000_000, 1..200), step in 1u64..3_000_000) {
            let mut wheel = Wheel::new();
            let start = 123_456_789;
            wheel.advance(Time(start), &mut Vec::new());
            for (slot, delay) in delays.iter().enumerate() {
                wheel.arm(Time(start + delay), Owner::Call(Id { slot: slot as u32, generation: 0 }));
            }
            let mut fired = vec![false; delays.len()];
            let mut now = start;
            while now <= start + 400_000_000 + 2 * TICK + step {
                let mut due = Vec::new();
                let before = now;
                now += step;
                wheel.advance(Time(now), &mut due);
                for owner in due {
                    let Owner::Call(id) = owner else { unreachable!() };
                    let at = start + delays[id.slot as usize];
                    prop_assert!(!fired[id.slot as usize]);
                    prop_assert!(now >= at, "early");
                    prop_assert!(before <= at + 2 * TICK, "late");
                    fired[id.slot as usize] = true;
                }
            }
            prop_assert!(fired.iter().all(|f| *f));
            prop_assert_eq!(wheel.next(), None);
        }
    }
}
