//! Routes and groups: written, patched, taken away, on conditions.
#![allow(clippy::unwrap_used)]

mod world;

use registry::{Collection, Command, Condition, Edit, Event, Kind, Match, Outcome, Violation};
use serde_json::{Value, json};
use world::World;

const ROUTE: &str = r#"{"match":{"called_prefix":"+49"},"targets":[{"group":"carriers"},{"trunk":"backup"}]}"#;

fn run(world: &mut World, of: Collection, id: &str, edit: Edit, condition: Condition) -> Result<Outcome, Violation> {
    world.run(Command::Edit { of, id: id.into(), edit, condition })
}

fn put(world: &mut World, id: &str, body: &str) -> Result<Outcome, Violation> {
    run(world, Collection::Routes, id, Edit::Put(body.into()), Condition::default())
}

fn route(world: &World, id: &str) -> Option<Value> {
    world.registry.route(id).map(|kept| kept.record.to_json())
}

#[test]
fn a_route_is_made_replaced_patched_and_taken_away() {
    let mut world = World::new();
    assert_eq!(put(&mut world, "r", ROUTE), Ok(Outcome::Created { unknown: vec![] }));
    assert_eq!(put(&mut world, "r", ROUTE), Ok(Outcome::Replaced { unknown: vec![] }));
    assert_eq!(world.registry.route("r").unwrap().revision, 1, "the same again is no change");
    let patch = |world: &mut World, body: &str| {
        run(world, Collection::Routes, "r", Edit::Patch(body.into()), Condition::default())
    };
    let patched = patch(&mut world, r#"{"precedence":7,"match":{"domain":"Example.NET"}}"#);
    assert_eq!(patched, Ok(Outcome::Patched { changed: true, unknown: vec![] }));
    let read = route(&world, "r").unwrap();
    assert_eq!(read["match"], json!({ "called_prefix": "+49", "domain": "example.net" }));
    assert_eq!(read["precedence"], 7);
    let patched = patch(&mut world, r#"{"precedence":null,"match":{"domain":null}}"#);
    assert_eq!(patched, Ok(Outcome::Patched { changed: true, unknown: vec![] }));
    assert_eq!(patch(&mut world, "{}"), Ok(Outcome::Patched { changed: false, unknown: vec![] }));
    assert_eq!(patch(&mut world, r#"{"targets":null}"#).unwrap_err().field.as_deref(), Some("targets"));
    let delete = |world: &mut World| run(world, Collection::Routes, "r", Edit::Delete, Condition::default());
    assert_eq!(delete(&mut world), Ok(Outcome::Deleted));
    assert_eq!(delete(&mut world), Ok(Outcome::Nothing));
    assert_eq!(patch(&mut world, "{}").unwrap_err().kind, Kind::NotFound);
    let told: Vec<bool> = world
        .registry
        .take_events()
        .iter()
        .map(|event| matches!(event, Event::Route { id, route: Some(_) } if &**id == "r"))
        .collect();
    assert_eq!(told, [true, true, true, false]);
}

#[test]
fn conditions_are_of_the_revision() {
    let mut world = World::new();
    let tags = |tag: &str| Some(Match::Tags(vec![tag.to_owned()]));
    let only_new = Condition { if_none_match: Some(Match::Any), ..Condition::default() };
    let at = |tag: &str| Condition { if_match: tags(tag), ..Condition::default() };
    let refused = |result: Result<Outcome, Violation>| {
        let violation = result.unwrap_err();
        assert_eq!(violation.kind, Kind::PreconditionFailed);
        violation.message
    };
    let mut group = |policy: &str, condition: Condition| {
        let body = format!(r#"{{"policy":"{policy}"}}"#);
        run(&mut world, Collection::Groups, "a b/c", Edit::Put(body.into()), condition)
    };
    assert_eq!(refused(group("hash", at("1"))), "there is no such group");
    assert_eq!(group("hash", only_new.clone()), Ok(Outcome::Created { unknown: vec![] }));
    assert_eq!(refused(group("hash", only_new)), "the group is there already");
    assert_eq!(group("fastest", at("1")), Ok(Outcome::Replaced { unknown: vec![] }));
    assert_eq!(refused(group("hash", at("1"))), "the group has changed: its ETag is \"2\" now");
    let still = Condition { if_none_match: tags("2"), ..Condition::default() };
    assert_eq!(refused(group("hash", still)), "the group still has this ETag");
}

#[test]
fn every_fault_is_told_and_the_first_leads() {
    let mut world = World::new();
    let violation = put(&mut world, "r", r#"{"macth":{},"targets":[{}],"precedence":-1}"#).unwrap_err();
    assert_eq!(violation.field.as_deref(), Some("macth"));
    assert!(violation.message.starts_with("macth is unknown; expected one of"), "{violation}");
    let places: Vec<&str> = violation.faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, ["/macth", "/targets/0", "/targets", "/precedence"]);
    for (body, message) in [
        ("{", "malformed route record (invalid JSON)"),
        ("[]", "route record must be a JSON object"),
        ("", "targets must name at least one group or trunk, as in [{\"group\": \"carriers\"}]"),
    ] {
        assert_eq!(put(&mut world, "r", body).unwrap_err().message, message, "{body}");
    }
    assert_eq!(put(&mut world, "r/s", ROUTE).unwrap_err().field.as_deref(), Some("id"));
}

#[test]
fn what_a_route_names_and_is_not_there_is_known() {
    let mut world = World::new();
    put(&mut world, "r", ROUTE).unwrap();
    let dangling = |world: &World| world.registry.dangling(&world.registry.route("r").unwrap().record);
    assert_eq!(dangling(&world), ["group carriers has no trunks", "trunk backup is not registered"]);
    world.put("backup", r#"{"sip_uri":"sip:a","group":"carriers"}"#).unwrap();
    assert_eq!(dangling(&world), Vec::<String>::new());
    world.put("backup", r#"{"sip_uri":"sip:a"}"#).unwrap();
    assert_eq!(dangling(&world), ["group carriers has no trunks"]);
    world.put("other", r#"{"sip_uri":"sip:a","group":"carriers"}"#).unwrap();
    world.delete("backup").unwrap();
    assert_eq!(dangling(&world), ["trunk backup is not registered"]);
    world.delete("other").unwrap();
    assert_eq!(dangling(&world).len(), 2);
}
