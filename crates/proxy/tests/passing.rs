//! Bytes that are no business of a proxy leave as they came (RFC 3261 §16.6; RFC 3262, 5806, 7044, 8224).

#![allow(clippy::unwrap_used)]

mod world;

use world::*;

const A: &str = "203.0.113.1:5060";

/// What carriers expect to pass, and what nobody knows; odd spaces, cases, folds and compact forms included.
const EXTRA: &str = "Supported: 100rel, timer ,histinfo\r\n\
     k: replaces\r\n\
     Identity: eyJhbGciOiJFUzI1NiJ9..aWQ;info=<https://cert.example.org/p.cer>;alg=ES256;ppt=\"shaken\"\r\n\
     IDENTITY:   second..one;info=<https://c.example/>\r\n\
     History-Info: <sip:bob@example.com?Reason=SIP%3Bcause%3D302>;index=1, <sip:x@example.com>;index=1.1;rc=1\r\n\
     History-Info:<sip:y@example.com>;index=1.2;mp=1\r\n\
     Diversion: \"Bob, the \\\"boss\\\"\" <tel:+15550100>;reason=no-answer;counter=2;privacy=off\r\n\
     diversion : <sip:z@example.com>\r\n\
     Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000\r\n\
     P-Charging-Vector: icid-value=1234bc;icid-generated-at=192.0.2.7\r\n\
     X-Folded: one\r\n   two\r\n\tthree\r\n\
     X-Empty:\r\n\
     X-Odd \t:  \x07bell ; caf\u{e9}   \r\n\
     Geolocation: <cid:target@example.com>\r\n\
     User-Agent: Odd/1.0 (it's; \"fine\")\r\n\
     Allow: INVITE,  ACK\r\n";
const BODY: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\n\r\n\0\u{1}INVITE sip:x SIP/2.0\r\nVia: no\r\n\r\n";
const OURS: [&str; 6] = ["via", "record-route", "route", "max-forwards", "max-breadth", "session-expires"];

/// Every byte but those that a proxy may write: the Request-URI and the headers of [`OURS`].
fn rest(message: &str) -> String {
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let (start, fields) = head.split_once("\r\n").unwrap();
    let mut out = start.split(' ').next().unwrap().to_owned();
    if start.starts_with("SIP/2.0") {
        out = start.to_owned();
    }
    let mut skipping = false;
    for line in fields.split("\r\n") {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap().trim().to_ascii_lowercase();
            skipping = OURS.contains(&&*name) || name == "v";
        }
        if !skipping {
            out.push_str("\r\n");
            out.push_str(line);
        }
    }
    out + "\r\n\r\n" + body
}

/// Fills a message with all of it.
fn laden(message: &str, more: &str) -> String {
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    let head: Vec<&str> =
        head.split("\r\n").filter(|line| !line.starts_with("Content-") && !line.starts_with("X-Untouched")).collect();
    let (start, fields) = head.split_at(3);
    format!(
        "{}\r\n{more}{EXTRA}{}\r\nContent-Type: multipart/mixed;boundary=\"x y\"\r\nl:  {}\r\n\r\n{BODY}",
        start.join("\r\n"),
        fields.join("\r\n"),
        BODY.len(),
    )
}

#[track_caller]
fn same(sent: &str, got: &str) {
    assert_eq!(rest(sent), rest(got));
    assert!(got.contains(EXTRA) && got.ends_with(BODY));
}

#[test]
fn the_requests_and_answers_of_a_call_pass_byte_by_byte() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let place = laden(&invite("c1"), "Require: 100rel\r\n");
    w.send(CALLER, &place);
    let sent = w.one(A);
    same(&place, &sent);

    let ringing = laden(&respond(&sent, "183 Session  Progress, \"odd\"", ""), "Require: 100rel\r\nRSeq: 988789\r\n");
    w.send(A, &ringing);
    let got = w.one(CALLER);
    same(&ringing, &got);
    assert_eq!(header(&got, "RSeq"), "988789");

    // Reliable provisional answers are between the parties (RFC 3262).
    let early = got.replacen("Require: 100rel\r\n", &format!("Contact: <sip:bob@{A}>\r\n"), 1);
    let prack = laden(&in_dialog("PRACK", 2, &early), "RAck: 988789 1 INVITE\r\n");
    w.send(CALLER, &prack);
    let sent_prack = w.one(A);
    same(&prack, &sent_prack);
    let ok = laden(&respond(&sent_prack, "200 OK", ""), "");
    w.send(A, &ok);
    same(&ok, &w.one(CALLER));

    let ok = laden(&respond(&sent, "200 OK", ""), &format!("Contact: <sip:bob@{A}>;+x.y=\"1,2\"\r\n"));
    w.send(A, &ok);
    same(&ok, &w.one(CALLER));

    let plain = respond(&sent, "200 OK", &format!("Contact: <sip:bob@{A}>\r\n"));
    for (method, number) in [("ACK", 1), ("INFO", 3), ("REFER", 4), ("INVITE", 5), ("X-OWN", 6)] {
        let message = laden(&in_dialog(method, number, &plain), "");
        w.send(CALLER, &message);
        let got = w.one(A);
        same(&message, &got);
        if method != "ACK" {
            let answer = laden(&respond(&got, "200 Fine", ""), "");
            w.send(A, &answer);
            same(&answer, &w.one(CALLER));
        }
    }
    for (method, number) in [("INFO", 103), ("NOTIFY", 104), ("INVITE", 105), ("BYE", 106)] {
        let message = laden(&from_callee(method, number, &plain, A), "");
        w.send(A, &message);
        let got = w.one(CALLER);
        same(&message, &got);
        let answer = laden(&respond(&got, "481 Odd  Words", ""), "Warning: 399 x \"y\"\r\n");
        w.send(CALLER, &answer);
        if method == "INVITE" {
            assert!(w.one(CALLER).starts_with("ACK "));
        }
        same(&answer, &w.one(A));
    }
}

#[test]
fn requests_beside_calls_and_refusals_pass_byte_by_byte() {
    for (method, status) in [("MESSAGE", "202 Accepted"), ("SUBSCRIBE", "489 Bad Event"), ("INVITE", "422 Too Small")] {
        let mut w = World::new(&[("a", trunk(A, 0))]);
        let message = laden(&invite("c1").replace("INVITE", method), "Min-SE: 90\r\n");
        w.send(CALLER, &message);
        let sent = w.one(A);
        same(&message, &sent);
        let answer = laden(&respond(&sent, status, ""), "Min-SE: 3600\r\n");
        w.send(A, &answer);
        w.all(A);
        same(&answer, &w.one(CALLER));
    }
}

#[test]
fn the_second_trunk_gets_the_same_bytes() {
    let b = "203.0.113.2:5060";
    let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(b, 1))]);
    let message = laden(&invite("c1"), "");
    w.send(CALLER, &message);
    let sent = w.one(A);
    w.send(A, &respond(&sent, "503 Full", ""));
    same(&message, &w.one(b));
}
