//! SIP over TCP and TLS (RFC 3261 §18): every connection of the process, in both directions.
//!
//! A connection is a socket and perhaps a TLS session under one lock, so any thread may write to it at once; what does not fit
//! waits in a bounded queue for the connection's own task, which reads, frames and keeps it alive. The lock is never
//! held while a message is handed on: its answer may come back on the same connection.

mod bind;
mod link;
mod links;
mod session;
mod stats;
mod tls;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxy::Connection;

pub use bind::{BoundStream, bind_stream};
pub use links::{Streams, Unsent};
pub use stats::StreamCounts;
pub use tls::{Tls, TlsError, TlsSettings};

/// How a message came.
pub(crate) struct Arrival {
    pub listener: u8,
    pub source: SocketAddr,
    pub connection: Connection,
    /// Names of the peer's verified certificate, in lower case.
    pub names: Arc<[Box<str>]>,
}

/// Who takes what connections bring. Nothing here may block.
pub(crate) trait Sink: Send + Sync + 'static {
    /// One whole message.
    fn received(&self, arrival: &Arrival, message: &[u8]);
    /// A message that was taken but could not go out.
    fn unsent(&self, message: &[u8]);
    /// A connection has ended.
    fn closed(&self, connection: Connection);
}

/// Bounds of the connections.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// Connections in all.
    pub total: usize,
    /// Connections that one address may open to us.
    pub per_source: usize,
    /// A connection must stand after this time, with its TLS session.
    pub connect: Duration,
    /// A peer that connects must have sent one whole message after this time, and every message must be whole this long after
    /// its first byte.
    pub message: Duration,
    /// A connection without a byte for so long is pinged (RFC 5626 §4.4.1).
    pub keepalive: Duration,
    /// A peer that has answered a ping before must answer the next within this time.
    pub pong: Duration,
    /// Bytes that may wait for a peer that does not read.
    pub waiting: usize,
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            total: 10_000,
            per_source: 64,
            connect: Duration::from_secs(4),
            message: Duration::from_secs(5),
            keepalive: Duration::from_secs(15),
            pong: Duration::from_secs(5),
            waiting: 1 << 20,
        }
    }
}
