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
        if !begins_function(line) {
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

/// Whether nothing but visibility and qualifiers stands before `fn`.
fn begins_function(line: &str) -> bool {
    let qualifier = |word: &&str| matches!(*word, "pub" | "const" | "async" | "unsafe") || word.starts_with("pub(");
    line.split_whitespace().find(|word| !qualifier(word)) == Some("fn")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_FUNCTION, long_functions};

    #[test]
    fn a_function_is_measured_to_its_own_brace() {
        for head in ["fn", "pub fn", "pub(super) fn", "pub(crate) const unsafe fn", "pub async fn"] {
            let text =
                |body: usize| format!("impl X {{\n    {head} f() {{\n{}    }}\n}}\n", "        x();\n".repeat(body));
            assert_eq!(long_functions(&text(LONGEST_FUNCTION - 2)), [], "{head}");
            assert_eq!(long_functions(&text(LONGEST_FUNCTION - 1)), [(2, LONGEST_FUNCTION + 1)], "{head}");
        }
    }
}
