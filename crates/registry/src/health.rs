//! From what is known of a trunk to its status: lease, health, and damping for those that come and go (`docs/liveness.md`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::EventKind;
use crate::state::{Now, Registry};

/// What this process has observed of a trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// What speaks against it, in words.
    pub reasons: Vec<String>,
}

/// Whether a trunk is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    #[default]
    Good,
    /// It does not answer as it should.
    Down,
    /// It asked for a rest.
    Resting,
}

/// How often a trunk went down of late.
#[derive(Debug, Default)]
pub(crate) struct Flaps {
    downs: VecDeque<u64>,
    /// Until when it must stay good to be up again.
    pub held_until: Option<u64>,
    pub was_good: bool,
}

impl Registry {
    /// Takes note of a trunk's health; none of its records changes.
    pub fn observe(&mut self, id: &str, health: Health, now: Now) {
        let Some((id, _)) = self.trunks.get_key_value(id) else { return };
        let id = id.clone();
        let Some(entry) = self.trunks.get_mut(&id) else { return };
        if entry.health == health {
            return;
        }
        let told = entry.health.reasons != health.reasons;
        entry.health = health;
        self.settle(&id, now, told);
    }

    /// Works out a trunk's status anew, and tells what has changed; `told` where something beside it has: a reason more or
    /// less matters to routing even where the status stays.
    pub(crate) fn settle(&mut self, id: &Arc<str>, now: Now, told: bool) {
        let at = self.lease_time(now);
        let (limit, window) = (self.settings.flap_limit as usize, self.settings.flap_window.as_millis() as u64);
        let hold = self.settings.flap_hold.as_millis() as u64;
        let Some(entry) = self.trunks.get_mut(id) else { return };
        let good = entry.lease_up && entry.health.verdict == Verdict::Good;
        let flaps = &mut entry.flaps;
        if std::mem::replace(&mut flaps.was_good, good) != good {
            flaps.downs.retain(|since| at.saturating_sub(*since) <= window);
            if good && flaps.downs.len() > limit {
                flaps.held_until = Some(at + hold);
                self.held.push_back((at + hold, id.clone()));
            } else if !good {
                flaps.held_until = None;
                // A rest that was asked for is no failure.
                if !(entry.lease_up && entry.health.verdict == Verdict::Resting) {
                    flaps.downs.push_back(at);
                    // More than these change nothing.
                    if flaps.downs.len() > limit + 1 {
                        flaps.downs.pop_front();
                    }
                }
            }
        }
        let up = good && flaps.held_until.is_none();
        if std::mem::replace(&mut entry.up, up) == up {
            if told {
                self.tell(EventKind::Updated, id, now);
            }
            return;
        }
        if up {
            self.down -= 1;
            self.tell(EventKind::Up, id, now);
        } else {
            self.down += 1;
            self.tell(EventKind::Down, id, now);
        }
    }

    /// Lets go of trunks that have stayed good for long enough.
    pub(crate) fn release(&mut self, at: u64, now: Now) {
        while self.held.front().is_some_and(|(due, _)| *due <= at) {
            let Some((due, id)) = self.held.pop_front() else { return };
            let Some(entry) = self.trunks.get_mut(&id).filter(|entry| entry.flaps.held_until == Some(due)) else {
                continue;
            };
            entry.flaps.held_until = None;
            self.settle(&id, now, true);
        }
    }
}
