//! What the sockets have seen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of all threads; each is touched a few times per batch, not per datagram.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub keepalives: AtomicU64,
    pub malformed: AtomicU64,
    pub truncated: AtomicU64,
    pub unowned: AtomicU64,
    pub shed: AtomicU64,
    pub dropped: AtomicU64,
    pub send_errors: AtomicU64,
    pub receive_errors: AtomicU64,
    pub undeliverable: AtomicU64,
}

/// Counters since the start, read one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Received ones that were keep-alives (RFC 5626 §3.5.1, and the single NUL that some peers send).
    pub keepalives: u64,
    /// Received ones that are no SIP message, or lack a Call-ID.
    pub malformed: u64,
    /// Received ones that were longer than any UDP datagram may be.
    pub truncated: u64,
    /// Responses to nothing that we sent: stale, forged, or of an earlier process.
    pub unowned: u64,
    /// Datagrams dropped unread: of a source that floods, or of unknown ones that do together.
    pub shed: u64,
    /// Datagrams that were not sent as the kernel had no room for them.
    pub dropped: u64,
    /// Datagrams that the kernel refused to send.
    pub send_errors: u64,
    /// Errors of receiving, those that ICMP caused aside.
    pub receive_errors: u64,
    /// Datagrams that came back by ICMP.
    pub undeliverable: u64,
}

impl Stats {
    pub fn read(&self) -> Counts {
        Counts {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            keepalives: self.keepalives.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            truncated: self.truncated.load(Relaxed),
            unowned: self.unowned.load(Relaxed),
            shed: self.shed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            send_errors: self.send_errors.load(Relaxed),
            receive_errors: self.receive_errors.load(Relaxed),
            undeliverable: self.undeliverable.load(Relaxed),
        }
    }
}

/// Counts `n` more.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    if n > 0 {
        counter.fetch_add(n as u64, Relaxed);
    }
}
