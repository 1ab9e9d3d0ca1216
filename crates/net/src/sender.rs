//! Sending what shards put out, and taking back what could not be delivered.
//!
//! An error of a send may be an earlier datagram's: ICMP errors wait on the socket and strike
//! whoever calls next, on any thread. So the error queue is emptied and the datagram tried again;
//! one that fails all its tries has itself failed. Each wait and each retry is counted: an error
//! storm costs a bounded time per batch.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use proxy::Transmit;

use crate::stats::{Stats, add};
use crate::syscall::{self, Batch, SEND_BATCH};

/// Attempts to send one datagram; other threads' errors may strike several in a row.
const TRIES: u32 = 8;
/// Waits for room, of one call; after these, what finds no room is dropped at once.
const STALLS: u32 = 8;
/// The length of such a wait.
const STALL: Duration = Duration::from_micros(200);
/// Entries taken from the error queue at once; the kernel announces what is left.
const ERRORS_AT_ONCE: usize = 64;
/// The beginning of a datagram that is kept: our branch is in there.
const KEPT: usize = 576;

/// Beginnings of datagrams that could not be delivered.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Returned {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.bytes[range.clone()])
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ranges.clear();
    }

    pub fn push(&mut self, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&datagram[..datagram.len().min(KEPT)]);
        self.ranges.push(start..self.bytes.len());
    }
}

/// Sends for one thread.
pub(crate) struct Sender {
    batch: Batch,
    stalls: u32,
}

impl Sender {
    pub fn new() -> Sender {
        Sender { batch: Batch::new(), stalls: 0 }
    }

    /// Sends these in order; what cannot be delivered is put into `returned`.
    pub fn send_all(
        &mut self,
        socket: BorrowedFd<'_>,
        arena: &[u8],
        mut sends: &[Transmit],
        returned: &mut Returned,
        stats: &Stats,
    ) {
        self.stalls = 0;
        let (mut sent, mut tries) = (0, 0);
        while let Some(first) = sends.first() {
            match self.batch.send(socket, arena, sends) {
                Ok(0) => add(&stats.dropped, 1),
                Ok(n) => {
                    sent += n;
                    tries = 0;
                    if n < sends.len().min(SEND_BATCH) {
                        // An error stopped the call; it is told no more, but may wait in the queue.
                        take_errors(socket, returned, stats);
                    }
                    sends = &sends[n..];
                    continue;
                }
                Err(error) => {
                    tries += 1;
                    if tries < TRIES && self.may_retry(&error, socket, returned, stats) {
                        continue;
                    }
                    if lacks_room(&error) || error.raw_os_error() == Some(libc::ECONNREFUSED) {
                        // Nobody's fault, or never its own: its retransmission may get through.
                        add(&stats.dropped, 1);
                    } else {
                        add(&stats.send_errors, 1);
                        tracing::debug!(destination = %first.hop.address, %error, "datagram not sent");
                        returned.push(arena.get(first.range.clone()).unwrap_or_default());
                    }
                }
            }
            tries = 0;
            sends = &sends[1..];
        }
        add(&stats.sent, sent);
    }

    fn may_retry(&mut self, error: &io::Error, socket: BorrowedFd<'_>, returned: &mut Returned, stats: &Stats) -> bool {
        if error.kind() == io::ErrorKind::Interrupted {
            return true;
        }
        if lacks_room(error) {
            if self.stalls == STALLS {
                return false;
            }
            self.stalls += 1;
            std::thread::sleep(STALL);
            return true;
        }
        if may_be_anothers(error) {
            take_errors(socket, returned, stats);
            return true;
        }
        false
    }
}

/// Empties the error queue, up to a bound; returns the number of entries.
pub(crate) fn take_errors(socket: BorrowedFd<'_>, returned: &mut Returned, stats: &Stats) -> usize {
    let mut beginning = [0; KEPT];
    let mut taken = 0;
    while taken < ERRORS_AT_ONCE {
        match syscall::take_error(socket, &mut beginning) {
            Ok(Some((len, fatal))) => {
                taken += 1;
                if fatal {
                    returned.push(&beginning[..len]);
                    add(&stats.undeliverable, 1);
                }
            }
            Ok(None) | Err(_) => break,
        }
    }
    taken
}

/// A full buffer of the socket or queue of the device.
fn lacks_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// What the kernel makes of ICMP errors: told once, to whoever calls next.
pub(crate) fn may_be_anothers(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EMSGSIZE
                | libc::EACCES
                | libc::EOPNOTSUPP
        )
    )
}
