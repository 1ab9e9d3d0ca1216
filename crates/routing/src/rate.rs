//! New calls per second: a token bucket as one atomic (the generic cell rate algorithm of ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds' worth of calls that may come at once.
const BURST: f64 = 0.1;

/// When the bucket would be empty of all that was taken, in microseconds. In any window of `t` seconds at most
/// `rate × (t + 0.1) + 1` pass.
#[derive(Debug, Default)]
pub(crate) struct Rate(AtomicU64);

impl Rate {
    /// Takes a token if one is there.
    pub fn take(&self, per_second: f64, now: u64) -> bool {
        let interval = (1e6 / per_second) as u64;
        let tolerance = (BURST * 1e6) as u64;
        let next = |spent: u64| {
            let from = spent.max(now);
            (from - now <= tolerance).then(|| from.saturating_add(interval))
        };
        self.0.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// Takes a token, there or not: those who come after wait for it.
    pub fn take_anyway(&self, per_second: f64, now: u64) {
        let interval = (1e6 / per_second) as u64;
        // The closure never gives up.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |spent| Some(spent.max(now).saturating_add(interval)));
    }

    /// Whether a token is there.
    pub fn has_room(&self, now: u64) -> bool {
        self.0.load(Relaxed).saturating_sub(now) <= (BURST * 1e6) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// No window lets more pass than the rate and its burst, and over the whole nearly all of the rate passes.
        #[test]
        fn the_rate_holds(rate in 0.2f64..2000.0, steps in prop::collection::vec(1u64..40_000, 200..1000)) {
            let bucket = Rate::default();
            let (mut now, mut taken) = (7_000_000u64, Vec::new());
            for step in steps {
                now += step;
                while bucket.take(rate, now) {
                    taken.push(now);
                    prop_assert!(taken.len() < 1_000_000);
                }
                prop_assert!(!bucket.has_room(now));
            }
            for (at, from) in taken.iter().enumerate() {
                for (to, until) in taken.iter().enumerate().skip(at).take(100) {
                    let most = rate * ((until - from) as f64 / 1e6 + BURST) + 2.0;
                    prop_assert!((to - at + 1) as f64 <= most, "{} in {} µs", to - at + 1, until - from);
                }
            }
            let whole = (taken[taken.len() - 1] - taken[0]) as f64 / 1e6;
            prop_assert!(taken.len() as f64 >= rate * whole * 0.99 - 1.0);
        }
    }
}
