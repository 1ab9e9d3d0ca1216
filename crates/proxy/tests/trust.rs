//! What passes the proxy byte by byte, what it withholds, and what it adds.

#![allow(clippy::unwrap_used)]

mod world;

use routing::Facts;
use world::{CALLER, World, header, headers, in_dialog, invite, on_hop, respond, trunk};

const T1: &str = "203.0.113.1:5060";
const T2: &str = "203.0.113.2:5060";
/// A caller whose network is trusted.
const TRUSTED: &str = "198.51.100.200:5060";

/// Headers that a proxy has no business with, in odd shapes.
const UNTOUCHED: &str = "Supported: 100rel, timer\r\nRequire: 100rel\r\nRSeq: 17\r\nRAck:  17 1   INVITE\r\n\
    Identity: \"eyJhbGciOiJFUzI1NiJ9..x\";info=<https://cert.example/a.pem>;alg=ES256;ppt=shaken\r\n\
    History-Info: <sip:a@example.com>;index=1,\r\n <sip:b@example.com?Reason=SIP%3Bcause%3D302>;index=1.1\r\n\
    Diversion:<tel:+15550100>;reason=unconditional;counter=1\r\nx-ODD :   \tspaced  \r\nPrivacy: none\r\n";

/// All lines but those that a proxy writes, and the body.
fn rest(message: &str) -> String {
    let own = ["via", "record-route", "route", "max-forwards", "max-breadth", "session-expires"];
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head
        .split("\r\n")
        .skip(1)
        .filter(|line| !own.contains(&line.split(':').next().unwrap().trim().to_ascii_lowercase().as_str()))
        .collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

fn with(message: &str, extra: &str) -> String {
    message.replacen("Content-Type:", &format!("{extra}Content-Type:"), 1)
}

fn trusting() -> Facts {
    Facts { trusted: true, ..trunk(T1, 0) }
}

#[test]
fn what_is_not_ours_passes_byte_by_byte() {
    let mut w = World::new(&[("a", trunk(T1, 0))]);
    let sent = with(&invite("c"), UNTOUCHED);
    w.send(CALLER, &sent);
    let got = w.one(T1);
    assert_eq!(rest(&got), rest(&sent));
    let progress = respond(&got, "183 Session Progress", &format!("Contact: <sip:bob@{T1}>\r\n{UNTOUCHED}"));
    w.send(T1, &progress);
    assert_eq!(rest(&w.one(CALLER)), rest(&progress));
    let ok = respond(&got, "200 OK", &format!("Contact: <sip:bob@{T1}>\r\n{UNTOUCHED}"));
    w.send(T1, &ok);
    assert_eq!(rest(&w.one(CALLER)), rest(&ok));
    let prack = in_dialog("PRACK", 2, &ok).replace("Content-Length", &format!("{UNTOUCHED}Content-Length"));
    w.send(CALLER, &prack);
    assert_eq!(rest(&w.one(T1)), rest(&prack));
}

#[test]
fn identities_pass_where_both_sides_are_trusted() {
    let asserted = "P-Asserted-Identity: \"A\" <sip:a@example.com>\r\nP-Preferred-Identity: <sip:p@example.com>\r\n\
                    P-Asserted-Identity: <tel:+15550100>\r\n";
    for (from, facts, passes) in [
        (CALLER, trunk(T1, 0), false),
        (CALLER, trusting(), false),
        (TRUSTED, trunk(T1, 0), false),
        (TRUSTED, trusting(), true),
    ] {
        let mut w = World::with(&[("a", facts)], |_| {});
        w.send(from, &with(&invite("c"), asserted).replace(CALLER, from));
        let got = w.one(T1);
        assert_eq!(headers(&got, "P-Asserted-Identity").len(), if passes { 2 } else { 0 }, "{got}");
        assert_eq!(headers(&got, "P-Preferred-Identity").len(), usize::from(passes));
        w.send(T1, &respond(&got, "180 Ringing", asserted));
        let ringing = w.all(from).pop().unwrap();
        assert_eq!(headers(&ringing, "P-Asserted-Identity").len(), if passes { 2 } else { 0 }, "{ringing}");
        w.send(T1, &respond(&got, "404 Not Found", asserted));
        let refused = w.all(from).pop().unwrap();
        assert_eq!(headers(&refused, "P-Asserted-Identity").len(), if passes { 2 } else { 0 }, "{refused}");
    }
}

#[test]
fn privacy_that_cannot_be_given_is_said_where_it_is_critical() {
    let mut w = World::new(&[("a", trunk(T1, 0))]);
    w.send(CALLER, &with(&invite("c1"), "Privacy: header;critical\r\n"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 500 "));
    w.send(CALLER, &with(&invite("c2"), "Privacy: id;critical\r\nP-Asserted-Identity: <sip:a@b>\r\n"));
    let got = w.one(T1);
    assert_eq!((header(&got, "Privacy").as_str(), headers(&got, "P-Asserted-Identity").len()), ("id;critical", 0));
}

#[test]
fn breadth_is_counted() {
    let mut w = World::new(&[("a", trunk(T1, 0))]);
    w.send(CALLER, &invite("c1"));
    assert_eq!(header(&w.one(T1), "Max-Breadth"), "60");
    w.send(CALLER, &with(&invite("c2"), "Max-Breadth: 5\r\n"));
    assert_eq!(headers(&w.one(T1), "Max-Breadth"), ["5"]);
    w.all(CALLER);
    w.send(CALLER, &with(&invite("c3"), "Max-Breadth: 0\r\n"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 440 "));
}

#[test]
fn nothing_but_100_is_provisional_for_other_methods() {
    let mut w = World::new(&[("a", trunk(T1, 0))]);
    w.send(
        CALLER,
        &on_hop("MESSAGE", "c").replace(
            "Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-c-1",
            "Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-m",
        ),
    );
    let got = w.one(T1);
    w.send(T1, &respond(&got, "183 Session Progress", ""));
    w.silent();
    w.send(T1, &respond(&got, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
}

#[test]
fn reasons_pass_and_are_set() {
    let reason = "Reason: Q.850;cause=16;text=\"bye\"\r\nreason: SIP;cause=600\r\n";
    let mut w = World::new(&[("a", trunk(T1, 0)), ("b", trunk(T2, 1))]);
    let got = w.invite_to("c1", T1);
    w.send(T1, &respond(&got, "180 Ringing", ""));
    w.send(CALLER, &on_hop("CANCEL", "c1").replace("Content-Length", &format!("{reason}Content-Length")));
    let cancel = w.all(T1).pop().unwrap();
    assert!(cancel.starts_with("CANCEL ") && cancel.contains(reason), "{cancel}");

    w.all(CALLER);
    let late = w.invite_to("c2", T1);
    w.wait(4100);
    assert!(w.all(T2)[0].starts_with("INVITE "), "the first has said nothing for four seconds");
    w.all(T1);
    w.send(T1, &respond(&late, "100 Trying", ""));
    assert!(header(&w.one(T1), "Reason").starts_with("SIP;cause=408"), "a CANCEL, as soon as it may be sent");
    w.send(T1, &respond(&late, "200 OK", &format!("Contact: <sip:bob@{T1}>\r\n")));
    assert!(w.all(CALLER).iter().any(|answer| answer.starts_with("SIP/2.0 200")), "answered after all");
}

#[test]
fn a_q850_cause_may_reroute() {
    let facts = Facts { reroute_causes: vec![34], reroute_on: vec![], ..trunk(T1, 0) };
    let mut w = World::new(&[("a", facts), ("b", trunk(T2, 1))]);
    for (call, cause, reroutes) in [("c1", "34", true), ("c2", "17", false)] {
        let got = w.invite_to(call, T1);
        w.send(T1, &respond(&got, "480 Temporarily Unavailable", &format!("Reason: Q.850;cause={cause}\r\n")));
        w.all(T1);
        assert_eq!(!w.all(T2).is_empty(), reroutes, "cause {cause}");
        w.all(CALLER);
    }
}

#[test]
fn session_timers_are_offered_and_completed() {
    let mut w = World::with(&[("a", trunk(T1, 0))], |config| config.session_expires = 1800);
    let got = w.invite_to("c1", T1);
    assert_eq!(header(&got, "Session-Expires"), "1800");
    w.send(T1, &respond(&got, "200 OK", &format!("Contact: <sip:bob@{T1}>\r\n")));
    let ok = w.all(CALLER).pop().unwrap();
    assert_eq!(headers(&ok, "Session-Expires").len(), 0, "a caller without timers is not told to refresh");

    w.send(CALLER, &with(&invite("c2"), "k: timer\r\nMin-SE: 3600\r\n"));
    let got = w.one(T1);
    assert_eq!(header(&got, "Session-Expires"), "3600", "not below Min-SE");
    w.send(T1, &respond(&got, "200 OK", &format!("Contact: <sip:bob@{T1}>\r\n")));
    let ok = w.all(CALLER).pop().unwrap();
    assert_eq!(
        (header(&ok, "Session-Expires").as_str(), header(&ok, "Require").as_str()),
        ("3600;refresher=uac", "timer")
    );
    w.wait(3_650_000);
    assert_eq!(w.active("a"), 1, "the call without timer stands, the other was given back");

    w.wire.clear();
    w.send(CALLER, &with(&invite("c3"), "Session-Expires: 90;refresher=uas\r\n"));
    assert_eq!(headers(&w.one(T1), "Session-Expires"), ["90;refresher=uas"], "what is there stays");
}
