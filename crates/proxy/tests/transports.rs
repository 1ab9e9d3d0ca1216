//! Reliable transports (RFC 3261 §17, §18): nothing is sent twice, and answers go by the connection.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::{Connection, Hop};
use routing::{Facts, Place};
use sip::Transport;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";
const UDP: u8 = 0;
const TCP: u8 = 1;

fn by(transport: Transport, at: &str, priority: u32) -> Facts {
    Facts { places: vec![Place { transport, ..Place::udp(address(at)) }], ..trunk(at, priority) }
}

/// A world without the set-up time-out, so that RFC 3261's own timers end things.
fn patient(trunk: Facts) -> World {
    World::with(&[("a", trunk)], |config| config.setup_timeout = 1_000_000)
}

fn over_tcp(message: &str) -> String {
    message.replace("SIP/2.0/UDP", "SIP/2.0/TCP")
}

fn as_method(method: &str, call: &str) -> String {
    invite(call).replace("INVITE", method)
}

#[test]
fn an_invite_over_tcp_is_sent_once_and_ends_at_timer_b() {
    let mut w = patient(by(Transport::Tcp, A, 0));
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&invite("c1")));
    w.wait(31_900);
    let sent = w.all_hops(A);
    assert_eq!(sent.len(), 1, "no timer A");
    assert_eq!(sent[0].0.listener, TCP);
    assert!(sent[0].1.contains("\r\nVia: SIP/2.0/TCP 192.0.2.1:5060;branch="));
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "));
    w.wait(200);
    assert!(w.one(CALLER).starts_with("SIP/2.0 408 "), "timer B");
    w.wait(31_000);
    w.silent();
    assert_eq!(w.shard.transactions(), 1, "until timer H");
    w.wait(1100);
    assert_eq!((w.shard.transactions(), w.active("a")), (0, 0));
}

#[test]
fn a_non_invite_over_tcp_is_sent_once_and_ends_at_timer_f() {
    for provisional in [false, true] {
        let mut w = patient(by(Transport::Tcp, A, 0));
        w.send_by(TCP, Some(7), CALLER, &over_tcp(&as_method("MESSAGE", "c1")));
        let sent = w.one(A);
        if provisional {
            w.send_by(TCP, Some(8), A, &respond(&sent, "100 Trying", ""));
        }
        w.wait(31_900);
        assert!(w.one(CALLER).starts_with("SIP/2.0 100 "), "of our own, late (RFC 4320)");
        w.silent();
        assert_eq!(w.shard.transactions(), 1);
        w.wait(200);
        w.silent();
        assert_eq!(w.shard.transactions(), 0, "timer F, and no 408 (RFC 4320)");
    }
}

#[test]
fn a_non_invite_over_udp_is_sent_again_every_t2_after_a_provisional_answer() {
    let mut w = patient(trunk(A, 0));
    w.send(CALLER, &as_method("MESSAGE", "c1"));
    let sent = w.one(A);
    w.send(A, &respond(&sent, "100 Trying", ""));
    w.wait(31_900);
    let again = w.all(A);
    assert_eq!(again.len(), 7, "timer E at T2");
    assert!(again.iter().all(|message| *message == sent));
}

#[test]
fn a_cancel_over_tcp_is_sent_once_and_its_invite_ends() {
    let mut w = patient(by(Transport::Tcp, A, 0));
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&invite("c1")));
    let sent = w.one(A);
    w.send_by(TCP, Some(8), A, &respond(&sent, "180 Ringing", ""));
    w.one(CALLER);
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&on_hop("CANCEL", "c1")));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    w.wait(31_900);
    assert!(w.one(A).starts_with("CANCEL "), "no timer E");
    w.silent();
    w.wait(200);
    assert!(w.one(CALLER).starts_with("SIP/2.0 487 "), "64*T1 after the CANCEL (§9.1)");
    assert_eq!(w.active("a"), 0);
}

#[test]
fn a_refusal_over_tcp_is_sent_once_and_acknowledged_once() {
    let mut w = patient(by(Transport::Tcp, A, 0));
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&invite("c1")));
    let sent = w.one(A);
    w.send_by(TCP, Some(8), A, &respond(&sent, "486 Busy Here", ""));
    let ack = w.all_hops(A);
    assert_eq!((ack.len(), ack[0].0.listener), (1, TCP));
    assert!(ack[0].1.starts_with("ACK "));
    assert!(w.one(CALLER).starts_with("SIP/2.0 486 "));
    w.wait(31_000);
    w.silent();
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&on_hop("ACK", "c1")));
    w.wait(10);
    assert_eq!(w.shard.transactions(), 0, "timer I is zero");
    w.silent();
}

#[test]
fn between_udp_and_tcp_each_side_keeps_its_own_rules() {
    // From UDP to TCP.
    let mut w = patient(by(Transport::Tcp, A, 0));
    w.send(CALLER, &invite("c1"));
    let sent = w.one(A);
    w.wait(5000);
    assert!(w.all(A).is_empty());
    w.send_by(TCP, Some(8), A, &respond(&sent, "486 Busy Here", ""));
    w.all(CALLER);
    w.wait(600);
    assert!(w.one(CALLER).starts_with("SIP/2.0 486 "), "timer G");
    // And back.
    let mut w = patient(trunk(A, 0));
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&invite("c1")));
    w.wait(3600);
    let sent = w.all(A);
    assert_eq!(sent.len(), 4, "timer A");
    w.send(A, &respond(&sent[0], "486 Busy Here", ""));
    assert_eq!(w.all(CALLER).len(), 2, "100 and 486");
    w.wait(5000);
    assert!(w.all(CALLER).is_empty());
    w.send(A, &respond(&sent[0], "486 Busy Here", ""));
    assert_eq!(w.all(A).len(), 2, "a repeated refusal is acknowledged again");
}

#[test]
fn a_mixed_call_records_both_sides_of_the_route() {
    let mut w = World::new(&[("a", by(Transport::Tcp, A, 0))]);
    w.send(CALLER, &invite("c1"));
    let sent = w.one(A);
    let routes = headers(&sent, "Record-Route");
    assert_eq!(routes.len(), 2, "RFC 5658 §3");
    assert!(routes[0].starts_with("<sip:192.0.2.1:5060;transport=tcp;lr;"), "{routes:?}");
    assert!(routes[1].starts_with("<sip:192.0.2.1:5060;lr;"), "{routes:?}");

    w.send_by(TCP, Some(8), A, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A};transport=tcp>\r\n")));
    let ok = w.one(CALLER);
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    let ack = w.all_hops(A);
    assert_eq!((ack.len(), ack[0].0.listener), (1, TCP));
    assert!(ack[0].1.contains("Via: SIP/2.0/TCP ") && headers(&ack[0].1, "Route").is_empty(), "{}", ack[0].1);

    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    let info = w.all_hops(A);
    assert_eq!((info.len(), info[0].0.listener), (1, TCP));
    w.wait(2000);
    w.silent();
    w.send_by(TCP, Some(8), A, &respond(&info[0].1, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));

    w.send_by(TCP, Some(8), A, &over_tcp(&from_callee("BYE", 9, &ok, A)));
    let bye = w.all_hops(CALLER);
    assert_eq!((bye.len(), bye[0].0.listener), (1, UDP));
    assert!(bye[0].1.contains("Via: SIP/2.0/UDP ") && headers(&bye[0].1, "Route").is_empty(), "{}", bye[0].1);
    w.send(CALLER, &respond(&bye[0].1, "200 OK", ""));
    let answer = w.all_hops(A);
    assert_eq!(answer[0].0, Hop { connection: Some(Connection(8)), ..Hop::to(TCP, address(A)) });
    assert!(w.shard.calls().is_empty());
}

#[test]
fn one_transport_records_one_route() {
    let mut w = World::new(&[("a", by(Transport::Tcp, A, 0))]);
    w.send_by(TCP, Some(7), CALLER, &over_tcp(&invite("c1")));
    let routes = headers(&w.one(A), "Record-Route");
    assert_eq!(routes.len(), 1);
    assert!(routes[0].starts_with("<sip:192.0.2.1:5060;transport=tcp;lr;"), "{routes:?}");
}

#[test]
fn answers_go_by_the_connection_and_name_the_port_of_the_via() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    // The connection has a port of its own; a new one would go to the sent-by port (§18.2.2).
    w.send_by(TCP, Some(7), "198.51.100.7:49152", &over_tcp(&invite("c1")).replace(";branch", ";rport;branch"));
    let sent = w.one(A);
    for status in ["180 Ringing", "486 Busy Here"] {
        w.send(A, &respond(&sent, status, ""));
        let got = w.all_hops(CALLER);
        assert_eq!(got.len(), 1, "{:#?}", w.wire);
        assert_eq!(got[0].0, Hop { connection: Some(Connection(7)), ..Hop::to(TCP, address(CALLER)) });
        assert!(got[0].1.contains(";rport=49152;"), "{}", got[0].1);
    }
    // Without a port it is the default one.
    let bare = over_tcp(&invite("c2")).replace("TCP 198.51.100.7:5060", "TCP 198.51.100.7");
    w.send_by(TCP, Some(9), "198.51.100.7:49153", &bare);
    w.all(A);
    w.wait(150);
    assert_eq!(w.all_hops(CALLER)[0].0, Hop { connection: Some(Connection(9)), ..Hop::to(TCP, address(CALLER)) });
}

#[test]
fn requests_inside_a_dialog_reuse_the_connection_of_the_caller() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let source = "198.51.100.7:49152";
    let place = over_tcp(&invite("c1")).replace("alice@198.51.100.7:5060", "alice@198.51.100.7:5060;transport=tcp");
    w.send_by(TCP, Some(7), source, &place);
    let sent = w.one(A);
    w.send(A, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n")));
    let ok = w.one(CALLER);
    w.send_by(TCP, Some(7), source, &over_tcp(&in_dialog("ACK", 1, &ok)));
    w.one(A);
    let bye = from_callee("BYE", 9, &ok, A).replace("alice@198.51.100.7:5060", "alice@198.51.100.7:5060;transport=tcp");
    w.send(A, &bye);
    let got = w.all_hops(CALLER);
    assert_eq!(got[0].0, Hop { connection: Some(Connection(7)), ..Hop::to(TCP, address(CALLER)) });
}

#[test]
fn a_trunk_that_registered_is_reached_by_its_connection_alone() {
    let place = Place {
        transport: Transport::Tcp,
        connection: Some(21),
        only: true,
        ..Place::udp(address("203.0.113.9:41000"))
    };
    let facts = Facts { places: vec![place], ..trunk(A, 0) };
    let mut w = World::new(&[("a", facts), ("b", trunk(B, 1))]);
    let at = "203.0.113.9:41000";
    let only = Hop { connection: Some(Connection(21)), only: true, ..Hop::to(TCP, address(at)) };
    w.send(CALLER, &invite("c1"));
    let sent = w.all_hops(at);
    assert_eq!(sent[0].0, only);
    // Its Contact leads nowhere, and is not followed.
    w.send_by(TCP, Some(21), at, &respond(&sent[0].1, "200 OK", "Contact: <sip:bob@10.0.0.5:5060;transport=tcp>\r\n"));
    let ok = w.one(CALLER);
    for (method, number) in [("ACK", 1), ("BYE", 2)] {
        w.send(CALLER, &in_dialog(method, number, &ok));
        let got = w.all_hops(at);
        assert_eq!(got[0].0, only, "{method}");
        assert!(got[0].1.starts_with(&format!("{method} sip:bob@10.0.0.5:5060;transport=tcp SIP/2.0\r\n")));
    }
    // The connection is gone: the next trunk.
    w.send(CALLER, &invite("c2"));
    let sent = w.one(at);
    w.undeliverable(&sent);
    assert!(w.one(B).starts_with("INVITE "));
}

#[test]
fn a_broken_connection_fails_an_invite_over_at_once_but_not_once_it_was_heard() {
    let mut w = World::new(&[("a", by(Transport::Tcp, A, 1)), ("b", trunk(B, 2))]);
    let sent = w.invite_to("c1", A);
    w.undeliverable(&sent);
    assert!(w.one(B).starts_with("INVITE "));
    let sent = w.invite_to("c2", A);
    w.send_by(TCP, Some(8), A, &respond(&sent, "180 Ringing", ""));
    w.one(CALLER);
    w.undeliverable(&sent);
    w.silent();
    w.send_by(TCP, Some(9), A, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A};transport=tcp>\r\n")));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "), "by a new connection");
}

#[test]
fn a_repeat_over_tcp_after_the_answer_is_answered_with_nothing() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let message = over_tcp(&as_method("MESSAGE", "c1"));
    w.send_by(TCP, Some(7), CALLER, &message);
    let sent = w.one(A);
    w.send(A, &respond(&sent, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    w.send_by(TCP, Some(7), CALLER, &message);
    w.silent();
}
