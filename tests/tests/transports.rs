//! Calls over TCP and TLS, with SIPp, Kamailio and a second Trunkline as peers.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Certificates, Kamailio, Server, Uac, own_address, uas, uas_by, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn caller<'a>(s: &Server, mode: &'a str) -> Uac<'a> {
    let scenario = if mode == "t1" { "uac" } else { "uac_routes.xml" };
    Uac { from: s.ip, port: 5081, to: s.sip(), scenario, calls: 20, pause: 50, mode }
}

fn answered(s: &Server, trunk: &str) -> f64 {
    s.metric(&format!("trunkline_attempts_total{{trunk=\"{trunk}\",code=\"200\",local=\"false\"}}"))
}

#[test]
fn tcp_on_both_sides_uses_few_connections() {
    let s = Server::start();
    let _a = uas_by("uas", s.ip, 7001, "t1");
    s.register("a", 7001, ",\"transport\":\"tcp\",\"heartbeat_seconds\":0");
    assert!(caller(&s, "t1").run());
    assert!(Uac { port: 5082, scenario: "uac", ..caller(&s, "u1") }.run());
    assert_eq!(answered(&s, "a"), 40.0);
    assert_eq!(s.metric("trunkline_sip_connections_total{fate=\"connected\"}"), 1.0, "one connection for all calls");
    wait_until("all channels are back", SOON, || s.active("a") == 0);
}

#[test]
fn a_trunk_whose_port_is_closed_costs_a_call_nothing() {
    let s = Server::start();
    let _b = uas("uas_routes.xml", s.ip, 7002);
    s.register("a", 7001, ",\"transport\":\"tcp\",\"heartbeat_seconds\":0");
    s.register("b", 7002, ",\"priority\":1,\"heartbeat_seconds\":0");
    assert!(Uac { calls: 3, ..caller(&s, "u1") }.run());
    assert_eq!(answered(&s, "b"), 3.0);
    s.wait_status("a", "down", "cooling down until", SOON);
    let target = &s.trunk("a")["targets"][0];
    assert_eq!((&target["state"], &target["last_call"]["outcome"]), (&"resting".into(), &"not deliverable".into()));
    assert!(Uac { calls: 5, ..caller(&s, "u1") }.run());
    let tried = s.metric("trunkline_attempts_total{trunk=\"a\",code=\"503\",local=\"true\"}");
    assert_eq!(tried, 3.0, "who rests is not even tried");
}

#[test]
fn a_call_goes_by_tls_to_kamailio_and_its_certificate_must_fit() {
    let certificates = Certificates::new();
    let s = Server::with_tls(&certificates, &["sip.test"], "");
    let ip = own_address();
    certificates.make("gateway", &["gateway.test"]);
    let _gateway = Kamailio::start(ip, &format!("{ip}:7001"), Some((&certificates, "gateway")));
    let _answerer = uas("uas_routes.xml", ip, 7001);
    let trunk = |name: &str| {
        format!(
            "{{\"sip_uri\":\"sip:{ip};transport=tls\",\"heartbeat_seconds\":0,\"tls\":{{\"verify_name\":\"{name}\"}}}}"
        )
    };
    s.put("k", &trunk("gateway.test"));
    assert!(caller(&s, "u1").run(), "INVITE, ACK and BYE all pass");
    assert_eq!((answered(&s, "k"), s.active("k")), (20.0, 0));
    s.put("k", &trunk("other.test"));
    assert!(!Uac { calls: 1, ..caller(&s, "u1") }.run());
    wait_until("the wrong name is told", SOON, || s.log().contains("not valid for name"));
    assert!(s.metric("trunkline_sip_connections_total{fate=\"handshake_failed\"}") >= 1.0);
}

#[test]
fn a_certificate_tells_who_calls_and_is_renewed_without_a_restart() {
    let files = Certificates::new();
    let near = Server::with_tls(&files, &["near.test"], "");
    // The far side knows nobody by address; it knows the trunk `near` by the name of its certificate.
    let far = Server::with_tls_allowing(&files, "far", &["far.test"], "192.0.2.1/32");
    let _answerer = uas("uas_routes.xml", far.ip, 7001);
    far.register("out", 7001, ",\"heartbeat_seconds\":0");
    let towards = format!(
        "{{\"sip_uri\":\"sip:{};transport=tls\",\"heartbeat_seconds\":0,\"tls\":{{\"verify_name\":\"far.test\"}}}}",
        far.ip
    );
    near.put("far", &towards);
    assert!(!Uac { calls: 1, ..caller(&near, "u1") }.run(), "who is not known is let in by nobody");
    assert!(far.metric("trunkline_refusals_total{cause=\"forbidden\"}") >= 1.0);
    far.put("near", "{\"sip_uri\":\"sip:near.test:5061;transport=tls\",\"enabled\":false,\"heartbeat_seconds\":0}");
    assert!(Uac { calls: 5, ..caller(&near, "u1") }.run(), "its certificate says who it is");
    assert_eq!(answered(&far, "out"), 5.0);

    files.make("far", &["renewed.test"]);
    far.signal("HUP");
    wait_until("the certificates are read again", SOON, || far.log().contains("read again"));
    assert!(Uac { calls: 5, port: 5082, ..caller(&near, "u1") }.run(), "the connection that stands goes on");
    near.put("far", &towards.replace("far.test", "renewed.test"));
    assert!(Uac { calls: 5, port: 5083, ..caller(&near, "u1") }.run(), "a new connection meets the new certificate");
    assert_eq!(answered(&far, "out"), 15.0);
}
