//! Whether the targets of trunks live, as probes and calls show it; and when to probe (`docs/liveness.md`).
//!
//! A [`Monitor`] is a value: what was seen goes in with its time, verdicts and orders to probe come out. It holds no clock and
//! sends nothing. Each target has one state ([`State`]); the table in `docs/liveness.md` says which event leads where, and a
//! test holds the code to that table.

mod monitor;
mod state;

use std::net::SocketAddr;

pub use monitor::{Change, Evidence, Flags, Monitor, Order, Seen};
pub use state::{Event, State};

/// Milliseconds since an origin of the caller's choice; never runs backwards.
pub type Millis = u64;

/// Settings of the monitor.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Failures of calls in a row after which a target of a trunk without `probe` rests.
    pub call_fall: u32,
    /// How long it rests, and the longest rest that a `Retry-After` gets, in milliseconds.
    pub rest: Millis,
    /// A probe without an answer is given up after this time, in milliseconds, or four fifths of its interval where that is less.
    pub probe_timeout: Millis,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { call_fall: 3, rest: 30_000, probe_timeout: 4000 }
    }
}

/// How a trunk is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Milliseconds between probes of one target.
    pub interval: Millis,
    /// Misses in a row until it is down.
    pub fall: u32,
    /// Answers in a row until it is up.
    pub rise: u32,
    /// Codes that prove life; none: any but 408 and 503.
    pub ok_codes: Option<Vec<u16>>,
}

/// Names a target of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is reached.
    pub transport: sip::Transport,
    /// The connection that it registered by.
    pub connection: Option<u64>,
}

/// What was seen of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with this code.
    Answer(u16),
    /// It said nothing in time.
    Timeout,
    /// Nothing could be sent to it.
    Unsent,
}

/// Whether a trunk is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Calls may go there.
    #[default]
    Good,
    /// No target of it lives.
    Down,
    /// It asked for a rest.
    Resting,
}

/// What speaks against a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Probes show it.
    Probe(Outcome),
    /// Calls show it.
    Calls(Outcome),
    /// After failed calls it rests until then.
    CoolingDown(Millis),
    /// It asked for a rest until then (503 with Retry-After).
    Resting(Millis),
}

/// A trunk's verdict and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where it is not good.
    pub reasons: Vec<Reason>,
}

impl Probing {
    /// Whether an outcome proves life.
    pub fn proves_life(&self, outcome: Outcome) -> bool {
        match (outcome, &self.ok_codes) {
            (Outcome::Answer(code), Some(codes)) => codes.contains(&code),
            (Outcome::Answer(code), None) => !matches!(code, 408 | 503),
            (Outcome::Timeout | Outcome::Unsent, _) => false,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Answer(code) => write!(f, "{code}"),
            Outcome::Timeout => f.write_str("timeout"),
            Outcome::Unsent => f.write_str("not deliverable"),
        }
    }
}
