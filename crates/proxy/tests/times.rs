//! What an attempt tells at its end: when it began, and when the called party was reached.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::Event;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";

fn two() -> World {
    World::new(&[("a", trunk(A, 1)), ("b", trunk(B, 2))])
}

/// Trunk, code, whether it was to begin a call, milliseconds from the start to the request and from there to the called party.
fn told(w: &World, start: u64) -> Vec<(String, u16, bool, u64, Option<u64>)> {
    let of = |event: &Event| match event {
        Event::Attempt { trunk, status, begins_call, times, .. } => {
            let delay = times.reached.map(|at| (at.0 - times.sent.0) / 1000);
            Some((trunk.id.to_string(), *status, *begins_call, (times.sent.0 - start) / 1000, delay))
        }
        _ => None,
    };
    w.events.iter().filter_map(of).collect()
}

#[test]
fn the_first_answer_from_180_on_ends_the_post_dial_delay() {
    let mut w = two();
    let start = w.now.0;
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "100 Trying", ""));
    w.wait(700);
    w.send(A, &respond(&first, "503 Full", ""));
    w.all(A);
    let second = w.one(B);
    w.wait(200);
    w.send(B, &respond(&second, "183 Session Progress", ""));
    w.wait(5000);
    w.send(B, &respond(&second, "180 Ringing", ""));
    w.wait(5000);
    w.send(B, &respond(&second, "200 OK", &format!("Contact: <sip:bob@{B}>\r\n")));
    assert_eq!(told(&w, start), [("a".into(), 503, true, 0, None), ("b".into(), 200, true, 700, Some(200))]);
}

#[test]
fn silence_reaches_nobody_and_an_answer_at_once_does() {
    let mut w = two();
    let start = w.now.0;
    w.send(CALLER, &invite("c1"));
    w.wait(4100);
    w.all(A);
    let second = w.one(B);
    w.wait(100);
    w.send(B, &respond(&second, "200 OK", &format!("Contact: <sip:bob@{B}>\r\n")));
    assert_eq!(told(&w, start), [("a".into(), 408, true, 0, None), ("b".into(), 200, true, 4000, Some(200))]);
}

#[test]
fn what_begins_no_call_says_so() {
    let mut w = two();
    let start = w.now.0;
    w.send(CALLER, &invite("c1").replace("INVITE", "MESSAGE"));
    let request = w.one(A);
    w.send(A, &respond(&request, "200 OK", ""));
    assert_eq!(told(&w, start), [("a".into(), 200, false, 0, None)]);
}
