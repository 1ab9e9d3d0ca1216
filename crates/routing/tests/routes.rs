//! Which route takes a call, and where it goes then.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{builder, call, facts, route, seat, trunk, when};
use registry::{Called, Conditions, HeaderCondition, Route, RouteTarget, Window};
use routing::{Ask, Decision, Facts, Headers, RouteTable, Subject, Unmet, Verdict};

/// The route that takes a call.
fn taken(table: &RouteTable, subject: Subject<'_>) -> Option<String> {
    match table.decide(&Ask { subject, ..call("", 1) }) {
        Decision::Trunk { rule, .. } => rule.map(|rule| rule.id().to_string()),
        Decision::Nobody(refusal) => {
            assert!(refusal.no_route, "{}", refusal.why);
            None
        }
    }
}

fn calls(called: &str) -> Subject<'_> {
    Subject { called: called.as_bytes(), ..Subject::default() }
}

#[test]
fn the_most_specific_route_wins() {
    let domain = Conditions { domain: Some("a.example".into()), ..Conditions::default() };
    let both = Conditions { tgrp: Some("T".into()), ..domain.clone() };
    let exact = Route { called: Box::new([Called::Exact("+4930".into())]), ..route("exact", "", "g") };
    let table = builder(
        &[("a", facts("g", 1))],
        &[
            route("any", "", "g"),
            route("de", "+49", "g"),
            route("berlin", "+4930", "g"),
            when(domain.clone(), route("de-domain", "+49", "g")),
            when(both, route("de-both", "+49", "g")),
            Route { precedence: 1, ..route("a-late", "+33", "g") },
            route("b-early", "+33", "g"),
            route("c-early", "+33", "g"),
            Route { enabled: false, ..route("off", "+493012", "g") },
            exact,
        ],
    )
    .build(7);
    let with = |called| Subject { domain: b"A.example", ..calls(called) };
    assert_eq!(taken(&table, calls("+43")).as_deref(), Some("any"));
    assert_eq!(taken(&table, calls("+4989")).as_deref(), Some("de"));
    assert_eq!(taken(&table, calls("+49301234")).as_deref(), Some("berlin"), "one that is off counts as absent");
    assert_eq!(taken(&table, calls("+4930")).as_deref(), Some("exact"));
    assert_eq!(taken(&table, with("+4989")).as_deref(), Some("de-domain"));
    assert_eq!(taken(&table, with("+49301")).as_deref(), Some("berlin"), "a longer prefix beats any condition");
    let both = Subject { request_uri: b"sip:+4989;tgrp=t@a.example", ..with("+4989") };
    assert_eq!(taken(&table, both).as_deref(), Some("de-both"));
    assert_eq!(taken(&table, calls("+33")).as_deref(), Some("b-early"));
}

#[test]
fn every_condition_is_looked_at() {
    let window =
        Window { zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(), days: 0b1000, from: 8 * 60, to: 18 * 60 };
    let conditions = Conditions {
        calling: Box::new(["+1".into(), "+44".into()]),
        source_trunk: Some("pbx".into()),
        source_group: Some("customers".into()),
        domain: Some("x.example".into()),
        time: Some(window),
        headers: Box::new([
            HeaderCondition { name: "X-Tenant".into(), value: Some("acme".into()) },
            HeaderCondition { name: "X-Any".into(), value: None },
        ]),
        tgrp: Some("TG1".into()),
        trunk_context: Some("ctx".into()),
    };
    struct Some3(bool);
    impl Headers for Some3 {
        fn any(&self, name: &str, f: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            match name {
                "X-Tenant" => f(b"other") || f(if self.0 { b"acme" } else { b"emca" }),
                "X-Any" => f(b""),
                _ => false,
            }
        }
    }
    let mut built = builder(
        &[("a", facts("g", 1)), ("pbx", facts("customers", 2)), ("other", facts("customers", 3))],
        &[when(conditions, route("r", "+49", "g"))],
    );
    let named = Facts { certificate_name: Some("pbx.example".into()), ..facts("customers", 2) };
    built.set("pbx", named);
    let table = built.build(1);
    let good = Subject {
        calling: b"+44-20-7946",
        source: Some([10, 0, 0, 2].into()),
        domain: b"X.EXAMPLE",
        request_uri: b"sip:+4930;tgrp=tg1;trunk-context=CTX@x.example",
        // A Thursday, nine in the morning in Berlin.
        at: "2026-11-26T08:00:00Z".parse().unwrap(),
        headers: &Some3(true),
        ..calls("+4930")
    };
    assert_eq!(taken(&table, good).as_deref(), Some("r"));
    let names: [Box<str>; 1] = ["pbx.example".into()];
    let by_name = Subject { source: Some([192, 0, 2, 1].into()), names: &names, ..good };
    assert_eq!(taken(&table, by_name).as_deref(), Some("r"));
    for (subject, unmet) in [
        (Subject { calling: b"+33", ..good }, Unmet::Calling),
        (Subject { source: Some([10, 0, 0, 3].into()), ..good }, Unmet::SourceTrunk),
        (Subject { domain: b"y.example", ..good }, Unmet::Domain),
        (Subject { request_uri: b"sip:+4930@x.example", ..good }, Unmet::Tgrp),
        (Subject { request_uri: b"sip:+4930;tgrp=tg1@x.example", ..good }, Unmet::TrunkContext),
        (Subject { at: "2026-11-26T18:00:00Z".parse().unwrap(), ..good }, Unmet::Time),
        (Subject { headers: &Some3(false), ..good }, Unmet::Header("X-Tenant".into())),
    ] {
        let imagined = table.imagine(&Ask { subject, ..call("", 1) });
        assert!(imagined.no_route);
        assert_eq!(imagined.trace.routes[0].unmet, Some(unmet.clone()), "{unmet}");
        let Decision::Nobody(refusal) = table.decide(&Ask { subject, ..call("", 1) }) else { panic!("a seat") };
        assert_eq!((refusal.why.as_str(), refusal.no_route), ("no route matches +4930", true));
    }
    let group_only = Conditions { source_group: Some("g".into()), ..Conditions::default() };
    built.set_route(&Arc::new(when(group_only, route("r", "+49", "g"))));
    let table = built.build(2);
    assert_eq!(taken(&table, Subject { source: Some([10, 0, 0, 1].into()), ..calls("+49") }).as_deref(), Some("r"));
    assert_eq!(taken(&table, Subject { source: Some([10, 0, 0, 2].into()), ..calls("+49") }), None);
}

#[test]
fn targets_are_tried_in_their_order() {
    let targets =
        [RouteTarget::Group("g".into()), RouteTarget::Trunk("solo".into()), RouteTarget::Trunk("gone".into())];
    let route = Route { targets: Box::new(targets), ..route("r", "", "") };
    let one = |group: &str, n: u8| Facts { max_channels: Some(1), ..facts(group, n) };
    let second = Facts { priority: 1, ..one("g", 2) };
    let table =
        builder(&[("a", one("g", 1)), ("b", second), ("solo", one("h", 3)), ("d", one("h", 4))], &[route]).build(1);
    let seats: Vec<_> = (0..3).map(|draw| seat(&table, &call("1", draw)).unwrap()).collect();
    assert_eq!(seats.iter().map(|seat| &*seat.trunk().id).collect::<Vec<_>>(), ["a", "b", "solo"]);
    let Decision::Nobody(refusal) = table.decide(&call("1", 4)) else { panic!("a seat") };
    assert_eq!(refusal.why, "no trunk: a full 1/1; b full 1/1; solo full 1/1; and 1 more");
    assert!(!refusal.no_route);
    assert_eq!(refusal.trace.considered[3].verdict, Verdict::Unknown);
}

#[test]
fn a_doubtful_group_is_passed_over_and_tried_in_a_panic() {
    let targets = [RouteTarget::Group("g".into()), RouteTarget::Group("h".into())];
    let route = Route { targets: Box::new(targets), ..route("r", "", "") };
    let doubted = |group: &str, n: u8| Facts { doubts: vec!["probe: timeout".into()], ..facts(group, n) };
    let mut built = builder(&[("a", doubted("g", 1)), ("b", facts("h", 2)), ("c", facts("i", 3))], &[route]);
    let table = built.build(1);
    let Decision::Trunk { seat, panic, trace, .. } = table.decide(&call("1", 1)) else { panic!("nobody") };
    assert_eq!((&*seat.trunk().id, panic), ("b", false));
    assert_eq!(trace.unwrap().considered[0].verdict.to_string(), "probe: timeout");
    assert_eq!(table.groups_in_panic().collect::<Vec<_>>(), ["g"]);
    built.set("b", doubted("h", 2));
    let table = built.build(2);
    let Decision::Trunk { seat, panic, trace, .. } = table.decide(&call("1", 1)) else { panic!("nobody") };
    assert_eq!((&*seat.trunk().id, panic), ("a", true), "c is well, but no target of the route");
    let trace = trace.unwrap();
    assert!(trace.panic);
    assert_eq!(trace.considered[1].verdict.to_string(), "probe: timeout", "doubts are told nevertheless");
}

#[test]
fn an_emergency_call_knows_no_limit_and_no_rest() {
    let emergency = Route { emergency: true, ..route("e", "112", "g") };
    let full =
        Facts { max_channels: Some(0), max_cps: Some(1.0), rests: vec!["resting until …".into()], ..facts("g", 1) };
    let down = Facts { doubts: vec!["probe: 503".into()], ..facts("g", 2) };
    let off = Facts { obstacles: vec!["disabled".into()], ..facts("g", 3) };
    let mut built = builder(&[("a", full), ("b", down), ("c", off)], &[emergency, route("n", "", "g")]);
    let table = built.build(1);
    table.trunk("a").unwrap().live().set_resting(true);
    table.trunk("a").unwrap().targets[0].live.set_usable(false);
    let seats: Vec<_> = (0..3).map(|draw| seat(&table, &call("112", draw)).unwrap()).collect();
    assert!(seats.iter().all(|seat| &*seat.trunk().id == "a"));
    assert_eq!(table.trunk("a").unwrap().live().active(), 3, "counted all the same");
    let tried = [table.trunk("a").unwrap().live().serial()];
    let next = Ask { tried: &tried, ..call("112", 4) };
    assert_eq!(trunk(&table, &next).as_deref(), Some("b"), "rather in doubt than nowhere");
    let tried = [tried[0], table.trunk("b").unwrap().live().serial()];
    assert_eq!(trunk(&table, &Ask { tried: &tried, ..call("112", 4) }), None, "what is off stays off");
    drop(seats);
    // The normal calls after it wait in its stead.
    built.set("a", Facts { max_cps: Some(1.0), ..facts("g", 1) });
    let table = built.build(2);
    table.trunk("a").unwrap().live().set_resting(false);
    table.trunk("a").unwrap().targets[0].live.set_usable(true);
    assert_eq!(trunk(&table, &Ask { now: 9_000_000, ..call("112", 5) }).as_deref(), Some("a"));
    assert_eq!(trunk(&table, &Ask { now: 9_200_000, ..call("5", 6) }), None);
    assert_eq!(trunk(&table, &Ask { now: 10_000_000, ..call("5", 6) }).as_deref(), Some("a"));
}

#[test]
fn without_routes_all_are_one_group() {
    let mut built = builder(&[("a", facts("g", 1)), ("b", Facts { priority: 1, ..facts("h", 2) })], &[]);
    let table = built.build(1);
    assert_eq!(trunk(&table, &call("", 1)).as_deref(), Some("a"));
    table.trunk("a").unwrap().live().set_resting(true);
    assert_eq!(trunk(&table, &call("", 1)).as_deref(), Some("b"));
    assert!(!table.is_in_panic());
    built.set_route(&Arc::new(route("r", "9", "h")));
    assert_eq!(trunk(&built.build(2), &call("1", 1)), None);
    built.remove_route("r");
    assert_eq!(trunk(&built.build(3), &call("1", 1)).as_deref(), Some("b"));
}

#[test]
fn another_table_can_be_imagined() {
    let table = builder(&[("a", facts("g", 1)), ("b", facts("h", 2))], &[route("r", "", "g")]).build(5);
    let held = seat(&table, &call("1", 1)).unwrap();
    let mut other = routing::Builder::of(&table);
    let old = Arc::new(route("r", "", "g"));
    other.swap_route(Some(&old), Some(&Arc::new(route("r", "", "h"))));
    other.set("a", Facts { max_channels: Some(1), ..facts("h", 1) });
    let imagined = other.build(5).imagine(&call("1", 1));
    assert_eq!(&*imagined.chosen.unwrap().0.id, "b", "a is full: the imagined table shares the counts");
    assert_eq!(imagined.trace.considered[0].verdict, Verdict::Full(1, 1));
    assert_eq!(trunk(&table, &call("1", 1)).as_deref(), Some("a"), "nothing has happened to the real one");
    drop(held);
}
