//! The decision: which trunk gets this request, and at which of its targets.
//!
//! The most specific route that matches says to which targets, in order; without any route all trunks are one group. Inside a
//! group the lowest `priority` that has room wins, and its policy says who of it. A trunk without room counts as absent, never
//! as an answer while another has room. Doubts (probes, failed calls, a rest asked for, the group's guard) keep calls away from a
//! trunk as long as any trunk of the targets is without; when all are in doubt, the doubts are more likely wrong than all trunks,
//! and are overruled.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use registry::RouteTarget;

use crate::group::Group;
use crate::hand::{Hand, Imagined, Real};
use crate::search::{Found, Search};
use crate::subject::{Subject, Unmet, number};
use crate::trace::{Matched, Trace, Verdict};
use crate::trie::Trie;
use crate::{Admission, Rule, Seat, Sources, Trunk};

/// All trunks and routes at one revision of the registry.
#[derive(Debug, Default)]
pub struct RouteTable {
    pub(crate) revision: u64,
    /// By id.
    pub(crate) trunks: Arc<[Arc<Trunk>]>,
    pub(crate) groups: HashMap<Arc<str>, Arc<Group>>,
    /// All trunks as one group, where there are no routes.
    pub(crate) everyone: Option<Arc<Group>>,
    pub(crate) rules: Trie,
    /// Routes in all.
    pub(crate) routes: usize,
    pub(crate) sources: Arc<Sources>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// It begins a call: takes a channel, and counts against the rate.
    pub begins_call: bool,
    /// It may go by TLS alone (`sips:`, RFC 3261 §26.2.2).
    pub secure: bool,
    /// Serial numbers ([`crate::Live::serial`]) of trunks that had their chance.
    pub tried: &'a [u32],
    /// Id of the trunk whose further targets come first, and the serial numbers of those that had their chance (RFC 3263
    /// §4.3).
    pub again: Option<(&'a str, &'a [u32])>,
    /// Microseconds of the router's clock.
    pub now: u64,
    /// 64 random bits.
    pub draw: u64,
    /// What routes look at.
    pub subject: Subject<'a>,
    /// Whether a trace is wanted; where nobody is found there is one anyway.
    pub trace: bool,
}

/// What [`RouteTable::decide`] found.
#[derive(Debug)]
pub enum Decision {
    /// A trunk.
    Trunk {
        /// The trunk, with a channel where one was asked for.
        seat: Seat,
        /// Which of its targets.
        target: usize,
        /// Whether all trunks were in doubt, and this one was taken nevertheless.
        panic: bool,
        /// The route that won.
        rule: Option<Rule>,
        /// How it came to that, where that was asked for.
        trace: Option<Box<Trace>>,
    },
    /// None.
    Nobody(Refusal),
}

/// Why nobody gets it.
#[derive(Debug)]
pub struct Refusal {
    /// No route matches.
    pub no_route: bool,
    /// In words.
    pub why: String,
    /// How it came to that.
    pub trace: Box<Trace>,
}

/// What would be decided.
#[derive(Debug)]
pub struct Imagination {
    /// The trunk, and which of its targets.
    pub chosen: Option<(Arc<Trunk>, usize)>,
    /// No route matches.
    pub no_route: bool,
    /// How it comes to that.
    pub trace: Trace,
}

/// Where requests of a route go.
enum Pool<'a> {
    Group(&'a Group),
    Trunk(&'a Arc<Trunk>),
    /// The table does not know it.
    Unknown(&'a Arc<str>),
}

/// What a search came to.
struct Outcome<T> {
    rule: Option<Rule>,
    prefix: usize,
    no_route: bool,
    found: Option<Found<T>>,
}

impl RouteTable {
    /// What the registry calls this state.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Trunks in all, by id.
    pub fn trunks(&self) -> &[Arc<Trunk>] {
        &self.trunks
    }

    /// The trunk of this id.
    pub fn trunk(&self, id: &str) -> Option<&Arc<Trunk>> {
        self.trunks.binary_search_by(|trunk| (*trunk.id).cmp(id)).ok().map(|at| &self.trunks[at])
    }

    /// Who may place calls, and whose they are.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What an address, with the names of its verified certificate, may do.
    pub fn admit(&self, source: IpAddr, names: &[Box<str>]) -> Admission {
        self.sources.admit(source, names)
    }

    /// Groups of which every trunk that could take calls is in doubt now.
    pub fn groups_in_panic(&self) -> impl Iterator<Item = &str> {
        self.groups.values().filter(|group| group.is_in_panic()).map(|group| &*group.id)
    }

    /// Whether every trunk that could take calls is in doubt now, of all or of some group.
    pub fn is_in_panic(&self) -> bool {
        match &self.everyone {
            Some(everyone) => everyone.is_in_panic(),
            None => self.groups_in_panic().next().is_some(),
        }
    }

    /// How many routes there are.
    pub fn routes(&self) -> usize {
        self.routes
    }

    /// The route that takes a request, and how many characters of the called number it names; none where none matches.
    pub fn route_of(&self, subject: &Subject<'_>) -> Option<(&Rule, usize)> {
        let called = number(subject.called);
        let won = self.rules.fits(&called).find(|fit| self.unmet(fit.rule, subject).is_none());
        won.map(|fit| (fit.rule, fit.length))
    }

    fn unmet(&self, rule: &Rule, subject: &Subject<'_>) -> Option<Unmet> {
        if !rule.route().enabled {
            return Some(Unmet::Disabled);
        }
        subject.unmet(rule.route().conditions.as_deref()?, self)
    }

    /// Chooses a trunk and one of its targets.
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        let mut search = Search::new(ask, Real);
        let Outcome { rule, prefix, no_route, found } = self.find(&mut search);
        match found {
            Some(Found { taken: seat, trunk, target, panic }) => {
                let trace = ask.trace.then(|| Box::new(self.trace(&mut search, rule.as_ref(), prefix, Some(&trunk))));
                Decision::Trunk { seat, target, panic, rule, trace }
            }
            None => {
                let trace = self.trace(&mut search, rule.as_ref(), prefix, None);
                let why = self.words_of(ask.subject.called, no_route, &trace);
                Decision::Nobody(Refusal { no_route, why, trace: Box::new(trace) })
            }
        }
    }

    /// What [`Self::decide`] would choose: the same search, but nothing is taken.
    pub fn imagine(&self, ask: &Ask<'_>) -> Imagination {
        let mut search = Search::new(ask, Imagined);
        let Outcome { rule, prefix, no_route, found } = self.find(&mut search);
        let chosen = found.as_ref().map(|found| &found.trunk);
        let trace = self.trace(&mut search, rule.as_ref(), prefix, chosen);
        let chosen = found.map(|found| (found.trunk, found.target));
        Imagination { chosen, no_route, trace }
    }

    fn find<H: Hand>(&self, search: &mut Search<'_, H>) -> Outcome<H::Taken> {
        let ask = search.ask;
        let mut outcome = Outcome { rule: None, prefix: 0, no_route: false, found: None };
        if self.everyone.is_none() {
            match self.route_of(&ask.subject) {
                Some((rule, prefix)) => (outcome.rule, outcome.prefix) = (Some(rule.clone()), prefix),
                None => {
                    outcome.no_route = true;
                    return outcome;
                }
            }
        }
        let rule = outcome.rule.as_ref();
        search.emergency = rule.is_some_and(Rule::is_emergency);
        let again = ask.again.and_then(|(id, tried)| Some((self.trunk(id)?, tried)));
        outcome.found = self.seek(search, rule, again);
        // An emergency call would rather go to a trunk in doubt than nowhere.
        if outcome.found.is_none() && (search.emergency || self.is_in_panic_for(rule)) {
            search.panic = true;
            outcome.found = self.seek(search, rule, again);
        }
        outcome
    }

    /// Takes the first trunk that may have the request: the one whose further targets come first, then those of the targets.
    fn seek<H: Hand>(
        &self,
        search: &mut Search<'_, H>,
        rule: Option<&Rule>,
        again: Option<(&Arc<Trunk>, &[u32])>,
    ) -> Option<Found<H::Taken>> {
        again
            .and_then(|(trunk, tried)| search.take_again(trunk, tried))
            .or_else(|| self.pools(rule).find_map(|(_, pool)| pool.choose(search)))
    }

    /// The targets of a route, or all trunks where there is none.
    fn pools<'a>(&'a self, rule: Option<&'a Rule>) -> impl Iterator<Item = (usize, Pool<'a>)> {
        let named = rule.map(|rule| &*rule.route().targets).unwrap_or_default().iter().map(|target| match target {
            RouteTarget::Group(id) => self.groups.get(id).map_or(Pool::Unknown(id), |group| Pool::Group(group)),
            RouteTarget::Trunk(id) => self.trunk(id).map_or(Pool::Unknown(id), Pool::Trunk),
        });
        let everyone = self.everyone.as_deref().filter(|_| rule.is_none()).map(Pool::Group);
        everyone.into_iter().chain(named).enumerate()
    }

    /// Whether a route's targets have trunks that could take calls, and all are in doubt.
    fn is_in_panic_for(&self, rule: Option<&Rule>) -> bool {
        let mut candidates = self.pools(rule).flat_map(|(_, pool)| pool.candidates()).peekable();
        candidates.peek().is_some() && !candidates.any(|trunk| trunk.is_well())
    }

    fn trace<H: Hand>(
        &self,
        search: &mut Search<'_, H>,
        rule: Option<&Rule>,
        prefix: usize,
        chosen: Option<&Arc<Trunk>>,
    ) -> Trace {
        let mut trace = Trace {
            revision: self.revision,
            draw: search.ask.draw,
            rule: rule.cloned(),
            prefix: prefix as u8,
            // Doubts are told, overruled or not.
            panic: std::mem::take(&mut search.panic),
            ..Trace::default()
        };
        let no_route = rule.is_none() && self.everyone.is_none();
        let subject = &search.ask.subject;
        for fit in self.rules.fits(&number(subject.called)).take(Trace::MOST_ROUTES) {
            let (rule, prefix, exact) = (fit.rule.clone(), fit.length as u8, fit.exact);
            trace.routes.push(Matched { unmet: self.unmet(&rule, subject), rule, prefix, exact });
        }
        for (at, pool) in self.pools(rule).filter(|_| !no_route) {
            match pool {
                Pool::Unknown(id) => trace.add(id, at, || Verdict::Unknown),
                Pool::Trunk(trunk) => trace.note(search, trunk, at, chosen),
                Pool::Group(group) => {
                    let (kept, more) = group.trunks.split_at(trace.room().min(group.trunks.len()));
                    kept.iter().for_each(|trunk| trace.note(search, trunk, at, chosen));
                    trace.more += more.len() as u32;
                }
            }
        }
        if let Some(trunk) = chosen {
            trace.keep_chosen(trunk);
        }
        trace
    }

    /// Why nobody would take what was imagined, in words; `called` is the user part of the Request-URI.
    pub fn why_nobody(&self, imagined: &Imagination, called: &[u8]) -> String {
        self.words_of(called, imagined.no_route, &imagined.trace)
    }

    fn words_of(&self, called: &[u8], no_route: bool, trace: &Trace) -> String {
        if no_route {
            return format!("no route matches {}", String::from_utf8_lossy(&number(called)));
        }
        if self.trunks.is_empty() {
            return "no trunk is registered".to_owned();
        }
        trace.why_nobody()
    }
}

impl Trace {
    fn note<H: Hand>(
        &mut self,
        search: &Search<'_, H>,
        trunk: &Arc<Trunk>,
        target: usize,
        chosen: Option<&Arc<Trunk>>,
    ) {
        let is_chosen = chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, trunk));
        self.add(&trunk.id, target, || if is_chosen { Verdict::Chosen } else { search.verdict(trunk) });
    }

    /// The chosen one is told, however many there are before it.
    fn keep_chosen(&mut self, trunk: &Arc<Trunk>) {
        if self.considered.iter().any(|considered| considered.verdict == Verdict::Chosen) {
            return;
        }
        let is_it = |target: &RouteTarget| match target {
            RouteTarget::Group(id) => *id == trunk.facts.group,
            RouteTarget::Trunk(id) => *id == trunk.id,
        };
        let targets = self.rule.as_ref().map(|rule| &*rule.route().targets).unwrap_or_default();
        let at = targets.iter().position(is_it).unwrap_or(usize::MAX);
        self.more = self.more.saturating_sub(1);
        self.push(&trunk.id, at, Verdict::Chosen);
    }
}

impl Pool<'_> {
    fn choose<H: Hand>(&self, search: &mut Search<'_, H>) -> Option<Found<H::Taken>> {
        match self {
            Pool::Group(group) => group.tiers.iter().find_map(|tier| tier.choose(group, search)),
            Pool::Trunk(trunk) => search.take(trunk),
            Pool::Unknown(_) => None,
        }
    }
}

impl<'a> Pool<'a> {
    fn candidates(self) -> impl Iterator<Item = &'a Arc<Trunk>> {
        let (group, trunk) = match self {
            Pool::Group(group) => (Some(group), None),
            Pool::Trunk(trunk) => (None, Some(trunk)),
            Pool::Unknown(_) => (None, None),
        };
        let of_group = group.into_iter().flat_map(|group| group.tiers.iter().flat_map(|tier| &tier.trunks));
        of_group.chain(trunk.filter(|trunk| trunk.is_candidate()))
    }
}
