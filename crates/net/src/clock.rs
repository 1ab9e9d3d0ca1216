//! The time that shards are given.

use std::time::{Instant, SystemTime};

use proxy::Time;

/// A monotonic clock in microseconds since it was made. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    made: SystemTime,
}

impl Clock {
    /// Begins now, at zero.
    pub fn new() -> Clock {
        Clock { origin: Instant::now(), made: SystemTime::now() }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The wall-clock time of a moment, for people: right unless the wall clock was set since.
    pub fn wall(&self, time: Time) -> SystemTime {
        self.made.checked_add(std::time::Duration::from_micros(time.0)).unwrap_or(self.made)
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}
