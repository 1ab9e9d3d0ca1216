//! Calls in virtual time: set-up, dialog, end, counts.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::Event;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5070";

/// How long the calls that are over had lasted, in seconds.
fn lasted(w: &World) -> Vec<u64> {
    let of = |event: &Event| if let Event::Over { lasted, .. } = event { Some(lasted / 1_000_000) } else { None };
    w.events.iter().filter_map(of).collect()
}

#[test]
fn a_call_goes_through_and_its_channel_comes_back() {
    let mut w = World::new(&[("b", trunk(B, 2)), ("a", trunk(A, 1))]);
    w.send(CALLER, &invite("c1"));
    let sent = w.one(A);
    assert!(
        sent.starts_with(
            "INVITE sip:15551234@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK"
        )
    );
    assert_eq!(headers(&sent, "Via").len(), 2);
    assert_eq!(header(&sent, "Max-Forwards"), "69");
    assert!(header(&sent, "Record-Route").starts_with("<sip:192.0.2.1:5060;lr;tl="));
    assert!(sent.contains("X-Untouched:   as  it came ;x=\"y\"\r\n"), "untouched bytes leave as they came");
    assert!(sent.ends_with("\r\n\r\nv=0\n"));
    assert_eq!(w.active("a"), 1);

    w.send(A, &respond(&sent, "180 Ringing", ""));
    let ringing = w.one(CALLER);
    assert!(ringing.starts_with("SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-c1-1\r\n"));
    assert_eq!(w.shard.calls()[0].state, "ringing");
    w.send(A, &respond(&sent, "200 OK", "Contact: <sip:bob@203.0.113.1:5060>\r\n"));
    let ok = w.one(CALLER);
    w.send(CALLER, &in_dialog("ACK", 1, &ok));
    let ack = w.one(A);
    assert!(ack.starts_with("ACK sip:bob@203.0.113.1:5060 SIP/2.0\r\n"));
    assert!(headers(&ack, "Route").is_empty(), "our Route is taken off");
    let view = &w.shard.calls()[0];
    assert_eq!((view.call_id.as_str(), view.trunk.as_str(), view.state), ("c1", "a", "established"));
    assert_eq!(view.from, "sip:alice@198.51.100.7");

    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let bye = w.one(A);
    assert_eq!(w.active("a"), 1, "until the BYE is answered");
    w.send(A, &respond(&bye, "200 OK", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 200 OK"));
    assert_eq!(w.active("a"), 0);
    assert_eq!(lasted(&w).len(), 1);
    assert!(w.shard.calls().is_empty());
    w.wait(40_000);
    w.silent();
    assert_eq!(w.shard.transactions(), 0, "nothing is kept for ever");
}

#[test]
fn a_peer_without_a_route_set_is_followed_by_its_dialog() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    w.send(A, &respond(&sent, "200 OK", "Contact: <sip:bob@203.0.113.1:5060>\r\n"));
    let ok = w.one(CALLER);
    // As SIPp's built-in caller does: no Route, and the Request-URI of the INVITE.
    let lame = |method: &str, number: u32| {
        let message = in_dialog(method, number, &ok);
        let (_, rest) = message.split_once("\r\n").unwrap();
        let rest: String = rest.split_inclusive("\r\n").filter(|line| !line.starts_with("Route:")).collect();
        format!("{method} sip:15551234@{PROXY} SIP/2.0\r\n{rest}")
    };
    w.send(CALLER, &lame("ACK", 1));
    assert!(w.one(A).starts_with("ACK sip:bob@203.0.113.1:5060 SIP/2.0"));
    w.send(CALLER, &lame("BYE", 2));
    let bye = w.one(A);
    assert!(bye.starts_with("BYE sip:bob@203.0.113.1:5060 SIP/2.0"));
    w.send(A, &respond(&bye, "200 OK", ""));
    w.one(CALLER);
    assert_eq!(w.active("a"), 0);
    w.send(CALLER, &lame("BYE", 3));
    assert!(w.one(CALLER).starts_with("SIP/2.0 481 "), "the call is gone");
}

#[test]
fn the_callee_may_hang_up() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.send(A, &from_callee("BYE", 1, &ok, A));
    let bye = w.one(CALLER);
    assert!(bye.starts_with("BYE sip:alice@198.51.100.7:5060 SIP/2.0"));
    w.send(CALLER, &respond(&bye, "200 OK", ""));
    assert!(w.one(A).starts_with("SIP/2.0 200"));
    assert_eq!(w.active("a"), 0);
}

#[test]
fn a_standing_call_survives_the_deregistration_of_its_trunk() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.change(|builder| builder.remove("a"));
    w.send(A, &from_callee("BYE", 1, &ok, A));
    let bye = w.one(CALLER);
    w.send(CALLER, &respond(&bye, "200 OK", ""));
    assert!(w.one(A).starts_with("SIP/2.0 200"), "its token lets it through");
    assert!(w.shard.calls().is_empty());
}

#[test]
fn a_bye_that_nobody_answers_gives_the_channel_back() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    w.wait(33_000);
    assert_eq!(w.active("a"), 0);
    let sent = w.all(A);
    assert_eq!(sent.len(), 11, "timer E: 0, 0.5, 1.5, 3.5, then every 4 s up to 32 s");
    assert!(w.one(CALLER).starts_with("SIP/2.0 100 "), "and no late 408 (RFC 4320)");
}

#[test]
fn a_challenged_bye_does_not_end_the_call() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    w.send(CALLER, &in_dialog("BYE", 2, &ok));
    let bye = w.one(A);
    w.send(A, &respond(&bye, "401 Unauthorized", ""));
    assert!(w.one(CALLER).starts_with("SIP/2.0 401"));
    assert_eq!(w.active("a"), 1);
    w.send(CALLER, &in_dialog("BYE", 3, &ok));
    let bye = w.one(A);
    w.send(A, &respond(&bye, "481 Gone", ""));
    assert_eq!(w.active("a"), 0);
}

#[test]
fn a_lost_bye_is_made_up_for_by_session_timer_or_duration() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("timed", A, "Session-Expires: 1800;refresher=uac\r\n");
    w.wait(1_700_000);
    w.send(CALLER, &in_dialog("UPDATE", 2, &ok));
    let update = w.one(A);
    w.send(A, &respond(&update, "200 OK", "Session-Expires: 1800;refresher=uac\r\n"));
    w.wait(1_700_000);
    assert_eq!(w.active("a"), 1, "the refresh counts");
    w.wait(200_000);
    assert_eq!(w.active("a"), 0);
    assert!(w.events.iter().any(|event| matches!(event, Event::Lost { cause: "session_timer", .. })));

    w.wire.clear();
    w.establish("untimed", A, "");
    w.wait(4 * 3600 * 1000 - 1000);
    assert_eq!(w.active("a"), 1);
    w.wait(2000);
    assert_eq!(w.active("a"), 0);
    assert!(w.events.iter().any(|event| matches!(event, Event::Lost { cause: "max_duration", .. })));
    // The session ran out 32 s after its second half hour; the other was ended by the longest duration.
    assert_eq!(lasted(&w), [1700 + 1800 + 32, 4 * 3600]);
    assert_eq!(w.shard.transactions(), 0);
}

#[test]
fn a_fork_downstream_holds_one_channel_until_its_last_dialog_ends() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    let contact = format!("Contact: <sip:bob@{A}>\r\n");
    w.send(A, &respond_tagged(&sent, "200 OK", "one", &contact));
    let first = w.one(CALLER);
    w.send(A, &respond_tagged(&sent, "200 OK", "two", &contact));
    let second = w.one(CALLER);
    assert_eq!(w.active("a"), 1);
    for (ok, left) in [(first, 1), (second, 0)] {
        w.send(CALLER, &in_dialog("BYE", 2, &ok));
        let bye = w.one(A);
        w.send(A, &respond(&bye, "200 OK", ""));
        w.one(CALLER);
        assert_eq!(w.active("a"), left);
        // The branch of the second BYE must differ.
        w.wait(33_000);
    }
}

#[test]
fn a_repeated_200_passes_and_a_repeated_ack_too() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    let ok = respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n"));
    for _ in 0..3 {
        w.send(A, &ok);
        assert!(w.one(CALLER).starts_with("SIP/2.0 200"));
    }
    let got = respond(&invite("c1"), "200 OK", "");
    assert!(!got.is_empty());
    assert_eq!(w.active("a"), 1);
    w.send(CALLER, &invite("c1"));
    w.silent();
}

#[test]
fn a_re_invite_stays_in_its_dialog() {
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 0))]);
    let at = if w.active("a") == 0 { A } else { B };
    w.change(|builder| builder.remove("b"));
    let ok = w.establish("c1", at, "");
    w.change(|builder| builder.set("b", trunk(B, 0)));
    w.send(CALLER, &in_dialog("INVITE", 2, &ok));
    let again = w.one(at);
    w.send(at, &respond(&again, "503 Busy", ""));
    assert!(w.one(at).starts_with("ACK "));
    let refused = w.one(CALLER);
    assert!(refused.starts_with("SIP/2.0 500 "), "it does not fail over: {refused}");
    assert_eq!((w.active("a"), w.questions.len()), (1, 1));
}

#[test]
fn a_strict_router_is_undone() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let ok = w.establish("c1", A, "");
    let bye = in_dialog("BYE", 2, &ok);
    let ours = header(&bye, "Route");
    let strict = bye
        .replacen("BYE sip:bob@203.0.113.1:5060", &format!("BYE {}", ours.trim_matches(['<', '>'])), 1)
        .replacen(&ours, "<sip:bob@203.0.113.1:5060>", 1);
    w.send(CALLER, &strict);
    let got = w.one(A);
    assert!(got.starts_with("BYE sip:bob@203.0.113.1:5060 SIP/2.0"), "{got}");
    assert!(headers(&got, "Route").is_empty());
}

#[test]
fn rport_is_answered_where_it_came_from() {
    let mut w = World::new(&[]);
    let nat = "198.51.100.9:40001";
    let message = invite("c1").replace("198.51.100.7:5060;branch", "10.0.0.5:5060;rport;branch");
    w.send(nat, &message);
    let refused = w.one(nat);
    assert!(
        refused.contains("Via: SIP/2.0/UDP 10.0.0.5:5060;rport=40001;branch=z9hG4bK-c1-1;received=198.51.100.9\r\n"),
        "{refused}"
    );
    let message = invite("c2").replace("198.51.100.7:5060;branch", "10.0.0.5:5080;branch");
    w.send(nat, &message);
    assert!(w.one("198.51.100.9:5080").contains("10.0.0.5:5080;branch=z9hG4bK-c2-1;received=198.51.100.9\r\n"));
}

#[test]
fn a_trunk_that_makes_up_tags_cannot_grow_a_call() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let sent = w.invite_to("c1", A);
    for tag in 0..100 {
        w.send(A, &respond_tagged(&sent, "200 OK", &format!("t{tag}"), &format!("Contact: <sip:bob@{A}>\r\n")));
        let ok = w.one(CALLER);
        assert!(header(&ok, "To").ends_with(&format!(";tag=t{tag}")), "every 2xx goes upstream");
        w.send(CALLER, &in_dialog("ACK", 1, &ok));
        assert!(w.one(A).starts_with("ACK "), "by its route set");
    }
    assert_eq!((w.shard.held().legs, w.active("a")), (16, 1));
}
