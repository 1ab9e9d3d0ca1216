//! A process that is killed while it writes: what it had written is whole, and the next one delivers it.

#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use records::{Record, Records, Settings};
use serde_json::Value;

/// Names the directory to write to, in the process that will be killed.
const VICTIM: &str = "RECORDS_VICTIM";

fn record(number: u64) -> Record {
    let now = Timestamp::now();
    Record { answered_at: Some(now), ..Record::new(format!("call-{number}"), ([127, 0, 0, 1], 5060).into(), now) }
}

fn lines(directory: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("calls-"));
    files.sort();
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: what is killed.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let settings = Settings { rotate_bytes: 20_000, ..Settings::new(directory.into()) };
    let records = Records::start(settings).unwrap();
    let begun = Instant::now();
    for number in 0.. {
        records.offer(record(number));
        // No faster than the writer: nothing is to be shed.
        while number % 100 == 0 && records.snapshot().waiting > 1000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody has killed me");
    }
}

#[test]
fn what_a_killed_process_had_written_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for round in 0..3 {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "victim"]).env(VICTIM, dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let victim = Ended(victim.spawn().unwrap());
        let begun = Instant::now();
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        let before = files();
        while files() < before + 10 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it writes nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(victim);
        // The next process cuts what was torn; here it is this one.
        let records = Records::start(Settings::new(dir.path().to_owned())).unwrap();
        records.stop(Duration::from_secs(60));
        let lines = lines(dir.path());
        let ids: BTreeSet<String> = lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), lines.len(), "round {round}: no id comes twice");
        assert!(ids.is_superset(&seen), "round {round}: nothing of an earlier process is lost");
        seen = ids;
    }
    // Of one process the numbers follow each other: nothing in between is missing.
    let numbers: Vec<u64> = lines(dir.path())
        .iter()
        .map(|line| line["call_id"].as_str().unwrap().strip_prefix("call-").unwrap().parse().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 0));
}
