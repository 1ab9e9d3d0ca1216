//! Probes by OPTIONS (RFC 3261 §11): each has one outcome, told once.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::{Event, Hop, Probe};
use world::*;

const A: &str = "203.0.113.1:5060";

/// Token, status, unsent, Retry-After and round trip of each outcome.
type Outcome = (u64, Option<u16>, bool, Option<u32>, u64);

fn outcomes(w: &World) -> Vec<Outcome> {
    let told = |event: &Event| match event {
        Event::Probed { token, status, unsent, retry_after, round_trip } => {
            Some((*token, *status, *unsent, *retry_after, *round_trip))
        }
        _ => None,
    };
    w.events.iter().filter_map(told).collect()
}

fn probe(w: &mut World, token: u64, listener: u8) {
    let probe = Probe {
        token,
        hop: Hop::to(listener, address(A)),
        request_uri: "sip:pbx.example.com".into(),
        from: None,
        timeout: 5000,
    };
    w.input(|shard, now, out| shard.probe(now, &probe, out));
}

#[test]
fn it_is_a_whole_options_request() {
    let mut w = World::new(&[]);
    probe(&mut w, 1, 0);
    let first = w.one(A);
    assert!(
        first
            .starts_with("OPTIONS sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK")
    );
    let from = header(&first, "From");
    assert!(from.starts_with("<sip:192.0.2.1:5060>;tag="), "{from}");
    assert_eq!((header(&first, "To"), header(&first, "CSeq")), ("<sip:pbx.example.com>".into(), "1 OPTIONS".into()));
    assert_eq!(header(&first, "Max-Forwards"), "70");
    probe(&mut w, 2, 0);
    let second = w.one(A);
    for name in ["Via", "From", "Call-ID"] {
        assert_ne!(header(&first, name), header(&second, name), "{name}");
    }
    let own = Probe {
        token: 3,
        hop: Hop::to(2, address(A)),
        request_uri: "sips:a@b".into(),
        from: Some("sip:ping@example.com".into()),
        timeout: 100,
    };
    w.input(|shard, now, out| shard.probe(now, &own, out));
    let third = w.one(A);
    assert!(header(&third, "From").starts_with("<sip:ping@example.com>;tag="));
    let via = header(&third, "Via");
    assert!(via.starts_with("SIP/2.0/TLS 192.0.2.1:5061;") && via.ends_with(";alias"), "{via}");
}

#[test]
fn an_answer_is_told_once_with_its_round_trip() {
    for (status, code) in [("200 OK", 200), ("404 Not Found", 404), ("503 Full", 503)] {
        let mut w = World::new(&[]);
        probe(&mut w, 9, 0);
        let sent = w.one(A);
        w.wait(30);
        let answer = respond(&sent, status, "Retry-After: 20\r\n");
        w.send(A, &answer);
        let retry_after = (code == 503).then_some(20);
        assert_eq!(outcomes(&w), [(9, Some(code), false, retry_after, 30_000)]);
        w.send(A, &answer);
        w.undeliverable(&sent);
        w.wait(10_000);
        assert_eq!(outcomes(&w).len(), 1);
        w.silent();
    }
}

#[test]
fn over_udp_it_is_sent_again_and_ends_at_its_own_time_out() {
    let mut w = World::new(&[]);
    probe(&mut w, 9, 0);
    w.wait(4900);
    let sent = w.all(A);
    assert_eq!(sent.len(), 4, "timer E: 0, 0.5, 1.5, 3.5 s");
    assert!(sent.iter().all(|text| *text == sent[0]) && outcomes(&w).is_empty());
    w.wait(200);
    assert_eq!(outcomes(&w).iter().map(|told| (told.0, told.1, told.2)).collect::<Vec<_>>(), [(9, None, false)]);
    w.send(A, &respond(&sent[0], "200 OK", ""));
    w.wait(60_000);
    assert_eq!(outcomes(&w).len(), 1, "a late answer is no answer");
    w.silent();
    assert_eq!(w.shard.next_timeout(), None, "nothing is left");
}

#[test]
fn over_a_stream_it_is_sent_once() {
    for listener in [1, 2] {
        let mut w = World::new(&[]);
        probe(&mut w, 9, listener);
        w.wait(5100);
        assert_eq!((w.all(A).len(), outcomes(&w).len()), (1, 1));
    }
}

#[test]
fn a_send_error_is_told_at_once() {
    let mut w = World::new(&[]);
    probe(&mut w, 9, 1);
    let sent = w.one(A);
    w.wait(7);
    w.undeliverable(&sent[..150]);
    assert_eq!(outcomes(&w), [(9, None, true, None, 7_000)]);
    w.undeliverable(&sent);
    w.send(A, &respond(&sent, "200 OK", ""));
    w.wait(6000);
    assert_eq!(outcomes(&w).len(), 1);
}

#[test]
fn a_provisional_or_forged_answer_is_none() {
    let mut w = World::new(&[]);
    probe(&mut w, 9, 0);
    let sent = w.one(A);
    w.send(A, &respond(&sent, "100 Trying", ""));
    w.send(A, &respond(&sent.replace("z9hG4bK", "z9hG4bKx"), "200 OK", ""));
    assert!(outcomes(&w).is_empty());
    w.wait(5100);
    assert_eq!(outcomes(&w).iter().map(|told| told.1).collect::<Vec<_>>(), [None]);
}

#[test]
fn many_at_once_keep_apart() {
    let mut w = World::new(&[]);
    for token in 0..50 {
        probe(&mut w, token, 0);
    }
    let sent = w.all(A);
    for at in (0..50).rev().step_by(2) {
        w.send(A, &respond(&sent[at], "200 OK", ""));
    }
    w.wait(5100);
    let mut told = outcomes(&w);
    told.sort_unstable();
    assert_eq!(told.len(), 50);
    assert!(told.iter().all(|(token, status, ..)| status.is_some() == (token % 2 == 1)));
}
