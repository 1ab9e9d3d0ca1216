//! Stateful SIP proxy as a value: no sockets, no clock, no randomness of its own (RFC 3261 §16).
//!
//! The contract of a [`Shard`]: a driver calls an input method (`receive`, `answer`, `reply`, `located`, `probe`,
//! `undeliverable`, `fire`) with the time and an [`Outbox`]; after each input it answers the [`Question`]s that it
//! finds there by `answer`; the messages, events, registrations and look-ups of the outbox may be gathered
//! over many inputs, and the latter two be answered at any time. `next_timeout` says when `fire` wants to be called at
//! the latest.
//!
//! A call lives in one shard, named by [`owner`]: INVITE, CANCEL, ACK, BYE and every response of it
//! meet the same state, so a shard needs no lock inside and two shards never meet.

mod call;
mod client;
mod config;
mod context;
mod dialogs;
mod edits;
mod forward;
mod history;
mod identity;
mod io;
mod key;
mod keys;
mod loads;
mod numbers;
mod probes;
mod record;
mod registrations;
mod reply;
mod requests;
mod responses;
mod route;
mod server;
mod shard;
mod slab;
mod timers;
mod treat;
mod trunks;
mod via;
mod wheel;

pub use call::CallView;
pub use config::{Block, Blocked, Config, Gate, Listener};
pub use io::{
    Answer, Connection, ContextId, Event, Hop, Inbound, Located, Lookup, LookupId, Outbox, Probe, Question,
    Registration, Router, Target, Time, Times, Transmit,
};
pub use keys::{Keys, owner, owner_of_bytes, owner_of_call};
pub use loads::Held;
pub use record::{AttemptRecord, CallRecord, Cause, Local, Party};
pub use requests::refuse_malformed;
pub use shard::Shard;
