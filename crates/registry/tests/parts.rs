//! Three writers, three parts; patches; and the same state however the changes arrive.
#![allow(clippy::unwrap_used)] // in helpers, too, what fails is a test

mod world;

use proptest::prelude::*;
use registry::{EventKind, Kind, Outcome, Registry, Settings};
use serde_json::{Map, Value, json};
use world::World;

const DAY: u64 = 86_400_000;
const STAYS: &str = r#"{"sip_uri":"sip:a","heartbeat_seconds":0}"#;

#[test]
fn an_intent_outlives_registrations_for_thirty_days() {
    let mut world = World::new();
    world.put("a", STAYS).unwrap();
    world.set_admin("a", r#"{"state":"out_of_service","reason":"rack 4"}"#).unwrap();
    world.put("a", r#"{"sip_uri":"sip:b","heartbeat_seconds":0,"admin":{"state":"in_service"}}"#).unwrap();
    let record = world.record("a");
    assert_eq!(record["admin"], json!({"state": "out_of_service", "reason": "rack 4"}));
    assert_eq!(record["status_reasons"], json!(["out of service"]));
    assert_eq!(record["status"], "up");

    world.delete("a").unwrap();
    world.mono_ms += 29 * DAY;
    world.put("a", STAYS).unwrap();
    assert_eq!(world.record("a")["status_reasons"], json!(["out of service"]));
    // The thirty days begin anew with the next deregistration.
    world.mono_ms += 29 * DAY;
    world.pass(1000);
    world.delete("a").unwrap();
    world.mono_ms += 29 * DAY;
    world.pass(1000);
    assert_eq!(world.store.keys().collect::<Vec<_>>(), ["admin/a"]);
    world.mono_ms += DAY;
    world.pass(1000);
    assert!(world.store.is_empty());
}

#[test]
fn an_intent_ends_when_it_said() {
    let mut world = World::new();
    world.put("a", STAYS).unwrap();
    let bare = world.view("a").unwrap().etag();
    world.set_admin("a", r#"{"state":"draining","until":"2026-11-01T00:00:10Z"}"#).unwrap();
    assert_ne!(world.view("a").unwrap().etag(), bare);
    world.events();
    world.pass(9_900);
    assert_eq!(world.record("a")["status_reasons"], json!(["draining"]));
    world.pass(600);
    assert_eq!(world.record("a")["status_reasons"], json!([]));
    assert_eq!(world.record("a")["admin"], json!(null));
    assert_eq!(world.events(), [(EventKind::Updated, "a".to_owned())]);
    assert_eq!(world.view("a").unwrap().etag(), bare);
}

#[test]
fn an_intent_whose_trunk_went_meanwhile_is_not_kept_for_ever() {
    let mut world = World::new();
    let now = world.now();
    world.store.insert("admin/a".into(), (br#"{"state":"draining"}"#.to_vec(), 0, 0));
    world::apply(&mut world.registry, "admin/a", &world.store.get("admin/a").cloned(), now);
    world.pass(1000);
    world.mono_ms += 31 * DAY;
    world.pass(1000);
    assert!(world.store.is_empty());
}

#[test]
fn intents_are_checked() {
    let mut world = World::new();
    world.put("a", STAYS).unwrap();
    let state = "state must be one of ['draining', 'in_service', 'out_of_service']";
    let until = "until must be a time such as \"2026-12-01T00:00:00Z\"";
    for (body, message, field) in [
        ("", "malformed admin record (expected a JSON object)", None),
        ("[]", "malformed admin record (expected a JSON object)", None),
        ("{}", state, Some("state")),
        (r#"{"state":"off"}"#, state, Some("state")),
        (r#"{"state":1}"#, state, Some("state")),
        (r#"{"state":"draining","because":1}"#, "because is unknown; expected state, reason or until", Some("because")),
        (r#"{"state":"draining","reason":1}"#, "reason must be a string of at most 1024 bytes", Some("reason")),
        (r#"{"state":"draining","until":"tomorrow"}"#, until, Some("until")),
        (r#"{"state":"draining","until":"2020-01-01T00:00:00Z"}"#, "until must be in the future", Some("until")),
    ] {
        let refused = world.set_admin("a", body).unwrap_err();
        assert_eq!((refused.kind, &*refused.message, refused.field.as_deref()), (Kind::BadRequest, message, field));
    }
}

#[test]
fn a_null_brings_the_default_back() {
    let mut world = World::new();
    world
        .put("a", r#"{"sip_uri":"sip:a","weight":7,"max_channels":3,"probe":{"fall":9},"note":{"x":1,"y":2}}"#)
        .unwrap();
    let patch = r#"{"weight":null,"max_channels":null,"probe":{"fall":null,"rise":5},"note":{"x":null}}"#;
    assert_eq!(world.patch("a", patch).unwrap(), Outcome::Patched { changed: true, unknown: vec!["note".into()] });
    let record = world.record("a");
    assert_eq!(record["weight"], 100);
    assert_eq!(record["max_channels"], json!(null));
    assert_eq!(record["probe"], json!({"interval_seconds": 30, "fall": 3, "rise": 5}));
    assert_eq!(record["note"], json!({"y": 2}));
    assert_eq!(world.patch("a", r#"{"sip_uri":null}"#).unwrap_err().message, "sip_uri is required");
    assert_eq!(world.patch("a", "[]").unwrap_err().message, "trunk record must be a JSON object");
    assert_eq!(world.patch("a", r#"{"status":"down"}"#).unwrap(), Outcome::Patched { changed: false, unknown: vec![] });
}

/// RFC 7396 §2, word by word.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = if let Value::Object(target) = target { target } else { Map::new() };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let merged = merge(target.remove(name).unwrap_or(Value::Null), value);
            target.insert(name.clone(), merged);
        }
    }
    Value::Object(target)
}

/// Values of members that are right, each by itself.
fn sound() -> impl Strategy<Value = Value> {
    let wrong = [
        ("sip_uri", json!("")),
        ("sip_uri", json!(3)),
        ("transport", json!("x")),
        ("weight", json!(0)),
        ("heartbeat_seconds", json!(4)),
    ];
    let uri = proptest::sample::select(vec!["sip:a", "sip:b;transport=tcp", "sips:c"]);
    (uri, object()).prop_map(move |(uri, mut body)| {
        let members = body.as_object_mut().unwrap();
        members.retain(|name, value| !wrong.iter().any(|(other, bad)| other == name && bad == value));
        let transport = match uri {
            "sip:a" => None,
            "sips:c" => Some("tls"),
            _ => Some("tcp"),
        };
        if let (Some(transport), true) = (transport, members.contains_key("transport")) {
            members.insert("transport".into(), transport.into());
        }
        members.insert("sip_uri".into(), uri.into());
        body
    })
}

/// Values of members, right ones and some wrong ones.
fn member() -> impl Strategy<Value = (String, Value)> {
    let of = |name: &'static str, values: Vec<Value>| {
        proptest::sample::select(values).prop_map(move |value| (name.to_owned(), value))
    };
    prop_oneof![
        of("sip_uri", vec![json!("sip:a"), json!("sip:b;transport=tcp"), json!("sips:c"), json!(""), json!(3)]),
        of("transport", vec![json!("udp"), json!("tcp"), json!("tls"), json!("x"), Value::Null]),
        of("enabled", vec![json!(true), json!(false), Value::Null]),
        of("heartbeat_seconds", vec![json!(0), json!(5), json!(30), json!(4), Value::Null]),
        of("max_channels", vec![json!(0), json!(7), Value::Null]),
        of("max_cps", vec![json!(0.5), json!(3), Value::Null]),
        of("group", vec![json!("default"), json!("g"), Value::Null]),
        of("priority", vec![json!(0), json!(2), Value::Null]),
        of("weight", vec![json!(1), json!(100), json!(0), Value::Null]),
        of("sources", vec![json!([]), json!(["192.0.2.0/24"]), Value::Null]),
        of(
            "probe",
            vec![json!({"fall": 5, "rise": 2, "interval_seconds": 30}), json!({"interval_seconds": 7}), Value::Null]
        ),
        of("reroute_on", vec![json!([]), json!([503]), Value::Null]),
        of("note", vec![json!({"x": 1}), json!({"y": {"z": [1]}}), json!({"x": null}), json!(1), Value::Null]),
        of("status", vec![json!("down"), Value::Null]),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    proptest::collection::vec(member(), 0..8).prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// What the registrant owns of a record.
fn own(world: &World) -> Value {
    let mut record = world.record("a");
    let members = record.as_object_mut().unwrap();
    members.retain(|name, _| !["registered_at", "lease_expires_at"].contains(&name.as_str()));
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_read_can_be_put_back(body in sound()) {
        let mut world = World::new();
        world.put("a", &body.to_string()).unwrap();
        let (read, writes) = (own(&world), world.log.len());
        world.put("a", &read.to_string()).unwrap();
        prop_assert_eq!(own(&world), read.clone());
        // The second time it is known to be the same; so it is as a patch.
        let again = world.log.len();
        world.put("a", &read.to_string()).unwrap();
        world.patch("a", "{}").unwrap();
        prop_assert!(world.log.len() == again && again <= writes + 1);
    }

    #[test]
    fn a_patch_is_a_put_of_the_merged_record(body in sound(), patch in object()) {
        let (mut patched, mut put) = (World::new(), World::new());
        patched.put("a", &body.to_string()).unwrap();
        // A probe's defaults are filled in when it is stored; the reference must start from there, too.
        let mut start = body;
        if !start["probe"].is_null() {
            start["probe"] = patched.record("a")["probe"].clone();
        }
        let outcome = patched.patch("a", &patch.to_string()).map(|_| own(&patched));
        let expected = put.put("a", &merge(start, &patch).to_string()).map(|_| own(&put));
        prop_assert_eq!(outcome.is_ok(), expected.is_ok(), "{:?} {:?}", outcome, expected);
        if let (Ok(outcome), Ok(expected)) = (outcome, expected) {
            prop_assert_eq!(&outcome, &expected);
            let writes = patched.log.len();
            patched.patch("a", &patch.to_string()).unwrap();
            prop_assert_eq!(own(&patched), outcome);
            prop_assert_eq!(patched.log.len(), writes, "the second time changes nothing");
        }
    }

    #[test]
    fn the_state_does_not_depend_on_the_way_to_it(
        steps in proptest::collection::vec((0u8..3, 0u8..5, prop_oneof![sound(), object()]), 1..30),
        seed in any::<u64>(),
    ) {
        let mut world = World::new();
        for (id, kind, body) in steps {
            let id = id.to_string();
            // Refusals change nothing, which is part of the claim.
            let _ = match kind {
                0 => world.delete(&id),
                1 => world.patch(&id, &body.to_string()),
                2 => world.set_admin(&id, r#"{"state":"draining"}"#),
                _ => world.put(&id, &body.to_string()),
            };
        }
        let now = world.now();
        let state = |registry: &Registry| -> Vec<(String, String)> {
            registry
                .views(None, now)
                .map(|view| {
                    let mut out = Vec::new();
                    view.write_json(&mut out, &[], 0, None);
                    (view.etag(), String::from_utf8(out).unwrap())
                })
                .collect()
        };
        let expected = state(&world.registry);

        // From a listing, in any order.
        let mut listed = Registry::new(Settings::default());
        let mut entries: Vec<_> = world.store.clone().into_iter().collect();
        entries.sort_by_key(|(key, _)| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (seed, key).hash(&mut hasher);
            hasher.finish()
        });
        for (key, stored) in entries {
            world::apply(&mut listed, &key, &Some(stored), now);
        }
        prop_assert_eq!(state(&listed), expected.clone());

        // From the stream, each change twice.
        let mut streamed = Registry::new(Settings::default());
        for (key, stored) in &world.log {
            world::apply(&mut streamed, key, stored, now);
            world::apply(&mut streamed, key, stored, now);
        }
        prop_assert_eq!(state(&streamed), expected.clone());

        // A listing over a state that is current changes nothing and tells nothing of trunks.
        world.registry.take_events();
        let current: Vec<_> = world.store.clone().into_iter().filter(|(key, _)| key.starts_with("trunk/")).collect();
        for (key, stored) in current {
            world::apply(&mut world.registry, &key, &Some(stored), now);
        }
        prop_assert_eq!(state(&world.registry), expected);
        prop_assert!(world.registry.take_events().is_empty());
    }
}
