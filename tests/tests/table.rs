//! The fixed table of the HTTP contract, row by row, against the real process.

use peers::Server;
use serde_json::{Value, json};

#[track_caller]
fn error(answer: &peers::Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.header("content-type").starts_with("application/json"));
    let json = answer.json();
    assert_eq!((&json["status"], &json["error"]), (&json!(status), &json!(message)));
    assert!(answer.text.starts_with(&format!("{{\"status\":{status},\"error\":")), "{}", answer.text);
}

#[test]
fn every_row_of_the_fixed_table() {
    let s = Server::start();
    let body = r#"{"sip_uri":"sip:sbc1.example.net:5060","max_channels":240,"note":{"kept":[1,2.50]}}"#;
    let new = s.request("PUT", "/trunks/a", body, &[]);
    assert_eq!((new.status, new.header("location")), (201, "/trunks/a"));
    assert!(new.header("content-type").starts_with("application/json"));
    assert!(new.header("warning").contains("note"), "{new:?}");
    let record = new.json();
    for (member, value) in [
        ("id", json!("a")),
        ("sip_uri", json!("sip:sbc1.example.net:5060")),
        ("transport", json!("udp")),
        ("enabled", json!(true)),
        ("heartbeat_seconds", json!(30)),
        ("status", json!("up")),
        ("max_channels", json!(240)),
        ("group", json!("default")),
        ("priority", json!(0)),
        ("weight", json!(100)),
        ("active_calls", json!(0)),
    ] {
        assert_eq!(record[member], value, "{member}");
    }
    assert!(new.text.contains(r#""note":{"kept":[1,2.50]}"#), "kept as it came: {}", new.text);

    let known = s.request(
        "PUT",
        "/trunks/a",
        r#"{"sip_uri":"sip:sbc2.example.net"}"#,
        &[("Content-Type", "application/x-www-form-urlencoded")],
    );
    assert_eq!((known.status, known.header("location")), (200, ""));
    assert_eq!(known.json()["max_channels"], Value::Null, "replaced whole");

    error(&s.request("PUT", "/trunks/b", "not json", &[]), 400, "malformed trunk record (invalid JSON)");
    error(&s.request("PUT", "/trunks/b", "{}", &[]), 400, "sip_uri is required");
    error(&s.request("PUT", "/trunks/b", "", &[]), 400, "sip_uri is required");
    error(&s.request("PUT", "/trunks/b", r#"{"sip_uri":""}"#, &[]), 400, "sip_uri is required");
    let sctp = r#"{"sip_uri":"sip:x","transport":"sctp"}"#;
    error(&s.request("PUT", "/trunks/b", sctp, &[]), 400, "transport must be one of ['tcp', 'tls', 'udp']");
    let beat = s.request("PATCH", "/trunks/a", "", &[]);
    assert_eq!((beat.status, beat.text.as_str()), (204, ""));
    error(&s.request("PATCH", "/trunks/b", "", &[]), 404, "unknown trunk — re-register with PUT");
    assert_eq!(s.request("GET", "/trunks/a", "", &[]).json()["sip_uri"], "sip:sbc2.example.net");
    error(&s.request("GET", "/trunks/b", "", &[]), 404, "unknown trunk");

    s.request("PUT", "/trunks/t", r#"{"sip_uri":"sip:x","transport":"tls","enabled":false}"#, &[]);
    let ids = |query: &str| -> Vec<String> {
        let answer = s.request("GET", &format!("/trunks{query}"), "", &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let trunks = answer.json()["trunks"].as_array().unwrap().clone();
        trunks.iter().map(|trunk| trunk["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(""), ["a", "t"]);
    assert_eq!(ids("?enabled=TRUE"), ["a"]);
    assert_eq!(ids("?enabled=false&transport=tls"), ["t"]);
    assert_eq!(ids("?enabled=true&transport=tls"), [""; 0]);

    for path in ["/trunks/a", "/trunks/never"] {
        let gone = s.request("DELETE", path, "", &[]);
        assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    }
    for (method, path, allowed) in
        [("POST", "/trunks/a", "PATCH"), ("POST", "/trunks", "GET"), ("DELETE", "/trunks", "GET")]
    {
        let refused = s.request(method, path, "", &[]);
        assert_eq!(refused.status, 405, "{method} {path}");
        assert!(refused.header("allow").contains(allowed), "{refused:?}");
    }
}

#[test]
fn what_the_original_did_wrong_is_mended() {
    let s = Server::start();
    for (body, message) in [
        ("[]", "trunk record must be a JSON object"),
        ("null", "trunk record must be a JSON object"),
        (r#"{"sip_uri":7}"#, "sip_uri must be a string"),
        (r#"{"sip_uri":"sip:x","enabled":"yes"}"#, "enabled must be true or false"),
        (r#"{"sip_uri":"sip:x","weight":0}"#, "weight must be an integer, 1 to 10000"),
        (
            r#"{"sip_uri":"sip:x","heartbeat_seconds":4}"#,
            "heartbeat_seconds must be an integer, 5 to 3600, or 0 for no lease",
        ),
        (
            r#"{"sip_uri":"sip:x;transport=tcp","transport":"udp"}"#,
            "transport 'udp' conflicts with sip_uri, which asks for 'tcp'",
        ),
    ] {
        error(&s.request("PUT", "/trunks/a", body, &[]), 400, message);
    }
    let http = s.request("PUT", "/trunks/a", r#"{"sip_uri":"http://x"}"#, &[]).json();
    assert!(http["error"].as_str().unwrap().starts_with("sip_uri must be a sip: or sips: URI"), "{http}");
    assert_eq!(http["field"], "sip_uri");
    for query in ["?enabled=maybe", "?transport=pigeon", "?status=sideways", "?limit=0", "?colour=red"] {
        assert_eq!(s.request("GET", &format!("/trunks{query}"), "", &[]).status, 400, "{query}");
    }
    let long = format!("{{\"sip_uri\":\"sip:x\",\"pad\":\"{}\"}}", "x".repeat(70_000));
    error(&s.request("PUT", "/trunks/a", &long, &[]), 413, "request body must have at most 65536 bytes");
    assert_eq!(s.request("PUT", "/trunks/a%20b", r#"{"sip_uri":"sip:x"}"#, &[]).status, 400);
    assert_eq!(s.request("PUT", "/trunks/a%3Ab", r#"{"sip_uri":"sip:x"}"#, &[]).header("location"), "/trunks/a:b");
}

#[test]
fn conditions_patches_pages_and_problems() {
    let s = Server::start();
    s.register("a", 7001, "");
    let tag = s.request("GET", "/trunks/a", "", &[]).header("etag").to_owned();
    assert_eq!(s.request("GET", "/trunks/a", "", &[("If-None-Match", &tag)]).status, 304);
    assert_eq!(s.request("PATCH", "/trunks/a", "", &[]).status, 204);
    assert_eq!(s.request("GET", "/trunks/a", "", &[]).header("etag"), tag, "a heartbeat does not change it");
    let put =
        |headers: &[(&str, &str)]| s.request("PUT", "/trunks/a", r#"{"sip_uri":"sip:x","priority":4}"#, headers).status;
    assert_eq!(put(&[("If-None-Match", "*")]), 412);
    assert_eq!(put(&[("If-Match", "\"999\"")]), 412);
    assert_eq!(put(&[("If-Match", &tag)]), 200);
    assert_eq!(put(&[("If-Match", &tag)]), 412, "it has changed");

    let patched = s.request("PATCH", "/trunks/a", r#"{"weight":7,"priority":null}"#, &[]);
    assert_eq!((patched.status, &patched.json()["weight"], &patched.json()["priority"]), (200, &json!(7), &json!(0)));
    assert_eq!(s.request("PATCH", "/trunks/a", r#"{"weight":7}"#, &[]).status, 204, "nothing changed");
    assert_eq!(s.request("PATCH", "/trunks/a", r#"{"weight":"x"}"#, &[]).status, 400);

    for id in ["b", "c", "d"] {
        s.register(id, 7001, "");
    }
    let page = s.request("GET", "/trunks?limit=3", "", &[]).json();
    assert_eq!((page["trunks"].as_array().unwrap().len(), &page["next"]), (3, &json!("c")));
    let page = s.request("GET", "/trunks?limit=3&after=c", "", &[]).json();
    assert_eq!((page["trunks"].as_array().unwrap().len(), page.get("next")), (1, None));

    let problem = s.request("GET", "/trunks/x", "", &[("Accept", "application/problem+json")]);
    assert_eq!(problem.header("content-type"), "application/problem+json");
    assert_eq!(problem.json()["detail"], "unknown trunk");
    let head = s.request("HEAD", "/trunks/a", "", &[]);
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(s.request("GET", "/livez", "", &[]).status, 200);
    assert_eq!(s.request("GET", "/nowhere", "", &[]).status, 404);
}

#[test]
fn the_operators_intent_survives_a_new_registration() {
    let mut s = Server::start();
    assert_eq!(s.request("PUT", "/trunks/a/admin", r#"{"state":"draining"}"#, &[]).status, 404);
    s.register("a", 7001, "");
    assert_eq!(s.request("PUT", "/trunks/a/admin", r#"{"state":"asleep"}"#, &[]).status, 400);
    assert_eq!(
        s.request("PUT", "/trunks/a/admin", r#"{"state":"out_of_service","reason":"maintenance"}"#, &[]).status,
        200
    );
    let held = |s: &Server| {
        let record = s.trunk("a");
        assert_eq!(record["status_reasons"], json!(["out of service"]));
        assert_eq!(record["admin"]["reason"], "maintenance");
    };
    held(&s);
    s.register("a", 7002, ",\"admin\":{\"state\":\"in_service\"}");
    held(&s);
    s.kill_and_restart();
    held(&s);
    assert_eq!(s.request("DELETE", "/trunks/a", "", &[]).status, 204);
    s.register("a", 7001, "");
    held(&s);
    assert_eq!(s.request("DELETE", "/trunks/a/admin", "", &[]).status, 204);
    assert_eq!(s.trunk("a")["status_reasons"], json!([]));
}
