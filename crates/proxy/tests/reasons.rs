//! Why a call is cancelled or refused (RFC 3326).

#![allow(clippy::unwrap_used)]

mod world;

use routing::Facts;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";
/// A caller whose network is trusted.
const TRUSTED: &str = "198.51.100.200:5060";
const TWO: &str = "Reason:  SIP ;cause=200 ;text=\"Call completed elsewhere\"\r\nreason: Q.850;cause=26\r\n";

fn cancel(call: &str, lines: &str) -> String {
    on_hop("CANCEL", call).replacen("Max-Forwards", &format!("{lines}Max-Forwards"), 1)
}

fn two() -> World {
    World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))])
}

#[test]
fn the_reason_of_a_cancel_passes_on_byte_by_byte() {
    let mut w = two();
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    w.one(CALLER);
    w.send(CALLER, &cancel("c1", TWO));
    let got = w.one(A);
    assert!(got.starts_with("CANCEL ") && got.contains(TWO), "{got}");
    assert_eq!(headers(&got, "Reason").len(), 2);
    w.wait(600);
    assert_eq!(w.one(A), got, "and again");
    // Nothing is invented where the caller says nothing.
    let sent = w.invite_to("c2", A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    w.send(CALLER, &cancel("c2", ""));
    assert!(headers(&w.one(A), "Reason").is_empty());
}

#[test]
fn a_reason_that_waits_for_the_first_answer_stays_the_callers() {
    for wait in [0, 4100] {
        let mut w = two();
        let sent = w.invite_to("c1", A);
        w.send(CALLER, &cancel("c1", TWO));
        w.wait(wait);
        w.all(A);
        w.send(A, &respond(&sent, "100 Trying", ""));
        let got = w.one(A);
        assert!(got.starts_with("CANCEL ") && got.contains(TWO), "after {wait} ms: {got}");
        assert_eq!(headers(&got, "Reason").len(), 2);
        assert!(w.all(B).is_empty());
    }
}

#[test]
fn our_own_cancels_say_why() {
    // Rang for too long.
    let mut w = two();
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    w.wait(181_000);
    assert_eq!(headers(&w.all(A)[0], "Reason"), ["SIP;cause=408;text=\"Request Timeout\""]);
    // Was silent, then woke up.
    let mut w = two();
    let sent = w.invite_to("c2", A);
    w.wait(4100);
    w.all(A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    assert_eq!(headers(&w.one(A), "Reason"), ["SIP;cause=408;text=\"Request Timeout\""]);
    // Another has answered.
    let mut w = two();
    let first = w.invite_to("c3", A);
    w.wait(4100);
    let second = w.one(B);
    w.send(B, &respond(&second, "180 Ringing", ""));
    w.send(A, &respond(&first, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n")));
    assert_eq!(headers(&w.one(B), "Reason"), ["SIP;cause=200;text=\"Call completed elsewhere\""]);
}

#[test]
fn the_reason_of_a_refusal_and_of_a_bye_passes() {
    let mut w = two();
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "404 Not Found", TWO));
    assert!(w.one(CALLER).contains(TWO));
    w.wire.clear();
    let ok = w.establish("c2", A, "");
    w.send(A, &from_callee("BYE", 9, &ok, A).replacen("Max-Forwards", &format!("{TWO}Max-Forwards"), 1));
    assert!(w.one(CALLER).contains(TWO));
}

#[test]
fn a_q850_cause_reroutes_where_the_trunk_lists_it() {
    let cases = [
        ("480 Unavailable", "Reason: Q.850;cause=34;text=\"no circuit\"\r\n", true),
        ("480 Unavailable", "Reason: SIP;cause=480, q.850 ;text=\"x;cause=1\" ; cause=34\r\n", true),
        ("480 Unavailable", "Reason: SIP;cause=200\r\nReason: Q.850;cause=34\r\n", true),
        ("480 Unavailable", "Reason: Q.850;cause=17\r\n", false),
        ("480 Unavailable", "Reason: SIP;cause=34\r\n", false),
        ("480 Unavailable", "Reason: Q.850;text=\"cause=34\"\r\n", false),
        ("480 Unavailable", "Reason: Q.850;cause=34x\r\n", false),
        ("480 Unavailable", "", false),
        // A person has answered.
        ("486 Busy Here", "Reason: Q.850;cause=34\r\n", false),
        ("603 Decline", "Reason: Q.850;cause=34\r\n", false),
    ];
    for (status, line, reroutes) in cases {
        let a = Facts { reroute_causes: vec![34, 38], ..trunk(A, 0) };
        let mut w = World::new(&[("a", a), ("b", trunk(B, 1))]);
        let sent = w.invite_to("c1", A);
        w.send(A, &respond(&sent, status, line));
        w.one(A);
        assert_eq!((w.all(B).len(), w.all(CALLER).len()), if reroutes { (1, 0) } else { (0, 1) }, "{status} {line}");
    }
}

#[test]
fn a_refusal_says_why_to_those_who_are_trusted() {
    for (from, said) in [(CALLER, "SIP;cause=503"), (TRUSTED, "SIP;cause=503;text=\"no trunk is registered\"")] {
        let mut w = World::new(&[]);
        w.send(from, &invite("c1").replace(CALLER, from));
        let refused = w.one(from);
        assert_eq!((header(&refused, "Reason").as_str(), header(&refused, "Retry-After").as_str()), (said, "5"));
    }
}

#[test]
fn a_number_that_no_route_takes_is_not_found() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.refuse = Some((404, "no route matches \"+49\"\nX: y"));
    w.send(TRUSTED, &invite("c1").replace(CALLER, TRUSTED));
    let refused = w.one(TRUSTED);
    assert!(refused.starts_with("SIP/2.0 404 Not Found\r\n"), "{refused}");
    assert_eq!(header(&refused, "Reason"), "SIP;cause=404;text=\"no route matches '+49''X: y\"");
    assert!(headers(&refused, "Retry-After").is_empty());
    assert_eq!(w.refusals(), ["no_route"]);
    assert!(w.shard.calls().is_empty());
}
