//! Loops, spirals and Max-Breadth (RFC 5393, RFC 3261 §16.3).

#![allow(clippy::unwrap_used)]

mod world;

use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";

fn with(message: &str, line: &str) -> String {
    message.replacen("Max-Forwards:", &format!("{line}\r\nMax-Forwards:"), 1)
}

/// What another proxy makes of a request that it sends back to us.
fn through_another(message: &str, request_uri: Option<&str>, at: &str) -> String {
    let (start, rest) = message.split_once("\r\n").unwrap();
    let method = start.split(' ').next().unwrap();
    let uri = request_uri.unwrap_or_else(|| start.split(' ').nth(1).unwrap());
    format!("{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK-other-{}\r\n{rest}", rest.len())
}

#[test]
fn max_breadth_is_added_once_and_kept() {
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))]);
    let sent = w.invite_to("c1", A);
    assert_eq!(headers(&sent, "Max-Breadth"), ["60"]);
    // One attempt at a time: each may use all of it (§5.3.3).
    w.send(A, &respond(&sent, "503 Full", ""));
    w.one(A);
    assert_eq!(headers(&w.one(B), "Max-Breadth"), ["60"]);
    for breadth in ["1", "7", "400"] {
        w.send(CALLER, &with(&invite(&format!("m{breadth}")), &format!("Max-Breadth: {breadth}")));
        assert_eq!(headers(&w.one(A), "Max-Breadth"), [breadth]);
    }
    let mut w = World::with(&[("a", trunk(A, 0))], |config| config.max_breadth = 9);
    assert_eq!(headers(&w.invite_to("c1", A), "Max-Breadth"), ["9"]);
}

#[test]
fn without_breadth_a_request_ends_440() {
    for method in ["INVITE", "MESSAGE"] {
        let mut w = World::new(&[("a", trunk(A, 0))]);
        w.send(CALLER, &with(&invite("c1").replace("INVITE", method), "Max-Breadth: 0"));
        assert!(w.one(CALLER).starts_with("SIP/2.0 440 Max-Breadth Exceeded\r\n"));
        assert_eq!(w.refusals(), ["breadth"]);
        w.silent();
    }
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.send(CALLER, &with(&in_dialog("INFO", 2, &ok), "Max-Breadth: 0"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 440 "));
    w.silent();
}

#[test]
fn a_request_that_comes_back_the_same_is_a_loop() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    let back = through_another(&sent, Some("sip:15551234@192.0.2.1:5060"), A);
    w.send(A, &back);
    assert!(w.one(A).starts_with("SIP/2.0 482 Loop Detected\r\n"));
    assert_eq!(w.refusals(), ["loop"]);
    w.silent();
    // Through two others just the same.
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))]);
    let sent = w.invite_to("c1", A);
    let back = through_another(&sent, Some("sip:15551234@192.0.2.1:5060"), A);
    w.send(B, &through_another(&back, None, B));
    assert!(w.one(B).starts_with("SIP/2.0 482 "));
}

#[test]
fn a_request_that_comes_back_for_somebody_else_is_a_spiral() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let mut sent = w.invite_to("c1", A);
    for turn in 1..=5 {
        w.send(A, &through_another(&sent, Some(&format!("sip:1555{turn}@192.0.2.1:5060")), A));
        sent = w.one(A);
        assert!(sent.starts_with(&format!("INVITE sip:1555{turn}@203.0.113.1:5060")), "{sent}");
        assert_eq!(header(&sent, "Max-Forwards"), (69 - turn).to_string());
    }
    w.send(A, &through_another(&sent, Some("sip:15553@192.0.2.1:5060"), A));
    assert!(w.one(A).starts_with("SIP/2.0 482 "), "a turn of before comes again");
    assert!(w.refusals() == ["loop"]);
}

#[test]
fn a_via_of_another_is_no_loop_whatever_its_branch() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    let ours = header(&sent, "Via");
    let branch = ours.split("branch=").nth(1).unwrap();
    // A forged branch: its last letters differ.
    let mut forged = branch.to_owned();
    let last = if forged.ends_with('0') { "1" } else { "0" };
    forged.replace_range(forged.len() - 1.., last);
    let message = through_another(&invite("c2"), None, A).replace("z9hG4bK-c2-1", &forged);
    w.send(A, &message);
    assert!(w.one(A).starts_with("INVITE "));
    assert!(w.refusals().is_empty());
}

#[test]
fn a_changed_route_set_or_sequence_is_no_loop() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    let again = through_another(&sent, Some("sip:15551234@192.0.2.1:5060"), A).replace("CSeq: 1 ", "CSeq: 2 ");
    w.send(A, &again);
    assert!(w.one(A).starts_with("INVITE "));
}

#[test]
fn hops_that_are_used_up_end_483() {
    for left in [0, 1] {
        let mut w = World::new(&[("a", trunk(A, 0))]);
        w.send(CALLER, &invite("c1").replace("Max-Forwards: 70", &format!("Max-Forwards: {left}")));
        match left {
            0 => assert!(w.one(CALLER).starts_with("SIP/2.0 483 ")),
            _ => assert_eq!(header(&w.one(A), "Max-Forwards"), "0"),
        }
        w.silent();
    }
}
