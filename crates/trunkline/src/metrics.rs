//! Counters of the router, and their Prometheus text. Each trunk has its series in every state.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use proxy::Event;
use routing::RouteTable;

use crate::watch::Watch;

/// Status codes are below this.
const CODES: usize = 700;

/// What is counted over all trunks.
pub struct Counters {
    answered: Box<[AtomicU64]>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    silenced: Mutex<BTreeMap<&'static str, u64>>,
    lost: Mutex<BTreeMap<&'static str, u64>>,
    shed: Mutex<BTreeMap<&'static str, u64>>,
    probes: Mutex<BTreeMap<&'static str, u64>>,
    registrations: Mutex<BTreeMap<&'static str, u64>>,
    dropped_lines: AtomicU64,
    oversized: AtomicU64,
    panics: AtomicU64,
}

impl Counters {
    /// All at zero.
    pub fn new() -> Counters {
        Counters {
            answered: (0..CODES).map(|_| AtomicU64::new(0)).collect(),
            refused: Mutex::default(),
            silenced: Mutex::default(),
            lost: Mutex::default(),
            shed: Mutex::default(),
            probes: Mutex::default(),
            registrations: Mutex::default(),
            dropped_lines: AtomicU64::new(0),
            oversized: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    /// Counts what the engine tells.
    pub fn count(&self, event: &Event) {
        match event {
            Event::Answered { status } => {
                if let Some(counter) = self.answered.get(usize::from(*status)) {
                    counter.fetch_add(1, Relaxed);
                }
            }
            Event::Attempt { trunk, status, local, .. } => trunk.live().count(*status, *local),
            Event::Oversized => drop(self.oversized.fetch_add(1, Relaxed)),
            Event::Probed { status, unsent, .. } => {
                let outcome = match (status, unsent) {
                    (Some(_), _) => "answer",
                    (None, true) => "unsent",
                    (None, false) => "timeout",
                };
                add(&self.probes, outcome);
            }
            Event::Closed { .. } | Event::Ended(_) | Event::Over { .. } => {}
            Event::Refused { cause, .. } => add(&self.refused, cause),
            Event::Silenced { cause } => add(&self.silenced, cause),
            Event::Lost { cause, .. } => add(&self.lost, cause),
        }
    }

    /// Counts a call that went to a trunk although all were in doubt.
    pub fn panic(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// Counts a REGISTER.
    pub fn registration(&self, outcome: &'static str) {
        add(&self.registrations, outcome);
    }

    /// Counts what a full queue did not take.
    pub fn shed(&self, queue: &'static str) {
        add(&self.shed, queue);
    }

    /// Counts a log line that was not written.
    pub fn drop_line(&self) {
        self.dropped_lines.fetch_add(1, Relaxed);
    }

    /// Appends the Prometheus text.
    pub fn encode(&self, out: &mut String, table: &RouteTable, engine: Option<&net::Engine>, watch: &Watch) {
        family(
            out,
            "trunkline_calls_answered_total",
            "counter",
            "Final answers to INVITEs that begin a call, by code.",
        );
        for (status, count) in self.answered.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "trunkline_calls_answered_total{{code=\"{status}\"}} {count}");
            }
        }
        for (name, help, causes) in [
            ("trunkline_refusals_total", "Requests that were refused here, by cause.", &self.refused),
            ("trunkline_silenced_total", "Requests that got no answer at all, by cause.", &self.silenced),
            ("trunkline_calls_lost_total", "Calls given back without their BYE, by cause.", &self.lost),
        ] {
            family(out, name, "counter", help);
            for (cause, count) in &*causes.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = writeln!(out, "{name}{{cause=\"{cause}\"}} {count}");
            }
        }
        trunks(out, table, engine.map_or(0, |engine| engine.clock().now().0));
        if let Some(engine) = engine {
            sockets(out, engine);
        }
        let (targets, probes) = watch.counts();
        family(out, "trunkline_targets", "gauge", "Targets of all trunks.");
        let _ = writeln!(out, "trunkline_targets {targets}");
        family(out, "trunkline_probes_under_way", "gauge", "Probes without an outcome yet.");
        let _ = writeln!(out, "trunkline_probes_under_way {probes}");
        family(out, "trunkline_probe_overdue_seconds", "gauge", "How long the oldest thing that was due has waited.");
        let _ = writeln!(out, "trunkline_probe_overdue_seconds {}", watch.overdue().as_secs_f64());
        for (name, help, counts) in [
            ("trunkline_probes_total", "Outcomes of probes.", &self.probes),
            ("trunkline_registrations_total", "REGISTER requests, by what became of them.", &self.registrations),
        ] {
            family(out, name, "counter", help);
            for (outcome, count) in &*counts.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = writeln!(out, "{name}{{outcome=\"{outcome}\"}} {count}");
            }
        }
        family(out, "trunkline_shed_total", "counter", "What a full queue did not take, by queue.");
        for (queue, count) in &*self.shed.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "trunkline_shed_total{{queue=\"{queue}\"}} {count}");
        }
        family(out, "trunkline_panic_calls_total", "counter", "Requests routed while all trunks were in doubt.");
        let _ = writeln!(out, "trunkline_panic_calls_total {}", self.panics.load(Relaxed));
        family(out, "trunkline_panic", "gauge", "1 while every trunk that could take calls is in doubt.");
        let _ = writeln!(out, "trunkline_panic {}", u8::from(table.is_in_panic()));
        family(out, "trunkline_sip_oversized_total", "counter", "Requests of more than 1300 bytes that went by UDP.");
        let _ = writeln!(out, "trunkline_sip_oversized_total {}", self.oversized.load(Relaxed));
        family(out, "trunkline_log_lines_dropped_total", "counter", "Log lines of the router that were shed.");
        let _ = writeln!(out, "trunkline_log_lines_dropped_total {}", self.dropped_lines.load(Relaxed));
        family(out, "trunkline_route_table_revision", "gauge", "Revision of the registry that calls are routed by.");
        let _ = writeln!(out, "trunkline_route_table_revision {}", table.revision());
    }
}

fn trunks(out: &mut String, table: &RouteTable, now: u64) {
    family(out, "trunkline_active_calls", "gauge", "Channels taken, by trunk.");
    for trunk in table.trunks() {
        let _ = writeln!(out, "trunkline_active_calls{{trunk=\"{}\"}} {}", trunk.id, trunk.live().active());
    }
    family(out, "trunkline_trunk_routable", "gauge", "1 where a trunk gets calls now, by trunk.");
    for trunk in table.trunks() {
        let routable = u8::from(trunk.reasons(now).is_empty());
        let _ = writeln!(out, "trunkline_trunk_routable{{trunk=\"{}\"}} {routable}", trunk.id);
    }
    family(
        out,
        "trunkline_attempts_total",
        "counter",
        "Attempts that ended, by trunk and code; local: silence or send error.",
    );
    for trunk in table.trunks() {
        for (status, local, count) in trunk.live().answers() {
            let id = &trunk.id;
            let _ =
                writeln!(out, "trunkline_attempts_total{{trunk=\"{id}\",code=\"{status}\",local=\"{local}\"}} {count}");
        }
    }
}

fn sockets(out: &mut String, engine: &net::Engine) {
    let counts = engine.stats();
    family(out, "trunkline_sip_transactions", "gauge", "Server transactions held.");
    let _ = writeln!(out, "trunkline_sip_transactions {}", engine.transactions());
    family(out, "trunkline_sip_transactions_undecided", "gauge", "Server transactions without a final answer.");
    let _ = writeln!(out, "trunkline_sip_transactions_undecided {}", engine.undecided());
    if let Some(streams) = engine.streams() {
        connections(out, &streams.counts());
    }
    family(out, "trunkline_sip_datagrams_total", "counter", "Messages of all transports, by what became of them.");
    for (fate, count) in [
        ("received", counts.received),
        ("sent", counts.sent),
        ("keepalive", counts.keepalives),
        ("malformed", counts.malformed),
        ("truncated", counts.truncated),
        ("unowned", counts.unowned),
        ("shed", counts.shed),
        ("dropped", counts.dropped),
        ("send_error", counts.send_errors),
        ("receive_error", counts.receive_errors),
        ("undeliverable", counts.undeliverable),
    ] {
        let _ = writeln!(out, "trunkline_sip_datagrams_total{{fate=\"{fate}\"}} {count}");
    }
}

fn connections(out: &mut String, counts: &net::StreamCounts) {
    family(out, "trunkline_sip_connections", "gauge", "TCP and TLS connections that stand.");
    let _ = writeln!(out, "trunkline_sip_connections {}", counts.open);
    family(out, "trunkline_sip_connections_total", "counter", "TCP and TLS connections, by what happened to them.");
    for (fate, count) in [
        ("accepted", counts.accepted),
        ("connected", counts.connected),
        ("refused", counts.refused),
        ("unreachable", counts.unreachable),
        ("handshake_failed", counts.handshakes_failed),
        ("slow_sender", counts.slow_senders),
        ("slow_reader", counts.slow_readers),
        ("malformed", counts.malformed),
        ("dead", counts.dead),
        ("evicted", counts.evicted),
    ] {
        let _ = writeln!(out, "trunkline_sip_connections_total{{fate=\"{fate}\"}} {count}");
    }
}

/// Begins a family of series.
pub fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn add(causes: &Mutex<BTreeMap<&'static str, u64>>, cause: &'static str) {
    *causes.lock().unwrap_or_else(PoisonError::into_inner).entry(cause).or_default() += 1;
}
