//! REGISTER (RFC 3261 §10): held until the registrar decides.

#![allow(clippy::unwrap_used)]

mod world;

use std::sync::atomic::Ordering::Relaxed;

use proxy::{Connection, Hop};
use world::*;

/// It may place no calls.
const GATEWAY: &str = "192.0.2.77:5060";

fn world() -> World {
    World::with(&[], |config| config.registers.store(true, Relaxed))
}

fn register(number: u32) -> String {
    format!(
        "REGISTER sip:{PROXY} SIP/2.0\r\nVia: SIP/2.0/UDP {GATEWAY};branch=z9hG4bK-r{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:gw@example.com>;tag=r\r\nTo: <sip:gw@example.com>\r\nCall-ID: reg\r\nCSeq: {number} REGISTER\r\n\
         Contact: <sip:gw@{GATEWAY}>;expires=60\r\nContent-Length: 0\r\n\r\n"
    )
}

fn answer(w: &mut World, at: usize, status: u16, lines: &str) {
    let context = w.registrations[at].context;
    w.input(|shard, now, out| shard.reply(now, context, Some((status, "", lines.as_bytes())), out));
}

#[test]
fn it_is_held_answered_and_replayed() {
    let mut w = world();
    w.send(GATEWAY, &register(1));
    w.silent();
    assert_eq!((w.registrations.len(), w.questions.len()), (1, 0));
    let held = &w.registrations[0];
    assert_eq!((held.source, held.listener, held.connection), (address(GATEWAY), 0, None));
    assert_eq!(&*held.request, register(1).as_bytes(), "as it came");
    w.send(GATEWAY, &register(1));
    w.silent();
    assert_eq!(w.registrations.len(), 1, "a repeat asks nobody");

    answer(&mut w, 0, 200, "Contact: <sip:gw@192.0.2.77:5060>;expires=60\r\nDate: x\r\n");
    let ok = w.one(GATEWAY);
    assert!(ok.starts_with("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK-r1\r\n"));
    assert!(ok.contains("Contact: <sip:gw@192.0.2.77:5060>;expires=60\r\nDate: x\r\n"));
    assert!(header(&ok, "To").contains(";tag="));
    w.send(GATEWAY, &register(1));
    assert_eq!(w.one(GATEWAY), ok);
    assert_eq!(w.registrations.len(), 1);
    answer(&mut w, 0, 500, "");
    w.silent();
    w.wait(33_000);
    assert_eq!(w.shard.transactions(), 0, "timer J");
    answer(&mut w, 0, 500, "");
    w.silent();
}

#[test]
fn a_challenge_has_its_words_and_the_next_try_is_another() {
    let mut w = world();
    w.send(GATEWAY, &register(1));
    let context = w.registrations[0].context;
    let lines = b"WWW-Authenticate: Digest realm=\"t\", nonce=\"n\"\r\n";
    w.input(|shard, now, out| shard.reply(now, context, Some((401, "Unauthorized", lines)), out));
    let challenge = w.one(GATEWAY);
    assert!(challenge.starts_with("SIP/2.0 401 Unauthorized\r\n"));
    assert_eq!(header(&challenge, "WWW-Authenticate"), "Digest realm=\"t\", nonce=\"n\"");
    w.send(GATEWAY, &register(2));
    assert_eq!(w.registrations.len(), 2);
    answer(&mut w, 1, 200, "");
    assert_eq!(header(&w.one(GATEWAY), "CSeq"), "2 REGISTER");
}

#[test]
fn over_a_connection_the_answer_goes_by_it_once() {
    let mut w = world();
    w.send_by(1, Some(5), "192.0.2.77:41000", &register(1).replace("SIP/2.0/UDP", "SIP/2.0/TCP"));
    assert_eq!((w.registrations[0].listener, w.registrations[0].connection), (1, Some(Connection(5))));
    answer(&mut w, 0, 200, "");
    let got = w.all_hops(GATEWAY);
    assert_eq!((got.len(), &got[0].0), (1, &Hop { connection: Some(Connection(5)), ..Hop::to(1, address(GATEWAY)) }));
    w.wait(1);
    assert_eq!(w.shard.transactions(), 0, "timer J is zero");
    w.silent();
}

#[test]
fn a_registrar_that_never_answers_is_given_up() {
    let mut w = world();
    w.send(GATEWAY, &register(1));
    w.wait(9_900);
    assert_eq!(w.shard.transactions(), 1);
    assert!(w.one(GATEWAY).starts_with("SIP/2.0 100 "), "late, as RFC 4320 has it");
    w.wait(200);
    assert_eq!(w.shard.transactions(), 0);
    answer(&mut w, 0, 200, "");
    w.silent();
    // The next repeat is heard anew.
    w.send(GATEWAY, &register(1));
    assert_eq!(w.registrations.len(), 2);
}

#[test]
fn a_registrar_may_stay_silent() {
    let mut w = world();
    w.send(GATEWAY, &register(1));
    let context = w.registrations[0].context;
    w.input(|shard, now, out| shard.reply(now, context, None, out));
    w.silent();
    assert_eq!(w.shard.transactions(), 0);
}

#[test]
fn it_is_refused_where_it_is_not_served_and_while_this_node_leaves() {
    let mut w = World::new(&[]);
    w.send(CALLER, &register(1));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 405 Method Not Allowed\r\n"), "{refused}");
    assert!(!header(&refused, "Allow").contains("REGISTER"));
    assert!(w.registrations.is_empty());

    let mut w = world();
    w.config.draining.store(true, Relaxed);
    w.send(GATEWAY, &register(1));
    let refused = w.one(GATEWAY);
    assert!(refused.starts_with("SIP/2.0 503 ") && header(&refused, "Retry-After") == "5");
    assert_eq!((w.refusals(), w.registrations.len(), w.shard.transactions()), (vec!["draining"], 0, 0));
}

#[test]
fn they_are_bounded() {
    let mut w = World::with(&[], |config| {
        config.registers.store(true, Relaxed);
        config.max_transactions = 10;
    });
    for number in 1..=50 {
        w.send(GATEWAY, &register(number));
    }
    assert_eq!((w.registrations.len(), w.shard.transactions()), (10, 10));
    assert!(w.one(GATEWAY).starts_with("SIP/2.0 503 "), "one answer a second for a stranger, then silence");
    assert_eq!(w.refusals(), ["overload"]);
}
