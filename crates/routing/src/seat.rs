//! Channels: taken before a request is sent, given back by drop.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quality::{Averages, Gate, Series};

use crate::Trunk;
use crate::rate::Rate;

/// Counts of one trunk id, shared by all tables and calls that know it.
#[derive(Debug)]
pub struct Live {
    serial: u32,
    active: AtomicU32,
    pub(crate) rate: Rate,
    resting: AtomicBool,
    averages: Averages,
    gate: Arc<Gate>,
    series: Mutex<Series>,
    /// Answers by status code, and whether they were ours (silence, send errors).
    answers: Mutex<Vec<(u16, bool, u64)>>,
}

impl Live {
    pub(crate) fn new(serial: u32) -> Live {
        Live {
            serial,
            active: AtomicU32::new(0),
            rate: Rate::default(),
            resting: AtomicBool::new(false),
            averages: Averages::default(),
            gate: Arc::default(),
            series: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// A number that no other trunk id of this process has.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Channels taken now.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Whether the trunk asked for a rest (503 with Retry-After, RFC 3261 §21.5.4).
    pub fn is_resting(&self) -> bool {
        self.resting.load(Relaxed)
    }

    /// Begins or ends a rest.
    pub fn set_resting(&self, resting: bool) {
        self.resting.store(resting, Relaxed);
    }

    /// Decaying averages of post-dial delay and of failures.
    pub fn averages(&self) -> &Averages {
        &self.averages
    }

    /// The verdict of its group's guard.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// What it did of late; to be held for a moment only.
    pub fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the end of an attempt; `local` where the code stands for silence or a send error.
    pub fn count(&self, status: u16, local: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.iter_mut().find(|(code, ours, _)| (*code, *ours) == (status, local)) {
            Some((_, _, count)) => *count += 1,
            None => answers.push((status, local, 1)),
        }
    }

    /// Ends of attempts: status code, whether it stands for silence or a send error, how many.
    pub fn answers(&self) -> Vec<(u16, bool, u64)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A place on a trunk, with or without a channel.
#[derive(Debug)]
pub struct Seat {
    trunk: Arc<Trunk>,
    holds: bool,
}

impl Seat {
    /// Takes a channel if the trunk has room below its `max_channels`.
    pub fn take(trunk: &Arc<Trunk>) -> Option<Seat> {
        let active = &trunk.live.active;
        match trunk.facts.max_channels {
            None => {
                active.fetch_add(1, Relaxed);
            }
            Some(max) => {
                active.fetch_update(Relaxed, Relaxed, |n| (n < max).then(|| n + 1)).ok()?;
            }
        }
        Some(Seat { trunk: trunk.clone(), holds: true })
    }

    /// Takes a channel, over the limit if need be.
    pub fn take_anyway(trunk: &Arc<Trunk>) -> Seat {
        trunk.live.active.fetch_add(1, Relaxed);
        Seat { trunk: trunk.clone(), holds: true }
    }

    /// A seat that takes no channel: for requests that begin no call.
    pub fn without_channel(trunk: &Arc<Trunk>) -> Seat {
        Seat { trunk: trunk.clone(), holds: false }
    }

    /// The trunk.
    pub fn trunk(&self) -> &Arc<Trunk> {
        &self.trunk
    }

    /// Gives the channel back early; a second time does nothing.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.trunk.live.active.fetch_sub(1, Relaxed);
        }
    }

    /// Takes the channel again, over the limit if need be: the call stands, so it counts.
    pub fn retake(&mut self) {
        if !std::mem::replace(&mut self.holds, true) {
            self.trunk.live.active.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.release();
    }
}
