//! Trunks behind names (RFC 3263), with a name server of the test's own.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Certificates, Dns, Kamailio, Mood, Phone, Server, Uac, header, own_address, reply, uas, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn call(s: &Server, port: u16, calls: u32) -> bool {
    Uac { from: s.ip, port, to: s.sip(), scenario: "uac_routes.xml", calls, pause: 0, mode: "u1" }.run()
}

fn ports(s: &Server, id: &str) -> Vec<String> {
    let targets = s.trunk(id)["targets"].as_array().cloned().unwrap_or_default();
    let address = |target: &serde_json::Value| target["address"].as_str().unwrap_or_default().to_owned();
    targets
        .iter()
        .map(|target| format!("{} {}", target["transport"].as_str().unwrap_or_default(), address(target)))
        .collect()
}

#[test]
fn a_carrier_reached_over_tls_behind_srv_records() {
    let dns = Dns::start(own_address());
    let certificates = Certificates::new();
    let s = Server::with_tls(&certificates, &["sip.test"], &dns.settings());
    let ip = own_address();
    // The certificate is for the name that was asked for, not for the host that it led to (RFC 5922 §4).
    certificates.make("gateway", &["carrier.test"]);
    let _gateway = Kamailio::start(ip, &format!("{ip}:7001"), Some((&certificates, "gateway")));
    let _answerer = uas("uas_routes.xml", ip, 7001);
    dns.naptr(
        "carrier.test",
        60,
        &[(20, 1, "SIP+D2U", "_sip._udp.carrier.test"), (10, 1, "SIPS+D2T", "_sips._tcp.carrier.test")],
    );
    dns.srv("_sips._tcp.carrier.test", 60, &[(1, 0, 5061, "sbc1.carrier.test")]);
    dns.srv("_sip._udp.carrier.test", 60, &[(1, 0, 5999, "sbc1.carrier.test")]);
    dns.a("sbc1.carrier.test", 60, &[ip]);
    s.put("c", "{\"sip_uri\":\"sip:carrier.test\",\"heartbeat_seconds\":0}");
    wait_until("its places", SOON, || ports(&s, "c") == [format!("tls {ip}:5061"), format!("udp {ip}:5999")]);
    assert!(call(&s, 5081, 5), "by the better service: TLS");
    assert_eq!(s.metric("trunkline_attempts_total{trunk=\"c\",code=\"200\",local=\"false\"}"), 5.0);
    assert!(s.metric("trunkline_sip_connections_total{fate=\"connected\"}") >= 1.0);
}

#[test]
fn a_call_tries_the_next_target_before_the_next_trunk() {
    let dns = Dns::start(own_address());
    let s = Server::with(&dns.settings());
    let ip = own_address();
    dns.srv("_sip._udp.two.test", 60, &[(1, 0, 7001, "one.two.test"), (2, 0, 7002, "one.two.test")]);
    dns.a("one.two.test", 60, &[ip]);
    s.put("t", "{\"sip_uri\":\"sip:two.test\",\"transport\":\"udp\",\"heartbeat_seconds\":0,\"max_channels\":1}");
    s.register("other", 7003, ",\"priority\":9,\"heartbeat_seconds\":0");
    wait_until("its places", SOON, || ports(&s, "t").len() == 2);
    let _second = uas("uas_routes.xml", ip, 7002);
    assert!(call(&s, 5081, 1), "the first port is closed: the call goes on at once");
    let ended = |code: u16, local: bool| {
        s.metric(&format!("trunkline_attempts_total{{trunk=\"t\",code=\"{code}\",local=\"{local}\"}}"))
    };
    assert_eq!((ended(503, true), ended(200, false)), (1.0, 1.0));
    assert!(call(&s, 5082, 1) && call(&s, 5083, 1));
    wait_until("the first target rests alone", SOON, || {
        let record = s.trunk("t");
        record["targets"][0]["state"] == "resting" && record["targets"][1]["state"] == "up" && record["status"] == "up"
    });
    assert!(call(&s, 5084, 1));
    assert_eq!(ended(503, true), 3.0, "who rests is not tried");
}

#[test]
fn answers_are_kept_past_a_failure_and_followed_when_they_change() {
    let dns = Dns::start(own_address());
    let s = Server::with(&dns.settings());
    let (first, second) = (own_address(), own_address());
    dns.a("gw.test", 1, &[first]);
    s.put("g", "{\"sip_uri\":\"sip:gw.test:7001\",\"heartbeat_seconds\":0}");
    wait_until("the first address", SOON, || ports(&s, "g") == [format!("udp {first}:7001")]);
    assert_eq!(s.trunk("g")["targets"][0]["stale"], false);
    dns.mood(Mood::Fails);
    wait_until("it is marked", SOON, || s.trunk("g")["targets"][0]["stale"] == true);
    let _answerer = uas("uas_routes.xml", first, 7001);
    assert!(call(&s, 5081, 1), "calls go on");
    dns.a("gw.test", 1, &[second]);
    dns.mood(Mood::Answers);
    wait_until("the second address", Duration::from_secs(40), || ports(&s, "g") == [format!("udp {second}:7001")]);
    assert!(dns.asked("gw.test") >= 3);
    s.put("n", "{\"sip_uri\":\"sip:nowhere.test\",\"heartbeat_seconds\":0}");
    wait_until("a name that is not there is told", SOON, || {
        s.trunk("n")["status_reasons"][0]
            .as_str()
            .is_some_and(|why| why.starts_with("unresolved: nowhere.test (nowhere.test"))
    });
}

#[test]
fn a_name_in_a_dialog_is_looked_up() {
    let dns = Dns::start(own_address());
    let s = Server::with(&dns.settings());
    let (ip, elsewhere) = (own_address(), own_address());
    let trunk = Phone::new(ip, 7001);
    let moved = Phone::new(elsewhere, 7005);
    dns.a("media.test", 60, &[elsewhere]);
    s.put("t", &format!("{{\"sip_uri\":\"sip:{ip}:7001\",\"heartbeat_seconds\":0}}"));
    let phone = Phone::new(s.ip, 5081);
    phone.send(&s.sip(), "INVITE", "names");
    let invite = trunk.receive(SOON).unwrap();
    let contact = "Contact: <sip:bob@media.test:7005>\r\nContent-Length";
    trunk.send_text(&s.sip(), &reply(&invite, "200 OK").replace("Content-Length", contact));
    let ok = phone.answer();
    let routes: Vec<String> =
        ok.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).map(str::to_owned).collect();
    let inside = |method: &str, number: u32| {
        format!(
            "{method} sip:bob@media.test:7005 SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKin{number}{method}\r\nRoute: {}\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
            phone.address(),
            routes.join(", "),
            header(&ok, "From"),
            header(&ok, "To"),
            header(&ok, "Call-ID"),
        )
    };
    phone.send_text(&s.sip(), &inside("ACK", 1));
    let ack = moved.receive(SOON).expect("the ACK follows the Contact");
    assert!(ack.starts_with("ACK sip:bob@media.test:7005 "), "{ack}");
    phone.send_text(&s.sip(), &inside("BYE", 2));
    let bye = moved.receive(SOON).unwrap();
    moved.send_text(&s.sip(), &reply(&bye, "200 OK"));
    assert!(phone.answer().starts_with("SIP/2.0 200 "));
    wait_until("the channel is back", SOON, || s.active("t") == 0);
}
