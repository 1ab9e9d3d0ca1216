//! Dependency directions: each crate may use only those above it, and the pure ones stay pure.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo, root};

/// From the top of the house to its bottom.
const ORDER: [&str; 13] = [
    "sip",
    "registrar",
    "registry",
    "liveness",
    "quality",
    "routing",
    "proxy",
    "records",
    "store",
    "control",
    "net",
    "api",
    "trunkline",
];

/// What a crate must not depend on, beside what lies below it: (crate, forbidden, why).
const FORBIDDEN: &[(&[&str], &[&str], &str)] = &[
    (
        &["sip", "registrar", "registry", "liveness", "quality", "routing", "proxy"],
        &["tokio", "socket2", "libc", "getrandom", "rand", "axum", "tracing", "parking_lot"],
        "pure crates read no clock, random source, socket or file",
    ),
    (&["proxy"], &["registry"], "the engine asks a question and takes an answer"),
    (&["store", "control"], &["axum", "sip", "routing", "proxy"], "records know neither HTTP nor SIP"),
    (
        &["records"],
        &["sip", "registry", "routing", "proxy", "axum"],
        "records of calls know neither how calls are made nor who asks for them",
    ),
    (&["registry"], &["store"], "decisions know no engine"),
    (&["net"], &["registry", "store", "control", "axum"], "sockets know neither trunks nor HTTP"),
    (&["api"], &["sip", "routing", "proxy", "net", "socket2"], "HTTP knows nothing of SIP"),
];

/// Fails with every edge that goes the wrong way.
pub fn check() -> Result<()> {
    println!("── check-deps");
    let wrong = wrong(&graph()?);
    if !wrong.is_empty() {
        bail!("dependency directions:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Every edge that goes the wrong way, in words.
fn wrong(graph: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, uses) in graph {
        let Some(place) = ORDER.iter().position(|other| other == name) else {
            wrong.push(format!("{name} is not in the plan of the house (xtask/src/deps.rs)"));
            continue;
        };
        for used in uses {
            if ORDER.iter().position(|other| other == used).is_some_and(|other| other >= place) {
                wrong.push(format!("{name} uses {used}, which lies below it"));
            }
            for (crates, forbidden, why) in FORBIDDEN {
                if crates.contains(&name.as_str()) && forbidden.contains(&used.as_str()) {
                    wrong.push(format!("{name} uses {used}: {why}"));
                }
            }
        }
    }
    wrong
}

/// Crates of the product and what each uses (not for its tests), by short name.
fn graph() -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new(cargo())
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(root())
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let short = |name: &str| name.strip_prefix("trunkline-").unwrap_or(name).to_owned();
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut graph = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if !package["manifest_path"].as_str().unwrap_or_default().contains("/crates/") {
            continue;
        }
        let uses = package["dependencies"].as_array().into_iter().flatten();
        let uses = uses.filter(|used| used["kind"].is_null()).filter_map(|used| used["name"].as_str()).map(short);
        graph.insert(short(name), uses.collect());
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, wrong};

    #[test]
    fn wrong_edges_are_named() {
        let found = |name: &str, used: &str| wrong(&BTreeMap::from([(name.to_owned(), vec![used.to_owned()])]));
        for (name, used) in
            [("sip", "routing"), ("proxy", "tokio"), ("proxy", "registry"), ("api", "net"), ("new", "sip")]
        {
            assert_eq!(found(name, used).len(), 1, "{name} uses {used}");
        }
        for (name, used) in [("proxy", "routing"), ("trunkline", "api"), ("net", "tokio")] {
            assert_eq!(found(name, used), [""; 0], "{name} uses {used}");
        }
    }
}
