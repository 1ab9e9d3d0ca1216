//! What goes into a shard and what comes out of it.
//!
//! A driver calls one input method of [`crate::Shard`] with an [`Outbox`], then answers every
//! [`Question`] that it finds there, then sends what it finds there. All inputs of a batch may
//! share one outbox; the bytes stay in its arena until [`Outbox::clear`].

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use routing::{Admission, Rule, Seat, Trace};

use crate::numbers::Numbers;
use crate::record::CallRecord;
use crate::slab::Id;

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

impl Hop {
    /// An address, from a listener, and nothing more.
    pub fn to(listener: u8, address: SocketAddr) -> Hop {
        Hop { listener, address, connection: None, only: false, tls: None }
    }

    /// A place of a trunk, from a listener: the way of its calls and of its probes.
    pub fn to_place(listener: u8, place: &routing::Place) -> Hop {
        Hop {
            listener,
            address: place.address,
            connection: place.connection.map(Connection),
            only: place.only,
            tls: place.tls.clone(),
        }
    }
}

/// One received message, already indexed by the driver.
#[derive(Clone, Copy)]
pub struct Inbound<'a> {
    /// Index of the listener it came in by.
    pub listener: u8,
    /// Where it came from.
    pub source: SocketAddr,
    /// The connection it came by.
    pub connection: Option<Connection>,
    /// What that source may do ([`Router::admit`]).
    pub admission: Admission,
    /// The names of its verified certificate, in lower case; none by UDP and TCP.
    pub names: Option<&'a Arc<[Box<str>]>>,
    /// The message.
    pub message: sip::Message<'a>,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The way it goes.
    pub hop: Hop,
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
    /// The names of its verified certificate, in lower case.
    pub names: Option<Arc<[Box<str>]>>,
    pub(crate) request: Arc<[u8]>,
    pub(crate) numbers: Numbers,
    /// Whether it begins a call: takes a channel, and counts against the rate.
    pub begins_call: bool,
    /// Whether it may go by TLS alone (`sips:`).
    pub secure: bool,
    /// Serial numbers of trunks that this request has tried already.
    pub tried: Vec<u32>,
    /// The trunk whose further targets come first, and the serial numbers of those that it has tried (RFC 3263 §4.3).
    pub again: Option<(Arc<str>, Vec<u32>)>,
    /// The time.
    pub now: Time,
    /// 64 random bits, for the draw.
    pub draw: u64,
}

impl Question {
    /// The request as it came.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Request-URI.
    pub fn request_uri(&self) -> &[u8] {
        self.numbers.request_uri.slice(&self.request)
    }

    /// The number that was called: the user part of the Request-URI without its parameters, or that of a `tel:` URI; empty
    /// where there is none.
    pub fn called(&self) -> &[u8] {
        self.numbers.called.slice(&self.request)
    }

    /// The number of the caller, by From; empty where there is none.
    pub fn calling(&self) -> &[u8] {
        self.numbers.calling.slice(&self.request)
    }

    /// Host of the Request-URI, as written; empty where it has none.
    pub fn domain(&self) -> &[u8] {
        self.numbers.domain.slice(&self.request)
    }

    /// Call-ID.
    pub fn call_id(&self) -> &[u8] {
        self.numbers.call_id.slice(&self.request)
    }
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// Send it there.
    Forward(Target),
    /// No trunk takes it.
    Refuse {
        /// Status code for the caller: 503, with a Retry-After, or 404 where no route matches.
        status: u16,
        /// Why, in words: for the log, and for the Reason header (RFC 3326) towards those who are trusted.
        reason: String,
        /// How it came to that.
        trace: Option<Box<Trace>>,
    },
}

/// A trunk that was chosen for a request.
#[derive(Debug)]
pub struct Target {
    /// The trunk, and the channel taken on it where one was asked for.
    pub seat: Seat,
    /// Which of its targets.
    pub index: usize,
    /// What the route asks that took the request; none where there are no routes.
    pub rule: Option<Rule>,
    /// How it came to that.
    pub trace: Option<Box<Trace>>,
}

/// A REGISTER, to be decided by the registrar and answered by `Shard::reply`.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Whose it is; given back with the answer.
    pub context: ContextId,
    /// The shard that holds it.
    pub shard: u16,
    /// Index of the listener it came in by.
    pub listener: u8,
    /// Where it came from.
    pub source: SocketAddr,
    /// The connection it came by.
    pub connection: Option<Connection>,
    /// The request.
    pub request: Box<[u8]>,
}

/// "Where does this name lead?" (RFC 3263), for a request inside a dialog. Answered by `Shard::located`.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Whose it is; given back with the answer.
    pub id: LookupId,
    /// The shard that asks.
    pub shard: u16,
    /// The URI of the next hop.
    pub uri: Box<[u8]>,
}

/// Names what waits for a [`Lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupId {
    /// A request with a transaction.
    Request(ContextId),
    /// An ACK, which has none.
    Ack(u64),
}

/// A place that a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub transport: sip::Transport,
}

/// An OPTIONS request to be sent (RFC 3261 §11), for [`crate::Shard::probe`].
#[derive(Clone, Debug)]
pub struct Probe {
    /// Given back with the outcome ([`Event::Probed`]).
    pub token: u64,
    /// The way it goes.
    pub hop: Hop,
    /// Its Request-URI.
    pub request_uri: Box<str>,
    /// URI of its From; none: our own address.
    pub from: Option<Box<str>>,
    /// Given up after this time without an answer, in milliseconds.
    pub timeout: u64,
}

/// Names a response context of a shard; stale ones are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl From<Id> for ContextId {
    fn from(id: Id) -> ContextId {
        ContextId { slot: id.slot, generation: id.generation }
    }
}

impl From<ContextId> for Id {
    fn from(id: ContextId) -> Id {
        Id { slot: id.slot, generation: id.generation }
    }
}

/// The course of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When its request was sent first.
    pub sent: Time,
    /// When the first answer of 180 to 299 to an INVITE came: the end of the post-dial delay.
    pub reached: Option<Time>,
}

/// What the world may want to know of.
#[derive(Debug)]
pub enum Event {
    /// A final answer of one attempt, or its failure (`408` for silence, `503` for a send error).
    Attempt {
        /// The trunk.
        trunk: Arc<routing::Trunk>,
        /// Which of its targets.
        target: usize,
        /// Status code.
        status: u16,
        /// True where the code stands for silence or a send error.
        local: bool,
        /// Whether the peer has said anything at all, were it provisional.
        heard: bool,
        /// Retry-After of a 503, in seconds.
        retry_after: Option<u32>,
        /// Whether it was to begin a call.
        begins_call: bool,
        /// When it began, and when the called party was reached.
        times: Times,
        /// The route that took it; none where there are no routes.
        rule: Option<Rule>,
        /// The called prefix that the route matched; none where it matched without one.
        prefix: Option<Arc<str>>,
    },
    /// An answered call is over: its channel is free again.
    Over {
        /// The trunk.
        trunk: Arc<routing::Trunk>,
        /// The called prefix that its route matched; none where it matched without one.
        prefix: Option<Arc<str>>,
        /// From its answer to its end, in microseconds.
        lasted: u64,
    },
    /// A request of more than 1300 bytes went by UDP, as there was no other way (RFC 3261 §18.1.1).
    Oversized,
    /// The outcome of a [`Probe`].
    Probed {
        /// As it was given.
        token: u64,
        /// Status code; none for silence.
        status: Option<u16>,
        /// It could not even be sent.
        unsent: bool,
        /// Retry-After of a 503, in seconds.
        retry_after: Option<u32>,
        /// From the request to its answer, in microseconds.
        round_trip: u64,
    },
    /// A final answer towards the caller of an INVITE that began a call.
    Answered {
        /// Status code.
        status: u16,
    },
    /// A request was refused without asking any trunk, or after all failed.
    Refused {
        /// One of a fixed set: `breadth`, `dialog`, `draining`, `extension`, `forbidden`, `hops`, `loop`, `malformed`,
        /// `method`, `no_route`, `no_trunk`, `overload`, `privacy`.
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
    /// A stream connection has ended; the driver's own.
    Closed {
        /// The connection.
        connection: Connection,
    },
    /// A call that began by an INVITE has ended, in whatever way; told once for each.
    Ended(Box<CallRecord>),
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
    /// What a source may do; `names` are those of its verified certificate, in lower case.
    fn admit(&self, source: std::net::IpAddr, names: &[Box<str>]) -> Admission;
    /// Where a request goes.
    fn route(&self, question: &Question) -> Answer;
    /// Takes a REGISTER; its answer comes later. One that is given back is dropped without an answer.
    ///
    /// # Errors
    /// The registration, where it cannot be taken.
    fn register(&self, registration: Registration) -> Result<(), Registration>;
    /// Takes a name to resolve; its answer comes later, or never.
    fn locate(&self, lookup: Lookup);
    /// Tells an event.
    fn event(&self, event: Event);
}

/// Collects the outputs of shards.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Arena of the messages to send.
    pub bytes: Vec<u8>,
    /// The messages, in order.
    pub sends: Vec<Transmit>,
    /// Questions, to be answered before the next input of the same shard.
    pub questions: Vec<Question>,
    /// REGISTERs, to be answered at any time.
    pub registrations: Vec<Registration>,
    /// Names to be resolved at any time.
    pub lookups: Vec<Lookup>,
    /// Events.
    pub events: Vec<Event>,
}

impl Outbox {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sends.clear();
        self.questions.clear();
        self.registrations.clear();
        self.lookups.clear();
        self.events.clear();
    }

    /// Appends one message, written by `write` at the end of the arena.
    pub fn send(&mut self, hop: &Hop, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let range = start..self.bytes.len();
        self.sends.push(Transmit { hop: hop.clone(), range: range.clone() });
        range
    }

    /// Takes the last message back.
    pub(crate) fn unsend(&mut self, range: &Range<usize>) {
        self.sends.pop();
        self.bytes.truncate(range.start);
    }
}
