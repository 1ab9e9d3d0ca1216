//! No bytes make a reader of URIs, addresses and parameters panic, and the parts that it finds make up the whole.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/sip/tests/addresses/mod.rs"]
mod addresses;

fuzz_target!(|bytes: &[u8]| addresses::everything(bytes));
