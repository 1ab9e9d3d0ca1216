//! What `GET /trunks/{id}/quality` says.

use quality::{DELAY_BOUNDS, State, Sums, Windows};
use routing::Trunk;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Merits;
use crate::watch::moment;

impl Merits {
    /// The counts of a trunk, its averages, its guard, and at most `limit` of its prefixes, those after `after`.
    pub fn describe(&self, trunk: &Trunk, limit: usize, after: Option<&str>) -> Option<Box<RawValue>> {
        let (live, now) = (trunk.live(), self.now());
        let counts = live.series().windows(now);
        let mut value = json!({
            "trunk": &*trunk.id,
            "windows": windows(&counts),
            "averages": {
                "post_dial_delay_ms": rounded(live.averages().delay(now).into()),
                "failure_share": rounded(live.averages().failures(now).into()),
            },
            "guard": self.guard(trunk),
        });
        let mut prefixes = Vec::new();
        for shard in &self.prefixes {
            let shard = shard.lock();
            let of_it =
                shard.of_trunk(live.serial(), now).filter(|(prefix, _)| after.is_none_or(|after| &***prefix > after));
            prefixes.extend(of_it.map(|(prefix, windows)| (prefix.clone(), windows.long)));
        }
        prefixes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if prefixes.len() > limit {
            prefixes.truncate(limit);
            value["next"] = prefixes.last().map(|(prefix, _)| json!(&**prefix)).unwrap_or_default();
        }
        let brief = |(prefix, sums): &(_, Sums)| {
            let prefix: &std::sync::Arc<str> = prefix;
            json!({
                "prefix": &**prefix,
                "attempts": sums.attempts,
                "answer_seizure_ratio": sums.answer_seizure_ratio().map(rounded),
                "network_effectiveness_ratio": sums.network_effectiveness_ratio().map(rounded),
            })
        };
        value["prefixes"] = prefixes.iter().map(brief).collect();
        raw(&value)
    }

    /// The counts of a trunk and a called prefix; none where none are held.
    pub fn describe_prefix(&self, trunk: &Trunk, prefix: &str) -> Option<Box<RawValue>> {
        let counts = self.prefixes_of(prefix).windows(trunk.live().serial(), prefix, self.now())?;
        raw(&json!({ "trunk": &*trunk.id, "prefix": prefix, "windows": windows(&counts) }))
    }

    fn guard(&self, trunk: &Trunk) -> Option<Value> {
        let status = self.guards.lock().status(&trunk.id, self.now())?;
        let mut value = json!({
            "state": status.state.name(),
            "calls": status.calls,
            "failed": status.failed,
            "rests": status.rests,
        });
        match status.state {
            State::Resting { until } => value["until"] = json!(moment(&self.clock, until)),
            State::Trial { goods } => value["good_calls"] = json!(goods),
            State::Closed => {}
        }
        Some(value)
    }
}

fn windows(windows: &Windows) -> Value {
    json!({ "5m": sums(&windows.short), "1h": sums(&windows.long) })
}

fn sums(sums: &Sums) -> Value {
    let bounds = DELAY_BOUNDS.iter().map(ToString::to_string).zip(sums.delays);
    let mut at_most = 0;
    let at_most: Map<String, Value> = bounds
        .map(|(bound, count)| {
            at_most += count;
            (bound, json!(at_most))
        })
        .collect();
    let mut answers: Map<String, Value> =
        sums.codes.iter().map(|(outcome, count)| (outcome.to_string(), json!(count))).collect();
    if sums.codes.others > 0 {
        answers.insert("others".to_owned(), json!(sums.codes.others));
    }
    json!({
        "attempts": sums.attempts,
        "passing": sums.passing,
        "answered": sums.answered,
        "effective": sums.effective,
        "failed": sums.failed,
        "answer_seizure_ratio": sums.answer_seizure_ratio().map(rounded),
        "network_effectiveness_ratio": sums.network_effectiveness_ratio().map(rounded),
        "failure_share": sums.failure_share().map(rounded),
        "calls_ended": sums.ended,
        "average_duration_seconds": sums.average_duration().map(|millis| rounded(millis / 1000.0)),
        "post_dial_delay_ms": {
            "average": sums.average_delay().map(f64::round),
            "at_most": at_most,
            "more": sums.delays[DELAY_BOUNDS.len()],
        },
        "answers": answers,
    })
}

/// Four places: more says nothing.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn raw(value: &Value) -> Option<Box<RawValue>> {
    // Plain data always serialises.
    serde_json::value::to_raw_value(value).ok()
}
