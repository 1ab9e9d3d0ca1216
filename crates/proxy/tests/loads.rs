//! What one source may hold.

#![allow(clippy::unwrap_used)]

mod world;

use proxy::Block;
use world::{CALLER, World, address, in_dialog, invite, on_hop, respond, trunk};

const T1: &str = "203.0.113.1:5060";

#[test]
fn a_source_that_never_acks_is_left_alone() {
    let mut w = World::with(&[("a", trunk(T1, 0))], |config| config.max_of_source = 2);
    // Each INVITE weighs until its ACK, and its call while it stands.
    w.send(CALLER, &invite("c1"));
    let first = w.one(T1);
    w.send(CALLER, &invite("c2"));
    w.silent();
    let source = address(CALLER).ip();
    assert_eq!(w.config.blocked.check(source, w.now), Some(Block::All));
    w.wait(1000);
    assert_eq!(w.config.blocked.check(source, w.now), None, "for a second");

    w.all(T1);
    w.send(T1, &respond(&first, "486 Busy Here", ""));
    assert!(w.one(T1).starts_with("ACK "));
    assert!(w.all(CALLER).last().is_some_and(|answer| answer.starts_with("SIP/2.0 486")));
    w.send(CALLER, &invite("c3"));
    assert!(w.one(T1).starts_with("INVITE "), "one INVITE without ACK is below the bound");
    w.send(CALLER, &invite("c4"));
    assert_eq!(w.all(T1).len(), 0);
    w.send(CALLER, &on_hop("ACK", "c1"));
    w.send("198.51.100.8:5060", &invite("other"));
    assert!(w.one(T1).starts_with("INVITE "), "others are not concerned");
}

#[test]
fn what_was_held_is_given_back() {
    let mut w = World::with(&[("a", trunk(T1, 0))], |config| config.max_of_source = 2);
    for n in 0..20 {
        let ok = w.establish(&format!("c{n}"), T1, "");
        w.send(CALLER, &in_dialog("BYE", 2, &ok));
        let bye = w.one(T1);
        w.send(T1, &respond(&bye, "200 OK", ""));
        assert!(w.one(CALLER).starts_with("SIP/2.0 200"));
    }
    w.send(CALLER, &invite("silent"));
    w.one(T1);
    w.wait(60_000);
    w.wire.clear();
    w.wait(60_000);
    w.wire.clear();
    w.establish("after", T1, "");
}
