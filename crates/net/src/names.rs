//! The services that somebody wants located, kept fresh in the background.
//!
//! Reading ([`Names::get`]) never waits. A name that was known keeps its last answer, marked stale,
//! through a bounded time of failures: a dead name server must not take trunks down. Work is
//! bounded by [`Settings::parallel`], memory by the names that are wanted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use routing::Place;
use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use crate::locate::Service;
use crate::resolve::{Lookup, ResolveError, Resolved};

/// Entries of names that are gone, beside as many as there are names, that may wait for their time.
const SPARE: usize = 1024;
/// How long [`Names::ask`] waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a service that was asked for once is kept.
const KEPT: Duration = Duration::from_secs(60);
/// Such services, at most.
const MOST_ASKED: usize = 10_000;

/// Bounds of the background work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Look-ups at once.
    pub parallel: usize,
    /// An answer is asked anew after its TTL, but not before this time.
    pub min_refresh: Duration,
    /// And not later than this.
    pub max_refresh: Duration,
    /// Pause after a first failure; it doubles with each further one.
    pub min_retry: Duration,
    /// The longest pause between attempts.
    pub max_retry: Duration,
    /// How long past its refresh time the last good answer is kept while attempts fail.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            parallel: 64,
            min_refresh: Duration::from_secs(5),
            max_refresh: Duration::from_secs(3600),
            min_retry: Duration::from_secs(1),
            max_retry: Duration::from_secs(60),
            keep: Duration::from_secs(3600),
        }
    }
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It is being asked for the first time; or nobody wants it.
    Pending,
    /// Its places, in a fixed order.
    Known {
        /// Never empty.
        places: Arc<[Place]>,
        /// The answer is past its time, and newer attempts have failed.
        stale: bool,
    },
    /// It has none, and why.
    Failed(String),
}

/// A name that is wanted.
struct Entry {
    /// Watches that stand ([`Names::watch`]).
    watches: usize,
    /// Whether the last [`Names::want`] named it.
    wanted: bool,
    /// Tells it from an earlier entry of the same name, whose look-up may still run.
    serial: u64,
    state: State,
    failures: u32,
    /// Until when the last good answer may be kept.
    keep_until: Option<Instant>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Arc<Service>, Entry>,
    /// New entries that the task has not seen.
    fresh: Vec<(Arc<Service>, u64)>,
    serials: u64,
}

struct Inner {
    table: Mutex<Table>,
    work: Arc<Notify>,
    generation: watch::Sender<u64>,
    /// Services that were asked for once and are kept for a while.
    asked: AtomicUsize,
}

/// A handle; clones share the names. The background work ends when the last one is dropped.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("len", &self.len()).finish()
    }
}

impl Names {
    /// Starts with no name. Must be called inside a tokio runtime, which does the work.
    pub fn start(lookup: impl Lookup, settings: Settings) -> Names {
        let work = Arc::new(Notify::new());
        let generation = watch::Sender::new(0);
        let inner =
            Arc::new(Inner { table: Mutex::default(), work: work.clone(), generation, asked: AtomicUsize::new(0) });
        let task = Task {
            inner: Arc::downgrade(&inner),
            work,
            lookup: Arc::new(lookup),
            settings,
            due: BinaryHeap::new(),
            running: JoinSet::new(),
            started: HashMap::new(),
        };
        tokio::spawn(task.run());
        Names(inner)
    }

    /// Wants a name; each call asks for one [`Self::unwatch`].
    pub fn watch(&self, name: &Service) {
        self.edit(|table| table.entry(name).watches += 1);
    }

    /// Gives one [`Self::watch`] back.
    pub fn unwatch(&self, name: &Service) {
        self.edit(|table| {
            if let Some(entry) = table.entries.get_mut(name) {
                entry.watches = entry.watches.saturating_sub(1);
                if entry.is_idle() {
                    table.entries.remove(name);
                }
            }
        });
    }

    /// Replaces the set of names wanted this way; those of [`Self::watch`] are not touched.
    pub fn want(&self, names: &HashSet<Service>) {
        self.edit(|table| {
            table.entries.retain(|name, entry| {
                entry.wanted = names.contains(&**name);
                !entry.is_idle()
            });
            for name in names {
                table.entry(name).wanted = true;
            }
        });
    }

    /// What is known of a name now.
    pub fn get(&self, name: &Service) -> State {
        self.0.table.lock().entries.get(name).map_or(State::Pending, |entry| entry.state.clone())
    }

    /// Asks for a service that nobody watches, and waits for the answer, for a bounded time. It is kept fresh for a
    /// minute, as who asks once mostly asks again.
    pub async fn ask(&self, service: &Service) -> State {
        let mut changes = self.changes();
        self.watch(service);
        let answered = async {
            loop {
                let state = self.get(service);
                if state != State::Pending || changes.changed().await.is_err() {
                    return state;
                }
            }
        };
        let state = tokio::time::timeout(PATIENCE, answered).await.unwrap_or(State::Pending);
        if self.0.asked.fetch_add(1, Relaxed) < MOST_ASKED {
            let (names, service) = (Arc::downgrade(&self.0), service.clone());
            tokio::spawn(async move {
                tokio::time::sleep(KEPT).await;
                if let Some(names) = names.upgrade().map(Names) {
                    names.release(&service);
                }
            });
        } else {
            self.release(service);
        }
        state
    }

    fn release(&self, service: &Service) {
        self.0.asked.fetch_sub(1, Relaxed);
        self.unwatch(service);
    }

    /// A number that grows whenever the state of a name changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Names held.
    pub fn len(&self) -> usize {
        self.0.table.lock().entries.len()
    }

    /// Whether no name is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn edit(&self, edit: impl FnOnce(&mut Table)) {
        let mut table = self.0.table.lock();
        edit(&mut table);
        let is_work = !table.fresh.is_empty();
        drop(table);
        if is_work {
            self.0.work.notify_one();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.work.notify_one();
    }
}

impl Table {
    fn entry(&mut self, name: &Service) -> &mut Entry {
        if !self.entries.contains_key(name) {
            self.serials += 1;
            self.fresh.push((Arc::new(name.clone()), self.serials));
        }
        let serial = self.serials;
        self.entries.entry(Arc::new(name.clone())).or_insert(Entry {
            watches: 0,
            wanted: false,
            serial,
            state: State::Pending,
            failures: 0,
            keep_until: None,
        })
    }

    fn holds(&self, name: &Service, serial: u64) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.serial == serial)
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.watches == 0 && !self.wanted
    }

    /// Takes the outcome of a look-up; returns the pause before the next.
    fn take(&mut self, outcome: Outcome, now: Instant, settings: &Settings) -> Duration {
        match outcome {
            Ok(resolved) => {
                let refresh = resolved.ttl.clamp(settings.min_refresh, settings.max_refresh);
                self.failures = 0;
                self.keep_until = Some(now + refresh + settings.keep);
                let same = matches!(&self.state, State::Known { places, .. } if **places == *resolved.places);
                match &mut self.state {
                    State::Known { stale, .. } if same => *stale = false,
                    state => *state = State::Known { places: resolved.places.into(), stale: false },
                }
                refresh
            }
            Err(error) => {
                let kept = self.keep_until.is_some_and(|until| now < until);
                match &mut self.state {
                    State::Known { stale, .. } if kept => *stale = true,
                    state => *state = State::Failed(error.0),
                }
                let pause = settings.min_retry.saturating_mul(1 << self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                pause.min(settings.max_retry)
            }
        }
    }
}

type Due = Reverse<(Instant, u64, Arc<Service>)>;
type Outcome = Result<Resolved, ResolveError>;

/// The background work: one timer for all names. Holds the names only between waits, so that they
/// go with their last handle.
struct Task<L> {
    inner: Weak<Inner>,
    work: Arc<Notify>,
    lookup: Arc<L>,
    settings: Settings,
    due: BinaryHeap<Due>,
    running: JoinSet<Outcome>,
    started: HashMap<task::Id, (Arc<Service>, u64)>,
}

impl<L: Lookup> Task<L> {
    async fn run(mut self) {
        while let Some(inner) = self.inner.upgrade() {
            self.begin(&inner);
            drop(inner);
            let wake = self.due.peek().map(|Reverse((at, ..))| *at);
            let has_room = self.running.len() < self.settings.parallel.max(1);
            let finished = tokio::select! {
                Some(finished) = self.running.join_next_with_id() => finished,
                () = until(wake), if has_room => continue,
                () = self.work.notified() => continue,
            };
            let (id, outcome) = match finished {
                Ok(finished) => finished,
                Err(error) => (error.id(), Err(ResolveError("the look-up failed of a defect".to_owned()))),
            };
            if let (Some((name, serial)), Some(inner)) = (self.started.remove(&id), self.inner.upgrade()) {
                self.finish(&inner, name, serial, outcome);
            }
        }
    }

    fn begin(&mut self, inner: &Inner) {
        let now = Instant::now();
        let mut table = inner.table.lock();
        self.due.extend(table.fresh.drain(..).map(|(name, serial)| Reverse((now, serial, name))));
        if self.due.len() > 2 * table.entries.len() + SPARE {
            self.due.retain(|Reverse((_, serial, name))| table.holds(name, *serial));
        }
        while self.running.len() < self.settings.parallel.max(1) {
            if self.due.peek().is_none_or(|Reverse((at, ..))| *at > now) {
                break;
            }
            let Some(Reverse((_, serial, name))) = self.due.pop() else {
                break;
            };
            if table.holds(&name, serial) {
                let (lookup, asked) = (self.lookup.clone(), name.clone());
                let started = self.running.spawn(async move { lookup.lookup(&asked).await });
                self.started.insert(started.id(), (name, serial));
            }
        }
    }

    fn finish(&mut self, inner: &Inner, name: Arc<Service>, serial: u64, outcome: Outcome) {
        let now = Instant::now();
        let mut table = inner.table.lock();
        let Some(entry) = table.entries.get_mut(&name).filter(|entry| entry.serial == serial) else {
            return;
        };
        let before = entry.state.clone();
        let pause = entry.take(outcome, now, &self.settings);
        let changed = entry.state != before;
        if changed {
            tracing::debug!(name = %name.host, state = ?entry.state, "name resolution changed");
        }
        drop(table);
        self.due.push(Reverse((now + pause, serial, name)));
        if changed {
            inner.generation.send_modify(|generation| *generation += 1);
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
