//! Asserted identities and privacy at the boundary of trust (RFC 3325 §5, RFC 3323).

#![allow(clippy::unwrap_used)]

mod world;

use routing::Facts;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";
/// A caller of the trusted network.
const FRIEND: &str = "198.51.100.200:5060";
const ASSERTED: &str = "P-Asserted-Identity:  \"Alice\" <sip:alice@example.com>,<tel:+15550100> \r\n\
     P-Preferred-Identity: <sip:al@example.com>\r\n\
     p-asserted-identity: <sip:second@example.com>\r\n";
const NAMES: [&str; 2] = ["P-Asserted-Identity", "P-Preferred-Identity"];

fn facts(trusted: bool) -> Facts {
    Facts { trusted, ..trunk(A, 0) }
}

/// Puts header lines before Content-Length (or Content-Type), as they are.
fn with(message: &str, lines: &str) -> String {
    message.replacen("Call-ID:", &format!("{lines}Call-ID:"), 1)
}

#[track_caller]
fn check(message: &str, passes: bool) {
    let found: usize = NAMES.iter().map(|name| headers(message, name).len()).sum();
    assert_eq!(found, if passes { 3 } else { 0 }, "{message}");
    if passes {
        assert!(message.contains(ASSERTED), "byte by byte: {message}");
    }
}

/// Every pair of trust: caller, trunk.
fn each(run: impl Fn(&str, bool, bool)) {
    for (caller, believed) in [(CALLER, false), (FRIEND, true)] {
        for trusted in [false, true] {
            run(caller, trusted, believed && trusted);
        }
    }
}

#[test]
fn identities_pass_in_requests_and_answers_only_between_trusted_sides() {
    each(|caller, trusted, passes| {
        let mut w = World::new(&[("a", facts(trusted))]);
        w.send(caller, &with(&invite("c1"), ASSERTED));
        let sent = w.one(A);
        check(&sent, passes);
        for status in ["183 Session Progress", "200 OK"] {
            w.send(A, &respond(&sent, status, &format!("Contact: <sip:bob@{A}>\r\n{ASSERTED}")));
            check(&w.one(caller), passes);
        }
    });
}

#[test]
fn identities_pass_in_refusals_only_between_trusted_sides() {
    each(|caller, trusted, passes| {
        let mut w = World::new(&[("a", facts(trusted))]);
        for (call, method) in [("c1", "INVITE"), ("c2", "MESSAGE")] {
            w.send(caller, &with(&invite(call).replace("INVITE", method), ASSERTED));
            let sent = w.one(A);
            check(&sent, passes);
            w.send(A, &respond(&sent, "404 Not Found", ASSERTED));
            w.all(A);
            check(&w.one(caller), passes);
        }
    });
}

#[test]
fn identities_pass_inside_dialogs_only_between_trusted_sides() {
    each(|caller, trusted, passes| {
        let mut w = World::new(&[("a", facts(trusted))]);
        w.send(caller, &invite("c1").replace(CALLER, caller));
        let sent = w.one(A);
        w.send(A, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n")));
        let ok = w.one(caller);
        for (method, number) in [("ACK", 1), ("UPDATE", 2), ("INVITE", 3)] {
            w.send(caller, &with(&in_dialog(method, number, &ok).replace(CALLER, caller), ASSERTED));
            let got = w.one(A);
            check(&got, passes);
            if method != "ACK" {
                w.send(A, &respond(&got, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n{ASSERTED}")));
                check(&w.one(caller), passes);
            }
        }
        for (method, number) in [("INFO", 8), ("BYE", 9)] {
            w.send(A, &with(&from_callee(method, number, &ok, A).replace(CALLER, caller), ASSERTED));
            let got = w.one(caller);
            check(&got, passes);
            w.send(caller, &respond(&got, "200 OK", ASSERTED));
            check(&w.one(A), passes);
        }
    });
}

#[test]
fn failing_over_looks_at_the_trust_of_each_trunk() {
    for (first, second) in [(true, false), (false, true)] {
        let b = Facts { trusted: second, ..trunk(B, 1) };
        let mut w = World::new(&[("a", facts(first)), ("b", b)]);
        w.send(FRIEND, &with(&invite("c1"), ASSERTED));
        let sent = w.one(A);
        check(&sent, first);
        w.send(A, &respond(&sent, "503 Full", ASSERTED));
        w.all(A);
        let sent = w.one(B);
        check(&sent, second);
        w.send(B, &respond(&sent, "503 Full", ASSERTED));
        w.all(B);
        let refused = w.one(FRIEND);
        assert!(refused.starts_with("SIP/2.0 500 "));
        check(&refused, second);
    }
}

#[test]
fn a_trusted_trunk_may_call_and_is_believed_too() {
    for trusted in [false, true] {
        let b = Facts { trusted, ..trunk(B, 0) };
        let mut w = World::new(&[("a", Facts { priority: 9, ..facts(trusted) }), ("b", b)]);
        w.send(A, &with(&invite("c1"), ASSERTED));
        check(&w.one(B), trusted);
    }
}

#[test]
fn privacy_that_a_proxy_gives_passes_on() {
    for level in ["id", "none", "header", "session;user", "id;critical", "none;critical", "id; critical"] {
        for trusted in [false, true] {
            let mut w = World::new(&[("a", facts(trusted))]);
            let line = format!("Privacy:  {level}\r\n");
            w.send(FRIEND, &with(&invite("c1"), &format!("{line}{ASSERTED}")));
            let sent = w.one(A);
            check(&sent, trusted);
            assert!(sent.contains(&line), "what is left to do is for those after us: {sent}");
        }
    }
}

#[test]
fn critical_privacy_that_a_proxy_cannot_give_ends_the_call() {
    for level in ["header;critical", "critical;session", "id;user;critical", "CRITICAL; Header", "user , critical"] {
        let mut w = World::new(&[("a", facts(true))]);
        w.send(FRIEND, &with(&invite("c1"), &format!("Privacy: {level}\r\n")));
        assert!(w.one(FRIEND).starts_with("SIP/2.0 500 "), "{level}");
        assert_eq!(w.refusals(), ["privacy"]);
        w.silent();
        assert_eq!((w.active("a"), w.shard.calls().len()), (0, 0));
    }
}

#[test]
fn a_withheld_identity_in_the_first_line_takes_nothing_along() {
    let mut w = World::new(&[("a", facts(false))]);
    let bare = invite("c1").replace("Max-Forwards: 70\r\n", "");
    w.send(FRIEND, &bare.replacen("Via:", &format!("{ASSERTED}Via:"), 1));
    let sent = w.one(A);
    check(&sent, false);
    assert_eq!(headers(&sent, "Max-Forwards"), ["70"]);
    assert_eq!(headers(&sent, "Via").len(), 2);
}
