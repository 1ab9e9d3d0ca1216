//! `/apply`, `/export`, `/history`, `/rollback`.
#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

mod common;

use std::sync::atomic::Ordering::Relaxed;

use api::Settings;
use common::{Answer, FAILS, World};
use serde_json::{Value, json};

const DOCUMENT: &str = r#"{"trunks":{"a":{"sip_uri":"sip:192.0.2.1","group":"carriers","labels":{"team":"x"},"note":[1.50]},
    "b":{"sip_uri":"sip:192.0.2.2","max_channels":10}},"groups":{"carriers":{"policy":"hash"}},
    "routes":{"berlin":{"match":{"called_prefix":"+4930"},"targets":[{"group":"carriers"}],"labels":{"team":"x"}}}}"#;

const YAML: &str = "
# The same, as people write it.
trunks:
  a: {sip_uri: 'sip:192.0.2.1', group: carriers, labels: &x {team: x}, note: [1.5]}
  b:
    sip_uri: sip:192.0.2.2
    max_channels: 10
groups:
  carriers: {policy: hash}
routes:
  berlin:
    match: {called_prefix: '+4930'}
    targets: [{group: carriers}]
    labels: *x
";

async fn post(world: &World, path: &str, body: &str) -> Answer {
    world.send("POST", path, &[], body).await
}

async fn export(world: &World) -> Value {
    let mut export = world.get("/export").await.json();
    export.as_object_mut().unwrap().remove("base_revision");
    export
}

fn lines(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_value(answer.json()["difference"].clone()).unwrap()
}

#[tokio::test]
async fn a_document_is_applied_exported_and_applied_again() {
    let world = World::new().await;
    let dry = post(&world, "/apply", &DOCUMENT.replacen('{', r#"{"dry_run":true,"#, 1)).await;
    let expected = ["trunk a: added", "trunk b: added", "group carriers: added", "route berlin: added"];
    assert_eq!(lines(&dry), expected);
    assert_eq!((dry.json()["dry_run"].clone(), dry.json()["changed"].clone()), (json!(true), json!(4)));
    assert_eq!(world.get("/trunks/a").await.status, 404, "that was only to look");

    let applied = post(&world, "/apply", DOCUMENT).await;
    assert_eq!(lines(&applied), expected);
    assert_eq!(applied.json()["revision"], 1);
    assert_eq!(applied.json()["warnings"], json!(["trunk a: unknown members kept: note"]));
    assert_eq!(applied.header("warning"), Some("299 trunkline \"trunk a: unknown members kept: note\""));
    assert_eq!(world.get("/trunks/a").await.json()["status"], "up");
    assert_eq!(lines(&post(&world, "/apply", DOCUMENT).await), Vec::<String>::new());
    let yaml = world.send("POST", "/apply", &[("content-type", "application/yaml; charset=utf-8")], YAML).await;
    assert_eq!(lines(&yaml), Vec::<String>::new(), "YAML says the same");

    let exported = world.get("/export").await;
    assert_eq!((exported.status.as_u16(), exported.json()["base_revision"].clone()), (200, json!(1)));
    assert_eq!(exported.json()["routes"]["berlin"]["labels"], json!({ "team": "x" }));
    assert_eq!(lines(&post(&world, "/apply", &exported.text()).await), Vec::<String>::new());
    let tag = exported.header("etag").unwrap().to_owned();
    assert_eq!(world.send("GET", "/export", &[("if-none-match", &tag)], "").await.status, 304);

    let other = World::new().await;
    post(&other, "/apply", &exported.text()).await;
    assert_eq!(export(&other).await, export(&world).await);
}

#[tokio::test]
async fn it_is_all_or_nothing() {
    let world = World::new().await;
    let document = r#"{"trunks":{"a":{"sip_uri":"sip:a"},"b":{"weight":0}},"routes":{"r":{}}}"#;
    let answer = post(&world, "/apply", document).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({
            "status": 400,
            "error": "/trunks/b/weight: weight must be an integer, 1 to 10000 (and 2 more)",
            "violations": [
                { "pointer": "/trunks/b/weight", "error": "weight must be an integer, 1 to 10000" },
                { "pointer": "/trunks/b/sip_uri", "error": "sip_uri is required" },
                { "pointer": "/routes/r/targets",
                  "error": "targets must name at least one group or trunk, as in [{\"group\": \"carriers\"}]" },
            ],
        })
    );
    assert_eq!(world.get("/trunks/a").await.status, 404);
    let alone = post(&world, "/apply", r#"{"trunks":{"b":{}}}"#).await.json();
    assert_eq!(alone["violations"][0]["pointer"], "/trunks/b/sip_uri", "one alone has its place too");
    for (body, kind, message) in [
        ("a: [", "text/yaml", "malformed document (invalid YAML): "),
        ("a: 1\na: 2", "application/yaml", "malformed document (invalid YAML): "),
        ("trunks:\n  a: {sip_uri: 'sip:a', weight: .inf}", "application/yaml", "malformed document (invalid YAML): "),
        ("a: [", "application/json", "malformed document (invalid JSON): "),
        ("- a", "application/x-yaml", "the document must be an object"),
    ] {
        let answer = world.send("POST", "/apply", &[("content-type", kind)], body).await;
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && said.starts_with(message), "{body}: {said}");
    }
    assert_eq!(world.get("/apply").await.header("allow"), Some("POST"));
    assert_eq!(world.send("POST", "/export", &[], "").await.status, 405);
}

#[tokio::test]
async fn what_expands_beyond_measure_is_refused() {
    let world = World::new().await;
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..12 {
        let before = format!("*a{},", n - 1).repeat(10);
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", before.trim_end_matches(',')));
    }
    let begun = std::time::Instant::now();
    let answer = world.send("POST", "/apply", &[("content-type", "application/yaml")], &bomb).await;
    assert_eq!(answer.status, 400, "after {:?}", begun.elapsed());
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for kind in ["application/yaml", "application/json"] {
        assert_eq!(world.send("POST", "/apply", &[("content-type", kind)], &deep).await.status, 400, "{kind}");
    }
}

#[tokio::test]
async fn a_base_that_is_no_more_is_refused_with_what_has_changed() {
    let world = World::new().await;
    post(&world, "/apply", DOCUMENT).await;
    let base = world.get("/export").await.json()["base_revision"].as_u64().unwrap();
    // What is none of the records' business.
    world.put("/trunks/a/admin", r#"{"state":"draining"}"#).await;
    world.patch("/trunks/a", "").await;
    let document = |base: u64| format!(r#"{{"base_revision":{base},"groups":{{"g":{{}}}}}}"#);
    assert_eq!(lines(&post(&world, "/apply", &document(base)).await), ["group g: added"]);
    world.patch("/trunks/a", r#"{"weight":50}"#).await;
    let answer = post(&world, "/apply", &document(base)).await;
    assert_eq!(answer.status, 409);
    let expected = "records have changed since revision 1, last in revision 4: trunk a: weight 100 → 50 (revision 4); \
                    group g: added (revision 3)";
    assert_eq!(answer.json(), json!({ "status": 409, "error": expected }));
    assert_eq!(lines(&post(&world, "/apply", &document(4)).await), Vec::<String>::new());
}

#[tokio::test]
async fn limits_are_told() {
    let settings = Settings { max_apply_bytes: 1 << 20, ..Settings::default() };
    let world = World::with(settings, registry::Settings::default()).await;
    let many: Vec<String> = (0..4096).map(|n| format!(r#""r{n}":{{"targets":[{{"trunk":"a"}}]}}"#)).collect();
    let answer = post(&world, "/apply", &format!(r#"{{"routes":{{{}}}}}"#, many.join(","))).await;
    assert_eq!(answer.status, 413);
    let expected = "this changes too much at once (4097 writes, at most 4096): do it in parts";
    assert_eq!(answer.json()["error"], expected, "the entry of history is one of them");
    assert_eq!(world.get("/routes/r0").await.status, 404);
    let begun = std::time::Instant::now();
    let answer = post(&world, "/apply", &format!(r#"{{"routes":{{{}}}}}"#, many[1..].join(","))).await;
    println!("4095 routes in {:?}", begun.elapsed());
    assert_eq!(lines(&answer).len(), 4095);
    let answer = post(&world, "/apply", &format!(r#"{{"routes":{{}},"x":"{}"}}"#, "x".repeat(1 << 20))).await;
    assert_eq!(answer.json()["error"], "request body must have at most 1048576 bytes");
}

#[tokio::test]
async fn history_tells_who_changed_what_and_keeps_secrets() {
    let world = World::new().await;
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","register":{"username":"u","password":"swordfish"}}"#).await;
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","register":{"username":"u","password":"salmon"},"weight":7}"#).await;
    world.put("/trunks/a", r#"{"sip_uri":"sip:a","register":{"username":"u"},"weight":7}"#).await;
    world.put("/trunks/a/admin", r#"{"state":"draining","reason":"work"}"#).await;
    world.put("/routes/r", r#"{"targets":[{"trunk":"a"}]}"#).await;
    world.patch("/routes/r", r#"{"precedence":2}"#).await;
    world.send("DELETE", "/routes/r", &[], "").await;
    let answer = world.get("/history").await;
    assert!(!answer.text().contains("ha1") && !answer.text().contains("swordfish"), "{}", answer.text());
    let told: Vec<(u64, String, String)> = answer.json()["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let line = entry["difference"][0].as_str().unwrap().to_owned();
            (entry["revision"].as_u64().unwrap(), entry["cause"].as_str().unwrap().to_owned(), line)
        })
        .collect();
    let expected = [
        (6, "DELETE", "route r: removed"),
        (5, "PATCH", "route r: precedence 0 → 2"),
        (4, "PUT", "route r: added"),
        (3, "PUT", "intent of trunk a: added"),
        (2, "PUT", "trunk a: password changed, weight 100 → 7"),
        (1, "PUT", "trunk a: added"),
    ];
    let expected = expected.map(|(revision, cause, line)| (revision, cause.to_owned(), line.to_owned()));
    assert_eq!(told, expected);
    let first = &answer.json()["history"][0];
    assert_eq!((first["actor"].clone(), first["records"].clone()), (json!("unknown"), json!(["route/r"])));

    let revisions = |answer: Answer| -> Vec<u64> {
        let entries = answer.json()["history"].clone();
        entries.as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect()
    };
    assert_eq!(revisions(world.get("/history?record=trunk/a").await), [2, 1]);
    assert_eq!(revisions(world.get("/history?record=intent%2Fa").await), [3]);
    let page = world.get("/history?limit=2&after=6").await;
    assert_eq!(page.json()["next"], 4);
    assert_eq!(revisions(page), [5, 4]);
    assert_eq!(world.get("/history?limit=2&after=3").await.json().get("next"), None);
    for (query, message) in [
        ("after=x", "after must be a revision: an integer, 0 or more, not 'x'"),
        ("record=a", "record must be trunk/ID, intent/ID, group/ID or route/ID, not 'a'"),
    ] {
        assert_eq!(world.get(&format!("/history?{query}")).await.json()["error"], message);
    }
}

#[tokio::test]
async fn a_rollback_makes_it_as_it_was() {
    let world = World::new().await;
    post(&world, "/apply", DOCUMENT).await;
    let before = export(&world).await;
    world.patch("/trunks/a", r#"{"weight":50}"#).await;
    world.send("DELETE", "/trunks/b", &[], "").await;
    world.put("/trunks/c", r#"{"sip_uri":"sip:c"}"#).await;
    world.put("/groups/carriers", "{}").await;
    world.send("DELETE", "/routes/berlin", &[], "").await;
    let expected = [
        "trunk a: weight 50 → 100",
        "trunk b: added",
        "trunk c: removed",
        "group carriers: policy weighted → hash",
        "route berlin: added",
    ];
    assert_eq!(lines(&post(&world, "/rollback", r#"{"revision":1,"dry_run":true}"#).await), expected);
    assert_eq!(lines(&post(&world, "/rollback", r#"{"revision":1}"#).await), expected);
    assert_eq!(export(&world).await, before);
    assert_eq!(world.get("/trunks/b").await.json()["status"], "up", "its lease begins anew");
    let last = world.get("/history?limit=1").await.json()["history"][0].clone();
    assert_eq!((last["cause"].clone(), last["revision"].clone()), (json!("rollback to 1"), json!(7)));
    assert_eq!(lines(&post(&world, "/rollback", r#"{"revision":6}"#).await).len(), 5, "and back again");
    assert_eq!(lines(&post(&world, "/rollback", r#"{"revision":0}"#).await).len(), 3, "to nothing");
    assert_eq!(export(&world).await, json!({ "trunks": {}, "groups": {}, "routes": {} }));

    let answer = post(&world, "/rollback", r#"{"revision":99}"#).await;
    assert_eq!(answer.json(), json!({ "status": 409, "error": "revision 99 is yet to come: the registry is at 9" }));
    for body in ["", "{}", r#"{"revision":-1}"#, r#"{"revision":1,"dryrun":true}"#] {
        let answer = post(&world, "/rollback", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_store_that_fails_changes_nothing() {
    let world = World::new().await;
    world.store.mood.store(FAILS, Relaxed);
    let answer = post(&world, "/apply", DOCUMENT).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!(export(&world).await, json!({ "trunks": {}, "groups": {}, "routes": {} }));
}
