//! Counts of what happened in a span of time; they add up.

use crate::{Attempt, Class, Millis, Outcome};

/// Upper bounds of the buckets of post-dial delays, in milliseconds; one more bucket is without.
pub const DELAY_BOUNDS: [Millis; 11] = [50, 100, 200, 500, 1000, 2000, 3000, 5000, 8000, 12_000, 20_000];

/// Counts over a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Attempts that ended, redirections and challenges aside: the seizures of ITU-T E.425.
    pub attempts: u32,
    /// Redirections and challenges.
    pub passing: u32,
    /// Answered attempts.
    pub answered: u32,
    /// Attempts for which the network did its part, the answered ones among them.
    pub effective: u32,
    /// Attempts that the network failed.
    pub failed: u32,
    /// Calls that ended after they had been answered.
    pub ended: u32,
    /// How long those had lasted, all together, in milliseconds.
    pub talked: u64,
    /// Sum of the post-dial delays, in milliseconds.
    pub delayed: u64,
    /// Post-dial delays: how many were at most [`DELAY_BOUNDS`]`[i]` and above the one before; the last: above all.
    pub delays: [u32; DELAY_BOUNDS.len() + 1],
    /// Ends by code.
    pub codes: Codes,
}

/// Distinct codes that are told apart; a trunk seldom has more at a time.
const CODES: usize = 8;

/// How often each code came. Of more than eight kinds the further ones are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    codes: [u16; CODES],
    counts: [u32; CODES],
    /// Ends by codes that found no place of their own.
    pub others: u32,
}

impl Sums {
    /// Counts the end of an attempt.
    pub fn attempt(&mut self, attempt: &Attempt) {
        let (answered, effective, failed) = match attempt.class() {
            Class::Answered => (1, 1, 0),
            Class::Effective => (0, 1, 0),
            Class::Failed => (0, 0, 1),
            Class::Refused => (0, 0, 0),
            Class::Passing => {
                self.passing += 1;
                self.codes.add(key(attempt.outcome), 1);
                return;
            }
        };
        self.attempts += 1;
        self.answered += answered;
        self.effective += effective;
        self.failed += failed;
        self.codes.add(key(attempt.outcome), 1);
        if let Some(delay) = attempt.delay {
            self.delayed += delay;
            self.delays[DELAY_BOUNDS.partition_point(|bound| *bound < delay)] += 1;
        }
    }

    /// Counts the end of an answered call that had lasted so long, in milliseconds.
    pub fn end(&mut self, duration: Millis) {
        self.ended += 1;
        self.talked = self.talked.saturating_add(duration);
    }

    /// Adds those of another span.
    pub fn add(&mut self, other: &Sums) {
        self.attempts += other.attempts;
        self.passing += other.passing;
        self.answered += other.answered;
        self.effective += other.effective;
        self.failed += other.failed;
        self.ended += other.ended;
        self.talked = self.talked.saturating_add(other.talked);
        self.delayed = self.delayed.saturating_add(other.delayed);
        for (mine, its) in self.delays.iter_mut().zip(other.delays) {
            *mine += its;
        }
        for (key, count) in other.codes.raw() {
            self.codes.add(key, count);
        }
        self.codes.others += other.codes.others;
    }

    /// Answer-seizure ratio (ITU-T E.425): answered of all attempts. None without attempts.
    pub fn answer_seizure_ratio(&self) -> Option<f64> {
        share(self.answered, self.attempts)
    }

    /// Network effectiveness ratio (ITU-T E.425): attempts for which the network did its part. None without attempts.
    pub fn network_effectiveness_ratio(&self) -> Option<f64> {
        share(self.effective, self.attempts)
    }

    /// Attempts that the network failed. None without attempts.
    pub fn failure_share(&self) -> Option<f64> {
        share(self.failed, self.attempts)
    }

    /// Average duration of the calls that ended, in milliseconds.
    pub fn average_duration(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.talked as f64 / f64::from(self.ended))
    }

    /// Average post-dial delay, in milliseconds.
    pub fn average_delay(&self) -> Option<f64> {
        let count: u32 = self.delays.iter().sum();
        (count > 0).then(|| self.delayed as f64 / f64::from(count))
    }
}

fn share(part: u32, whole: u32) -> Option<f64> {
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
}

/// Codes of SIP are below 1000; these stand beside them.
const TIMEOUT: u16 = 1001;
const UNSENT: u16 = 1002;

fn key(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Answer(code) => code.min(999),
        Outcome::Timeout => TIMEOUT,
        Outcome::Unsent => UNSENT,
    }
}

impl Codes {
    fn add(&mut self, key: u16, count: u32) {
        // A place is free where its count is 0.
        let place = (0..CODES).find(|at| self.counts[*at] == 0 || self.codes[*at] == key);
        match place {
            Some(at) => {
                self.codes[at] = key;
                self.counts[at] += count;
            }
            None => self.others += count,
        }
    }

    fn raw(&self) -> impl Iterator<Item = (u16, u32)> {
        self.codes.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    /// How often each came, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u32)> {
        let mut codes: Vec<_> = self.raw().collect();
        codes.sort_unstable();
        codes.into_iter().map(|(key, count)| {
            let outcome = match key {
                TIMEOUT => Outcome::Timeout,
                UNSENT => Outcome::Unsent,
                code => Outcome::Answer(code),
            };
            (outcome, count)
        })
    }
}
