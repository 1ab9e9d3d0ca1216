//! `cargo xtask fuzz`: what parses, and what acts on what was parsed, against hostile input.
//!
//! The fuzzer is libFuzzer. Its instrumentation is a pass of LLVM that stable compilers have as well; only sanitizers of memory
//! would need a nightly one, and no crate here has unsafe code but `net`, which is not fuzzed. What a target does is a module of
//! the tests of its crate, so `cargo test` runs it over the corpus in the tree.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, root, step};

/// Seconds for each target in a long run.
const LONG: u32 = 600;
/// Seconds for each target unless told.
const SHORT: u32 = 60;
/// A line of progress comes this often.
const PROGRESS: Duration = Duration::from_secs(15);
/// Lines that are shown of a finding.
const SHOWN: usize = 40;

struct Target {
    name: &'static str,
    /// Longest input.
    longest: u32,
    /// Further inputs to begin with, from the root of the workspace.
    seeds: &'static [&'static str],
}

const TARGETS: [Target; 5] = [
    Target { name: "message", longest: 8192, seeds: &["tests/messages/rfc4475", "tests/messages/rfc5118"] },
    Target { name: "framing", longest: 4096, seeds: &[] },
    Target { name: "uri", longest: 1024, seeds: &[] },
    Target { name: "register", longest: 4096, seeds: &[] },
    Target { name: "engine", longest: 1024, seeds: &[] },
];

/// Coverage of edges and compared values; a library built otherwise is fuzzed blindly.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
];

/// What libFuzzer says in a line such as `#1024 pulse cov: 311 ft: 1029 corp: 190/9Kb exec/s: 512 rss: 40Mb`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Figures {
    executions: u64,
    coverage: u64,
    corpus: u64,
}

/// What became of one target.
struct Summary {
    name: &'static str,
    figures: Figures,
    seconds: u64,
    kept: usize,
    finding: Option<PathBuf>,
}

/// `[--long | SECONDS] [TARGET]…`: a minute for each target unless told, ten with `--long`; all targets unless some are named.
pub fn run(args: &[&str]) -> Result<()> {
    let mut seconds = SHORT;
    let mut chosen = Vec::new();
    for arg in args {
        if *arg == "--long" {
            seconds = LONG;
        } else if let Ok(number) = arg.parse() {
            seconds = number;
        } else if let Some(target) = TARGETS.iter().find(|target| target.name == *arg) {
            chosen.push(target);
        } else {
            let names = TARGETS.map(|target| target.name).join(", ");
            bail!("expected --long, a number of seconds or a target ({names}), not {arg}");
        }
    }
    if chosen.is_empty() {
        chosen.extend(&TARGETS);
    }
    let programs = build()?;
    let mut summaries = Vec::new();
    for target in chosen {
        summaries.push(fuzz(&programs.join(target.name), target, seconds)?);
    }
    println!("── summary");
    let mut findings = 0;
    for Summary { name, figures, seconds, kept, finding } in &summaries {
        let Figures { executions, coverage, corpus } = figures;
        findings += usize::from(finding.is_some());
        println!(
            "   {name}: {executions} executions in {seconds} s, {coverage} edges covered, corpus of {corpus}, {kept} new ones kept, {}",
            finding.as_ref().map_or("no finding".to_owned(), |file| format!("FINDING: {}", file.display()))
        );
    }
    if findings > 0 {
        bail!(
            "{findings} of the targets found something; once mended, keep the input in fuzz/corpus under a name that tells"
        );
    }
    Ok(())
}

/// Builds all targets; gives the directory of their programs.
fn build() -> Result<PathBuf> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let made = root().join("fuzz/target");
    let mut build = Command::new(cargo());
    // With a target named, what runs while building is built without the flags.
    build.args(["build", "--manifest-path", "fuzz/Cargo.toml", "--release", "--locked", "--quiet", "--target", host]);
    build.arg("--target-dir").arg(&made).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    step("build the fuzz targets", &mut build)?;
    Ok(made.join(host).join("release"))
}

/// Fuzzes one target, then keeps in the tree what covers more than is there.
fn fuzz(program: &Path, target: &Target, seconds: u32) -> Result<Summary> {
    let fuzz = root().join("fuzz");
    let found = fuzz.join("target/corpus").join(target.name);
    let artifacts = fuzz.join("artifacts").join(target.name);
    for directory in [&found, &artifacts, &corpus(target)] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    println!("── fuzz {} for {seconds} s", target.name);
    let mut command = Command::new(program);
    command.arg(&found).arg(corpus(target)).args(target.seeds.iter().map(|seeds| root().join(seeds)));
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={}", target.longest)]);
    command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    command.arg(option("-dict=", &fuzz.join("sip.dict"))).arg(option("-artifact_prefix=", &artifacts.join("")));
    let begun = Instant::now();
    let (figures, finding) = watch(&mut command)?;
    let seconds = begun.elapsed().as_secs();
    let kept = if finding.is_none() { keep(program, target, &found)? } else { 0 };
    Ok(Summary { name: target.name, figures, seconds, kept, finding })
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

fn corpus(target: &Target) -> PathBuf {
    root().join("fuzz/corpus").join(target.name)
}

/// Runs the fuzzer to its end, with a line of progress now and then; gives its last figures, and the input that it found.
fn watch(command: &mut Command) -> Result<(Figures, Option<PathBuf>)> {
    let program = format!("{command:?}");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().with_context(|| program.clone())?;
    let lines = BufReader::new(child.stderr.take().context("the fuzzer has no output")?).split(b'\n');
    let (mut figures, mut told, mut last) = (Figures::default(), Instant::now(), Vec::new());
    let mut finding = None;
    for line in lines {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(read) = Figures::read(&line) {
            figures = read;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                println!("   {line}");
            }
            continue;
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            finding = Some(PathBuf::from(file.trim()));
        }
        if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:") {
            figures.executions = executions.trim().parse().unwrap_or(figures.executions);
        }
        last.push(line);
        if last.len() > 10 * SHOWN {
            last.drain(..9 * SHOWN);
        }
    }
    let status = child.wait()?;
    if status.success() {
        return Ok((figures, None));
    }
    let panic = last.iter().position(|line| line.contains("panicked at")).unwrap_or(last.len().saturating_sub(SHOWN));
    println!("   {}", last[panic..].iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n   "));
    // A unit that was merely slow is written too, but the fuzzer goes on; a failure without one is none of the target's.
    let file = finding.with_context(|| format!("the fuzzer ended with {status}: {program}"))?;
    Ok((figures, Some(file)))
}

impl Figures {
    fn read(line: &str) -> Option<Figures> {
        let mut words = line.strip_prefix('#')?.split_whitespace();
        let executions = words.next()?.parse().ok()?;
        let rest: Vec<&str> = words.collect();
        let after = |name: &str| {
            let at = rest.iter().position(|word| *word == name)?;
            rest.get(at + 1)?.split('/').next()?.parse().ok()
        };
        Some(Figures { executions, coverage: after("cov:")?, corpus: after("corp:").unwrap_or(0) })
    }
}

/// Adds to the corpus in the tree a smallest set of inputs that covers what nothing there covers: edges alone, or it would be
/// thousands. Gives how many.
fn keep(program: &Path, target: &Target, found: &Path) -> Result<usize> {
    let merged = root().join("fuzz/target/merged").join(target.name);
    if merged.exists() {
        fs::remove_dir_all(&merged)?;
    }
    fs::create_dir_all(&merged)?;
    let seeds = target.seeds.iter().map(|seeds| root().join(seeds));
    for directory in seeds.chain([corpus(target)]) {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            fs::copy(entry.path(), merged.join(entry.file_name()))?;
        }
    }
    let before = names(&merged)?;
    let mut merge = Command::new(program);
    merge.arg("-set_cover_merge=1").arg("-use_counters=0").arg(format!("-max_len={}", target.longest));
    merge.arg(&merged).arg(found).stderr(Stdio::null());
    if !merge.status().context("merge")?.success() {
        bail!("{}: the corpora could not be merged: {merge:?}", target.name);
    }
    let new: Vec<OsString> = names(&merged)?.difference(&before).cloned().collect();
    for name in &new {
        fs::copy(merged.join(name), corpus(target).join(name))?;
    }
    Ok(new.len())
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    Ok(entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_fuzzers_lines_are_read() {
        let figures = |executions, coverage, corpus| Some(Figures { executions, coverage, corpus });
        let line = "#2097152\tpulse  cov: 311 ft: 1029 corp: 190/9Kb lim: 58 exec/s: 699050 rss: 40Mb";
        assert_eq!(Figures::read(line), figures(2_097_152, 311, 190));
        assert_eq!(Figures::read("#2\tINITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 30Mb"), figures(2, 7, 1));
        for other in ["INFO: seed corpus: files: 5", "#x", "==12== ERROR: libFuzzer: deadly signal", ""] {
            assert_eq!(Figures::read(other), None);
        }
    }
}
