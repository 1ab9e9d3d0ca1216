//! Why a decision came out as it did.
//!
//! A trace is written by the decision itself, so it cannot tell another story than the one that happened. It is bounded: of
//! trunks beyond [`Trace::MOST`] only the number is kept.

use std::sync::Arc;

use crate::Rule;

/// One decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The table's revision.
    pub revision: u64,
    /// The random bits that it drew from.
    pub draw: u64,
    /// The route that won; none where there are no routes at all.
    pub rule: Option<Rule>,
    /// Length of the called prefix that matched, in characters.
    pub prefix: u8,
    /// Trunks of the targets, in the order of the targets, inside one by priority and id.
    pub considered: Vec<Considered>,
    /// Further trunks.
    pub more: u32,
}

/// A trunk and what was found of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// Its id.
    pub trunk: Arc<str>,
    /// The group that it was considered in.
    pub group: Arc<str>,
    /// What was found.
    pub verdict: Verdict,
}

/// What was found of a trunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It got the request.
    Chosen,
    /// It could have had it: it is tried next, or its turn comes with other calls.
    Next,
    /// The request has tried it before.
    Tried,
    /// A fact speaks against it: its lease, its operator, itself.
    Obstacle(Arc<[String]>),
    /// A doubt speaks against it: probes, calls, a rest.
    Doubt(Arc<[String]>),
    /// Its name does not resolve, or no transport leads there.
    Unresolved(String),
    /// It has no room: channels taken, and at most.
    Full(u32, u32),
    /// It is at its rate, calls per second.
    Rate(f64),
    /// The request may go by TLS alone, the trunk is not reached so.
    NotSecure,
    /// No trunk of this id is registered.
    Unknown,
}

impl Trace {
    /// Trunks that are kept.
    pub const MOST: usize = 32;
}
