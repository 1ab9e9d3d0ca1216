//! Session timers (RFC 4028): asked for, agreed on, and ended when nobody refreshes.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::Event;
use world::*;

const A: &str = "203.0.113.1:5060";
const TIMER: &str = "Supported: 100rel, timer\r\n";

fn world() -> World {
    World::with(&[("a", trunk(A, 0))], |config| config.session_expires = 1800)
}

fn with(message: &str, lines: &str) -> String {
    message.replacen("Max-Forwards", &format!("{lines}Max-Forwards"), 1)
}

fn ok(request: &str, lines: &str) -> String {
    respond(request, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n{lines}"))
}

/// Session-Expires and Require of an answer.
fn agreed(answer: &str) -> (Vec<String>, Vec<String>) {
    (headers(answer, "Session-Expires"), headers(answer, "Require"))
}

fn refreshed_by_caller(seconds: u32) -> (Vec<String>, Vec<String>) {
    (vec![format!("{seconds};refresher=uac")], vec!["timer".into()])
}

/// Whether the call ends by its session timer between these times, in seconds from now.
#[track_caller]
fn ends_between(w: &mut World, from: u64, to: u64) {
    w.wait(from * 1000);
    assert_eq!(w.active("a"), 1);
    w.wait((to - from) * 1000);
    assert_eq!((w.active("a"), w.shard.calls().len()), (0, 0));
    assert!(w.events.iter().any(|event| matches!(event, Event::Lost { cause: "session_timer", .. })));
}

#[track_caller]
fn stands_for_hours(w: &mut World) {
    w.wait(3 * 3_600_000);
    assert_eq!(w.active("a"), 1);
}

#[test]
fn it_is_put_into_an_invite_that_has_none() {
    let mut w = world();
    assert_eq!(headers(&w.invite_to("c1", A), "Session-Expires"), ["1800"]);
    for there in ["Session-Expires: 600;refresher=uas\r\n", "x:  600\r\n"] {
        let mut w = world();
        w.send(CALLER, &with(&invite("c1"), there));
        let sent = w.one(A);
        assert!(sent.contains(there));
        assert_eq!(headers(&sent, "Session-Expires").len() + headers(&sent, "x").len(), 1);
    }
    let mut w = world();
    w.send(CALLER, &invite("c1").replace("INVITE", "MESSAGE"));
    assert!(headers(&w.one(A), "Session-Expires").is_empty());
    let mut w = World::new(&[("a", trunk(A, 0))]);
    assert!(headers(&w.invite_to("c1", A), "Session-Expires").is_empty(), "0: none is");
}

#[test]
fn it_is_not_below_what_the_caller_takes() {
    for (least, put) in [(90, "1800"), (1800, "1800"), (3600, "3600")] {
        let mut w = world();
        w.send(CALLER, &with(&invite("c1"), &format!("Min-SE: {least}\r\n")));
        let sent = w.one(A);
        assert_eq!(headers(&sent, "Session-Expires"), [put]);
        assert_eq!(headers(&sent, "Min-SE"), [least.to_string()], "never lowered (§8.1)");
    }
}

#[test]
fn the_second_trunk_is_asked_too() {
    let b = "203.0.113.2:5060";
    let mut w = World::with(&[("a", trunk(A, 0)), ("b", trunk(b, 1))], |config| config.session_expires = 1800);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "503 Full", ""));
    assert_eq!(headers(&w.one(b), "Session-Expires"), ["1800"]);
}

#[test]
fn a_caller_that_can_refreshes_where_the_callee_knows_no_timer() {
    let mut w = world();
    w.send(CALLER, &with(&invite("c1"), TIMER));
    let sent = w.one(A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    assert_eq!(agreed(&w.one(CALLER)), (vec![], vec![]), "it is for the 2xx");
    w.send(A, &ok(&sent, ""));
    let got = w.one(CALLER);
    assert_eq!(agreed(&got), refreshed_by_caller(1800));
    w.send(A, &ok(&sent, ""));
    assert_eq!(w.one(CALLER), got, "a repeat is the same");
    ends_between(&mut w, 1800, 1833);
}

#[test]
fn an_interval_that_the_caller_names_is_completed_the_same_way() {
    let mut w = world();
    w.send(CALLER, &with(&invite("c1"), &format!("{TIMER}Session-Expires: 600\r\n")));
    let sent = w.one(A);
    w.send(A, &ok(&sent, ""));
    assert_eq!(agreed(&w.one(CALLER)), refreshed_by_caller(600), "§8.2: examined and accepted");
    ends_between(&mut w, 600, 633);
    // With no timers of ours we keep out of it.
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send(CALLER, &with(&invite("c1"), &format!("{TIMER}Session-Expires: 600\r\n")));
    let sent = w.one(A);
    w.send(A, &ok(&sent, ""));
    assert_eq!(agreed(&w.one(CALLER)), (vec![], vec![]));
}

#[test]
fn refreshes_of_such_a_caller_keep_the_call_and_its_timer() {
    for method in ["UPDATE", "INVITE"] {
        let mut w = world();
        w.send(CALLER, &with(&invite("c1"), TIMER));
        let sent = w.one(A);
        w.send(A, &ok(&sent, ""));
        let established = w.one(CALLER);
        for number in 2..5 {
            w.wait(900_000);
            let line = format!("{TIMER}Session-Expires: 1800;refresher=uac\r\n");
            w.send(CALLER, &with(&in_dialog(method, number, &established), &line));
            let refresh = w.one(A);
            w.send(A, &ok(&refresh, ""));
            assert_eq!(agreed(&w.one(CALLER)), refreshed_by_caller(1800), "{method} {number}");
        }
        ends_between(&mut w, 1800, 1833);
    }
}

#[test]
fn an_answer_that_names_it_is_left_alone() {
    for (lines, seconds) in [
        ("Require: timer\r\nSession-Expires: 300;refresher=uas\r\n", 300),
        ("Session-Expires: 1200;refresher=uac\r\nRequire: timer\r\n", 1200),
        ("x: 1200;refresher=uas\r\n", 1200),
    ] {
        for supported in [TIMER, ""] {
            let mut w = world();
            w.send(CALLER, &with(&invite("c1"), supported));
            let sent = w.one(A);
            w.send(A, &ok(&sent, lines));
            let got = w.one(CALLER);
            assert!(got.contains(lines));
            assert!(headers(&got, "Session-Expires").len() + headers(&got, "x").len() == 1, "{got}");
            ends_between(&mut w, seconds, seconds + 33);
        }
    }
}

#[test]
fn where_no_party_knows_timers_there_is_none() {
    let mut w = world();
    let sent = w.invite_to("c1", A);
    w.send(A, &ok(&sent, ""));
    assert_eq!(agreed(&w.one(CALLER)), (vec![], vec![]));
    stands_for_hours(&mut w);
}

#[test]
fn a_refresh_without_a_timer_ends_the_timer_not_the_call() {
    let mut w = world();
    let established = w.establish("c1", A, "Session-Expires: 600;refresher=uas\r\n");
    w.send(A, &with(&from_callee("UPDATE", 9, &established, A), ""));
    let update = w.one(CALLER);
    w.send(CALLER, &respond(&update, "200 OK", ""));
    w.one(A);
    stands_for_hours(&mut w);
}

#[test]
fn an_absurdly_short_interval_does_not_end_a_call() {
    let mut w = world();
    w.establish("c1", A, "Session-Expires: 1;refresher=uac\r\n");
    ends_between(&mut w, 90, 123);
}

#[test]
fn a_422_passes_with_its_min_se() {
    let mut w = world();
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "422 Session Interval Too Small", "Min-SE: 3600\r\n"));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 422 Session Interval Too Small\r\n") && refused.contains("Min-SE: 3600\r\n"));
    assert_eq!(w.active("a"), 0);
}

#[test]
fn a_refused_refresh_leaves_the_timer_as_it_was() {
    let mut w = world();
    let established = w.establish("c1", A, "Session-Expires: 600;refresher=uac\r\n");
    w.wait(500_000);
    w.send(CALLER, &in_dialog("UPDATE", 2, &established));
    let update = w.one(A);
    w.send(A, &respond(&update, "491 Request Pending", ""));
    w.one(CALLER);
    ends_between(&mut w, 100, 133);
}
