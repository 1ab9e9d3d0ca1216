//! Every member: its default, its limits, and the words that refuse what is beyond them.

mod world;

use registry::{Command, Condition, Kind, Match, Outcome};
use serde_json::json;
use world::World;

/// Bodies that are refused, with the whole message and the member that it blames.
const REFUSED: &[(&str, &str, Option<&str>)] = &[
    ("", "sip_uri is required", Some("sip_uri")),
    ("{}", "sip_uri is required", Some("sip_uri")),
    (r#"{"sip_uri":""}"#, "sip_uri is required", Some("sip_uri")),
    (r#"{"sip_uri":" "}"#, "sip_uri is required", Some("sip_uri")),
    (r#"{"sip_uri":null}"#, "sip_uri is required", Some("sip_uri")),
    ("nonsense", "malformed trunk record (invalid JSON)", None),
    ("{\"sip_uri\":\"sip:a\"", "malformed trunk record (invalid JSON)", None),
    ("{\"sip_uri\":\"sip:a\"} x", "malformed trunk record (invalid JSON)", None),
    ("{\"\\ud800\":1}", "malformed trunk record (invalid JSON)", None),
    ("[]", "trunk record must be a JSON object", None),
    ("null", "trunk record must be a JSON object", None),
    ("\"sip:a\"", "trunk record must be a JSON object", None),
    (r#"{"sip_uri":5}"#, "sip_uri must be a string", Some("sip_uri")),
    (
        r#"{"sip_uri":"tel:+49301234"}"#,
        "sip_uri must be a sip: or sips: URI: expected the scheme sip or sips",
        Some("sip_uri"),
    ),
    (
        r#"{"sip_uri":"sbc.example.net"}"#,
        "sip_uri must be a sip: or sips: URI: expected a scheme such as sip:",
        Some("sip_uri"),
    ),
    (
        r#"{"sip_uri":"sip:a?subject=b"}"#,
        "sip_uri must be a sip: or sips: URI: expected no headers after a question mark",
        Some("sip_uri"),
    ),
    (r#"{"sip_uri":"sip:a","transport":"sctp"}"#, "transport must be one of ['tcp', 'tls', 'udp']", Some("transport")),
    (r#"{"sip_uri":"sip:a","transport":7}"#, "transport must be one of ['tcp', 'tls', 'udp']", Some("transport")),
    (r#"{"sip_uri":"sip:a","transport":"UDP"}"#, "transport must be one of ['tcp', 'tls', 'udp']", Some("transport")),
    (
        r#"{"sip_uri":"sip:a;transport=tcp","transport":"udp"}"#,
        "transport 'udp' conflicts with sip_uri, which asks for 'tcp'",
        Some("transport"),
    ),
    (
        r#"{"sip_uri":"sips:a","transport":"udp"}"#,
        "transport 'udp' conflicts with sip_uri, which asks for 'tls'",
        Some("transport"),
    ),
    (
        r#"{"sip_uri":"sips:a","transport":"tcp"}"#,
        "transport 'tcp' conflicts with sip_uri, which asks for 'tls'",
        Some("transport"),
    ),
    (r#"{"sip_uri":"sips:a;transport=udp"}"#, "sip_uri asks for sips: over udp, which does not exist", Some("sip_uri")),
    (
        r#"{"sip_uri":"sip:a;transport=sctp"}"#,
        "sip_uri must name the transport tcp, tls or udp, or none",
        Some("sip_uri"),
    ),
    (r#"{"sip_uri":"sip:a","enabled":"yes"}"#, "enabled must be true or false", Some("enabled")),
    (
        r#"{"sip_uri":"sip:a","heartbeat_seconds":4}"#,
        "heartbeat_seconds must be an integer, 5 to 3600, or 0 for no lease",
        Some("heartbeat_seconds"),
    ),
    (
        r#"{"sip_uri":"sip:a","heartbeat_seconds":3601}"#,
        "heartbeat_seconds must be an integer, 5 to 3600, or 0 for no lease",
        Some("heartbeat_seconds"),
    ),
    (
        r#"{"sip_uri":"sip:a","heartbeat_seconds":30.0}"#,
        "heartbeat_seconds must be an integer, 5 to 3600, or 0 for no lease",
        Some("heartbeat_seconds"),
    ),
    (r#"{"sip_uri":"sip:a","max_channels":-1}"#, "max_channels must be an integer, 0 or more", Some("max_channels")),
    (r#"{"sip_uri":"sip:a","max_channels":1e99}"#, "max_channels must be an integer, 0 or more", Some("max_channels")),
    (r#"{"sip_uri":"sip:a","max_cps":0}"#, "max_cps must be a number above 0", Some("max_cps")),
    (r#"{"sip_uri":"sip:a","max_cps":"5"}"#, "max_cps must be a number above 0", Some("max_cps")),
    (r#"{"sip_uri":"sip:a","max_cps":1e999}"#, "max_cps is nested too deeply or out of range", Some("max_cps")),
    (r#"{"sip_uri":"sip:a","group":5}"#, "group must be a string", Some("group")),
    (r#"{"sip_uri":"sip:a","group":""}"#, "group must have 1 to 128 bytes without control characters", Some("group")),
    (r#"{"sip_uri":"sip:a","priority":1.5}"#, "priority must be an integer, 0 or more", Some("priority")),
    (r#"{"sip_uri":"sip:a","weight":0}"#, "weight must be an integer, 1 to 10000", Some("weight")),
    (r#"{"sip_uri":"sip:a","weight":10001}"#, "weight must be an integer, 1 to 10000", Some("weight")),
    (
        r#"{"sip_uri":"sip:a","sources":"10.0.0.0/8"}"#,
        "sources must be a list of at most 256 networks",
        Some("sources"),
    ),
    (
        r#"{"sip_uri":"sip:a","sources":["10.0.0.0/33"]}"#,
        "sources must hold networks such as \"192.0.2.0/24\", not \"10.0.0.0/33\"",
        Some("sources"),
    ),
    (r#"{"sip_uri":"sip:a","probe":true}"#, "probe must be an object", Some("probe")),
    (
        r#"{"sip_uri":"sip:a","probe":{"every":5}}"#,
        "probe.every is unknown; expected one of interval_seconds, fall, rise, ok_codes, from, host",
        Some("probe"),
    ),
    (
        r#"{"sip_uri":"sip:a","probe":{"interval_seconds":0}}"#,
        "probe.interval_seconds must be an integer, 1 to 3600",
        Some("probe"),
    ),
    (
        r#"{"sip_uri":"sip:a","probe":{"ok_codes":[99]}}"#,
        "probe.ok_codes must hold status codes, 200 to 699, not 99",
        Some("probe"),
    ),
    (
        r#"{"sip_uri":"sip:a","reroute_on":[200]}"#,
        "reroute_on must hold status codes, 300 to 699, or Q.850 causes such as \"Q.850:34\", not 200",
        Some("reroute_on"),
    ),
    (
        r#"{"sip_uri":"sip:a","reroute_on":503}"#,
        "reroute_on must be a list of at most 256 status codes, 300 to 699, or Q.850 causes such as \"Q.850:34\"",
        Some("reroute_on"),
    ),
    (
        r#"{"sip_uri":"sip:a","reroute_on":["Q.850:128"]}"#,
        "reroute_on must hold status codes, 300 to 699, or Q.850 causes such as \"Q.850:34\", not \"Q.850:128\"",
        Some("reroute_on"),
    ),
    (r#"{"sip_uri":"sip:a","trusted":1}"#, "trusted must be true or false", Some("trusted")),
    (r#"{"sip_uri":"sip:a","probe":{"from":"tel:1"}}"#, "probe.from must be a sip: or sips: URI", Some("probe")),
    (r#"{"sip_uri":"sip:a","probe":{"host":"a b"}}"#, "probe.host must be host[:port]", Some("probe")),
    (
        r#"{"sip_uri":"sip:a","tls":{"verify_name":"a:1"}}"#,
        "tls.verify_name must be a host name or an IP address",
        Some("tls"),
    ),
    (
        r#"{"sip_uri":"sip:a","tls":{"authority":"../etc"}}"#,
        "tls.authority must be 1 to 64 of A-Z a-z 0-9 - _: the name of a file in the server's TLS directory",
        Some("tls"),
    ),
    (r#"{"sip_uri":"sip:a","register":{}}"#, "register.username is required", Some("register")),
    (r#"{"sip_uri":"sip:a","register":{"username":"u"}}"#, "register.password is required", Some("register")),
    (
        r#"{"sip_uri":"sip:a","register":{"username":"u","password":"s\u0000cret"}}"#,
        "register.password must be 1 to 256 bytes without control characters",
        Some("register"),
    ),
    (
        r#"{"sip_uri":"sip:a","register":{"username":"u","ha1":"x"}}"#,
        "register.ha1 is unknown; expected one of username, password",
        Some("register"),
    ),
];

#[test]
fn what_is_wrong_is_named() {
    for (body, message, field) in REFUSED {
        let refused = World::new().put("a", body).unwrap_err();
        assert_eq!(refused.kind, Kind::BadRequest, "{body}");
        assert_eq!(refused.message, *message, "{body}");
        assert_eq!(refused.field.as_deref(), *field, "{body}");
    }
}

#[test]
fn a_bare_record_reads_with_every_default() {
    let mut world = World::new();
    world.put("a", r#"{"sip_uri":"sip:192.0.2.1"}"#).unwrap();
    let expected = json!({
        "id": "a", "sip_uri": "sip:192.0.2.1", "transport": "udp", "enabled": true, "heartbeat_seconds": 30,
        "status": "up", "status_reasons": [], "max_channels": null, "max_cps": null, "group": "default",
        "priority": 0, "weight": 100, "sources": [], "probe": null, "reroute_on": [408, 500, 502, 503, 504],
        "admin": null, "registered_at": "2026-11-01T00:00:00Z", "lease_expires_at": "2026-11-01T00:01:30Z",
        "active_calls": 0, "last_heartbeat_at": "2026-11-01T00:00:00Z", "large_over_tcp": false, "trusted": false,
        "register": null, "registration": null, "targets": null, "tls": null, "labels": {},
    });
    assert_eq!(world.record("a"), expected);
}

#[test]
fn every_member_is_kept() {
    let mut world = World::new();
    let given = json!({
        "sip_uri": "sips:gw@sbc.example.net:5061;transport=tcp", "transport": "tls", "enabled": false,
        "heartbeat_seconds": 0, "max_channels": 0, "max_cps": 2.5, "group": "Straße 1", "priority": 3,
        "weight": 10000, "sources": ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"],
        "probe": {"interval_seconds": 10, "fall": 1, "rise": 1, "ok_codes": [200, 404], "from": "sip:probe@a", "host": "b:5070"},
        "reroute_on": [480, "Q.850:34"], "trusted": true, "large_over_tcp": true,
        "tls": {"verify_name": "sbc.example.net", "authority": "acme", "certificate": "client-1"},
        "note": {"Z": 1, "a": [null, 1.50]}, "x.y": "ä\u{0}",
    });
    world.put("a", &given.to_string()).unwrap();
    let record = world.record("a");
    for (name, value) in given.as_object().unwrap() {
        assert_eq!(record[name], *value, "{name}");
    }
    assert_eq!(record["lease_expires_at"], json!(null));
    assert_eq!(record["status_reasons"], json!(["disabled"]));
}

#[test]
fn sips_is_tls_and_the_uri_names_the_transport() {
    for (uri, transport) in [
        ("sip:a", "udp"),
        ("sips:a", "tls"),
        ("sips:a;transport=tcp", "tls"),
        ("sip:a;transport=TCP", "tcp"),
        ("sip:a;transport=tls;lr", "tls"),
        ("sip:[2001:db8::1]:5070", "udp"),
    ] {
        let mut world = World::new();
        world.put("a", &json!({ "sip_uri": uri }).to_string()).unwrap();
        assert_eq!(world.record("a")["transport"], transport, "{uri}");
    }
}

#[test]
fn unknown_members_stay_as_they_came_and_are_named() {
    let mut world = World::new();
    let outcome = world.put("a", r#"{"big":1e999,"sip_uri":"sip:a","deep":[[1.0, 2]],"status":"down"}"#).unwrap();
    assert_eq!(outcome, Outcome::Created { unknown: vec!["big".into(), "deep".into()] });
    let mut out = Vec::new();
    world.view("a").unwrap().write_json(&mut out, &[], 0, None);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(r#""big":1e999"#) && text.contains(r#""deep":[[1.0, 2]]"#), "{text}");
    assert!(text.contains(r#""status":"up""#), "{text}");
}

#[test]
fn the_last_of_a_doubled_member_counts() {
    let mut world = World::new();
    world.put("a", r#"{"sip_uri":"sip:a","weight":1,"n":1,"weight":2,"n":2}"#).unwrap();
    let record = world.record("a");
    assert_eq!((&record["weight"], &record["n"]), (&json!(2), &json!(2)));
}

#[test]
fn a_record_is_bounded() {
    let body = |count| {
        let members: Vec<String> = (0..count).map(|n| format!("\"n{n}\":1")).collect();
        format!("{{\"sip_uri\":\"sip:a\",{}}}", members.join(","))
    };
    let mut world = World::new();
    world.put("a", &body(255)).unwrap();
    let refused = world.put("a", &body(256)).unwrap_err();
    assert_eq!(refused.message, "trunk record must have at most 256 members");
    // Nor does it grow over its bound bit by bit.
    assert_eq!(world.patch("a", "{\"more\":1}").unwrap_err().message, refused.message);
    let deep = format!("{{\"sip_uri\":\"sip:a\",\"n\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    if let Err(refused) = world.put("a", &deep) {
        assert_eq!(refused.message, "malformed trunk record (invalid JSON)");
    }
    let long = format!("{{\"sip_uri\":\"sip:{}\"}}", "a".repeat(1021));
    let refused = world.put("a", &long).unwrap_err();
    assert_eq!(refused.message, "sip_uri must be a sip: or sips: URI: expected at most 1024 bytes");
}

#[test]
fn ids_have_their_alphabet() {
    let longest = "x".repeat(128);
    for id in ["a", "A-Z.a_z~0:9@b+c", &longest] {
        assert_eq!(registry::validate_id(id), Ok(()), "{id}");
    }
    for id in ["", "a/b", "a b", "ä", "a;b", "a%41", &"x".repeat(129)] {
        let refused = World::new().put(id, r#"{"sip_uri":"sip:a"}"#).unwrap_err();
        assert_eq!(refused.message, "id must have 1 to 128 of A-Z a-z 0-9 - . _ ~ : @ +", "{id}");
    }
}

#[test]
fn the_same_record_again_is_no_write() {
    let mut world = World::new();
    let body = r#"{"sip_uri":"sip:a","note":1}"#;
    world.put("a", body).unwrap();
    world.pass(60_000);
    let writes = world.log.len();
    assert!(matches!(world.put("a", body).unwrap(), Outcome::Replaced { .. }));
    assert_eq!(world.log.len(), writes);
    // It renewed the lease nevertheless.
    world.pass(89_000);
    assert!(world.view("a").unwrap().up);
}

#[test]
fn unknown_trunks_are_unknown() {
    let mut world = World::new();
    let unknown = world.patch("a", "{}").unwrap_err();
    assert_eq!((unknown.kind, &*unknown.message), (Kind::NotFound, "unknown trunk — re-register with PUT"));
    assert_eq!(world.delete("a").unwrap(), Outcome::Nothing);
    assert_eq!(world.set_admin("a", r#"{"state":"draining"}"#).unwrap_err().kind, Kind::NotFound);
    // Whatever else a registrant asks: that it was forgotten it must learn.
    let condition = Condition { if_match: Some(Match::Any), if_none_match: None };
    let command = Command::Patch { id: "a".into(), body: b"{}".to_vec(), condition };
    assert_eq!(world.run(command).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn conditions_hold_writes_back() {
    let mut world = World::new();
    world.put("a", r#"{"sip_uri":"sip:a"}"#).unwrap();
    let tag = world.view("a").unwrap().etag();
    let put = |if_match: Option<Match>, if_none_match: Option<Match>, id: &str| Command::Register {
        id: id.into(),
        body: br#"{"sip_uri":"sip:b"}"#.to_vec(),
        condition: Condition { if_match, if_none_match },
    };
    let tags = |tag: &str| Some(Match::Tags(vec![tag.to_owned()]));
    for refused in [
        put(tags("0"), None, "a"),
        put(Some(Match::Any), None, "new"),
        put(tags(&tag), None, "new"),
        put(None, Some(Match::Any), "a"),
        put(None, tags(&tag), "a"),
    ] {
        assert_eq!(world.run(refused.clone()).unwrap_err().kind, Kind::PreconditionFailed, "{refused:?}");
    }
    // A lapse in between takes nothing from what was read.
    world.pass(90_000);
    assert_eq!(world.view("a").unwrap().etag(), format!("{tag}-down"));
    world.run(put(tags(&tag), None, "a")).unwrap();
    assert_eq!(world.run(put(tags(&tag), None, "a")).unwrap_err().kind, Kind::PreconditionFailed);
    world.run(put(None, Some(Match::Any), "new")).unwrap();
    world.run(put(None, tags("0"), "new")).unwrap();
}
