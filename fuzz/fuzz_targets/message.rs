//! No bytes make a reader of the SIP grammar panic, and every byte of a message lies in one part of it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/sip/tests/reads/mod.rs"]
mod reads;

fuzz_target!(|bytes: &[u8]| reads::everything(bytes));
