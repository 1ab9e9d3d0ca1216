//! What the interface has beyond the original's.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use api::{Call, Settings};
use axum::body::Body;
use bytes::Bytes;
use common::{FAILS, HANGS, World, build};
use serde_json::json;

const BODY: &str = r#"{"sip_uri":"sip:192.0.2.1"}"#;

#[tokio::test]
async fn ids_are_percent_decoded_and_checked() {
    let world = World::new().await;
    let answer = world.put("/trunks/a%40b%3A1", BODY).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, Some("/trunks/a@b:1")));
    assert_eq!(world.get("/trunks/a@b:1").await.json()["id"], "a@b:1");
    assert_eq!(world.patch("/trunks/a%40b:1", "").await.status, 204);
    let long = format!("/trunks/{}", "x".repeat(129));
    for (method, path) in [
        ("PUT", "/trunks/a%2Fb"),
        ("GET", "/trunks/a%20b"),
        ("PATCH", "/trunks/%zz"),
        ("DELETE", "/trunks/%ff"),
        ("PUT", &long),
    ] {
        let answer = world.send(method, path, &[], BODY).await;
        assert_eq!(answer.status, 400, "{path}");
        let expected =
            json!({"status": 400, "error": "id must have 1 to 128 of A-Z a-z 0-9 - . _ ~ : @ +", "field": "id"});
        assert_eq!(answer.json(), expected, "{path}");
    }
}

#[tokio::test]
async fn other_paths_are_404_json() {
    let world = World::new().await;
    for path in ["/", "/trunks/", "/trunks/a/b", "/trunks/a/admin/x", "/nowhere"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json(), json!({"status": 404, "error": "no such path"}), "{path}");
    }
}

#[tokio::test]
async fn wrong_members_are_named() {
    let world = World::new().await;
    let answer = world.put("/trunks/a", r#"{"sip_uri":"sip:a","weight":"heavy"}"#).await;
    let expected = json!({"status": 400, "error": "weight must be an integer, 1 to 10000", "field": "weight"});
    assert_eq!((answer.status.as_u16(), answer.json()), (400, expected));
    let answer = world.put("/trunks/a", "[1]").await;
    assert_eq!(answer.json(), json!({"status": 400, "error": "trunk record must be a JSON object"}));
}

#[tokio::test]
async fn wrong_filters_are_named() {
    let world = World::new().await;
    for (query, field, message) in [
        ("enabled=yes", "enabled", "enabled must be true or false, not 'yes'"),
        ("enabled=", "enabled", "enabled must be true or false, not ''"),
        ("transport=sctp", "transport", "transport must be one of ['tcp', 'tls', 'udp'], not 'sctp'"),
        ("status=sick", "status", "status must be one of ['any', 'down', 'up'], not 'sick'"),
        ("limit=0", "limit", "limit must be an integer, 1 to 1000, not '0'"),
        ("limit=1001", "limit", "limit must be an integer, 1 to 1000, not '1001'"),
        ("limit=x", "limit", "limit must be an integer, 1 to 1000, not 'x'"),
        ("group=", "group", "group must have 1 to 128 bytes without control characters"),
        ("group=a%00", "group", "group must have 1 to 128 bytes without control characters"),
        ("group=a&group=b", "group", "group must be given once"),
        ("group=%f", "group", "group must be percent-encoded UTF-8"),
        (
            "enable=true",
            "enable",
            "query parameter must be one of enabled, transport, status, group, label, limit, after, not 'enable'",
        ),
    ] {
        let answer = world.get(&format!("/trunks?{query}")).await;
        assert_eq!(answer.json(), json!({"status": 400, "error": message, "field": field}), "{query}");
    }
}

#[tokio::test]
async fn errors_as_problem_details() {
    let world = World::new().await;
    let accept = [("accept", "application/json, application/problem+json")];
    let answer = world.send("PUT", "/trunks/a", &accept, r#"{"sip_uri":"sip:a","weight":0}"#).await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let expected = json!({"type": "about:blank", "title": "Bad Request", "status": 400,
        "detail": "weight must be an integer, 1 to 10000", "field": "weight"});
    assert_eq!(answer.json(), expected);
    let answer = world.send("POST", "/trunks", &accept, "").await;
    assert_eq!(
        (answer.header("allow"), answer.json()["title"].as_str()),
        (Some("GET, HEAD"), Some("Method Not Allowed"))
    );
}

#[tokio::test]
async fn conditional_writes_and_reads() {
    let world = World::new().await;
    let first = world.put("/trunks/a", BODY).await.header("etag").unwrap().to_owned();
    assert!(first.starts_with('"') && first.ends_with('"'));
    let on = |name: &'static str, value: &str| [(name, value.to_owned())];
    let send = async |method: &str, path: &str, header: [(&'static str, String); 1], body: &str| {
        let headers = [(header[0].0, header[0].1.as_str())];
        world.send(method, path, &headers, body).await
    };
    let other = r#"{"sip_uri":"sip:other"}"#;
    // Reads.
    let answer = send("GET", "/trunks/a", on("if-none-match", &first), "").await;
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.header("etag")), (304, 0, Some(&*first)));
    assert_eq!(send("GET", "/trunks/a", on("if-none-match", "\"0\", W/\"99\""), "").await.status, 200);
    assert_eq!(send("GET", "/trunks/a", on("if-none-match", &format!("W/{first}")), "").await.status, 304);
    // Writes that must not happen.
    for (method, path, header) in [
        ("PUT", "/trunks/a", on("if-none-match", "*")),
        ("PUT", "/trunks/a", on("if-match", "\"0\"")),
        ("PUT", "/trunks/a", on("if-match", &format!("W/{first}"))),
        ("PUT", "/trunks/new", on("if-match", "*")),
        ("PATCH", "/trunks/a", on("if-match", "\"0\"")),
        ("DELETE", "/trunks/a", on("if-match", "\"0\"")),
    ] {
        let answer = send(method, path, header.clone(), other).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (412, &json!(412)), "{method} {header:?}");
    }
    // A heartbeat may be conditional, too.
    assert_eq!(send("PATCH", "/trunks/a", on("if-match", "\"0\""), "").await.status, 412);
    assert_eq!(send("PATCH", "/trunks/a", on("if-match", &first), "").await.status, 204);
    assert_eq!(send("PATCH", "/trunks/new", on("if-match", "*"), "").await.status, 404);
    assert_eq!(world.get("/trunks/a").await.header("etag"), Some(&*first));
    // Writes that may.
    let answer = send("PUT", "/trunks/a", on("if-match", &first), other).await;
    let second = answer.header("etag").unwrap().to_owned();
    assert_eq!((answer.status.as_u16(), second != first), (200, true));
    assert_eq!(send("PUT", "/trunks/a", on("if-match", &first), BODY).await.status, 412);
    assert_eq!(send("PUT", "/trunks/new", on("if-none-match", "*"), BODY).await.status, 201);
    assert_eq!(send("DELETE", "/trunks/a", on("if-match", &second), "").await.status, 204);
    assert_eq!(send("PUT", "/trunks/b", on("if-match", "unquoted"), BODY).await.status, 400);
}

#[tokio::test]
async fn a_patch_merges() {
    let world = World::new().await;
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","weight":5,"note":{"x":1,"y":2}}"#).await;
    let tag = world.get("/trunks/a").await.header("etag").unwrap().to_owned();
    assert_eq!(world.patch("/trunks/a", "{}").await.status, 204);
    assert_eq!(world.patch("/trunks/a", r#"{"weight":5,"status":"down"}"#).await.status, 204);
    let answer = world.patch("/trunks/a", r#"{"weight":null,"note":{"x":null,"z":3},"enabled":false}"#).await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("etag"), Some(&*tag));
    let record = answer.json();
    assert_eq!((&record["weight"], &record["note"]), (&json!(100), &json!({"y": 2, "z": 3})));
    assert_eq!(record["status_reasons"], json!(["disabled"]));
    assert_eq!(world.patch("/trunks/a", r#"{"sip_uri":null}"#).await.status, 400);
    assert_eq!(world.patch("/trunks/a", "{").await.status, 400);
}

#[tokio::test]
async fn pages() {
    let world = World::new().await;
    for n in 0..7 {
        let enabled = n % 2 == 0;
        world.put(&format!("/trunks/t+{n}"), &format!(r#"{{"sip_uri":"sip:a","enabled":{enabled}}}"#)).await;
    }
    let mut seen = Vec::new();
    let mut path = "/trunks?limit=3".to_owned();
    loop {
        let answer = world.get(&path).await.json();
        let ids: Vec<_> =
            answer["trunks"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect();
        assert!(ids.len() <= 3);
        seen.extend(ids);
        let Some(next) = answer["next"].as_str() else { break };
        path = format!("/trunks?limit=3&after={next}");
    }
    assert_eq!(seen, (0..7).map(|n| format!("t+{n}")).collect::<Vec<_>>());
    // Exactly full is not more; a filter counts before the page does.
    assert_eq!(world.get("/trunks?limit=7").await.json().get("next"), None);
    let answer = world.get("/trunks?limit=2&enabled=true&after=t%2B0").await.json();
    assert_eq!((answer["trunks"].as_array().unwrap().len(), &answer["next"]), (2, &json!("t+4")));
    assert_eq!(world.ids("/trunks?after=t+4").await, ["t+5", "t+6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_whole() {
    let world = World::new().await;
    let puts = (0..1500).map(|n| {
        let world = world.router.clone();
        tokio::spawn(async move {
            use tower::ServiceExt;
            world.oneshot(build("PUT", &format!("/trunks/t{n:04}"), &[], Body::from(BODY))).await.unwrap().status()
        })
    });
    for put in puts.collect::<Vec<_>>() {
        assert_eq!(put.await.unwrap(), 201);
    }
    let expected: Vec<String> = (0..1500).map(|n| format!("t{n:04}")).collect();
    assert_eq!(world.ids("/trunks").await, expected);
    assert_eq!(world.ids("/trunks?limit=1000").await, expected[..1000]);
    // Whole portions without a match, at both ends.
    world.put("/trunks/t0700", r#"{"sip_uri":"sip:a","group":"g"}"#).await;
    assert_eq!(world.ids("/trunks?group=g").await, ["t0700"]);
    assert_eq!(world.ids("/trunks?group=g&limit=1").await, ["t0700"]);
    assert_eq!(world.ids("/trunks?group=none").await, Vec::<String>::new());
    // A list says when it has not changed.
    let tag = world.get("/trunks?limit=1").await.header("etag").unwrap().to_owned();
    assert_eq!(world.send("GET", "/trunks", &[("if-none-match", &tag)], "").await.status, 304);
    world.delete("/trunks/t0001").await;
    assert_eq!(world.send("GET", "/trunks", &[("if-none-match", &tag)], "").await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    for path in ["/trunks/a", "/trunks?limit=5", "/trunks", "/calls", "/livez", "/readyz", "/trunks/none"] {
        let (get, head) = (world.get(path).await, world.send("HEAD", path, &[], "").await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("etag"), get.header("etag"), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
    }
}

#[tokio::test]
async fn the_operators_intent() {
    let world = World::new().await;
    let path = "/trunks/a/admin";
    assert_eq!(world.put(path, r#"{"state":"draining"}"#).await.status, 404);
    world.put("/trunks/a", BODY).await;
    assert_eq!(world.get(path).await.status, 404);
    let tag = world.get("/trunks/a").await.header("etag").unwrap().to_owned();
    let intent = json!({"state": "draining", "reason": "move", "until": "2999-01-01T00:00:00Z"});
    let answer = world.put(path, &intent.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, intent.clone()));
    assert_eq!(world.get(path).await.json(), intent);
    let record = world.get("/trunks/a").await;
    assert_ne!(record.header("etag"), Some(&*tag));
    assert_eq!((&record.json()["admin"], &record.json()["status"]), (&intent, &json!("up")));
    assert_eq!(record.json()["status_reasons"], json!(["draining"]));
    // It outlives its trunk.
    world.delete("/trunks/a").await;
    assert_eq!(world.put("/trunks/a", BODY).await.json()["admin"], intent);
    for _ in 0..2 {
        assert_eq!(world.delete(path).await.status, 204);
    }
    assert_eq!(world.get("/trunks/a").await.json()["status_reasons"], json!([]));
    let answer = world.put(path, r#"{"state":"off"}"#).await;
    let message = "state must be one of ['draining', 'in_service', 'out_of_service']";
    assert_eq!(answer.json(), json!({"status": 400, "error": message, "field": "state"}));
    assert_eq!(world.get("/trunks/a%2f/admin").await.status, 400);
}

#[tokio::test]
async fn what_the_router_sees_is_in_the_record() {
    let world = World::new().await;
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","enabled":false}"#).await;
    world.sight.active.lock().unwrap().insert("a".into(), 2);
    world.sight.reasons.lock().unwrap().insert("a".into(), vec!["full 2/2".into()]);
    let record = world.get("/trunks/a").await.json();
    assert_eq!((&record["active_calls"], &record["status_reasons"]), (&json!(2), &json!(["disabled", "full 2/2"])));
    assert_eq!(world.get("/trunks").await.json()["trunks"][0], record);
}

#[tokio::test]
async fn quality_of_a_trunk() {
    let world = World::new().await;
    assert_eq!(world.get("/trunks/none/quality").await.status, 404);
    world.put("/trunks/a", r#"{"sip_uri":"sip:192.0.2.1"}"#).await;
    let answer = world.get("/trunks/a/quality").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (404, &json!("nothing is counted yet")));
    world.sight.active.lock().unwrap().insert("a".to_owned(), 1);
    let answer = world.get("/trunks/a/quality").await.json();
    assert_eq!(answer, json!({ "trunk": "a", "limit": 100, "after": null }));
    let answer = world.get("/trunks/a/quality?limit=7&after=+49").await.json();
    assert_eq!(answer, json!({ "trunk": "a", "limit": 7, "after": "+49" }));
    let answer = world.get("/trunks/a/quality?prefix=+49").await.json();
    assert_eq!(answer, json!({ "trunk": "a", "prefix": "+49" }), "a plus is no space");
    assert_eq!(world.get("/trunks/a/quality?prefix=%2B4").await.status, 404);
    let answer = world.get("/trunks/a/quality?prefixes=1").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &json!("prefixes")));
    assert_eq!(world.send("POST", "/trunks/a/quality", &[], "").await.header("allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn standing_calls() {
    let world = World::new().await;
    assert_eq!(world.get("/calls").await.text(), r#"{"calls":[]}"#);
    let call = |n: u8| Call {
        id: format!("{n}@host"),
        from: "sip:alice@a".into(),
        to: "sip:bob@b".into(),
        trunk: "a".into(),
        state: "ringing",
        since: "2026-11-01T00:00:00Z".parse().unwrap(),
    };
    *world.sight.calls.lock().unwrap() = (1..=3).map(call).collect();
    let answer = world.get("/calls?limit=2").await.json();
    let first = json!({"id": "1@host", "from": "sip:alice@a", "to": "sip:bob@b", "trunk": "a", "state": "ringing",
        "since": "2026-11-01T00:00:00Z"});
    assert_eq!((&answer["calls"][0], &answer["next"]), (&first, &json!("2@host")));
    let answer = world.get("/calls?limit=2&after=2@host").await.json();
    assert_eq!((&answer["calls"][0]["id"], answer.get("next")), (&json!("3@host"), None));
    assert_eq!(world.get("/calls?limit=3").await.json().get("next"), None);
    assert_eq!(world.get("/calls?trunk=a").await.status, 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let settings = Settings { max_body_bytes: 100, ..Settings::default() };
    let world = World::with(settings, registry::Settings::default()).await;
    let body = |length: usize| format!("{{\"sip_uri\":\"sip:a\",\"n\":\"{}\"}}", "x".repeat(length - 26));
    assert_eq!(body(100).len(), 100);
    assert_eq!(world.put("/trunks/a", &body(100)).await.status, 201);
    assert_eq!(world.put("/trunks/a", &body(101)).await.status, 413);
    assert_eq!(world.patch("/trunks/a", &body(101)).await.status, 413);
    assert_eq!(world.put("/trunks/a/admin", &body(101)).await.status, 413);
    // Announced too long, nothing of it is waited for; not announced, it is cut off where the limit is.
    let endless = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
    let announced = [("content-length", "101")];
    let answer = world.request(build("PUT", "/trunks/a", &announced, Body::from_stream(endless))).await;
    assert_eq!(answer.json()["error"], "request body must have at most 100 bytes");
    let pieces =
        tokio_stream::iter(std::iter::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 30]))));
    assert_eq!(world.request(build("PUT", "/trunks/a", &[], Body::from_stream(pieces))).await.status, 413);
}

#[tokio::test]
async fn a_request_over_its_time_is_504() {
    let settings = Settings { request_timeout: Duration::from_millis(50), ..Settings::default() };
    let world = World::with(settings, registry::Settings::default()).await;
    for (method, path) in [("PUT", "/trunks/a"), ("PATCH", "/trunks/a"), ("PUT", "/trunks/a/admin")] {
        let slow = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
        let answer = world.request(build(method, path, &[], Body::from_stream(slow))).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (504, &json!(504)), "{method} {path}");
    }
    world.store.mood.store(HANGS, Relaxed);
    assert_eq!(world.put("/trunks/a", BODY).await.status, 504);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400() {
    let world = World::new().await;
    let broken = tokio_stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))]);
    let answer = world.request(build("PUT", "/trunks/a", &[], Body::from_stream(broken))).await;
    assert_eq!(answer.json(), json!({"status": 400, "error": "request body broke off"}));
}

#[tokio::test]
async fn without_the_store_writes_are_503_and_heartbeats_go_on() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    world.store.mood.store(FAILS, Relaxed);
    let answer = world.put("/trunks/b", BODY).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["error"], "store unavailable: disk full");
    assert_eq!(world.patch("/trunks/a", "").await.status, 204);
    assert_eq!(world.get("/trunks/a").await.status, 200);
    let ready = world.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.header("retry-after")), (503, Some("1")));
    assert_eq!(ready.json()["failing"], json!({"registry": "store: disk full"}));
}

#[tokio::test]
async fn liveness_and_readiness() {
    let world = World::new().await;
    let live = world.get("/livez").await;
    assert_eq!((live.status.as_u16(), live.text()), (200, "ok\n".to_owned()));
    let ready = world.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["ready"]), (200, &json!(true)));
    *world.sight.failing.lock().unwrap() = Some("the SIP router is starting".into());
    let ready = world.get("/readyz").await.json();
    assert_eq!((&ready["status"], &ready["error"]), (&json!(503), &json!("router: the SIP router is starting")));
    assert_eq!(world.get("/livez").await.status, 200);
}

#[tokio::test]
async fn metrics_count() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    for _ in 0..3 {
        world.patch("/trunks/a", "").await;
    }
    world.send("BREW", "/trunks/a", &[], "").await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        r#"trunkline_http_requests_total{route="/trunks/{id}",method="PATCH",code="204"} 3"#,
        r#"trunkline_http_requests_total{route="/trunks/{id}",method="PUT",code="201"} 1"#,
        r#"trunkline_http_requests_total{route="/trunks/{id}",method="other",code="405"} 1"#,
        r#"trunkline_trunks{status="up"} 1"#,
        r#"trunkline_trunks{status="down"} 0"#,
        "trunkline_lease_expiries_total 0",
        "# TYPE trunkline_registry_revision gauge",
        "router_says 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
