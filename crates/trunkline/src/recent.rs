//! The last calls that have ended, for those who ask what became of one.
//!
//! A ring: each call that comes pushes the oldest out, so memory is bounded whatever happens.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use proxy::CallRecord;

/// Calls that have ended.
pub struct Recent {
    keep: usize,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    /// Oldest first; the front has the number `first`.
    calls: VecDeque<Arc<CallRecord>>,
    first: u64,
    /// Numbers by Call-ID; of two calls with one, the later.
    by_id: HashMap<Box<str>, u64>,
}

impl Recent {
    /// Keeps so many.
    pub fn new(keep: usize) -> Recent {
        Recent { keep, ring: Mutex::default() }
    }

    /// Takes a call that has ended.
    pub fn push(&self, call: Box<CallRecord>) {
        if self.keep == 0 {
            return;
        }
        let id: Box<str> = call.call_id().into();
        let call: Arc<CallRecord> = Arc::from(call);
        let mut ring = self.ring.lock();
        let number = ring.first + ring.calls.len() as u64;
        ring.calls.push_back(call);
        ring.by_id.insert(id, number);
        if ring.calls.len() <= self.keep {
            return;
        }
        let Some(oldest) = ring.calls.pop_front() else { return };
        let gone = ring.first;
        ring.first += 1;
        if ring.by_id.get(&*oldest.call_id()) == Some(&gone) {
            ring.by_id.remove(&*oldest.call_id());
        }
        drop(ring);
    }

    /// The last call of this Call-ID that has ended.
    pub fn find(&self, id: &str) -> Option<Arc<CallRecord>> {
        let ring = self.ring.lock();
        let number = *ring.by_id.get(id)?;
        ring.calls.get((number - ring.first) as usize).cloned()
    }

    /// Calls from the newest to the oldest, those that ended before the one of `after`; at most `limit`.
    pub fn list(&self, limit: usize, after: Option<&str>) -> Vec<Arc<CallRecord>> {
        let ring = self.ring.lock();
        let end = match after {
            None => ring.calls.len(),
            // What is no longer kept is older than all that is.
            Some(after) => ring.by_id.get(after).map_or(0, |number| (number - ring.first) as usize),
        };
        ring.calls.iter().take(end).rev().take(limit).cloned().collect()
    }
}
