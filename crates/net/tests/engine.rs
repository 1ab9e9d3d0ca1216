//! Real sockets, real shards.

#![allow(clippy::unwrap_used)]

mod peer;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peer::{PATIENCE, Peer, World, eventually, inside, nobody, ok, runtime, value};

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

#[test]
fn options_is_answered_over_both_families() {
    let world = World::with(&[V4, V6], 2, &[]);
    for (bind, at) in [(V4, 0), (V6, 1)] {
        let peer = Peer::new(bind, world.engine.local_addresses()[at]);
        peer.send(&peer.request("OPTIONS", "ping"));
        let answer = peer.receive();
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        assert_eq!(value(&answer, "Call-ID"), "ping");
    }
    eventually("both are counted", || world.engine.stats().sent == 2);
    assert_eq!(world.engine.stats().received, 2);
}

#[test]
fn a_flood_from_one_peer_is_answered_one_by_one() {
    let world = World::new(V4, &[]);
    let peer = Peer::new(V4, world.address);
    let mut open = HashSet::new();
    for round in 0..20 {
        for n in 0..50 {
            let call = format!("{round}-{n}");
            peer.send(&peer.request("OPTIONS", &call));
            open.insert(call);
        }
        while !open.is_empty() {
            let answer = peer.receive();
            assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
            assert!(open.remove(&value(&answer, "Call-ID")), "answered twice: {answer}");
        }
    }
    assert_eq!(world.engine.stats().received, 1000);
}

#[test]
fn what_is_no_request_is_counted_and_not_answered() {
    let world = World::new(V4, &[]);
    let peer = Peer::new(V4, world.address);
    let garbage = "\u{0}\u{1}garbage that goes on for a while\r\n\r\n";
    let stale = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKforged\r\nCall-ID: x\r\n\r\n";
    for message in ["\r\n\r\n", "", "\u{0}", garbage, stale] {
        peer.send(message);
    }
    peer.send(&peer.request("OPTIONS", "after"));
    assert_eq!(value(&peer.receive(), "Call-ID"), "after", "the first answer is to the last message");
    eventually("all are counted", || {
        let counts = world.engine.stats();
        (counts.received, counts.keepalives, counts.malformed, counts.unowned) == (6, 3, 1, 1)
    });
}

#[test]
fn calls_pass_on_all_threads_and_leave_nothing() {
    let trunk = Peer::new(V4, "127.0.0.1:9".parse().unwrap());
    let (trunk_address, trunk_socket) = (trunk.address, trunk.socket.try_clone().unwrap());
    let world = World::new(V4, &[trunk_address]);
    let callee = std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        let mut byes = HashSet::new();
        while byes.len() < 200 {
            let (len, source) = trunk_socket.recv_from(&mut buffer).unwrap();
            let request = String::from_utf8(buffer[..len].to_vec()).unwrap();
            if request.starts_with("BYE ") {
                byes.insert(value(&request, "Call-ID"));
            }
            if !request.starts_with("ACK ") {
                trunk_socket.send_to(ok(&request, trunk_address).as_bytes(), source).unwrap();
            }
        }
    });
    let caller = Peer::new(V4, world.address);
    let mut standing = Vec::new();
    for n in 0..200 {
        caller.send(&caller.request("INVITE", &format!("call-{n}")));
        let answer = caller.expect("SIP/2.0 200 ");
        caller.send(&inside("ACK", 1, &answer, &format!("ack-{n}")));
        standing.push(answer);
    }
    assert_eq!(world.engine.calls().len(), 200);
    assert!(world.engine.calls().iter().all(|call| call.trunk == "trunk-0" && call.state == "established"));
    assert_eq!(world.active("trunk-0"), 200);
    let seventh = world.engine.call("call-7").unwrap();
    assert_eq!((&*seventh.call_id(), &*seventh.attempts[0].trunk.id), ("call-7", "trunk-0"));
    assert!(seventh.answered.is_some() && world.engine.call("call-200").is_none());
    for (n, answer) in standing.iter().enumerate() {
        caller.send(&inside("BYE", 2, answer, &format!("bye-{n}")));
        caller.expect("SIP/2.0 200 ");
    }
    callee.join().unwrap();
    eventually("no call stands", || world.engine.calls().is_empty() && world.active("trunk-0") == 0);
    assert_eq!(world.engine.undecided(), 0);
    eventually("each is told once", || world.ended() == vec![proxy::Cause::Bye; 200]);
}

#[test]
fn a_call_that_stands_at_the_stop_is_told() {
    let trunk = Peer::new(V4, "127.0.0.1:9".parse().unwrap());
    let world = World::new(V4, &[trunk.address]);
    let caller = Peer::new(V4, world.address);
    caller.send(&caller.request("INVITE", "call"));
    trunk.receive();
    assert!(world.ended().is_empty());
    world.engine.stop();
    world.engine.stop();
    assert_eq!(world.ended(), [proxy::Cause::Shutdown]);
}

fn fails_over_at_once(bind: &str, first: SocketAddr) -> World {
    let second = Peer::new(bind, "127.0.0.1:9".parse().unwrap());
    let world = World::new(bind, &[first, second.address]);
    let caller = Peer::new(bind, world.address);
    // Several at once, so that errors of one datagram strike the sending of another.
    for n in 0..20 {
        caller.send(&caller.request("INVITE", &format!("call-{n}")));
    }
    let start = Instant::now();
    let mut arrived = HashSet::new();
    while arrived.len() < 20 {
        arrived.insert(value(&second.expect("INVITE "), "Call-ID"));
    }
    // Far below the 4 s that silence takes.
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    eventually("each failed attempt is told", || world.local_failures("trunk-0") == 20);
    assert_eq!(world.local_failures("trunk-1"), 0, "an error is laid upon the right datagram");
    world
}

#[test]
fn a_dead_port_is_noticed_at_once() {
    let world = fails_over_at_once(V4, nobody(V4));
    assert!(world.engine.stats().undeliverable >= 20);
}

#[test]
fn a_dead_port_is_noticed_at_once_over_ipv6() {
    let world = fails_over_at_once(V6, nobody(V6));
    assert!(world.engine.stats().undeliverable >= 20);
}

#[test]
fn a_datagram_that_the_kernel_refuses_is_noticed_at_once() {
    // A socket bound to loopback cannot send anywhere else.
    let world = fails_over_at_once(V4, "192.0.2.1:5060".parse().unwrap());
    assert!(world.engine.stats().send_errors >= 20);
}

#[test]
fn a_storm_of_errors_leaves_the_engine_alive() {
    let world = World::new(V4, &[nobody(V4), nobody(V4), nobody(V4)]);
    let caller = Peer::new(V4, world.address);
    let mut refused = HashSet::new();
    for round in 0..10 {
        for n in 0..30 {
            caller.send(&caller.request("INVITE", &format!("call-{round}-{n}")));
        }
        while refused.len() < 30 * (round + 1) {
            let answer = caller.expect("SIP/2.0 5");
            refused.insert(value(&answer, "Call-ID"));
        }
    }
    caller.send(&caller.request("OPTIONS", "alive"));
    while value(&caller.receive(), "Call-ID") != "alive" {}
    assert!(world.engine.is_running());
    for trunk in ["trunk-0", "trunk-1", "trunk-2"] {
        eventually("each trunk had its turn", || world.local_failures(trunk) == 300);
        assert_eq!(world.active(trunk), 0);
    }
}

#[test]
fn timers_fire_while_nothing_comes_in() {
    let silent = Peer::new(V4, "127.0.0.1:9".parse().unwrap());
    let world = World::with(&[V4], 1, &[silent.address]);
    let caller = Peer::new(V4, world.address);
    let start = Instant::now();
    caller.send(&caller.request("INVITE", "call"));
    let first = silent.expect("INVITE ");
    assert!(caller.receive().starts_with("SIP/2.0 100 "), "our own 100");
    assert_eq!(silent.expect("INVITE "), first, "retransmission (timer A)");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450) && took < PATIENCE, "T1 is 500 ms, not {took:?}");
}

#[test]
fn binding_says_which_address_is_taken_and_an_engine_needs_its_parts() {
    let socket = net::bind(V4.parse().unwrap()).unwrap();
    let address = socket.local_addr();
    assert_ne!(address.port(), 0);
    let error = net::bind(address).unwrap_err();
    assert_eq!(error.address, address);
    assert!(error.to_string().starts_with(&format!("cannot listen on udp:{address}: ")), "{error}");
    let proxy = std::sync::Arc::new(proxy::Config::new(Vec::new(), proxy::Keys::new([0; 16], [0; 16])));
    let router = World::new(V4, &[]).router;
    let config = net::EngineConfig {
        ports: vec![net::Bound::Udp(socket)],
        threads: 1,
        streams: net::StreamSettings::default(),
        tls: None,
        runtime: runtime(),
        proxy,
        shards: Vec::new(),
        router,
        clock: net::Clock::new(),
    };
    assert!(matches!(net::Engine::start(config), Err(net::StartError::Config(_))));
}

#[test]
fn stop_is_quick_and_final() {
    let world = World::new(V4, &[]);
    assert!(world.engine.is_running());
    let start = Instant::now();
    world.engine.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!world.engine.is_running());
    world.engine.stop();
}
