//! How well trunks complete calls, and what becomes of those that fail them (`docs/quality.md`), with real peers.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use peers::{Peer, Server, Uac, uas};
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
