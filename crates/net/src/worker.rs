//! The loop of one thread of a UDP socket: receive a batch, hand it to the shards, fire timers, send.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::engine::{Port, Shared};
use crate::guard::Guard;
use crate::hands::{Arrived, Hands, Tally};
use crate::sender::{may_be_anothers, take_errors};
use crate::socket::{BoundSocket, IDLE};
use crate::stats::add;
use crate::syscall::Receiver;

/// Microseconds between looks at the error queue without cause.
const LOOK: u64 = 20_000;
/// After an error of the socket itself.
const PAUSE: Duration = Duration::from_millis(5);

/// One thread on one socket; or on none, for timers alone.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// The listener whose socket it receives from.
    listener: Option<u8>,
    /// Its number among all threads: it fires the timers of every n-th shard.
    number: usize,
    receiver: Receiver,
    guard: Guard,
    hands: Hands,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, listener: Option<u8>, number: usize) -> Worker {
        Worker { shared, listener, number, receiver: Receiver::new(), guard: Guard::default(), hands: Hands::new() }
    }

    pub fn run(mut self) {
        let shared = self.shared.clone();
        let port = self.listener.and_then(|listener| shared.ports.get(usize::from(listener)));
        let mut looked = shared.clock.now();
        while !shared.stop.load(Relaxed) {
            match port {
                Some(Port::Udp(socket)) => {
                    self.receive(socket);
                    // Calls of several threads on one socket may hide an error from all of them; its entry
                    // in the queue stays.
                    let now = shared.clock.now();
                    if now.0.saturating_sub(looked.0) >= LOOK {
                        looked = now;
                        take_errors(socket.fd(), &mut self.hands.returned, &shared.stats);
                    }
                }
                _ => std::thread::sleep(IDLE / 2),
            }
            self.fire();
            self.hands.flush(&shared);
        }
    }

    fn receive(&mut self, socket: &BoundSocket) {
        let Err(error) = self.receiver.receive(socket.fd()) else {
            return self.handle();
        };
        if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) {
            return;
        }
        // Another thread may have emptied the queue before us; trouble of the socket itself stays,
        // and must not make us spin.
        if take_errors(socket.fd(), &mut self.hands.returned, &self.shared.stats) == 0 && !may_be_anothers(&error) {
            add(&self.shared.stats.receive_errors, 1);
            std::thread::sleep(PAUSE);
        }
    }

    fn handle(&mut self) {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let mut tally = Tally::default();
        for received in self.receiver.datagrams() {
            let Some(source) = received.source.filter(|source| source.port() != 0) else {
                tally.received += 1;
                tally.malformed += 1;
                continue;
            };
            if received.truncated || is_keepalive(received.bytes) {
                tally.received += 1;
                if received.truncated {
                    tally.truncated += 1
                } else {
                    tally.keepalives += 1
                }
                continue;
            }
            if !self.guard.passes(shared, now, source.ip(), received.bytes) {
                tally.received += 1;
                tally.shed += 1;
                continue;
            }
            let unknown = tally.unknown;
            let listener = self.listener.unwrap_or_default();
            let arrived = Arrived { listener, source, connection: None, names: None };
            self.hands.deliver(shared, now, &arrived, received.bytes, &mut tally);
            if tally.unknown > unknown {
                self.guard.note_unknown();
            }
        }
        tally.add_to(shared);
    }

    fn fire(&mut self) {
        let shared = &*self.shared;
        let now = shared.clock.now();
        for slot in shared.slots.iter().skip(self.number).step_by(shared.threads) {
            if slot.is_due(now) {
                slot.with(now, shared, &mut self.hands.out, |shard, now, out| shard.fire(now, out));
            }
        }
    }
}

/// Empty, line ends, or the NULs that some peers send to keep a NAT open.
fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.len() <= 4 && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::is_keepalive;

    #[test]
    fn keepalives_are_short_and_blank() {
        for bytes in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0"] {
            assert!(is_keepalive(bytes), "{bytes:?}");
        }
        for bytes in [&b"SIP"[..], b"\r\n\r\n\r\n", b" "] {
            assert!(!is_keepalive(bytes), "{bytes:?}");
        }
    }
}
