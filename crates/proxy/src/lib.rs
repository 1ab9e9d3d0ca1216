//! Stateful SIP proxy as a value: no sockets, no clock, no randomness of its own (RFC 3261 §16).
//!
//! The contract of a [`Shard`]: a driver calls an input method (`receive`, `answer`, `undeliverable`,
//! `fire`) with the time and an [`Outbox`]; after each input it answers the [`Question`]s that it
//! finds there by `answer`, at once or later; the datagrams and events of the outbox may be gathered
//! over many inputs. `next_timeout` says when `fire` wants to be called at the latest.
//!
//! A call lives in one shard, named by [`owner`]: INVITE, CANCEL, ACK, BYE and every response of it
//! meet the same state, so a shard needs no lock inside and two shards never meet.

mod call;
mod client;
mod config;
mod context;
mod edits;
mod forward;
mod io;
mod key;
mod keys;
mod reply;
mod requests;
mod responses;
mod route;
mod server;
mod shard;
mod slab;
mod timers;
mod via;
mod wheel;

pub use call::CallView;
pub use config::{Config, Gate, Listener};
pub use io::{Answer, Connection, ContextId, Datagram, Event, Hop, Outbox, Question, Router, Target, Time, Transmit};
pub use keys::{Keys, owner, owner_of_bytes};
pub use requests::refuse_malformed;
pub use shard::Shard;
