//! What a question about a request says.

#![allow(clippy::unwrap_used)]

mod world;

use world::*;

const A: &str = "203.0.113.1:5060";
const B: &str = "203.0.113.2:5060";

#[test]
fn a_question_carries_what_routes_match_on() {
    let cases = [
        (
            "sip:+4930:pw@Example.net:5060;user=phone",
            "Alice <sip:+4440@a.example>;tag=x",
            "+4930",
            "+4440",
            "Example.net",
        ),
        ("sip:+49;tgrp=TG1;trunk-context=a@[2001:db8::1]", "sip:example.org;tag=x", "+49", "", "[2001:db8::1]"),
        ("tel:+49-30;phone-context=x", "<tel:+44;isub=1>;tag=x", "+49-30", "+44", ""),
        ("sip:example.net", "\"a <sip:b@c>\" <sips:d@e>;tag=x", "", "d", "example.net"),
    ];
    for (at, (uri, from, called, calling, domain)) in cases.into_iter().enumerate() {
        let mut w = World::new(&[("a", trunk(A, 0)), ("b", trunk(B, 1))]);
        let call = format!("call-{at}@host");
        let sent = invite(&call).replacen(&format!("sip:15551234@{PROXY} SIP"), &format!("{uri} SIP"), 1).replacen(
            &format!("Alice <sip:alice@198.51.100.7>;tag=a-{call}"),
            from,
            1,
        );
        w.send(CALLER, &format!("\r\n{sent}"));
        let first = w.one(A);
        w.send(A, &respond(first.trim_start(), "503 Full", ""));
        assert_eq!(w.questions.len(), 2, "one for each attempt");
        for question in &w.questions {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text(question.request_uri()), uri);
            assert_eq!(text(question.called()), called, "{uri}");
            assert_eq!(text(question.calling()), calling, "{from}");
            assert_eq!(text(question.domain()), domain, "{uri}");
            assert_eq!(text(question.call_id()), call);
            assert_eq!(text(question.request()), format!("\r\n{sent}"));
            assert!(question.names.is_none());
        }
        assert!(std::ptr::eq(w.questions[0].request(), w.questions[1].request()), "the bytes are shared");
    }
}

#[test]
fn a_question_names_the_certificate_of_its_source() {
    let mut w = World::new(&[("a", trunk(A, 0))]);
    let names: [Box<str>; 1] = ["pbx.example".into()];
    w.names = Some(names.clone().into());
    w.send(CALLER, &invite("c1"));
    assert_eq!(w.questions[0].names.as_deref(), Some(names.as_slice()));
}
