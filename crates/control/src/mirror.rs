//! The registry in memory, kept equal to the store by its change stream, and everybody who waits for it.
//!
//! All changes of the records come from the stream, also our own: a command that was committed is applied here when the
//! stream brings it, never earlier and never from elsewhere. So every process that watches the same store walks through
//! the same states, and a reader never sees a record that a crash could take back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use registry::{Beat, Command, Health, HistoryEntry, Now, Registry, is_record};
use store::{Change, Listing, Revision};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::feed::{Feed, Ring};
use crate::history::{HISTORY, Index};

/// Keys under this prefix are control's own and no business of the registry's.
pub(crate) const META: &str = "meta/";

pub(crate) struct Mirror {
    pub(crate) clock: Clock,
    state: RwLock<State>,
    ring: Arc<Ring>,
    /// Moves whenever routing may have to change.
    generation: watch::Sender<u64>,
    /// Commands that wait to read their own write, by the revision that they wait for.
    waiting: Mutex<BTreeMap<Revision, Vec<oneshot::Sender<()>>>>,
}

struct State {
    registry: Registry,
    at: At,
    history: Index,
}

/// Where the mirror stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At {
    /// The revision that readers see.
    pub applied: Revision,
    /// The revision that last changed a trunk's record, a group or a route for people.
    pub changed: Revision,
}

impl Mirror {
    pub(crate) fn new(settings: registry::Settings, boot: u64) -> Mirror {
        Mirror {
            clock: Clock::start(),
            state: RwLock::new(State {
                registry: Registry::new(settings),
                at: At::default(),
                history: Index::default(),
            }),
            ring: Ring::new(boot),
            generation: watch::Sender::new(0),
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn read<R>(&self, f: impl FnOnce(&Registry, Now) -> R) -> R {
        let state = self.state.read();
        f(&state.registry, self.clock.now())
    }

    pub(crate) fn read_at<R>(&self, f: impl FnOnce(&Registry, At, Now) -> R) -> R {
        let state = self.state.read();
        f(&state.registry, state.at, self.clock.now())
    }

    /// Reads where the entries of history lie.
    pub(crate) fn history<R>(&self, f: impl FnOnce(&Index, At) -> R) -> R {
        let state = self.state.read();
        f(&state.history, state.at)
    }

    /// Reads, and takes a feed that begins exactly where the reading stands.
    pub(crate) fn read_and_follow<R>(&self, f: impl FnOnce(&Registry, Now) -> R) -> (R, Feed) {
        let state = self.state.read();
        // Events are pushed under the write lock only, so none can fall between the two.
        (f(&state.registry, self.clock.now()), self.ring.after(None))
    }

    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(crate) fn applied(&self) -> Revision {
        self.state.read().at.applied
    }

    /// A heartbeat takes the shared lock and writes one atomic; only one that brings a lapsed trunk back takes more.
    pub(crate) fn heartbeat(&self, id: &str) -> Beat {
        let beat = self.read(|registry, now| registry.heartbeat(id, now));
        if beat != Beat::Lapsed {
            return beat;
        }
        let mut state = self.state.write();
        let beat = state.registry.revive(id, self.clock.now());
        self.tell(state, false);
        beat
    }

    pub(crate) fn observe(&self, observed: Vec<(Arc<str>, Health)>) {
        let mut state = self.state.write();
        let now = self.clock.now();
        for (id, health) in observed {
            state.registry.observe(&id, health, now);
        }
        self.tell(state, false);
    }

    pub(crate) fn connection_closed(&self, connection: u64) -> Option<Arc<str>> {
        // Most connections are nobody's registration.
        if !self.state.read().registry.has_connection(connection) {
            return None;
        }
        let mut state = self.state.write();
        let id = state.registry.connection_closed(connection, self.clock.now());
        self.tell(state, false);
        id
    }

    /// Looks at the leases; returns what is due for deregistration.
    pub(crate) fn tick(&self) -> Vec<Command> {
        let mut state = self.state.write();
        let due = state.registry.tick(self.clock.now());
        self.tell(state, false);
        self.clock.tick();
        due
    }

    /// Applies one batch of the change stream.
    pub(crate) fn apply(&self, changes: &[Change]) {
        let Some(revision) = changes.first().map(|change| change.revision) else {
            return;
        };
        let mut state = self.state.write();
        let now = self.clock.now();
        let told = changes.iter().any(|change| change.entry.is_some() && change.key.starts_with(HISTORY));
        if told && changes.iter().any(|change| is_record(&change.key)) {
            state.at.changed = revision;
        }
        for change in changes {
            state.history.apply(change);
            if change.key.starts_with(META) || change.key.starts_with(HISTORY) {
                continue;
            }
            let entry = change.entry.as_ref().map(|entry| (&entry.value[..], entry.created, entry.modified));
            state.registry.apply(&change.key, entry, now);
        }
        state.at.applied = revision;
        self.tell(state, true);
        self.release(revision);
    }

    /// Makes the registry equal to a listing, whatever it holds: at the start, and when the stream could not be resumed.
    pub(crate) fn adopt(&self, listing: &Listing) {
        let mut state = self.state.write();
        let first = state.at.applied == 0 && state.registry.is_empty();
        let listed: HashSet<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone: Vec<String> = state.registry.keys().filter(|key| !listed.contains(key.as_str())).collect();
        for key in gone {
            state.registry.apply(&key, None, self.clock.now());
        }
        state.at = At { applied: listing.revision, changed: last_change(listing) };
        state.history.adopt(listing);
        let records = listing.entries.iter();
        for entry in records.filter(|entry| !entry.key.starts_with(META) && !entry.key.starts_with(HISTORY)) {
            // Asked each time: a lease must not be shortened by how long the loading takes.
            let now = self.clock.now();
            state.registry.apply(&entry.key, Some((&entry.value[..], entry.created, entry.modified)), now);
            if first {
                // What was there before us is no news.
                state.registry.take_events();
            }
        }
        self.tell(state, true);
        self.release(listing.revision);
    }

    /// Returns once the mirror shows `revision`. Cancel safe.
    pub(crate) async fn caught_up(&self, revision: Revision) {
        let shown = {
            let mut waiting = self.waiting.lock();
            // Asked under the lock of those who wait: `release` comes after the revision has moved.
            if self.state.read().at.applied >= revision {
                return;
            }
            let (release, shown) = oneshot::channel();
            waiting.entry(revision).or_default().push(release);
            shown
        };
        // An error means that the mirror itself is gone, and nobody is left to wait for it.
        let _ = shown.await;
    }

    fn release(&self, revision: Revision) {
        let mut waiting = self.waiting.lock();
        let later = waiting.split_off(&(revision + 1));
        let ready = std::mem::replace(&mut *waiting, later);
        drop(waiting);
        for release in ready.into_values().flatten() {
            // One that gave up waiting is no loss.
            let _ = release.send(());
        }
    }

    /// Publishes what a change of the registry brought about, then lets others at it.
    fn tell(&self, mut state: RwLockWriteGuard<'_, State>, changed: bool) {
        let events = state.registry.take_events();
        if changed || !events.is_empty() {
            self.generation.send_modify(|generation| *generation += 1);
        }
        self.ring.push(events);
    }
}

/// The revision that last changed a record, as far as a listing tells: what went left its trace in history alone.
fn last_change(listing: &Listing) -> Revision {
    let records = listing.entries.iter().filter(|entry| is_record(&entry.key));
    let written = records.map(|entry| entry.modified).max().unwrap_or_default();
    let told = listing.entries.iter().filter(|entry| entry.key.starts_with(HISTORY) && entry.modified > written);
    let changes = |value: &[u8]| HistoryEntry::decode(value).is_some_and(|entry| entry.changes_records());
    told.filter(|entry| changes(&entry.value)).map(|entry| entry.modified).max().unwrap_or(written)
}
