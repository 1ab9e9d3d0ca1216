//! What is read is what is written, and every fault is told with its place.

use std::sync::Arc;

use serde_json::{Value, json};

use super::parse;
use crate::{Fault, Group, Route};

fn route(value: &Value) -> Result<Route, Vec<Fault>> {
    parse::route(&Arc::from("a"), value, "")
}

fn group(value: &Value) -> Result<Group, Vec<Fault>> {
    parse::group(&Arc::from("a"), value, "")
}

#[test]
fn a_whole_route_comes_back_as_it_was_given() {
    let given = json!({
        "id": "a",
        "enabled": false,
        "match": {
            "called_prefix": ["+49", "+43"], "called": "110", "calling_prefix": "+1", "source_trunk": "pbx",
            "source_group": "customers", "domain": "example.net",
            "time": { "zone": "Europe/Berlin", "days": ["mon", "sun"], "from": "22:00", "to": "06:30" },
            "headers": { "X-Tenant": "acme", "X-Any": "*" }, "tgrp": "TG1", "trunk_context": "example.com",
        },
        "targets": [{ "group": "carriers" }, { "trunk": "backup" }],
        "rewrite": { "called": { "strip": 3, "prepend": "00" }, "calling": { "strip": 0, "prepend": "+" } },
        "headers": { "set": { "X-Route": "berlin" }, "remove": ["X-Secret"] },
        "reroute_on": [503, "Q.850:34"],
        "setup_timeout_ms": 3000,
        "ring_timeout_ms": 60000,
        "emergency": true,
        "precedence": 7,
        "comment": "Berlin",
        "labels": { "team": "x" },
    });
    let read = route(&given).unwrap();
    assert_eq!(read.to_json(), given);
    assert_eq!(read.conditions.as_ref().map(|conditions| conditions.count()), Some(9));
    assert_eq!(route(&read.to_json()).as_ref(), Ok(&read));
    assert_eq!(route(&read.to_given()), Ok(read));
}

#[test]
fn what_is_left_out_has_its_default_and_may_be_sent_back() {
    let read = route(&json!({ "targets": [{ "trunk": "b" }] })).unwrap();
    assert!(read.enabled && !read.emergency && read.conditions.is_none() && read.treatment.is_none());
    assert_eq!(read.to_given(), json!({ "targets": [{ "trunk": "b" }] }));
    assert_eq!(route(&read.to_json()), Ok(read));
    let read = group(&json!({})).unwrap();
    assert_eq!(read, Group::new("a".into()));
    assert_eq!(read.to_given(), json!({}));
    assert_eq!(group(&read.to_json()), Ok(read));
    let read =
        group(&json!({ "policy": "hash", "hash_on": "header:X-Key", "guard": { "failure_share": 0.25 } })).unwrap();
    assert_eq!(group(&read.to_json()).as_ref(), Ok(&read));
    assert_eq!(group(&read.to_given()), Ok(read));
}

#[test]
fn every_fault_is_told_with_its_place() {
    let faults = route(&json!({
        "macth": {},
        "match": { "called_prefix": ["+49", 7], "time": { "zone": "Berlin", "from": "8:00", "days": ["monday"] } },
        "targets": [{ "group": "a", "trunk": "b" }, {}],
        "headers": { "set": { "Via": "x", "X-Ok": "1" }, "remove": ["call-id"] },
        "reroute_on": [200],
        "setup_timeout_ms": 1,
        "labels": { "a=b": 1 },
    }))
    .unwrap_err();
    let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(
        places,
        [
            "/macth",
            "/match/called_prefix/1",
            "/match/time/zone",
            "/match/time/days/0",
            "/match/time/from",
            "/targets/0",
            "/targets/1",
            "/targets",
            "/headers/set/Via",
            "/headers/remove",
            "/reroute_on/0",
            "/setup_timeout_ms",
            "/labels/a=b",
            "/labels/a=b",
        ]
    );
    assert_eq!(faults[1].message, "match.called_prefix[1] must be a number of 1 to 64 characters, such as \"+4930\"");
    let faults = group(&json!({ "policy": "random", "guard": { "failure_share": 2 } })).unwrap_err();
    let said: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "policy must be one of fastest, hash, least_calls, weighted",
            "guard.failure_share must be a number above 0 and at most 1"
        ]
    );
}

#[test]
fn what_is_no_object_is_no_route() {
    for value in [json!(null), json!([]), json!("x"), json!(1)] {
        let faults = route(&value).unwrap_err();
        assert_eq!(faults[0].message, "the record must be an object", "{value}");
    }
}
