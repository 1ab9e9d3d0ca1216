//! What is dropped before it is read, so that a flood costs little more than its receiving.
//!
//! Sources that the shards have blocked; and while unknown sources send more than they may, all unknown ones. Peers that are
//! known pass as ever.

use std::net::IpAddr;

use proxy::{Block, Time};

use crate::engine::Shared;

/// Length of a window, in microseconds.
const WINDOW: u64 = 100_000;
/// Requests of unknown sources that one thread reads in a window.
const UNKNOWN: u32 = 500;

#[derive(Debug, Default)]
pub(crate) struct Guard {
    since: u64,
    unknown: u32,
}

impl Guard {
    /// Whether a datagram is to be read.
    pub fn passes(&mut self, shared: &Shared, now: Time, source: IpAddr, bytes: &[u8]) -> bool {
        match shared.proxy.blocked.check(source, now) {
            Some(Block::All) => return false,
            Some(Block::Register) if bytes.starts_with(b"REGISTER ") => return false,
            Some(Block::Register) | None => {}
        }
        if now.0.saturating_sub(self.since) >= WINDOW {
            self.since = now.0;
            self.unknown = 0;
        }
        self.unknown < UNKNOWN || shared.router.admit(source, &[]).allowed
    }

    /// A request of an unknown source was read.
    pub fn note_unknown(&mut self) {
        self.unknown += 1;
    }
}
