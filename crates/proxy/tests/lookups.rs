//! Requests inside dialogs whose next hop is a name (RFC 3263 §4).

#![allow(clippy::unwrap_used)]

mod world;

use proxy::{Hop, Located, LookupId};
use routing::Facts;
use sip::Transport;
use world::*;

const A: &str = "203.0.113.1:5060";
const X: &str = "203.0.113.50:5070";
const Y: &str = "203.0.113.51:5070";
const CONTACT: &str = "Contact: <sip:bob@pbx.example:5070>\r\n";

fn place(at: &str) -> Located {
    Located { address: address(at), transport: Transport::Udp }
}

/// A call whose callee is a name, and its 200.
fn called() -> (World, String) {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "200 OK", CONTACT));
    let ok = w.one(CALLER);
    (w, ok)
}

fn located(w: &mut World, at: usize, places: &[Located]) {
    let id = w.lookups[at].id;
    w.input(|shard, now, out| shard.located(now, id, places.to_vec(), out));
}

/// The call is over, yet its token still proves its peers.
fn forgotten() -> (World, String) {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    located(&mut w, 0, &[]);
    let bye = w.one(A);
    w.send(A, &respond(&bye, "200 OK", ""));
    w.one(CALLER);
    w.lookups.clear();
    (w, ok)
}

#[test]
fn the_first_place_is_taken_and_the_next_when_it_cannot_be_reached() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    w.silent();
    assert_eq!((&*w.lookups[0].uri, w.lookups.len()), (b"sip:bob@pbx.example:5070".as_slice(), 1));
    assert!(matches!(w.lookups[0].id, LookupId::Request(_)));
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    assert_eq!(w.lookups.len(), 1, "a repeat asks nobody");
    located(&mut w, 0, &[place(X), place(Y)]);
    let first = w.all_hops(X);
    assert_eq!((first.len(), &first[0].0), (1, &Hop::to(0, address(X))));
    assert!(first[0].1.starts_with("INFO sip:bob@pbx.example:5070 SIP/2.0\r\n"));
    located(&mut w, 0, &[place(Y)]);
    w.silent();
    w.undeliverable(&first[0].1);
    let second = w.one(Y);
    assert_ne!(header(&first[0].1, "Via"), header(&second, "Via"));
    w.send(Y, &respond(&second, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    w.silent();
}

#[test]
fn silence_goes_to_the_next_place_too() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("INVITE", 2, &ok));
    located(&mut w, 0, &[place(X), place(Y)]);
    w.wait(3_900);
    assert!(!w.all(X).is_empty());
    assert!(w.all(Y).is_empty());
    w.wait(200);
    let second = w.one(Y);
    w.all(CALLER);
    w.send(Y, &respond(&second, "200 OK", CONTACT));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
}

#[test]
fn an_answer_ends_the_search() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    located(&mut w, 0, &[place(X), place(Y)]);
    let first = w.one(X);
    w.send(X, &respond(&first, "500 Oops", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 500 "));
    w.silent();
}

#[test]
fn places_that_all_fail_end_500() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    located(&mut w, 0, &[place(X), place(Y)]);
    for at in [X, Y] {
        let sent = w.one(at);
        w.undeliverable(&sent);
    }
    assert!(w.one(CALLER).starts_with("SIP/2.0 500 "));
    w.silent();
}

#[test]
fn a_place_says_its_transport_and_one_that_we_do_not_speak_is_passed_over() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    let six = Located { address: address("[2001:db8::1]:5060"), transport: Transport::Udp };
    located(&mut w, 0, &[six, Located { address: address(X), transport: Transport::Tcp }]);
    let sent = w.all_hops(X);
    assert_eq!((sent.len(), &sent[0].0), (1, &Hop::to(1, address(X))));
    assert!(sent[0].1.contains("Via: SIP/2.0/TCP "));
    w.silent();
}

#[test]
fn places_tried_are_bounded() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    let many: Vec<Located> = (1..=60).map(|n| place(&format!("203.0.114.{n}:5060"))).collect();
    located(&mut w, 0, &many);
    let mut tried = 0;
    while w.wire.front().is_some_and(|(_, text)| text.starts_with("INFO ")) {
        let (_, sent) = w.wire.pop_front().unwrap();
        tried += 1;
        w.undeliverable(&sent);
    }
    assert_eq!(tried, 16);
    assert!(w.one(CALLER).starts_with("SIP/2.0 500 "));
}

#[test]
fn a_name_that_leads_nowhere_goes_to_the_other_side_as_it_is_known() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    located(&mut w, 0, &[]);
    let bye = w.one(A);
    assert!(bye.starts_with("BYE sip:bob@pbx.example:5070 SIP/2.0\r\n"));
    assert_eq!(w.active("a"), 1);
    w.send(A, &respond(&bye, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    assert_eq!(w.active("a"), 0);
}

#[test]
fn so_it_goes_where_the_look_up_is_never_answered() {
    for method in ["BYE", "INVITE", "INFO"] {
        let (mut w, ok) = called();
        w.send(CALLER, &in_dialog(method, 2, &ok));
        w.wait(9_900);
        assert!(w.all(A).is_empty());
        w.all(CALLER);
        w.wait(200);
        let sent = w.one(A);
        assert!(sent.starts_with(method), "{sent}");
        located(&mut w, 0, &[place(X)]);
        w.silent();
        w.send(A, &respond(&sent, "200 OK", CONTACT));
        assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
        assert_eq!(w.active("a"), u32::from(method != "BYE"));
    }
}

#[test]
fn where_nothing_is_known_it_ends_500() {
    for (method, answered) in [("INFO", true), ("INVITE", true), ("INFO", false), ("INVITE", false)] {
        let (mut w, ok) = forgotten();
        w.send(CALLER, &in_dialog(method, 7, &ok));
        if answered {
            located(&mut w, 0, &[]);
        } else {
            w.wait(10_100);
        }
        let got: Vec<String> = w.all(CALLER).into_iter().filter(|text| !text.starts_with("SIP/2.0 100 ")).collect();
        assert_eq!(got.len(), 1, "{method} {answered} {got:?}");
        assert!(got[0].starts_with("SIP/2.0 500 "));
        w.wait(33_000);
        assert_eq!(w.shard.transactions(), 0);
    }
}

#[test]
fn an_ack_is_held_and_sent() {
    let (mut w, ok) = called();
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    w.silent();
    assert!(matches!(w.lookups[0].id, LookupId::Ack(_)));
    located(&mut w, 0, &[place(X), place(Y)]);
    let ack = w.all_hops(X);
    assert_eq!((ack.len(), &ack[0].0), (1, &Hop::to(0, address(X))));
    assert!(ack[0].1.starts_with("ACK sip:bob@pbx.example:5070 SIP/2.0\r\n") && headers(&ack[0].1, "Route").is_empty());
    located(&mut w, 0, &[place(X)]);
    w.silent();
    // To the other side where the name leads nowhere, or to nobody.
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    located(&mut w, 1, &[]);
    assert!(w.one(A).starts_with("ACK "));
    let (mut w, ok) = forgotten();
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    located(&mut w, 0, &[]);
    w.silent();
}

#[test]
fn acks_that_wait_are_bounded_and_the_oldest_goes() {
    let (mut w, ok) = called();
    for _ in 0..300 {
        w.send(CALLER, &in_dialog("ACK", 1, &ok));
    }
    assert_eq!(w.lookups.len(), 300);
    let sent: Vec<usize> = (0..300)
        .filter(|at| {
            located(&mut w, *at, &[place(X)]);
            !w.all(X).is_empty()
        })
        .collect();
    assert_eq!(sent, (44..300).collect::<Vec<_>>());
}

#[test]
fn a_cancelled_re_invite_is_not_sent_when_its_name_is_known_at_last() {
    let (mut w, ok) = called();
    let again = in_dialog("INVITE", 2, &ok);
    w.send(CALLER, &again);
    w.send(CALLER, &again.replacen("INVITE", "CANCEL", 1).replace("CSeq: 2 INVITE", "CSeq: 2 CANCEL"));
    let got = w.all(CALLER);
    assert!(got.iter().any(|text| text.starts_with("SIP/2.0 200 ") && header(text, "CSeq") == "2 CANCEL"));
    assert!(got.iter().any(|text| text.starts_with("SIP/2.0 487 ")), "{got:#?}");
    located(&mut w, 0, &[place(X)]);
    w.silent();
    assert_eq!(w.active("a"), 1, "the call stands");
}

#[test]
fn the_name_of_the_trunk_itself_asks_nobody() {
    let facts = Facts { sip_uri: "sip:PBX.example:5070".into(), ..trunk(A, 0) };
    let mut w = World::new(&[("a", facts)]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "200 OK", CONTACT));
    let ok = w.one(CALLER);
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    assert_eq!((w.all(A).len(), w.lookups.len()), (2, 0));
}

#[test]
fn the_caller_may_be_a_name_too() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send(CALLER, &invite("c1").replace("alice@198.51.100.7:5060", "alice@phone.example"));
    let sent = w.one(A);
    w.send(A, &respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n")));
    let ok = w.one(CALLER);
    w.send(A, &from_callee("BYE", 9, &ok, A).replace(&format!("alice@{CALLER}"), "alice@phone.example"));
    assert_eq!(&*w.lookups[0].uri, b"sip:alice@phone.example");
    located(&mut w, 0, &[]);
    assert!(w.one(CALLER).starts_with("BYE sip:alice@phone.example SIP/2.0\r\n"));
}
