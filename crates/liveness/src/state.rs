//! The states of a target; an event consumes one and yields the next.

use crate::{Millis, Outcome, Reason};

/// What is thought of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Probed, but no outcome yet: calls go there.
    Unproven {
        /// Calls that failed in a row.
        misses: u32,
    },
    /// Calls go there.
    Up {
        /// Probes and calls that failed in a row.
        misses: u32,
    },
    /// Probes or calls show that it does not live.
    Down {
        /// Good probes in a row.
        oks: u32,
        /// What showed it last.
        why: Reason,
    },
    /// Not probed; it failed calls, and gets none for a while.
    Resting {
        /// Until then.
        until: Millis,
    },
    /// Not probed; its rest is over, and the next call decides.
    Trial,
}

/// What happens to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A probe was answered by a good code.
    ProbeGood,
    /// A probe was not, or not at all.
    ProbeMissed(Outcome),
    /// A call was answered, by any code.
    CallAnswered,
    /// A call was not answered, or could not be sent.
    CallMissed(Outcome),
    /// Time has passed.
    RestOver,
}

/// What bounds the counts of a target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub probed: bool,
    pub fall: u32,
    pub rise: u32,
    pub rest: Millis,
}

impl State {
    pub(crate) fn first(probed: bool) -> State {
        if probed { State::Unproven { misses: 0 } } else { State::Up { misses: 0 } }
    }

    /// Whether calls go there.
    pub fn is_usable(self) -> bool {
        matches!(self, State::Unproven { .. } | State::Up { .. } | State::Trial)
    }

    /// Whether an answer to a call would change anything.
    pub(crate) fn heeds_answers(self) -> bool {
        !matches!(self, State::Up { misses: 0 } | State::Unproven { misses: 0 } | State::Down { .. })
    }

    /// As it is called in `docs/liveness.md`.
    pub fn name(self) -> &'static str {
        match self {
            State::Unproven { .. } => "unproven",
            State::Up { .. } => "up",
            State::Down { .. } => "down",
            State::Resting { .. } => "resting",
            State::Trial => "trial",
        }
    }

    pub(crate) fn next(self, event: Event, rules: &Rules, now: Millis) -> State {
        let rest = State::Resting { until: now + rules.rest };
        match (self, event) {
            (State::Unproven { .. }, Event::ProbeGood) => State::Up { misses: 0 },
            (State::Unproven { .. }, Event::ProbeMissed(why)) => State::Down { oks: 0, why: Reason::Probe(why) },
            (State::Unproven { misses }, Event::CallMissed(why)) if misses + 1 >= rules.fall => {
                State::Down { oks: 0, why: Reason::Calls(why) }
            }
            (State::Unproven { misses }, Event::CallMissed(_)) => State::Unproven { misses: misses + 1 },
            (State::Unproven { .. }, Event::CallAnswered) => State::Unproven { misses: 0 },
            (State::Up { .. }, Event::ProbeGood | Event::CallAnswered) => State::Up { misses: 0 },
            (State::Up { misses }, Event::ProbeMissed(_) | Event::CallMissed(_)) if misses + 1 < rules.fall => {
                State::Up { misses: misses + 1 }
            }
            (State::Up { .. }, Event::ProbeMissed(why)) => State::Down { oks: 0, why: Reason::Probe(why) },
            (State::Up { .. }, Event::CallMissed(why)) if rules.probed => {
                State::Down { oks: 0, why: Reason::Calls(why) }
            }
            (State::Up { .. }, Event::CallMissed(_)) => rest,
            (State::Down { oks, .. }, Event::ProbeGood) if oks + 1 >= rules.rise => State::Up { misses: 0 },
            (State::Down { oks, why }, Event::ProbeGood) => State::Down { oks: oks + 1, why },
            (State::Down { .. }, Event::ProbeMissed(why)) => State::Down { oks: 0, why: Reason::Probe(why) },
            (State::Down { .. }, Event::CallMissed(why)) => State::Down { oks: 0, why: Reason::Calls(why) },
            (State::Resting { .. }, Event::RestOver) => State::Trial,
            (State::Resting { .. } | State::Trial, Event::CallAnswered) => State::Up { misses: 0 },
            (State::Trial, Event::CallMissed(_)) => rest,
            (same, _) => same,
        }
    }
}
