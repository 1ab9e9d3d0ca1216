//! What is told of a call while it stands, after its end, and in its record.

use std::time::Duration;

use peers::{Phone, Server, Uac, reply, uas, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// The records in the files, once there are so many.
fn records(s: &Server, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until("the records are written", SOON, || {
        let text = std::fs::read_to_string(s.data().join("records/calls.jsonl")).unwrap_or_default();
        found = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        found.len() >= count
    });
    found
}

fn call(s: &Server, id: &str) -> Value {
    let answer = s.request("GET", &format!("/calls/{}", id.replace('@', "%40")), "", &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn a_call_that_fails_over_is_told_with_every_attempt() {
    let s = Server::start();
    s.register("a", 7001, r#","priority":1,"group":"carriers""#);
    s.register("b", 7002, r#","priority":2,"group":"carriers""#);
    s.register("c", 7003, r#","priority":3,"group":"carriers","enabled":false"#);
    let route = json!({
        "match": { "called_prefix": "1555" }, "targets": [{ "group": "carriers" }],
        "rewrite": { "called": { "strip": 1, "prepend": "00" } },
    });
    assert_eq!(s.request("PUT", "/routes/r", &route.to_string(), &[]).status, 201);
    wait_until("it is routed by", SOON, || {
        s.metric("trunkline_route_table_revision") >= s.metric("trunkline_registry_revision")
    });
    let _a = uas("uas_503.xml", s.ip, 7001);
    let _b = uas("uas_routes.xml", s.ip, 7002);
    let uac =
        Uac { from: s.ip, port: 6001, to: s.sip(), scenario: "uac_routes.xml", calls: 1, pause: 1500, mode: "u1" };
    let caller = uac.start();
    let mut id = String::new();
    wait_until("it stands", SOON, || {
        let calls = s.request("GET", "/calls", "", &[]).json();
        id = calls["calls"][0]["id"].as_str().unwrap_or_default().to_owned();
        calls["calls"][0]["state"] == "established"
    });
    let told = call(&s, &id);
    assert_eq!((&told["state"], &told["trunk"], &told["route"]), (&json!("established"), &json!("b"), &json!("r")));
    assert!(caller.ends_well(Duration::from_secs(30)));
    wait_until("it has ended", SOON, || call(&s, &id)["state"] == "ended");

    let told = call(&s, &id);
    assert_eq!((&told["cause"], &told["ended_by"], &told["status"]), (&json!("bye"), &json!("caller"), &json!(200)));
    assert!(told["duration_ms"].as_u64().unwrap() >= 1400, "{told}");
    let attempts = told["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!((&attempts[0]["trunk"], &attempts[0]["failover"]), (&json!("a"), &json!("it answered 503")));
    assert_eq!(attempts[1]["called_after"], "005551234");
    let verdicts = |attempt: &Value| -> Vec<String> {
        let trunks = attempt["decision"]["trunks"].as_array().unwrap();
        trunks
            .iter()
            .map(|one| format!("{} {}", one["trunk"].as_str().unwrap(), one["code"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(verdicts(&attempts[0]), ["a chosen", "b next", "c obstacle"]);
    assert_eq!(verdicts(&attempts[1]), ["a tried", "b chosen", "c obstacle"]);

    let ended = s.request("GET", "/calls?state=ended&limit=1", "", &[]).json();
    assert_eq!((&ended["calls"][0]["id"], &ended["calls"][0]["cause"]), (&json!(id), &json!("bye")));
    let record = records(&s, 1).remove(0);
    assert_eq!((&record["call_id"], &record["trunk"], &record["route"]), (&json!(id), &json!("b"), &json!("r")));
    assert_eq!((&record["called"], &record["called_after"]), (&json!("15551234"), &json!("005551234")));
    assert_eq!((&record["attempts"][0]["status"], &record["attempts"][1]["status"]), (&json!(503), &json!(200)));
    assert!(record["answered_at"].is_string() && record["duration_ms"].as_u64().unwrap() >= 1400, "{record}");
    assert_eq!(record["table_revision"], attempts[1]["decision"]["table_revision"]);
}

#[test]
fn what_is_refused_has_its_reason_and_its_record_too() {
    let s = Server::with("[calls]\nkeep = 2\n");
    s.register("a", 7001, r#","max_channels":0"#);
    let caller = Phone::new(s.ip, 6001);
    caller.send(&s.sip(), "INVITE", "full");
    assert!(caller.answer().starts_with("SIP/2.0 503"));
    wait_until("it is kept", SOON, || s.request("GET", "/calls/full", "", &[]).status == 200);
    let told = call(&s, "full");
    assert_eq!((&told["cause"], &told["status"]), (&json!("no_trunk"), &json!(503)));
    assert_eq!(told["refusal"]["trunks"][0]["verdict"], "full 0/0");

    let callee = Phone::new(s.ip, 7001);
    s.request("PATCH", "/trunks/a", r#"{"max_channels":null}"#, &[]);
    wait_until("it has room", SOON, || s.trunk("a")["status_reasons"] == json!([]));
    caller.send(&s.sip(), "INVITE", "busy");
    let invite = callee.receive(SOON).unwrap();
    callee.send_text(&s.sip(), &reply(&invite, "486 Busy Here"));
    while !caller.answer().starts_with("SIP/2.0 486") {}
    wait_until("it is kept", SOON, || s.request("GET", "/calls/busy", "", &[]).status == 200);
    let told = call(&s, "busy");
    assert_eq!((&told["cause"], &told["ended_by"]), (&json!("refused"), &json!("callee")));
    let found = records(&s, 2);
    let causes: Vec<&str> = found.iter().filter_map(|record| record["cause"].as_str()).collect();
    assert_eq!(causes, ["no_trunk", "refused"]);
    assert_eq!(found[0]["attempts"], json!([]));

    // Only as many stay as the settings want.
    callee.receive(SOON);
    caller.send(&s.sip(), "INVITE", "third");
    let invite = loop {
        let message = callee.receive(SOON).unwrap();
        if message.starts_with("INVITE") {
            break message;
        }
    };
    callee.send_text(&s.sip(), &reply(&invite, "486 Busy Here"));
    wait_until("it is kept", SOON, || s.request("GET", "/calls/third", "", &[]).status == 200);
    let answer = s.request("GET", "/calls/full", "", &[]);
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"], "no call 'full' stands, or is kept of those that have ended");
    let ids = |path: &str| -> Vec<String> {
        let list = s.request("GET", path, "", &[]).json();
        list["calls"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("/calls?state=ended"), ["third", "busy"]);
    assert_eq!(ids("/calls?state=ended&after=third"), ["busy"]);
}
