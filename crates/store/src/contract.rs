//! The contract: what any engine must pass to stand behind the port.
//!
//! An engine's own tests implement [`Bench`] and call [`run`]; each check names the promise it tests and panics when it
//! does not hold. Checks use their own space each, so that a failure in one does not colour the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use crate::{Bytes, Change, CommitError, Entry, Expect, MAX_BATCH_BYTES, MAX_KEY, MAX_WRITES, Revision, Store};
use crate::{Watch, WatchError, Write};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives a contract run its stores.
#[async_trait]
pub trait Bench: Send + Sync {
    /// Opens the store named `space`, empty the first time. Opened again after every handle was dropped, it shows what
    /// was acknowledged. It keeps at least the last `log_keep` revisions for watches, and not many times more.
    async fn open(&self, space: &str, log_keep: u64) -> Arc<dyn Store>;
}

/// Runs every check.
pub async fn run(bench: &dyn Bench) {
    compare_and_set(&*bench.open("compare_and_set", 1000).await).await;
    batches_are_atomic(&*bench.open("batches", 1000).await).await;
    batches_are_checked(&*bench.open("limits", 1000).await).await;
    revisions_grow_by_one(&*bench.open("revisions", 1000).await).await;
    listings_are_ordered_and_bounded_by_prefix(&*bench.open("listings", 1000).await).await;
    watch_starts_anywhere(&*bench.open("watch", 1000).await).await;
    watch_has_no_gaps_under_concurrent_writers(bench.open("concurrent", 100_000).await).await;
    contended_key_counts_exactly(bench.open("contended", 100_000).await).await;
    listing_then_watch_is_the_whole_history(bench.open("consistent", 100_000).await).await;
    old_changes_are_compacted(&*bench.open("compaction", 50).await).await;
    a_slow_watcher_is_told_when_it_fell_off(&*bench.open("fell_off", 50).await).await;
    everything_survives_a_reopening(bench).await;
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened within {PATIENCE:?}"),
    }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    let batch = vec![Write::put(key, value.as_bytes().to_vec())];
    within("commit", store.commit(batch)).await.expect("an unconditional write succeeds")
}

async fn value(store: &dyn Store, key: &str) -> Option<Bytes> {
    store.get(key).await.expect("get succeeds").map(|entry| entry.value)
}

async fn next(watch: &mut Watch) -> Vec<Change> {
    within("watch", watch.next()).await.expect("the watch goes on")
}

async fn compare_and_set(store: &dyn Store) {
    assert_eq!(store.revision().await, 0, "a new store is at revision 0");
    let write = |expect, value: &'static str| vec![Write::put("k", value.as_bytes()).expecting(expect)];
    let conflict = |found| Err(CommitError::Conflict { key: "k".into(), found });

    assert_eq!(store.commit(write(Expect::Modified(1), "x")).await, conflict(None));
    assert_eq!(store.commit(write(Expect::Absent, "a")).await, Ok(1));
    assert_eq!(store.commit(write(Expect::Absent, "x")).await, conflict(Some(1)));
    assert_eq!(store.commit(write(Expect::Modified(1), "b")).await, Ok(2));
    assert_eq!(store.commit(write(Expect::Modified(1), "x")).await, conflict(Some(2)));
    let entry = Entry { key: "k".into(), value: Bytes::from_static(b"b"), created: 1, modified: 2 };
    assert_eq!(store.get("k").await, Ok(Some(entry)), "a rewritten entry keeps its birth");

    let delete = |expect| vec![Write::delete("k").expecting(expect)];
    assert_eq!(store.commit(delete(Expect::Modified(1))).await, conflict(Some(2)));
    assert_eq!(store.commit(delete(Expect::Modified(2))).await, Ok(3));
    assert_eq!(store.commit(delete(Expect::Modified(2))).await, conflict(None));
    assert_eq!(store.commit(delete(Expect::Any)).await, Ok(3), "deleting nothing changes nothing");
    assert_eq!(store.commit(write(Expect::Absent, "c")).await, Ok(4));
    let entry = store.get("k").await.expect("get succeeds").expect("it exists");
    assert_eq!((entry.created, entry.modified), (4, 4), "a key deleted and written again is born again");
}

async fn batches_are_atomic(store: &dyn Store) {
    put(store, "a", "1").await;
    let batch = vec![Write::put("b", "2"), Write::delete("a"), Write::put("c", "3").expecting(Expect::Modified(9))];
    let refused = store.commit(batch).await;
    assert_eq!(refused, Err(CommitError::Conflict { key: "c".into(), found: None }));
    assert_eq!(store.revision().await, 1, "a refused batch takes no revision");
    assert_eq!(value(store, "a").await.as_deref(), Some(&b"1"[..]), "a refused batch deletes nothing");
    assert_eq!(value(store, "b").await, None, "a refused batch writes nothing");

    let mut watch = store.watch(1).await.expect("watch starts");
    let batch = vec![Write::put("b", "2"), Write::delete("a"), Write::delete("nothing"), Write::put("c", "3")];
    assert_eq!(store.commit(batch).await, Ok(2));
    let changes = next(&mut watch).await;
    let seen: Vec<(&str, bool)> = changes.iter().map(|c| (c.key.as_str(), c.entry.is_some())).collect();
    assert_eq!(seen, [("b", true), ("a", false), ("c", true)], "a batch arrives whole, without what changed nothing");
    assert!(changes.iter().all(|c| c.revision == 2), "a batch is one revision");
}

async fn batches_are_checked(store: &dyn Store) {
    let refused = |batch| async { store.commit(batch).await.expect_err("the batch is refused") };
    let invalid = |error| matches!(error, CommitError::Invalid(_));
    let too_large = |error| matches!(error, CommitError::TooLarge(_));
    assert!(invalid(refused(vec![]).await), "an empty batch");
    assert!(invalid(refused(vec![Write::put("", "v")]).await), "an empty key");
    assert!(invalid(refused(vec![Write::put("k".repeat(MAX_KEY + 1), "v")]).await), "a long key");
    assert!(invalid(refused(vec![Write::put("k", "v"), Write::delete("k")]).await), "a key twice");
    let many = (0..=MAX_WRITES).map(|n| Write::put(format!("k{n}"), "v")).collect();
    assert!(too_large(refused(many).await), "too many writes");
    assert!(too_large(refused(vec![Write::put("k", vec![0; MAX_BATCH_BYTES])]).await), "too many bytes");
    assert_eq!(store.revision().await, 0, "none of them left a trace");

    let largest = vec![0; MAX_BATCH_BYTES - 1];
    assert_eq!(store.commit(vec![Write::put("k", largest.clone())]).await, Ok(1), "the largest batch is taken");
    assert_eq!(value(store, "k").await.as_deref(), Some(&largest[..]));
}

async fn revisions_grow_by_one(store: &dyn Store) {
    for n in 1..=20 {
        assert_eq!(put(store, "k", "same").await, n, "each batch is one revision, also one that writes the same value");
        assert!(store.revision().await >= n, "an acknowledged revision is the store's");
    }
}

async fn listings_are_ordered_and_bounded_by_prefix(store: &dyn Store) {
    for key in ["b/2", "a/1", "b/10", "b0", "b/", "b", "c/1", "b/ü"] {
        put(store, key, key).await;
    }
    let listing = store.list("b/").await.expect("list succeeds");
    let keys: Vec<&str> = listing.entries.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["b/", "b/10", "b/2", "b/ü"]);
    assert_eq!(listing.revision, 8);
    assert_eq!(store.list("").await.expect("list succeeds").entries.len(), 8, "the empty prefix is everything");
    assert!(store.list("d").await.expect("list succeeds").entries.is_empty());
}

async fn watch_starts_anywhere(store: &dyn Store) {
    for n in 1..=10 {
        put(store, &format!("k{n}"), "v").await;
    }
    for after in 0..=10 {
        let mut watch = store.watch(after).await.expect("watch starts");
        for revision in after + 1..=10 {
            let changes = next(&mut watch).await;
            assert_eq!((changes[0].revision, &changes[0].key), (revision, &format!("k{revision}")));
        }
        let quiet = timeout(Duration::from_millis(5), watch.next()).await;
        assert!(quiet.is_err(), "nothing comes that did not happen: {quiet:?}");
    }
    let ahead = store.watch(11).await.expect_err("the future cannot be watched");
    assert_eq!(ahead, WatchError::Ahead { revision: 10 });

    let mut watch = store.watch(10).await.expect("watch starts");
    let (live, ()) = tokio::join!(next(&mut watch), async {
        tokio::task::yield_now().await;
        put(store, "live", "v").await;
    });
    assert_eq!(live[0].key, "live");
}

/// Each writer commits `batches` numbered batches under keys of its own.
fn writers(store: &Arc<dyn Store>, count: usize, batches: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let writer = |w: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..batches {
                let mut batch = vec![Write::put(format!("w{w}/last"), n.to_string())];
                if n % 3 == 2 {
                    batch.push(Write::delete(format!("w{w}/{}", n - 1)));
                } else {
                    batch.push(Write::put(format!("w{w}/{n}"), "v"));
                }
                within("commit", store.commit(batch)).await.expect("commit succeeds");
            }
        })
    };
    (0..count).map(writer).collect()
}

async fn watch_has_no_gaps_under_concurrent_writers(store: Arc<dyn Store>) {
    let (count, batches) = (8, 60);
    let total = (count * batches) as Revision;
    let mut watchers = Vec::new();
    let follow = |after: Revision, pause: Option<Duration>| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut watch = store.watch(after).await.expect("watch starts");
            let mut last: HashMap<String, usize> = HashMap::new();
            for revision in after + 1..=total {
                let changes = next(&mut watch).await;
                assert!(changes.iter().all(|c| c.revision == revision), "no gap and no repeat at {revision}");
                let n = changes[0].entry.as_ref().map(|e| String::from_utf8_lossy(&e.value).parse::<usize>());
                let n = n.expect("a write").expect("a number");
                let before = last.insert(changes[0].key.clone(), n);
                assert!(before.is_none_or(|before| before + 1 == n), "each writer's batches come in its order");
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
            }
        })
    };
    watchers.push(follow(0, None));
    watchers.push(follow(0, Some(Duration::from_millis(2))));
    let tasks = writers(&store, count, batches);
    while store.revision().await < total / 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    watchers.push(follow(0, None));
    watchers.push(follow(total / 4, Some(Duration::from_millis(1))));
    for task in tasks {
        task.await.expect("a writer");
    }
    assert_eq!(store.revision().await, total, "as many revisions as batches");
    for watcher in watchers {
        watcher.await.expect("a watcher");
    }
}

async fn contended_key_counts_exactly(store: Arc<dyn Store>) {
    let increment = |store: Arc<dyn Store>| async move {
        loop {
            let found = store.get("n").await.expect("get succeeds");
            let n = found.as_ref().map_or(0, |e| String::from_utf8_lossy(&e.value).parse::<u32>().expect("a number"));
            let expect = found.map_or(Expect::Absent, |e| Expect::Modified(e.modified));
            match store.commit(vec![Write::put("n", (n + 1).to_string()).expecting(expect)]).await {
                Ok(_) => return,
                Err(CommitError::Conflict { .. }) => continue,
                Err(other) => panic!("{other}"),
            }
        }
    };
    let tasks: Vec<_> = (0..40).map(|_| tokio::spawn(increment(store.clone()))).collect();
    for task in tasks {
        within("increment", task).await.expect("an increment");
    }
    assert_eq!(value(&*store, "n").await.as_deref(), Some(&b"40"[..]), "no increment is lost or doubled");
    assert_eq!(store.revision().await, 40, "a lost race takes no revision");
}

fn replay(state: &mut BTreeMap<String, Entry>, changes: Vec<Change>) {
    for change in changes {
        match change.entry {
            Some(entry) => state.insert(change.key, entry),
            None => state.remove(&change.key),
        };
    }
}

async fn listing_then_watch_is_the_whole_history(store: Arc<dyn Store>) {
    let total = 4 * 60;
    let tasks = writers(&store, 4, 60);
    let mut replicas = Vec::new();
    for _ in 0..5 {
        let listing = store.list("").await.expect("list succeeds");
        let watch = store.watch(listing.revision).await.expect("watch starts");
        let state: BTreeMap<_, _> = listing.entries.into_iter().map(|e| (e.key.clone(), e)).collect();
        replicas.push((listing.revision, state, watch));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for task in tasks {
        task.await.expect("a writer");
    }
    let truth = store.list("").await.expect("list succeeds");
    assert_eq!(truth.revision, total);
    let truth: BTreeMap<_, _> = truth.entries.into_iter().map(|e| (e.key.clone(), e)).collect();
    for (mut at, mut state, mut watch) in replicas {
        while at < total {
            let changes = next(&mut watch).await;
            at = changes[0].revision;
            replay(&mut state, changes);
        }
        assert_eq!(state, truth, "a listing and the changes after it are the state");
    }
}

/// Writes until the first change is no longer kept.
async fn write_past_compaction(store: &dyn Store) -> Revision {
    for n in 0..5000u32 {
        put(store, "k", &n.to_string()).await;
        if let Err(WatchError::Compacted { oldest }) = store.watch(0).await {
            return oldest;
        }
    }
    panic!("a store that keeps 50 revisions still has 5000");
}

async fn old_changes_are_compacted(store: &dyn Store) {
    let oldest = write_past_compaction(store).await;
    let last = store.revision().await;
    assert!(oldest > 0 && last - oldest >= 50, "at least the last 50 of {last} are kept, not only since {oldest}");
    let mut watch = store.watch(oldest).await.expect("the oldest revision named can be watched from");
    for revision in oldest + 1..=last {
        assert_eq!(next(&mut watch).await[0].revision, revision);
    }
}

async fn a_slow_watcher_is_told_when_it_fell_off(store: &dyn Store) {
    put(store, "first", "v").await;
    let mut watch = store.watch(0).await.expect("watch starts");
    write_past_compaction(store).await;
    let mut last = 0;
    loop {
        match within("watch", watch.next()).await {
            Ok(changes) => {
                assert_eq!(changes[0].revision, last + 1, "what comes, comes without a gap");
                last += 1;
                if last == store.revision().await {
                    return; // The engine had it all in memory, which is as good.
                }
            }
            Err(WatchError::Compacted { oldest }) => return assert!(oldest > last),
            Err(other) => panic!("{other}"),
        }
    }
}

async fn everything_survives_a_reopening(bench: &dyn Bench) {
    let store = bench.open("reopening", 1000).await;
    put(&*store, "a", "1").await;
    put(&*store, "b", "2").await;
    put(&*store, "a", "3").await;
    store.commit(vec![Write::delete("b"), Write::put("c", "4")]).await.expect("commit succeeds");
    let before = store.list("").await.expect("list succeeds");
    drop(store);

    let store = bench.open("reopening", 1000).await;
    assert_eq!(store.list("").await.expect("list succeeds"), before, "nothing is lost and nothing is back");
    assert_eq!(store.revision().await, 4);
    let mut watch = store.watch(1).await.expect("watches reach back beyond the reopening");
    assert_eq!(put(&*store, "d", "5").await, 5, "revisions go on where they were");
    let mut seen = Vec::new();
    while seen.last() != Some(&5) {
        seen.push(next(&mut watch).await[0].revision);
    }
    assert_eq!(seen, [2, 3, 4, 5]);
}
