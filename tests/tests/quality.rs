//! How well trunks complete calls, and what becomes of those that fail them (`docs/quality.md`), with real peers.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Peer, Server, Uac, uas, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

fn caller(s: &Server, port: u16, calls: u32, pause: u32) -> Peer {
    Uac { from: s.ip, port, to: s.sip(), scenario: "uac_routes.xml", calls, pause, mode: "u1" }.start()
}

fn quality(s: &Server, id: &str) -> Value {
    s.request("GET", &format!("/trunks/{id}/quality"), "", &[]).json()
}

#[test]
fn attempts_are_counted_for_each_trunk() {
    let s = Server::start();
    let _bad = uas("uas_503.xml", s.ip, 7001);
    let _good = uas("uas_routes.xml", s.ip, 7002);
    s.register("bad", 7001, ",\"heartbeat_seconds\":0");
    s.register("good", 7002, ",\"priority\":1,\"heartbeat_seconds\":0");
    s.register("idle", 7003, ",\"priority\":2,\"heartbeat_seconds\":0");
    assert!(caller(&s, 5081, 4, 0).ends_well(SOON));
    let (bad, good, idle) = (quality(&s, "bad"), quality(&s, "good"), quality(&s, "idle"));
    for window in ["5m", "1h"] {
        let (bad, good, idle) = (&bad["windows"][window], &good["windows"][window], &idle["windows"][window]);
        assert_eq!((&bad["attempts"], &bad["failed"], &bad["answers"]["503"]), (&4.into(), &4.into(), &4.into()));
        assert_eq!((&bad["answer_seizure_ratio"], &bad["failure_share"]), (&0.0.into(), &1.0.into()));
        assert_eq!((&good["attempts"], &good["answered"], &good["answers"]["200"]), (&4.into(), &4.into(), &4.into()));
        assert_eq!(good["network_effectiveness_ratio"], 1.0);
        assert_eq!(
            (&good["post_dial_delay_ms"]["at_most"]["20000"], &good["post_dial_delay_ms"]["more"]),
            (&4.into(), &0.into())
        );
        assert!(good["post_dial_delay_ms"]["average"].is_number() && bad["post_dial_delay_ms"]["average"].is_null());
        assert_eq!((&idle["attempts"], &idle["answer_seizure_ratio"]), (&0.into(), &Value::Null));
    }
    assert!(bad["averages"]["failure_share"].as_f64().unwrap() > 0.0);
    assert_eq!((&good["averages"]["failure_share"], &good["guard"]), (&0.0.into(), &Value::Null));
    assert_eq!(s.metric("trunkline_answer_seizure_ratio{trunk=\"good\"}"), 1.0);
    assert_eq!(s.metric("trunkline_post_dial_delay_seconds_count"), 4.0);
    let text = s.request("GET", "/metrics", "", &[]).text;
    assert!(text.contains("trunkline_network_effectiveness_ratio{trunk=\"bad\"} 0\n"));
    assert!(!text.contains("trunkline_answer_seizure_ratio{trunk=\"idle\"}"), "nothing is no ratio");
    assert_eq!(s.request("GET", "/trunks/none/quality", "", &[]).status, 404);
    assert_eq!(s.request("GET", "/trunks/good/quality?prefix=%2B49", "", &[]).status, 404);
}

#[test]
fn a_trunk_that_fails_half_of_its_calls_rests_and_comes_back_by_a_trickle() {
    let s = Server::start();
    let half = uas("uas_half.xml", s.ip, 7001);
    let _good = uas("uas_routes.xml", s.ip, 7002);
    s.register("half", 7001, ",\"heartbeat_seconds\":0,\"group\":\"carriers\"");
    s.register("good", 7002, ",\"heartbeat_seconds\":0,\"group\":\"carriers\"");
    let guard = r#"{"guard":{"failure_share":0.5,"min_calls":6,"rest_seconds":10,"trial_calls":2}}"#;
    assert_eq!(s.request("PUT", "/groups/carriers", guard, &[]).status, 201);
    wait_until("the guard stands", SOON, || !quality(&s, "half")["guard"].is_null());
    let reason = || s.trunk("half")["status_reasons"][0].as_str().unwrap_or_default().to_owned();

    // Every call comes about: what the one trunk fails goes on to the other.
    assert!(caller(&s, 5081, 12, 0).ends_well(SOON));
    assert!(reason().starts_with("guard: 50 % of 6 calls failed, resting until "), "{}", reason());
    assert_eq!(s.trunk("half")["status"], "up", "it lives");
    assert_eq!(s.metric("trunkline_trunk_routable{trunk=\"half\"}"), 0.0);
    let attempts = || quality(&s, "half")["windows"]["5m"]["attempts"].as_u64().unwrap();
    assert_eq!(attempts(), 6);
    assert!(caller(&s, 5082, 4, 0).ends_well(SOON));
    let state = quality(&s, "half")["guard"].clone();
    if state["state"] == "resting" {
        assert_eq!(attempts(), 6, "it was left in peace");
    }

    // It is mended, and proves itself.
    half.kill();
    let _mended = uas("uas_routes.xml", s.ip, 7001);
    wait_until("the rest is over", SOON, || reason() == "guard: on trial");
    let mut calls = 0;
    wait_until("it has proved itself", SOON, || {
        calls += 1;
        assert!(caller(&s, 5083, 1, 0).ends_well(SOON));
        quality(&s, "half")["guard"]["state"] == "closed"
    });
    assert_eq!(attempts(), 8, "two calls on trial were enough; {calls} came");
    assert_eq!((reason(), s.metric("trunkline_guard_rests_total")), (String::new(), 1.0));
    assert!(s.log().contains("trunk rests") && s.log().contains("trunk gets its share of calls again"));
    assert_eq!(s.metric("trunkline_guarded_trunks{state=\"closed\"}"), 2.0);
}

#[test]
fn attempts_are_counted_for_each_called_prefix() {
    let s = Server::start();
    let _good = uas("uas_routes.xml", s.ip, 7001);
    s.register("a", 7001, ",\"heartbeat_seconds\":0");
    for (id, prefix) in [("world", ""), ("us", "1"), ("ny", "1555")] {
        let condition = if prefix.is_empty() { "{}".to_owned() } else { format!("{{\"called_prefix\":\"{prefix}\"}}") };
        let route = format!("{{\"match\":{condition},\"targets\":[{{\"trunk\":\"a\"}}]}}");
        assert_eq!(s.request("PUT", &format!("/routes/{id}"), &route, &[]).status, 201);
    }
    s.wait_routed();
    assert!(caller(&s, 5081, 3, 500).ends_well(SOON));
    let listed = quality(&s, "a")["prefixes"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["prefix"]), (1, &"1555".into()), "{listed}");
    assert_eq!((&listed[0]["attempts"], &listed[0]["answer_seizure_ratio"]), (&3.into(), &1.0.into()));
    let of_it = s.request("GET", "/trunks/a/quality?prefix=1555", "", &[]).json();
    assert_eq!(of_it["windows"]["5m"]["answers"]["200"], 3);
    wait_until("the last BYE is counted", SOON, || quality(&s, "a")["windows"]["5m"]["calls_ended"] == 3);
    let of_it = s.request("GET", "/trunks/a/quality?prefix=1555", "", &[]).json();
    for counts in [&of_it["windows"]["1h"], &quality(&s, "a")["windows"]["1h"]] {
        assert_eq!(counts["calls_ended"], 3);
        assert!(counts["average_duration_seconds"].as_f64().unwrap() >= 0.5, "{counts}");
    }
    assert_eq!(s.request("GET", "/trunks/a/quality?prefix=1", "", &[]).status, 404);
    assert_eq!(s.metric("trunkline_quality_prefixes"), 1.0);
}
