//! What takes a trunk out of routing, and what brings it back (`docs/liveness.md`), with real peers.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Kamailio, Phone, Server, Uac, header, own_address, reply, uas, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn call(s: &Server, port: u16) -> bool {
    Uac { from: s.ip, port, to: s.sip(), scenario: "uac_routes.xml", calls: 1, pause: 0, mode: "u1" }.run()
}

#[test]
fn a_gateway_that_does_nothing_but_answer_options() {
    let s = Server::start();
    let ip = own_address();
    let probed = format!(
        "{{\"sip_uri\":\"sip:{ip}:5060\",\"heartbeat_seconds\":0,\"probe\":{{\"interval_seconds\":1,\"fall\":2,\"rise\":2}}}}"
    );
    s.put("k", &probed);
    s.wait_status("k", "down", "probe: not deliverable", SOON);
    let gateway = Kamailio::start(ip, &format!("{ip}:7001"), None);
    let _answerer = uas("uas_routes.xml", ip, 7001);
    s.wait_status("k", "up", "", SOON);
    let target = s.trunk("k")["targets"][0].clone();
    assert_eq!((&target["state"], &target["last_probe"]["outcome"]), (&"up".into(), &"200".into()), "{target}");
    assert!(target["last_probe"]["round_trip_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{target}");
    assert!(call(&s, 5081));
    drop(gateway);
    let took = s.wait_status("k", "down", "probe: ", SOON);
    println!("a gateway that has gone is seen after {took:?} by probes each second, fall 2");
}

#[test]
fn a_probe_says_what_it_is_told_and_codes_decide() {
    let s = Server::start();
    let gateway = Phone::new(own_address(), 0);
    s.put(
        "p",
        &format!(
            "{{\"sip_uri\":\"sip:{}\",\"heartbeat_seconds\":0,\"probe\":{{\"interval_seconds\":1,\"fall\":1,\"rise\":1,\
             \"ok_codes\":[200],\"from\":\"sip:ping@example.net\",\"host\":\"carrier.example.net\"}}}}",
            gateway.address()
        ),
    );
    let probe = gateway.receive(SOON).unwrap();
    assert!(probe.starts_with("OPTIONS sip:carrier.example.net SIP/2.0\r\n"), "{probe}");
    assert!(header(&probe, "From").starts_with("<sip:ping@example.net>;tag="), "{probe}");
    gateway.send_text(&s.sip(), &reply(&probe, "404 Not Found"));
    s.wait_status("p", "down", "probe: 404", SOON);
    let next = gateway.receive(SOON).unwrap();
    gateway.send_text(&s.sip(), &reply(&next, "200 OK"));
    s.wait_status("p", "up", "", SOON);
}

#[test]
fn a_503_with_retry_after_rests_the_trunk() {
    let s = Server::start();
    let busy = Phone::new(s.ip, 7001);
    let _b = uas("uas_routes.xml", s.ip, 7002);
    s.register("a", 7001, ",\"heartbeat_seconds\":0");
    s.register("b", 7002, ",\"priority\":1,\"heartbeat_seconds\":0");
    let caller =
        Uac { from: s.ip, port: 5081, to: s.sip(), scenario: "uac_routes.xml", calls: 1, pause: 0, mode: "u1" };
    let running = caller.start();
    let invite = busy.receive(SOON).unwrap();
    let answer =
        reply(&invite, "503 Service Unavailable").replace("Content-Length", "Retry-After: 3\r\nContent-Length");
    busy.send_text(&s.sip(), &answer);
    assert!(running.ends_well(SOON), "the call itself goes on to the next trunk");
    let record = s.trunk("a");
    assert_eq!(record["status"], "down");
    assert!(record["status_reasons"][0].as_str().unwrap().starts_with("resting until "), "{record}");
    assert!(call(&s, 5082) && call(&s, 5083));
    s.wait_status("a", "up", "", SOON);
    while let Some(message) = busy.receive(Duration::from_millis(100)) {
        assert!(!message.starts_with("INVITE"), "it was left in peace: {message}");
    }
}

#[test]
fn a_probe_answered_by_503_with_retry_after_rests_the_trunk_too() {
    let s = Server::start();
    let gateway = Phone::new(own_address(), 0);
    s.put(
        "p",
        &format!(
            "{{\"sip_uri\":\"sip:{}\",\"heartbeat_seconds\":0,\"probe\":{{\"interval_seconds\":1,\"ok_codes\":[200,503]}}}}",
            gateway.address()
        ),
    );
    let probe = gateway.receive(SOON).unwrap();
    let busy = reply(&probe, "503 Busy").replace("Content-Length", "Retry-After: 2\r\nContent-Length");
    gateway.send_text(&s.sip(), &busy);
    s.wait_status("p", "down", "resting until", SOON);
    assert_eq!(s.trunk("p")["targets"][0]["state"], "up", "the code itself is a good one here");
    s.wait_status("p", "up", "", SOON);
}

#[test]
fn when_all_are_in_doubt_calls_are_tried_nevertheless() {
    let s = Server::start();
    let probe = ",\"heartbeat_seconds\":0,\"probe\":{\"interval_seconds\":1,\"fall\":1,\"rise\":1,\"ok_codes\":[299]}";
    let _a = uas("uas_routes.xml", s.ip, 7001);
    s.register("a", 7001, probe);
    s.wait_status("a", "down", "probe: 200", SOON);
    assert!(call(&s, 5081), "the probe is wrong, the trunk works");
    assert!(s.metric("trunkline_panic_calls_total") >= 1.0);
    assert_eq!(s.metric("trunkline_panic"), 1.0);
    wait_until("the log says so", SOON, || s.log().contains("panic: every trunk is in doubt"));
    assert_eq!(s.request("PUT", "/trunks/a/admin", r#"{"state":"out_of_service"}"#, &[]).status, 200);
    assert!(!call(&s, 5082), "what the operator says is no doubt");
    assert_eq!(s.metric("trunkline_panic"), 0.0);
}

#[test]
fn a_trunk_that_comes_and_goes_is_held_back() {
    let s = Server::with("[liveness]\nflap_limit = 1\nflap_hold_seconds = 3\n");
    let gateway = Phone::new(own_address(), 0);
    s.put(
        "f",
        &format!(
            "{{\"sip_uri\":\"sip:{}\",\"heartbeat_seconds\":0,\"probe\":{{\"interval_seconds\":1,\"fall\":1,\"rise\":1}}}}",
            gateway.address()
        ),
    );
    let answer = |status: &str| {
        let probe = gateway.receive(SOON).unwrap();
        gateway.send_text(&s.sip(), &reply(&probe, status));
    };
    for status in ["503 No", "200 OK", "503 No", "200 OK"] {
        answer(status);
    }
    s.wait_status("f", "down", "flapping", SOON);
    for _ in 0..2 {
        answer("200 OK");
    }
    wait_until("it is let go", SOON, || {
        if let Some(probe) = gateway.receive(Duration::from_millis(50)) {
            gateway.send_text(&s.sip(), &reply(&probe, "200 OK"));
        }
        s.trunk("f")["status"] == "up"
    });
}

#[test]
fn max_cps_passes_a_trunk_over() {
    let s = Server::start();
    let (_a, _b) = (uas("uas_routes.xml", s.ip, 7001), uas("uas_routes.xml", s.ip, 7002));
    s.register("a", 7001, ",\"heartbeat_seconds\":0,\"max_cps\":1");
    s.register("b", 7002, ",\"heartbeat_seconds\":0,\"priority\":1");
    let many = Uac { from: s.ip, port: 5081, to: s.sip(), scenario: "uac_routes.xml", calls: 20, pause: 0, mode: "u1" };
    assert!(many.run());
    let answered =
        |trunk: &str| s.metric(&format!("trunkline_attempts_total{{trunk=\"{trunk}\",code=\"200\",local=\"false\"}}"));
    assert_eq!(answered("a") + answered("b"), 20.0);
    // SIPp makes ten calls a second.
    assert!((1.0..=5.0).contains(&answered("a")), "{}", answered("a"));
}
