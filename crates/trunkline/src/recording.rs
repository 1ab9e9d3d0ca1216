//! Records of calls: their start, their end, and their metrics.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use records::{Records, SinkSnapshot, Snapshot};
use tokio::signal::unix::Signal;
use tracing::{info, warn};

use crate::metrics::family;
use crate::settings::Settings;

/// Time for what waits to be written, and for deliveries to finish, once the process leaves.
const LEAVE: Duration = Duration::from_secs(5);

/// Starts them, unless the settings want none.
pub fn start(settings: &Settings) -> anyhow::Result<Option<Arc<Records>>> {
    let Some(settings) = settings.records.settings(&settings.data_dir) else { return Ok(None) };
    if let Some(webhook) = settings.webhook.as_ref().filter(|webhook| webhook.url.is_exposed()) {
        warn!(url = ?webhook.url, "call records, and the token, go there unencrypted: https is missing");
    }
    Ok(Some(Arc::new(Records::start(settings)?)))
}

/// Begins a new file at each SIGHUP.
pub async fn reopen(records: Arc<Records>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        records.reopen();
        info!("a new file of call records begins");
    }
}

/// Writes what waits, and lets deliveries finish within their time.
pub async fn stop(records: Arc<Records>) {
    let stopped = tokio::task::spawn_blocking(move || {
        records.stop(LEAVE);
        records.snapshot()
    });
    let Ok(left) = stopped.await else { return };
    for sink in left.sinks.iter().filter(|sink| sink.backlog > 0) {
        info!(sink = sink.name, records = sink.backlog, "call records stay for the next start to deliver");
    }
}

/// Appends the Prometheus text. The families stand there without records, too.
pub fn encode(out: &mut String, records: Option<&Records>) {
    let snapshot = records.map(Records::snapshot);
    let snapshot = snapshot.as_ref();
    let total = |of: fn(&Snapshot) -> u64| snapshot.map(of);
    for (name, kind, help, value) in [
        ("trunkline_records_written_total", "counter", "Call records written to their files.", total(|s| s.written)),
        (
            "trunkline_records_write_failures_total",
            "counter",
            "Writes of call records that failed, each tried again.",
            total(|s| s.write_failures),
        ),
        (
            "trunkline_records_damaged_total",
            "counter",
            "Lines that are no record, passed over by deliveries.",
            total(|s| s.damaged),
        ),
        ("trunkline_records_waiting", "gauge", "Call records that wait to be written.", total(|s| s.waiting)),
        ("trunkline_records_files", "gauge", "Files of call records.", total(|s| s.files)),
        ("trunkline_records_bytes", "gauge", "Bytes of these files.", total(|s| s.bytes)),
    ] {
        family(out, name, kind, help);
        if let Some(value) = value {
            let _ = writeln!(out, "{name} {value}");
        }
    }
    family(out, "trunkline_records_shed_total", "counter", "Call records that were shed, by cause and kind of call.");
    for (cause, answered, count) in snapshot.iter().flat_map(|snapshot| &snapshot.shed) {
        let _ = writeln!(out, "trunkline_records_shed_total{{cause=\"{cause}\",answered=\"{answered}\"}} {count}");
    }
    sinks(out, snapshot.map_or(&[], |snapshot| &snapshot.sinks));
}

fn sinks(out: &mut String, sinks: &[SinkSnapshot]) {
    type Value = fn(&SinkSnapshot) -> f64;
    let families: [(&str, &str, &str, Value); 5] = [
        ("trunkline_records_delivered_total", "counter", "Call records that a receiver has taken.", |sink| {
            sink.delivered as f64
        }),
        (
            "trunkline_records_refused_total",
            "counter",
            "Call records that a receiver refused while it took others.",
            |sink| sink.refused as f64,
        ),
        ("trunkline_records_delivery_failures_total", "counter", "Deliveries that failed, each tried again.", |sink| {
            sink.failures as f64
        }),
        ("trunkline_records_backlog", "gauge", "Call records that a receiver has not taken yet.", |sink| {
            sink.backlog as f64
        }),
        ("trunkline_records_backlog_seconds", "gauge", "How long ago the oldest of these calls ended.", |sink| {
            sink.backlog_seconds
        }),
    ];
    for (name, kind, help, value) in families {
        family(out, name, kind, help);
        for sink in sinks {
            let _ = writeln!(out, "{name}{{sink=\"{}\"}} {}", sink.name, value(sink));
        }
    }
}
