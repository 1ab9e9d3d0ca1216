//! All targets of all trunks, and the queue of what is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use crate::state::Rules;
use crate::{Event, Health, Key, Millis, Outcome, Probing, Reason, Settings, State, Verdict};

/// First probes of targets that come at once keep this distance, in microseconds.
const FIRST_APART: u64 = 250;
/// An ordered probe whose outcome does not come is counted as silence this long after its time-out.
const GRACE: Millis = 2000;
/// Dead entries of the queue that are borne beside as many as live.
const SPARE: usize = 1024;

/// A probe to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The trunk.
    pub id: Arc<str>,
    /// Its target.
    pub key: Key,
    /// To be given back with the outcome.
    pub token: u64,
    /// Without an answer it is a miss after this time, in milliseconds.
    pub timeout: Millis,
}

/// What decisions read of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The target.
    pub key: Key,
    /// Calls may go there.
    pub usable: bool,
    /// Answers to calls are to be told.
    pub watched: bool,
}

/// A trunk about which something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The trunk.
    pub id: Arc<str>,
    /// Its health now.
    pub health: Health,
    /// Whether it asked for a rest.
    pub resting: bool,
    /// Its targets now.
    pub targets: Vec<Flags>,
}

/// Something that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Millis,
    /// What.
    pub outcome: Outcome,
    /// From the probe to its answer, in microseconds.
    pub round_trip: Option<u64>,
}

/// What is known of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The target.
    pub key: Key,
    /// What is thought of it.
    pub state: State,
    /// Since when.
    pub since: Millis,
    /// The last probe's outcome.
    pub probe: Option<Seen>,
    /// The last call's outcome that was told: failures, and the answers that came after one.
    pub call: Option<Seen>,
}

#[derive(Debug)]
struct Trunk {
    probing: Option<Probing>,
    rest_until: Option<Millis>,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    serial: u64,
    evidence: Evidence,
    /// The probe that is under way.
    probe: Option<u64>,
}

/// What may come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A target is to be probed.
    Probe(u64),
    /// A probe has had no outcome.
    GiveUp(u64),
    /// The rest of a target is over.
    Rest(u64),
    /// The rest of a trunk may be over; by the serial of any target it had.
    Trunk(u64),
}

/// The verdicts over all targets.
#[derive(Debug)]
pub struct Monitor {
    settings: Settings,
    trunks: HashMap<Arc<str>, Trunk>,
    /// Trunks by the serial numbers of their targets.
    owners: HashMap<u64, Arc<str>>,
    /// Targets by the probe that is under way.
    probes: HashMap<u64, u64>,
    queue: BinaryHeap<Reverse<(Millis, Due)>>,
    changed: HashSet<Arc<str>>,
    serial: u64,
    /// When the next first probe may begin, in microseconds.
    first_free: u64,
    random: u64,
}

impl Monitor {
    /// Without trunks. `seed` starts the jitter.
    pub fn new(settings: Settings, seed: u64) -> Monitor {
        Monitor {
            settings,
            trunks: HashMap::new(),
            owners: HashMap::new(),
            probes: HashMap::new(),
            queue: BinaryHeap::new(),
            changed: HashSet::new(),
            serial: 0,
            first_free: 0,
            random: seed,
        }
    }

    /// Adds or replaces a trunk. What is known of targets that stay is kept, unless they were not probed and are now, or the
    /// other way round.
    pub fn set(&mut self, id: &str, probing: Option<Probing>, keys: &[Key], now: Millis) {
        let id = self.trunks.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| id.clone());
        let old = self.trunks.remove(&id);
        let (before, rest_until, mut known) =
            old.map_or((None, None, Vec::new()), |old| (old.probing, old.rest_until, old.targets));
        if before.is_some() != probing.is_some() {
            known.drain(..).for_each(|target| self.forget(&target));
        }
        let rescheduled = before.as_ref().map(|old| old.interval) != probing.as_ref().map(|new| new.interval);
        let mut targets = Vec::with_capacity(keys.len());
        for key in keys {
            match known.iter().position(|target| target.evidence.key == *key) {
                Some(at) if !rescheduled => targets.push(known.swap_remove(at)),
                // A new number makes the old entries of the queue void.
                Some(at) => {
                    let target = known.swap_remove(at);
                    self.forget(&target);
                    let evidence = target.evidence;
                    targets.push(self.begin(&id, evidence, probing.as_ref(), now));
                }
                None => {
                    let state = State::first(probing.is_some());
                    let evidence = Evidence { key: *key, state, since: now, probe: None, call: None };
                    targets.push(self.begin(&id, evidence, probing.as_ref(), now));
                }
            }
        }
        known.iter().for_each(|target| self.forget(target));
        self.trunks.insert(id.clone(), Trunk { probing, rest_until, targets });
        self.changed.insert(id);
    }

    /// Removes a trunk.
    pub fn remove(&mut self, id: &str) {
        if let Some(trunk) = self.trunks.remove(id) {
            trunk.targets.iter().for_each(|target| self.forget(target));
            self.changed.remove(id);
        }
    }

    fn begin(&mut self, id: &Arc<str>, evidence: Evidence, probing: Option<&Probing>, now: Millis) -> Target {
        self.serial += 1;
        let serial = self.serial;
        self.owners.insert(serial, id.clone());
        if let Some(probing) = probing {
            let first = self.first_free.max(now * 1000);
            self.first_free = first + FIRST_APART;
            // Within an interval, also where more come at once than one can take at this distance.
            let wait = (first / 1000 - now) % probing.interval.max(1);
            self.queue.push(Reverse((now + wait, Due::Probe(serial))));
        }
        if let State::Resting { until } = evidence.state {
            self.queue.push(Reverse((until, Due::Rest(serial))));
        }
        Target { serial, evidence, probe: None }
    }

    fn forget(&mut self, target: &Target) {
        self.owners.remove(&target.serial);
        if let Some(token) = target.probe {
            self.probes.remove(&token);
        }
    }

    /// Does what is due: at most `limit` probes are ordered, the rest waits for the next call.
    pub fn tick(&mut self, now: Millis, limit: usize, orders: &mut Vec<Order>) {
        if self.queue.len() > 3 * self.owners.len() + self.probes.len() + SPARE {
            let (owners, probes) = (&self.owners, &self.probes);
            self.queue.retain(|Reverse((_, due))| match due {
                Due::GiveUp(token) => probes.contains_key(token),
                Due::Probe(serial) | Due::Rest(serial) | Due::Trunk(serial) => owners.contains_key(serial),
            });
        }
        let most = orders.len() + limit;
        while let Some(Reverse((at, due))) = self.queue.peek().copied()
            && at <= now
        {
            if matches!(due, Due::Probe(_)) && orders.len() >= most {
                return;
            }
            self.queue.pop();
            match due {
                Due::Probe(serial) => self.order(serial, at, now, orders),
                Due::GiveUp(token) => drop(self.probed(token, Outcome::Timeout, None, now)),
                Due::Rest(serial) => self.event(serial, Event::RestOver, now),
                Due::Trunk(serial) => self.wake(serial, now),
            }
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_due(&self) -> Option<Millis> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// How long the oldest thing that is due has waited: what shows that nobody calls [`Self::tick`] any more.
    pub fn overdue(&self, now: Millis) -> Millis {
        self.next_due().map_or(0, |at| now.saturating_sub(at))
    }

    fn order(&mut self, serial: u64, at: Millis, now: Millis, orders: &mut Vec<Order>) {
        let Some((interval, under_way)) =
            self.with(serial, |trunk, at| Some((trunk.probing.as_ref()?.interval, trunk.targets[at].probe.is_some())))
        else {
            return;
        };
        let next = interval * 9 / 10 + self.below(interval / 5 + 1);
        // From when it was due, so that a delay of ours bunches nothing; unless we are far behind.
        let from = if now - at > interval { now } else { at };
        self.queue.push(Reverse((from + next, Due::Probe(serial))));
        if under_way {
            return;
        }
        self.serial += 1;
        let token = self.serial;
        let Some(id) = self.owners.get(&serial).cloned() else { return };
        self.probes.insert(token, serial);
        // Over before the next is due: else only every second one of frequent probes could go out, and misses would take as long.
        let timeout = self.settings.probe_timeout.min(interval * 8 / 10);
        self.queue.push(Reverse((now + timeout + GRACE, Due::GiveUp(token))));
        self.with(serial, |trunk, at| {
            let target = &mut trunk.targets[at];
            target.probe = Some(token);
            orders.push(Order { id, key: target.evidence.key, token, timeout });
            Some(())
        });
    }

    /// The outcome of an ordered probe, with its round trip in microseconds; the trunk that was probed. One that is not
    /// awaited is ignored.
    pub fn probed(&mut self, token: u64, outcome: Outcome, round_trip: Option<u64>, now: Millis) -> Option<Arc<str>> {
        let serial = self.probes.remove(&token)?;
        let event = self.with(serial, |trunk, at| {
            let target = &mut trunk.targets[at];
            target.probe = None;
            target.evidence.probe = Some(Seen { at: now, outcome, round_trip });
            let good = trunk.probing.as_ref()?.proves_life(outcome);
            Some(if good { Event::ProbeGood } else { Event::ProbeMissed(outcome) })
        });
        self.event(serial, event?, now);
        self.owners.get(&serial).cloned()
    }

    /// The outcome of a call; the target's flags after it.
    pub fn called(&mut self, id: &str, key: &Key, outcome: Outcome, now: Millis) -> Option<Flags> {
        let trunk = self.trunks.get_mut(id)?;
        let target = trunk.targets.iter_mut().find(|target| target.evidence.key == *key)?;
        target.evidence.call = Some(Seen { at: now, outcome, round_trip: None });
        let serial = target.serial;
        let event = match outcome {
            Outcome::Answer(_) => Event::CallAnswered,
            missed => Event::CallMissed(missed),
        };
        self.event(serial, event, now);
        self.with(serial, |trunk, at| Some(flags(&trunk.targets[at])))
    }

    /// The trunk asks for a rest (RFC 3261 §21.5.4); it gets as much as the settings allow.
    pub fn rest(&mut self, id: &str, length: Millis, now: Millis) {
        let until = now + length.min(self.settings.rest);
        let Some((id, trunk)) = self.trunks.get_key_value(id).map(|(id, _)| id.clone()).and_then(|id| {
            let trunk = self.trunks.get_mut(&id)?;
            Some((id, trunk))
        }) else {
            return;
        };
        if trunk.rest_until.is_none_or(|known| known < until)
            && let Some(target) = trunk.targets.first()
        {
            trunk.rest_until = Some(until);
            self.queue.push(Reverse((until, Due::Trunk(target.serial))));
            self.changed.insert(id);
        }
    }

    fn wake(&mut self, serial: u64, now: Millis) {
        let Some(id) = self.owners.get(&serial).cloned() else { return };
        let Some(trunk) = self.trunks.get_mut(&id) else { return };
        if trunk.rest_until.is_some_and(|until| until <= now) {
            trunk.rest_until = None;
            self.changed.insert(id);
        }
    }

    fn event(&mut self, serial: u64, event: Event, now: Millis) {
        let settings = self.settings.clone();
        let Some((old, new, rested)) = self.with(serial, |trunk, at| {
            let (fall, rise) = trunk.probing.as_ref().map_or((settings.call_fall, 1), |p| (p.fall, p.rise));
            let rules = Rules { probed: trunk.probing.is_some(), fall, rise, rest: settings.rest };
            let evidence = &mut trunk.targets[at].evidence;
            let old = evidence.state;
            // A rest that was made longer meanwhile is not over.
            if let (State::Resting { until }, Event::RestOver) = (old, event)
                && until > now
            {
                return None;
            }
            let new = old.next(event, &rules, now);
            if old.name() != new.name() {
                evidence.since = now;
            }
            evidence.state = new;
            let rested = if let State::Resting { until } = new { Some(until) } else { None };
            Some((old, new, rested))
        }) else {
            return;
        };
        if old == new {
            return;
        }
        if let Some(until) = rested {
            self.queue.push(Reverse((until, Due::Rest(serial))));
        }
        if let Some(id) = self.owners.get(&serial) {
            self.changed.insert(id.clone());
        }
    }

    fn with<R>(&mut self, serial: u64, f: impl FnOnce(&mut Trunk, usize) -> Option<R>) -> Option<R> {
        let trunk = self.trunks.get_mut(self.owners.get(&serial)?)?;
        let at = trunk.targets.iter().position(|target| target.serial == serial)?;
        f(trunk, at)
    }

    /// Trunks about which something has changed since the last time.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|id| self.state_of(&id)).collect()
    }

    /// Whether [`Self::take_changes`] has something.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What decisions read of a trunk now.
    pub fn state_of(&self, id: &str) -> Option<Change> {
        let (id, trunk) = self.trunks.get_key_value(id)?;
        let targets = trunk.targets.iter().map(flags).collect();
        Some(Change { id: id.clone(), health: trunk.health(), resting: trunk.rest_until.is_some(), targets })
    }

    /// What is known of a trunk's targets.
    pub fn evidence(&self, id: &str) -> Vec<Evidence> {
        self.trunks
            .get(id)
            .map(|trunk| trunk.targets.iter().map(|target| target.evidence.clone()).collect())
            .unwrap_or_default()
    }

    /// Targets held, and how many probes are under way.
    pub fn counts(&self) -> (usize, usize) {
        (self.owners.len(), self.probes.len())
    }

    /// A number below `bound`, which must not be 0 (Steele et al., SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
    }
}

impl Trunk {
    /// Good while any target is usable; a rest that it asked for comes first.
    fn health(&self) -> Health {
        if let Some(until) = self.rest_until {
            return Health { verdict: Verdict::Resting, reasons: vec![Reason::Resting(until)] };
        }
        if self.targets.is_empty() || self.targets.iter().any(|target| target.evidence.state.is_usable()) {
            return Health::default();
        }
        let mut reasons = Vec::new();
        for target in &self.targets {
            let reason = match target.evidence.state {
                State::Down { why, .. } => why,
                State::Resting { until } => Reason::CoolingDown(until),
                State::Unproven { .. } | State::Up { .. } | State::Trial => continue,
            };
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        Health { verdict: Verdict::Down, reasons }
    }
}

fn flags(target: &Target) -> Flags {
    let state = target.evidence.state;
    Flags { key: target.evidence.key, usable: state.is_usable(), watched: state.heeds_answers() }
}
