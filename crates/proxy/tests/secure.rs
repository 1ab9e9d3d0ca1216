//! `sips:` (RFC 3261 §16.6 step 4, §26.2.2): TLS alone, for the request and its dialog.

#![allow(clippy::unwrap_used)]

mod world;

use routing::{Facts, Place};
use sip::Transport;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5061";
const C: &str = "203.0.113.3:5061";
const TLS: u8 = 2;

fn tls(at: &str, priority: u32) -> Facts {
    Facts { places: vec![Place { transport: Transport::Tls, ..Place::udp(address(at)) }], ..trunk(at, priority) }
}

fn secure(call: &str) -> String {
    invite(call).replace("INVITE sip:", "INVITE sips:").replace("SIP/2.0/UDP", "SIP/2.0/TLS")
}

#[test]
fn a_sips_call_passes_over_every_target_that_is_not_tls() {
    let tcp = Facts { places: vec![Place { transport: Transport::Tcp, ..Place::udp(address(A)) }], ..trunk(A, 0) };
    for other in [trunk(A, 0), tcp] {
        let mut w = World::new(&[("a", other), ("b", tls(B, 1))]);
        w.send_by(TLS, Some(7), CALLER, &secure("c1"));
        let sent = w.all_hops(B);
        assert_eq!((sent.len(), sent[0].0.listener), (1, TLS));
        let text = &sent[0].1;
        assert!(text.starts_with("INVITE sips:15551234@203.0.113.2:5061 SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1:5061;"));
        let routes = headers(text, "Record-Route");
        assert_eq!(routes.len(), 1);
        assert!(routes[0].starts_with("<sips:192.0.2.1:5061;lr;"), "no transport in a sips URI: {routes:?}");
        w.silent();
    }
}

#[test]
fn inside_one_trunk_only_its_tls_target_is_drawn() {
    let places =
        vec![Place::udp(address(A)), Place { transport: Transport::Tls, priority: 9, ..Place::udp(address(B)) }];
    let mut w = World::new(&[("a", Facts { places, ..trunk(A, 0) })]);
    for call in ["c1", "c2", "c3"] {
        w.send_by(TLS, Some(7), CALLER, &secure(call));
        let sent = w.one(B);
        w.undeliverable(&sent);
        let refused = w.one(CALLER);
        assert!(refused.starts_with("SIP/2.0 500 "), "not by UDP instead: {refused}");
    }
    w.silent();
}

#[test]
fn without_a_tls_target_a_sips_call_is_refused_and_says_why() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send_by(TLS, Some(7), CALLER, &secure("c1"));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 503 "));
    assert!(w.why().contains("a not reached by TLS"), "{}", w.why());
    w.silent();
}

#[test]
fn the_next_trunk_of_a_sips_call_is_by_tls_too() {
    let mut w = World::new(&[("a", tls(B, 0)), ("u", trunk(A, 1)), ("c", tls(C, 2))]);
    w.send_by(TLS, Some(7), CALLER, &secure("c1"));
    let sent = w.one(B);
    w.send_by(TLS, Some(8), B, &respond(&sent, "503 Full", "Retry-After: 5\r\n"));
    w.one(B);
    assert!(w.one(C).starts_with("INVITE sips:"));
    w.silent();
}

#[test]
fn a_sips_dialog_stays_on_tls_in_both_directions() {
    let mut w = World::new(&[("b", tls(B, 0))]);
    w.send_by(
        TLS,
        Some(7),
        CALLER,
        &secure("c1").replace("<sip:alice@198.51.100.7:5060>", "<sips:alice@198.51.100.7:5060>"),
    );
    let sent = w.one(B);
    w.send_by(TLS, Some(8), B, &respond(&sent, "200 OK", &format!("Contact: <sips:bob@{B}>\r\n")));
    let ok = w.one(CALLER);
    for (method, number) in [("ACK", 1), ("INVITE", 2)] {
        w.send_by(TLS, Some(7), CALLER, &in_dialog(method, number, &ok).replace("SIP/2.0/UDP", "SIP/2.0/TLS"));
        let got = w.all_hops(B);
        assert_eq!((got.len(), got[0].0.listener), (1, TLS), "{method}");
        assert!(headers(&got[0].1, "Record-Route").iter().all(|route| route.starts_with("<sips:")), "{}", got[0].1);
    }
    let bye = from_callee("BYE", 9, &ok, B).replace("BYE sip:", "BYE sips:").replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    w.send_by(TLS, Some(8), B, &bye);
    let got = w.all_hops(CALLER);
    assert_eq!((got[0].0.listener, got[0].0.connection), (TLS, Some(proxy::Connection(7))));
    assert!(got[0].1.starts_with("BYE sips:alice@198.51.100.7:5060 SIP/2.0\r\n"));
}

#[test]
fn a_sips_trunk_gets_a_sips_route_and_the_caller_its_own() {
    let facts = Facts { sip_uri: format!("sips:{B}"), ..tls(B, 0) };
    let mut w = World::new(&[("b", facts)]);
    w.send(CALLER, &invite("c1"));
    let sent = w.one(B);
    assert!(sent.starts_with("INVITE sips:15551234@203.0.113.2:5061 SIP/2.0\r\n"));
    let routes = headers(&sent, "Record-Route");
    assert_eq!(routes.len(), 2);
    assert!(routes[0].starts_with("<sips:192.0.2.1:5061;lr;"), "the Request-URI is sips (§16.6 step 4): {routes:?}");
    assert!(routes[1].starts_with("<sip:192.0.2.1:5060;lr;"), "{routes:?}");
    // The route set that comes of it is ours, whoever sends.
    w.send_by(TLS, Some(8), B, &respond(&sent, "200 OK", &format!("Contact: <sips:bob@{B}>\r\n")));
    let ok = w.one(CALLER);
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    let ack = w.all_hops(B);
    assert_eq!((ack.len(), ack[0].0.listener, headers(&ack[0].1, "Route").len()), (1, TLS, 0));
    w.send_by(TLS, Some(8), B, &from_callee("BYE", 9, &ok, B).replace("SIP/2.0/UDP", "SIP/2.0/TLS"));
    let bye = w.all_hops(CALLER);
    assert_eq!((bye.len(), bye[0].0.listener, headers(&bye[0].1, "Route").len()), (1, 0, 0));
}

#[test]
fn a_sips_request_of_a_dialog_never_falls_back_to_plain_transport() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "200 OK", "Contact: <sips:bob@pbx.example>\r\n"));
    let ok = w.one(CALLER);
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    let lookup = w.lookups.remove(0);
    w.input(|shard, now, out| shard.located(now, lookup.id, vec![], out));
    assert!(w.all(A).is_empty(), "nothing by UDP to a sips URI");
    assert!(w.one(CALLER).starts_with("SIP/2.0 500 "));
}

#[test]
fn a_route_set_that_leaves_tls_leads_nowhere_for_a_sips_request() {
    let mut w = World::new(&[("b", tls(B, 0))]);
    w.send_by(TLS, Some(7), CALLER, &secure("c1"));
    let sent = w.one(B);
    w.send_by(TLS, Some(8), B, &respond(&sent, "200 OK", &format!("Contact: <sips:bob@{B}>\r\n")));
    let ok = w.one(CALLER);
    for route in ["sip:203.0.113.9;lr", "sip:203.0.113.9;transport=tcp;lr"] {
        let info = in_dialog("INFO", 2, &ok).replacen("Max-Forwards", &format!("Route: <{route}>\r\nMax-Forwards"), 1);
        w.send_by(TLS, Some(7), CALLER, &info.replace("SIP/2.0/UDP", "SIP/2.0/TLS"));
        assert!(w.one(CALLER).starts_with("SIP/2.0 481 "), "{route}");
        w.silent();
    }
}

#[test]
fn a_sips_contact_is_not_put_into_a_request_that_goes_by_udp() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "200 OK", &format!("Contact: <sips:bob@{A}>\r\n")));
    let ok = w.one(CALLER);
    // A caller that keeps no remote target, over UDP and over TLS to our own `sips:` address.
    let bye = in_dialog("BYE", 2, &ok).replacen(&format!("BYE sips:bob@{A}"), &format!("BYE sip:{PROXY}"), 1);
    w.send(CALLER, &bye.replace("BYE sip:192.0.2.1:5060", "BYE sips:192.0.2.1:5061").replace("-2\r\n", "-s\r\n"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 481 "));
    w.send(CALLER, &bye);
    let got = w.one(A);
    assert!(got.starts_with(&format!("BYE sip:{PROXY} SIP/2.0\r\n")), "{got}");
    w.send(A, &respond(&got, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    assert_eq!(w.active("a"), 0);
}
