//! What is seen of the targets of trunks: probes and calls go in, verdicts come out (`docs/liveness.md`).
//!
//! Whoever sees something tells it here at once, from any thread; the flags that decisions read change before the next call.
//! What follows from it (a trunk's status, the next table) is the keeper's work.

use std::time::Duration;

use jiff::Timestamp;
use liveness::{Change, Evidence, Key, Millis, Monitor, Order, Outcome, Reason, Seen, Settings, State};
use net::Clock;
use parking_lot::Mutex;
use proxy::Event;
use registry::{Health, Verdict};
use routing::{Place, Target};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Notify;

/// Longer than this nothing that is due may wait.
const LATE: Millis = 5000;

/// The monitor, shared by those who see and those who act.
pub struct Watch {
    monitor: Mutex<Monitor>,
    clock: Clock,
    /// There are changes to take.
    pub changed: Notify,
}

impl Watch {
    /// Without trunks.
    pub fn new(settings: Settings, seed: u64, clock: Clock) -> Watch {
        Watch { monitor: Mutex::new(Monitor::new(settings, seed)), clock, changed: Notify::new() }
    }

    fn now(&self) -> Millis {
        self.clock.now().0 / 1000
    }

    fn with<R>(&self, f: impl FnOnce(&mut Monitor, Millis) -> R) -> R {
        let mut monitor = self.monitor.lock();
        let result = f(&mut monitor, self.now());
        let changed = monitor.has_changes();
        drop(monitor);
        if changed {
            self.changed.notify_one();
        }
        result
    }

    /// Adds or replaces a trunk.
    pub fn set(&self, id: &str, probe: Option<&registry::Probe>, places: &[Place]) {
        let probing = probe.map(|probe| liveness::Probing {
            interval: u64::from(probe.interval_seconds) * 1000,
            fall: probe.fall,
            rise: probe.rise,
            ok_codes: probe.ok_codes.clone(),
        });
        let keys: Vec<Key> = places.iter().map(key).collect();
        self.with(|monitor, now| monitor.set(id, probing, &keys, now));
    }

    /// Removes a trunk.
    pub fn remove(&self, id: &str) {
        self.with(|monitor, _| monitor.remove(id));
    }

    /// Takes what the engine tells.
    pub fn tell(&self, event: &Event) {
        match event {
            Event::Attempt { trunk, target, status, local, heard, retry_after, .. } => {
                let Some(target) = trunk.targets.get(*target) else { return };
                let outcome = match (local, heard, status) {
                    (true, false, 503) => Outcome::Unsent,
                    (true, false, _) => Outcome::Timeout,
                    (_, _, status) => Outcome::Answer(*status),
                };
                if !matches!(outcome, Outcome::Answer(_)) || target.live.is_watched() {
                    let flags = self.with(|monitor, now| monitor.called(&trunk.id, &key(&target.place), outcome, now));
                    if let Some(flags) = flags {
                        apply(target, flags.usable, flags.watched);
                    }
                }
                if let Some(seconds) = retry_after {
                    trunk.live().set_resting(true);
                    self.with(|monitor, now| monitor.rest(&trunk.id, u64::from(*seconds) * 1000, now));
                }
            }
            Event::Probed { token, status, unsent, retry_after, round_trip } => {
                let outcome = match (status, unsent) {
                    (Some(status), _) => Outcome::Answer(*status),
                    (None, true) => Outcome::Unsent,
                    (None, false) => Outcome::Timeout,
                };
                let round_trip = status.map(|_| *round_trip);
                self.with(|monitor, now| {
                    let probed = monitor.probed(*token, outcome, round_trip, now);
                    if let Some((id, seconds)) = probed.zip(*retry_after) {
                        monitor.rest(&id, u64::from(seconds) * 1000, now);
                    }
                });
            }
            _ => {}
        }
    }

    /// Probes to send now, at most so many.
    pub fn tick(&self, limit: usize) -> Vec<Order> {
        let mut orders = Vec::new();
        self.with(|monitor, now| monitor.tick(now, limit, &mut orders));
        orders
    }

    /// Trunks about which something has changed.
    pub fn take_changes(&self) -> Vec<Change> {
        self.monitor.lock().take_changes()
    }

    /// What decisions read of a trunk.
    pub fn state_of(&self, id: &str) -> Option<Change> {
        self.monitor.lock().state_of(id)
    }

    /// How long the oldest thing that is due has waited.
    pub fn overdue(&self) -> Duration {
        Duration::from_millis(self.monitor.lock().overdue(self.now()))
    }

    /// Whether probes and rests are kept; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        match self.overdue().as_millis() as u64 {
            late if late > LATE => Err(format!("prober: behind by {late} ms")),
            _ => Ok(()),
        }
    }

    /// When the first target of a trunk in such a state was probed last.
    pub fn last_probe(&self, id: &str, is_it: impl Fn(&State) -> bool) -> Option<Timestamp> {
        let evidence = self.monitor.lock().evidence(id);
        let probe = evidence.iter().find(|evidence| is_it(&evidence.state)).and_then(|one| one.probe.as_ref())?;
        Some(self.moment(probe.at))
    }

    /// Targets held, and probes under way.
    pub fn counts(&self) -> (usize, usize) {
        self.monitor.lock().counts()
    }

    /// A trunk's targets, for people; `stale` where its name could not be resolved again.
    pub fn describe(&self, id: &str, stale: bool) -> Option<Box<RawValue>> {
        let evidence = self.monitor.lock().evidence(id);
        let targets: Vec<_> = evidence.iter().map(|evidence| self.describe_target(evidence, stale)).collect();
        // Plain data always serialises.
        serde_json::value::to_raw_value(&targets).ok()
    }

    fn describe_target(&self, evidence: &Evidence, stale: bool) -> serde_json::Value {
        let seen = |seen: &Option<Seen>| {
            seen.as_ref().map(|seen| {
                let mut value = json!({ "at": self.moment(seen.at), "outcome": seen.outcome.to_string() });
                if let Some(micros) = seen.round_trip {
                    value["round_trip_ms"] = json!(micros as f64 / 1000.0);
                }
                value
            })
        };
        let reason = match evidence.state {
            State::Down { why, .. } => Some(self.words(&why)),
            State::Resting { until } => Some(self.words(&Reason::CoolingDown(until))),
            State::Unproven { .. } | State::Up { .. } | State::Trial => None,
        };
        json!({
            "address": evidence.key.address,
            "transport": evidence.key.transport.as_str(),
            "state": evidence.state.name(),
            "reason": reason,
            "since": self.moment(evidence.since),
            "stale": stale,
            "last_probe": seen(&evidence.probe),
            "last_call": seen(&evidence.call),
        })
    }

    /// A verdict in the registry's terms.
    pub fn health(&self, change: &Change) -> Health {
        let verdict = match change.health.verdict {
            liveness::Verdict::Good => Verdict::Good,
            liveness::Verdict::Down => Verdict::Down,
            liveness::Verdict::Resting => Verdict::Resting,
        };
        Health { verdict, reasons: change.health.reasons.iter().map(|reason| self.words(reason)).collect() }
    }

    fn words(&self, reason: &Reason) -> String {
        match reason {
            Reason::Probe(outcome) => format!("probe: {outcome}"),
            Reason::Calls(outcome) => format!("calls: {outcome}"),
            Reason::CoolingDown(until) => format!("cooling down until {}", self.moment(*until)),
            Reason::Resting(until) => format!("resting until {}", self.moment(*until)),
        }
    }

    fn moment(&self, at: Millis) -> Timestamp {
        moment(&self.clock, at)
    }
}

/// The time of day, to the millisecond.
pub fn moment(clock: &Clock, at: Millis) -> Timestamp {
    let wall = Timestamp::try_from(clock.wall(proxy::Time(at * 1000))).unwrap_or_default();
    Timestamp::from_millisecond(wall.as_millisecond()).unwrap_or(wall)
}

/// Sets what decisions read.
pub fn apply(target: &Target, usable: bool, watched: bool) {
    target.live.set_usable(usable);
    target.live.set_watched(watched);
}

/// Names a place as the monitor does.
pub fn key(place: &Place) -> Key {
    Key { address: place.address, transport: place.transport, connection: place.connection }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prober_that_stands_still_makes_us_unready() {
        let watch = Watch::new(Settings::default(), 1, Clock::new());
        assert_eq!(watch.ready(), Ok(()));
        let probe = registry::Probe { interval_seconds: 1, fall: 3, rise: 2, ok_codes: None, from: None, host: None };
        watch.set("a", Some(&probe), &[Place::udp(([192, 0, 2, 1], 5060).into())]);
        assert_eq!(watch.ready(), Ok(()), "its first probe is due, but not late");
        // Nobody ticks.
        let begun = std::time::Instant::now();
        while watch.ready().is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody notices");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(watch.ready().is_err_and(|why| why.starts_with("prober: behind by ")));
        assert!(watch.overdue() > Duration::from_millis(LATE));
        assert_eq!(watch.tick(10).len(), 1);
        assert_eq!(watch.ready(), Ok(()));
    }
}
