//! The states of one guarded trunk. The table in `docs/quality.md` says the same as [`Guard::ended`].

use crate::Millis;

/// When a group lets a trunk rest, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Share of failed calls from which on it rests, above 0 and at most 1.
    pub failure_share: f64,
    /// With fewer calls in the window nothing is concluded; at least 1.
    pub min_calls: u32,
    /// Length of the window, in milliseconds.
    pub window: Millis,
    /// Length of the first rest, in milliseconds. Each that follows a failed trial is twice as long as the one before, up to eight
    /// times the first.
    pub rest: Millis,
    /// Good calls in a row that prove it; at least 1.
    pub trial_calls: u32,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { failure_share: 0.5, min_calls: 20, window: 60_000, rest: 30_000, trial_calls: 5 }
    }
}

/// Rests grow up to this many times the first.
const LONGEST: u64 = 8;
/// Parts of the window that are forgotten one by one.
const SLOTS: usize = 12;

/// What a guard thinks of a trunk. The names are those of a circuit breaker: closed is the good state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It gets its share of the calls.
    Closed,
    /// It gets none until then.
    Resting {
        /// End of the rest.
        until: Millis,
    },
    /// It gets one call a second.
    Trial {
        /// Good calls in a row so far.
        goods: u32,
    },
}

impl State {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Resting { .. } => "resting",
            State::Trial { .. } => "trial",
        }
    }
}

/// Calls and failures over a window, in twelve parts.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    slots: [(u32, u32); SLOTS],
    last: u64,
}

impl Ring {
    fn advance(&mut self, window: Millis, now: Millis) -> usize {
        let index = now / (window / SLOTS as u64).max(1);
        let passed = index.saturating_sub(self.last).min(SLOTS as u64);
        self.last = self.last.max(index);
        for back in 0..passed {
            self.slots[((self.last - back) % SLOTS as u64) as usize] = (0, 0);
        }
        (self.last % SLOTS as u64) as usize
    }

    fn add(&mut self, failed: bool, window: Millis, now: Millis) {
        let at = self.advance(window, now);
        self.slots[at].0 += 1;
        self.slots[at].1 += u32::from(failed);
    }

    fn sum(&self) -> (u32, u32) {
        self.slots.iter().fold((0, 0), |(calls, failed), slot| (calls + slot.0, failed + slot.1))
    }
}

/// One guarded trunk.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub state: State,
    /// Attempts that began earlier say nothing about the state of now.
    pub since: Millis,
    /// Rests since it was closed last.
    pub rests: u32,
    ring: Ring,
}

impl Guard {
    pub fn new(now: Millis) -> Guard {
        Guard { state: State::Closed, since: now, rests: 0, ring: Ring::default() }
    }

    /// Whether it has left its share of the calls to others.
    pub fn is_out(&self) -> bool {
        self.state != State::Closed
    }

    /// Calls and failures in the window, as of the last that ended.
    pub fn counts(&self) -> (u32, u32) {
        self.ring.sum()
    }

    /// A rest ends by time alone.
    pub fn advance(&mut self, now: Millis) {
        if let State::Resting { until } = self.state
            && until <= now
        {
            self.state = State::Trial { goods: 0 };
            self.since = until;
        }
    }

    /// A call has ended that had begun at `began`; `has_place`: one more of its group may rest. Whether the state is another
    /// now, or begins anew.
    pub fn ended(&mut self, began: Millis, failed: bool, rules: &Rules, has_place: bool, now: Millis) -> bool {
        self.advance(now);
        if began < self.since {
            return false;
        }
        match self.state {
            State::Closed => {
                self.ring.add(failed, rules.window, now);
                let (calls, failures) = self.ring.sum();
                let bad = f64::from(failures) >= rules.failure_share * f64::from(calls);
                if calls < rules.min_calls || !bad || !has_place {
                    return false;
                }
                self.rest(rules, now);
            }
            State::Resting { .. } => return false,
            State::Trial { .. } if failed => self.rest(rules, now),
            State::Trial { goods } if goods + 1 < rules.trial_calls => {
                self.state = State::Trial { goods: goods + 1 };
                return false;
            }
            State::Trial { .. } => self.close(now),
        }
        true
    }

    fn rest(&mut self, rules: &Rules, now: Millis) {
        let length = rules.rest * LONGEST.min(1 << self.rests.min(16));
        self.state = State::Resting { until: now + length };
        self.since = now;
        self.rests += 1;
    }

    /// Begins anew: what counted against it is forgotten.
    pub fn close(&mut self, now: Millis) {
        *self = Guard::new(now);
    }
}
