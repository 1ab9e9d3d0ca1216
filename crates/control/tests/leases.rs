//! Leases against the real clock: a hundred thousand at once, and what becomes of those that nobody renews.
#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{Actor, Control};
use jiff::Timestamp;
use registry::{Beat, Command, Condition, Now, Registry, Settings};
use store::embedded::{Embedded, Options};
use store::{Store, Write};

const TRUNKS: usize = 100_000;
const LEASE: Duration = Duration::from_secs(15);
/// The promise is a second; looking every 100 ms leaves room for a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(1);

fn id(n: usize) -> String {
    format!("trunk-{n:06}")
}

/// Fills a store as if so many trunks had registered, without a hundred thousand fsyncs.
async fn fill(store: &dyn Store) {
    let registry = Registry::new(Settings::default());
    let now = Now { mono_ms: 0, wall: Timestamp::now() };
    let body = br#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":5}"#;
    let writes: Vec<Write> = (0..TRUNKS)
        .flat_map(|n| {
            let command = Command::Register { id: id(n), body: body.to_vec(), condition: Condition::default() };
            registry.decide(&command, now).unwrap().writes
        })
        .map(|write| Write::put(write.key, write.value.unwrap()))
        .collect();
    for batch in writes.chunks(store::MAX_WRITES) {
        store.commit(batch.to_vec()).await.unwrap();
    }
}

/// Whether a trunk is up, and when its lease ends or ended.
fn lease(control: &Control, n: usize) -> (bool, Timestamp) {
    let view = control.read(|registry, now| registry.view(&id(n), now)).unwrap();
    (view.up, view.lease_expires_at.unwrap())
}

/// Follows trunks until each has gone down; none may be early, none late.
async fn follow_down(control: &Control, mut promised: HashMap<usize, Timestamp>) -> Duration {
    let deadline = Instant::now() + 3 * LEASE;
    let mut latest = Duration::ZERO;
    while !promised.is_empty() {
        assert!(Instant::now() < deadline, "still up: {promised:?}");
        promised.retain(|n, end| {
            let (up, _) = lease(control, *n);
            let late = Timestamp::now().duration_since(*end);
            // Views are rounded to the millisecond.
            assert!(up || late >= jiff::SignedDuration::from_millis(-2), "{} went down {late:?} early", id(*n));
            if !up {
                latest = latest.max(Duration::try_from(late).unwrap_or_default());
            }
            up
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    latest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_leases_lapse_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
    fill(&*store).await;
    let control = Control::open(store.clone(), Settings::default()).await.unwrap();
    assert_eq!(control.read(|registry, _| registry.len()), TRUNKS);
    // What was there before history began is noted once, at the start.
    let before = store.revision().await;
    let loaded = Timestamp::now();
    let silent: HashMap<usize, Timestamp> = (0..TRUNKS).step_by(1000).map(|n| (n, lease(&control, n).1)).collect();
    for end in silent.values() {
        let left = Duration::try_from(end.duration_since(loaded)).unwrap();
        assert!(
            left + Duration::from_secs(10) > LEASE,
            "a restart begins every lease anew, not {left:?} before its end"
        );
    }

    // The odd ones beat, spread over two seconds, from two tasks.
    let beats = |task: usize| {
        let control = control.clone();
        move || {
            for (beat, n) in (1..TRUNKS).step_by(2).skip(task).step_by(2).enumerate() {
                assert_eq!(control.heartbeat(&id(n)), Beat::Renewed);
                if beat % 250 == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    };
    let tasks: Vec<_> = (0..2).map(|task| tokio::task::spawn_blocking(beats(task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let beating: HashMap<usize, Timestamp> = (1..TRUNKS).step_by(998).map(|n| (n, lease(&control, n).1)).collect();
    assert!(beating.keys().all(|n| n % 2 == 1));

    let (silent, beating) = tokio::join!(follow_down(&control, silent), follow_down(&control, beating));
    println!("latest of those that fell silent {silent:?}, of those that beat {beating:?}");
    assert!(silent < LATE && beating < LATE, "lapsed late: {silent:?}, {beating:?}");
    assert_eq!(store.revision().await, before, "heartbeats and lapses write nothing");
    assert_eq!(control.heartbeat(&id(0)), Beat::Renewed, "a heartbeat brings a lapsed trunk back");
    assert!(lease(&control, 0).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_stays_away_is_deregistered_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
    let settings = Settings { deregister_after: Duration::from_secs(1), ..Settings::default() };
    let control = Control::open(store.clone(), settings).await.unwrap();
    let count = 500;
    for n in 0..count {
        let body = if n == 0 {
            br#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":0}"#.to_vec()
        } else {
            br#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":5}"#.to_vec()
        };
        control
            .execute(Command::Register { id: id(n), body, condition: Condition::default() }, &Actor::Unknown)
            .await
            .unwrap();
    }
    let deadline = Instant::now() + 3 * LEASE;
    let mut seen_down = false;
    while control.read(|registry, _| registry.len()) > 2 {
        assert!(Instant::now() < deadline, "still there: {}", control.read(|registry, _| registry.len()));
        assert_ne!(control.heartbeat(&id(1)), Beat::Unknown, "one that beats is kept");
        seen_down |= control.read(|registry, now| registry.view(&id(2), now)).is_some_and(|view| !view.up);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(seen_down, "a trunk is down before it is gone");
    assert_eq!(control.heartbeat(&id(2)), Beat::Unknown);
    let left: Vec<String> = store.list("trunk/").await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(left, [format!("trunk/{}", id(0)), format!("trunk/{}", id(1))], "gone from the store too");
}
