//! Nothing is bound without the password, nothing twice by one answer, and every answer can be sent.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/registrar/tests/asks/mod.rs"]
mod asks;

fuzz_target!(|bytes: &[u8]| asks::everything(bytes));
