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

/// Time that this thread was on a processor, in nanoseconds: others that want it too do not count.
fn on_processor() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or_default()
}

/// Makes all records, and gives them to `take`: time on the processor, each.
fn rounds(mut take: impl FnMut(Record)) -> u64 {
    let begun = on_processor();
    for round in 0..CALLS / AT_ONCE {
        (0..AT_ONCE).for_each(|i| take(record(round * AT_ONCE + i)));
        std::thread::sleep(Duration::from_millis(1));
    }
    (on_processor() - begun) / u64::from(CALLS)
}

fn main() {
    let Ok(dir) = tempfile::tempdir() else { return };
    let Ok(records) = Records::start(Settings::new(dir.path().to_owned())) else { return };
    let mut times = Vec::with_capacity(CALLS as usize);
    let timed = |times: &mut Vec<Duration>, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    };
    let without = rounds(|record| {
        let mut record = Some(record);
        timed(&mut times, &mut || drop(black_box(record.take())));
    });
    times.clear();
    let begun = cpu();
    let with = rounds(|record| {
        let mut record = Some(record);
        timed(&mut times, &mut || record.take().into_iter().for_each(|record| records.offer(record)));
    });
    records.stop(Duration::from_secs(60));
    let all = cpu().saturating_sub(begun);
    let written = records.snapshot();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 10_000).min(times.len() - 1)].as_nanos();
    println!("records      {} written, {} bytes each", written.written, written.bytes / written.written.max(1));
    println!("make, drop   {without} ns of processor a record");
    println!("make, offer  {with} ns of processor a record");
    println!("offer        p50 {} ns, p99 {} ns, p99.99 {} ns by the clock", at(5000), at(9900), at(9999));
    println!("all          {} ns of processor a record, with the writer", all.as_nanos() / u128::from(CALLS));
}
