//! The Trunkline binary: settings, wiring and commands.
fn main() {}
