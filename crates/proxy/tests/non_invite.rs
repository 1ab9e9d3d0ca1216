//! Other methods than INVITE (RFC 4320), and their bounds.

#![allow(clippy::unwrap_used)]

mod world;

use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";

fn message(call: &str) -> String {
    invite(call).replace("INVITE", "MESSAGE")
}

#[test]
fn no_provisional_answer_but_100_goes_upstream_and_not_even_that() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send(CALLER, &message("c1"));
    let sent = w.one(A);
    for status in ["100 Trying", "180 Ringing", "183 Progress", "199 Early"] {
        w.send(A, &respond(&sent, status, ""));
        assert!(w.all(CALLER).is_empty(), "{status}");
    }
    w.send(CALLER, &message("c1"));
    assert!(w.all(CALLER).is_empty(), "nor in answer to a repeat");
    w.send(A, &respond(&sent, "200 OK", ""));
    let ok = w.one(CALLER);
    w.send(CALLER, &message("c1"));
    assert_eq!(w.one(CALLER), ok);
}

#[test]
fn a_late_answer_is_preceded_by_a_100() {
    // Timer E of the sender fires after 0.5, 1.5 and 3.5 s; then it has grown to T2.
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send(CALLER, &message("c1"));
    let sent = w.one(A);
    w.wait(3490);
    assert!(w.all(CALLER).is_empty(), "not before");
    w.wait(20);
    let trying = w.one(CALLER);
    assert!(trying.starts_with("SIP/2.0 100 ") && !header(&trying, "To").contains("tag="), "{trying}");
    w.all(A);
    w.send(CALLER, &message("c1"));
    assert_eq!(w.one(CALLER), trying, "a repeat hears it again");
    w.send(A, &respond(&sent, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 "));
    // Inside a dialog likewise.
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.send(CALLER, &in_dialog("INFO", 2, &ok));
    w.wait(3510);
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "));
}

#[test]
fn a_408_is_never_sent_whoever_says_it() {
    // Silence of all trunks.
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))]);
    w.send(CALLER, &message("c1"));
    w.wait(9000);
    assert!(!w.all(A).is_empty() && !w.all(B).is_empty(), "it fails over");
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "));
    assert_eq!(w.shard.transactions(), 0);
    // A 408 of the last trunk.
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))]);
    w.send(CALLER, &message("c1"));
    let sent = w.one(A);
    w.send(A, &respond(&sent, "408 Request Timeout", ""));
    let sent = w.one(B);
    w.send(B, &respond(&sent, "408 Request Timeout", ""));
    w.silent();
    assert_eq!(w.shard.transactions(), 0);
    // A 408 inside a dialog.
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let bye = w.one(A);
    w.send(A, &respond(&bye, "408 Request Timeout", ""));
    w.silent();
    assert_eq!(w.active("a"), 0, "the leg is gone all the same");
}

#[test]
fn a_better_answer_than_408_is_sent() {
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))]);
    w.send(CALLER, &message("c1"));
    let sent = w.one(A);
    w.send(A, &respond(&sent, "408 Request Timeout", ""));
    let sent = w.one(B);
    w.send(B, &respond(&sent, "404 Not Found", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 404 "));
}

#[test]
fn an_answer_that_comes_after_the_transaction_goes_nowhere() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    w.send(CALLER, &message("c1"));
    let sent = w.one(A);
    w.wait(33_000);
    w.all(A);
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "));
    w.send(A, &respond(&sent, "200 OK", ""));
    w.silent();
}

#[test]
fn an_invite_still_hears_its_408() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "408 Request Timeout", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 408 "));
}

#[test]
fn requests_inside_dialogs_are_bounded_too() {
    let mut w = World::with(&[("a", trunk(A, 0))], |config| config.max_transactions = 10);
    let ok = w.establish("c1", A, "");
    for number in 2..100 {
        w.send(CALLER, &in_dialog("INFO", number, &ok));
    }
    let held = w.shard.transactions();
    assert!((10..=20).contains(&held), "{held}");
    let refused = w.all(CALLER);
    assert!(refused.iter().all(|text| text.starts_with("SIP/2.0 503 ") && text.contains("Retry-After: 5\r\n")));
    assert_eq!(w.refusals().len(), refused.len());
    assert!(refused.len() >= 78 && w.refusals().iter().all(|cause| *cause == "overload"));
    // A new call is refused first: room is left for those that stand.
    let mut w = World::with(&[("a", trunk(A, 0))], |config| config.max_transactions = 10);
    let ok = w.establish("c1", A, "");
    for number in 2..11 {
        w.send(CALLER, &in_dialog("INFO", number, &ok));
    }
    w.all(A);
    w.send(CALLER, &invite("c2"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 503 "));
    w.send(CALLER, &in_dialog("BYE", 11, &ok));
    assert!(w.one(A).starts_with("BYE "));
}
