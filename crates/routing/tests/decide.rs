//! The decision, statistically and by property.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use routing::{Builder, Decision, Facts, RouteTable, Seat};

fn facts(priority: u32, weight: u32, max_channels: Option<u32>) -> Facts {
    Facts {
        sip_uri: "sip:10.0.0.1".into(),
        addresses: vec!["10.0.0.1:5060".parse().unwrap()],
        priority,
        weight,
        max_channels,
        ..Facts::default()
    }
}

fn table(trunks: &[(&str, Facts)]) -> RouteTable {
    let mut builder = Builder::new(Vec::new());
    for (id, facts) in trunks {
        builder.set(id, facts.clone());
    }
    builder.build(1)
}

fn chosen(decision: Decision) -> Option<Seat> {
    match decision {
        Decision::Trunk(seat) => Some(seat),
        Decision::Nobody(_) => None,
    }
}

#[test]
fn the_lowest_priority_with_room_wins() {
    let table = table(&[("a", facts(1, 100, Some(1))), ("b", facts(2, 100, None)), ("c", facts(0, 100, Some(0)))]);
    let first = chosen(table.decide(true, &[], 1)).unwrap();
    assert_eq!(&*first.trunk().id, "a");
    let second = chosen(table.decide(true, &[], 2)).unwrap();
    assert_eq!(&*second.trunk().id, "b");
    drop(first);
    assert_eq!(&*chosen(table.decide(true, &[], 3)).unwrap().trunk().id, "a");
}

#[test]
fn load_is_shared_by_weight() {
    let table = table(&[("a", facts(0, 300, None)), ("b", facts(0, 100, None)), ("full", facts(0, 5000, Some(0)))]);
    let mut counts: HashMap<String, u32> = HashMap::new();
    const DRAWS: u32 = 40_000;
    for draw in 0..DRAWS {
        let seat = chosen(table.decide(true, &[], u64::from(draw))).unwrap();
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
    unresolved.addresses.clear();
    let table = table(&[("a", disabled), ("b", facts(0, 1, Some(0))), ("c", unresolved)]);
    let Decision::Nobody(why) = table.decide(true, &[], 0) else { panic!("a seat") };
    assert_eq!(why, "no trunk: b full 0/0; a disabled, lease expired; c unresolved");
    let Decision::Nobody(why) = Builder::new(Vec::new()).build(0).decide(true, &[], 0) else { panic!("a seat") };
    assert_eq!(why, "no trunk is registered");
}

#[test]
fn counts_survive_a_new_table_and_a_deregistration() {
    let mut builder = Builder::new(Vec::new());
    builder.set("a", facts(0, 1, Some(1)));
    let seat = chosen(builder.build(1).decide(true, &[], 0)).unwrap();
    builder.remove("a");
    assert!(chosen(builder.build(2).decide(true, &[], 0)).is_none());
    builder.set("a", facts(0, 1, Some(1)));
    let table = builder.build(3);
    assert!(chosen(table.decide(true, &[], 0)).is_none(), "the standing call still holds its channel");
    assert_eq!(table.trunk("a").unwrap().reasons(), ["full 1/1"]);
    drop(seat);
    assert!(chosen(table.decide(true, &[], 0)).is_some());
}

#[test]
fn sources_are_the_trunks_and_the_allowed() {
    let mut builder = Builder::new(vec!["192.0.2.0/24".parse().unwrap()]);
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
        assert_eq!(table.allows(source.parse().unwrap()), allowed, "{source}");
    }
    builder.remove("a");
    assert!(!builder.build(2).allows("10.0.0.1".parse().unwrap()));
}

proptest! {
    /// Whatever the trunks: no one without room or life is chosen, none is passed over for a worse
    /// priority, and nobody is found only when nobody is there.
    #[test]
    fn never_a_trunk_without_room(
        trunks in prop::collection::vec((0u32..3, 1u32..500, prop::option::of(0u32..3), any::<bool>()), 0..12),
        draws in prop::collection::vec(any::<u64>(), 1..40),
    ) {
        let mut builder = Builder::new(Vec::new());
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
            match chosen(table.decide(true, &[], draw)) {
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
