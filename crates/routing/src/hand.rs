//! What a search does to the trunk that it finds: takes a place on it, or only says that it would.
//!
//! Both go the same way up to here, so what is imagined is what would happen.

use std::sync::Arc;

use crate::{Seat, Trunk};

/// How a place is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// It begins a call: takes a channel, and counts against the rate.
    pub begins_call: bool,
    /// It has been counted against the rate of this trunk already, at another of its targets.
    pub counted: bool,
    /// No limit holds for it.
    pub emergency: bool,
    /// Doubts are overruled.
    pub overrules: bool,
    /// Microseconds of the router's clock.
    pub now: u64,
}

pub(crate) trait Hand {
    type Taken;
    /// Whether the turns that it gives are given.
    const KEEPS: bool;
    /// Takes a place on a trunk, where there is room.
    fn take(&mut self, trunk: &Arc<Trunk>, wish: Wish) -> Option<Self::Taken>;
}

/// Takes.
pub(crate) struct Real;

impl Hand for Real {
    type Taken = Seat;
    const KEEPS: bool = true;

    fn take(&mut self, trunk: &Arc<Trunk>, wish: Wish) -> Option<Seat> {
        if !wish.begins_call {
            return Some(Seat::without_channel(trunk));
        }
        if wish.emergency {
            // Counted all the same: the calls after it wait in its stead.
            if let Some(rate) = trunk.facts.max_cps.filter(|_| !wish.counted) {
                trunk.live.rate.take_anyway(rate, wish.now);
            }
            return Some(Seat::take_anyway(trunk));
        }
        let seat = Seat::take(trunk)?;
        if wish.counted {
            return Some(seat);
        }
        if trunk.facts.max_cps.is_some_and(|rate| !trunk.live.rate.take(rate, wish.now)) {
            return None;
        }
        // Last, as it takes the place of the next call on trial.
        (wish.overrules || trunk.live.gate().take(wish.now / 1000)).then_some(seat)
    }
}

/// Only says.
pub(crate) struct Imagined;

impl Hand for Imagined {
    type Taken = ();
    const KEEPS: bool = false;

    fn take(&mut self, trunk: &Arc<Trunk>, wish: Wish) -> Option<()> {
        let limited = wish.begins_call && !wish.emergency;
        (!limited || !(trunk.is_full() || (!wish.counted && trunk.is_at_rate(wish.now)))).then_some(())
    }
}
