//! What makes a trunk up or down beside its lease: health, flapping, registrations by SIP.

#![allow(clippy::unwrap_used)]

mod world;

use registry::{Binding, Command, EventKind, Health, Outcome, Reason, Transport, Verdict};
use serde_json::json;
use world::World;

fn down(why: &str) -> Health {
    Health { verdict: Verdict::Down, reasons: vec![why.to_owned()] }
}

fn observe(world: &mut World, health: Health) {
    let now = world.now();
    world.registry.observe("a", health, now);
}

fn reasons(world: &World) -> Vec<String> {
    world.view("a").unwrap().reasons.iter().map(ToString::to_string).collect()
}

fn is_up(world: &World) -> bool {
    world.view("a").unwrap().up
}

fn world(body: &str) -> World {
    let mut world = World::new();
    world.put("a", body).unwrap();
    world.events();
    world
}

#[test]
fn health_takes_a_trunk_down_and_brings_it_back() {
    let mut world = world(r#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":0}"#);
    let tag = world.view("a").unwrap().etag();
    observe(&mut world, down("probe: timeout"));
    assert_eq!((is_up(&world), reasons(&world)), (false, vec!["probe: timeout".to_owned()]));
    let view = world.view("a").unwrap();
    assert!(view.lease_up && view.reasons.iter().all(Reason::is_doubt));
    assert_ne!(view.etag(), tag);
    assert_eq!(world.registry.up(), 0);
    observe(&mut world, down("probe: 503"));
    observe(&mut world, Health::default());
    let kinds: Vec<EventKind> = world.events().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [EventKind::Down, EventKind::Updated, EventKind::Up]);
    assert_eq!((is_up(&world), world.view("a").unwrap().etag(), world.registry.up()), (true, tag, 1));
}

#[test]
fn lease_and_health_must_both_be_good() {
    let mut world = world(r#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":5}"#);
    observe(&mut world, down("calls: timeout"));
    world.events();
    world.pass(16_000);
    assert_eq!(
        world.events(),
        [(EventKind::Updated, "a".to_owned())],
        "what was a doubt is a fact now: routing must know"
    );
    assert_eq!(reasons(&world), ["lease expired", "calls: timeout"]);
    observe(&mut world, Health::default());
    assert_eq!((is_up(&world), reasons(&world)), (false, vec!["lease expired".to_owned()]));
    world.put("a", r#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":5}"#).unwrap();
    assert!(is_up(&world));
}

#[test]
fn who_comes_and_goes_is_held_back() {
    let mut world = world(r#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":0}"#);
    let flap = |world: &mut World| {
        observe(world, down("probe: timeout"));
        world.pass(1000);
        observe(world, Health::default());
        world.pass(1000);
    };
    for _ in 0..3 {
        flap(&mut world);
        assert!(is_up(&world));
    }
    flap(&mut world);
    assert_eq!((is_up(&world), reasons(&world)), (false, vec!["flapping".to_owned()]));
    assert!(world.view("a").unwrap().reasons[0].is_doubt());
    world.pass(118_000);
    assert!(!is_up(&world));
    world.pass(1500);
    assert!(is_up(&world), "good for two minutes");
    flap(&mut world);
    assert_eq!(reasons(&world), ["flapping"], "four times in ten minutes still");
    world.pass(60_000);
    observe(&mut world, down("probe: timeout"));
    observe(&mut world, Health::default());
    world.pass(100_000);
    assert!(!is_up(&world), "the two minutes are without a break");
    world.pass(21_000);
    assert!(is_up(&world));
    world.pass(601_000);
    flap(&mut world);
    assert!(is_up(&world), "what is long ago does not count");
}

#[test]
fn a_rest_that_was_asked_for_is_no_flapping() {
    let mut world = world(r#"{"sip_uri":"sip:192.0.2.1","heartbeat_seconds":0}"#);
    for _ in 0..10 {
        observe(&mut world, Health { verdict: Verdict::Resting, reasons: vec!["resting".into()] });
        assert!(!is_up(&world));
        observe(&mut world, Health::default());
        assert!(is_up(&world));
    }
}

const PBX: &str = r#"{"sip_uri":"sip:pbx@example.net","register":{"username":"pbx","password":"swordfish"}}"#;

fn binding(contact: &str, cseq: u32) -> Binding {
    Binding {
        contact: contact.to_owned(),
        source: "198.51.100.7:40000".parse().unwrap(),
        transport: Transport::Udp,
        connection: None,
        boot: 0,
        expires_seconds: 60,
        call_id: "c".to_owned(),
        cseq,
    }
}

fn bind(world: &mut World, binding: Binding) -> Result<Outcome, registry::Violation> {
    world.run(Command::Bind { id: "a".into(), binding })
}

#[test]
fn a_password_is_kept_as_digests_and_never_shown() {
    let mut world = world(PBX);
    assert_eq!(world.record("a")["register"], json!({"username": "pbx"}));
    let stored = String::from_utf8(world.store["trunk/a"].0.clone()).unwrap();
    assert!(!stored.contains("swordfish"), "{stored}");
    assert!(!format!("{:?}", world.view("a")).contains("swordfish"));
    let known = world.registry.by_username("pbx").unwrap().1.clone();
    assert_eq!(known, registrar::Ha1::new("pbx", "trunkline", "swordfish"));

    let shown = world.record("a").to_string();
    world.put("a", &shown).unwrap();
    assert_eq!(*world.registry.by_username("pbx").unwrap().1, known, "what was read can be put back");
    world.patch("a", r#"{"register":{"password":"other"}}"#).unwrap();
    assert_ne!(*world.registry.by_username("pbx").unwrap().1, known);
    let refused = world.put("a", r#"{"sip_uri":"sip:a","register":{"username":"new"}}"#).unwrap_err();
    assert_eq!(refused.message, "register.password is required");
    let taken = world.put("b", PBX).unwrap_err();
    assert_eq!(taken.message, "register.username is taken by another trunk");
    world.put("a", r#"{"sip_uri":"sip:a"}"#).unwrap();
    assert!(world.registry.by_username("pbx").is_none());
    world.put("b", PBX).unwrap();
    world.delete("b").unwrap();
    assert_eq!((world.registry.by_username("pbx").is_none(), world.registry.registering()), (true, 0));
}

#[test]
fn a_registration_is_a_lease() {
    let mut world = world(PBX);
    assert_eq!((is_up(&world), reasons(&world)), (false, vec!["not registered".to_owned()]));
    assert_eq!(bind(&mut world, binding("sip:pbx@10.0.0.1", 1)).unwrap(), Outcome::Bound);
    assert!(is_up(&world));
    let record = world.record("a");
    assert_eq!(record["registration"]["contact"], "sip:pbx@10.0.0.1");
    assert_eq!(record["lease_expires_at"], "2026-11-01T00:01:00Z");
    let writes = world.log.len();
    world.pass(50_000);
    bind(&mut world, binding("sip:pbx@10.0.0.1", 2)).unwrap();
    assert_eq!(world.log.len(), writes, "a refresh writes nothing");
    world.put("a", &PBX.replace("}}", "},\"weight\":7}")).unwrap();
    world.pass(59_000);
    assert!(is_up(&world), "neither does a change of the record end it");
    world.pass(1200);
    assert_eq!((is_up(&world), reasons(&world)), (false, vec!["registration expired".to_owned()]));
    world.pass(3_600_000);
    assert!(world.view("a").is_some(), "who was provisioned stays");
    bind(&mut world, binding("sip:pbx@10.0.0.1", 3)).unwrap();
    assert!(is_up(&world));
    assert_eq!(world.run(Command::Unbind { id: "a".into() }).unwrap(), Outcome::Unbound);
    assert_eq!(reasons(&world), ["not registered"]);
    assert_eq!(world.run(Command::Unbind { id: "a".into() }).unwrap(), Outcome::Unbound, "once more is no error");
}

#[test]
fn only_who_registers_is_bound() {
    let mut world = world(r#"{"sip_uri":"sip:192.0.2.1"}"#);
    assert!(bind(&mut world, binding("sip:x@10.0.0.1", 1)).is_err());
    world.put("a", PBX).unwrap();
    assert_eq!(reasons(&world), ["not registered"], "its lease by HTTP is over");
    bind(&mut world, binding("sip:pbx@10.0.0.1", 5)).unwrap();
    let late = bind(&mut world, binding("sip:evil@10.0.0.2", 4)).unwrap_err();
    assert!(late.message.contains("older"));
    world.patch("a", r#"{"register":{"username":"other","password":"p"}}"#).unwrap();
    assert_eq!(reasons(&world), ["not registered"], "another username is somebody else");
    assert!(!world.store.contains_key("binding/a"));
    bind(&mut world, binding("sip:other@10.0.0.1", 6)).unwrap();
    world.put("a", r#"{"sip_uri":"sip:192.0.2.1"}"#).unwrap();
    assert!(is_up(&world) && !world.store.contains_key("binding/a"));
    world.put("a", PBX).unwrap();
    bind(&mut world, binding("sip:pbx@10.0.0.1", 7)).unwrap();
    world.delete("a").unwrap();
    assert!(!world.store.contains_key("binding/a"));
}

#[test]
fn a_connection_that_ends_ends_the_registration() {
    let mut world = world(PBX);
    let by_tcp = Binding { transport: Transport::Tcp, connection: Some(9), ..binding("sip:pbx@10.0.0.1", 1) };
    bind(&mut world, by_tcp.clone()).unwrap();
    let now = world.now();
    assert_eq!(world.registry.connection_closed(8, now), None);
    assert_eq!(world.registry.connection_closed(9, now).as_deref(), Some("a"));
    assert_eq!((is_up(&world), reasons(&world)), (false, vec!["connection closed".to_owned()]));
    bind(&mut world, Binding { connection: Some(10), cseq: 2, ..by_tcp.clone() }).unwrap();
    assert!(is_up(&world));

    let mut restarted = registry::Registry::new(registry::Settings { boot: 77, ..registry::Settings::default() });
    for (key, stored) in &world.store {
        world::apply(&mut restarted, key, &Some(stored.clone()), now);
    }
    let view = restarted.view("a", now).unwrap();
    assert_eq!((view.up, view.reasons), (false, vec![Reason::ConnectionClosed]), "it did not outlive the process");
}

#[test]
fn a_restart_begins_a_registration_anew() {
    let mut world = world(PBX);
    bind(&mut world, binding("sip:pbx@10.0.0.1", 1)).unwrap();
    world.pass(55_000);
    let mut restarted = World::new();
    restarted.mono_ms = world.mono_ms;
    for (key, stored) in &world.store {
        let now = restarted.now();
        world::apply(&mut restarted.registry, key, &Some(stored.clone()), now);
    }
    restarted.pass(59_000);
    assert!(is_up(&restarted));
    restarted.pass(1200);
    assert_eq!(reasons(&restarted), ["registration expired"]);
}
