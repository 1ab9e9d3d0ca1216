//! Documents: what they come to, what they refuse, and that they say all there is.
#![allow(clippy::unwrap_used)]

mod world;

use proptest::prelude::*;
use registry::{Collection, Command, Condition, Document, Edit, HistoryEntry, Outcome, Registry, Violation};
use serde_json::{Map, Value, json};
use world::World;

const REALM: &str = "trunkline";

/// Applies a document; the difference in words.
fn apply(world: &mut World, document: &Value) -> Result<Vec<String>, Violation> {
    let document = Document::parse(document.to_string().as_bytes(), REALM)?;
    let writes = world.registry.decide_document(&document, world.now())?;
    let history = world.registry.history_of(&writes, "somebody", "apply", world.now());
    world.write(writes);
    Ok(history.map(|entry| entry.difference()).unwrap_or_default())
}

/// Everything, as a document has it.
fn export(registry: &Registry) -> Value {
    let trunks =
        registry.trunks().map(|trunk| (trunk.id.to_string(), serde_json::from_slice(&trunk.to_description()).unwrap()));
    let groups = registry.groups().map(|group| (group.id.to_string(), group.to_given()));
    let routes = registry.routes().map(|route| (route.id.to_string(), route.to_given()));
    json!({
        "trunks": trunks.collect::<Map<_, _>>(),
        "groups": groups.collect::<Map<_, _>>(),
        "routes": routes.collect::<Map<_, _>>(),
    })
}

fn refused(world: &mut World, document: &Value) -> Vec<(String, String)> {
    let violation = apply(world, document).unwrap_err();
    violation.faults.into_iter().map(|fault| (fault.pointer, fault.message)).collect()
}

#[test]
fn a_document_is_brought_about_and_then_is_no_change() {
    let mut world = World::new();
    world.put("old", r#"{"sip_uri":"sip:old","weight":100,"labels":{"team":"x"}}"#).unwrap();
    world.put("other", r#"{"sip_uri":"sip:other","labels":{"team":"y"}}"#).unwrap();
    let document = json!({
        "prune": "team=x",
        "trunks": {
            "a": { "sip_uri": "sip:192.0.2.1", "group": "carriers", "labels": { "team": "x" } },
            "other": { "sip_uri": "sip:other", "labels": { "team": "y" }, "weight": 50 },
        },
        "groups": { "carriers": { "policy": "hash" } },
        "routes": { "berlin": { "match": { "called_prefix": "+4930" }, "targets": [{ "group": "carriers" }] } },
    });
    let expected = [
        "trunk a: added",
        "trunk old: removed",
        "trunk other: weight 100 → 50",
        "group carriers: added",
        "route berlin: added",
    ];
    assert_eq!(apply(&mut world, &document).unwrap(), expected);
    assert!(world.view("a").unwrap().up, "its lease begins as with PUT");
    let at = world.view("other").unwrap().lease_expires_at;
    world.pass(5000);
    assert_eq!(apply(&mut world, &document).unwrap(), Vec::<String>::new());
    assert_eq!(world.view("other").unwrap().lease_expires_at, at, "what is the same is no heartbeat");
}

#[test]
fn pruning_is_limited_to_the_label_and_to_the_kinds_of_the_document() {
    let mut world = World::new();
    let all = json!({
        "trunks": { "t": { "sip_uri": "sip:t", "labels": { "team": "x" } } },
        "groups": { "g": { "labels": { "team": "x" } }, "h": { "labels": { "team": "xx" } } },
        "routes": {
            "r": { "targets": [{ "trunk": "t" }], "labels": { "team": "x", "site": "b" } },
            "s": { "targets": [{ "trunk": "t" }], "labels": { "site": "x" } },
        },
    });
    apply(&mut world, &all).unwrap();
    let told = apply(&mut world, &json!({ "prune": "team=x", "routes": {}, "groups": {} })).unwrap();
    assert_eq!(told, ["group g: removed", "route r: removed"]);
    assert!(world.view("t").is_some(), "nothing was said of trunks");
}

#[test]
fn every_fault_of_every_record_is_told() {
    let mut world = World::new();
    world.put("pbx", r#"{"sip_uri":"sip:pbx","register":{"username":"u","password":"p"}}"#).unwrap();
    let document = json!({
        "trunk": {},
        "base_revision": "x",
        "prune": "team",
        "trunks": {
            "a": { "sip_uri": "tel:1", "weight": 0, "probe": { "every": 1 } },
            "b c": {},
            "d": [],
            "e": {},
        },
        "groups": { "a/b": { "policy": "random" } },
        "routes": { "r": { "targets": [], "match": { "time": {} } } },
    });
    let told = refused(&mut world, &document);
    let places: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let expected = [
        "/trunk",
        "/base_revision",
        "/prune",
        "/trunks/a/probe/every",
        "/trunks/a/sip_uri",
        "/trunks/a/weight",
        "/trunks/b c",
        "/trunks/d",
        "/trunks/e/sip_uri",
        "/groups/a~1b/policy",
        "/routes/r/match/time/zone",
        "/routes/r/targets",
    ];
    assert_eq!(places, expected);
    assert_eq!(told[5].1, "weight must be an integer, 1 to 10000");
    let violation = apply(&mut world, &json!({ "trunks": { "a": { "sip_uri": "sip:a", "weight": 0 } } })).unwrap_err();
    assert_eq!(violation.message, "/trunks/a/weight: weight must be an integer, 1 to 10000");
    assert_eq!(world.registry.len(), 1, "nothing of it was done");
    for (text, message) in [
        ("{", "malformed document (invalid JSON): EOF while parsing an object at line 1 column 1"),
        ("[]", "the document must be an object with trunks, groups or routes"),
        ("{}", "the document must have trunks, groups or routes"),
    ] {
        assert_eq!(Document::parse(text.as_bytes(), REALM).unwrap_err().message, message);
    }
}

#[test]
fn passwords_stay_where_they_are_known_and_names_stand_for_one_trunk() {
    let mut world = World::new();
    let pbx = |username: &str| json!({ "sip_uri": "sip:pbx", "register": { "username": username } });
    world.put("pbx", r#"{"sip_uri":"sip:pbx","register":{"username":"u","password":"swordfish"}}"#).unwrap();
    assert_eq!(apply(&mut world, &json!({ "trunks": { "pbx": pbx("u") } })).unwrap(), Vec::<String>::new());
    let told = refused(&mut world, &json!({ "trunks": { "pbx": pbx("v"), "b": pbx("w") } }));
    let required = |id: &str| (format!("/trunks/{id}/register/password"), "register.password is required".to_owned());
    assert_eq!(told, [required("b"), required("pbx")]);

    let other = json!({ "sip_uri": "sip:pbx", "register": { "username": "u", "password": "p" } });
    let taken = ("/trunks/b/register/username".to_owned(), "register.username is taken by another trunk".to_owned());
    assert_eq!(refused(&mut world, &json!({ "trunks": { "b": other } })), [taken]);
    let moved = json!({ "trunks": { "b": other, "pbx": { "sip_uri": "sip:pbx" } } });
    let told = apply(&mut world, &moved).unwrap();
    assert_eq!(told, ["trunk b: added", "trunk pbx: register {\"username\":\"u\"} → none"]);
    assert_eq!(world.registry.by_username("u").map(|(id, _)| &**id), Some("b"));
    let changed =
        json!({ "trunks": { "b": { "sip_uri": "sip:pbx", "register": { "username": "u", "password": "q" } } } });
    assert_eq!(apply(&mut world, &changed).unwrap(), ["trunk b: password changed"]);
}

#[test]
fn what_is_likely_a_mistake_is_told() {
    let mut world = World::new();
    world.put("known", r#"{"sip_uri":"sip:a","group":"there"}"#).unwrap();
    let document = json!({
        "trunks": { "a": { "sip_uri": "sip:a", "group": "new", "wieght": 1 } },
        "routes": {
            "good": { "targets": [{ "group": "new" }, { "group": "there" }, { "trunk": "known" }, { "trunk": "a" }] },
            "bad": { "targets": [{ "group": "gone" }] },
        },
    });
    let document = Document::parse(document.to_string().as_bytes(), REALM).unwrap();
    let expected = ["trunk a: unknown members kept: wieght", "route bad: group gone has no trunks"];
    assert_eq!(world.registry.doubts_of(&document), expected);
}

#[test]
fn history_holds_what_was_there_and_is_silent_about_what_people_do_not_see() {
    let mut world = World::new();
    world.put("a", r#"{"sip_uri":"sip:a","register":{"username":"u","password":"p"}}"#).unwrap();
    world.set_admin("a", r#"{"state":"draining"}"#).unwrap();
    let delete = Command::Deregister { id: "a".into(), condition: Condition::default() };
    let decision = world.registry.decide(&delete, world.now()).unwrap();
    let entry = world.registry.history_of(&decision.writes, "192.0.2.1", "DELETE", world.now()).unwrap();
    let entry = HistoryEntry::decode(&entry.encode()).unwrap();
    assert_eq!((entry.actor.as_str(), entry.cause.as_str()), ("192.0.2.1", "DELETE"));
    assert_eq!(entry.difference(), ["trunk a: removed"], "that the intent was dated is nobody's concern");
    let before: Value = serde_json::from_str(entry.changes[0].before.as_ref().unwrap().get()).unwrap();
    assert!(before["record"]["register"]["ha1"].is_string(), "a rollback brings the password back");
    let clear = world.registry.decide(&Command::ClearAdmin { id: "a".into() }, world.now()).unwrap();
    let entry = world.registry.history_of(&clear.writes, "", "", world.now()).unwrap();
    assert_eq!((entry.difference(), entry.changes_records()), (vec!["intent of trunk a: removed".to_owned()], false));
    assert_eq!(entry.records().collect::<Vec<_>>(), ["intent/a"]);
    let again = world.put("a", r#"{"sip_uri":"sip:a","register":{"username":"u","password":"p"}}"#);
    assert_eq!(again, Ok(Outcome::Replaced { unknown: vec![] }));
    assert!(world.registry.history_of(&[], "", "", world.now()).is_none());
}

fn labels() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-z]{1,3}", "[a-zä ]{0,4}", 0..3).prop_map(|labels| json!(labels))
}

fn trunk() -> impl Strategy<Value = Value> {
    let extra = prop_oneof![Just(json!(null)), Just(json!({"a": [1.5, null]})), any::<i64>().prop_map(Value::from)];
    (1u32..10_000, proptest::option::of("[a-z ]{1,8}"), any::<bool>(), labels(), 0u32..3, extra).prop_map(
        |(weight, group, enabled, labels, heartbeat, extra)| {
            let mut trunk = json!({
                "sip_uri": format!("sip:10.0.0.{}", weight % 250), "weight": weight, "enabled": enabled,
                "labels": labels, "heartbeat_seconds": ([0, 5, 30][heartbeat as usize]), "note": extra,
                "max_cps": f64::from(weight) / 8.0, "sources": ["192.0.2.0/24"], "reroute_on": [503, "Q.850:34"],
            });
            if let Some(group) = group {
                trunk["group"] = group.into();
            }
            trunk
        },
    )
}

fn route() -> impl Strategy<Value = Value> {
    let numbers = proptest::collection::vec("\\+[0-9]{1,6}", 0..3);
    (numbers, labels(), any::<bool>(), 0u32..5, proptest::option::of("[A-Za-z ]{1,9}")).prop_map(
        |(numbers, labels, enabled, precedence, comment)| {
            json!({
                "match": { "called_prefix": numbers, "headers": { "X-T": "*" },
                           "time": { "zone": "Europe/Berlin", "days": ["mon"], "from": "08:00" } },
                "targets": [{ "group": "g" }, { "trunk": "t" }], "enabled": enabled, "precedence": precedence,
                "rewrite": { "called": { "strip": precedence } }, "labels": labels, "comment": comment,
            })
        },
    )
}

fn group() -> impl Strategy<Value = Value> {
    let guard = prop_oneof![Just(json!(null)), Just(json!({})), Just(json!({ "failure_share": 0.125 }))];
    (0usize..4, guard, labels()).prop_map(|(policy, guard, labels)| {
        json!({ "policy": (["weighted", "hash", "least_calls", "fastest"][policy]), "guard": guard, "labels": labels })
    })
}

fn document() -> impl Strategy<Value = Value> {
    let of = |records| proptest::collection::btree_map("[a-z~@]{1,2}", records, 0..5);
    (of(trunk().boxed()), of(group().boxed()), of(route().boxed()))
        .prop_map(|(trunks, groups, routes)| json!({ "trunks": trunks, "groups": groups, "routes": routes }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_exported_is_what_is_applied(document in document()) {
        let mut world = World::new();
        apply(&mut world, &document).unwrap();
        let exported = export(&world.registry);
        prop_assert_eq!(apply(&mut world, &exported).unwrap(), Vec::<String>::new(), "the same is no change");
        let mut other = World::new();
        apply(&mut other, &exported).unwrap();
        prop_assert_eq!(export(&other.registry), exported);
    }

    #[test]
    fn a_document_of_noise_never_panics(text in ".{0,80}") {
        let _ = Document::parse(text.as_bytes(), REALM);
    }

    #[test]
    fn any_state_can_be_restored(first in document(), second in document()) {
        let mut world = World::new();
        apply(&mut world, &first).unwrap();
        let before = export(&world.registry);
        let prune = |kind: &str| {
            let kept = second[kind].as_object().unwrap();
            let records = before[kind].as_object().unwrap();
            records.keys().filter(|id| !kept.contains_key(*id)).cloned().collect::<Vec<_>>()
        };
        for id in prune("routes") {
            let edit = Edit::Delete;
            world.run(Command::Edit { of: Collection::Routes, id, edit, condition: Condition::default() }).unwrap();
        }
        // What was deleted by itself is in another entry of history; here only the document is undone.
        let between = export(&world.registry);
        let read = Document::parse(second.to_string().as_bytes(), REALM).unwrap();
        let writes = world.registry.decide_document(&read, world.now()).unwrap();
        let history = world.registry.history_of(&writes, "", "", world.now());
        world.write(writes);
        let undo = history.into_iter().flat_map(|entry| entry.changes);
        let records = undo.map(|change| (change.key, change.before.map(|raw| raw.get().as_bytes().to_vec()))).collect();
        let writes = world.registry.decide_restore(&records, world.now()).unwrap();
        world.write(writes);
        prop_assert_eq!(export(&world.registry), between);
    }
}
