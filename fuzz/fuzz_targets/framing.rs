//! However a stream is cut, the same messages are in it, and none is longer than it may be.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/sip/tests/cuts/mod.rs"]
mod cuts;

fuzz_target!(|bytes: &[u8]| cuts::everything(bytes));
