//! The loop of one thread: receive a batch, hand it to the shards, fire timers, send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proxy::{Datagram, Outbox, Time};

use crate::engine::{Shared, Slot};
use crate::sender::{Returned, Sender, may_be_anothers, take_errors};
use crate::stats::add;
use crate::syscall::Receiver;

/// A datagram that comes back may make its call try the next trunk, whose datagram may come back at
/// once, and so on; what is not settled after this many rounds waits for its timers.
const ROUNDS: usize = 20;
/// An arena that grew beyond this in a burst is given back.
const ARENA: usize = 4 << 20;
/// Microseconds between looks at the error queue without cause.
const LOOK: u64 = 20_000;
/// After an error of the socket itself.
const PAUSE: Duration = Duration::from_millis(5);

/// One thread on one socket.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// The socket that it receives from.
    listener: usize,
    /// Its number among all threads: it fires the timers of every n-th shard.
    number: usize,
    receiver: Receiver,
    sender: Sender,
    index: sip::Index,
    out: Outbox,
    returned: Returned,
}

/// What a datagram turned out to be.
#[derive(Default)]
struct Tally {
    received: usize,
    keepalives: usize,
    malformed: usize,
    truncated: usize,
    unowned: usize,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, listener: usize, number: usize) -> Worker {
        Worker {
            shared,
            listener,
            number,
            receiver: Receiver::new(),
            sender: Sender::new(),
            index: sip::Index::new(),
            out: Outbox::default(),
            returned: Returned::default(),
        }
    }

    pub fn run(mut self) {
        let mut looked = self.shared.clock.now();
        while !self.shared.stop.load(Relaxed) {
            self.receive();
            // Calls of several threads on one socket may hide an error from all of them; its entry
            // in the queue stays.
            let now = self.shared.clock.now();
            if now.0.saturating_sub(looked.0) >= LOOK {
                looked = now;
                take_errors(self.shared.sockets[self.listener].fd(), &mut self.returned, &self.shared.stats);
            }
            self.fire();
            self.flush();
        }
    }

    fn receive(&mut self) {
        let socket = self.shared.sockets[self.listener].fd();
        let Err(error) = self.receiver.receive(socket) else {
            return self.handle();
        };
        if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) {
            return;
        }
        // Another thread may have emptied the queue before us; trouble of the socket itself stays,
        // and must not make us spin.
        if take_errors(socket, &mut self.returned, &self.shared.stats) == 0 && !may_be_anothers(&error) {
            add(&self.shared.stats.receive_errors, 1);
            std::thread::sleep(PAUSE);
        }
    }

    fn handle(&mut self) {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let mut tally = Tally::default();
        for received in self.receiver.datagrams() {
            tally.received += 1;
            let Some(source) = received.source.filter(|source| source.port() != 0) else {
                tally.malformed += 1;
                continue;
            };
            if received.truncated {
                tally.truncated += 1;
            } else if is_keepalive(received.bytes) {
                tally.keepalives += 1;
            } else if self.index.parse(received.bytes).is_err() {
                tally.malformed += 1;
            } else {
                let message = self.index.message(received.bytes);
                deliver(shared, self.listener, now, source, message, &mut self.out, &mut tally);
            }
        }
        add(&shared.stats.received, tally.received);
        add(&shared.stats.keepalives, tally.keepalives);
        add(&shared.stats.malformed, tally.malformed);
        add(&shared.stats.truncated, tally.truncated);
        add(&shared.stats.unowned, tally.unowned);
    }

    fn fire(&mut self) {
        let shared = &*self.shared;
        let now = shared.clock.now();
        for slot in shared.slots.iter().skip(self.number).step_by(shared.threads) {
            if slot.is_due(now) {
                slot.with(now, shared, &mut self.out, |shard, now, out| shard.fire(now, out));
            }
        }
    }

    fn flush(&mut self) {
        let shared = &*self.shared;
        for _ in 0..ROUNDS {
            for event in self.out.events.drain(..) {
                shared.router.event(event);
            }
            self.sender.flush(&shared.sockets, &mut self.out, &mut self.returned, &shared.stats);
            self.out.clear();
            if self.returned.is_empty() {
                break;
            }
            let now = shared.clock.now();
            for bytes in self.returned.iter() {
                if let Some(owner) = proxy::owner_of_bytes(bytes, &shared.proxy.keys, shared.slots.len()) {
                    shared.slots[owner].with(now, shared, &mut self.out, |shard, now, out| {
                        shard.undeliverable(now, bytes, out);
                    });
                }
            }
            self.returned.clear();
        }
        for event in self.out.events.drain(..) {
            shared.router.event(event);
        }
        add(&shared.stats.dropped, self.out.sends.len());
        self.out.clear();
        if self.out.bytes.capacity() > ARENA {
            self.out.bytes.shrink_to(ARENA);
        }
    }
}

fn deliver(
    shared: &Shared,
    listener: usize,
    now: Time,
    source: SocketAddr,
    message: sip::Message<'_>,
    out: &mut Outbox,
    tally: &mut Tally,
) {
    let is_request = message.is_request();
    let allowed = is_request && shared.router.allowed(source.ip());
    let datagram = Datagram { listener: listener as u8, source, allowed, message };
    match proxy::owner(message, &shared.proxy.keys, shared.slots.len()).and_then(|owner| shared.slots.get(owner)) {
        Some(slot) => slot.with(now, shared, out, |shard, now, out| shard.receive(now, datagram, out)),
        None if is_request => {
            tally.malformed += 1;
            proxy::refuse_malformed(&datagram, &shared.proxy, out);
        }
        None => tally.unowned += 1,
    }
}

/// Empty, line ends, or the NULs that some peers send to keep a NAT open.
fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.len() <= 4 && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

impl Slot {
    /// Gives one input to the shard, and answers to its questions, under its lock.
    fn with(
        &self,
        now: Time,
        shared: &Shared,
        out: &mut Outbox,
        input: impl FnOnce(&mut proxy::Shard, Time, &mut Outbox),
    ) {
        let mut state = self.state.lock();
        // Another thread may have read the clock later and come here earlier.
        let now = now.max(state.latest);
        state.latest = now;
        input(&mut state.shard, now, out);
        // An answer may raise the next question; a shard bounds the attempts of a request.
        while let Some(question) = out.questions.pop() {
            let answer = shared.router.route(&question);
            state.shard.answer(now, question.context, answer, out);
        }
        self.note_timeout(now, state.shard.next_timeout());
    }
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
