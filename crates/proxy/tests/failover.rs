//! Refusal, silence and failure of trunks, in virtual time.

#![allow(clippy::unwrap_used)]

mod world;

use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";

fn two() -> World {
    World::new(&[("a", trunk(A, 1)), ("b", trunk(B, 2))])
}

#[test]
fn a_503_goes_to_the_next_trunk_from_the_original_request() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "503 Full", "Retry-After: 9\r\n"));
    let ack = w.one(A);
    assert!(ack.starts_with("ACK sip:15551234@203.0.113.1:5060 SIP/2.0"));
    assert_eq!(header(&ack, "Via"), headers(&first, "Via")[0]);
    assert!(header(&ack, "To").ends_with(";tag=b"));
    let second = w.one(B);
    assert!(second.starts_with("INVITE sip:15551234@203.0.113.2:5060 SIP/2.0"));
    assert_eq!((headers(&second, "Via").len(), header(&second, "Max-Forwards")), (2, "69".into()));
    assert_ne!(header(&second, "Via"), header(&first, "Via"), "a new branch");
    w.silent();
    assert_eq!((w.active("a"), w.active("b")), (0, 1));
    w.send(B, &respond(&second, "200 OK", &format!("Contact: <sip:bob@{B}>\r\n")));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200"));
}

#[test]
fn silence_goes_to_the_next_trunk_after_the_setup_time_out() {
    let mut w = two();
    w.send(CALLER, &invite("c1"));
    w.wait(3900);
    assert_eq!(w.all(A).len(), 4, "timer A: 0, 0.5, 1.5, 3.5 s");
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "));
    w.wait(200);
    let second = w.one(B);
    assert_eq!((w.active("a"), w.active("b")), (0, 1));
    // The first one wakes up now: it is cancelled, and what it says is not heard.
    let late = second.replace(&headers(&second, "Via")[0], "x");
    assert!(!late.is_empty());
    w.send(B, &respond(&second, "486 Busy Here", ""));
    assert!(w.one(B).starts_with("ACK "));
    assert!(w.one(CALLER).starts_with("SIP/2.0 486 "));
}

#[test]
fn a_trunk_that_wakes_up_late_is_cancelled_and_its_200_still_passes() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.wait(4100);
    let second = w.one(B);
    w.all(A);
    w.all(CALLER);
    w.send(A, &respond(&first, "180 Ringing", ""));
    let cancel = w.one(A);
    assert!(cancel.starts_with("CANCEL sip:15551234@203.0.113.1:5060 SIP/2.0"), "{cancel}");
    assert_eq!(header(&cancel, "Via"), header(&first, "Via"));
    assert!(w.all(CALLER).is_empty());
    w.send(A, &respond(&cancel, "200 OK", ""));
    w.send(A, &respond_tagged(&first, "200 OK", "late", &format!("Contact: <sip:bob@{A}>\r\n")));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200"));
    assert_eq!((w.active("a"), w.active("b")), (1, 0), "the other attempt is given up");
    w.send(B, &respond(&second, "180 Ringing", ""));
    assert!(w.one(B).starts_with("CANCEL "));
}

#[test]
fn a_send_error_goes_to_the_next_trunk_at_once() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.undeliverable(&first[..200]);
    assert!(w.one(B).starts_with("INVITE "));
    w.undeliverable(&first);
    w.silent();
    assert_eq!((w.active("a"), w.active("b")), (0, 1));
}

#[test]
fn busy_and_declined_are_never_rung_again() {
    for status in ["486 Busy Here", "600 Busy Everywhere", "603 Decline", "404 Not Found", "302 Moved"] {
        let mut a = trunk(A, 1);
        a.reroute_on.extend([486, 600, 603]);
        let mut w = World::new(&[("a", a), ("b", trunk(B, 2))]);
        let first = w.invite_to("c1", A);
        w.send(A, &respond(&first, status, ""));
        assert!(w.one(A).starts_with("ACK "));
        assert!(w.one(CALLER).starts_with(&format!("SIP/2.0 {status}")));
        w.silent();
        assert_eq!(w.active("a"), 0);
    }
}

#[test]
fn nobody_is_tried_after_ringing_unless_configured() {
    for again in [false, true] {
        let mut w =
            World::with(&[("a", trunk(A, 1)), ("b", trunk(B, 2))], |config| config.reroute_after_ringing = again);
        let first = w.invite_to("c1", A);
        w.send(A, &respond(&first, "180 Ringing", ""));
        w.one(CALLER);
        w.send(A, &respond(&first, "503 Gone", ""));
        assert_eq!(w.all(B).len(), usize::from(again));
        assert_eq!(w.all(CALLER).len(), usize::from(!again));
    }
}

#[test]
fn a_lone_503_becomes_500_and_the_best_answer_wins() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "503 Full", ""));
    let second = w.one(B);
    w.send(B, &respond(&second, "503 Full", "X-Peer: b\r\n"));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 500 Server Internal Error\r\n"), "{refused}");
    assert!(refused.contains("X-Peer: b\r\n"));

    let mut w = two();
    let first = w.invite_to("c2", A);
    w.send(A, &respond(&first, "503 Full", ""));
    let second = w.one(B);
    w.send(B, &respond(&second, "404 Not Found", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 404 "));
}

#[test]
fn no_trunk_is_a_503_that_says_why() {
    let mut a = trunk(A, 0);
    a.max_channels = Some(1);
    let mut b = trunk(B, 0);
    b.obstacles = vec!["lease expired".into()];
    let mut w = World::new(&[("a", a), ("b", b)]);
    w.invite_to("c1", A);
    w.send(CALLER, &invite("c2"));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 503 Service Unavailable\r\n"));
    assert_eq!(header(&refused, "Retry-After"), "5");
    assert_eq!(header(&refused, "Reason"), "SIP;cause=503");
    assert_eq!(w.why(), "no trunk: a full 1/1; b lease expired");
    assert_eq!(w.refusals(), ["no_trunk"]);
    assert_eq!(w.shard.calls().len(), 1);
    w.wait(600);
    assert_eq!(w.all(CALLER).iter().filter(|message| message.starts_with("SIP/2.0 503")).count(), 1, "timer G");
    w.send(CALLER, &on_hop("ACK", "c2"));
    w.wire.clear();
    w.wait(3000);
    assert!(w.all(CALLER).iter().all(|message| !message.starts_with("SIP/2.0 503")));
}

#[test]
fn a_trunk_that_only_rings_is_given_up_at_the_ring_time_out() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "180 Ringing", ""));
    w.one(CALLER);
    w.wait(179_000);
    w.silent();
    w.wait(1500);
    assert!(w.all(A)[0].starts_with("CANCEL "));
    assert!(w.all(CALLER)[0].starts_with("SIP/2.0 408 "));
    assert_eq!(w.active("a"), 0);
    w.wait(70_000);
    assert_eq!(w.shard.transactions(), 0);
}

#[test]
fn a_trunk_that_says_only_100_is_given_up_at_timer_c() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "100 Trying", ""));
    w.wait(185_100);
    assert!(w.all(A)[0].starts_with("CANCEL "));
    assert!(w.one(B).starts_with("INVITE "));
}

#[test]
fn cancel_while_ringing_goes_down_and_487_comes_up() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "180 Ringing", ""));
    w.one(CALLER);
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    let cancel = w.one(A);
    assert_eq!(header(&cancel, "CSeq"), "1 CANCEL");
    assert_eq!(header(&cancel, "To"), header(&first, "To"));
    let ok = w.one(CALLER);
    assert!(ok.starts_with("SIP/2.0 200 OK") && header(&ok, "CSeq") == "1 CANCEL");
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    assert_eq!(w.one(CALLER), ok, "the same answer to a repeat");
    w.send(A, &respond(&cancel, "200 OK", ""));
    w.send(A, &respond(&first, "487 Request Terminated", ""));
    assert!(w.one(A).starts_with("ACK "));
    assert!(w.one(CALLER).starts_with("SIP/2.0 487 "));
    assert_eq!(w.active("a"), 0);
    w.wait(100);
    w.silent();
}

#[test]
fn cancel_waits_for_the_first_provisional_answer() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200"));
    w.silent();
    w.send(A, &respond(&first, "100 Trying", ""));
    assert!(w.one(A).starts_with("CANCEL "));
    w.wait(600);
    assert!(w.one(A).starts_with("CANCEL "), "timer E");
    w.send(A, &respond(&first, "487 Request Terminated", ""));
    assert!(w.all(CALLER).iter().any(|message| message.starts_with("SIP/2.0 487")));
}

#[test]
fn a_cancelled_call_to_a_silent_trunk_ends_487_without_failover() {
    let mut w = two();
    w.invite_to("c1", A);
    w.send(CALLER, &on_hop("CANCEL", "c1"));
    w.wait(4100);
    assert!(w.all(B).is_empty());
    assert!(w.all(CALLER).iter().any(|message| message.starts_with("SIP/2.0 487")));
    assert_eq!(w.active("a"), 0);
}

#[test]
fn our_100_comes_only_when_nobody_else_was_quick() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.wait(50);
    w.silent();
    w.send(A, &respond(&first, "183 Progress", ""));
    w.one(CALLER);
    w.wait(200);
    assert!(w.all(CALLER).is_empty());
    w.send(CALLER, &invite("c1"));
    assert!(w.one(CALLER).starts_with("SIP/2.0 183 "), "a repeat is answered by the last provisional");
    assert!(w.all(A).is_empty());
}

#[test]
fn a_refusal_is_repeated_until_its_ack_and_given_up_at_timer_h() {
    let mut w = two();
    let first = w.invite_to("c1", A);
    w.send(A, &respond(&first, "486 Busy", ""));
    w.all(A);
    w.wait(33_000);
    assert_eq!(w.all(CALLER).len(), 11);
    assert_eq!(w.shard.transactions(), 0);
    let mut w = two();
    let first = w.invite_to("c2", A);
    w.send(A, &respond(&first, "486 Busy", ""));
    w.send(CALLER, &on_hop("ACK", "c2"));
    w.all(CALLER);
    w.all(A);
    w.wait(3000);
    w.silent();
    w.send(A, &respond(&first, "486 Busy", ""));
    assert!(w.one(A).starts_with("ACK "), "a repeat from below is acknowledged here");
    assert!(w.all(B).is_empty());
}
