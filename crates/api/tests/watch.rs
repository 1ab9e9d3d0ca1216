//! The event stream, and the life of a lease as clients see it.

mod common;

use std::time::Duration;

use api::Settings;
use common::{World, told};
use serde_json::json;

const BODY: &str = r#"{"sip_uri":"sip:192.0.2.1"}"#;

#[tokio::test]
async fn the_set_and_then_every_change() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    world.put("/trunks/b", r#"{"sip_uri":"sip:b","enabled":false}"#).await;
    let mut events = world.watch("/trunks", None).await;
    let set = told(&[("reset", ""), ("registered", "a"), ("registered", "b"), ("synced", "")]);
    assert_eq!(events.take(4).await, set);
    world.put("/trunks/c", BODY).await;
    // What is of no trunk is not told here.
    world.put("/routes/r", r#"{"targets":[{"trunk":"c"}]}"#).await;
    world.put("/groups/g", "{}").await;
    world.patch("/trunks/c", r#"{"weight":5}"#).await;
    world.patch("/trunks/c", "").await;
    world.put("/trunks/c/admin", r#"{"state":"draining"}"#).await;
    world.delete("/trunks/a").await;
    let registered = events.next().await;
    assert_eq!((&*registered.kind, &registered.data["weight"]), ("registered", &json!(100)));
    let updated = events.next().await;
    assert_eq!((&*updated.kind, &updated.data["weight"]), ("updated", &json!(5)));
    let drained = events.next().await;
    assert_eq!((&*drained.kind, &drained.data["status_reasons"]), ("updated", &json!(["draining"])));
    let gone = events.next().await;
    assert_eq!((&*gone.kind, &gone.data["id"]), ("deregistered", &json!("a")));
    assert!([registered, updated, drained, gone].iter().all(|event| event.id.is_some()));
}

#[tokio::test]
async fn a_stream_resumes_after_a_change_and_inside_the_set() {
    let world = World::new().await;
    for id in ["a", "b", "c"] {
        world.put(&format!("/trunks/{id}"), BODY).await;
    }
    let mut events = world.watch("/trunks", None).await;
    events.next().await;
    let (inside, _b) = (events.next().await, events.next().await);
    assert_eq!(inside.data["id"], "a");
    events.next().await;
    let synced = events.next().await;
    assert_eq!(synced.kind, "synced");
    drop(events);

    world.put("/trunks/d", BODY).await;
    world.delete("/trunks/b").await;
    let changes = told(&[("registered", "d"), ("deregistered", "b")]);
    let mut resumed = world.watch("/trunks", synced.id.as_deref()).await;
    assert_eq!(resumed.take(2).await, changes);

    // The rest of the set as it is now, then what has changed since the set was begun.
    let mut resumed = world.watch("/trunks", inside.id.as_deref()).await;
    let rest = told(&[("registered", "c"), ("registered", "d"), ("synced", "")]);
    assert_eq!(resumed.take(3).await, rest);
    assert_eq!(resumed.take(2).await, changes);

    // Another process's id, or nonsense: the whole set.
    for stranger in ["1-1", "1-1/a", "nonsense", "18446744073709551615-0"] {
        let mut fresh = world.watch("/trunks", Some(stranger)).await;
        assert_eq!(fresh.next().await.kind, "reset", "{stranger}");
    }
}

#[tokio::test]
async fn a_filtered_watch_tells_of_what_leaves_the_filter_once() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    world.put("/trunks/b", r#"{"sip_uri":"sip:b","enabled":false}"#).await;
    let mut events = world.watch("/trunks?enabled=true", None).await;
    assert_eq!(events.take(3).await, told(&[("reset", ""), ("registered", "a"), ("synced", "")]));
    world.patch("/trunks/b", r#"{"weight":2}"#).await; // passes not, and did not
    world.patch("/trunks/a", r#"{"enabled":false}"#).await; // leaves
    world.patch("/trunks/a", r#"{"weight":2}"#).await; // is out
    world.patch("/trunks/b", r#"{"enabled":true}"#).await; // comes in
    world.delete("/trunks/a").await; // is out
    world.delete("/trunks/b").await; // leaves
    world.put("/trunks/c", BODY).await;
    let expected = told(&[("updated", "a"), ("updated", "b"), ("deregistered", "b"), ("registered", "c")]);
    assert_eq!(events.take(4).await, expected);
}

#[tokio::test]
async fn a_resumed_filtered_watch_hears_of_what_leaves_but_not_of_what_was_never_in() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    let mut events = world.watch("/trunks?enabled=true", None).await;
    let synced = loop {
        let event = events.next().await;
        if event.kind == "synced" {
            break event;
        }
    };
    drop(events);
    let off = r#"{"sip_uri":"sip:b","enabled":false}"#;
    world.put("/trunks/b", off).await; // passes not
    world.delete("/trunks/b").await;
    world.patch("/trunks/a", r#"{"enabled":false}"#).await; // leaves
    world.delete("/trunks/a").await; // is out
    world.put("/trunks/a", off).await; // comes back, but not into the filter
    world.put("/trunks/c", BODY).await;
    world.delete("/trunks/c").await; // leaves by going
    world.put("/trunks/c", off).await;
    world.put("/trunks/d", BODY).await;
    let mut resumed = world.watch("/trunks?enabled=true", synced.id.as_deref()).await;
    let expected = told(&[("updated", "a"), ("registered", "c"), ("deregistered", "c"), ("registered", "d")]);
    assert_eq!(resumed.take(4).await, expected);
}

#[tokio::test]
async fn a_client_that_falls_behind_gets_the_set_anew() {
    let world = World::new().await;
    world.put("/trunks/a", BODY).await;
    let mut events = world.watch("/trunks", None).await;
    assert_eq!(events.take(3).await[2].0, "synced");
    // Nobody reads; more happens than is kept.
    let intent = async |state: &str| {
        let command =
            registry::Command::SetAdmin { id: "a".into(), body: format!("{{\"state\":\"{state}\"}}").into_bytes() };
        world.control.execute(command, &control::Actor::Unknown).await.unwrap();
    };
    let note = "n".repeat(2000);
    world.patch("/trunks/a", &format!("{{\"note\":\"{note}\"}}")).await;
    for _ in 0..control::EVENTS_KEPT + 3000 {
        intent("draining").await;
    }
    intent("out_of_service").await;
    let mut kinds = Vec::new();
    loop {
        let event = events.next().await;
        kinds.push(event.kind.clone());
        if event.data["status_reasons"] == json!(["out of service"]) {
            break;
        }
    }
    assert!(kinds.iter().any(|kind| kind == "reset"), "{} events without a reset", kinds.len());
}

#[tokio::test]
async fn a_member_with_line_breaks_stays_one_event() {
    let world = World::new().await;
    world.put("/trunks/a", "{\"sip_uri\":\"sip:a\",\"note\":[1,\n\n2,\r3]}").await;
    let mut events = world.watch("/trunks", None).await;
    events.next().await;
    assert_eq!(events.next().await.data["note"], json!([1, 2, 3]));
    assert_eq!(events.next().await.kind, "synced");
}

#[tokio::test]
async fn a_watch_has_filters_but_no_pages_and_head_ends() {
    let world = World::new().await;
    let accept = [("accept", "text/event-stream")];
    assert_eq!(world.send("GET", "/trunks?limit=5", &accept, "").await.status, 400);
    assert_eq!(world.send("GET", "/trunks?status=ill", &accept, "").await.status, 400);
    assert_eq!(world.send("HEAD", "/trunks", &accept, "").await.status, 200);
    let watchers = async || {
        let text = world.get("/metrics").await.text();
        text.lines().find_map(|line| line.strip_prefix("trunkline_http_watchers ")).unwrap().to_owned()
    };
    let mut events = world.watch("/trunks", None).await;
    events.next().await;
    assert_eq!(watchers().await, "1");
    drop(events);
    for _ in 0..500 {
        if watchers().await == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a watcher stayed after its client had gone");
}

/// Takes as long as the shortest lease.
#[tokio::test]
async fn a_lease_lapses_comes_back_and_ends() {
    let rules = registry::Settings { deregister_after: Duration::from_secs(2), ..registry::Settings::default() };
    let world = World::with(Settings::default(), rules).await;
    let short = r#"{"sip_uri":"sip:a","heartbeat_seconds":5}"#;
    world.put("/trunks/a", short).await;
    world.put("/trunks/b", BODY).await;
    let tag = world.get("/trunks/a").await.header("etag").unwrap().to_owned();
    let mut all = world.watch("/trunks", None).await;
    let mut up = world.watch("/trunks?status=up", None).await;
    let set = told(&[("reset", ""), ("registered", "a"), ("registered", "b"), ("synced", "")]);
    assert_eq!((all.take(4).await, up.take(4).await), (set.clone(), set));

    let down = all.next().await;
    assert_eq!((&*down.kind, &down.data["status"]), ("down", &json!("down")));
    assert_eq!(up.next().await.kind, "down");
    let record = world.send("GET", "/trunks/a", &[("if-none-match", &tag)], "").await;
    assert_eq!(record.status, 200, "a reader learns that the trunk is down");
    assert_eq!(record.json()["status_reasons"], json!(["lease expired"]));
    assert_eq!(world.ids("/trunks").await, ["b"]);
    assert_eq!(world.ids("/trunks?status=down").await, ["a"]);
    assert_eq!(world.ids("/trunks?status=any").await, ["a", "b"]);

    assert_eq!(world.patch("/trunks/a", "").await.status, 204);
    assert_eq!((all.next().await.kind, up.next().await.kind), ("up".to_owned(), "up".to_owned()));
    assert_eq!(world.ids("/trunks").await, ["a", "b"]);
    assert_eq!(world.get("/trunks/a").await.header("etag"), Some(&*tag));

    assert_eq!(all.take(2).await, told(&[("down", "a"), ("deregistered", "a")]));
    assert_eq!(world.patch("/trunks/a", "").await.status, 404);
    assert_eq!(world.get("/trunks/a").await.status, 404);
    assert_eq!(world.put("/trunks/a", short).await.status, 201);
    // Filtered: it was down when it went, so only its return is news.
    assert_eq!(up.take(2).await, told(&[("down", "a"), ("registered", "a")]));
}
