//! What a route asks of the requests that it takes.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::Event;
use registry::{Reroute, Treatment};
use routing::{Facts, Rule, Trace};
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";
/// A caller whose network is trusted.
const TRUSTED: &str = "198.51.100.200:5060";

fn two() -> World {
    World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))])
}

fn with(rules: &[(&'static str, Treatment)]) -> World {
    let mut w = two();
    w.rules = rules.iter().map(|(id, treatment)| (*id, rule(treatment.clone()))).collect();
    w
}

fn called(strip: u8, prepend: &str) -> Treatment {
    Treatment { called: rewrite(strip, prepend), ..Treatment::default() }
}

fn calling(strip: u8, prepend: &str) -> Treatment {
    Treatment { calling: rewrite(strip, prepend), ..Treatment::default() }
}

fn edits(set: &[(&str, &str)], remove: &[&str]) -> Treatment {
    Treatment {
        set: set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        remove: remove.iter().map(|name| (*name).into()).collect(),
        ..Treatment::default()
    }
}

fn request_uri(message: &str) -> &str {
    message.split(' ').nth(1).unwrap()
}

/// All lines but those that a proxy writes, and the body.
fn rest(message: &str) -> Vec<&str> {
    let own = ["Via:", "Record-Route:", "Max-Forwards:", "Max-Breadth:"];
    message.split("\r\n").filter(|line| !own.iter().any(|name| line.starts_with(name))).collect()
}

#[test]
fn the_called_number_is_rewritten_for_each_attempt_from_the_request_as_it_came() {
    let mut w = with(&[("a", called(1, "00")), ("b", called(0, "+"))]);
    let sent = invite("c1");
    w.send(CALLER, &sent);
    let first = w.one(A);
    assert_eq!(request_uri(&first), format!("sip:005551234@{A}"));
    assert_eq!(rest(&first)[1..], rest(&sent)[1..], "To and all else stay");
    w.send(A, &respond(&first, "503 Full", ""));
    let second = w.one(B);
    assert_eq!(request_uri(&second), format!("sip:+15551234@{B}"));
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    w.send(B, &respond(&second, "180 Ringing", ""));
    let cancel = w.all(B).pop().unwrap();
    assert!(cancel.starts_with("CANCEL ") && request_uri(&cancel) == request_uri(&second), "{cancel}");
}

#[test]
fn what_follows_a_number_stays() {
    for (uri, treatment, expected) in [
        (
            "sip:+49;tgrp=TG1;trunk-context=x.example@h;user=phone",
            called(1, "00"),
            "sip:0049;tgrp=TG1;trunk-context=x.example@A;user=phone",
        ),
        ("sip:+49:pw@h", called(3, "1"), "sip:1:pw@A"),
        ("sips:+49@h", called(0, "0"), "sips:0+49@A"),
        ("tel:+49", called(1, "00"), "sip:0049@A;user=phone"),
        // Nothing to rewrite, or nothing left.
        ("sip:h", called(0, "00"), "sip:A"),
        ("sip:12@h", called(9, ""), "sip:12@A"),
        ("sip:12@h", called(9, "0"), "sip:0@A"),
    ] {
        let mut w = with(&[("", treatment)]);
        if uri.starts_with("sips:") {
            let mut place = routing::Place::udp(address(A));
            place.transport = sip::Transport::Tls;
            w.change(|builder| builder.set("a", Facts { places: vec![place], ..trunk(A, 0) }));
        }
        w.send(CALLER, &invite("c1").replacen(&format!("sip:15551234@{PROXY} SIP"), &format!("{uri} SIP"), 1));
        assert_eq!(request_uri(&w.one(A)), expected.replace('A', A), "{uri}");
    }
}

#[test]
fn the_caller_meets_its_own_from_in_every_answer() {
    let mut w = with(&[("a", calling(1, "+49")), ("b", calling(5, "bob"))]);
    let own = "\"A, l;ice\"  <sip:alice;x=1@198.51.100.7:5070;p>  ;tag=a-c1 ;q";
    let sent = invite("c1").replacen("Alice <sip:alice@198.51.100.7>;tag=a-c1", own, 1).replacen("From:", "f :", 1);
    w.send(CALLER, &sent);
    let first = w.one(A);
    let changed = |number: &str| sent.replacen("<sip:alice;", &format!("<sip:{number};"), 1);
    assert_eq!(rest(&first)[1..], rest(&changed("+49lice"))[1..]);
    // A peer that writes its headers in its own way.
    let written = |request: &str| request.replacen("f :", "From:", 1);
    w.send(A, &respond(&written(&first), "500 Oops", ""));
    let second = w.one(B);
    assert_eq!(rest(&second)[1..], rest(&changed("bob"))[1..]);
    let mut index = 0;
    let mut check = |w: &mut World, status: &str, extra: &str| {
        w.send(B, &respond(&written(&second), status, extra));
        let got = w.all(CALLER).pop().unwrap();
        assert!(got.starts_with(&format!("SIP/2.0 {status}")));
        assert_eq!(headers(&got, "From"), [own], "{got}");
        index += 1;
        got
    };
    check(&mut w, "180 Ringing", "");
    let contact = format!("Contact: <sip:bob@{B}>\r\n");
    let ok = check(&mut w, "200 OK", &contact);
    assert_eq!(check(&mut w, "200 OK", &contact), ok, "also a repeated one");
    w.wait(20_000);
    assert_eq!(check(&mut w, "200 OK", &contact), ok, "long after the request is forgotten");
    assert_eq!(index, 4);
    // A dialog is known by its tags: its requests pass as they are.
    for method in ["ACK", "INFO"] {
        w.wire.clear();
        w.send(CALLER, &in_dialog(method, 2, &ok));
        assert_eq!(header(&w.one(B), "From"), own, "{method}");
    }
    let of_callee = respond(&written(&second), "200 OK", "");
    w.send(B, &from_callee("BYE", 9, &of_callee, B));
    let bye = w.one(CALLER);
    assert_eq!(header(&bye, "To"), header(&second.replacen("f :", "From:", 1), "From"));
    w.send(CALLER, &respond(&bye, "200 OK", ""));
    assert_eq!(w.active("b"), 0);
}

#[test]
fn a_refusal_and_a_late_answer_restore_from_too() {
    let mut w = with(&[("", calling(0, "0"))]);
    let first = w.invite_to("c1", A);
    w.wait(4100);
    let second = w.one(B);
    w.all(A);
    w.send(A, &respond(&first, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n")));
    assert_eq!(header(&w.all(CALLER).pop().unwrap(), "From"), "Alice <sip:alice@198.51.100.7>;tag=a-c1");
    assert_eq!(header(&second, "From"), "Alice <sip:0alice@198.51.100.7>;tag=a-c1");
    let first = w.invite_to("c2", A);
    w.send(A, &respond(&first, "404 Not Found", ""));
    let ack = w.one(A);
    assert!(ack.starts_with("ACK ") && header(&ack, "From") == header(&first, "From"), "the hop's own");
    assert_eq!(header(&w.all(CALLER).pop().unwrap(), "From"), "Alice <sip:alice@198.51.100.7>;tag=a-c2");
    // And outside calls.
    w.send(CALLER, &on_hop("MESSAGE", "c3"));
    let message = w.one(A);
    assert!(header(&message, "From").contains("sip:0alice@"), "{message}");
    w.send(A, &respond(&message, "200 OK", ""));
    assert_eq!(header(&w.one(CALLER), "From"), "Alice <sip:alice@198.51.100.7>;tag=a-c3");
}

#[test]
fn the_asserted_numbers_are_rewritten_where_they_pass() {
    let asserted = "P-Asserted-Identity: \"A\" <sip:12@h>, <tel:12;x=y>\r\np-asserted-IDENTITY: <sip:h>\r\n";
    for (from, trusted, expected) in [
        (TRUSTED, true, vec!["\"A\" <sip:002@h>, <tel:002;x=y>", "<sip:h>"]),
        (TRUSTED, false, vec![]),
        (CALLER, true, vec![]),
    ] {
        let mut w = World::new(&[("a", Facts { trusted, ..trunk(A, 0) })]);
        w.rules = [("", rule(calling(1, "00")))].into();
        let sent = invite("c1").replace(CALLER, from).replacen("X-Untouched", &format!("{asserted}X-Untouched"), 1);
        w.send(from, &sent);
        assert_eq!(headers(&w.one(A), "P-Asserted-Identity"), expected);
    }
}

#[test]
fn headers_are_set_and_taken_out_by_any_of_their_names() {
    let lines = "Subject: one\r\nX-Route: old\r\ns: two\r\nSUBJECT:\r\n three\r\nx-route :older\r\nP-Asserted-Identity: <sip:p@h>\r\n\
                 b: <sip:r@h>\r\n";
    let sent = invite("c1").replacen("X-Untouched", &format!("{lines}X-Untouched"), 1);
    for (treatment, expected) in [
        (
            edits(&[], &["subject"]),
            lines.replace("Subject: one\r\n", "").replace("s: two\r\n", "").replace("SUBJECT:\r\n three\r\n", ""),
        ),
        (
            edits(&[], &["S", "s"]),
            lines.replace("Subject: one\r\n", "").replace("s: two\r\n", "").replace("SUBJECT:\r\n three\r\n", ""),
        ),
        (edits(&[], &["Referred-By"]), lines.replace("b: <sip:r@h>\r\n", "")),
        (
            edits(&[("X-ROUTE", "new")], &[]),
            lines.replace("X-Route: old", "X-ROUTE: new").replace("x-route :older\r\n", ""),
        ),
        (
            edits(&[("X-ROUTE", "new")], &["x-route"]),
            lines.replace("X-Route: old", "X-ROUTE: new").replace("x-route :older\r\n", ""),
        ),
        (edits(&[], &["Not-There"]), lines.to_owned()),
    ] {
        let mut w = with(&[("", treatment.clone())]);
        w.send(CALLER, &sent);
        // The caller is not trusted.
        let expected = sent.replace(lines, &expected).replace("P-Asserted-Identity: <sip:p@h>\r\n", "");
        assert_eq!(rest(&w.one(A))[1..], rest(&expected)[1..], "{treatment:?}");
    }
    // What is not there is added at the end, also an identity that the operator asserts.
    for (name, value) in [("X-New", "1 ;2"), ("P-Asserted-Identity", "<tel:+49>")] {
        let mut w = with(&[("", edits(&[(name, value)], &[]))]);
        w.send(CALLER, &invite("c1"));
        let expected = invite("c1").replacen("\r\n\r\n", &format!("\r\n{name}: {value}\r\n\r\n"), 1);
        assert_eq!(rest(&w.one(A))[1..], rest(&expected)[1..]);
    }
    let mut w = with(&[("", edits(&[("P-Asserted-Identity", "<tel:+49>")], &[]))]);
    w.send(CALLER, &sent);
    assert_eq!(headers(&w.one(A), "P-Asserted-Identity"), ["<tel:+49>"], "in place of the caller's");
}

#[test]
fn the_rule_says_what_reroutes() {
    let on = |codes: &[u16], causes: &[u8]| Treatment {
        reroute_on: Some(Reroute { codes: codes.to_vec(), causes: causes.to_vec() }),
        ..Treatment::default()
    };
    for (treatment, answer, extra, reroutes) in [
        (Treatment::default(), "503 Full", "", true),
        (Treatment::default(), "404 Not Found", "", false),
        (on(&[404], &[]), "404 Not Found", "", true),
        (on(&[404], &[]), "503 Full", "", false),
        (on(&[], &[34]), "480 Gone", "Reason: Q.850;cause=34\r\n", true),
        (on(&[], &[34]), "480 Gone", "Reason: Q.850;cause=17\r\n", false),
        (on(&[486, 603], &[]), "486 Busy Here", "", false),
        (on(&[486, 603], &[]), "603 Decline", "", false),
    ] {
        let mut w = with(&[("", treatment.clone())]);
        let sent = w.invite_to("c1", A);
        w.send(A, &respond(&sent, answer, extra));
        assert_eq!(!w.all(B).is_empty(), reroutes, "{answer} {extra} by {treatment:?}");
    }
    // Silence and send errors go on whatever it lists.
    let mut w = with(&[("", on(&[404], &[]))]);
    w.invite_to("c1", A);
    w.wait(4100);
    assert_eq!(w.all(B).len(), 1);
}

#[test]
fn the_rule_has_its_time_outs() {
    let times = |setup: u32, ring: u32| Treatment {
        setup_timeout_ms: Some(setup),
        ring_timeout_ms: Some(ring),
        ..Treatment::default()
    };
    for setup in [300, 12_000] {
        let mut w = with(&[("", times(setup, 1000))]);
        w.invite_to("c1", A);
        w.wait(u64::from(setup) - 1);
        assert!(w.all(B).is_empty());
        w.wait(1);
        assert_eq!(w.all(B).len(), 1, "{setup}");
    }
    // Longer than timer C, too.
    for ring in [2000, 600_000] {
        let mut w = with(&[("", times(4000, ring))]);
        let sent = w.invite_to("c1", A);
        w.send(A, &respond(&sent, "180 Ringing", ""));
        w.wait(u64::from(ring) - 1);
        assert!(w.all(A).is_empty(), "{ring}");
        w.wait(1);
        assert!(w.one(A).starts_with("CANCEL "), "{ring}");
    }
    let mut w = with(&[("", times(4000, 600_000))]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "100 Trying", ""));
    w.wait(604_999);
    assert!(w.all(A).is_empty(), "timer C waits for it");
    w.wait(1);
    assert!(w.one(A).starts_with("CANCEL "));
}

#[test]
fn an_attempt_tells_its_rule_and_prefix() {
    let mut w = with(&[("", called(1, "00"))]);
    w.trace = Some(Trace { prefix: 3, ..Trace::default() });
    let told = |w: &World| -> Vec<(String, Option<Rule>, Option<String>)> {
        let of = |event: &Event| match event {
            Event::Attempt { trunk, rule, prefix, .. } => {
                Some((trunk.id.to_string(), rule.clone(), prefix.as_ref().map(|prefix| prefix.to_string())))
            }
            _ => None,
        };
        w.events.iter().filter_map(of).collect()
    };
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "503 Full", ""));
    let second = w.one(B);
    w.send(B, &respond(&second, "200 OK", &format!("Contact: <sip:bob@{B}>\r\n")));
    let rule = w.rules.get("").cloned();
    let of = |trunk: &str| (trunk.to_owned(), rule.clone(), Some("155".to_owned()));
    assert_eq!(told(&w), [of("a"), of("b")]);
    w.events.clear();
    w.wire.clear();
    w.trace = None;
    w.invite_to("c2", A);
    w.wait(4100);
    assert_eq!(told(&w), [("a".to_owned(), rule.clone(), None)]);
}
