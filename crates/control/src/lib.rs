//! The one path of every change: decide, commit, apply, tell.
//!
//! Whoever changes a record (a registrant, an operator, the lease clock itself) sends a [`Command`] to
//! [`Control::execute`]. The registry decides on the state that it sees, the store makes the decision durable if that
//! state still held, the store's change stream brings it into the registry in memory (`mirror`), and readers of the
//! [`Feed`] and of the generation hear of it. A caller is answered when all that has happened, so what it does next sees
//! its own change. Heartbeats are the one exception, by design: they renew a lease in memory and touch no disk; a restart
//! gives every lease its full length anew, so nothing is lost by that.

mod change;
mod clock;
mod feed;
mod health;
mod history;
mod mirror;
mod tasks;
#[cfg(test)]
mod tests;
mod together;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use registry::{Beat, Command, Health, Now, Outcome, Registry};
use store::{Bytes, Expect, Revision, Store, StoreError, Watch, WatchError, Write};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;

pub use self::change::{Actor, ExecuteError};
pub use self::feed::{EventId, Feed, InvalidEventId, KEPT as EVENTS_KEPT, Lost};
use self::history::Names;
pub use self::history::{Keep, Recorded};
use self::mirror::{META, Mirror};
pub use self::together::Applied;
use self::turns::Turns;

/// Why the registry could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The records cannot be read.
    #[error("cannot load the registry: {0}")]
    List(#[from] StoreError),
    /// The store does not tell of its changes.
    #[error("cannot follow the registry's changes: {0}")]
    Watch(#[from] WatchError),
}

/// The registry, its store and its clock. Dropping it stops its tasks.
pub struct Control {
    core: Arc<Core>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the commands and the tasks share.
pub(crate) struct Core {
    store: Arc<dyn Store>,
    mirror: Mirror,
    health: health::Health,
    turns: Turns,
    names: Names,
    keep: Keep,
    boot: u64,
}

impl Control {
    /// Loads the registry and starts the change stream and the lease clock. Every lease begins at its full length.
    ///
    /// Must be called within a tokio runtime, where its tasks then run.
    pub async fn open(store: Arc<dyn Store>, settings: registry::Settings) -> Result<Arc<Control>, OpenError> {
        Control::open_keeping(store, settings, Keep::default()).await
    }

    /// The same, where so much history is kept.
    pub async fn open_keeping(
        store: Arc<dyn Store>,
        settings: registry::Settings,
        keep: Keep,
    ) -> Result<Arc<Control>, OpenError> {
        let boot = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
        let mirror = Mirror::new(registry::Settings { boot, ..settings }, boot);
        let (health, turns, names) = (health::Health::default(), Turns::default(), Names::default());
        let core = Arc::new(Core { store, mirror, health, turns, names, keep, boot });
        let watch = core.load().await?;
        info!(revision = core.mirror.applied(), trunks = core.mirror.read(|r, _| r.len()), "registry loaded");
        let tasks = vec![
            tokio::spawn(tasks::follow(core.clone(), watch)),
            tokio::spawn(tasks::keep_time(core.clone())),
            tokio::spawn(tasks::stand_sentry(core.clone())),
            tokio::spawn(history::trim(core.clone())),
        ];
        let control = Arc::new(Control { core, tasks: Mutex::new(tasks) });
        history::begin(&control.core).await?;
        Ok(control)
    }

    /// Carries out a command; returns when it is durable and every reader sees it. Commands for one record are carried
    /// out one after another, in the order of their calls.
    ///
    /// Dropping the future does not call the command back once it has reached the store.
    pub async fn execute(&self, command: Command, actor: &Actor) -> Result<Outcome, ExecuteError> {
        self.core.execute(command, actor).await
    }

    /// Renews a lease: no disk, no channel, no lock but a shared one (unless the lease had lapsed).
    pub fn heartbeat(&self, id: &str) -> Beat {
        self.core.mirror.heartbeat(id)
    }

    /// Takes note of what this process has observed of trunks; nothing is written.
    pub fn observe(&self, observed: Vec<(Arc<str>, Health)>) {
        self.core.mirror.observe(observed);
    }

    /// A stream connection has ended; the id of the trunk that had registered by it.
    pub fn connection_closed(&self, connection: u64) -> Option<Arc<str>> {
        self.core.mirror.connection_closed(connection)
    }

    /// Names this process, as [`registry::Settings::boot`] does.
    pub fn boot(&self) -> u64 {
        self.core.boot
    }

    /// Reads the registry. Hold it short: changes wait.
    pub fn read<R>(&self, f: impl FnOnce(&Registry, Now) -> R) -> R {
        self.core.mirror.read(f)
    }

    /// Reads the registry and takes a feed that begins exactly where the reading stands.
    pub fn read_and_follow<R>(&self, f: impl FnOnce(&Registry, Now) -> R) -> (R, Feed) {
        self.core.mirror.read_and_follow(f)
    }

    /// What happens after `id`, if that is still kept ([`Feed::resumed`]); else what happens from now on.
    pub fn events_after(&self, id: Option<EventId>) -> Feed {
        self.core.mirror.ring().after(id)
    }

    /// The last event's id.
    pub fn position(&self) -> EventId {
        self.core.mirror.ring().last()
    }

    /// A counter that moves whenever routing may have to change: a record, an intent, or a lease did.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.core.mirror.generation()
    }

    /// The store's revision that readers see.
    pub fn revision(&self) -> Revision {
        self.core.mirror.applied()
    }

    /// Whether requests should come here; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        self.core.health.verdict(self.core.mirror.clock.tick_age())
    }

    /// How long ago leases were last looked at.
    pub fn clock_age(&self) -> Duration {
        self.core.mirror.clock.tick_age()
    }

    /// A value that must outlive restarts (a key, say): the stored one, or `make`'s, stored before it is returned.
    ///
    /// All processes over one store get the same value.
    pub async fn secret(&self, name: &str, make: impl FnOnce() -> Vec<u8> + Send) -> Result<Bytes, StoreError> {
        let key = format!("{META}{name}");
        if let Some(entry) = self.core.store.get(&key).await? {
            return Ok(entry.value);
        }
        let made = Bytes::from(make());
        let write = Write::put(key.as_str(), made.clone()).expecting(Expect::Absent);
        match self.core.store.commit(vec![write]).await {
            Ok(_) => Ok(made),
            // Somebody else was first (or we were, unknowingly): theirs counts.
            Err(refused) => match self.core.store.get(&key).await? {
                Some(entry) => Ok(entry.value),
                None => Err(StoreError::Unavailable(refused.to_string())),
            },
        }
    }

    /// Stops the tasks and waits until they hold the store no more. Commands still work, but nobody sees their change.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            // Cancelled is what it should be; a panic has been reported by the runtime.
            let _ = task.await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for task in &*self.tasks.lock() {
            task.abort();
        }
    }
}

impl Core {
    /// Takes over what is stored; returns the stream of what comes after.
    pub(crate) async fn load(&self) -> Result<Watch, OpenError> {
        let listing = self.store.list("").await?;
        self.mirror.adopt(&listing);
        Ok(self.store.watch(listing.revision).await?)
    }
}
