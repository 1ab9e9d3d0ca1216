//! Decaying averages as one atomic each: many threads write, every decision reads.
//!
//! Samples come at uneven times, so each weighs by the time since the one before (A. Eckner, "Algorithms for unevenly spaced time
//! series"). Worse is believed faster than better, as in the peak-sensitive averages of finagle and linkerd, but by half a step,
//! since post-dial delays vary more than round trips do. What is not called any more is forgiven: its averages fall to nothing, so
//! that a decision that prefers the least gives it another chance.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Attempt, Class, Millis};

/// Time constant of the averages, in milliseconds: a sample is worth 1/e of its weight after so long.
const CONSTANT: f32 = 20_000.0;
/// Time constant of forgiving where no sample comes, in milliseconds.
const IDLE: f32 = 60_000.0;
/// Least weight of a sample, for when they come in thousands a second.
const LEAST: f32 = 1.0 / 128.0;
/// Least weight of a delay above the average.
const RISE: f32 = 0.5;
/// What a failed attempt costs the caller, in milliseconds of post-dial delay: about the time-out of a silent trunk.
const FAILURE: f32 = 5000.0;
/// Milliseconds of one unit of the stamp, which wraps after two years of silence.
const TICK: Millis = 16;

/// One decaying average: an `f32` above a stamp of 32 bits.
#[derive(Debug, Default)]
pub struct Decaying(AtomicU64);

impl Decaying {
    /// Takes a sample; one above the average weighs at least `rise`.
    pub fn add(&self, sample: f32, rise: f32, now: Millis) {
        let stamp = stamp(now);
        let next = |packed: u64| {
            let (value, last) = unpack(packed);
            // A thread that comes late finds a later stamp, and counts as of that moment.
            let (since, stamp) = if is_after(last, stamp) { (0, last) } else { (stamp.wrapping_sub(last), stamp) };
            let mut weight = (1.0 - (-millis(since) / CONSTANT).exp()).max(LEAST);
            if sample > value {
                weight = weight.max(rise);
            }
            Some(pack(value + weight * (sample - value), stamp))
        };
        // The closure never gives up.
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    /// The average, less what has been forgiven.
    pub fn get(&self, now: Millis) -> f32 {
        let (value, last) = unpack(self.0.load(Relaxed));
        let stamp = stamp(now);
        let since = if is_after(last, stamp) { 0 } else { stamp.wrapping_sub(last) };
        value * (-millis(since) / IDLE).exp()
    }
}

/// How a trunk did of late, for decisions that compare trunks.
#[derive(Debug, Default)]
pub struct Averages {
    delay: Decaying,
    failures: Decaying,
}

impl Averages {
    /// Takes the end of an attempt.
    pub fn attempt(&self, attempt: &Attempt, now: Millis) {
        if attempt.class() == Class::Passing {
            return;
        }
        let failed = attempt.class() == Class::Failed;
        self.failures.add(f32::from(u8::from(failed)), 0.0, now);
        if let Some(delay) = attempt.delay {
            self.delay.add(delay as f32, RISE, now);
        }
    }

    /// Post-dial delay, in milliseconds; 0 where nothing is known.
    pub fn delay(&self, now: Millis) -> f32 {
        self.delay.get(now)
    }

    /// Share of attempts that the network failed; 0 where nothing is known.
    pub fn failures(&self, now: Millis) -> f32 {
        self.failures.get(now)
    }

    /// What a call there costs its caller, in milliseconds: the delay, and 5 s for each failure to be expected. Less is better.
    pub fn cost(&self, now: Millis) -> f32 {
        self.delay(now) + FAILURE * self.failures(now)
    }
}

fn stamp(now: Millis) -> u32 {
    (now / TICK) as u32
}

/// Whether `a` lies after `b`, which may have wrapped.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).wrapping_sub(1) < u32::MAX / 2
}

fn millis(stamps: u32) -> f32 {
    stamps as f32 * TICK as f32
}

fn pack(value: f32, stamp: u32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(stamp)
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}
