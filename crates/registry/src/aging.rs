//! What time does: leases run out and are renewed, intents end.

use std::sync::Arc;

use crate::command::Command;
use crate::event::EventKind;
use crate::lease::Beat;
use crate::state::{Now, Registry};

/// A longer time between ticks means that this process could not take heartbeats.
const LONGEST_TICK: u64 = 1000;
/// After an order to deregister, the time until it is given again.
const REPEAT: u64 = 5000;
/// Milliseconds by which two clocks may seem to drift because they are not read at once.
const FLUTTER: u64 = 50;
/// Entries of the queue that may be out of use beside as many as there are trunks.
const SPARE: usize = 1024;
/// Time between looks at intents.
const SWEEP: u64 = 500;

impl Registry {
    /// The time that leases live in: it stands still while the process does.
    pub(crate) fn lease_time(&self, now: Now) -> u64 {
        let mono = self.last_tick.map_or(now.mono_ms, |last| now.mono_ms.min(last + LONGEST_TICK));
        mono.saturating_sub(self.forgiven)
    }

    pub(crate) fn wall_offset(&self, now: Now) -> i64 {
        now.wall.as_millisecond().saturating_sub_unsigned(self.lease_time(now))
    }

    /// Follows the time of day, but not its flutter: what was read of a lease's end stays true to the millisecond.
    pub(crate) fn follow_wall(&mut self, now: Now) {
        let offset = self.wall_offset(now);
        if self.offset.is_none_or(|old| old.abs_diff(offset) > FLUTTER) {
            self.offset = Some(offset);
        }
    }

    /// Renews a lease. No lock is needed beyond a shared one.
    pub fn heartbeat(&self, id: &str, now: Now) -> Beat {
        match self.trunks.get(id) {
            None => Beat::Unknown,
            // Its heartbeat is the REGISTER.
            Some(entry) if entry.trunk.register.is_some() => Beat::Renewed,
            Some(entry) if !entry.lease_up => Beat::Lapsed,
            Some(entry) => {
                if let Some(lease) = entry.trunk.lease_ms() {
                    entry.lease.renew(self.lease_time(now) + lease);
                }
                Beat::Renewed
            }
        }
    }

    /// A heartbeat for a trunk whose lease may have lapsed.
    pub fn revive(&mut self, id: &str, now: Now) -> Beat {
        let at = self.lease_time(now);
        let Some((id, entry)) = self.trunks.get_key_value(id).map(|(id, _)| id.clone()).and_then(|id| {
            let entry = self.trunks.get_mut(&id)?;
            Some((id, entry))
        }) else {
            return Beat::Unknown;
        };
        if let Some(lease) = entry.trunk.lease_ms() {
            entry.lease.set(at + lease);
            self.queue.push(&id, &mut entry.lease, at + lease);
        }
        entry.lease_up = true;
        self.settle(&id, now, true);
        Beat::Renewed
    }

    /// Ages the leases; returns what is to be deregistered. Wants to be called several times a second: a longer gap than
    /// a second counts as one second, as nobody could send a heartbeat meanwhile.
    pub fn tick(&mut self, now: Now) -> Vec<Command> {
        if let Some(last) = self.last_tick {
            self.forgiven += now.mono_ms.saturating_sub(last).saturating_sub(LONGEST_TICK);
        }
        self.last_tick = Some(now.mono_ms);
        self.follow_wall(now);
        let at = self.lease_time(now);
        // Trunks that come and go leave entries behind until those come up: keep them in proportion.
        if self.queue.len() > 2 * self.trunks.len() + SPARE {
            let trunks = &self.trunks;
            self.queue.retain(|at, id| trunks.get(id).is_some_and(|entry| entry.lease.is_queued_at(at)));
        }
        let mut orders = Vec::new();
        while let Some((due, id)) = self.queue.pop(at) {
            self.come_up(due, &id, at, now, &mut orders);
        }
        self.release(at, now);
        if at >= self.next_sweep {
            self.next_sweep = at + SWEEP;
            self.sweep(now, &mut orders);
        }
        orders
    }

    fn come_up(&mut self, due: u64, id: &Arc<str>, at: u64, now: Now, orders: &mut Vec<Command>) {
        let deregister_after = self.settings.deregister_after.as_millis() as u64;
        let Some(entry) = self.trunks.get_mut(id) else {
            return;
        };
        let registers = entry.trunk.register.is_some();
        // Taken even where the lease has been given up: it may come back.
        if !entry.lease.takes(due) || (entry.trunk.lease_ms().is_none() && !registers) {
            return;
        }
        let deadline = entry.lease.deadline();
        let gone_at = deadline.saturating_add(deregister_after);
        if deadline > at {
            return self.queue.push(id, &mut entry.lease, deadline);
        }
        if std::mem::take(&mut entry.lease_up) {
            self.queue.push(id, &mut entry.lease, gone_at);
            self.lease_expiries += 1;
            return self.settle(id, now, true);
        }
        // Whoever provisioned it takes it away, no lapse does.
        if registers {
            return;
        }
        if gone_at > at {
            return self.queue.push(id, &mut entry.lease, gone_at);
        }
        orders.push(Command::Expire { id: id.to_string(), modified: entry.modified });
        self.queue.push(id, &mut entry.lease, at + REPEAT);
    }

    /// Looks at intents: those that have ended, and those whose trunk is long gone.
    fn sweep(&mut self, now: Now, orders: &mut Vec<Command>) {
        let kept = jiff::SignedDuration::try_from(self.settings.admin_kept).unwrap_or(jiff::SignedDuration::MAX);
        let mut ended = Vec::new();
        for (id, intent) in &mut self.admins {
            if !intent.ended && !intent.admin.holds(now.wall) {
                intent.ended = true;
                ended.push(id.clone());
            }
            let due = match intent.deregistered_at {
                Some(at) => now.wall.duration_since(at) > kept,
                // Its trunk went while it was being set: it has yet to learn so.
                None => !self.trunks.contains_key(id),
            };
            if due {
                orders.push(Command::PurgeAdmin { id: id.to_string(), modified: intent.modified });
            }
        }
        for id in ended {
            if self.trunks.contains_key(&id) {
                self.tell(EventKind::Updated, &id, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::command::Condition;
    use crate::state::Settings;

    #[test]
    fn the_queue_does_not_grow_with_trunks_that_come_and_go() {
        let mut registry = Registry::new(Settings::default());
        let wall = Timestamp::UNIX_EPOCH;
        let body = br#"{"sip_uri":"sip:a","heartbeat_seconds":3600}"#.to_vec();
        let command = Command::Register { id: "a".into(), body, condition: Condition::default() };
        for n in 0..5000 {
            let now = Now { mono_ms: n, wall };
            let decision = registry.decide(&command, now).unwrap();
            let stored = decision.writes[0].value.clone().unwrap();
            registry.apply("trunk/a", Some((&stored, n + 1, n + 1)), now);
            registry.tick(now);
            if n < 4999 {
                registry.apply("trunk/a", None, now);
            }
        }
        assert!(registry.queue.len() <= SPARE + 2, "{}", registry.queue.len());
        // What is left of it still ends the lease.
        for n in 5000.. {
            registry.tick(Now { mono_ms: n * 1000, wall });
            if registry.lease_expiries() == 1 {
                break;
            }
            assert!(n < 20_000);
        }
    }
}
