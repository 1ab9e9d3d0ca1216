//! Gateways that register by SIP: baresip, and peers on plain sockets.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Baresip, Phone, Server, Uac, header, own_address, reply, wait_until};

const SOON: Duration = Duration::from_secs(20);
const PBX: &str = r#"{"sip_uri":"sip:pbx@example.net","register":{"username":"pbx","password":"swordfish"}}"#;
/// baresip of Debian knows no SHA-256.
const OLD: &str = "[register]\nalgorithms = [\"MD5\"]\nmin_expires_seconds = 5\n";

fn register(phone: &Phone, s: &Server, n: u32, extra: &str) -> String {
    let (to, contact) = (s.sip(), phone.address());
    phone.send_text(
        &to,
        &format!(
            "REGISTER sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {contact};rport;branch=z9hG4bKr{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:pbx@{to}>;tag=1\r\nTo: <sip:pbx@{to}>\r\nCall-ID: reg-{contact}\r\nCSeq: {n} REGISTER\r\n\
             Contact: <sip:pbx@10.9.8.7:5999>\r\n{extra}Content-Length: 0\r\n\r\n"
        ),
    );
    phone.answer()
}

/// Digest of RFC 2069, the shortest there is.
fn authorization(challenge: &str, password: &str, uri: &str) -> String {
    let line = challenge.lines().find(|line| line.contains("algorithm=MD5")).unwrap();
    let nonce = line.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let md5 = |text: String| peers::md5_hex(text.as_bytes());
    let (ha1, ha2) = (md5(format!("pbx:trunkline:{password}")), md5(format!("REGISTER:{uri}")));
    let response = md5(format!("{ha1}:{nonce}:{ha2}"));
    format!(
        "Authorization: Digest username=\"pbx\", realm=\"trunkline\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\"\r\n"
    )
}

#[test]
fn a_user_agent_registers_by_udp_and_leaves() {
    let s = Server::with(OLD);
    s.put("pbx", PBX);
    s.wait_status("pbx", "down", "not registered", SOON);
    let ip = own_address();
    let account = format!("<sip:pbx@{}>;auth_user=pbx;auth_pass=swordfish;regint=60;answermode=auto", s.ip);
    let baresip = Baresip::start(ip, &account);
    s.wait_status("pbx", "up", "", SOON);
    let record = s.trunk("pbx");
    assert_eq!(record["registration"]["transport"], "udp");
    assert!(!record["last_heartbeat_at"].is_null() && !record["lease_expires_at"].is_null());
    baresip.end(true);
    s.wait_status("pbx", "down", "not registered", SOON);
}

#[test]
fn a_user_agent_gets_its_calls_down_the_connection_that_it_registered_by() {
    let s = Server::with(OLD);
    s.put("pbx", PBX);
    let ip = own_address();
    let account =
        format!("<sip:pbx@{};transport=tcp>;auth_user=pbx;auth_pass=swordfish;regint=60;answermode=auto", s.ip);
    let baresip = Baresip::start(ip, &account);
    s.wait_status("pbx", "up", "", SOON);
    let contact = s.trunk("pbx")["registration"]["contact"].as_str().unwrap().to_owned();
    let user = contact.trim_start_matches("sip:").split('@').next().unwrap().to_owned();
    let phone = Phone::new(s.ip, 5081);
    phone.send_to_user(&s.sip(), &user, "INVITE", "down-the-connection");
    let answer = phone.answer();
    // It is offered no media: whatever it says came from it.
    assert!(!answer.contains(" 503 ") && !answer.contains(" 404 "), "{answer}");
    let connected = s.metric("trunkline_sip_connections_total{fate=\"connected\"}");
    assert_eq!(connected, 0.0, "nothing was connected to");
    baresip.end(false);
    let took = s.wait_status("pbx", "down", "connection closed", SOON);
    println!("a registered connection that ends is seen after {took:?}");
}

#[test]
fn sipp_registers_by_both_transports_and_leaves() {
    let s = Server::with(OLD);
    s.put("pbx", PBX);
    for (mode, port, transport) in [("u1", 5091, "udp"), ("t1", 5092, "tcp")] {
        let sipp = Uac { from: s.ip, port, to: s.sip(), scenario: "uac_register.xml", calls: 1, pause: 1500, mode };
        let sipp = sipp.start();
        s.wait_status("pbx", "up", "", SOON);
        assert_eq!(s.trunk("pbx")["registration"]["transport"], transport);
        assert!(sipp.ends_well(SOON));
        s.wait_status("pbx", "down", "not registered", SOON);
    }
}

#[test]
fn who_is_behind_a_nat_is_reached_where_it_came_from() {
    let s = Server::with(OLD);
    s.put("pbx", PBX);
    let pbx = Phone::new(own_address(), 0);
    let challenge = register(&pbx, &s, 1, "Expires: 5\r\n");
    assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
    let right = authorization(&challenge, "swordfish", &format!("sip:{}", s.sip()));
    let ok = register(&pbx, &s, 2, &format!("Expires: 5\r\n{right}"));
    assert!(ok.starts_with("SIP/2.0 200 "), "{ok}");
    assert_eq!(header(&ok, "Contact"), "<sip:pbx@10.9.8.7:5999>;expires=5");
    s.wait_status("pbx", "up", "", SOON);

    let phone = Phone::new(s.ip, 5081);
    phone.send(&s.sip(), "INVITE", "to-the-nat");
    let invite = pbx.receive(SOON).expect("the INVITE comes to where the REGISTER came from");
    assert!(invite.starts_with("INVITE sip:15551234@10.9.8.7:5999 "), "{invite}");
    pbx.send_text(&s.sip(), &reply(&invite, "486 Busy Here"));
    assert!(phone.answer().contains(" 486 "));
    let took = s.wait_status("pbx", "down", "registration expired", SOON);
    println!("a registration of 5 s that is not refreshed is over {took:?} after the call");
    assert_eq!(s.trunk("pbx")["registration"]["expires_seconds"], 5);
}

#[test]
fn what_is_wrong_is_answered_so() {
    let s = Server::with(OLD);
    s.put("pbx", PBX);
    let pbx = Phone::new(own_address(), 0);
    let uri = format!("sip:{}", s.sip());
    let mut n = 0;
    let mut ask = |extra: &str| {
        n += 1;
        register(&pbx, &s, n, extra)
    };
    let right = authorization(&ask(""), "swordfish", &uri);
    let brief = ask(&format!("Expires: 1\r\n{right}"));
    assert!(brief.starts_with("SIP/2.0 423 "), "{brief}");
    assert_eq!(header(&brief, "Min-Expires"), "5");
    let mut last = ask("");
    for _ in 0..10 {
        assert!(last.starts_with("SIP/2.0 401 "), "{last}");
        let wrong = authorization(&last, "guess", &uri);
        last = ask(&wrong);
    }
    let blocked = ask("");
    assert!(blocked.starts_with("SIP/2.0 403 "), "{blocked}");
    assert_eq!(s.trunk("pbx")["status"], "down");
    assert!(s.metric("trunkline_registrations_total{outcome=\"wrong\"}") >= 10.0);
    assert!(!s.log().contains("swordfish") && !s.request("GET", "/trunks/pbx", "", &[]).text.contains("swordfish"));
}

#[test]
fn a_registration_outlives_a_restart() {
    let mut s = Server::with(OLD);
    s.put("pbx", PBX);
    let pbx = Phone::new(own_address(), 0);
    let right = authorization(&register(&pbx, &s, 1, ""), "swordfish", &format!("sip:{}", s.sip()));
    assert!(register(&pbx, &s, 2, &format!("Expires: 600\r\n{right}")).starts_with("SIP/2.0 200 "));
    s.kill_and_restart();
    s.wait_status("pbx", "up", "", SOON);
    let phone = Phone::new(s.ip, 5081);
    phone.send(&s.sip(), "INVITE", "after-the-restart");
    wait_until("the call", SOON, || pbx.receive(Duration::from_secs(1)).is_some_and(|m| m.starts_with("INVITE ")));
}
