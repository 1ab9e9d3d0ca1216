//! One search for a trunk: what speaks against each, and which target of the one that is taken.

use std::sync::{Arc, Mutex};

use sip::Transport;

use crate::hand::{Hand, Wish};
use crate::random::SplitMix;
use crate::trace::{Verdict, Words};
use crate::turns::Turns;
use crate::{Ask, Trunk};

/// A search under way.
pub(crate) struct Search<'a, H> {
    pub ask: &'a Ask<'a>,
    pub hand: H,
    /// No limit and no rest holds for it.
    pub emergency: bool,
    /// Doubts are overruled.
    pub panic: bool,
    pub random: SplitMix,
}

/// A trunk that was taken.
pub(crate) struct Found<T> {
    pub taken: T,
    pub trunk: Arc<Trunk>,
    /// Which of its targets.
    pub target: usize,
    /// Whether doubts were overruled.
    pub panic: bool,
}

/// What speaks against a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bar {
    Tried,
    Obstacle,
    Unresolved,
    NotSecure,
    Doubt,
    Full,
    Rate,
}

impl<'a, H: Hand> Search<'a, H> {
    pub fn new(ask: &'a Ask<'a>, hand: H) -> Search<'a, H> {
        Search { ask, hand, emergency: false, panic: false, random: SplitMix(ask.draw) }
    }

    /// Whether targets may be used that are not well.
    fn overrules(&self) -> bool {
        self.panic || self.emergency
    }

    fn bar(&self, trunk: &Trunk) -> Option<Bar> {
        let ask = self.ask;
        let reached = |target: &&crate::Target| !ask.secure || target.place.transport == Transport::Tls;
        let mut targets = trunk.targets.iter().filter(reached).peekable();
        if ask.tried.contains(&trunk.live.serial()) {
            return Some(Bar::Tried);
        }
        if trunk.obstacle.is_some() {
            return Some(Bar::Obstacle);
        }
        if trunk.targets.is_empty() {
            return Some(Bar::Unresolved);
        }
        if targets.peek().is_none() {
            return Some(Bar::NotSecure);
        }
        let mut rests =
            || trunk.rest.is_some() || !trunk.is_open(ask.now) || !targets.any(|target| target.live.is_usable());
        if !self.panic && (trunk.doubt.is_some() || (!self.emergency && rests())) {
            return Some(Bar::Doubt);
        }
        if ask.begins_call && !self.emergency {
            if trunk.is_full() {
                return Some(Bar::Full);
            }
            if trunk.is_at_rate(ask.now) {
                return Some(Bar::Rate);
            }
        }
        None
    }

    /// Whether a trunk may have the request.
    pub fn fits(&self, trunk: &Trunk) -> bool {
        self.bar(trunk).is_none()
    }

    /// What is found of a trunk that was not taken.
    pub fn verdict(&self, trunk: &Trunk) -> Verdict {
        let words = |words: &Option<Arc<str>>| words.clone().map_or(Words::Plain(""), Words::Shared);
        match self.bar(trunk) {
            None => Verdict::Next,
            Some(Bar::Tried) => Verdict::Tried,
            Some(Bar::Obstacle) => Verdict::Obstacle(words(&trunk.obstacle)),
            Some(Bar::Unresolved) => Verdict::Unresolved(words(&trunk.unreachable)),
            Some(Bar::NotSecure) => Verdict::NotSecure,
            Some(Bar::Doubt) => Verdict::Doubt(self.doubt(trunk)),
            Some(Bar::Full) => Verdict::Full(trunk.live.active(), trunk.facts.max_channels.unwrap_or_default()),
            Some(Bar::Rate) => Verdict::Rate(trunk.facts.max_cps.unwrap_or_default()),
        }
    }

    fn doubt(&self, trunk: &Trunk) -> Words {
        if let Some(words) = trunk.doubt.as_ref().or(trunk.rest.as_ref()) {
            return Words::Shared(words.clone());
        }
        if let Some(words) = trunk.live.gate().reason(self.ask.now / 1000) {
            return Words::Shared(words);
        }
        // Seen since the table was built; the next one has the words.
        Words::Plain(if trunk.live.is_resting() { "resting" } else { "down" })
    }

    /// Takes a place on a trunk that may have the request, and chooses one of its targets.
    pub fn take(&mut self, trunk: &Arc<Trunk>) -> Option<Found<H::Taken>> {
        if !self.fits(trunk) {
            return None;
        }
        let target = self.pick(trunk, &[], false);
        let target = target.or_else(|| self.overrules().then(|| self.pick(trunk, &[], true)).flatten())?;
        self.seat(trunk, target, false)
    }

    /// Takes a place at another target of a trunk that the request has (RFC 3263 §4.3).
    pub fn take_again(&mut self, trunk: &Arc<Trunk>, tried: &[u32]) -> Option<Found<H::Taken>> {
        if !trunk.is_candidate() {
            return None;
        }
        let target = self.pick(trunk, tried, self.panic)?;
        self.seat(trunk, target, true)
    }

    fn seat(&mut self, trunk: &Arc<Trunk>, target: usize, counted: bool) -> Option<Found<H::Taken>> {
        let wish = Wish {
            begins_call: self.ask.begins_call,
            counted,
            emergency: self.emergency,
            overrules: self.overrules(),
            now: self.ask.now,
        };
        let taken = self.hand.take(trunk, wish)?;
        Some(Found { taken, trunk: trunk.clone(), target, panic: self.panic })
    }

    /// Gives the next turn to the first member that takes it.
    pub fn turn<T>(&mut self, turns: &Mutex<Turns>, mut take: impl FnMut(&mut Self, usize) -> Option<T>) -> Option<T> {
        let mut guard = turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if H::KEEPS {
            return guard.give(|at| take(self, at));
        }
        let mut copy = guard.clone();
        drop(guard);
        copy.give(|at| take(self, at))
    }

    /// A target of the lowest priority, drawn by weight (RFC 2782); usable ones alone, or `any`.
    fn pick(&mut self, trunk: &Trunk, tried: &[u32], any: bool) -> Option<usize> {
        let secure = self.ask.secure;
        let fits = |at: &usize| {
            let target = &trunk.targets[*at];
            (!secure || target.place.transport == Transport::Tls)
                && (any || target.live.is_usable())
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
        let mut point = self.random.below(all.clone().filter(of_it).map(weight).sum());
        all.filter(of_it).find(|at| {
            let hit = point < weight(*at);
            point = point.saturating_sub(weight(*at));
            hit
        })
    }
}
