//! SIGKILL at random moments: what was acknowledged is there, what was deleted is not, and the store opens again.
//!
//! The test runs itself as the process to be killed; the child says on its output what was acknowledged.
#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use store::embedded::{Embedded, Options};
use store::{Store, Write};

const DIRECTORY: &str = "STORE_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 12;
const KEYS: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_deleted_is_back() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return write_until_killed(Path::new(&directory)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        // Per key the last number that was acknowledged, and whether that deleted it.
        let told = run_and_kill(dir.path(), Duration::from_millis(30 + 37 * (round * 7 % ROUNDS)));
        acknowledged += told.len();
        let store = Embedded::open(dir.path(), Options::default()).unwrap();
        for (key, (number, deleted)) in told {
            let found =
                store.get(&key).await.unwrap().map(|entry| String::from_utf8_lossy(&entry.value).parse::<u64>());
            let found = found.map(Result::unwrap);
            // One write more than was told may have reached the disk before its acknowledgement was read.
            let next_deletes = deletes(number + 1);
            match (deleted, found) {
                (false, Some(found)) => {
                    assert!(found == number || found == number + 1, "{key}: {number}, found {found}")
                }
                (false, None) => assert!(next_deletes, "{key}: acknowledged {number} is lost"),
                (true, None) => {}
                (true, Some(found)) => assert_eq!(found, number + 1, "{key}: deleted by {number} and back"),
            }
        }
    }
    assert!(acknowledged > 0, "no write was acknowledged in any round: the test tested nothing");
}

fn deletes(number: u64) -> bool {
    number % 3 == 2
}

fn run_and_kill(dir: &Path, after: Duration) -> BTreeMap<String, (u64, bool)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_acknowledged_is_lost_and_nothing_deleted_is_back", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (first, started) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut told = BTreeMap::new();
        for line in output.lines().map_while(Result::ok) {
            let Some((key, number)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            // A line cut by the kill is no acknowledgement.
            let Some(number) = number.strip_suffix('.').and_then(|n| n.parse().ok()) else {
                continue;
            };
            told.insert(key.to_owned(), (number, deletes(number)));
            let _ = first.send(());
        }
        told
    });
    started.recv_timeout(Duration::from_secs(30)).expect("the child acknowledges a write");
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Sixteen writers, each counting up under a key of its own for ever.
async fn write_until_killed(dir: &Path) {
    let store = std::sync::Arc::new(Embedded::open(dir, Options { log_keep: 100, ..Options::default() }).unwrap());
    for key in 0..KEYS {
        let store = store.clone();
        tokio::spawn(async move {
            let key = format!("k{key}");
            let mut number = match store.get(&key).await.unwrap() {
                Some(entry) => String::from_utf8_lossy(&entry.value).parse::<u64>().unwrap() + 1,
                None => 0,
            };
            loop {
                let write = if deletes(number) {
                    Write::delete(key.clone())
                } else {
                    Write::put(key.clone(), number.to_string())
                };
                store.commit(vec![write]).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {key} {number}.").unwrap();
                out.flush().unwrap();
                drop(out);
                number += 1;
            }
        });
    }
    std::future::pending().await
}
