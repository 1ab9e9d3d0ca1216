//! Who shows which certificate, what it proves, and the connection that both sides use (RFC 5922, 5923).

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Certificates, Phone, Server, Uac, header, reply, uas, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn call(s: &Server, port: u16) -> bool {
    Uac { from: s.ip, port, to: s.sip(), scenario: "uac_routes.xml", calls: 2, pause: 0, mode: "u1" }.run()
}

/// A trunk by TLS at a server, with members of `tls` and of the record.
fn towards(far: &Server, tls: &str, more: &str) -> String {
    let ip = far.ip;
    format!("{{\"sip_uri\":\"sip:{ip}:5061;transport=tls\",\"heartbeat_seconds\":0,\"tls\":{{{tls}}}{more}}}")
}

fn connections(s: &Server, fate: &str) -> f64 {
    s.metric(&format!("trunkline_sip_connections_total{{fate=\"{fate}\"}}"))
}

#[test]
fn each_trunk_has_its_own_certificate_and_authority() {
    let files = Certificates::new();
    let near = Server::with_tls(&files, &["near.test"], "");
    // It knows nobody by address.
    let far = Server::with_tls_allowing(&files, "far", &["far.test"], "192.0.2.1/32");
    let _answerer = uas("uas_routes.xml", far.ip, 7001);
    far.register("out", 7001, ",\"heartbeat_seconds\":0");
    far.put("one", "{\"sip_uri\":\"sip:one.test:5061;transport=tls\",\"enabled\":false,\"heartbeat_seconds\":0}");
    for name in ["one", "two"] {
        files.make(name, &[&format!("{name}.test")]);
    }
    let verify = "\"verify_name\":\"far.test\",\"certificate\":";
    near.put("t", &towards(&far, &format!("{verify}\"one\""), ""));
    assert!(call(&near, 5081), "the certificate of this trunk is known");
    near.put("t", &towards(&far, &format!("{verify}\"two\""), ""));
    assert!(!call(&near, 5082), "another is not");
    assert!(far.metric("trunkline_refusals_total{cause=\"forbidden\"}") >= 1.0);
    far.put("two", "{\"sip_uri\":\"sip:two.test:5061;transport=tls\",\"enabled\":false,\"heartbeat_seconds\":0}");
    assert!(call(&near, 5083), "until it is");

    let other = Certificates::new();
    std::fs::copy(other.file("ca.pem"), files.file("other.ca.pem")).unwrap();
    near.put("t", &towards(&far, &format!("{verify}\"two\",\"authority\":\"other\""), ""));
    assert!(!call(&near, 5084), "its authority has not signed this");
    wait_until("the log says so", SOON, || near.log().contains("invalid peer certificate"));
    std::fs::copy(files.file("ca.pem"), files.file("other.ca.pem")).unwrap();
    near.signal("HUP");
    wait_until("the certificates are read again", SOON, || near.log().contains("read again"));
    near.wait_status("t", "up", "", Duration::from_secs(60));
    assert!(call(&near, 5085), "a renewed authority is taken without a restart");
}

/// A call with an asserted identity, from a phone beside `far`; whether the identity came to `home`.
fn asserted(phone: &Phone, far: &Server, home: &Phone, call: &str) -> bool {
    let (own, to) = (phone.address(), far.sip());
    phone.send_text(
        &to,
        &format!(
            "INVITE sip:15551234@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{own}>;tag={call}\r\nTo: <sip:15551234@{to}>\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@{own}>\r\nP-Asserted-Identity: <sip:boss@example.net>\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    let invite = home.receive(SOON).expect("the call");
    let via = header(&invite, "Via");
    let back = via.split([' ', ';']).nth(1).unwrap();
    home.send_text(back, &reply(&invite, "486 Busy Here"));
    assert!(home.receive(SOON).is_some_and(|ack| ack.starts_with("ACK ")));
    assert!(phone.answer().contains(" 486 "));
    invite.contains("P-Asserted-Identity")
}

#[test]
fn calls_come_back_by_the_connection_that_we_opened_and_prove_no_other_name() {
    let files = Certificates::new();
    let near = Server::with_tls(&files, &["near.test"], "");
    // Its certificate holds the name of another trunk too; what it hears from its own network it believes.
    let trusts = "127.0.0.0/8\"]\ntrusted = [\"127.0.0.0/8";
    let far = Server::with_tls_allowing(&files, "far", &["far.test", "rich.test"], trusts);
    let _answerer = uas("uas_routes.xml", far.ip, 7001);
    far.register("out", 7001, ",\"heartbeat_seconds\":0");
    near.put("far", &towards(&far, "\"verify_name\":\"far.test\"", ""));
    assert!(call(&near, 5081));
    assert_eq!((connections(&near, "connected"), connections(&far, "accepted")), (1.0, 1.0));

    let (home, phone) = (Phone::new(near.ip, 7001), Phone::new(far.ip, 5081));
    near.register("home", 7001, ",\"heartbeat_seconds\":0,\"trusted\":true");
    near.put("far", &towards(&far, "\"verify_name\":\"far.test\"", ",\"priority\":9"));
    near.put("rich", "{\"sip_uri\":\"sip:rich.test:5061;transport=tls\",\"trusted\":true,\"enabled\":false}");
    far.put("near", &towards(&near, "\"verify_name\":\"near.test\"", ",\"trusted\":true"));
    far.put("out", "{\"sip_uri\":\"sip:127.0.0.1\",\"enabled\":false}");
    assert!(!asserted(&phone, &far, &home, "c1"), "it is verified as far.test, whatever else its certificate says");
    near.put("far", &towards(&far, "\"verify_name\":\"far.test\"", ",\"priority\":9,\"trusted\":true"));
    assert!(asserted(&phone, &far, &home, "c2"));
    let opened = (connections(&far, "connected"), connections(&near, "accepted"));
    assert_eq!(opened, (0.0, 0.0), "nothing else was opened (RFC 5923)");
}
