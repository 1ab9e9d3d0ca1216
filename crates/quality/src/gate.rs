//! A guard's verdict over one trunk, as atomics that every decision reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Millis;

/// A trunk on trial gets one call in so long, in milliseconds.
const TRICKLE: Millis = 1000;

/// Open to all calls, shut until a moment, or from then on ajar: one call a second.
#[derive(Debug, Default)]
pub struct Gate {
    /// End of the rest; 0 where the gate is open.
    until: AtomicU64,
    /// When the next call of the trickle may pass.
    next: AtomicU64,
    guarded: AtomicBool,
    why: Mutex<Option<Arc<str>>>,
}

impl Gate {
    /// Whether all calls may pass.
    pub fn is_open(&self) -> bool {
        self.until.load(Relaxed) == 0
    }

    /// Whether a call may pass now.
    pub fn passes(&self, now: Millis) -> bool {
        self.is_open() || self.next.load(Relaxed) <= now
    }

    /// Lets a call pass, if it may: to be asked last, as it takes the place of the next one.
    pub fn take(&self, now: Millis) -> bool {
        self.is_open() || self.next.fetch_update(Relaxed, Relaxed, |at| (at <= now).then_some(now + TRICKLE)).is_ok()
    }

    /// Why not every call passes, in words; none where it is open.
    pub fn reason(&self, now: Millis) -> Option<Arc<str>> {
        match self.until.load(Relaxed) {
            0 => None,
            until if now < until => self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            _ => Some(Arc::from("guard: on trial")),
        }
    }

    /// Whether its guard wants to hear of the ends of attempts.
    pub fn is_guarded(&self) -> bool {
        self.guarded.load(Relaxed)
    }

    pub(crate) fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Relaxed);
    }

    pub(crate) fn open(&self) {
        self.until.store(0, Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn shut(&self, until: Millis, why: &str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(why));
        self.next.store(until, Relaxed);
        self.until.store(until.max(1), Relaxed);
    }
}
