//! What a call pays for its record: `cargo bench -p trunkline-records`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use records::{Attempt, Cause, Party, Record, Records, Settings, Transport};

const CALLS: u32 = 200_000;
/// Calls that end each millisecond.
const AT_ONCE: u32 = 10;

fn record(number: u32) -> Record {
    let now = Timestamp::now();
    let text = |text: &str| Some(text.to_owned());
    let attempt = Attempt {
        trunk: "carrier-1".into(),
        target: ([192, 0, 2, 10], 5060).into(),
        transport: Transport::Udp,
        started_at: now,
        rang_at: Some(now),
        ended_at: Some(now),
        status: Some(200),
        local: None,
        cause: None,
        q850: None,
    };
    Record {
        from: "sip:+441632960001@pbx.example.net".into(),
        to: "sip:+4930123456@example.net".into(),
        request_uri: "sip:+4930123456@example.net;user=phone".into(),
        calling: text("+441632960001"),
        called: text("+4930123456"),
        route: text("berlin"),
        trunk: text("carrier-1"),
        rang_at: Some(now),
        answered_at: Some(now),
        ended_by: Party::Caller,
        cause: Cause::Bye,
        status: Some(200),
        attempts: vec![attempt],
        ..Record::new(format!("{number}-5f1d0c3a@pbx.example.net"), ([192, 0, 2, 1], 5060).into(), now)
    }
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = text.rsplit(')').next().into_iter().flat_map(|rest| rest.split_whitespace().skip(11).take(2));
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

fn main() {
    let Ok(dir) = tempfile::tempdir() else { return };
    let Ok(records) = Records::start(Settings::new(dir.path().to_owned())) else { return };
    let (mut making, mut offering, mut worst) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let begun = cpu();
    for round in 0..CALLS / AT_ONCE {
        let start = Instant::now();
        let made: Vec<Record> = (0..AT_ONCE).map(|i| record(round * AT_ONCE + i)).collect();
        making += start.elapsed();
        for record in made {
            let start = Instant::now();
            records.offer(black_box(record));
            let took = start.elapsed();
            offering += took;
            worst = worst.max(took);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    records.stop(Duration::from_secs(60));
    let all = cpu().saturating_sub(begun);
    let written = records.snapshot();
    println!("records      {} written, {} bytes each", written.written, written.bytes / written.written.max(1));
    println!("make         {} ns", making.as_nanos() / u128::from(CALLS));
    println!("offer        {} ns, {} µs at worst", offering.as_nanos() / u128::from(CALLS), worst.as_micros());
    println!("all CPU      {} ns a record, with the writer", all.as_nanos() / u128::from(CALLS));
}
