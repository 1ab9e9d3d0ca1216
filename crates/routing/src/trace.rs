//! Why a decision came out as it did.
//!
//! A trace is written by the search itself, so it cannot tell another story than the one that happened. It is bounded: of
//! trunks beyond [`Trace::MOST`] only the number is kept, and the chosen one.

use std::fmt;
use std::sync::Arc;

use crate::{Rule, Unmet};

/// One decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The table's revision.
    pub revision: u64,
    /// The random bits that it drew from.
    pub draw: u64,
    /// Routes that name the called number, the most specific first.
    pub routes: Vec<Matched>,
    /// The route that won; none where there are no routes, or none matched.
    pub rule: Option<Rule>,
    /// Characters of the called number that the route names.
    pub prefix: u8,
    /// Every trunk was in doubt, and doubts were overruled.
    pub panic: bool,
    /// Trunks of the targets, in the order of the targets, inside one by priority and id.
    pub considered: Vec<Considered>,
    /// Further trunks.
    pub more: u32,
}

/// A route that names the called number.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// The route.
    pub rule: Rule,
    /// Characters of the called number that it names.
    pub prefix: u8,
    /// Whether it names the whole number.
    pub exact: bool,
    /// What does not hold; none where it matches. The first of those wins.
    pub unmet: Option<Unmet>,
}

/// A trunk and what was found of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// Its id.
    pub trunk: Arc<str>,
    /// Which target of the route it belongs to.
    pub target: u8,
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
    Obstacle(Words),
    /// A doubt speaks against it: probes, calls, a rest, its group's guard.
    Doubt(Words),
    /// Its name does not resolve, or no transport leads there.
    Unresolved(Words),
    /// It has no room: channels taken, and at most.
    Full(u32, u32),
    /// It is at its rate, calls per second.
    Rate(f64),
    /// The request may go by TLS alone, the trunk is not reached so.
    NotSecure,
    /// No trunk of this id is registered.
    Unknown,
}

/// A text that costs nothing to keep.
#[derive(Clone, Debug)]
pub enum Words {
    /// Of a trunk.
    Shared(Arc<str>),
    /// Of the program.
    Plain(&'static str),
}

impl Words {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Words::Shared(text) => text,
            Words::Plain(text) => text,
        }
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Words) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Verdict {
    /// One of a fixed set, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Verdict::Chosen => "chosen",
            Verdict::Next => "next",
            Verdict::Tried => "tried",
            Verdict::Obstacle(_) => "obstacle",
            Verdict::Doubt(_) => "doubt",
            Verdict::Unresolved(_) => "unresolved",
            Verdict::Full(..) => "full",
            Verdict::Rate(_) => "rate",
            Verdict::NotSecure => "not_secure",
            Verdict::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Obstacle(words) | Verdict::Doubt(words) => f.write_str(words.as_str()),
            Verdict::Unresolved(words) if words.as_str().is_empty() => f.write_str("unresolved"),
            Verdict::Unresolved(words) => f.write_str(words.as_str()),
            Verdict::Full(active, most) => write!(f, "full {active}/{most}"),
            Verdict::Rate(rate) => write!(f, "rate {rate}/s"),
            Verdict::NotSecure => f.write_str("not reached by TLS"),
            Verdict::Unknown => f.write_str("not registered"),
            Verdict::Chosen | Verdict::Next | Verdict::Tried => f.write_str(self.code()),
        }
    }
}

/// Trunks named in a refusal; the rest is counted.
const NAMED: usize = 3;

impl Trace {
    /// Trunks that are kept.
    pub const MOST: usize = 32;
    /// Routes that are kept.
    pub const MOST_ROUTES: usize = 16;

    pub(crate) fn add(&mut self, trunk: &Arc<str>, target: usize, verdict: impl FnOnce() -> Verdict) {
        if self.room() == 0 {
            self.more += 1;
            return;
        }
        self.push(trunk, target, verdict());
    }

    pub(crate) fn push(&mut self, trunk: &Arc<str>, target: usize, verdict: Verdict) {
        let target = u8::try_from(target).unwrap_or(u8::MAX);
        self.considered.push(Considered { trunk: trunk.clone(), target, verdict });
    }

    /// How many more trunks are kept.
    pub(crate) fn room(&self) -> usize {
        Trace::MOST.saturating_sub(self.considered.len())
    }

    /// Why nobody took it, in a few words.
    pub(crate) fn why_nobody(&self) -> String {
        let mut text = String::from("no trunk:");
        for (n, Considered { trunk, verdict, .. }) in self.considered.iter().take(NAMED).enumerate() {
            // Whoever could have had it was taken by others since.
            let verdict = if *verdict == Verdict::Next { &Verdict::Doubt(Words::Plain("full")) } else { verdict };
            text.push_str(if n == 0 { " " } else { "; " });
            text.push_str(&format!("{trunk} {verdict}"));
        }
        match self.considered.len().saturating_sub(NAMED) + self.more as usize {
            0 => {}
            more => text.push_str(&format!("; and {more} more")),
        }
        text
    }
}
