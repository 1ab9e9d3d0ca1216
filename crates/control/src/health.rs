//! What the readiness answer rests on.

use std::time::Duration;

use parking_lot::Mutex;

/// A lease clock or a mirror this far behind is no longer trusted.
const LATE: Duration = Duration::from_secs(2);

/// The last that was heard from each part.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Parts>);

#[derive(Debug, Default)]
struct Parts {
    stream: Option<String>,
    write: Option<String>,
    lag: Duration,
}

impl Health {
    pub(crate) fn stream(&self, result: Result<(), String>) {
        self.0.lock().stream = result.err();
    }

    pub(crate) fn write(&self, result: Result<(), String>) {
        self.0.lock().write = result.err();
    }

    pub(crate) fn write_failed(&self) -> bool {
        self.0.lock().write.is_some()
    }

    pub(crate) fn lag(&self, lag: Duration) {
        self.0.lock().lag = lag;
    }

    /// The first reason why the process should get no requests.
    pub(crate) fn verdict(&self, tick_age: Duration) -> Result<(), String> {
        let parts = self.0.lock();
        if tick_age > LATE {
            return Err(format!("lease clock: stalled for {} ms", tick_age.as_millis()));
        }
        if let Some(why) = &parts.stream {
            return Err(format!("change stream: {why}"));
        }
        if parts.lag > LATE {
            return Err(format!("mirror: behind the store for {} ms", parts.lag.as_millis()));
        }
        match &parts.write {
            Some(why) => Err(format!("store: {why}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_can_make_us_unready_and_recover() {
        let health = Health::default();
        let check = |age| health.verdict(Duration::from_millis(age)).err().unwrap_or_default();
        assert_eq!(check(2000), "");
        assert_eq!(check(2001), "lease clock: stalled for 2001 ms");
        health.stream(Err("gone".into()));
        assert_eq!(check(0), "change stream: gone");
        health.stream(Ok(()));
        health.lag(Duration::from_millis(2500));
        assert_eq!(check(0), "mirror: behind the store for 2500 ms");
        health.lag(Duration::ZERO);
        health.write(Err("disk full".into()));
        assert!(health.write_failed());
        assert_eq!(check(0), "store: disk full");
        health.write(Ok(()));
        assert_eq!(check(0), "");
    }
}
