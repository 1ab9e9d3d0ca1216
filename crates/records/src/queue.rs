//! Records on their way to the writer.
//!
//! [`Queue::offer`] runs on the threads of SIP: it holds the lock for a push, and wakes nobody while the writer is at
//! work or gathers. So a call costs no system call where many end, and memory has a bound in records and in bytes. Where
//! it is full, records of unanswered calls go first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::counts::{Counts, Shed};
use crate::record::Record;

/// So long the writer waits for company of a record: one wake-up and one write for many calls.
const GATHER: Duration = Duration::from_millis(20);

/// Between the calls and the writer.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    most: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    answered: VecDeque<Waiting>,
    unanswered: VecDeque<Waiting>,
    bytes: usize,
    /// Number of the next record, to keep the order of the two.
    next: u64,
    /// The writer sleeps, and must be woken for a record.
    idle: bool,
    reopen: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    weight: usize,
    record: Box<Record>,
}

/// What the writer is to do.
pub struct Work {
    /// Records, in the order of their ends.
    pub records: Vec<Record>,
    /// Begin a new file.
    pub reopen: bool,
    /// Nothing comes after these.
    pub stopping: bool,
}

impl State {
    fn len(&self) -> usize {
        self.answered.len() + self.unanswered.len()
    }
}

/// Both in one, in the order of their numbers.
fn merge(mut answered: VecDeque<Waiting>, mut unanswered: VecDeque<Waiting>) -> Vec<Record> {
    let mut records = Vec::with_capacity(answered.len() + unanswered.len());
    let number = |queue: &VecDeque<Waiting>| queue.front().map_or(u64::MAX, |waiting| waiting.number);
    loop {
        let answered_first = number(&answered) < number(&unanswered);
        let first = if answered_first { answered.pop_front() } else { unanswered.pop_front() };
        let Some(waiting) = first else { return records };
        records.push(*waiting.record);
    }
}

impl Queue {
    /// Empty, for so many records and so many bytes.
    pub fn new(most: usize, most_bytes: usize) -> Queue {
        Queue { state: Mutex::default(), wake: Condvar::new(), most, most_bytes }
    }

    /// Takes a record, or sheds one: an unanswered call's where there is one.
    pub fn offer(&self, record: Record, counts: &Counts) {
        let weight = record.weight();
        let (answered, record) = (record.is_answered(), Box::new(record));
        // Dropped after the lock.
        let mut shed = Vec::new();
        let mut state = self.state.lock();
        if state.stopping {
            return counts.shed(Shed::Stopped, answered, 1);
        }
        let full = |state: &State| state.len() >= self.most || state.bytes + weight > self.most_bytes;
        while full(&state) {
            let oldest = if answered { state.unanswered.pop_front() } else { None };
            let Some(oldest) = oldest else {
                return counts.shed(Shed::QueueFull, answered, 1);
            };
            counts.shed(Shed::QueueFull, false, 1);
            state.bytes -= oldest.weight;
            shed.push(oldest);
        }
        let waiting = Waiting { number: state.next, weight, record };
        state.next += 1;
        state.bytes += weight;
        if answered {
            state.answered.push_back(waiting)
        } else {
            state.unanswered.push_back(waiting)
        }
        let hurry = state.len() == self.most / 2;
        if std::mem::take(&mut state.idle) || hurry {
            self.wake.notify_one();
        }
    }

    /// Asks for a new file.
    pub fn reopen(&self) {
        self.state.lock().reopen = true;
        self.wake.notify_one();
    }

    /// Takes no more records; the writer ends with those that wait.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.wake.notify_one();
    }

    /// Records that wait.
    pub fn len(&self) -> usize {
        self.state.lock().len()
    }

    /// Waits for work, until `until` at the longest.
    pub fn take(&self, until: Option<Instant>) -> Work {
        let mut state = self.state.lock();
        loop {
            if state.len() > 0 && !state.stopping && !state.reopen && state.len() < self.most / 2 {
                self.wake.wait_for(&mut state, GATHER);
            }
            if state.len() > 0 || state.stopping || state.reopen || until.is_some_and(|until| Instant::now() >= until) {
                state.idle = false;
                let (reopen, stopping) = (std::mem::take(&mut state.reopen), state.stopping);
                let (answered, unanswered) =
                    (std::mem::take(&mut state.answered), std::mem::take(&mut state.unanswered));
                state.bytes = 0;
                drop(state);
                return Work { records: merge(answered, unanswered), reopen, stopping };
            }
            state.idle = true;
            match until {
                Some(until) => drop(self.wake.wait_until(&mut state, until)),
                None => self.wake.wait(&mut state),
            }
            state.idle = false;
        }
    }

    /// Waits out a failure of the writer: true where it is to end meanwhile.
    pub fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stopping {
            self.wake.wait_for(&mut state, time);
        }
        state.stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, answered: bool) -> Record {
        let now = jiff::Timestamp::now();
        Record { answered_at: answered.then_some(now), ..Record::new(name.into(), ([127, 0, 0, 1], 1).into(), now) }
    }

    fn names(work: &Work) -> Vec<&str> {
        work.records.iter().map(|record| record.call_id.as_str()).collect()
    }

    #[test]
    fn records_come_out_in_their_order() {
        let (queue, counts) = (Queue::new(10, 1 << 20), Counts::default());
        for (name, answered) in [("a", true), ("b", false), ("c", false), ("d", true), ("e", false)] {
            queue.offer(record(name, answered), &counts);
        }
        assert_eq!(queue.len(), 5);
        assert_eq!(names(&queue.take(None)), ["a", "b", "c", "d", "e"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_full_queue_sheds_unanswered_calls_first() {
        let (queue, counts) = (Queue::new(3, 1 << 20), Counts::default());
        for (name, answered) in [("a", false), ("b", true), ("c", false), ("d", true), ("e", true), ("f", false)] {
            queue.offer(record(name, answered), &counts);
        }
        queue.offer(record("g", true), &counts);
        assert_eq!(names(&queue.take(None)), ["b", "d", "e"]);
        assert_eq!((counts.shed_of(Shed::QueueFull, false), counts.shed_of(Shed::QueueFull, true)), (3, 1));
    }

    #[test]
    fn a_full_queue_is_one_of_many_bytes_too() {
        let weight = record("a", false).weight();
        let (queue, counts) = (Queue::new(1000, 3 * weight), Counts::default());
        for name in ["a", "b", "c", "d"] {
            queue.offer(record(name, false), &counts);
        }
        queue.offer(record(&"e".repeat(weight), true), &counts);
        let taken = queue.take(None);
        assert_eq!(taken.records.len(), 2, "two were shed for one that weighs as much");
        assert_eq!(counts.shed_of(Shed::QueueFull, false), 3);
        queue.offer(record("f", false), &counts);
        assert_eq!(names(&queue.take(None)), ["f"], "what was taken weighs no more");
    }

    #[test]
    fn nothing_is_taken_after_the_stop() {
        let (queue, counts) = (Queue::new(3, 1 << 20), Counts::default());
        queue.offer(record("a", true), &counts);
        queue.stop();
        queue.offer(record("b", true), &counts);
        let work = queue.take(None);
        assert_eq!(names(&work), ["a"]);
        assert!(work.stopping);
        assert_eq!(counts.shed_of(Shed::Stopped, true), 1);
    }
}
