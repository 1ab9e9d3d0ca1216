//! The engine against the contract, and what only this engine promises: the file, its lock, recovery from a bad disk.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use redb::StorageBackend;
use redb::backends::FileBackend;
use tempfile::TempDir;

use super::*;
use crate::contract::{self, Bench};
use crate::{Change, Expect};

struct Directories(TempDir, Options);

#[async_trait]
impl Bench for Directories {
    async fn open(&self, space: &str, log_keep: u64) -> Arc<dyn Store> {
        Arc::new(Embedded::open(&self.0.path().join(space), Options { log_keep, ..self.1.clone() }).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract() {
    contract::run(&Directories(TempDir::new().unwrap(), Options::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract_when_every_buffer_is_tiny() {
    let tiny = Options { queue: 1, watch_buffer: 1, cache_bytes: 0, ..Options::default() };
    contract::run(&Directories(TempDir::new().unwrap(), tiny)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opening_is_refused_and_says_why() {
    let dir = TempDir::new().unwrap();
    let first = Embedded::open(dir.path(), Options::default()).unwrap();
    let options = Options { lock_wait: Duration::ZERO, ..Options::default() };
    let error = Embedded::open(dir.path(), options).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(dir.path().join(FILE_NAME).to_str().unwrap()), "{error}");
    first.commit(vec![Write::put("k", "v")]).await.unwrap();
}

#[test]
fn a_file_that_is_no_store_is_refused_and_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE_NAME);
    fs::write(&path, vec![7; 8192]).unwrap();
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Open { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&path).unwrap(), vec![7; 8192], "a file that is not ours is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_and_never_served() {
    let dir = TempDir::new().unwrap();
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    let batch = |n: u32| (0..50).map(|i| Write::put(format!("trunk/{n}-{i}"), vec![b'v'; 400])).collect();
    for n in 0..10 {
        store.commit(batch(n)).await.unwrap();
    }
    let whole = store.list("").await.unwrap();
    drop(store);
    let path = dir.path().join(FILE_NAME);
    let good = fs::read(&path).unwrap();
    let mut refused = 0;
    // A byte in every page, one page at a time; damage in a page that is not in use must not matter.
    for page in (0..good.len()).step_by(4096).step_by(7) {
        let mut bad = good.clone();
        bad[page + 100] ^= 0x55;
        fs::write(&path, &bad).unwrap();
        match Embedded::open(dir.path(), Options::default()) {
            Ok(store) => assert_eq!(store.list("").await.unwrap(), whole, "damage at {page} was served"),
            Err(error) => {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 3, "only {refused} damages were noticed");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let error = Embedded::open(&path, Options::default()).unwrap_err();
    assert!(matches!(&error, OpenError::Directory { path: named, .. } if *named == path), "{error}");
}

#[test]
fn another_layout_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(Embedded::open(dir.path(), Options::default()).unwrap());
    let database = Database::create(dir.path().join(FILE_NAME)).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(tables::META).unwrap().insert(tables::FORMAT, 99).unwrap();
    txn.commit().unwrap();
    drop(database);
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 99, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_share_fsyncs() {
    let dir = TempDir::new().unwrap();
    let disk = Arc::new(Disk::default());
    let store = Arc::new(open_on(&dir, &disk, Options::default()));
    let before = disk.syncs.load(Ordering::SeqCst);
    let tasks: Vec<_> = (0..400)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(vec![Write::put(format!("k{n}"), "v")]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let syncs = disk.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 200, "400 writers needed {syncs} fsyncs");
    assert!(syncs > 0, "an acknowledged write was synced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_log_keep_is_reached() {
    let dir = TempDir::new().unwrap();
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    for _ in 0..100 {
        store.commit(vec![Write::put("k", "v")]).await.unwrap();
    }
    drop(store);
    let store = Embedded::open(dir.path(), Options { log_keep: 10, ..Options::default() }).unwrap();
    for _ in 0..20 {
        store.commit(vec![Write::put("k", "v")]).await.unwrap();
    }
    assert_eq!(store.watch(109).await.unwrap_err(), WatchError::Compacted { oldest: 110 });
    store.watch(110).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_store() {
    let dir = TempDir::new().unwrap();
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    let mut watch = store.watch(0).await.unwrap();
    store.commit(vec![Write::put("k", "v")]).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[0].key, "k");
    drop(store);
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Closed);
    Embedded::open(dir.path(), Options::default()).expect("a forgotten watch does not hold the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_disk_refuses_writers_and_recovers() {
    let dir = TempDir::new().unwrap();
    let disk = Arc::new(Disk::default());
    let store = Arc::new(open_on(&dir, &disk, Options::default()));
    store.commit(vec![Write::put("before", "v")]).await.unwrap();
    let mut watch = store.watch(1).await.unwrap();

    disk.broken.store(true, Ordering::SeqCst);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(vec![Write::put(format!("lost{n}"), "v")]).await })
        })
        .collect();
    for task in tasks {
        let answer = task.await.unwrap();
        assert!(matches!(answer, Err(CommitError::Unavailable(_))), "every waiting writer is refused: {answer:?}");
    }
    assert_eq!(store.revision().await, 1, "nothing was published");

    disk.broken.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(20);
    let revision = loop {
        match store.commit(vec![Write::put("after", "v")]).await {
            Ok(revision) => break revision,
            Err(error) => assert!(Instant::now() < deadline, "no recovery: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // The refused writes may or may not have reached the disk; the watch must agree with the listing either way.
    let mut state: BTreeMap<String, Entry> = BTreeMap::new();
    state.insert("before".into(), store.get("before").await.unwrap().unwrap());
    for expected in 2..=revision {
        for Change { revision, key, entry } in watch.next().await.unwrap() {
            assert_eq!(revision, expected);
            state.insert(key, entry.unwrap());
        }
    }
    let listing = store.list("").await.unwrap();
    assert_eq!(listing.entries, state.into_values().collect::<Vec<_>>());
}

/// A disk that counts its syncs and can be told to fail.
#[derive(Debug, Default)]
struct Disk {
    broken: AtomicBool,
    syncs: AtomicU64,
}

#[derive(Debug)]
struct Faulty(FileBackend, Arc<Disk>);

impl Faulty {
    fn check(&self) -> Result<(), io::Error> {
        if self.1.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

fn open_on(dir: &TempDir, disk: &Arc<Disk>, options: Options) -> Embedded {
    let path = dir.path().join(FILE_NAME);
    let (file, disk) = (path.clone(), disk.clone());
    let opener = move || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)?;
        builder(0).create_with_backend(Faulty(FileBackend::new(file)?, disk.clone()))
    };
    Embedded::open_with(path, options, Box::new(opener)).unwrap()
}

/// One random write: key, what it expects (0 anything, 1 absent, 2 the true revision, 3 a wrong one), value.
type Step = (u8, u8, Option<u8>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random batches, with reopenings between them, against a map.
    #[test]
    fn behaves_as_a_map(
        runs in proptest::collection::vec(
            proptest::collection::vec(
                proptest::collection::btree_map(0u8..6, (0u8..4, proptest::option::of(any::<u8>())), 1..4),
                1..12,
            ),
            1..3,
        )
    ) {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut model: BTreeMap<String, Entry> = BTreeMap::new();
        let mut revision = 0;
        for batches in runs {
            let store = Embedded::open(dir.path(), Options::default()).unwrap();
            for batch in batches {
                let steps: Vec<Step> = batch.into_iter().map(|(k, (e, v))| (k, e, v)).collect();
                let (writes, expected) = predict(&steps, &mut model, &mut revision);
                prop_assert_eq!(runtime.block_on(store.commit(writes)).ok(), expected);
            }
            let listing = runtime.block_on(store.list("")).unwrap();
            prop_assert_eq!(listing.revision, revision);
            prop_assert_eq!(listing.entries, model.values().cloned().collect::<Vec<_>>());
        }
    }
}

fn predict(
    steps: &[Step],
    model: &mut BTreeMap<String, Entry>,
    revision: &mut Revision,
) -> (Vec<Write>, Option<Revision>) {
    let mut holds = true;
    let mut writes = Vec::new();
    for (key, expect, value) in steps {
        let key = format!("k{key}");
        let found = model.get(&key).map(|e| e.modified);
        let expect = match expect {
            0 => Expect::Any,
            1 => Expect::Absent,
            2 => found.map_or(Expect::Absent, Expect::Modified),
            _ => Expect::Modified(found.map_or(1, |r| r + 1)),
        };
        holds &= match expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Modified(wanted) => found == Some(wanted),
        };
        writes.push(Write { key, expect, value: value.map(|v| vec![v].into()) });
    }
    if !holds {
        return (writes, None);
    }
    let next = *revision + 1;
    for Write { key, value, .. } in &writes {
        let before = model.remove(key);
        if let Some(value) = value {
            let created = before.map_or(next, |e| e.created);
            model.insert(key.clone(), Entry { key: key.clone(), value: value.clone(), created, modified: next });
            *revision = next;
        } else if before.is_some() {
            *revision = next;
        }
    }
    (writes, Some(*revision))
}
