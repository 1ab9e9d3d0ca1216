//! The fixed table, row by row and to the letter: clients of the original service depend on it.

mod common;

use common::World;
use serde_json::json;

const BODY: &str = r#"{"sip_uri":"sip:192.0.2.1:5060"}"#;

#[tokio::test]
async fn put_of_a_new_id_creates() {
    let world = World::new().await;
    let answer = world.put("/trunks/a", BODY).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), Some("/trunks/a"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let record = answer.json();
    assert_eq!((&record["id"], &record["sip_uri"]), (&json!("a"), &json!("sip:192.0.2.1:5060")));
    assert_eq!((&record["transport"], &record["enabled"]), (&json!("udp"), &json!(true)));
    assert_eq!((&record["status"], &record["heartbeat_seconds"]), (&json!("up"), &json!(30)));
    assert_eq!(world.get("/trunks/a").await.json(), record);
}

#[tokio::test]
async fn put_of_a_known_id_replaces() {
    let world = World::new().await;
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","weight":7}"#).await;
    let answer = world.put("/trunks/a", BODY).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (200, None));
    assert_eq!(answer.json()["weight"], 100);
    // The very same again, which writes nothing, answers no differently.
    let again = world.put("/trunks/a", BODY).await;
    assert_eq!((again.status.as_u16(), again.header("location")), (200, None));
    assert_eq!(again.json()["sip_uri"], "sip:192.0.2.1:5060");
}

#[tokio::test]
async fn errors_are_exact() {
    let world = World::new().await;
    let invalid = r#"{"status":400,"error":"malformed trunk record (invalid JSON)"}"#;
    let required = r#"{"status":400,"error":"sip_uri is required"}"#;
    let transport = r#"{"status":400,"error":"transport must be one of ['tcp', 'tls', 'udp']"}"#;
    for (method, path, body, status, expected) in [
        ("PUT", "/trunks/a", "sip_uri=sip:a", 400, invalid),
        ("PUT", "/trunks/a", "{\"sip_uri\":", 400, invalid),
        ("PUT", "/trunks/a", "", 400, required),
        ("PUT", "/trunks/a", "{}", 400, required),
        ("PUT", "/trunks/a", r#"{"sip_uri":""}"#, 400, required),
        ("PUT", "/trunks/a", r#"{"sip_uri":"sip:a","transport":"sctp"}"#, 400, transport),
        ("PATCH", "/trunks/a", "", 404, r#"{"status":404,"error":"unknown trunk — re-register with PUT"}"#),
        ("PATCH", "/trunks/a", "{}", 404, r#"{"status":404,"error":"unknown trunk — re-register with PUT"}"#),
        ("GET", "/trunks/a", "", 404, r#"{"status":404,"error":"unknown trunk"}"#),
    ] {
        let answer = world.send(method, path, &[], body).await;
        assert_eq!(answer.status, status, "{method} {body}");
        assert_eq!(answer.text(), expected, "{method} {body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn patch_without_a_body_is_a_heartbeat() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    let revision = world.control.revision();
    let before = world.get("/trunks/a").await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let answer = world.patch("/trunks/a", "").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    let after = world.get("/trunks/a").await;
    assert!(after.json()["lease_expires_at"].as_str() > before.json()["lease_expires_at"].as_str());
    assert_eq!(after.header("etag"), before.header("etag"));
    assert_eq!(world.control.revision(), revision, "a heartbeat writes nothing");
}

#[tokio::test]
async fn delete_is_204_known_or_not() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    for _ in 0..2 {
        let answer = world.delete("/trunks/a").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    }
    assert_eq!(world.get("/trunks/a").await.status, 404);
}

#[tokio::test]
async fn discovery_filters() {
    let world = World::new().await;
    assert_eq!(world.get("/trunks").await.text(), r#"{"trunks":[]}"#);
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","transport":"tls"}"#).await;
    world.put("/trunks/b", r#"{"sip_uri":"sip:b","transport":"tls","enabled":false}"#).await;
    world.put("/trunks/c", r#"{"sip_uri":"sip:c","group":"east side"}"#).await;
    for (query, expected) in [
        ("", &["a", "b", "c"][..]),
        ("?enabled=true&transport=tls", &["a"]),
        ("?enabled=TRUE", &["a", "c"]),
        ("?enabled=False", &["b"]),
        ("?transport=udp", &["c"]),
        ("?transport=tcp", &[]),
        ("?group=east+side", &["c"]),
        ("?group=east%20side&enabled=true", &["c"]),
        ("?group=default", &["a", "b"]),
        ("?status=any", &["a", "b", "c"]),
        ("?status=down", &[]),
    ] {
        assert_eq!(world.ids(&format!("/trunks{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let world = World::new().await;
    for (path, allow) in [
        ("/trunks", "GET, HEAD"),
        ("/trunks/a", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/trunks/a/admin", "GET, HEAD, PUT, DELETE"),
        ("/calls", "GET, HEAD"),
        ("/livez", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS", "TRACE", "PROPFIND"] {
            let answer = world.send(method, path, &[], "").await;
            let refused = answer.status == 405;
            assert_eq!(refused, !allow.split(", ").any(|allowed| allowed == method), "{method} {path}");
            if refused {
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
                assert_eq!(answer.json()["status"], 405);
            }
        }
    }
}

#[tokio::test]
async fn any_content_type_will_do() {
    let world = World::new().await;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", "?"] {
        let answer = world.send("PUT", "/trunks/a", &[("content-type", kind)], BODY).await;
        assert!(answer.status.is_success(), "{kind}");
    }
}

#[tokio::test]
async fn unknown_members_come_back_with_a_warning() {
    let world = World::new().await;
    let answer = world.put("/trunks/a", r#"{"sip_uri":"sip:a","max_chanels":5,"note":{"b":1,"a":[ 2 ]}}"#).await;
    assert_eq!(answer.header("warning"), Some("299 trunkline \"unknown members kept: max_chanels, note\""));
    assert!(answer.text().contains(r#""note":{"b":1,"a":[ 2 ]}"#));
    assert!(world.get("/trunks/a").await.text().contains(r#""note":{"b":1,"a":[ 2 ]}"#));
    let answer = world.patch("/trunks/a", r#"{"wieght":5}"#).await;
    assert_eq!(answer.header("warning"), Some("299 trunkline \"unknown members kept: wieght\""));
    assert_eq!(world.put("/trunks/b", BODY).await.header("warning"), None);
}

#[tokio::test]
async fn what_is_the_servers_is_ignored() {
    let world = World::new().await;
    let body = r#"{"sip_uri":"sip:a","id":"z","status":"down","status_reasons":["x"],"lease_expires_at":"never",
        "registered_at":5,"active_calls":99,"admin":{"state":"draining"}}"#;
    let answer = world.put("/trunks/a", body).await;
    assert_eq!(answer.header("warning"), None);
    let record = answer.json();
    assert_eq!((&record["id"], &record["status"]), (&json!("a"), &json!("up")));
    assert_eq!((&record["status_reasons"], &record["active_calls"]), (&json!([]), &json!(0)));
    assert_eq!(record["admin"], json!(null));
    assert!(record["registered_at"].is_string());
}
