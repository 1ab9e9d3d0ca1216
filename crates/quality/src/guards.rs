//! All guarded trunks, by group: at most half of those that could take calls rest at once.

use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::guard::Guard;
use crate::{Attempt, Class, Gate, Millis, Rules, State};

/// The guards of groups and their trunks. They move the [`Gate`]s that they were given.
pub struct Guards {
    groups: HashMap<Arc<str>, Group>,
    members: HashMap<Arc<str>, Member>,
    /// A moment in words.
    moment: Box<dyn Fn(Millis) -> String + Send + Sync>,
}

#[derive(Debug, Default)]
struct Group {
    rules: Option<Rules>,
    /// Members that could take calls, if the guard let them.
    able: usize,
    /// Those of them that rest or are on trial.
    out: usize,
    /// All members.
    ids: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct Member {
    group: Arc<str>,
    able: bool,
    guard: Guard,
    gate: Arc<Gate>,
}

/// A trunk that a guard has put to rest or has closed, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The trunk.
    pub id: Arc<str>,
    /// Its state now.
    pub state: State,
    /// Why, in words.
    pub why: String,
}

/// A guarded trunk, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Calls that ended in the window, as of the last.
    pub calls: u32,
    /// Those of them that failed.
    pub failed: u32,
    /// Rests since it was closed last.
    pub rests: u32,
}

impl Group {
    fn has_place(&self) -> bool {
        self.out < self.able / 2
    }

    fn count(&mut self, id: &Arc<str>, member: &Member) {
        self.ids.insert(id.clone());
        self.able += usize::from(member.able);
        self.out += usize::from(member.able && member.guard.is_out());
    }

    fn discount(&mut self, id: &str, member: &Member) {
        self.ids.remove(id);
        self.able -= usize::from(member.able);
        self.out -= usize::from(member.able && member.guard.is_out());
    }
}

impl Guards {
    /// Without groups. `moment` says a time in words.
    pub fn new(moment: impl Fn(Millis) -> String + Send + Sync + 'static) -> Guards {
        Guards { groups: HashMap::new(), members: HashMap::new(), moment: Box::new(moment) }
    }

    /// Gives a group its rules; none: it is not guarded. Counts begin anew where the rules are others. The trunks that this
    /// lets go.
    pub fn set_rules(&mut self, name: &str, rules: Option<Rules>, now: Millis) -> Vec<Change> {
        let name = self.groups.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| name.clone());
        let group = self.groups.entry(name.clone()).or_default();
        if group.rules == rules {
            self.forget_empty(&name);
            return Vec::new();
        }
        group.rules = rules;
        let mut changes = Vec::new();
        for id in &group.ids {
            let Some(member) = self.members.get_mut(id) else { continue };
            member.gate.set_guarded(rules.is_some());
            if member.guard.is_out() && rules.is_none() {
                changes.push(open(id, member, "guard: its group is guarded no longer", now));
                group.out -= usize::from(member.able);
            } else if !member.guard.is_out() {
                member.guard.close(now);
            }
        }
        self.forget_empty(&name);
        changes
    }

    /// Adds a trunk, or changes what is known of it. `able`: it could take calls, if the guard let it. The trunks of its groups
    /// that this lets go: fewer may rest where fewer are able.
    pub fn set(&mut self, id: &str, group: &str, able: bool, gate: &Arc<Gate>, now: Millis) -> Vec<Change> {
        let known = self
            .members
            .get(id)
            .is_some_and(|member| *member.group == *group && member.able == able && Arc::ptr_eq(&member.gate, gate));
        if known {
            return Vec::new();
        }
        let old = self.members.remove_entry(id);
        let mut changes = Vec::new();
        let id = old.as_ref().map_or_else(|| Arc::from(id), |(id, _)| id.clone());
        let group = self.groups.get_key_value(group).map_or_else(|| Arc::from(group), |(name, _)| name.clone());
        let mut guard = Guard::new(now);
        if let Some((_, old)) = old {
            if let Some(left) = self.groups.get_mut(&old.group) {
                left.discount(&id, &old);
            }
            if old.group == group && Arc::ptr_eq(&old.gate, gate) {
                guard = old.guard;
            } else {
                old.gate.open();
                old.gate.set_guarded(false);
            }
            if old.group != group {
                self.settle(&old.group, now, &mut changes);
                self.forget_empty(&old.group);
            }
        }
        let member = Member { group: group.clone(), able, guard, gate: gate.clone() };
        let its = self.groups.entry(group.clone()).or_default();
        its.count(&id, &member);
        gate.set_guarded(its.rules.is_some());
        self.members.insert(id, member);
        self.settle(&group, now, &mut changes);
        changes
    }

    /// Removes a trunk. The trunks of its group that this lets go.
    pub fn remove(&mut self, id: &str, now: Millis) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(member) = self.members.remove(id) {
            member.gate.open();
            member.gate.set_guarded(false);
            if let Some(group) = self.groups.get_mut(&member.group) {
                group.discount(id, &member);
            }
            self.settle(&member.group, now, &mut changes);
            self.forget_empty(&member.group);
        }
        changes
    }

    /// Takes the end of an attempt. What follows from it for the trunk, if anything.
    pub fn ended(&mut self, id: &str, attempt: &Attempt, now: Millis) -> Option<Change> {
        let class = attempt.class();
        if class == Class::Passing {
            return None;
        }
        let member = self.members.get_mut(id)?;
        let group = self.groups.get_mut(&member.group)?;
        let rules = group.rules?;
        let was_out = member.guard.is_out();
        // One that cannot take calls takes no place of those who can.
        let has_place = member.able && group.has_place();
        if !member.guard.ended(attempt.began, class == Class::Failed, &rules, has_place, now) {
            return None;
        }
        if member.able {
            group.out = group.out + usize::from(member.guard.is_out()) - usize::from(was_out);
        }
        let why = match member.guard.state {
            State::Resting { until } => {
                let moment = (self.moment)(until);
                let (calls, failed) = member.guard.counts();
                let percent = u64::from(failed) * 100 / u64::from(calls.max(1));
                let why = match was_out {
                    true => format!("guard: a call on trial failed, resting until {moment}"),
                    false => format!("guard: {percent} % of {calls} calls failed, resting until {moment}"),
                };
                member.gate.shut(until, &why);
                why
            }
            State::Closed | State::Trial { .. } => {
                member.gate.open();
                format!("guard: {} good calls in a row", rules.trial_calls)
            }
        };
        Some(Change { id: Arc::from(id), state: member.guard.state, why })
    }

    /// Lets go of trunks until no more than half of those that are able rest: whoever is nearest to its end first.
    fn settle(&mut self, name: &Arc<str>, now: Millis, changes: &mut Vec<Change>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        while group.out > group.able / 2 {
            let out = group.ids.iter().filter_map(|id| self.members.get(id).map(|member| (id, member)));
            let nearest = out.filter(|(_, member)| member.able && member.guard.is_out()).min_by_key(|(_, member)| {
                match member.guard.state {
                    State::Trial { goods } => (0, u64::from(u32::MAX - goods)),
                    State::Resting { until } => (1, until),
                    State::Closed => (2, 0),
                }
            });
            let Some(id) = nearest.map(|(id, _)| id.clone()) else { return };
            let Some(member) = self.members.get_mut(&id) else { return };
            changes.push(open(&id, member, "guard: too many of its group are out", now));
            group.out -= 1;
        }
    }

    fn forget_empty(&mut self, name: &Arc<str>) {
        if self.groups.get(name).is_some_and(|group| group.ids.is_empty() && group.rules.is_none()) {
            self.groups.remove(name);
        }
    }

    /// Trunks of guarded groups: those that are closed, on trial, and resting.
    pub fn states(&self, now: Millis) -> (usize, usize, usize) {
        let guarded = |member: &&Member| self.groups.get(&member.group).is_some_and(|group| group.rules.is_some());
        self.members.values().filter(guarded).fold((0, 0, 0), |(closed, trial, resting), member| {
            match member.guard.state {
                State::Closed => (closed + 1, trial, resting),
                State::Resting { until } if now < until => (closed, trial, resting + 1),
                State::Resting { .. } | State::Trial { .. } => (closed, trial + 1, resting),
            }
        })
    }

    /// What is thought of a trunk; none where its group is not guarded.
    pub fn status(&self, id: &str, now: Millis) -> Option<Status> {
        let member = self.members.get(id)?;
        self.groups.get(&member.group)?.rules?;
        let mut guard = member.guard.clone();
        guard.advance(now);
        let (calls, failed) = guard.counts();
        Some(Status { state: guard.state, calls, failed, rests: guard.rests })
    }

    /// Members of a group that are able, and how many of these are out.
    pub fn counts(&self, group: &str) -> (usize, usize) {
        self.groups.get(group).map_or((0, 0), |group| (group.able, group.out))
    }
}

fn open(id: &Arc<str>, member: &mut Member, why: &str, now: Millis) -> Change {
    member.guard.close(now);
    member.gate.open();
    Change { id: id.clone(), state: State::Closed, why: why.to_owned() }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards").field("groups", &self.groups).field("members", &self.members).finish_non_exhaustive()
    }
}
