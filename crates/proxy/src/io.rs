//! What goes into a shard and what comes out of it.
//!
//! A driver calls one input method of [`crate::Shard`] with an [`Outbox`], then answers every
//! [`Question`] that it finds there, then sends what it finds there. All inputs of a batch may
//! share one outbox; the bytes stay in its arena until [`Outbox::clear`].

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use routing::Seat;

/// Microseconds since an origin of the driver's choice; never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The instant `millis` milliseconds later.
    pub fn plus_millis(self, millis: u64) -> Time {
        Time(self.0 + millis * 1000)
    }
}

/// A stream connection of the driver's; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection(pub u64);

/// The way of a message to its next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the listener to send from; it names the transport too.
    pub listener: u8,
    /// Where to. Over a stream: used, or connected to, where `connection` does not stand.
    pub address: SocketAddr,
    /// The connection that leads there.
    pub connection: Option<Connection>,
    /// Nothing but that connection will do: the peer cannot be connected to.
    pub only: bool,
    /// How a TLS peer is verified where a connection must be opened; none: by its address.
    pub tls: Option<Arc<routing::TlsPeer>>,
}

/// One received datagram, already indexed by the driver.
#[derive(Clone, Copy)]
pub struct Datagram<'a> {
    /// Index of the listener it came in by.
    pub listener: u8,
    /// Where it came from.
    pub source: SocketAddr,
    /// Whether that source may place calls ([`Router::allowed`]).
    pub allowed: bool,
    /// The message.
    pub message: sip::Message<'a>,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Index of the listener to send from.
    pub listener: u8,
    /// Where to.
    pub destination: SocketAddr,
    /// Its bytes, in [`Outbox::bytes`].
    pub range: Range<usize>,
}

/// "Where does this request go?" Put by a shard, answered by `Shard::answer`.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whose question it is; given back with the answer.
    pub context: ContextId,
    /// Who asks: source of the request.
    pub source: SocketAddr,
    /// Whether a channel is to be taken (an INVITE that begins a call).
    pub takes_channel: bool,
    /// Serial numbers of trunks that this request has tried already.
    pub tried: Vec<u32>,
    /// 64 random bits, for the draw.
    pub draw: u64,
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// Send it there.
    Forward(Target),
    /// No trunk takes it: why, in words, for the log and the Reason header (RFC 3326).
    Refuse(String),
}

/// A trunk that was chosen for a request.
#[derive(Debug)]
pub struct Target {
    /// The trunk, and the channel taken on it where one was asked for.
    pub seat: Seat,
    /// The address to send to.
    pub address: SocketAddr,
}

/// Names a response context of a shard; stale ones are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What the world may want to know of.
#[derive(Debug)]
pub enum Event {
    /// A final answer of one attempt, or its failure (`408` for silence, `503` for a send error).
    Attempt {
        /// The trunk.
        trunk: Arc<routing::Trunk>,
        /// Status code.
        status: u16,
        /// True where the code stands for silence or a send error.
        local: bool,
    },
    /// A final answer towards the caller of an INVITE that began a call.
    Answered {
        /// Status code.
        status: u16,
    },
    /// A call was refused without asking any trunk, or after all failed.
    Refused {
        /// One of a fixed set: `dialog`, `draining`, `extension`, `forbidden`, `hops`, `loop`, `malformed`,
        /// `method`, `no_trunk`, `overload`, `scheme`.
        cause: &'static str,
        /// Source of the request.
        source: SocketAddr,
        /// Call-ID, for the log.
        call_id: String,
        /// Why, in words.
        reason: String,
    },
    /// A request got no answer at all, as its source was refused within the last second or it was an ACK.
    Silenced {
        /// As in [`Event::Refused`].
        cause: &'static str,
    },
    /// A call ended without its BYE.
    Lost {
        /// `session_timer` or `max_duration`.
        cause: &'static str,
        /// The trunk.
        trunk: Arc<routing::Trunk>,
        /// Call-ID.
        call_id: String,
    },
}

/// What a driver asks the world on behalf of its shards. Must never block.
pub trait Router: Send + Sync {
    /// Whether this source may place calls.
    fn allowed(&self, source: std::net::IpAddr) -> bool;
    /// Where a request goes.
    fn route(&self, question: &Question) -> Answer;
    /// Tells an event.
    fn event(&self, event: Event);
}

/// Collects the outputs of shards.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Arena of the datagrams to send.
    pub bytes: Vec<u8>,
    /// The datagrams, in order.
    pub sends: Vec<Transmit>,
    /// Questions, to be answered before the next input of the same shard.
    pub questions: Vec<Question>,
    /// Events.
    pub events: Vec<Event>,
}

impl Outbox {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sends.clear();
        self.questions.clear();
        self.events.clear();
    }

    /// Appends one datagram, written by `write` at the end of the arena.
    pub fn send(&mut self, listener: u8, destination: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let range = start..self.bytes.len();
        self.sends.push(Transmit { listener, destination, range: range.clone() });
        range
    }
}
