//! Several targets of one trunk (RFC 3263 §4.3): which comes next, and what a call counts.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;

use proxy::Event;
use routing::{Facts, Place};
use sip::Transport;
use world::*;

const A1: &str = "203.0.113.1:5060";
const A2: &str = "203.0.113.2:5060";
const A3: &str = "203.0.113.3:5060";
const B: &str = "203.0.113.9:5060";

fn places(at: &[&str]) -> Vec<Place> {
    at.iter().zip(0..).map(|(at, priority)| Place { priority, ..Place::udp(address(at)) }).collect()
}

fn several(at: &[&str]) -> Facts {
    Facts { places: places(at), ..trunk(at[0], 1) }
}

fn two_and_one() -> World {
    World::new(&[("a", several(&[A1, A2])), ("b", trunk(B, 2))])
}

fn attempts(w: &World) -> Vec<(&str, usize, u16, bool)> {
    let told = |event: &'_ Event| match event {
        Event::Attempt { trunk, target, status, local, .. } => Some((trunk.id.to_string(), *target, *status, *local)),
        _ => None,
    };
    let told: Vec<_> = w.events.iter().filter_map(told).collect();
    told.into_iter().map(|(id, at, status, local)| (if id == "a" { "a" } else { "b" }, at, status, local)).collect()
}

#[test]
fn silence_and_send_errors_go_to_the_next_target_then_to_the_next_trunk() {
    let mut w = two_and_one();
    let first = w.invite_to("c1", A1);
    w.wait(4100);
    w.all(A1);
    let second = w.one(A2);
    assert!(second.starts_with("INVITE sip:15551234@203.0.113.1:5060 SIP/2.0"), "the trunk's own host: {second}");
    assert_ne!(header(&first, "Via"), header(&second, "Via"));
    assert_eq!((w.active("a"), w.active("b")), (1, 0), "counted once");
    w.undeliverable(&second);
    let third = w.one(B);
    assert_eq!((w.active("a"), w.active("b")), (0, 1));
    assert_eq!(attempts(&w), [("a", 0, 408, true), ("a", 1, 503, true)]);
    w.send(B, &respond(&third, "200 OK", &format!("Contact: <sip:bob@{B}>\r\n")));
    w.all(CALLER);
    assert_eq!(attempts(&w).last(), Some(&("b", 0, 200, false)));
}

#[test]
fn a_503_speaks_for_its_target_unless_it_asks_for_a_rest() {
    let mut w = two_and_one();
    let first = w.invite_to("c1", A1);
    w.send(A1, &respond(&first, "503 Full", ""));
    assert!(w.one(A1).starts_with("ACK "));
    assert!(w.one(A2).starts_with("INVITE "));
    w.silent();

    let mut w = two_and_one();
    let first = w.invite_to("c2", A1);
    w.send(A1, &respond(&first, "503 Full", "Retry-After: 5\r\n"));
    assert!(w.one(A1).starts_with("ACK "));
    assert!(w.one(B).starts_with("INVITE "));
    w.silent();
    let rests = |event: &Event| matches!(event, Event::Attempt { status: 503, retry_after: Some(5), .. });
    assert!(w.events.iter().any(rests));
}

#[test]
fn any_other_answer_that_reroutes_goes_to_the_next_trunk() {
    for status in ["500 Oops", "502 Bad Gateway", "504 Time-out", "408 Request Timeout"] {
        let mut w = two_and_one();
        let first = w.invite_to("c1", A1);
        w.send(A1, &respond(&first, status, ""));
        w.one(A1);
        assert!(w.one(B).starts_with("INVITE "), "{status}");
        w.silent();
    }
}

#[test]
fn a_trunk_that_was_heard_and_then_fell_silent_has_had_its_chance() {
    let mut w = two_and_one();
    let first = w.invite_to("c1", A1);
    w.send(A1, &respond(&first, "100 Trying", ""));
    w.wait(185_100);
    assert!(w.all(A1)[0].starts_with("CANCEL "));
    assert!(w.all(A2).is_empty());
    assert!(w.one(B).starts_with("INVITE "));
}

#[test]
fn the_only_channel_of_a_trunk_serves_all_its_targets() {
    let facts = Facts { max_channels: Some(1), ..several(&[A1, A2, A3]) };
    let mut w = World::new(&[("a", facts)]);
    let mut sent = w.invite_to("c1", A1);
    for next in [A2, A3] {
        w.undeliverable(&sent);
        sent = w.one(next);
        assert_eq!(w.active("a"), 1);
    }
    w.send(CALLER, &invite("c2"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 503 ") && w.why().contains("full 1/1"));
    w.send(A3, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A3}>\r\n")));
    let ok = w.one(CALLER);
    assert_eq!(w.active("a"), 1);
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let bye = w.one(A3);
    w.send(A3, &respond(&bye, "200 OK", ""));
    assert_eq!(w.active("a"), 0);
}

#[test]
fn one_call_is_counted_once_against_the_rate_of_its_trunk() {
    let facts = Facts { max_cps: Some(2.0), ..several(&[A1, A2, A3]) };
    let mut w = World::new(&[("a", facts)]);
    let mut sent = w.invite_to("c1", A1);
    for next in [A2, A3] {
        w.undeliverable(&sent);
        sent = w.one(next);
    }
    w.send(CALLER, &invite("c2"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 503 ") && w.why().contains("rate 2/s"));
    w.wait(600);
    w.wire.clear();
    w.invite_to("c3", A1);
}

#[test]
fn attempts_of_one_call_are_bounded() {
    let at: Vec<String> = (1..=30).map(|n| format!("203.0.113.{n}:5060")).collect();
    let at: Vec<&str> = at.iter().map(String::as_str).collect();
    let one_each: Vec<(String, Facts)> = at.iter().zip(0..).map(|(at, n)| (format!("t{n:02}"), trunk(at, n))).collect();
    let one_each: Vec<(&str, Facts)> = one_each.iter().map(|(id, facts)| (id.as_str(), facts.clone())).collect();
    for trunks in [vec![("a", several(&at))], one_each] {
        let mut w = World::new(&trunks);
        w.send(CALLER, &invite("c1"));
        let mut tried = 0;
        while w.wire.front().is_some_and(|(_, text)| text.starts_with("INVITE ")) {
            let (_, sent) = w.wire.pop_front().unwrap();
            tried += 1;
            w.undeliverable(&sent);
        }
        assert_eq!(tried, 16);
        assert!(w.one(CALLER).starts_with("SIP/2.0 500 "));
        assert!(trunks.iter().all(|(id, _)| w.active(id) == 0));
    }
}

#[test]
fn an_unusable_target_is_passed_over_and_taken_again_when_it_is_well() {
    let mut w = World::new(&[("a", several(&[A1, A2])), ("b", trunk(B, 2))]);
    let live = |w: &World, at: usize| w.table.trunk("a").unwrap().targets[at].live.clone();
    live(&w, 0).set_usable(false);
    w.invite_to("c1", A2);
    live(&w, 1).set_usable(false);
    w.invite_to("c2", B);
    live(&w, 0).set_usable(true);
    w.invite_to("c3", A1);
    assert_eq!(w.panics, 0);
    // A next target that is down is no next target.
    let sent = w.invite_to("c4", A1);
    w.undeliverable(&sent);
    w.one(B);
}

#[test]
fn a_resting_trunk_is_passed_over() {
    let mut w = two_and_one();
    w.table.trunk("a").unwrap().live().set_resting(true);
    w.invite_to("c1", B);
    w.table.trunk("a").unwrap().live().set_resting(false);
    w.invite_to("c2", A1);
}

#[test]
fn when_everything_is_in_doubt_calls_go_out_nevertheless_and_are_counted() {
    let mut w = two_and_one();
    for id in ["a", "b"] {
        for target in &w.table.trunk(id).unwrap().targets {
            target.live.set_usable(false);
        }
    }
    w.invite_to("c1", A1);
    assert_eq!(w.panics, 1);
    let doubted = Facts { doubts: vec!["probe failed".into()], ..trunk(B, 0) };
    let mut w = World::new(&[("b", doubted)]);
    w.invite_to("c1", B);
    assert_eq!(w.panics, 1);
}

#[test]
fn one_target_without_a_listener_of_its_transport_is_passed_over() {
    let places = vec![
        Place { transport: Transport::Tls, ..Place::udp(address(A1)) },
        Place { priority: 1, ..Place::udp(address(A2)) },
    ];
    let facts = Facts { places, ..trunk(A1, 0) };
    let mut w = World::with(&[("a", facts)], |config| config.listeners.truncate(1));
    w.invite_to("c1", A2);
    assert_eq!(attempts(&w), [("a", 0, 503, true)]);
    assert_eq!(w.active("a"), 1);
}

#[test]
fn targets_of_one_priority_share_by_weight() {
    let weighted = |at: &str, weight| Place { weight, ..Place::udp(address(at)) };
    let facts = Facts { places: vec![weighted(A1, 30), weighted(A2, 10), weighted(A3, 0)], ..trunk(A1, 0) };
    let mut w = World::new(&[("a", facts)]);
    for n in 0..400 {
        w.send(CALLER, &invite(&format!("c{n}")));
    }
    let mut got = BTreeMap::new();
    for (hop, _) in &w.wire {
        *got.entry(hop.address.to_string()).or_insert(0) += 1;
    }
    assert!((250..350).contains(&got[A1]), "{got:?}");
    assert!((60..140).contains(&got[A2]), "{got:?}");
    assert!(got.get(A3).is_none_or(|n| *n < 10), "{got:?}");
}

#[test]
fn requests_beside_calls_fail_over_too_and_take_no_channel() {
    let mut w = two_and_one();
    w.send(CALLER, &invite("c1").replace("INVITE", "MESSAGE"));
    let first = w.one(A1);
    w.undeliverable(&first);
    let second = w.one(A2);
    assert_eq!(w.active("a"), 0);
    w.send(A2, &respond(&second, "503 Full", "Retry-After: 3\r\n"));
    let third = w.one(B);
    w.send(B, &respond(&third, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    w.silent();
}
