//! `/routes` and `/groups`.
#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

mod common;

use common::World;
use serde_json::{Value, json};

const ROUTE: &str = r#"{"match":{"called_prefix":"+4930"},"targets":[{"group":"carriers"}],"labels":{"team":"x"}}"#;

fn ids(answer: &Value, list: &str) -> Vec<String> {
    answer[list].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_route_is_made_read_patched_and_taken_away() {
    let world = World::new().await;
    let answer = world.put("/routes/berlin", ROUTE).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, Some("/routes/berlin")));
    assert_eq!(answer.json()["match"], json!({ "called_prefix": "+4930" }));
    assert_eq!(answer.header("warning"), Some("299 trunkline \"group carriers has no trunks\""));
    let tag = answer.header("etag").unwrap().to_owned();

    world.put("/trunks/a", r#"{"sip_uri":"sip:192.0.2.1","group":"carriers"}"#).await;
    let again = world.put("/routes/berlin", ROUTE).await;
    assert_eq!((again.status.as_u16(), again.header("location"), again.header("warning")), (200, None, None));
    assert_eq!(again.header("etag"), Some(&*tag), "the same again is no change");

    let read = world.get("/routes/berlin").await;
    assert_eq!((read.status.as_u16(), read.header("etag"), read.json()), (200, Some(&*tag), again.json()));
    let sent_back = world.put("/routes/berlin", &read.text()).await;
    assert_eq!(sent_back.header("etag"), Some(&*tag), "what was read may be sent back");
    let unchanged = world.send("GET", "/routes/berlin", &[("if-none-match", &tag)], "").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
    assert_eq!(world.send("HEAD", "/routes/berlin", &[], "").await.status, 200);

    let patched = world.patch("/routes/berlin", r#"{"targets":[{"trunk":"b"}],"precedence":3}"#).await;
    assert_eq!((patched.status.as_u16(), patched.json()["precedence"].clone()), (200, json!(3)));
    assert_eq!(patched.header("warning"), Some("299 trunkline \"trunk b is not registered\""));
    let stale = world.send("PATCH", "/routes/berlin", &[("if-match", &tag)], "{}").await;
    assert_eq!(stale.status, 412);
    let twice = world.send("PUT", "/routes/berlin", &[("if-none-match", "*")], ROUTE).await;
    assert_eq!(twice.json(), json!({ "status": 412, "error": "the route is there already" }));

    for _ in 0..2 {
        assert_eq!(world.send("DELETE", "/routes/berlin", &[], "").await.status, 204, "known or not");
    }
    for method in ["GET", "PATCH"] {
        let answer = world.send(method, "/routes/berlin", &[], "{}").await;
        assert_eq!(answer.json(), json!({ "status": 404, "error": "unknown route" }), "{method}");
    }
    let other = world.send("POST", "/routes/berlin", &[], "").await;
    assert_eq!((other.status.as_u16(), other.header("allow")), (405, Some("GET, HEAD, PUT, PATCH, DELETE")));
}

#[tokio::test]
async fn every_violation_is_told() {
    let world = World::new().await;
    let answer = world.put("/routes/a", r#"{"precedence":-1,"targets":[{"trunk":"a b"}],"labels":[]}"#).await;
    let said = "targets[0].trunk must be an id: 1 to 128 of A-Z a-z 0-9 - . _ ~ : @ +";
    assert_eq!(answer.status, 400);
    assert_eq!((answer.json()["error"].as_str(), answer.json()["field"].as_str()), (Some(said), Some("targets")));
    let wrong = answer.json()["violations"].clone();
    assert_eq!(wrong[0], json!({ "pointer": "/targets/0/trunk", "error": said }));
    let places: Vec<&str> = wrong.as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/targets/0/trunk", "/targets", "/precedence", "/labels"]);

    let answer = world.put("/routes/a", r#"{"targets":[{"trunk":"a"}],"enabled":1}"#).await;
    let expected = json!({ "status": 400, "error": "enabled must be true or false", "field": "enabled" });
    assert_eq!(answer.json(), expected, "one alone stands for itself");

    let answer = world.put("/trunks/a", r#"{"sip_uri":"sip:a","weight":0,"sources":["x"],"tls":{"x":1}}"#).await;
    assert_eq!(answer.json()["error"], "weight must be an integer, 1 to 10000");
    let wrong = answer.json()["violations"].clone();
    let places: Vec<&str> = wrong.as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/weight", "/sources/0", "/tls/x"]);
    let answer = world.put("/trunks/a", r#"{"transport":"sctp","weight":0}"#).await;
    let expected = json!({ "status": 400, "error": "transport must be one of ['tcp', 'tls', 'udp']" });
    assert_eq!(answer.json(), expected, "the fixed answers have two members and no more");
}

#[tokio::test]
async fn groups_have_names_of_any_kind() {
    let world = World::new().await;
    let answer = world.put("/groups/gold%20%2F%20silver", r#"{"policy":"hash","hash_on":"from"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, Some("/groups/gold%20%2F%20silver")));
    assert_eq!(answer.json()["id"], "gold / silver");
    let guard = world.patch("/groups/gold%20%2f%20silver", r#"{"guard":{}}"#).await;
    assert_eq!(guard.json()["guard"]["min_calls"], 20);
    assert_eq!(world.put("/groups/a%00", "{}").await.json()["field"], "id");
    assert_eq!(world.get("/groups/other").await.status, 404);
    world.put("/groups/b", "").await;
    assert_eq!(ids(&world.get("/groups?limit=1").await.json(), "groups"), ["b"]);
    assert_eq!(world.get("/groups?limit=1").await.json()["next"], "b");
    assert_eq!(ids(&world.get("/groups?after=b").await.json(), "groups"), ["gold / silver"]);
    assert_eq!(world.get("/groups?target=b").await.status, 400, "groups have no targets");
}

#[tokio::test]
async fn lists_have_pages_and_filters() {
    let world = World::new().await;
    for n in 0..600 {
        let team = if n % 2 == 0 { "even" } else { "odd" };
        let target = if n % 3 == 0 { r#"{"trunk":"a"}"# } else { r#"{"group":"g"}"# };
        let body = format!(r#"{{"targets":[{target}],"enabled":{},"labels":{{"team":"{team}"}}}}"#, n < 500);
        assert_eq!(world.put(&format!("/routes/r{n:03}"), &body).await.status, 201);
    }
    let all = world.get("/routes").await;
    assert_eq!(ids(&all.json(), "routes").len(), 600);
    assert_eq!(all.json().get("next"), None);
    let tag = all.header("etag").unwrap().to_owned();
    assert_eq!(world.send("GET", "/routes", &[("if-none-match", &tag)], "").await.status, 304);
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = world.get(&format!("/routes?limit=77&target=a&label=team%3Deven&enabled=true{after}")).await.json();
        seen.extend(ids(&page, "routes"));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..500).filter(|n| n % 6 == 0).map(|n| format!("r{n:03}")).collect();
    assert_eq!(seen, expected);
    for (query, message) in [
        ("label=x", "label must be name=value, not 'x'"),
        ("label==x", "label must be name=value, not '=x'"),
        ("enabled=1", "enabled must be true or false, not '1'"),
        ("group=g", "query parameter must be one of enabled, target, label, limit, after, not 'group'"),
    ] {
        assert_eq!(world.get(&format!("/routes?{query}")).await.json()["error"], message, "{query}");
    }
}

#[tokio::test]
async fn trunks_are_found_by_their_labels() {
    let world = World::new().await;
    let put = |id: &str, labels: &str| {
        (format!("/trunks/{id}"), format!(r#"{{"sip_uri":"sip:192.0.2.1","labels":{labels}}}"#))
    };
    for (path, body) in [put("a", r#"{"team":"x","site":"a=b"}"#), put("b", r#"{"team":"y"}"#), put("c", "{}")] {
        let answer = world.put(&path, &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("warning")), (201, None));
    }
    assert_eq!(ids(&world.get("/trunks?label=team=x").await.json(), "trunks"), ["a"]);
    assert_eq!(ids(&world.get("/trunks?label=site=a%3Db").await.json(), "trunks"), ["a"]);
    assert_eq!(ids(&world.get("/trunks?label=team=").await.json(), "trunks"), Vec::<String>::new());
    assert_eq!(world.patch("/trunks/a", r#"{"labels":{"team":null}}"#).await.json()["labels"], json!({"site": "a=b"}));
    let answer = world.put("/trunks/a", r#"{"sip_uri":"sip:192.0.2.1","labels":{"n":1}}"#).await;
    assert_eq!(answer.json()["error"], "labels.n must be a text of at most 128 bytes without control characters");
    assert_eq!(answer.json()["field"], "labels");
}
