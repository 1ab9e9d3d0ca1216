//! The one place where the process's time is read for the registry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use registry::Now;

/// Monotonic time since the start, with the wall clock beside it for people.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// When the leases were last looked at, in milliseconds since the start.
    ticked: AtomicU64,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { start: Instant::now(), ticked: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms(), wall: Timestamp::now() }
    }

    /// Remembers that the leases were just looked at.
    pub(crate) fn tick(&self) {
        self.ticked.store(self.mono_ms(), Ordering::Relaxed);
    }

    /// How long ago the leases were last looked at.
    pub(crate) fn tick_age(&self) -> Duration {
        Duration::from_millis(self.mono_ms().saturating_sub(self.ticked.load(Ordering::Relaxed)))
    }

    fn mono_ms(&self) -> u64 {
        // Wraps after half a billion years.
        self.start.elapsed().as_millis() as u64
    }
}
