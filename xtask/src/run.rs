//! Running other programs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// The cargo that runs us.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Runs a step to its end, with its name before and its time after it.
pub fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("── {name}");
    let begun = Instant::now();
    let status =
        command.current_dir(root()).stdin(Stdio::null()).status().with_context(|| format!("{name}: {command:?}"))?;
    println!("   {name}: {:.1} s", begun.elapsed().as_secs_f64());
    if !status.success() {
        bail!("{name} failed");
    }
    Ok(())
}

/// Whether a program can be found.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The release binary.
pub fn binary() -> PathBuf {
    target_dir().join("release/trunkline")
}

/// Builds the release binary.
pub fn build_release() -> Result<()> {
    step("build", Command::new(cargo()).args(["build", "--release", "--locked", "-p", "trunkline"]))
}
