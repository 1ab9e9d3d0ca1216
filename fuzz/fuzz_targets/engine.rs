//! Whatever peers, trunks, the registrar, name servers and time do: what is sent is a message, what is held is bounded, and
//! everything ends.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/proxy/tests/events/mod.rs"]
mod events;

fuzz_target!(|bytes: &[u8]| events::everything(bytes));
