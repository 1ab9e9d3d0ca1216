//! What happened, in order, for whoever watches: a bounded ring that every reader walks at its own pace.
//!
//! One ring and no queue per reader, so that a thousand slow readers cost no more memory than one. A reader that falls
//! off the ring's end is told ([`Lost`]) and takes the whole set anew; it is never skipped silently and never holds
//! anybody up. Ids carry the start of the process: after a restart an id of before cannot be mistaken for one of now.

use std::collections::VecDeque;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use registry::Event;
use tokio::sync::watch;

/// How many events are kept to resume from.
pub const KEPT: usize = 10_000;

/// Where a reader stands: the last event that it has seen. Shown and parsed as `boot-seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// When the process that made the event started, in microseconds of the wall clock.
    pub boot: u64,
    /// The event's number in that process; the first is 1, and 0 stands before it.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.seq)
    }
}

/// Text that is no event id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event id")]
pub struct InvalidEventId;

impl From<ParseIntError> for InvalidEventId {
    fn from(_: ParseIntError) -> Self {
        InvalidEventId
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (boot, seq) = text.split_once('-').ok_or(InvalidEventId)?;
        Ok(EventId { boot: boot.parse()?, seq: seq.parse()? })
    }
}

/// The reader fell behind by more than what is kept: events are missing. List anew and begin a new [`Feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fell behind by more than {KEPT} events")]
pub struct Lost;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Ring {
    boot: u64,
    kept: Mutex<VecDeque<Arc<Event>>>,
    /// The number of the last event; readers wait on it.
    last: watch::Sender<u64>,
}

impl Ring {
    pub(crate) fn new(boot: u64) -> Arc<Ring> {
        Arc::new(Ring { boot, kept: Mutex::new(VecDeque::new()), last: watch::Sender::new(0) })
    }

    /// Appends events. Only whoever holds the registry's write lock may call this: order is the registry's order.
    pub(crate) fn push(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let count = events.len() as u64;
        let mut kept = self.kept.lock();
        for event in events {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Arc::new(event));
        }
        // Under the lock, so that `last` always names the ring's newest.
        self.last.send_modify(|last| *last += count);
    }

    pub(crate) fn last(&self) -> EventId {
        EventId { boot: self.boot, seq: *self.last.borrow() }
    }

    /// A reader that continues after `id`, or (not resumed) starts from now.
    pub(crate) fn after(self: &Arc<Ring>, id: Option<EventId>) -> Feed {
        let kept = self.kept.lock();
        let last = *self.last.borrow();
        let oldest = last - kept.len() as u64;
        let resumable = |id: &EventId| id.boot == self.boot && (oldest..=last).contains(&id.seq);
        let from = id.filter(resumable);
        let (resumed, seq) = (from.is_some(), from.map_or(last, |id| id.seq));
        Feed { ring: self.clone(), seq, resumed, news: self.last.subscribe() }
    }

    /// The events after `seq`, at most `limit`. Taken under one lock, so without a limit no batch is split.
    fn read(&self, seq: u64, limit: usize) -> Result<Vec<Arc<Event>>, Lost> {
        let kept = self.kept.lock();
        let oldest = *self.last.borrow() - kept.len() as u64;
        let skip = seq.checked_sub(oldest).ok_or(Lost)?;
        Ok(kept.iter().skip(skip as usize).take(limit).cloned().collect())
    }
}

/// One reader's place in the ring.
#[derive(Debug)]
pub struct Feed {
    ring: Arc<Ring>,
    seq: u64,
    resumed: bool,
    news: watch::Receiver<u64>,
}

impl Feed {
    /// Events handed out at once, at most.
    const CHUNK: usize = 256;

    /// Whether the feed continues from where it was asked to. If not it starts from now: send the whole set first.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The last event handed out, or the one that the feed started after.
    pub fn position(&self) -> EventId {
        EventId { boot: self.ring.boot, seq: self.seq }
    }

    /// Waits for the next events, at least one and at most a few hundred. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<(EventId, Arc<Event>)>, Lost> {
        self.take(Feed::CHUNK).await
    }

    /// Waits for the next events, at least one, and takes all that are there: what one batch brought about is never split.
    /// Cancel safe.
    pub async fn next_all(&mut self) -> Result<Vec<(EventId, Arc<Event>)>, Lost> {
        self.take(usize::MAX).await
    }

    async fn take(&mut self, limit: usize) -> Result<Vec<(EventId, Arc<Event>)>, Lost> {
        loop {
            self.news.mark_unchanged();
            let events = self.ring.read(self.seq, limit)?;
            if !events.is_empty() {
                let first = self.seq + 1;
                self.seq += events.len() as u64;
                let boot = self.ring.boot;
                return Ok(events.into_iter().zip(first..).map(|(e, seq)| (EventId { boot, seq }, e)).collect());
            }
            // The sender cannot go away: the feed itself keeps the ring.
            let _ = self.news.changed().await;
        }
    }
}
