//! Leases: never early, never late, and never lost to our own standstill.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use registry::{Beat, Command, EventKind, Now};
use world::World;

const BODY: &str = r#"{"sip_uri":"sip:a","heartbeat_seconds":5}"#;

fn beat(world: &mut World, id: &str) -> Beat {
    match world.registry.heartbeat(id, world.now()) {
        Beat::Lapsed => world.registry.revive(id, world.now()),
        beat => beat,
    }
}

#[test]
fn a_lease_lapses_comes_back_and_ends() {
    let mut world = World::new();
    world.put("a", BODY).unwrap();
    world.pass(14_900);
    assert!(world.view("a").unwrap().up);
    world.pass(100);
    let view = world.view("a").unwrap();
    assert!(!view.up);
    assert_eq!(view.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(), ["lease expired"]);
    assert_eq!((world.registry.up(), world.registry.lease_expiries()), (0, 1));

    world.pass(599_000);
    assert_eq!(beat(&mut world, "a"), Beat::Renewed);
    assert_eq!((world.view("a").unwrap().up, world.registry.up()), (true, 1));

    world.pass(15_000 + 599_900);
    assert!(world.view("a").is_some());
    world.pass(100);
    assert!(world.view("a").is_none() && world.store.is_empty());
    assert_eq!(beat(&mut world, "a"), Beat::Unknown);
    let kinds: Vec<_> = world.events().into_iter().map(|(kind, _)| kind).collect();
    use EventKind::{Deregistered, Down, Registered, Up};
    assert_eq!(kinds, [Registered, Down, Up, Down, Deregistered]);
}

#[test]
fn a_put_of_the_same_record_brings_a_lapsed_trunk_back() {
    let mut world = World::new();
    world.put("a", BODY).unwrap();
    world.pass(20_000);
    assert!(!world.view("a").unwrap().up);
    world.put("a", BODY).unwrap();
    assert_eq!((world.view("a").unwrap().up, world.registry.up()), (true, 1));
}

#[test]
fn no_lease_never_ends_and_a_lease_may_be_taken_up_again() {
    let mut world = World::new();
    world.put("a", r#"{"sip_uri":"sip:a","heartbeat_seconds":0}"#).unwrap();
    world.pass(3_600_000);
    assert!(world.view("a").unwrap().up);
    // From a lease to none, until its queue entry has come up, and back to a lease.
    world.put("a", BODY).unwrap();
    world.patch("a", r#"{"heartbeat_seconds":0}"#).unwrap();
    world.pass(60_000);
    assert!(world.view("a").unwrap().up);
    world.patch("a", r#"{"heartbeat_seconds":5}"#).unwrap();
    world.pass(14_900);
    assert!(world.view("a").unwrap().up);
    world.pass(100);
    assert!(!world.view("a").unwrap().up);
}

#[test]
fn a_standstill_of_ours_moves_all_leases() {
    let mut world = World::new();
    world.put("a", BODY).unwrap();
    world.pass(10_000);
    world.mono_ms += 3_600_000;
    // Before the first tick after it, too: whoever reads meanwhile must see no mass expiry.
    assert!(world.view("a").unwrap().up);
    assert!(world.registry.tick(world.now()).is_empty());
    // A second of it counts, as between any two ticks.
    world.pass(3_900);
    assert!(world.view("a").unwrap().up);
    world.pass(100);
    assert!(!world.view("a").unwrap().up);
}

#[test]
fn an_expiry_that_nobody_looks_at_shows() {
    let mut world = World::new();
    assert_eq!(world.registry.overdue(world.now()), 0, "nothing can be late");
    world.put("a", BODY).unwrap();
    world.pass(14_900);
    assert_eq!(world.registry.overdue(world.now()), 0);
    world.mono_ms += 7_100;
    assert_eq!(world.registry.overdue(world.now()), 7_000);
    assert!(world.view("a").unwrap().up, "the standstill itself ends no lease");
    world.registry.tick(world.now());
    assert_eq!(world.registry.overdue(world.now()), 0);
}

#[test]
fn a_restart_begins_every_lease_anew() {
    let mut world = World::new();
    world.put("a", BODY).unwrap();
    world.pass(14_000);
    let mut fresh = World::new();
    fresh.mono_ms = 7;
    let now = fresh.now();
    for (key, stored) in &world.store {
        world::apply(&mut fresh.registry, key, &Some(stored.clone()), now);
    }
    fresh.pass(14_900);
    assert!(fresh.view("a").unwrap().up);
    fresh.pass(200);
    assert!(!fresh.view("a").unwrap().up);
}

#[test]
fn deregistration_is_off_when_the_trunk_came_back() {
    let mut world = World::new();
    world.put("a", BODY).unwrap();
    world.pass(15_000);
    world.mono_ms += 600_000;
    let order = (0..700)
        .find_map(|_| {
            world.mono_ms += 1000;
            world.registry.tick(world.now()).pop()
        })
        .unwrap();
    assert!(matches!(&order, Command::Expire { id, .. } if id == "a"));
    beat(&mut world, "a");
    world.run(order).unwrap();
    assert!(world.view("a").unwrap().up);
}

#[test]
fn a_tick_over_many_leases_that_were_renewed_is_cheap() {
    let mut world = World::new();
    for n in 0..100_000 {
        world.put(&format!("t{n:06}"), BODY).unwrap();
    }
    world.log.clear();
    world.pass(14_000);
    for n in (0..100_000).filter(|n| n % 2 == 0) {
        assert_eq!(world.registry.heartbeat(&format!("t{n:06}"), world.now()), Beat::Renewed);
    }
    world.pass(1000);
    assert_eq!((world.registry.up(), world.registry.lease_expiries()), (50_000, 50_000));
    let begun = std::time::Instant::now();
    for _ in 0..1000 {
        world.mono_ms += 1;
        assert!(world.registry.tick(world.now()).is_empty());
    }
    // Nothing is due: a thousand ticks must not look at a hundred thousand leases each.
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
}

#[derive(Clone, Debug)]
enum Step {
    Beat(u8),
    Delete(u8),
    Put(u8, u32),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let heartbeat = prop_oneof![Just(0), 5u32..8, Just(40)];
    // Mostly as ticks are, now and then a standstill, now and then a long quiet time.
    let gap = prop_oneof![6 => 1u64..400, 2 => 400u64..1000, 1 => 1000u64..1002, 1 => 1000u64..700_000];
    prop_oneof![
        3 => (0u8..4).prop_map(Step::Beat),
        1 => (0u8..4).prop_map(Step::Delete),
        2 => (0u8..4, heartbeat).prop_map(|(id, seconds)| Step::Put(id, seconds)),
        12 => gap.prop_map(Step::Tick),
    ]
}

/// A trunk of the model, in plain arithmetic.
#[derive(Clone, Copy, Debug)]
struct Model {
    lease: u64,
    deadline: u64,
    up: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn leases_agree_with_plain_arithmetic(steps in proptest::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        let mut model: BTreeMap<u8, Model> = BTreeMap::new();
        // Time that counts: at most a second between two ticks.
        let (mut time, mut expiries) = (0, 0);
        world.registry.tick(world.now());
        for step in steps {
            match step {
                Step::Beat(id) => {
                    let known = model.get_mut(&id).map(|trunk| {
                        trunk.deadline = time + trunk.lease;
                        trunk.up = true;
                    });
                    let expected = if known.is_some() { Beat::Renewed } else { Beat::Unknown };
                    prop_assert_eq!(beat(&mut world, &id.to_string()), expected);
                }
                Step::Delete(id) => {
                    model.remove(&id);
                    world.delete(&id.to_string()).unwrap();
                }
                Step::Put(id, seconds) => {
                    let lease = u64::from(seconds) * 3000;
                    model.insert(id, Model { lease, deadline: time + lease, up: true });
                    let body = format!("{{\"sip_uri\":\"sip:a\",\"heartbeat_seconds\":{seconds}}}");
                    world.put(&id.to_string(), &body).unwrap();
                }
                Step::Tick(gap) => {
                    world.mono_ms += gap;
                    time += gap.min(1000);
                    for order in world.registry.tick(world.now()) {
                        let Command::Expire { id, .. } = &order else { panic!("{order:?}") };
                        let trunk = model.remove(&id.parse().unwrap()).unwrap();
                        prop_assert!(!trunk.up && trunk.deadline + 600_000 <= time);
                        world.run(order).unwrap();
                    }
                    for trunk in model.values_mut().filter(|trunk| trunk.lease > 0) {
                        if trunk.up && trunk.deadline <= time {
                            trunk.up = false;
                            expiries += 1;
                        }
                        prop_assert!(trunk.deadline + 600_000 > time, "not deregistered in time");
                    }
                }
            }
            let seen: BTreeMap<u8, bool> = world
                .registry
                .views(None, world.now())
                .map(|view| (view.trunk.id.parse().unwrap(), view.up))
                .collect();
            let expected: BTreeMap<u8, bool> = model.iter().map(|(id, trunk)| (*id, trunk.up)).collect();
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(world.registry.up(), expected.values().filter(|up| **up).count());
            prop_assert_eq!(world.registry.lease_expiries(), expiries);
        }
    }

    #[test]
    fn a_deadline_read_is_the_deadline_kept(ticks in proptest::collection::vec(1u64..1000, 1..40)) {
        let mut world = World::new();
        world.registry.tick(world.now());
        world.put("a", BODY).unwrap();
        let promised = world.view("a").unwrap().lease_expires_at.unwrap();
        for tick in ticks {
            world.mono_ms += tick;
            world.registry.tick(world.now());
            let Now { wall, .. } = world.now();
            prop_assert_eq!(world.view("a").unwrap().up, wall < promised);
        }
    }
}
