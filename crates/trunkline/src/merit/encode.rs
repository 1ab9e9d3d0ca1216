//! Prometheus text of quality. Ratios are those of the last five minutes, for trunks that had calls in them, at most so many.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use quality::{DELAY_BOUNDS, Sums};
use routing::RouteTable;

use super::Merits;
use crate::metrics::family;

/// Trunks that have ratios: the first by id. Dashboards of more are better fed by records of calls.
const MOST_TRUNKS: usize = 1000;

type Ratio = (&'static str, &'static str, fn(&Sums) -> Option<f64>);

const RATIOS: [Ratio; 4] = [
    (
        "trunkline_answer_seizure_ratio",
        "Answered of the attempts of five minutes, by trunk.",
        Sums::answer_seizure_ratio,
    ),
    (
        "trunkline_network_effectiveness_ratio",
        "Attempts of five minutes for which the network did its part, by trunk.",
        Sums::network_effectiveness_ratio,
    ),
    ("trunkline_average_post_dial_delay_seconds", "Average post-dial delay of five minutes, by trunk.", |sums| {
        Some(sums.average_delay()? / 1000.0)
    }),
    (
        "trunkline_average_call_seconds",
        "Average duration of the calls that ended within five minutes, by trunk.",
        |sums| Some(sums.average_duration()? / 1000.0),
    ),
];

impl Merits {
    /// Appends the Prometheus text.
    pub fn encode(&self, out: &mut String, table: &RouteTable) {
        let now = self.now();
        let mut active: Vec<(&str, Sums)> = Vec::new();
        let mut left_out = 0;
        for trunk in table.trunks() {
            let mut series = trunk.live().series();
            if series.trim(now) {
                continue;
            }
            if active.len() < MOST_TRUNKS {
                active.push((&trunk.id, series.windows(now).short));
            } else {
                left_out += 1;
            }
        }
        for (name, help, ratio) in RATIOS {
            family(out, name, "gauge", help);
            for (id, sums) in &active {
                if let Some(value) = ratio(sums) {
                    let _ = writeln!(out, "{name}{{trunk=\"{id}\"}} {value}");
                }
            }
        }
        family(out, "trunkline_quality_trunks_left_out", "gauge", "Trunks with calls that have no ratios here.");
        let _ = writeln!(out, "trunkline_quality_trunks_left_out {left_out}");
        self.encode_delays(out);
        self.encode_guards(out);
        let (held, evicted) = self.prefixes.iter().fold((0, 0), |(held, evicted), shard| {
            let shard = shard.lock();
            (held + shard.len(), evicted + shard.evicted())
        });
        family(out, "trunkline_quality_prefixes", "gauge", "Series by trunk and called prefix that are held.");
        let _ = writeln!(out, "trunkline_quality_prefixes {held}");
        family(out, "trunkline_quality_prefixes_evicted_total", "counter", "Series that went to make room.");
        let _ = writeln!(out, "trunkline_quality_prefixes_evicted_total {evicted}");
    }

    fn encode_delays(&self, out: &mut String) {
        let name = "trunkline_post_dial_delay_seconds";
        family(out, name, "histogram", "From an INVITE to its first answer of 180 to 299, all trunks together.");
        let mut count = 0;
        for (at, bucket) in self.delays.counts.iter().enumerate() {
            count += bucket.load(Relaxed);
            match DELAY_BOUNDS.get(at) {
                Some(bound) => {
                    let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {count}", *bound as f64 / 1000.0);
                }
                None => {
                    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
                }
            }
        }
        let _ = writeln!(out, "{name}_sum {}", self.delays.sum.load(Relaxed) as f64 / 1000.0);
        let _ = writeln!(out, "{name}_count {count}");
    }

    fn encode_guards(&self, out: &mut String) {
        let (closed, trial, resting) = self.guards.lock().states(self.now());
        family(out, "trunkline_guarded_trunks", "gauge", "Trunks of guarded groups, by state.");
        for (state, count) in [("closed", closed), ("trial", trial), ("resting", resting)] {
            let _ = writeln!(out, "trunkline_guarded_trunks{{state=\"{state}\"}} {count}");
        }
        family(out, "trunkline_guard_rests_total", "counter", "Rests that guards have ordered.");
        let _ = writeln!(out, "trunkline_guard_rests_total {}", self.rests.load(Relaxed));
    }
}
