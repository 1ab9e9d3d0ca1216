//! UDP sockets and name resolution; drives the proxy shards.
//!
//! The data path is plain threads: each blocks in one batched receive, hands every datagram to the
//! shard that owns its call, and sends what the shards put out in one batched send. No lock of the
//! whole, no runtime, no name look-up on that path: a [`Router`](proxy::Router) answers from what
//! is known already. Names are resolved beside it ([`Names`]), on the runtime of the caller.
//!
//! Invariants: a thread never holds two shards; it never spins, whatever errors the network brings;
//! a datagram that could not be delivered is told to the shard that sent it, so that its call moves
//! on at once instead of after a time-out.

mod clock;
mod engine;
mod guard;
mod hands;
mod locate;
mod names;
mod resolve;
mod sender;
mod socket;
mod stats;
mod stream;
mod syscall;
mod worker;

pub use clock::Clock;
pub use engine::{Bound, Engine, EngineConfig, StartError};
pub use locate::Service;
pub use names::{Names, Settings as NamesSettings, State};
pub use resolve::{Lookup, ResolveError, Resolved, Resolver};
pub use socket::{BindError, BoundSocket, bind};
pub use stats::Counts;
pub use stream::{BoundStream, StreamCounts, StreamSettings, Streams, Tls, TlsError, TlsSettings, Unsent, bind_stream};
