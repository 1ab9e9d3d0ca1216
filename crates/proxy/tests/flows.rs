//! Random call flows: the counts of channels follow a model exactly where nothing is lost, and come
//! back to zero whatever is lost, doubled or late.

#![allow(clippy::unwrap_used)]

mod world;

use proptest::prelude::*;
use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";
const LIMIT: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Op {
    Place,
    Ring,
    Answer,
    Busy,
    Overloaded,
    Cancel,
    HangUp,
    CalleeHangsUp,
    Repeat,
}

/// A call as the model sees it.
#[derive(Clone, Debug)]
enum Model {
    Idle,
    /// The INVITE as the trunk has it.
    Pending {
        at: &'static str,
        invite: String,
        ringing: bool,
        tried: usize,
    },
    Up {
        at: &'static str,
        ok: String,
    },
    Done,
}

fn world() -> World {
    let mut a = trunk(A, 1);
    a.max_channels = Some(LIMIT as u32);
    World::new(&[("a", a), ("b", trunk(B, 2))])
}

fn holds(calls: &[Model], trunk: &str) -> usize {
    let at = |call: &Model| matches!(call, Model::Pending { at, .. } | Model::Up { at, .. } if *at == trunk);
    calls.iter().filter(|call| at(call)).count()
}

fn step(w: &mut World, calls: &mut [Model], n: usize, op: Op) {
    let id = format!("c{n}");
    let call = std::mem::replace(&mut calls[n], Model::Idle);
    calls[n] = match (call, op) {
        (Model::Idle, Op::Place) => {
            let at = if holds(calls, A) < LIMIT { A } else { B };
            Model::Pending { at, invite: w.invite_to(&id, at), ringing: false, tried: 1 }
        }
        (Model::Pending { at, invite, tried, .. }, Op::Ring) => {
            w.send(at, &respond(&invite, "180 Ringing", ""));
            w.one(CALLER);
            Model::Pending { at, invite, ringing: true, tried }
        }
        (Model::Pending { at, invite, .. }, Op::Answer) => {
            w.send(at, &respond(&invite, "200 OK", &format!("Contact: <sip:bob@{at}>\r\n")));
            Model::Up { at, ok: w.one(CALLER) }
        }
        (Model::Pending { at, invite, .. }, Op::Busy) => {
            w.send(at, &respond(&invite, "486 Busy Here", ""));
            w.one(at);
            assert!(w.one(CALLER).starts_with("SIP/2.0 486"));
            w.send(CALLER, &on_hop("ACK", &id));
            Model::Done
        }
        (Model::Pending { at, invite, ringing, tried }, Op::Overloaded) => {
            w.send(at, &respond(&invite, "503 Overloaded", ""));
            let to = if at == A { B } else { A };
            let room = to == B || holds(calls, A) < LIMIT;
            if tried == 1 && !ringing && room {
                w.one(at);
                Model::Pending { at: to, invite: w.one(to), ringing: false, tried: 2 }
            } else {
                w.one(at);
                assert!(w.one(CALLER).starts_with("SIP/2.0 500"));
                w.send(CALLER, &on_hop("ACK", &id));
                Model::Done
            }
        }
        (Model::Pending { at, invite, .. }, Op::Cancel) => {
            w.send(CALLER, &on_hop("CANCEL", &id));
            w.one(CALLER);
            w.send(at, &respond(&invite, "487 Request Terminated", ""));
            w.all(at);
            assert!(w.one(CALLER).starts_with("SIP/2.0 487"));
            w.send(CALLER, &on_hop("ACK", &id));
            Model::Done
        }
        (Model::Up { at, ok }, Op::HangUp) => {
            w.send(CALLER, &in_dialog("BYE", 2, &ok));
            let bye = w.one(at);
            w.send(at, &respond(&bye, "200 OK", ""));
            w.one(CALLER);
            Model::Done
        }
        (Model::Up { at, ok }, Op::CalleeHangsUp) => {
            w.send(at, &from_callee("BYE", 100 + n as u32, &ok, at));
            let bye = w.one(CALLER);
            w.send(CALLER, &respond(&bye, "200 OK", ""));
            w.one(at);
            Model::Done
        }
        (Model::Pending { at, invite, ringing, tried }, Op::Repeat) => {
            w.send(CALLER, &crate::invite(&id));
            w.all(CALLER);
            Model::Pending { at, invite, ringing, tried }
        }
        (Model::Up { at, ok }, Op::Repeat) => {
            w.send(CALLER, &in_dialog("ACK", 1, &ok));
            w.one(at);
            Model::Up { at, ok }
        }
        (call, _) => call,
    };
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Place),
        1 => Just(Op::Ring),
        2 => Just(Op::Answer),
        1 => Just(Op::Busy),
        1 => Just(Op::Overloaded),
        1 => Just(Op::Cancel),
        1 => Just(Op::HangUp),
        1 => Just(Op::CalleeHangsUp),
        1 => Just(Op::Repeat),
    ]
}

/// What the network does to a datagram.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Lost,
    Doubled,
    Late,
}

/// Peers that answer everything they get in the way that `wish` says, over a bad network.
fn lossy_run(w: &mut World, fates: &[Fate], wishes: &[u8]) {
    let mut fate = fates.iter().cycle();
    let mut wish = wishes.iter().cycle();
    let mut late: Vec<(String, String)> = Vec::new();
    let mut to_proxy = |w: &mut World, from: &str, message: String| match fate.next() {
        Some(Fate::Arrives) => w.send(from, &message),
        Some(Fate::Doubled) => {
            w.send(from, &message);
            w.send(from, &message);
        }
        Some(Fate::Late) => late.push((from.to_owned(), message)),
        Some(Fate::Lost) | None => {}
    };
    for n in 0..8 {
        to_proxy(w, CALLER, invite(&format!("c{n}")));
    }
    for _ in 0..60 {
        w.wait(700);
        for at in [A, B] {
            for got in w.all(at) {
                let method = got.split(' ').next().unwrap_or_default().to_owned();
                let extra = format!("Contact: <sip:bob@{at}>\r\n");
                match (method.as_str(), wish.next().map_or(0, |wish| wish % 8)) {
                    ("ACK" | "SIP/2.0", _) => {}
                    ("INVITE", 0) => {}
                    ("INVITE", 1) => to_proxy(w, at, respond(&got, "503 Full", "")),
                    ("INVITE", 2) => to_proxy(w, at, respond(&got, "486 Busy", "")),
                    ("INVITE", 3) => to_proxy(w, at, respond(&got, "180 Ringing", "")),
                    ("INVITE", 4) => to_proxy(w, at, respond(&got, "100 Trying", "")),
                    (_, _) => to_proxy(w, at, respond(&got, "200 OK", &extra)),
                }
            }
        }
        for got in w.all(CALLER) {
            match (got.split(' ').nth(1), wish.next().map_or(0, |wish| wish % 4)) {
                (Some("200"), wish) if header(&got, "CSeq").ends_with("INVITE") => {
                    to_proxy(w, CALLER, in_dialog("ACK", 1, &got));
                    if wish > 0 {
                        to_proxy(w, CALLER, in_dialog("BYE", 2, &got));
                    }
                }
                (Some("180"), 0) => to_proxy(w, CALLER, on_hop("CANCEL", &header(&got, "Call-ID"))),
                _ => {}
            }
        }
        let active = w.active("a");
        assert!(active as usize <= LIMIT + 8, "{active}");
    }
    let rest = std::mem::take(&mut late);
    for (from, message) in rest {
        w.send(&from, &message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn counts_follow_the_model(ops in prop::collection::vec((0usize..6, any_op()), 1..120)) {
        let mut w = world();
        let mut calls = vec![Model::Idle; 6];
        for (n, op) in ops {
            step(&mut w, &mut calls, n, op);
            prop_assert_eq!(w.active("a") as usize, holds(&calls, A));
            prop_assert_eq!(w.active("b") as usize, holds(&calls, B));
            prop_assert_eq!(w.shard.calls().len(), holds(&calls, A) + holds(&calls, B));
        }
        w.wait(5 * 3600 * 1000);
        prop_assert_eq!((w.active("a"), w.active("b")), (0, 0));
        prop_assert_eq!(w.shard.transactions(), 0);
        prop_assert!(w.shard.calls().is_empty());
    }

    #[test]
    fn nothing_leaks_over_a_bad_network(
        fates in prop::collection::vec(
            prop_oneof![5 => Just(Fate::Arrives), 1 => Just(Fate::Lost), 1 => Just(Fate::Doubled), 1 => Just(Fate::Late)],
            1..60,
        ),
        wishes in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let mut w = world();
        lossy_run(&mut w, &fates, &wishes);
        w.wait(5 * 3600 * 1000);
        prop_assert_eq!((w.active("a"), w.active("b")), (0, 0));
        prop_assert_eq!(w.shard.transactions(), 0);
        prop_assert!(w.shard.calls().is_empty());
    }
}
