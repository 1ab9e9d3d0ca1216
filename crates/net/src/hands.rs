//! What every thread does with messages: give them to the shards that own them, and send what comes out.
//!
//! The threads of the UDP sockets keep hands of their own; whoever else has an input for a shard (a stream connection, the
//! prober, the registrar) borrows those of its thread.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use proxy::{Connection, Inbound, Outbox, Time};

use crate::engine::{Port, Shared, Slot};
use crate::sender::{Returned, Sender};
use crate::stats::add;

/// A message that comes back may make its call try the next trunk, whose message may come back at
/// once, and so on; what is not settled after this many rounds waits for its timers.
const ROUNDS: usize = 20;
/// An arena that grew beyond this in a burst is given back.
const ARENA: usize = 4 << 20;

/// How a message came.
pub(crate) struct Arrived<'a> {
    pub listener: u8,
    pub source: SocketAddr,
    pub connection: Option<Connection>,
    /// Names of the peer's verified certificate.
    pub names: Option<&'a Arc<[Box<str>]>>,
}

/// What a message turned out to be.
#[derive(Default)]
pub(crate) struct Tally {
    pub received: usize,
    pub keepalives: usize,
    pub malformed: usize,
    pub truncated: usize,
    pub unowned: usize,
    pub shed: usize,
    /// Requests of sources that may place no calls.
    pub unknown: usize,
}

impl Tally {
    pub fn add_to(&self, shared: &Shared) {
        add(&shared.stats.received, self.received);
        add(&shared.stats.keepalives, self.keepalives);
        add(&shared.stats.malformed, self.malformed);
        add(&shared.stats.truncated, self.truncated);
        add(&shared.stats.unowned, self.unowned);
        add(&shared.stats.shed, self.shed);
    }
}

pub(crate) struct Hands {
    sender: Sender,
    index: sip::Index,
    pub out: Outbox,
    pub returned: Returned,
}

thread_local! {
    static BORROWED: RefCell<Option<Hands>> = const { RefCell::new(None) };
}

impl Hands {
    pub fn new() -> Hands {
        Hands { sender: Sender::new(), index: sip::Index::new(), out: Outbox::default(), returned: Returned::default() }
    }

    /// Borrows the hands of this thread, and sends what is in them afterwards.
    pub fn borrow<R>(shared: &Shared, work: impl FnOnce(&mut Hands) -> R) -> R {
        let mut hands = BORROWED.with_borrow_mut(Option::take).unwrap_or_else(Hands::new);
        let result = work(&mut hands);
        hands.flush(shared);
        BORROWED.set(Some(hands));
        result
    }

    /// Gives a message to the shard that owns it.
    pub fn deliver(&mut self, shared: &Shared, now: Time, arrived: &Arrived<'_>, bytes: &[u8], tally: &mut Tally) {
        tally.received += 1;
        if self.index.parse(bytes).is_err() {
            tally.malformed += 1;
            tally.unknown += 1;
            return;
        }
        let message = self.index.message(bytes);
        let is_request = message.is_request();
        let Arrived { listener, source, connection, names } = *arrived;
        let admission = if is_request {
            shared.router.admit(source.ip(), names.map(|names| &**names).unwrap_or_default())
        } else {
            Default::default()
        };
        tally.unknown += usize::from(is_request && !admission.allowed);
        let inbound = Inbound { listener, source, connection, admission, names, message };
        let owner = proxy::owner(message, &shared.proxy.keys, shared.slots.len());
        match owner.and_then(|owner| shared.slots.get(owner)) {
            Some(slot) => slot.with(now, shared, &mut self.out, |shard, now, out| shard.receive(now, inbound, out)),
            None if is_request => {
                tally.malformed += 1;
                proxy::refuse_malformed(&inbound, &shared.proxy, &mut self.out);
            }
            None => tally.unowned += 1,
        }
    }

    /// Sends what the shards put out, and tells what they tell.
    pub fn flush(&mut self, shared: &Shared) {
        for _ in 0..ROUNDS {
            self.tell(shared);
            self.send(shared);
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
        self.tell(shared);
        add(&shared.stats.dropped, self.out.sends.len());
        self.out.clear();
        if self.out.bytes.capacity() > ARENA {
            self.out.bytes.shrink_to(ARENA);
        }
    }

    fn tell(&mut self, shared: &Shared) {
        for event in self.out.events.drain(..) {
            shared.router.event(event);
        }
        for registration in std::mem::take(&mut self.out.registrations) {
            if let Err(refused) = shared.router.register(registration)
                && let Some(slot) = shared.slots.get(usize::from(refused.shard))
            {
                let now = shared.clock.now();
                slot.with(now, shared, &mut self.out, |shard, now, out| shard.reply(now, refused.context, None, out));
            }
        }
        for lookup in self.out.lookups.drain(..) {
            shared.router.locate(lookup);
        }
    }

    fn send(&mut self, shared: &Shared) {
        if shared.ports.len() > 1 {
            self.out.sends.sort_by_key(|send| send.hop.listener);
        }
        for sends in self.out.sends.chunk_by(|a, b| a.hop.listener == b.hop.listener) {
            match shared.ports.get(usize::from(sends[0].hop.listener)) {
                Some(Port::Udp(socket)) => {
                    self.sender.send_all(socket.fd(), &self.out.bytes, sends, &mut self.returned, &shared.stats);
                }
                Some(Port::Stream) => {
                    for send in sends {
                        let bytes = self.out.bytes.get(send.range.clone()).unwrap_or_default();
                        let sent = shared.streams.get().is_some_and(|streams| streams.send(&send.hop, bytes).is_ok());
                        if !sent {
                            self.returned.push(bytes);
                        }
                    }
                }
                None => add(&shared.stats.dropped, sends.len()),
            }
        }
    }
}

impl Slot {
    /// Gives one input to the shard, and answers to its questions, under its lock.
    pub fn with(
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
