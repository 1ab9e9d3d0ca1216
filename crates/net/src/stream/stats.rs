//! What the connections have seen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct StreamStats {
            $(pub $name: AtomicU64,)*
        }

        /// Counters since the start, read one by one.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StreamCounts {
            /// Connections that stand now.
            pub open: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl StreamStats {
            pub fn read(&self, open: u64) -> StreamCounts {
                StreamCounts { open, $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that peers opened to us.
    accepted,
    /// Connections that we opened.
    connected,
    /// Connections refused by a limit.
    refused,
    /// Connections that we could not open.
    unreachable,
    /// TLS handshakes that failed, in both directions.
    handshakes_failed,
    /// Connections closed as no whole message came in time.
    slow_senders,
    /// Connections closed as the peer did not read.
    slow_readers,
    /// Connections closed as what they brought was no SIP.
    malformed,
    /// Connections closed as a ping was not answered.
    dead,
    /// Unproven connections closed to make room.
    evicted,
    /// Pings received and answered.
    pings,
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
