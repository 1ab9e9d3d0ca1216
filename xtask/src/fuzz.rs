//! `cargo xtask fuzz`: the parser against hostile bytes.

use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{cargo, has, step};

/// Runs the fuzz target for a minute, or for as many seconds as told.
pub fn run(args: &[&str]) -> Result<()> {
    let seconds: u32 =
        args.first().map_or(Ok(60), |seconds| seconds.parse()).context("expected a number of seconds")?;
    if !has("cargo-fuzz") {
        step("install cargo-fuzz", Command::new(cargo()).args(["install", "cargo-fuzz", "--locked", "--quiet"]))?;
    }
    // Sanitizers want a nightly compiler; the rustup proxy picks it, so not the cargo that runs us.
    let limit = format!("-max_total_time={seconds}");
    let mut fuzz = Command::new("cargo");
    fuzz.args(["+nightly", "fuzz", "run", "message", "--", &limit, "-max_len=8192"]);
    step("fuzz message", fuzz.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN"))
}
