//! Lengths: a file near 600 lines or a function near 80 is asking for a new room.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::root;

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 80;

/// Fails with every file and function that is too long.
pub fn check() -> Result<()> {
    println!("── check-size");
    let mut files = Vec::new();
    for place in ["crates", "xtask", "tests", "fuzz/fuzz_targets"] {
        collect(&root().join(place), &mut files);
    }
    let mut long = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{name}: {lines} lines, at most {LONGEST_FILE}"));
        }
        long.extend(
            long_functions(&text).into_iter().map(|(line, length)| {
                format!("{name}:{line}: a function of {length} lines, at most {LONGEST_FUNCTION}")
            }),
        );
    }
    if !long.is_empty() {
        bail!("too long:\n  {}", long.join("\n  "));
    }
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// First line and length of each function that is too long. The code is formatted, so a function ends at the
/// closing brace in the column of its `fn`.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let word = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if !(word.starts_with("fn ") || word.starts_with("async fn ")) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[at..].iter().position(|line| *line == end)
            && length + 1 > LONGEST_FUNCTION
        {
            long.push((at + 1, length + 1));
        }
    }
    long
}
