//! Series by trunk and called prefix. There may be far more of these than anyone looks at, so only so many are held: the one
//! that was used least recently goes, and is counted.

use std::sync::Arc;

use lru::LruCache;

use crate::{Attempt, Millis, Series, Windows};

/// A bounded number of series.
#[derive(Debug)]
pub struct Prefixes {
    series: LruCache<(u32, Arc<str>), Series>,
    most: usize,
    evicted: u64,
}

impl Prefixes {
    /// Holds at most so many series, at least one.
    pub fn new(most: usize) -> Prefixes {
        Prefixes { series: LruCache::unbounded(), most: most.max(1), evicted: 0 }
    }

    fn with(&mut self, trunk: u32, prefix: &Arc<str>, count: impl FnOnce(&mut Series)) {
        let key = (trunk, prefix.clone());
        if let Some(series) = self.series.get_mut(&key) {
            return count(series);
        }
        if self.series.len() >= self.most {
            self.series.pop_lru();
            self.evicted += 1;
        }
        let mut series = Series::default();
        count(&mut series);
        self.series.put(key, series);
    }

    /// Counts the end of an attempt. `trunk` is a number that names the trunk.
    pub fn attempt(&mut self, trunk: u32, prefix: &Arc<str>, attempt: &Attempt, now: Millis) {
        self.with(trunk, prefix, |series| series.attempt(attempt, now));
    }

    /// Counts the end of an answered call that had lasted so long, in milliseconds.
    pub fn end(&mut self, trunk: u32, prefix: &Arc<str>, duration: Millis, now: Millis) {
        self.with(trunk, prefix, |series| series.end(duration, now));
    }

    /// The counts of one; none where nothing is held.
    pub fn windows(&self, trunk: u32, prefix: &str, now: Millis) -> Option<Windows> {
        self.series.peek(&(trunk, Arc::from(prefix))).map(|series| series.windows(now))
    }

    /// All of a trunk, in no order.
    pub fn of_trunk(&self, trunk: u32, now: Millis) -> impl Iterator<Item = (&Arc<str>, Windows)> {
        let of_it = self.series.iter().filter(move |((of, _), _)| *of == trunk);
        of_it.map(move |((_, prefix), series)| (prefix, series.windows(now)))
    }

    /// Lets go of series in which nothing is left.
    pub fn trim(&mut self, now: Millis) {
        while self.series.peek_lru().is_some() {
            // The least recently used is the first to be empty.
            let Some((key, mut series)) = self.series.pop_lru() else { return };
            if !series.trim(now) {
                self.series.put(key.clone(), series);
                self.series.demote(&key);
                return;
            }
        }
    }

    /// Series held.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Series that went to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
