//! `cargo xtask test`: everything that must hold before a change lands.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::run::{binary, build_release, cargo, has, step};
use crate::{deps, size};

/// Programs that the tests talk to, and the Debian packages of each.
const PEERS: [(&str, &[&str]); 5] = [
    ("sipp", &["sip-tester"]),
    ("curl", &["curl"]),
    ("kamailio", &["kamailio", "kamailio-tls-modules"]),
    ("baresip", &["baresip-core"]),
    ("initdb", &["postgresql"]),
];

/// Installs what is missing, then runs all checks and tests.
pub fn run() -> Result<()> {
    install()?;
    step("fmt", Command::new(cargo()).args(["fmt", "--all", "--check"]))?;
    deps::check()?;
    size::check()?;
    let lint = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    step("clippy", Command::new(cargo()).args(lint))?;
    step(
        "doc",
        Command::new(cargo()).args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    deny()?;
    // The fuzz targets are a workspace of their own, built when they are run.
    let locked = ["metadata", "--manifest-path", "fuzz/Cargo.toml", "--locked", "--format-version", "1"];
    step("fuzz/Cargo.lock is of now", Command::new(cargo()).args(locked).stdout(Stdio::null()))?;
    build_release()?;
    step("tests", Command::new(cargo()).args(["test", "--workspace", "--locked"]).env("TESTED_BINARY", binary()))
}

/// Checks licences, bans and sources; advisories too where their database can be reached.
pub fn deny() -> Result<()> {
    if !has("cargo-deny") {
        step(
            "install cargo-deny",
            Command::new(cargo()).args(["install", "cargo-deny", "--locked", "--quiet"]).env_remove("CARGO_TARGET_DIR"),
        )?;
    }
    step("deny", Command::new(cargo()).args(["deny", "--locked", "check", "bans", "licenses", "sources"]))?;
    let mut advisories = Command::new(cargo());
    advisories.args(["deny", "--locked", "check", "advisories"]).stdout(Stdio::null());
    let output = advisories.current_dir(crate::run::root()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("   advisories: none");
    } else if text.contains("failed to fetch advisory database")
        || text.contains("unable to fetch")
        || text.contains("unable to load")
    {
        println!("   advisories: not checked, their database cannot be reached from here");
    } else {
        bail!("advisories:\n{text}");
    }
    Ok(())
}

fn install() -> Result<()> {
    let missing: Vec<&str> = PEERS
        .iter()
        .filter(|(program, _)| !is_there(program) || (*program == "kamailio" && !has_kamailio_tls()))
        .flat_map(|(_, packages)| *packages)
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("install these Debian packages by hand: {}", missing.join(" "));
    if !has("apt-get") {
        bail!("the tests need programs that only apt-get can bring here; {by_hand}");
    }
    let apt = |args: &[&str]| {
        // Root needs no sudo, and may not have it.
        let mut command = if has("sudo") && !is_root() { Command::new("sudo") } else { Command::new("env") };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]).args(args);
        command
    };
    let done = step("apt-get update", &mut apt(&["update"]))
        .and_then(|()| step("apt-get install", apt(&["install", "--no-install-recommends"]).args(&missing)));
    if let Err(error) = done {
        bail!("{error:#}; {by_hand}");
    }
    Ok(())
}

/// Debian keeps the programs of each version of PostgreSQL beside the path.
fn is_there(program: &str) -> bool {
    let mut versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    has(program) || versions.any(|entry| entry.path().join("bin").join(program).exists())
}

/// Kamailio's TLS is a package of its own.
fn has_kamailio_tls() -> bool {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut places = places.map(|entry| entry.path()).chain(["/usr/lib".into(), "/usr/lib64".into()]);
    places.any(|place| place.join("kamailio/modules/tls.so").exists())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
