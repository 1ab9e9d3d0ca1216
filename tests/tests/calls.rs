//! Calls of SIPp through the real process.

use std::time::Duration;

use peers::{Phone, Server, Uac, header, reply, uas, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn caller<'a>(s: &Server, scenario: &'a str) -> Uac<'a> {
    Uac { from: s.ip, port: 5081, to: s.sip(), scenario, calls: 1, pause: 0, mode: "u1" }
}

fn attempts(s: &Server, trunk: &str, code: u16) -> f64 {
    s.metric(&format!("trunkline_attempts_total{{trunk=\"{trunk}\",code=\"{code}\",local=\"false\"}}"))
}

#[test]
fn sipps_own_uac_reaches_the_better_trunk() {
    let s = Server::start();
    let _a = uas("uas", s.ip, 7001);
    let _b = uas("uas", s.ip, 7002);
    s.register("b", 7002, ",\"priority\":2");
    s.register("a", 7001, ",\"priority\":1");
    assert!(Uac { calls: 5, ..caller(&s, "uac") }.run());
    assert_eq!((attempts(&s, "a", 200), attempts(&s, "b", 200)), (5.0, 0.0));
    assert_eq!(s.active("a"), 0);
    assert_eq!(s.metric("trunkline_calls_answered_total{code=\"200\"}"), 5.0);
}

#[test]
fn a_route_set_is_followed_and_the_call_is_shown() {
    let s = Server::start();
    let _a = uas("uas_routes.xml", s.ip, 7001);
    s.register("a", 7001, "");
    let call = Uac { pause: 1500, ..caller(&s, "uac_routes.xml") }.start();
    wait_until("the call stands", SOON, || s.active("a") == 1);
    let calls = s.request("GET", "/calls", "", &[]).json();
    let shown = &calls["calls"][0];
    wait_until("it is established", SOON, || {
        s.request("GET", "/calls", "", &[]).json()["calls"][0]["state"] == "established"
    });
    assert_eq!(shown["trunk"], "a");
    assert!(shown["from"].as_str().unwrap().starts_with("sip:alice@"), "{calls}");
    assert!(shown["to"].as_str().unwrap().contains("15551234"));
    assert!(call.ends_well(SOON));
    wait_until("the channel is back", SOON, || s.active("a") == 0);
    assert_eq!(s.request("GET", "/calls", "", &[]).json()["calls"].as_array().unwrap().len(), 0);
}

#[test]
fn a_503_a_dead_port_and_silence_go_to_the_next_trunk() {
    let s = Server::with("[sip]\nsetup_timeout_ms = 600\n");
    let _good = uas("uas_routes.xml", s.ip, 7009);
    s.register("good", 7009, ",\"priority\":9");

    let _overloaded = uas("uas_503.xml", s.ip, 7001);
    s.register("first", 7001, "");
    assert!(caller(&s, "uac_routes.xml").run());
    assert_eq!((attempts(&s, "first", 503), attempts(&s, "good", 200)), (1.0, 1.0));

    s.register("first", 7002, "");
    assert!(caller(&s, "uac_routes.xml").run());
    let undelivered = s.metric("trunkline_attempts_total{trunk=\"first\",code=\"503\",local=\"true\"}");
    assert_eq!((undelivered, attempts(&s, "good", 200)), (1.0, 2.0), "nobody listens on that port");

    let silent = Phone::new(s.ip, 7003);
    s.register("first", 7003, "");
    assert!(caller(&s, "uac_routes.xml").run());
    let unanswered = s.metric("trunkline_attempts_total{trunk=\"first\",code=\"408\",local=\"true\"}");
    assert_eq!((unanswered, attempts(&s, "good", 200)), (1.0, 3.0));
    assert!(silent.receive(SOON).unwrap().starts_with("INVITE "));
    assert_eq!((s.active("first"), s.active("good")), (0, 0));
}

#[test]
fn a_lapsed_lease_stops_calls_and_a_heartbeat_brings_them_back() {
    let s = Server::start();
    let _a = uas("uas_routes.xml", s.ip, 7001);
    s.register("a", 7001, ",\"heartbeat_seconds\":5");
    let begun = std::time::Instant::now();
    assert!(caller(&s, "uac_routes.xml").run());
    // Calls for as long as the lease stands, none a second after.
    wait_until("the lease lapses", Duration::from_secs(17), || s.trunk("a")["status"] == "down");
    let lapsed = begun.elapsed();
    assert!((Duration::from_millis(14_500)..Duration::from_secs(16)).contains(&lapsed), "{lapsed:?}");
    assert_eq!(s.trunk("a")["status_reasons"], serde_json::json!(["lease expired"]));
    assert!(caller(&s, "uac_refused.xml").run());
    assert_eq!(s.request("GET", "/trunks", "", &[]).json()["trunks"].as_array().unwrap().len(), 0);
    assert_eq!(s.request("PATCH", "/trunks/a", "", &[]).status, 204);
    assert_eq!(s.trunk("a")["status"], "up");
    assert!(caller(&s, "uac_routes.xml").run());
    assert_eq!(s.metric("trunkline_lease_expiries_total"), 1.0);
}

#[test]
fn a_full_trunk_is_skipped_and_when_all_are_full_the_caller_hears_503() {
    let s = Server::start();
    let _a = uas("uas_routes.xml", s.ip, 7001);
    let _b = uas("uas_routes.xml", s.ip, 7002);
    s.register("a", 7001, ",\"max_channels\":1,\"priority\":1");
    s.register("b", 7002, ",\"max_channels\":1,\"priority\":2");
    let first = Uac { pause: 4000, ..caller(&s, "uac_routes.xml") }.start();
    wait_until("the first call", SOON, || s.active("a") == 1);
    let second = Uac { pause: 3000, port: 5082, ..caller(&s, "uac_routes.xml") }.start();
    wait_until("the second call", SOON, || s.active("b") == 1);
    assert_eq!(s.trunk("a")["status_reasons"], serde_json::json!(["full 1/1"]));
    assert!(Uac { port: 5083, ..caller(&s, "uac_refused.xml") }.run());
    assert!(first.ends_well(SOON) && second.ends_well(SOON));
    wait_until("both channels are back", SOON, || s.active("a") == 0 && s.active("b") == 0);
    assert!(Uac { port: 5084, ..caller(&s, "uac_routes.xml") }.run());
    assert!(s.metric("trunkline_refusals_total{cause=\"no_trunk\"}") >= 1.0);
}

#[test]
fn a_drained_trunk_gets_no_calls_and_keeps_those_it_has() {
    let s = Server::start();
    let _a = uas("uas_routes.xml", s.ip, 7001);
    let _b = uas("uas_routes.xml", s.ip, 7002);
    s.register("a", 7001, ",\"priority\":1");
    s.register("b", 7002, ",\"priority\":2");
    let standing = Uac { pause: 2500, ..caller(&s, "uac_routes.xml") }.start();
    wait_until("the call stands", SOON, || s.active("a") == 1);
    assert_eq!(s.request("PATCH", "/trunks/a", r#"{"enabled":false}"#, &[]).status, 200);
    assert!(Uac { port: 5082, ..caller(&s, "uac_routes.xml") }.run());
    assert_eq!((attempts(&s, "a", 200), attempts(&s, "b", 200)), (1.0, 1.0));
    assert_eq!(s.request("PATCH", "/trunks/a", r#"{"enabled":true}"#, &[]).status, 200);
    assert_eq!(s.request("PUT", "/trunks/a/admin", r#"{"state":"draining"}"#, &[]).status, 200);
    assert!(Uac { port: 5083, ..caller(&s, "uac_routes.xml") }.run());
    assert_eq!((attempts(&s, "a", 200), attempts(&s, "b", 200)), (1.0, 2.0));
    assert!(standing.ends_well(SOON), "the standing call goes on to its end");
    assert_eq!(s.request("DELETE", "/trunks/a/admin", "", &[]).status, 204);
    assert!(Uac { port: 5084, ..caller(&s, "uac_routes.xml") }.run());
    assert_eq!(attempts(&s, "a", 200), 2.0);
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    let s = Server::start();
    let _a = uas("uas_ring.xml", s.ip, 7001);
    s.register("a", 7001, "");
    assert!(caller(&s, "uac_cancel.xml").run());
    assert_eq!(attempts(&s, "a", 487), 1.0);
    wait_until("the channel is back", SOON, || s.active("a") == 0);
}

#[test]
fn a_call_survives_the_deregistration_of_its_trunk() {
    let s = Server::with("[sip]\nallow = [\"127.0.0.1/32\"]\n");
    // The caller is known by its own registration, as a trunk is.
    s.register("caller", 5081, ",\"enabled\":false");
    let _a = uas("uas_routes.xml", s.ip, 7001);
    s.register("a", 7001, "");
    let call = Uac { pause: 1500, ..caller(&s, "uac_routes.xml") }.start();
    wait_until("the call stands", SOON, || s.active("a") == 1);
    for id in ["a", "caller"] {
        assert_eq!(s.request("DELETE", &format!("/trunks/{id}"), "", &[]).status, 204);
    }
    assert!(call.ends_well(SOON), "its BYE passes by the route set that it proved");
    wait_until("the call is over", SOON, || s.request("GET", "/calls", "", &[]).text == r#"{"calls":[]}"#);
}

#[test]
fn an_unknown_source_hears_403_once_a_second_then_nothing() {
    let s = Server::with("[sip]\nallow = [\"127.0.0.1/32\"]\n");
    s.register("a", 7001, "");
    let stranger = Phone::new(peers::own_address(), 0);
    for n in 0..10 {
        stranger.send(&s.sip(), "INVITE", &format!("stranger-{n}"));
    }
    assert!(stranger.answer().starts_with("SIP/2.0 403 "));
    assert_eq!(stranger.receive(Duration::from_millis(500)), None, "one answer a second");
    wait_until("it is heard again", SOON, || {
        stranger.send(&s.sip(), "INVITE", "stranger-again");
        stranger.receive(Duration::from_millis(200)).is_some()
    });
    assert!(s.metric("trunkline_refusals_total{cause=\"forbidden\"}") >= 2.0);
    assert!(s.metric("trunkline_silenced_total{cause=\"forbidden\"}") >= 9.0);
    wait_until("it is logged", SOON, || {
        s.log().contains("cause=\"forbidden\"") && s.log().contains("call_id=\"stranger-")
    });
    assert_eq!(s.active("a"), 0);
}

#[test]
fn options_to_us_is_answered_until_the_process_drains() {
    let mut s = Server::with("[sip]\ndrain_seconds = 5\n");
    let silent = Phone::new(s.ip, 7001);
    s.register("a", 7001, "");
    let phone = Phone::new(s.ip, 5081);
    phone.send(&s.sip(), "OPTIONS", "ping-1");
    assert!(phone.answer().starts_with("SIP/2.0 200 "));
    phone.send(&s.sip(), "INVITE", "pending");
    let invite = silent.receive(SOON).unwrap();
    s.signal("TERM");
    wait_until("it drains", SOON, || s.log().contains("leaving"));
    let late = Phone::new(s.ip, 5082);
    late.send(&s.sip(), "INVITE", "late");
    let refused = late.answer();
    assert!(refused.starts_with("SIP/2.0 503 "), "{refused}");
    assert!(!header(&refused, "Retry-After").is_empty());
    silent.send_text(&s.sip(), &reply(&invite, "486 Busy Here"));
    assert!(phone.answer().starts_with("SIP/2.0 486 "), "what was pending is finished");
    assert!(s.wait_end(SOON).success());
    assert!(s.log().contains("left"));
}
