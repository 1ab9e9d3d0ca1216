//! Leases: one atomic each, and one queue of what may lapse next.
//!
//! A heartbeat only moves the deadline of its trunk. The queue holds one valid entry for each trunk; when
//! that comes up and the deadline has moved on, it is queued again, so a heartbeat costs no more than
//! a store, and a tick costs what is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::state::{Now, Registry};

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The lease had lapsed: the trunk must be revived.
    Lapsed,
    /// The lease is renewed.
    Renewed,
    /// There is no such trunk.
    Unknown,
}

/// Deadline of one trunk, in milliseconds of lease time; `u64::MAX` without a lease.
#[derive(Debug)]
pub(crate) struct Lease {
    deadline: AtomicU64,
    /// Deadline of its one valid entry in the queue.
    queued: u64,
}

impl Lease {
    pub fn new() -> Lease {
        Lease { deadline: AtomicU64::new(u64::MAX), queued: u64::MAX }
    }

    pub fn deadline(&self) -> u64 {
        self.deadline.load(Relaxed)
    }

    /// Renews from a shared reference: never brings the deadline forward, as two beats may race.
    pub fn renew(&self, deadline: u64) {
        self.deadline.fetch_max(deadline, Relaxed);
    }

    pub fn set(&mut self, deadline: u64) {
        *self.deadline.get_mut() = deadline;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue(BinaryHeap<Reverse<(u64, Arc<str>)>>);

impl Queue {
    /// Queues a trunk, unless an entry of it comes up before.
    pub fn push(&mut self, id: &Arc<str>, lease: &mut Lease, at: u64) {
        if at < lease.queued {
            lease.queued = at;
            self.0.push(Reverse((at, id.clone())));
        }
    }

    /// Entries held, those of trunks that have gone since too.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Drops the entries that are no longer valid.
    pub fn retain(&mut self, valid: impl Fn(u64, &str) -> bool) {
        self.0.retain(|Reverse((at, id))| valid(*at, id));
    }

    /// When the next entry comes up.
    pub fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due.
    pub fn pop(&mut self, now: u64) -> Option<(u64, Arc<str>)> {
        if self.0.peek().is_none_or(|Reverse((at, _))| *at > now) {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

impl Lease {
    /// Whether its valid entry in the queue is the one at this time.
    pub fn is_queued_at(&self, at: u64) -> bool {
        self.queued == at
    }

    /// Whether an entry that came up is the valid one; it is no longer queued then.
    pub fn takes(&mut self, at: u64) -> bool {
        let valid = self.queued == at;
        if valid {
            self.queued = u64::MAX;
        }
        valid
    }
}

impl Registry {
    /// How long the oldest expiry that is due has waited to be looked at, in milliseconds: what shows that nobody calls
    /// [`Registry::tick`] any more. A standstill counts in full here, although leases are forgiven it.
    pub fn overdue(&self, now: Now) -> u64 {
        let at = now.mono_ms.saturating_sub(self.forgiven);
        self.queue.next().map_or(0, |due| at.saturating_sub(due))
    }
}
