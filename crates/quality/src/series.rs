//! Counts over two sliding windows: five minutes in fifteen buckets, an hour in twelve.
//!
//! A window reaches back from now by its length, to the accuracy of one bucket. Buckets in which nothing happened are not held.

use std::collections::VecDeque;

use crate::{Attempt, Millis, Sums};

/// Length of a bucket in milliseconds, and how many make the window.
#[derive(Clone, Copy, Debug)]
struct Shape {
    bucket: Millis,
    count: u32,
}

const SHORT: Shape = Shape { bucket: 20_000, count: 15 };
const LONG: Shape = Shape { bucket: 300_000, count: 12 };

#[derive(Clone, Debug, Default)]
struct Window(VecDeque<(u32, Sums)>);

/// What a trunk, or a prefix of it, did of late.
#[derive(Clone, Debug, Default)]
pub struct Series {
    short: Window,
    long: Window,
}

/// Counts of both windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Of the last five minutes.
    pub short: Sums,
    /// Of the last hour.
    pub long: Sums,
}

impl Shape {
    fn index(self, now: Millis) -> u32 {
        // Enough for 2,700 years.
        (now / self.bucket) as u32
    }

    fn holds(self, index: u32, now: u32) -> bool {
        now.saturating_sub(index) < self.count
    }
}

impl Window {
    fn at(&mut self, shape: Shape, now: Millis) -> &mut Sums {
        let index = shape.index(now);
        self.trim(shape, index);
        // Threads tell what they saw in no strict order: the last bucket takes what is a little older.
        if self.0.back().is_none_or(|(last, _)| *last < index) {
            self.0.push_back((index, Sums::default()));
        }
        let last = self.0.len() - 1;
        &mut self.0[last].1
    }

    fn trim(&mut self, shape: Shape, index: u32) {
        while self.0.front().is_some_and(|(first, _)| !shape.holds(*first, index)) {
            self.0.pop_front();
        }
    }

    fn sum(&self, shape: Shape, now: Millis) -> Sums {
        let index = shape.index(now);
        let mut sums = Sums::default();
        self.0.iter().filter(|(at, _)| shape.holds(*at, index)).for_each(|(_, bucket)| sums.add(bucket));
        sums
    }
}

impl Series {
    /// Counts the end of an attempt.
    pub fn attempt(&mut self, attempt: &Attempt, now: Millis) {
        self.short.at(SHORT, now).attempt(attempt);
        self.long.at(LONG, now).attempt(attempt);
    }

    /// Counts the end of an answered call that had lasted so long, in milliseconds.
    pub fn end(&mut self, duration: Millis, now: Millis) {
        self.short.at(SHORT, now).end(duration);
        self.long.at(LONG, now).end(duration);
    }

    /// The counts of both windows.
    pub fn windows(&self, now: Millis) -> Windows {
        Windows { short: self.short.sum(SHORT, now), long: self.long.sum(LONG, now) }
    }

    /// Lets go of what is past; whether nothing is left.
    pub fn trim(&mut self, now: Millis) -> bool {
        self.short.trim(SHORT, SHORT.index(now));
        self.long.trim(LONG, LONG.index(now));
        if self.short.0.is_empty() {
            self.short.0.shrink_to_fit();
        }
        self.long.0.is_empty()
    }

    /// Bytes that it holds beside itself.
    pub fn bytes(&self) -> usize {
        (self.short.0.capacity() + self.long.0.capacity()) * size_of::<(u32, Sums)>()
    }
}
