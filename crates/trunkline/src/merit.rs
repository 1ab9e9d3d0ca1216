//! How well trunks complete calls: the ends of attempts and of calls go in, counts and the guards' verdicts come out
//! (`docs/quality.md`).
//!
//! Whatever happens on the threads of SIP is told here at once. A trunk's own counts have a lock of their own, prefixes are
//! spread over several, and the one lock of the guards is taken for trunks of guarded groups alone. A guard's verdict is an atomic
//! that the next decision reads.

mod encode;
mod report;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use net::Clock;
use parking_lot::{Mutex, MutexGuard};
use proxy::Event;
use quality::{Attempt, Change, Class, DELAY_BOUNDS, Guards, Millis, Outcome, Prefixes, Rules, State};
use routing::Trunk;
use tracing::{info, warn};

use crate::keeper::Table;
use crate::watch::moment;

/// Series by trunk and prefix, all together.
const MOST_PREFIXES: usize = 10_000;
/// Locks that they are spread over.
const SHARDS: usize = 16;
/// How often what is past is let go.
const TRIM: Duration = Duration::from_secs(60);

/// Counts and guards of all trunks.
pub struct Merits {
    guards: Mutex<Guards>,
    prefixes: [Mutex<Prefixes>; SHARDS],
    delays: Delays,
    rests: AtomicU64,
    clock: Clock,
}

/// Post-dial delays of all trunks since the start.
#[derive(Default)]
struct Delays {
    counts: [AtomicU64; DELAY_BOUNDS.len() + 1],
    /// In milliseconds.
    sum: AtomicU64,
}

impl Merits {
    /// Without trunks.
    pub fn new(clock: Clock) -> Merits {
        Merits {
            guards: Mutex::new(Guards::new(move |at| moment(&clock, at).to_string())),
            prefixes: std::array::from_fn(|_| Mutex::new(Prefixes::new(MOST_PREFIXES / SHARDS))),
            delays: Delays::default(),
            rests: AtomicU64::new(0),
            clock,
        }
    }

    fn now(&self) -> Millis {
        self.clock.now().0 / 1000
    }

    /// Takes what the engine tells.
    pub fn tell(&self, event: &Event) {
        match event {
            Event::Attempt { trunk, status, local, begins_call: true, times, prefix, .. } => {
                let outcome = match (local, status) {
                    (true, 503) => Outcome::Unsent,
                    (true, _) => Outcome::Timeout,
                    (false, status) => Outcome::Answer(*status),
                };
                let delay = times.reached.map(|at| at.0.saturating_sub(times.sent.0) / 1000);
                self.attempt(trunk, prefix.as_ref(), &Attempt { began: times.sent.0 / 1000, outcome, delay });
            }
            Event::Over { trunk, prefix, lasted } => {
                let (lasted, now) = (lasted / 1000, self.now());
                trunk.live().series().end(lasted, now);
                if let Some(prefix) = prefix {
                    self.prefixes_of(prefix).end(trunk.live().serial(), prefix, lasted, now);
                }
            }
            _ => {}
        }
    }

    fn attempt(&self, trunk: &Trunk, prefix: Option<&Arc<str>>, attempt: &Attempt) {
        let (live, now) = (trunk.live(), self.now());
        live.averages().attempt(attempt, now);
        live.series().attempt(attempt, now);
        if let Some(prefix) = prefix {
            self.prefixes_of(prefix).attempt(live.serial(), prefix, attempt, now);
        }
        if let Some(delay) = attempt.delay.filter(|_| attempt.class() != Class::Passing) {
            self.delays.counts[DELAY_BOUNDS.partition_point(|bound| *bound < delay)].fetch_add(1, Relaxed);
            self.delays.sum.fetch_add(delay, Relaxed);
        }
        if live.gate().is_guarded() {
            let change = self.guards.lock().ended(&trunk.id, attempt, now);
            self.note(change);
        }
    }

    /// Takes a trunk as the next table has it.
    pub fn set(&self, trunk: &Trunk, group: &str) {
        // Whom a fact or another doubt keeps from calls is no part of the half that goes on.
        let able = trunk.is_candidate() && trunk.facts.doubts.is_empty() && trunk.facts.rests.is_empty();
        let changes = self.guards.lock().set(&trunk.id, group, able, trunk.live().gate(), self.now());
        self.note(changes);
    }

    /// Removes a trunk.
    pub fn remove(&self, id: &str) {
        let changes = self.guards.lock().remove(id, self.now());
        self.note(changes);
    }

    /// Takes the guard of a group; none: it has none.
    pub fn set_guard(&self, group: &str, guard: Option<&registry::Guard>) {
        let rules = guard.map(|guard| Rules {
            failure_share: guard.failure_share,
            min_calls: guard.min_calls,
            window: u64::from(guard.window_seconds) * 1000,
            rest: u64::from(guard.rest_seconds) * 1000,
            trial_calls: guard.trial_calls,
        });
        let changes = self.guards.lock().set_rules(group, rules, self.now());
        self.note(changes);
    }

    fn note(&self, changes: impl IntoIterator<Item = Change>) {
        for Change { id, state, why } in changes {
            match state {
                State::Closed => info!(trunk = &*id, why, "trunk gets its share of calls again"),
                State::Resting { .. } | State::Trial { .. } => {
                    self.rests.fetch_add(1, Relaxed);
                    warn!(trunk = &*id, why, "trunk rests");
                }
            }
        }
    }

    fn prefixes_of(&self, prefix: &str) -> MutexGuard<'_, Prefixes> {
        let mut hasher = DefaultHasher::new();
        prefix.hash(&mut hasher);
        self.prefixes[hasher.finish() as usize % SHARDS].lock()
    }

    fn trim(&self, trunks: &[Arc<Trunk>]) {
        let now = self.now();
        for trunk in trunks {
            trunk.live().series().trim(now);
        }
        for shard in &self.prefixes {
            shard.lock().trim(now);
        }
    }
}

/// Lets go of what is past, now and then.
pub async fn keep(merits: Arc<Merits>, table: Table) {
    loop {
        tokio::time::sleep(TRIM).await;
        let table = table.load_full();
        merits.trim(table.trunks());
    }
}
