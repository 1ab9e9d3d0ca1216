//! The decision, statistically and by property.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use routing::{Ask, Builder, Decision, Facts, Place, RouteTable, Seat};
use sip::Transport;

fn facts(priority: u32, weight: u32, max_channels: Option<u32>) -> Facts {
    Facts {
        sip_uri: "sip:10.0.0.1".into(),
        places: vec![Place::udp("10.0.0.1:5060".parse().unwrap())],
        priority,
        weight,
        max_channels,
        ..Facts::default()
    }
}

fn table(trunks: &[(&str, Facts)]) -> RouteTable {
    let mut builder = Builder::new(Vec::new(), Vec::new());
    for (id, facts) in trunks {
        builder.set(id, facts.clone());
    }
    builder.build(1)
}

fn call(draw: u64) -> Ask<'static> {
    Ask { begins_call: true, draw, ..Ask::default() }
}

fn chosen(decision: Decision) -> Option<Seat> {
    match decision {
        Decision::Trunk { seat, .. } => Some(seat),
        Decision::Nobody(_) => None,
    }
}

#[test]
fn the_lowest_priority_with_room_wins() {
    let table = table(&[("a", facts(1, 100, Some(1))), ("b", facts(2, 100, None)), ("c", facts(0, 100, Some(0)))]);
    let first = chosen(table.decide(&call(1))).unwrap();
    assert_eq!(&*first.trunk().id, "a");
    let second = chosen(table.decide(&call(2))).unwrap();
    assert_eq!(&*second.trunk().id, "b");
    drop(first);
    assert_eq!(&*chosen(table.decide(&call(3))).unwrap().trunk().id, "a");
}

#[test]
fn load_is_shared_by_weight() {
    let table = table(&[("a", facts(0, 300, None)), ("b", facts(0, 100, None)), ("full", facts(0, 5000, Some(0)))]);
    let mut counts: HashMap<String, u32> = HashMap::new();
    const DRAWS: u32 = 40_000;
    for draw in 0..DRAWS {
        let seat = chosen(table.decide(&call(u64::from(draw)))).unwrap();
        *counts.entry(seat.trunk().id.to_string()).or_default() += 1;
    }
    assert_eq!(counts.len(), 2, "a trunk without room is never drawn");
    // Five standard deviations of a binomial with p = 3/4.
    let (expected, deviation) = (f64::from(DRAWS) * 0.75, (f64::from(DRAWS) * 0.75 * 0.25).sqrt());
    assert!((f64::from(counts["a"]) - expected).abs() < 5.0 * deviation, "{counts:?}");
}

#[test]
fn a_refusal_says_why() {
    let mut disabled = facts(0, 1, None);
    disabled.obstacles = vec!["disabled".into(), "lease expired".into()];
    let mut unresolved = facts(0, 1, None);
    unresolved.places.clear();
    let table = table(&[("a", disabled), ("b", facts(0, 1, Some(0))), ("c", unresolved)]);
    let Decision::Nobody(refusal) = table.decide(&call(0)) else { panic!("a seat") };
    assert_eq!(refusal.why, "no trunk: a disabled, lease expired; b full 0/0; c unresolved");
    let Decision::Nobody(refusal) = Builder::new(Vec::new(), Vec::new()).build(0).decide(&call(0)) else {
        panic!("a seat")
    };
    assert_eq!(refusal.why, "no trunk is registered");
}

#[test]
fn counts_survive_a_new_table_and_a_deregistration() {
    let mut builder = Builder::new(Vec::new(), Vec::new());
    builder.set("a", facts(0, 1, Some(1)));
    let seat = chosen(builder.build(1).decide(&call(0))).unwrap();
    builder.remove("a");
    assert!(chosen(builder.build(2).decide(&call(0))).is_none());
    builder.set("a", facts(0, 1, Some(1)));
    let table = builder.build(3);
    assert!(chosen(table.decide(&call(0))).is_none(), "the standing call still holds its channel");
    assert_eq!(table.trunk("a").unwrap().reasons(0), ["full 1/1"]);
    drop(seat);
    assert!(chosen(table.decide(&call(0))).is_some());
}

#[test]
fn sources_are_the_trunks_and_the_allowed() {
    let mut builder = Builder::new(vec!["192.0.2.0/24".parse().unwrap()], vec!["192.0.2.128/25".parse().unwrap()]);
    let mut a = facts(0, 1, None);
    a.sources = vec!["2001:db8::/32".parse().unwrap()];
    builder.set("a", a);
    let table = builder.build(1);
    for (source, allowed) in [
        ("192.0.2.77", true),
        ("10.0.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("10.0.0.2", false),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
    ] {
        assert_eq!(table.admit(source.parse().unwrap(), &[]).allowed, allowed, "{source}");
    }
    builder.remove("a");
    assert!(!builder.build(2).admit("10.0.0.1".parse().unwrap(), &[]).allowed);
}

fn target(decision: &Decision) -> Option<(String, u16, bool)> {
    match decision {
        Decision::Trunk { seat, target, panic, .. } => {
            let trunk = seat.trunk();
            Some((trunk.id.to_string(), trunk.targets[*target].place.address.port(), *panic))
        }
        Decision::Nobody(_) => None,
    }
}

fn at(port: u16, priority: u32, weight: u16) -> Place {
    Place { priority, weight, ..Place::udp(([10, 0, 0, 1], port).into()) }
}

#[test]
fn targets_go_by_priority_and_weight_and_verdict() {
    let many = Facts { places: vec![at(1, 10, 30), at(2, 10, 10), at(3, 20, 0)], ..facts(0, 1, None) };
    let table = table(&[("a", many)]);
    let mut counts = HashMap::new();
    const DRAWS: u32 = 20_000;
    for draw in 0..DRAWS {
        let (_, port, _) = target(&table.decide(&call(u64::from(draw)))).unwrap();
        *counts.entry(port).or_insert(0u32) += 1;
    }
    assert_eq!(counts.get(&3), None, "a later priority is for failures alone");
    let share = f64::from(counts[&1]) / f64::from(DRAWS);
    assert!((share - 0.75).abs() < 0.02, "{counts:?}");

    let targets = &table.trunk("a").unwrap().targets;
    targets[0].live.set_usable(false);
    assert_eq!(target(&table.decide(&call(1))).unwrap().1, 2);
    let tried = [targets[1].live.serial()];
    let again = Ask { again: Some(("a", &tried)), tried: &[table.trunk("a").unwrap().live().serial()], ..call(1) };
    assert_eq!(target(&table.decide(&again)).unwrap().1, 3, "the next target of the same trunk");
    let all = [targets[1].live.serial(), targets[2].live.serial()];
    assert_eq!(target(&table.decide(&Ask { again: Some(("a", &all)), ..again })), None);
    let secure = Ask { secure: true, ..call(1) };
    let Decision::Nobody(refusal) = table.decide(&secure) else { panic!("a seat") };
    assert_eq!(refusal.why, "no trunk: a not reached by TLS");
}

#[test]
fn tls_alone_takes_secure_calls() {
    let tls = Place { transport: Transport::Tls, ..at(5061, 5, 0) };
    let table = table(&[("a", Facts { places: vec![at(5060, 1, 0), tls], ..facts(0, 1, None) })]);
    assert_eq!(target(&table.decide(&Ask { secure: true, ..call(1) })).unwrap().1, 5061);
    assert_eq!(target(&table.decide(&call(1))).unwrap().1, 5060);
}

#[test]
fn doubts_are_overruled_when_all_are_in_doubt() {
    let doubted = Facts { doubts: vec!["probe: timeout".into()], ..facts(0, 1, None) };
    let off = Facts { obstacles: vec!["disabled".into()], ..facts(0, 1, None) };
    let table = table(&[("a", doubted), ("b", facts(1, 1, None)), ("off", off)]);
    assert_eq!(target(&table.decide(&call(1))), Some(("b".into(), 5060, false)));
    assert!(!table.is_in_panic());
    let b = table.trunk("b").unwrap();
    b.live().set_resting(true);
    assert!(table.is_in_panic());
    assert_eq!(target(&table.decide(&call(1))), Some(("a".into(), 5060, true)), "by priority, as ever");
    let tried = [table.trunk("a").unwrap().live().serial()];
    assert_eq!(target(&table.decide(&Ask { tried: &tried, ..call(1) })), Some(("b".into(), 5060, true)));
    b.live().set_resting(false);
    b.targets[0].live.set_usable(false);
    assert!(table.is_in_panic());
    b.targets[0].live.set_usable(true);
    let tried = [b.live().serial()];
    let full = Ask { tried: &tried, ..call(1) };
    assert_eq!(target(&table.decide(&full)), None, "b is well: that it was tried is no panic");
}

#[test]
fn a_panic_tries_every_target() {
    let table = table(&[("a", Facts { places: vec![at(1, 0, 0), at(2, 0, 0)], ..facts(0, 1, None) })]);
    let trunk = table.trunk("a").unwrap();
    trunk.targets.iter().for_each(|target| target.live.set_usable(false));
    let (_, first, panic) = target(&table.decide(&call(1))).unwrap();
    assert!(panic);
    let tried: Vec<u32> =
        trunk.targets.iter().filter(|t| t.place.address.port() == first).map(|t| t.live.serial()).collect();
    let again = Ask { again: Some(("a", &tried)), tried: &[trunk.live().serial()], ..call(2) };
    assert_eq!(target(&table.decide(&again)), Some(("a".into(), 3 - first, true)));
}

#[test]
fn a_trunk_at_its_rate_is_passed_over_like_a_full_one() {
    let table = table(&[("a", Facts { max_cps: Some(10.0), ..facts(0, 1, None) }), ("b", facts(1, 1, None))]);
    let chosen = |now: u64| target(&table.decide(&Ask { now, ..call(now) })).unwrap().0;
    let at_once: Vec<String> = (0..5).map(|_| chosen(1_000_000)).collect();
    assert_eq!(at_once, ["a", "a", "b", "b", "b"], "a tenth of a second's worth, and one");
    assert_eq!(table.trunk("a").unwrap().reasons(1_000_000), ["rate 10/s"]);
    assert_eq!(table.trunk("a").unwrap().live().active(), 0, "who is passed over holds no channel");
    assert_eq!(chosen(1_100_000), "a");
    let options = Ask { begins_call: false, now: 1_100_000, ..Ask::default() };
    assert_eq!(target(&table.decide(&options)).unwrap().0, "a", "what begins no call does not count");
}

#[test]
fn verdicts_outlive_a_table_and_trust_follows_the_trunk() {
    let mut builder = Builder::new(Vec::new(), Vec::new());
    let two = Facts { places: vec![at(1, 0, 0), at(2, 0, 0)], ..facts(0, 1, None) };
    builder.set("a", two.clone());
    builder.trunk("a").unwrap().targets[0].live.set_usable(false);
    builder.set("a", Facts { places: vec![at(3, 0, 0), at(1, 0, 0)], trusted: true, ..two });
    let table = builder.build(1);
    let usable: Vec<bool> = table.trunk("a").unwrap().targets.iter().map(|target| target.live.is_usable()).collect();
    assert_eq!(usable, [true, false]);
    assert!(table.admit("10.0.0.1".parse().unwrap(), &[]).trusted);

    let named = Facts { certificate_name: Some("pbx.example".into()), places: Vec::new(), ..facts(0, 1, None) };
    builder.set("b", named);
    let admitted = builder.build(2).admit("203.0.113.1".parse().unwrap(), &["pbx.example".into()]);
    assert!(admitted.allowed && !admitted.trusted);
}

proptest! {
    /// Whatever the trunks: no one without room or life is chosen, none is passed over for a worse
    /// priority, and nobody is found only when nobody is there.
    #[test]
    fn never_a_trunk_without_room(
        trunks in prop::collection::vec((0u32..3, 1u32..500, prop::option::of(0u32..3), any::<bool>()), 0..12),
        draws in prop::collection::vec(any::<u64>(), 1..40),
    ) {
        let mut builder = Builder::new(Vec::new(), Vec::new());
        for (n, (priority, weight, max, live)) in trunks.iter().enumerate() {
            let mut facts = facts(*priority, *weight, *max);
            if !live {
                facts.obstacles.push("disabled".into());
            }
            builder.set(&n.to_string(), facts);
        }
        let table = builder.build(1);
        let mut room: Vec<Option<u32>> = trunks.iter().map(|(_, _, max, live)| if *live { *max } else { Some(0) }).collect();
        let mut seats = Vec::new();
        for draw in draws {
            let best = (0..trunks.len()).filter(|n| room[*n] != Some(0)).map(|n| trunks[n].0).min();
            match chosen(table.decide(&call(draw))) {
                Some(seat) => {
                    let n: usize = seat.trunk().id.parse().unwrap();
                    prop_assert!(room[n] != Some(0));
                    prop_assert_eq!(Some(trunks[n].0), best);
                    room[n] = room[n].map(|left| left - 1);
                    seats.push(seat);
                }
                None => prop_assert_eq!(best, None),
            }
        }
        let held: usize = table.trunks().iter().map(|trunk| trunk.live().active() as usize).sum();
        prop_assert_eq!(held, seats.len());
        drop(seats);
        prop_assert!(table.trunks().iter().all(|trunk| trunk.live().active() == 0));
    }
}

/// `a` and `b` in a guarded group, of which `a` has just failed a call.
fn guarded(rest: u64) -> (RouteTable, quality::Guards) {
    let table = table(&[("a", facts(0, 1000, None)), ("b", facts(0, 1, None))]);
    let mut guards = quality::Guards::new(|at| format!("{at} ms"));
    guards.set_rules("g", Some(quality::Rules { min_calls: 1, rest, ..Default::default() }), 0);
    for trunk in table.trunks() {
        guards.set(&trunk.id, "g", true, trunk.live().gate(), 0);
    }
    let failed = quality::Attempt { began: 0, outcome: quality::Outcome::Timeout, delay: None };
    guards.ended("a", &failed, 0).unwrap();
    (table, guards)
}

#[test]
fn a_guarded_trunk_rests_and_gets_a_trickle() {
    let (table, _guards) = guarded(5000);
    let mut got_at = Vec::new();
    for now in 0..10_000_000 / 5000 {
        let ask = Ask { now: now * 5000, ..call(now) };
        if &*chosen(table.decide(&ask)).unwrap().trunk().id == "a" {
            got_at.push(ask.now);
        }
    }
    // Ten seconds: five of rest, then one call a second.
    assert_eq!(got_at, [5_000_000, 6_000_000, 7_000_000, 8_000_000, 9_000_000]);
    let (resting, trial) = (table.trunks()[0].reasons(0), table.trunks()[0].reasons(5_000_000));
    assert_eq!(resting, ["guard: 100 % of 1 calls failed, resting until 5000 ms"]);
    assert_eq!(trial, ["guard: on trial"]);
}

#[test]
fn a_panic_overrules_the_guard() {
    let (table, _guards) = guarded(5000);
    let b = &table.trunks()[1];
    assert!(!table.is_in_panic());
    b.live().set_resting(true);
    assert!(table.is_in_panic());
    let Decision::Trunk { panic, .. } = table.decide(&call(1)) else { panic!("nobody") };
    assert!(panic);
    b.live().set_resting(false);
    let Decision::Trunk { seat, panic, .. } = table.decide(&call(1)) else { panic!("nobody") };
    assert!(!panic && &*seat.trunk().id == "b");
}
