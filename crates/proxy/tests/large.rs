//! Large requests (RFC 3261 §18.1.1): by TCP where the trunk allows it, else by UDP, and told.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::{Connection, Event, Hop};
use routing::{Facts, Place};
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";
const UDP: u8 = 0;
const TCP: u8 = 1;

fn large(call: &str) -> String {
    sized(call, 1500)
}

fn sized(call: &str, filler: usize) -> String {
    invite(call).replace("X-Untouched:", &format!("X-Filler: {}\r\nX-Untouched:", "f".repeat(filler)))
}

fn tcp_too(at: &str, priority: u32) -> Facts {
    Facts { large_over_tcp: true, ..trunk(at, priority) }
}

fn oversized(w: &World) -> usize {
    w.events.iter().filter(|event| matches!(event, Event::Oversized)).count()
}

#[test]
fn a_large_invite_goes_by_tcp_where_the_trunk_allows_it() {
    let mut w = World::new(&[("a", tcp_too(A, 0))]);
    w.send(CALLER, &large("c1"));
    let sent = w.all_hops(A);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, Hop::to(TCP, address(A)));
    let text = &sent[0].1;
    assert!(text.contains("\r\nVia: SIP/2.0/TCP 192.0.2.1:5060;branch="));
    let routes = headers(text, "Record-Route");
    assert!(routes[0].contains(";transport=tcp;lr;") && !routes[1].contains("transport"), "{routes:?}");
    w.wait(3900);
    assert!(w.all(A).is_empty(), "nothing is sent again");
    assert_eq!((oversized(&w), w.active("a")), (0, 1));
    w.send_by(TCP, Some(8), A, &respond(text, "486 Busy", ""));
    let ack = w.all_hops(A);
    assert_eq!((ack.len(), ack[0].0.listener), (1, TCP));
}

#[test]
fn the_limit_is_on_what_leaves_and_exact() {
    let length = |filler: usize| {
        let mut w = World::new(&[("a", trunk(A, 0))]);
        w.send(CALLER, &sized("c1", filler));
        w.one(A).len()
    };
    let fits = 1300 - (length(100) - 100);
    assert_eq!(length(fits), 1300);
    for (filler, listener) in [(fits, UDP), (fits + 1, TCP)] {
        let mut w = World::new(&[("a", tcp_too(A, 0))]);
        w.send(CALLER, &sized("c1", filler));
        assert_eq!(w.all_hops(A)[0].0.listener, listener);
    }
}

#[test]
fn elsewhere_it_goes_by_udp_and_is_told() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send(CALLER, &large("c1"));
    assert_eq!(w.all_hops(A)[0].0, Hop::to(UDP, address(A)));
    assert_eq!(oversized(&w), 1);
    // There is no TCP here.
    let mut w = World::with(&[("a", tcp_too(A, 0))], |config| config.listeners.truncate(1));
    w.send(CALLER, &large("c1"));
    assert_eq!(w.all_hops(A)[0].0, Hop::to(UDP, address(A)));
    assert_eq!(oversized(&w), 1);
    // A large request that came by TCP and leaves by TCP is no matter.
    let tcp = Place { transport: sip::Transport::Tcp, ..Place::udp(address(A)) };
    let mut w = World::new(&[("a", Facts { places: vec![tcp], ..trunk(A, 0) })]);
    w.send_by(TCP, Some(7), CALLER, &large("c1"));
    assert_eq!((w.all(A).len(), oversized(&w)), (1, 0));
}

#[test]
fn where_tcp_fails_it_goes_by_udp_to_the_same_target() {
    let mut w = World::new(&[("a", tcp_too(A, 0)), ("b", trunk(B, 1))]);
    w.send(CALLER, &large("c1"));
    let first = w.one(A);
    w.undeliverable(&first);
    let second = w.all_hops(A);
    assert_eq!((second.len(), second[0].0.clone()), (1, Hop::to(UDP, address(A))));
    assert!(second[0].1.contains("\r\nVia: SIP/2.0/UDP "));
    assert_eq!((oversized(&w), w.active("a"), w.active("b")), (1, 1, 0));
    w.wait(600);
    assert_eq!(w.all(A).len(), 1, "timer A");
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "));
    w.undeliverable(&first);
    w.silent();
    w.undeliverable(&second[0].1);
    let third = w.one(B);
    assert_eq!((w.active("a"), w.active("b")), (0, 1));
    w.send(B, &respond(&third, "200 OK", &format!("Contact: <sip:bob@{B}>\r\n")));
    assert!(w.all(CALLER).iter().any(|text| text.starts_with("SIP/2.0 200 ")));
}

#[test]
fn the_fall_back_keeps_to_one_target_of_several() {
    let places = [(A, 0), (B, 1)].map(|(at, priority)| Place { priority, ..Place::udp(address(at)) });
    let mut w = World::new(&[("a", Facts { places: places.to_vec(), ..tcp_too(A, 0) })]);
    w.send(CALLER, &large("c1"));
    let first = w.one(A);
    w.undeliverable(&first);
    let again = w.one(A);
    w.undeliverable(&again);
    assert_eq!(w.one(B).lines().nth(1).map(|via| via.contains("SIP/2.0/UDP")), Some(true), "TCP was tried");
    assert_eq!(w.active("a"), 1);
}

#[test]
fn a_cancelled_call_is_not_sent_again_by_udp() {
    let mut w = World::new(&[("a", tcp_too(A, 0)), ("b", trunk(B, 1))]);
    w.send(CALLER, &large("c1"));
    let first = w.one(A);
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    w.undeliverable(&first);
    assert!(w.one(CALLER).starts_with("SIP/2.0 487 "));
    w.silent();
    assert_eq!(w.active("a"), 0);
}

#[test]
fn a_large_call_keeps_to_tcp_for_its_answers_only() {
    let mut w = World::new(&[("a", tcp_too(A, 0))]);
    w.send(CALLER, &large("c1"));
    let sent = w.one(A);
    w.send_by(TCP, Some(8), A, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n")));
    let ok = w.one(CALLER);
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    assert_eq!(w.all_hops(A)[0].0, Hop::to(UDP, address(A)), "its Contact says UDP");
    w.send_by(TCP, Some(8), A, &from_callee("BYE", 9, &ok, A).replace("SIP/2.0/UDP", "SIP/2.0/TCP"));
    let bye = w.one(CALLER);
    w.send(CALLER, &respond(&bye, "200 OK", ""));
    assert_eq!(w.all_hops(A)[0].0, Hop { connection: Some(Connection(8)), ..Hop::to(TCP, address(A)) });
}
