//! Where calls go, and what `/routes/explain` says of it, on the real program.

use std::time::Duration;

use peers::{Phone, Server, header, reply, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

fn put(s: &Server, path: &str, body: &Value) {
    let answer = s.request("PUT", path, &body.to_string(), &[]);
    assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
    wait_until("calls are routed by it", SOON, || {
        s.metric("trunkline_route_table_revision") >= s.metric("trunkline_registry_revision")
    });
}

fn explain(s: &Server, question: &Value) -> Value {
    let answer = s.request("POST", "/routes/explain", &question.to_string(), &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The next INVITE that arrives; ACKs of calls before it are passed over.
fn invite_at(phone: &Phone) -> String {
    loop {
        let message = phone.receive(SOON).expect("an INVITE");
        if message.starts_with("INVITE ") {
            return message;
        }
    }
}

/// Places a call; the phone it arrives at answers with this code, and the caller's final answer is returned.
fn place(s: &Server, caller: &Phone, number: &str, call: &str, callee: &Phone, status: &str) -> (String, String) {
    caller.send_to_user(&s.sip(), number, "INVITE", call);
    let invite = invite_at(callee);
    callee.send_text(&s.sip(), &reply(&invite, status));
    (invite, caller.answer())
}

#[test]
fn a_call_goes_by_number_source_and_group_and_explain_agrees() {
    let s = Server::start();
    let phones: Vec<Phone> = (7001..=7004).map(|port| Phone::new(s.ip, port)).collect();
    for (id, port, more) in [
        ("a", 7001, r#","group":"carriers","heartbeat_seconds":0"#),
        ("b", 7002, r#","group":"carriers","priority":1,"heartbeat_seconds":0"#),
        ("backup", 7003, r#","group":"spare","heartbeat_seconds":0"#),
        ("sos", 7004, r#","group":"sos","max_channels":0,"heartbeat_seconds":0"#),
    ] {
        s.register(id, port, more);
    }
    let targets = json!([{ "group": "carriers" }, { "trunk": "backup" }]);
    put(&s, "/routes/de", &json!({ "match": { "called_prefix": "49" }, "targets": targets }));
    let berlin = json!({ "match": { "called_prefix": "4930" }, "targets": [{ "trunk": "backup" }] });
    put(&s, "/routes/berlin", &berlin);
    put(
        &s,
        "/routes/sos",
        &json!({ "match": { "called": "112" }, "targets": [{ "group": "sos" }], "emergency": true }),
    );

    let caller = Phone::new(s.ip, 6001);
    let (invite, answer) = place(&s, &caller, "4989123", "c1", &phones[0], "486 Busy Here");
    assert!(invite.starts_with("INVITE sip:4989123@") && answer.starts_with("SIP/2.0 486"), "{answer}");
    place(&s, &caller, "4930123", "c2", &phones[2], "486 Busy Here");
    place(&s, &caller, "112", "c3", &phones[3], "486 Busy Here");
    caller.send_to_user(&s.sip(), "33123", "INVITE", "c4");
    let answer = caller.answer();
    assert!(answer.starts_with("SIP/2.0 404"), "{answer}");
    assert_eq!(header(&answer, "Retry-After"), "", "no use in trying again");

    let told = explain(&s, &json!({ "from": "alice", "to": "4930123", "source": s.ip.to_string() }));
    assert_eq!(told["chosen"]["trunk"], "backup");
    assert_eq!(told["routes"][0]["reason"], "longer called prefix: 4 against 2 characters (route de)");
    assert_eq!((&told["routes"][1]["route"], &told["routes"][1]["verdict"]), (&json!("de"), &json!("passed over")));
    assert_eq!(told["source_allowed"], true);
    let told = explain(&s, &json!({ "to": "4989" }));
    let verdicts: Vec<(&str, &str)> = told["trunks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["trunk"].as_str().unwrap(), one["code"].as_str().unwrap()))
        .collect();
    assert_eq!(verdicts, [("a", "chosen"), ("b", "next"), ("backup", "next")]);

    // What is imagined changes nothing.
    let imagined = json!({ "to": "4989", "trunks": { "a": { "enabled": false }, "b": { "max_channels": 0 } } });
    let told = explain(&s, &imagined);
    assert_eq!(told["chosen"]["trunk"], "backup");
    assert_eq!(told["trunks"][0]["verdict"], "disabled");
    assert_eq!(told["trunks"][1]["verdict"], "full 0/0");
    assert_eq!(told["without_changes"]["chosen"]["trunk"], "a");
    let told = explain(&s, &json!({ "to": "4989", "trunks": { "sos": { "weight": 2 } } }));
    assert_eq!((&told["trunks"][3]["trunk"], &told["trunks"][3]["code"]), (&json!("sos"), &json!("not_in_group")));
    place(&s, &caller, "4989124", "c5", &phones[0], "486 Busy Here");
    let told = explain(
        &s,
        &json!({ "to": "33", "routes": { "fr": { "match": { "called_prefix": "33" }, "targets": targets } } }),
    );
    assert_eq!((&told["route"], &told["without_changes"]["refusal"]["status"]), (&json!("fr"), &json!(404)));

    // Every fault is told at once.
    let wrong = json!({ "to": "", "source": "nowhere", "trunks": { "a": { "weight": 0 } }, "when": 1 });
    let answer = s.request("POST", "/routes/explain", &wrong.to_string(), &[]);
    assert_eq!(answer.status, 400);
    let pointers: Vec<String> = answer.json()["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["pointer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pointers, ["/when", "/to", "/source", "/trunks/a/weight"]);

    s.request("DELETE", "/routes/berlin", "", &[]);
    wait_until("it is gone", SOON, || explain(&s, &json!({ "to": "4930" }))["route"] == "de");
    for id in ["de", "sos"] {
        assert_eq!(s.request("DELETE", &format!("/routes/{id}"), "", &[]).status, 204);
    }
    wait_until("all are one group again", SOON, || explain(&s, &json!({ "to": "33" }))["chosen"]["trunk"] == "a");
}

#[test]
fn a_lapsed_lease_and_a_full_trunk_are_told_with_their_figures() {
    let s = Server::start();
    s.register("late", 7001, r#","heartbeat_seconds":5"#);
    s.register("full", 7002, r#","max_channels":1,"heartbeat_seconds":0"#);
    let callee = Phone::new(s.ip, 7002);
    let caller = Phone::new(s.ip, 6001);
    s.request("PATCH", "/trunks/late", r#"{"priority":1}"#, &[]);
    wait_until("the table has it", SOON, || explain(&s, &json!({ "to": "1" }))["trunks"][0]["trunk"] == "full");
    caller.send_to_user(&s.sip(), "1", "INVITE", "c1");
    callee.send_text(&s.sip(), &reply(&invite_at(&callee), "180 Ringing"));
    let told = explain(&s, &json!({ "to": "1" }));
    assert_eq!(told["trunks"][0]["verdict"], "full 1/1");
    wait_until("its lease runs out", Duration::from_secs(25), || s.trunk("late")["status"] == "down");
    wait_until("it is told", SOON, || {
        let told = explain(&s, &json!({ "to": "1" }));
        let verdict = told["trunks"][1]["verdict"].as_str().unwrap_or_default();
        verdict.starts_with("lease expired ") && verdict.ends_with(" s ago")
    });
    let told = explain(&s, &json!({ "to": "1", "trunks": { "late": { "status": "up" } } }));
    assert_eq!(told["chosen"]["trunk"], "late");
}
