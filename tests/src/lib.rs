//! Harness of the whole-process tests: the real binary, SIPp and plain sockets as its peers.
//!
//! Every test has a loopback address of its own (127.0.0.0/8 is wide), so ports never collide and all
//! tests may run at once, or twice. What a test starts ends with it.

mod certificates;
mod dns;
mod postgres;
mod programs;
mod receiver;
mod server;
mod sipp;
mod udp;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub use certificates::Certificates;
pub use dns::{Dns, Mood};
pub use postgres::Postgres;
pub use programs::{Baresip, Kamailio};
pub use receiver::{Post, Receiver, Reply};
pub use server::{Answer, Server, binary};
pub use sipp::{Peer, Uac, uas, uas_by};
pub use udp::{Phone, header, reply};

/// An address of 127.0.0.0/8 that no other test has.
pub fn own_address() -> Ipv4Addr {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    let [a, b, c, ..] = random.to_be_bytes();
    Ipv4Addr::new(127, a.clamp(1, 250), b, c.clamp(1, 250))
}

/// Waits until something holds; fails the test after `most`.
#[track_caller]
pub fn wait_until(what: &str, most: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < most, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// MD5 of a text, in hexadecimal digits.
pub fn md5_hex(text: &[u8]) -> String {
    use md5::Digest;
    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
