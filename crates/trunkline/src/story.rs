//! A trace of a decision, told: which routes matched and why one won, and what was found of each trunk.

use routing::{Considered, Matched, Trace, Verdict};
use serde_json::{Value, json};

/// The routes that name the called number, the most specific first.
pub fn routes(trace: &Trace) -> Vec<Value> {
    let winner = trace.routes.iter().position(|matched| matched.unmet.is_none());
    let next = winner.and_then(|at| trace.routes[at + 1..].iter().find(|matched| matched.unmet.is_none()));
    let tell = |(at, matched): (usize, &Matched)| {
        let won = winner == Some(at);
        let reason = match &matched.unmet {
            Some(unmet) => unmet.to_string(),
            None if won => why_it_won(matched, next),
            None => "less specific".to_owned(),
        };
        json!({
            "route": &**matched.rule.id(),
            "verdict": if won { "chosen" } else { "passed over" },
            "reason": reason,
            "called_prefix_length": matched.prefix,
            "exact": matched.exact,
            "conditions": matched.rule.conditions(),
            "precedence": matched.rule.route().precedence,
        })
    };
    trace.routes.iter().enumerate().map(tell).collect()
}

/// By which step of the order a route is before the next one that matches.
fn why_it_won(winner: &Matched, next: Option<&Matched>) -> String {
    let Some(next) = next else { return "the only one that matches".to_owned() };
    let id = next.rule.id();
    if winner.exact && !next.exact {
        return format!("the exact number, before a prefix (route {id})");
    }
    if winner.prefix != next.prefix {
        return format!("longer called prefix: {} against {} characters (route {id})", winner.prefix, next.prefix);
    }
    let (conditions, others) = (winner.rule.conditions(), next.rule.conditions());
    if conditions != others {
        return format!("more conditions: {conditions} against {others} (route {id})");
    }
    let (precedence, other) = (winner.rule.route().precedence, next.rule.route().precedence);
    if precedence != other {
        return format!("lower precedence: {precedence} against {other} (route {id})");
    }
    format!("as specific as route {id}, whose id comes later")
}

/// Every trunk that was considered, in order. `words` may say more of a verdict than it does itself.
pub fn trunks(trace: &Trace, words: impl Fn(&Considered) -> Option<String>) -> Vec<Value> {
    let targets = trace.rule.as_ref().map(|rule| &*rule.route().targets).unwrap_or_default();
    let tell = |considered: &Considered| {
        let mut told = json!({
            "trunk": &*considered.trunk,
            "code": considered.verdict.code(),
            "verdict": words(considered).unwrap_or_else(|| verdict(&considered.verdict)),
        });
        if let Some(target) = targets.get(usize::from(considered.target)) {
            told["target"] = target.to_json();
        }
        told
    };
    trace.considered.iter().map(tell).collect()
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Next => "could have had it: next, or chosen for other calls".to_owned(),
        other => other.to_string(),
    }
}

/// A trace as a whole.
pub fn tell(trace: &Trace, words: impl Fn(&Considered) -> Option<String>) -> Value {
    json!({
        "table_revision": trace.revision,
        "draw": format!("{:016x}", trace.draw),
        "route": trace.rule.as_ref().map(|rule| &**rule.id()),
        "routes": routes(trace),
        "trunks": trunks(trace, words),
        "more_trunks": trace.more,
        "panic": trace.panic,
    })
}
