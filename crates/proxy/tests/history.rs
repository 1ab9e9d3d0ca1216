//! What becomes of a call is told once, at its end, and can be read while it stands.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::{AttemptRecord, Cause, Local, Party};
use registry::Treatment;
use routing::{Facts, Place, Rule, Trace};
use sip::Transport;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";

fn two() -> World {
    World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))])
}

fn contact(at: &str) -> String {
    format!("Contact: <sip:bob@{at}>\r\n")
}

fn reason(message: &str, cause: u8) -> String {
    message.replacen("Content-Length", &format!("Reason: Q.850;cause={cause}\r\nContent-Length"), 1)
}

/// How the only call ended: cause, by whom, status, Q.850.
#[track_caller]
fn end(w: &World) -> (Cause, Party, Option<u16>, Option<u8>) {
    let record = w.record();
    (record.cause.unwrap(), record.ended_by.unwrap(), record.status, record.q850)
}

fn outcome(attempt: &AttemptRecord) -> (&str, Option<u16>, Option<Local>) {
    (&attempt.trunk.id, attempt.status, attempt.local)
}

#[test]
fn a_call_that_ends_by_bye_tells_its_course() {
    let mut w = two();
    w.rules =
        [("", rule(Treatment { called: rewrite(1, "00"), calling: rewrite(0, "+"), ..Treatment::default() }))].into();
    w.trace = Some(Trace { prefix: 2, revision: 7, ..Trace::default() });
    let begun = w.now;
    let sent = w.invite_to("c1", A);
    w.wait(100);
    w.send(A, &respond(&sent, "183 Progress", ""));
    w.wait(200);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    w.wait(300);
    let answered = w.now;
    w.send(A, &respond(&sent, "200 OK", &contact(A)));
    let ok = w.all(CALLER).pop().unwrap();
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    let standing = w.shard.call("c1").unwrap();
    assert_eq!((standing.cause, standing.ended, standing.answered), (None, None, Some(answered)));
    w.wait(60_000);
    let hung_up = w.now;
    w.wire.clear();
    w.send(CALLER, &reason(&in_dialog("BYE", 2, &ok), 16));
    let bye = w.one(A);
    w.wait(250);
    w.all(A);
    assert!(w.ended().is_empty(), "not before its BYE is answered");
    w.send(A, &respond(&bye, "200 OK", ""));
    assert_eq!(end(&w), (Cause::Bye, Party::Caller, Some(200), Some(16)));
    let record = w.record();
    assert_eq!(
        (record.call_id(), record.from(), record.to()),
        ("c1".into(), "sip:alice@198.51.100.7".into(), format!("sip:15551234@{PROXY}").into())
    );
    assert_eq!(
        (record.request_uri(), record.called(), record.calling()),
        (format!("sip:15551234@{PROXY}").into(), "15551234".into(), "alice".into())
    );
    assert_eq!((record.source, record.transport, record.emergency), (address(CALLER), Transport::Udp, false));
    assert_eq!(
        (record.began, record.rang, record.answered, record.ended),
        (begun, Some(begun.plus_millis(100)), Some(answered), Some(hung_up))
    );
    assert_eq!(record.duration(), Some(60_000_000));
    assert_eq!(record.trace().map(|trace| trace.revision), Some(7));
    let [attempt] = record.attempts.as_slice() else { panic!("{record:?}") };
    assert_eq!(outcome(attempt), ("a", Some(200), None));
    assert_eq!((attempt.address, attempt.transport, attempt.target), (address(A), Transport::Udp, 0));
    assert_eq!(
        (attempt.called.as_deref(), attempt.calling.as_deref(), attempt.prefix.as_deref()),
        (Some("005551234"), Some("+alice"), Some("15"))
    );
    assert_eq!((attempt.began, attempt.rang, attempt.ended), (begun, Some(begun.plus_millis(100)), Some(answered)));
    assert!(attempt.rule.is_some() && attempt.trace.is_some());
    assert!(w.shard.call("c1").is_none());
    // A BYE that comes again, late, ends nothing twice.
    w.send(CALLER, &in_dialog("BYE", 3, &ok));
    w.wait(60_000);
    w.record();
}

#[test]
fn the_callee_hangs_up() {
    let mut w = two();
    let ok = w.establish("c1", A, "");
    w.send(A, &reason(&from_callee("BYE", 9, &ok, A), 31));
    let bye = w.one(CALLER);
    w.send(CALLER, &respond(&bye, "481 Gone", ""));
    assert_eq!(end(&w), (Cause::Bye, Party::Callee, Some(200), Some(31)));
}

#[test]
fn both_hang_up_at_once() {
    let mut w = two();
    let ok = w.establish("c1", A, "");
    w.send(A, &from_callee("BYE", 9, &ok, A));
    let of_callee = w.one(CALLER);
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let of_caller = w.one(A);
    w.send(CALLER, &respond(&of_callee, "200 OK", ""));
    w.send(A, &respond(&of_caller, "200 OK", ""));
    w.wait(40_000);
    assert_eq!(end(&w), (Cause::Bye, Party::Callee, Some(200), None), "whose BYE was answered first");
}

#[test]
fn a_bye_that_nobody_answers_ends_it_where_it_came() {
    let mut w = two();
    let ok = w.establish("c1", A, "");
    let hung_up = w.now;
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    w.wait(40_000);
    assert_eq!(end(&w), (Cause::Bye, Party::Caller, Some(200), None));
    assert_eq!(w.record().ended, Some(hung_up));
}

#[test]
fn a_challenged_bye_ends_nothing() {
    let mut w = two();
    let ok = w.establish("c1", A, "");
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let bye = w.one(A);
    w.send(A, &respond(&bye, "401 Unauthorized", ""));
    assert!(w.ended().is_empty());
    w.wire.clear();
    w.send(CALLER, &in_dialog("BYE", 3, &ok));
    let bye = w.one(A);
    w.send(A, &respond(&bye, "200 OK", ""));
    w.record();
}

#[test]
fn a_cancelled_call() {
    let mut w = two();
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    w.wait(1000);
    w.send(CALLER, &reason(&on_hop("CANCEL", "c1"), 16));
    w.send(A, &respond(&sent, "487 Request Terminated", ""));
    assert_eq!(end(&w), (Cause::Cancelled, Party::Caller, Some(487), Some(16)));
    let record = w.record();
    assert_eq!((record.answered, record.ended, record.duration()), (None, Some(w.now), None));
    assert_eq!(outcome(&record.attempts[0]), ("a", Some(487), None));
}

#[test]
fn a_call_that_is_cancelled_too_late_stands() {
    let mut w = two();
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "180 Ringing", ""));
    w.send(CALLER, &reason(&on_hop("CANCEL", "c1"), 16));
    w.send(A, &respond(&sent, "200 OK", &contact(A)));
    assert!(w.ended().is_empty());
    let ok =
        w.all(CALLER).into_iter().find(|answer| answer.contains("CSeq: 1 INVITE") && answer.contains(" 200 ")).unwrap();
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let bye = w.all(A).pop().unwrap();
    w.send(A, &respond(&bye, "200 OK", ""));
    assert_eq!(end(&w), (Cause::Bye, Party::Caller, Some(200), None));
}

#[test]
fn a_cancelled_call_whose_callee_is_silent() {
    let mut w = two();
    w.invite_to("c1", A);
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    w.wait(60_000);
    assert_eq!(end(&w), (Cause::Cancelled, Party::Caller, Some(487), None));
    assert_eq!(outcome(&w.record().attempts[0]), ("a", Some(408), Some(Local::Silence)));
}

#[test]
fn a_refusal_is_the_callees_with_its_cause() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &reason(&respond(&first, "503 Full", ""), 34));
    let second = w.one(B);
    w.send(B, &reason(&respond(&second, "486 Busy Here", ""), 17));
    assert_eq!(end(&w), (Cause::Refused, Party::Callee, Some(486), Some(17)));
    let attempts: Vec<_> = w.record().attempts.iter().map(|attempt| (outcome(attempt), attempt.q850)).collect();
    assert_eq!(attempts, [(("a", Some(503), None), Some(34)), (("b", Some(486), None), Some(17))]);
    // A lone 503 is shown as 500.
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let first = w.invite_to("c1", A);
    w.send(A, &reason(&respond(&first, "503 Full", ""), 34));
    assert_eq!(end(&w), (Cause::Refused, Party::Callee, Some(500), Some(34)));
    assert!(w.record().refusal.is_none(), "the world tells none");
}

#[test]
fn silence_ringing_and_send_errors_are_time_outs() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.undeliverable(&first);
    w.wait(4100);
    assert_eq!(end(&w), (Cause::Timeout, Party::Router, Some(408), None));
    let attempts: Vec<_> = w.record().attempts.iter().map(outcome).collect();
    assert_eq!(attempts, [("a", Some(503), Some(Local::Unsent)), ("b", Some(408), Some(Local::Silence))]);
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "180 Ringing", ""));
    w.wait(181_000);
    assert_eq!(end(&w), (Cause::Timeout, Party::Router, Some(408), None));
    let record = w.record();
    assert_eq!(outcome(&record.attempts[0]), ("a", Some(408), Some(Local::Unanswered)));
    // What comes after is no news.
    w.send(A, &respond(&first, "487 Request Terminated", ""));
    w.wait(60_000);
    w.record();
}

#[test]
fn a_target_that_no_listener_leads_to() {
    let mut w = World::new(&[("a", Facts { places: vec![Place::udp(address("[2001:db8::1]:5060"))], ..trunk(A, 0) })]);
    w.send(CALLER, &invite("c1"));
    assert_eq!(end(&w), (Cause::Timeout, Party::Router, Some(500), None));
    assert_eq!(outcome(&w.record().attempts[0]), ("a", Some(503), Some(Local::Unsent)));
}

#[test]
fn nobody_takes_it() {
    for (status, cause) in [(503, Cause::NoTrunk), (404, Cause::NoRoute)] {
        let mut w = two();
        w.refuse = Some((status, "why"));
        w.trace = Some(Trace { revision: 3, ..Trace::default() });
        w.send(CALLER, &invite("c1"));
        assert_eq!(end(&w), (cause, Party::Router, Some(status), None));
        assert_eq!((w.record().attempts.len(), w.record().trace().map(|trace| trace.revision)), (0, Some(3)));
    }
    // After an attempt: the last decision is told, the cause is that of the attempt.
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let first = w.invite_to("c1", A);
    w.refuse = Some((503, "why"));
    w.trace = Some(Trace { revision: 3, ..Trace::default() });
    w.send(A, &respond(&first, "500 Oops", ""));
    assert_eq!(end(&w), (Cause::Refused, Party::Callee, Some(500), None));
    assert_eq!(w.record().refusal.as_ref().map(|trace| trace.revision), Some(3));
}

#[test]
fn timers_end_calls() {
    let mut w = World::with(&[("a", trunk(A, 0))], |config| config.max_call = 3_600_000);
    w.establish("c1", A, "");
    let began = w.now;
    w.wait(3_600_000);
    assert_eq!(end(&w), (Cause::MaxDuration, Party::Router, Some(200), None));
    assert_eq!(w.record().ended, Some(began.plus_millis(3_600_000)));
    let mut w = two();
    w.establish("c1", A, "Session-Expires: 90;refresher=uac\r\n");
    w.wait(200_000);
    assert_eq!(end(&w), (Cause::SessionTimer, Party::Router, Some(200), None));
}

#[test]
fn another_answered_first() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.wait(4100);
    let second = w.one(B);
    w.send(B, &respond(&second, "180 Ringing", ""));
    w.send(A, &respond(&first, "200 OK", &contact(A)));
    let attempts: Vec<_> = w.shard.call("c1").unwrap().attempts.iter().map(|a| (a.status, a.local)).collect();
    assert_eq!(attempts, [(Some(200), None), (None, Some(Local::Elsewhere))]);
    assert_eq!(w.shard.call("c1").unwrap().attempt().map(|attempt| attempt.trunk.id.to_string()), Some("a".to_owned()));
}

#[test]
fn a_forked_call_ends_with_its_last_dialog() {
    let mut w = two();
    let sent = w.invite_to("c1", A);
    let mut answers = Vec::new();
    for tag in ["one", "two"] {
        w.send(A, &respond_tagged(&sent, "200 OK", tag, &contact(A)));
        answers.push(w.all(CALLER).pop().unwrap());
    }
    for (at, ok) in answers.iter().enumerate() {
        assert_eq!(w.ended().len(), 0);
        w.wait(1000);
        w.wire.clear();
        w.send(CALLER, &in_dialog("BYE", 2 + at as u32, ok));
        let bye = w.one(A);
        w.send(A, &respond(&bye, "200 OK", ""));
    }
    assert_eq!(end(&w), (Cause::Bye, Party::Caller, Some(200), None));
    assert_eq!(w.record().duration(), Some(2_000_000));
}

#[test]
fn a_late_answer_to_a_call_that_has_ended_is_not_told_again() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    w.wait(4100);
    assert_eq!(end(&w), (Cause::Timeout, Party::Router, Some(408), None));
    w.send(A, &respond(&sent, "200 OK", &contact(A)));
    w.wait(60_000);
    w.record();
    assert_eq!(w.active("a"), 0);
}

#[test]
fn a_large_request_that_goes_by_udp_after_all_is_two_attempts() {
    let mut w = World::new(&[("a", Facts { large_over_tcp: true, ..trunk(A, 0) })]);
    let large = format!("X-Large: {}\r\nX-Untouched", "x".repeat(1400));
    w.send(CALLER, &invite("c1").replacen("X-Untouched", &large, 1));
    let sent = w.one(A);
    w.undeliverable(&sent);
    let sent = w.one(A);
    w.send(A, &respond(&sent, "404 Not Found", ""));
    let attempts: Vec<_> = w.record().attempts.iter().map(|a| (a.transport, a.status, a.local)).collect();
    assert_eq!(attempts, [(Transport::Tcp, Some(503), Some(Local::Unsent)), (Transport::Udp, Some(404), None)]);
}

#[test]
fn emergency_calls_say_so() {
    let mut w = two();
    let plain = rule(Treatment::default());
    w.rules =
        [("", Rule::new(std::sync::Arc::new(registry::Route { emergency: true, ..(**plain.route()).clone() })))].into();
    w.invite_to("c1", A);
    assert!(w.shard.call("c1").unwrap().emergency);
}

#[test]
fn a_process_that_leaves_tells_what_stands() {
    let mut w = two();
    let ok = w.establish("c1", A, "");
    w.invite_to("c2", A);
    w.input(|shard, now, out| shard.leave(now, out));
    w.input(|shard, now, out| shard.leave(now, out));
    let mut ended: Vec<_> =
        w.ended().iter().map(|record| (record.call_id().into_owned(), record.cause, record.status)).collect();
    ended.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        ended,
        [("c1".to_owned(), Some(Cause::Shutdown), Some(200)), ("c2".to_owned(), Some(Cause::Shutdown), None)]
    );
    // A straggler does no harm.
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    w.wait(60_000);
    assert_eq!(w.ended().len(), 2);
}
