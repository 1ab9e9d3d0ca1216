//! What a durable change costs with its history, alone and among many, what a document of 4095 routes takes, and what a
//! million routes weigh. `cargo bench -p trunkline-control` runs it; its figures go to standard output.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{Actor, Control};
use registry::{Command, Condition, Document, Now, Registry, Settings};
use store::embedded::{Embedded, Options};
use store::{Bytes, Store, Write};

/// Writers at once.
const WRITERS: usize = 64;
/// Changes of each.
const CHANGES: usize = 200;
/// Routes of the large registry, and of a batch that fills it.
const ROUTES: usize = 1_000_000;
const BATCH: usize = 4000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for _ in 0..3 {
        runtime.block_on(changes());
    }
    runtime.block_on(bare());
    runtime.block_on(document());
    weight();
}

async fn open(dir: &tempfile::TempDir) -> Arc<Control> {
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    Control::open(Arc::new(store), Settings::default()).await.unwrap()
}

fn register(id: &str, weight: usize) -> Command {
    let body = format!(r#"{{"sip_uri":"sip:192.0.2.1","weight":{weight},"max_channels":240,"group":"carriers"}}"#);
    Command::Register { id: id.to_owned(), body: body.into_bytes(), condition: Condition::default() }
}

/// Many writers at once: each change is decided, committed with its history and seen by its caller.
async fn changes() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(&dir).await;
    let (begun, cpu) = (Instant::now(), cpu());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let control = control.clone();
            tokio::spawn(async move {
                let id = format!("t{writer}");
                for n in 1..=CHANGES {
                    control.execute(register(&id, n), &Actor::Unknown).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    report("changes with history", WRITERS * CHANGES, begun.elapsed(), cpu);
}

/// The same batches without their history, straight to the store: what is left is the disk's and the store's.
async fn bare() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
    let (begun, cpu) = (Instant::now(), cpu());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 1..=CHANGES {
                    let value = format!(r#"{{"registered_at":"2026-11-01T00:00:00Z","record":{{"sip_uri":"sip:192.0.2.1","weight":{n},"max_channels":240,"group":"carriers"}}}}"#);
                    store.commit(vec![Write::put(format!("trunk/t{writer}"), value)]).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    report("bare commits", WRITERS * CHANGES, begun.elapsed(), cpu);
}

async fn document() {
    let dir = tempfile::tempdir().unwrap();
    let control = open(&dir).await;
    for precedence in [1, 2] {
        let begun = Instant::now();
        let text = document_of(0..4095, precedence);
        let document = Document::parse(text.as_bytes(), "trunkline").unwrap();
        let read = begun.elapsed();
        let applied = control.apply(&document, &Actor::Unknown).await.unwrap();
        let all = begun.elapsed();
        println!("a document of {} changes: read in {read:?}, durable after {all:?}", applied.difference.len());
    }
}

fn document_of(ids: std::ops::Range<usize>, precedence: u32) -> String {
    let route = |id: usize| {
        format!(
            r#""r{id:07}":{{"match":{{"called_prefix":"+49{id:07}"}},"targets":[{{"group":"carriers"}}],"precedence":{precedence}}}"#
        )
    };
    format!(r#"{{"routes":{{{}}}}}"#, ids.map(route).collect::<Vec<_>>().join(","))
}

/// A million routes in the registry alone.
fn weight() {
    let mut registry = Registry::new(Settings::default());
    let now = Now { mono_ms: 0, wall: jiff::Timestamp::UNIX_EPOCH };
    let before = resident();
    let mut taken = Duration::ZERO;
    for first in (0..ROUTES).step_by(BATCH) {
        let document = Document::parse(document_of(first..first + BATCH, 1).as_bytes(), "").unwrap();
        let writes = registry.decide_document(&document, now).unwrap();
        let begun = cpu();
        for write in writes {
            let value: Bytes = write.value.unwrap().into();
            registry.apply(&write.key, Some((&value, 1, 1)), now);
        }
        registry.take_events();
        taken += cpu() - begun;
    }
    let bytes = resident().saturating_sub(before);
    println!("{ROUTES} routes: {} bytes each, taken over from the store in {taken:?} of CPU", bytes / ROUTES);
    let begun = Instant::now();
    let records: Vec<_> = registry.routes().cloned().collect();
    println!("copied for an export in {:?} ({} of them)", begun.elapsed(), records.len());
}

fn report(what: &str, count: usize, wall: Duration, before: Duration) {
    let each = (cpu() - before) / count as u32;
    println!("{what}: {:.0} a second, {each:?} of CPU each", count as f64 / wall.as_secs_f64());
}

/// CPU time of this process: fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// Resident bytes of this process, in pages of 4 KiB (proc_pid_statm(5)).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}
