//! What is refused, and how (RFC 3261 §16.3).

#![allow(clippy::unwrap_used)]

mod world;

use std::sync::atomic::Ordering::Relaxed;
use world::*;

const A: &str = "203.0.113.1:5060";

fn one() -> World {
    World::new(&[("a", trunk(A, 1))])
}

#[track_caller]
fn answered(message: &str, expected: &str) -> String {
    let mut w = one();
    w.send(CALLER, message);
    let got = w.one(CALLER);
    assert!(got.starts_with(&format!("SIP/2.0 {expected}")), "{got}");
    w.silent();
    got
}

#[test]
fn max_forwards_ends() {
    answered(&invite("c").replace("Max-Forwards: 70", "Max-Forwards: 0"), "483 ");
}

#[test]
fn proxy_require_is_not_understood() {
    let got = answered(&invite("c").replace("Max-Forwards", "Proxy-Require: foo\r\nMax-Forwards"), "420 ");
    assert_eq!(header(&got, "Unsupported"), "foo");
}

#[test]
fn a_bad_header_is_named() {
    let got = answered(&invite("c").replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), "400 ");
    assert!(got.lines().next().is_some_and(|line| line.contains("CSeq")), "{got}");
    answered(&invite("c").replace("sip:15551234@192.0.2.1:5060 SIP/2.0", "foo:bar SIP/2.0"), "416 ");
}

#[test]
fn a_secure_call_goes_by_tls_alone() {
    let mut w = one();
    w.send(CALLER, &invite("c").replace("INVITE sip:", "INVITE sips:"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 503 "));
    w.silent();
    assert!(w.why().contains("not reached by TLS"), "{}", w.why());
}

#[test]
fn options_to_us_is_answered() {
    let message = on_hop("OPTIONS", "c");
    let got = answered(&message, "200 ");
    assert!(header(&got, "Allow").contains("INVITE"));
    assert!(header(&got, "To").contains(";tag="));
}

#[test]
fn register_and_strays_are_refused() {
    answered(&on_hop("REGISTER", "c"), "405 ");
    answered(&on_hop("BYE", "c"), "481 ");
    answered(&on_hop("CANCEL", "c"), "481 ");
    let mut w = one();
    w.send(CALLER, &on_hop("ACK", "c"));
    w.silent();
}

#[test]
fn a_loop_is_found_and_a_spiral_is_none() {
    let mut w = one();
    let sent = w.invite_to("c", A);
    // The trunk sends the very request back to us, unchanged but for the Request-URI that names us.
    let back = sent.replacen(A, PROXY, 1).replacen("\r\n", &format!("\r\nVia: SIP/2.0/UDP {A};branch=z9hG4bKx\r\n"), 1);
    w.send(A, &back);
    assert!(w.one(A).starts_with("SIP/2.0 482 "));
    let spiral = back.replacen("15551234", "15559999", 1).replacen("z9hG4bKx", "z9hG4bKy", 1);
    w.send(A, &spiral);
    assert!(w.one(A).starts_with("INVITE sip:15559999@"), "another number may pass again");
}

#[test]
fn an_unknown_source_hears_403_once_a_second_then_nothing() {
    let mut w = one();
    let stranger = "192.0.2.99:5060";
    for n in 0..20 {
        w.send(stranger, &invite(&format!("c{n}")).replace(CALLER, stranger));
    }
    assert!(w.one(stranger).starts_with("SIP/2.0 403 "));
    w.wait(1001);
    w.send(stranger, &invite("d").replace(CALLER, stranger));
    assert!(w.one(stranger).starts_with("SIP/2.0 403 "));
    assert_eq!(w.refusals(), ["forbidden", "forbidden"]);
    assert_eq!(w.shard.transactions(), 0);
    w.silent();
}

#[test]
fn a_trunk_and_its_sources_may_call() {
    let mut a = trunk(A, 0);
    a.sources = vec!["192.0.2.96/28".parse().unwrap()];
    let mut w = World::new(&[("a", a)]);
    w.send("192.0.2.99:5060", &invite("c1").replace(CALLER, "192.0.2.99:5060"));
    assert!(w.one(A).starts_with("INVITE "));
    w.send("203.0.113.1:9999", &invite("c2").replace(CALLER, "203.0.113.1:9999"));
    assert!(w.one(A).starts_with("INVITE "));
}

#[test]
fn a_forged_token_opens_nothing() {
    let mut w = one();
    let ok = w.establish("c1", A, "");
    let stranger = "192.0.2.99:5060";
    let bye = in_dialog("BYE", 2, &ok).replace("198.51.100.7:5060", stranger);
    let at = bye.find(";tl=").unwrap() + 10;
    let digit = if &bye[at..=at] == "0" { "1" } else { "0" };
    let forged = format!("{}{digit}{}", &bye[..at], &bye[at + 1..]);
    w.send(stranger, &forged);
    assert!(w.one(stranger).starts_with("SIP/2.0 403 "));
    let other = bye.replace("Call-ID: c1", "Call-ID: c2");
    w.send(stranger, &other);
    w.silent();
}

#[test]
fn a_new_call_cannot_choose_its_own_route() {
    let mut w = one();
    let message =
        invite("c").replace("Max-Forwards", "Route: <sip:192.0.2.1:5060;lr>, <sip:203.0.113.77;lr>\r\nMax-Forwards");
    w.send(CALLER, &message);
    assert!(w.one(CALLER).starts_with("SIP/2.0 403 "));
    let message = invite("d").replace("Max-Forwards", "Route: <sip:192.0.2.1:5060;lr>\r\nMax-Forwards");
    w.send(CALLER, &message);
    let sent = w.one(A);
    assert!(headers(&sent, "Route").is_empty(), "our own Route is taken off");
}

#[test]
fn a_draining_node_takes_no_new_call_and_ends_the_old() {
    let mut w = one();
    let ok = w.establish("c1", A, "");
    w.config.draining.store(true, Relaxed);
    w.send(CALLER, &invite("c2"));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 503 "));
    assert_eq!(header(&refused, "Retry-After"), "5");
    w.send(CALLER, &on_hop("OPTIONS", "c3"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 503 "), "nor does it call itself well");
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    assert!(w.one(A).starts_with("BYE "));
}

#[test]
fn a_response_that_is_no_answer_to_us_falls_out() {
    let mut w = one();
    let sent = w.invite_to("c", A);
    let ours = headers(&sent, "Via")[0].clone();
    let at = ours.len() - 20;
    let forged = format!("{}{}{}", &ours[..at], if &ours[at..=at] == "0" { "1" } else { "0" }, &ours[at + 1..]);
    w.send(A, &respond(&sent, "200 OK", "").replace(&ours, &forged));
    w.silent();
    let alone: String =
        respond(&sent, "200 OK", "").split_inclusive("\r\n").filter(|line| !line.contains("z9hG4bK-c-1")).collect();
    w.send(A, &alone);
    w.silent();
}

#[test]
fn tel_numbers_and_uri_parameters_reach_the_trunk() {
    let mut a = trunk(A, 0);
    a.sip_uri = format!("sip:gw@{A};transport=udp;tgrp=x");
    let mut w = World::new(&[("a", a)]);
    w.send(CALLER, &invite("c1").replace("INVITE sip:15551234@192.0.2.1:5060", "INVITE tel:+15551234;phone-context=x"));
    assert!(w.one(A).starts_with("INVITE sip:+15551234@203.0.113.1:5060;user=phone;transport=udp;tgrp=x SIP/2.0"));
    w.send(
        CALLER,
        &invite("c2")
            .replace("15551234@192.0.2.1:5060 SIP", "15551234@192.0.2.1:5060;user=phone;transport=udp;tgrp=y SIP"),
    );
    assert!(w.one(A).starts_with("INVITE sip:15551234@203.0.113.1:5060;user=phone;transport=udp;tgrp=x SIP/2.0"));
    w.send(CALLER, &invite("c3").replace("15551234@192.0.2.1:5060 SIP", "192.0.2.1:5060 SIP"));
    assert!(w.one(A).starts_with("INVITE sip:gw@203.0.113.1:5060"));
}
