//! Groups of guarded trunks, by property and by numbers.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use quality::{Attempt, Gate, Guards, Outcome, Rules, State};

fn attempt(failed: bool, began: u64) -> Attempt {
    Attempt { began, outcome: Outcome::Answer(if failed { 503 } else { 200 }), delay: None }
}

#[derive(Clone, Debug)]
enum Step {
    Set { trunk: usize, group: usize, able: bool },
    Remove { trunk: usize },
    Rules { group: usize, guarded: bool },
    Call { trunk: usize, failed: bool, pause: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let trunk = 0usize..9;
    prop_oneof![
        2 => (trunk.clone(), 0usize..2, prop::bool::weighted(0.8))
            .prop_map(|(trunk, group, able)| Step::Set { trunk, group, able }),
        1 => trunk.clone().prop_map(|trunk| Step::Remove { trunk }),
        1 => (0usize..2, prop::bool::weighted(0.9)).prop_map(|(group, guarded)| Step::Rules { group, guarded }),
        20 => (trunk, prop::bool::weighted(0.6), 0u64..400)
            .prop_map(|(trunk, failed, pause)| Step::Call { trunk, failed, pause }),
    ]
}

const GROUPS: [&str; 2] = ["g", "h"];

proptest! {
    /// Whatever comes and goes: never more than half of the able rest or are on trial, gates and states agree, counts add up.
    #[test]
    fn at_most_half_of_a_group_is_out(steps in prop::collection::vec(step(), 1..150)) {
        let rules = Rules { min_calls: 2, rest: 2000, trial_calls: 2, ..Rules::default() };
        let mut guards = Guards::new(|at| at.to_string());
        let gates: Vec<Arc<Gate>> = (0..9).map(|_| Arc::default()).collect();
        let mut members: HashMap<usize, (usize, bool)> = HashMap::new();
        let mut guarded = [false; 2];
        let (mut now, mut rested) = (0, 0);
        for step in steps {
            match step {
                Step::Set { trunk, group, able } => {
                    guards.set(&format!("t{trunk}"), GROUPS[group], able, &gates[trunk], now);
                    members.insert(trunk, (group, able));
                }
                Step::Remove { trunk } => {
                    guards.remove(&format!("t{trunk}"), now);
                    members.remove(&trunk);
                }
                Step::Rules { group, guarded: on } => {
                    guards.set_rules(GROUPS[group], on.then_some(rules), now);
                    guarded[group] = on;
                }
                Step::Call { trunk, failed, pause } => {
                    now += pause;
                    let change = guards.ended(&format!("t{trunk}"), &attempt(failed, now), now);
                    rested += usize::from(change.is_some_and(|change| matches!(change.state, State::Resting { .. })));
                }
            }
            for (group, name) in GROUPS.iter().enumerate() {
                let of_it: Vec<_> = members.iter().filter(|(_, (of, _))| *of == group).collect();
                let able = of_it.iter().filter(|(_, (_, able))| *able).count();
                let out = of_it.iter().filter(|(trunk, (_, able))| *able && !gates[**trunk].is_open()).count();
                prop_assert!(out <= able / 2, "{} of {} are out", out, able);
                prop_assert_eq!(guards.counts(name), (able, out));
                for (trunk, _) in of_it {
                    let status = guards.status(&format!("t{trunk}"), now);
                    prop_assert_eq!(status.is_some(), guarded[group]);
                    prop_assert_eq!(gates[*trunk].is_guarded(), guarded[group]);
                    let closed = status.is_none_or(|status| status.state == State::Closed);
                    prop_assert_eq!(gates[*trunk].is_open(), closed);
                }
            }
            let states: Vec<_> = (0..9).filter_map(|trunk| guards.status(&format!("t{trunk}"), now)).collect();
            let of = |name: &str| states.iter().filter(|status| status.state.name() == name).count();
            prop_assert_eq!(guards.states(now), (of("closed"), of("trial"), of("resting")));
        }
        for (trunk, gate) in gates.iter().enumerate().filter(|(trunk, _)| !members.contains_key(trunk)) {
            prop_assert!(gate.is_open() && !gate.is_guarded(), "t{} is nobody's any more", trunk);
        }
        prop_assume!(rested > 0);
    }
}

/// Plays calls at a steady rate over trunks that fail with given odds; the share of calls that each got, and all that failed.
fn play(odds: &[f64], rules: Rules, calls: u32) -> (Vec<f64>, f64) {
    let mut guards = Guards::new(|at| at.to_string());
    guards.set_rules("g", Some(rules), 0);
    let gates: Vec<Arc<Gate>> = odds.iter().map(|_| Arc::default()).collect();
    for (at, gate) in gates.iter().enumerate() {
        guards.set(&at.to_string(), "g", true, gate, 0);
    }
    let mut random = 1u64;
    let mut draw = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as f64 / (1u64 << 31) as f64
    };
    let (mut got, mut failures) = (vec![0u32; odds.len()], 0);
    for call in 0..calls {
        let now = u64::from(call) * 20;
        let at = loop {
            let at = (draw() * odds.len() as f64) as usize;
            if gates[at].take(now) {
                break at;
            }
        };
        let failed = draw() < odds[at];
        got[at] += 1;
        failures += u32::from(failed);
        guards.ended(&at.to_string(), &attempt(failed, now), now);
    }
    (got.iter().map(|got| f64::from(*got) / f64::from(calls)).collect(), f64::from(failures) / f64::from(calls))
}

#[test]
fn a_trunk_that_always_fails_gets_next_to_nothing() {
    let (shares, failed) = play(&[0.0, 0.0, 1.0], Rules::default(), 100_000);
    assert!(shares[2] < 0.003, "{shares:?}");
    assert!(failed < 0.003, "{failed}");
}

#[test]
fn good_trunks_do_not_rest() {
    let (shares, _) = play(&[0.05, 0.05, 0.05, 0.05], Rules::default(), 100_000);
    for share in shares {
        assert!((share - 0.25).abs() < 0.01, "{share}");
    }
}

#[test]
fn when_all_fail_half_go_on() {
    let (shares, _) = play(&[1.0, 1.0, 1.0, 1.0, 1.0], Rules::default(), 10_000);
    let mut shares: Vec<u32> = shares.iter().map(|share| (share * 100.0) as u32).collect();
    shares.sort_unstable();
    assert!(shares[1] < 2 && shares[2] > 25, "two of five rest, three share the calls: {shares:?}");
}

#[test]
fn rests_grow_and_a_proof_begins_anew() {
    let rules = Rules { min_calls: 1, rest: 1000, trial_calls: 1, ..Rules::default() };
    let mut guards = Guards::new(|at| format!("{at} ms"));
    let gates: [Arc<Gate>; 2] = Default::default();
    guards.set_rules("g", Some(rules), 0);
    guards.set("a", "g", true, &gates[0], 0);
    guards.set("b", "g", true, &gates[1], 0);
    let mut now = 10;
    let mut rests = Vec::new();
    for _ in 0..6 {
        guards.ended("a", &attempt(true, now), now).unwrap();
        let State::Resting { until } = guards.status("a", now).unwrap().state else { panic!("it does not rest") };
        assert!(!gates[0].passes(until - 1) && !gates[0].take(until - 1));
        assert!(gates[0].reason(until - 1).unwrap().ends_with(&format!("resting until {until} ms")));
        rests.push(until - now);
        now = until;
        assert!(gates[0].take(now) && !gates[0].take(now + 999), "one call a second");
        assert_eq!(&*gates[0].reason(now).unwrap(), "guard: on trial");
    }
    assert_eq!(rests, [1000, 2000, 4000, 8000, 8000, 8000]);
    assert_eq!(guards.ended("a", &attempt(false, now - 1), now), None, "it began before the trial");
    let change = guards.ended("a", &attempt(false, now), now).unwrap();
    assert_eq!((change.state, &*change.why), (State::Closed, "guard: 1 good calls in a row"));
    assert!(gates[0].is_open() && gates[0].reason(now).is_none());
    let change = guards.ended("a", &attempt(true, now + 5), now + 5).unwrap();
    assert_eq!(change.why, format!("guard: 100 % of 1 calls failed, resting until {} ms", now + 1005));
}
