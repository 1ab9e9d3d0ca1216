//! How groups share load: statistically, and by property.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{builder, call, facts, group, route, seat, trunk};
use proptest::prelude::*;
use registry::{HashOn, Policy};
use routing::{Ask, Builder, Decision, Facts, RouteTable, Subject};

const POLICIES: [Policy; 4] = [Policy::Weighted, Policy::Hash, Policy::LeastCalls, Policy::Fastest];

fn table(policy: Policy, trunks: &[(&str, Facts)]) -> RouteTable {
    let mut built = builder(trunks, &[route("r", "", "g")]);
    built.set_group(&group("g", policy, HashOn::CallId));
    built.build(1)
}

fn weighted(n: u8, weight: u32) -> Facts {
    Facts { weight, ..facts("g", n) }
}

fn with_id(call_id: &str, draw: u64) -> Ask<'_> {
    let ask = call("1", draw);
    Ask { subject: Subject { call_id: call_id.as_bytes(), ..ask.subject }, ..ask }
}

fn counts(table: &RouteTable, calls: u64) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for n in 0..calls {
        let id = format!("{n}@x");
        *counts.entry(trunk(table, &with_id(&id, n)).unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn weighted_is_exact_over_any_window() {
    let table = table(Policy::Weighted, &[("a", weighted(1, 5)), ("b", weighted(2, 3)), ("c", weighted(3, 1))]);
    let drawn: Vec<String> = (0..90).map(|n| trunk(&table, &call("1", n)).unwrap()).collect();
    for window in drawn.windows(9) {
        let count = |id: &str| window.iter().filter(|one| *one == id).count();
        assert_eq!((count("a"), count("b"), count("c")), (5, 3, 1));
    }
}

#[test]
fn a_change_of_the_table_keeps_the_turns() {
    let mut built = builder(&[("a", weighted(1, 1)), ("b", weighted(2, 1))], &[route("r", "", "g")]);
    let mut drawn = Vec::new();
    for n in 0..10 {
        built.set("x", facts("other", n as u8));
        drawn.push(trunk(&built.build(n), &call("1", n)).unwrap());
        built.set("a", Facts { max_channels: Some(100 + n as u32), ..weighted(1, 1) });
    }
    assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]), "{drawn:?}");
}

#[test]
fn a_hash_keeps_like_calls_together_and_moves_only_what_must() {
    let trunks = [("a", weighted(1, 200)), ("b", weighted(2, 100)), ("c", weighted(3, 100))];
    let whole = table(Policy::Hash, &trunks);
    let by_id = |table: &RouteTable, n: u64, draw: u64| trunk(table, &with_id(&format!("{n}@x"), draw)).unwrap();
    const KEYS: u64 = 4000;
    let before: Vec<String> = (0..KEYS).map(|n| by_id(&whole, n, 1)).collect();
    assert!((0..200).all(|n| by_id(&whole, n, 99 + n) == before[n as usize]), "no draw decides");
    let share = |id: &str| before.iter().filter(|one| *one == id).count() as f64 / KEYS as f64;
    // Six standard deviations.
    assert!((share("a") - 0.5).abs() < 0.05 && (share("b") - 0.25).abs() < 0.042, "{} {}", share("a"), share("b"));
    let without = table(Policy::Hash, &trunks[..2]);
    for (n, before) in before.iter().enumerate() {
        let now = by_id(&without, n as u64, 1);
        assert!(before == "c" || now == *before, "{before} moved to {now}");
    }
}

#[test]
fn a_hash_may_be_of_the_caller_the_called_or_a_header() {
    struct Lines(&'static [(&'static str, &'static str)]);
    impl routing::Headers for Lines {
        fn any(&self, name: &str, f: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.0.iter().filter(|(other, _)| *other == name).any(|(_, value)| f(value.as_bytes()))
        }
    }
    for (on, same, other) in [
        (HashOn::From, "<sip:a@x>;tag=2", "<sip:b@x>;tag=1"),
        (HashOn::To, "\"B\" <sip:a@X>", "<sip:a@y>"),
        (HashOn::Header("X-Key".into()), "<sip:a@x>;tag=1", "<sip:a@x>;tag=2"),
    ] {
        let trunks: Vec<(String, Facts)> = (0..60).map(|n| (format!("t{n}"), facts("g", n))).collect();
        let mut built = builder(&[], &[route("r", "", "g")]);
        for (id, facts) in &trunks {
            built.set(id, facts.clone());
        }
        built.set_group(&group("g", Policy::Hash, on.clone()));
        let table = built.build(1);
        let name: &'static str = match on {
            HashOn::From => "From",
            HashOn::To => "To",
            _ => "X-Key",
        };
        let chosen = |value: &'static str, call_id: &str| {
            let lines: &'static [(&str, &str)] = Box::leak(Box::new([(name, value)]));
            let ask = with_id(call_id, 1);
            trunk(&table, &Ask { subject: Subject { headers: &Lines(lines), ..ask.subject }, ..ask }).unwrap()
        };
        let first = chosen("<sip:a@x>;tag=1", "1");
        assert_eq!(chosen(same, "2"), first, "{on:?}");
        assert_ne!(chosen(other, "1"), first, "{on:?}");
    }
}

#[test]
fn the_fewest_calls_for_the_room_win() {
    let room = |n: u8, max: u32| Facts { max_channels: Some(max), ..facts("g", n) };
    let table = table(Policy::LeastCalls, &[("a", room(1, 30)), ("b", room(2, 10))]);
    let seats: Vec<_> = (0..40).map(|n| seat(&table, &call("1", n)).unwrap()).collect();
    for taken in 1..=40usize {
        let a = seats[..taken].iter().filter(|seat| &*seat.trunk().id == "a").count();
        assert!((a as f64 / 30.0 - (taken - a) as f64 / 10.0).abs() <= 0.101, "{a} of {taken}");
    }
    assert!(seat(&table, &call("1", 41)).is_none());
}

#[test]
fn the_fastest_gets_most_and_a_failing_one_next_to_nothing() {
    let table = table(Policy::Fastest, &[("a", facts("g", 1)), ("b", facts("g", 2)), ("c", facts("g", 3))]);
    let feed = |id: &str, delay: Option<u64>, outcome: quality::Outcome| {
        let attempt = quality::Attempt { began: 0, outcome, delay };
        (0..200).for_each(|n| table.trunk(id).unwrap().live().averages().attempt(&attempt, n * 100));
    };
    feed("a", Some(200), quality::Outcome::Answer(200));
    feed("b", Some(900), quality::Outcome::Answer(200));
    feed("c", None, quality::Outcome::Timeout);
    let mut counts: HashMap<String, u32> = HashMap::new();
    for draw in 0..3000u64 {
        let ask = Ask { now: 20_000_000, ..call("1", draw.wrapping_mul(0x9E37_79B9)) };
        *counts.entry(trunk(&table, &ask).unwrap()).or_default() += 1;
    }
    // Of two that are drawn the better wins: the best two pairs of three, the second one, the worst none.
    assert!(counts["a"] > 1800 && counts["b"] > 800 && !counts.contains_key("c"), "{counts:?}");
}

#[test]
fn shares_follow_weights_by_every_policy_that_draws() {
    for policy in [Policy::Weighted, Policy::Hash] {
        let table = table(policy, &[("a", weighted(1, 300)), ("b", weighted(2, 100))]);
        let counts = counts(&table, 20_000);
        let share = counts["a"] as f64 / 20_000.0;
        assert!((share - 0.75).abs() < 0.02, "{policy:?}: {share}");
    }
}

type Some1 = (u8, u32, Option<u32>, u8);

fn random_trunk(n: u8, (kind, weight, max, priority): Some1) -> Facts {
    let mut facts = Facts { weight, max_channels: max, priority: u32::from(priority), ..facts("g", n) };
    match kind {
        0 => facts.obstacles.push("disabled".into()),
        1 => facts.doubts.push("probe: timeout".into()),
        2 => facts.rests.push("resting".into()),
        3 => facts.places.clear(),
        _ => {}
    }
    facts
}

fn trunks() -> impl Strategy<Value = Vec<Some1>> {
    prop::collection::vec((0u8..9, 1u32..500, prop::option::of(0u32..3), 0u8..3), 0..8)
}

proptest! {
    /// Whatever the policy: no trunk without life or room gets a call, no worse priority before a better one, and nobody is found
    /// only where nobody is.
    #[test]
    fn no_policy_breaks_the_rules(trunks in trunks(), draws in prop::collection::vec(any::<u64>(), 1..30), policy in 0usize..4) {
        let facts: Vec<(String, Facts)> =
            trunks.iter().enumerate().map(|(n, one)| (n.to_string(), random_trunk(n as u8, *one))).collect();
        let named: Vec<(&str, Facts)> = facts.iter().map(|(id, facts)| (id.as_str(), facts.clone())).collect();
        let table = table(POLICIES[policy], &named);
        let candidate = |n: &usize| facts[*n].1.obstacles.is_empty() && !facts[*n].1.places.is_empty();
        let well = |n: &usize| candidate(n) && facts[*n].1.doubts.is_empty() && facts[*n].1.rests.is_empty();
        let panic = (0..facts.len()).any(|n| candidate(&n)) && !(0..facts.len()).any(|n| well(&n));
        let mut room: Vec<Option<u32>> = facts.iter().map(|(_, facts)| facts.max_channels).collect();
        let mut seats = Vec::new();
        for draw in draws {
            let may = |n: &usize| (if panic { candidate(n) } else { well(n) }) && room[*n] != Some(0);
            let best = (0..facts.len()).filter(may).map(|n| facts[n].1.priority).min();
            match seat(&table, &with_id(&draw.to_string(), draw)) {
                Some(seat) => {
                    let n: usize = seat.trunk().id.parse().unwrap();
                    prop_assert!(may(&n), "{}", n);
                    prop_assert_eq!(Some(facts[n].1.priority), best);
                    room[n] = room[n].map(|left| left - 1);
                    seats.push(seat);
                }
                None => prop_assert_eq!(best, None),
            }
        }
    }

    /// What is imagined is what happens, word for word.
    #[test]
    fn imagination_is_the_decision(
        trunks in trunks(),
        others in trunks(),
        draws in prop::collection::vec((any::<u64>(), 0usize..4, any::<bool>()), 1..20),
        policy in 0usize..4,
        emergency in any::<bool>(),
    ) {
        let mut built = Builder::new(Vec::new(), Vec::new());
        for (n, one) in trunks.iter().enumerate() {
            built.set(&format!("a{n}"), random_trunk(n as u8, *one));
        }
        for (n, one) in others.iter().enumerate() {
            built.set(&format!("b{n}"), Facts { group: "h".into(), max_cps: Some(5.0), ..random_trunk(n as u8, *one) });
        }
        built.set_group(&group("g", POLICIES[policy], HashOn::CallId));
        let first = [registry::RouteTarget::Group("g".into()), registry::RouteTarget::Group("h".into())];
        let mut one = route("one", "1", "");
        one.targets = Box::new(first);
        one.emergency = emergency;
        built.set_route(&Arc::new(one));
        built.set_route(&Arc::new(route("two", "12", "h")));
        let table = built.build(3);
        let mut seats = Vec::new();
        for (n, (draw, number, keeps)) in draws.into_iter().enumerate() {
            let called = ["1", "12", "13", "2"][number];
            let id = draw.to_string();
            let ask = with_id(&id, draw);
            let ask = Ask { now: n as u64 * 50_000, subject: Subject { called: called.as_bytes(), ..ask.subject }, ..ask };
            let imagined = table.imagine(&ask);
            match table.decide(&ask) {
                Decision::Trunk { seat, target, panic, rule, trace } => {
                    let (chosen, at) = imagined.chosen.unwrap();
                    prop_assert_eq!((&*chosen.id, at), (&*seat.trunk().id, target));
                    prop_assert_eq!(imagined.trace.panic, panic);
                    prop_assert_eq!(&imagined.trace.rule, &rule);
                    prop_assert_eq!(Some(imagined.trace), trace.map(|trace| *trace));
                    if keeps {
                        seats.push(seat);
                    }
                }
                Decision::Nobody(refusal) => {
                    prop_assert!(imagined.chosen.is_none());
                    prop_assert_eq!(imagined.no_route, refusal.no_route);
                    prop_assert_eq!(imagined.trace, *refusal.trace);
                }
            }
        }
    }
}
