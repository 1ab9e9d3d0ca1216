//! What is written is what docs/call-record.schema.json says, member by member and value by value.

#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use records::{Attempt, Cause, Local, Party, Record, Records, Settings, Transport};
use serde_json::Value;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

/// A record with every member.
fn full(cause: Cause, ended_by: Party, local: Local, transport: Transport) -> Record {
    let text = |text: &str| Some(text.to_owned());
    let attempt = Attempt {
        trunk: "a".into(),
        target: "[2001:db8::1]:5060".parse().unwrap(),
        transport,
        started_at: at(1),
        rang_at: Some(at(100)),
        ended_at: Some(at(2000)),
        status: Some(200),
        local: Some(local),
        cause: text("Retry-After"),
        q850: Some(16),
    };
    Record {
        source_trunk: text("pbx"),
        from: "sip:+441@a.example".into(),
        to: "sip:030@b.example".into(),
        request_uri: "sip:030@b.example".into(),
        calling: text("+441"),
        called: text("030"),
        calling_after: text("00441"),
        called_after: text("+4930"),
        route: text("berlin"),
        table_revision: 7,
        trunk: text("a"),
        rang_at: Some(at(100)),
        answered_at: Some(at(2000)),
        ended_at: at(60_000),
        ended_by,
        cause,
        status: Some(200),
        q850: Some(16),
        emergency: true,
        attempts: vec![attempt],
        ..Record::new("x@y".into(), "192.0.2.1:5060".parse().unwrap(), at(0))
    }
}

/// All values of every set.
fn every() -> Vec<Record> {
    use Cause::*;
    let causes =
        [Bye, Cancelled, Refused, NoRoute, NoTrunk, Timeout, Rejected, SessionTimer, MaxDuration, Shutdown, Internal];
    let parties = [Party::Caller, Party::Callee, Party::Router];
    let transports = [Transport::Udp, Transport::Tcp, Transport::Tls];
    let locals = [Local::Silence, Local::SendError];
    causes.iter().enumerate().map(|(i, cause)| full(*cause, parties[i % 3], locals[i % 2], transports[i % 3])).collect()
}

fn lines(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("calls.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_written_fits_the_schema() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::start(Settings::new(dir.path().to_owned())).unwrap();
    for record in every() {
        records.offer(record);
    }
    let least = Record::new("\u{7}".repeat(2000), "127.0.0.1:1".parse().unwrap(), at(0));
    records.offer(least);
    records.stop(Duration::from_secs(60));
    let lines = lines(dir.path());
    assert_eq!(lines.len(), 12);

    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/call-record.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(document).unwrap()).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("schema.json", schema.clone()).unwrap();
    let compiled = compiler.compile("schema.json", &mut schemas).unwrap();
    for line in &lines {
        if let Err(error) = schemas.validate(line, compiled) {
            panic!("{error:#}\n{line:#}");
        }
    }

    // And the schema names nothing else.
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&schema["properties"]), names(&lines[0]));
    assert_eq!(names(&schema["$defs"]["attempt"]["properties"]), names(&lines[0]["attempts"][0]));
    let required: BTreeSet<String> = serde_json::from_value(schema["required"].clone()).unwrap();
    assert_eq!(required, names(&lines[11]));
    let set =
        |value: &Value| value["enum"].as_array().unwrap().iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let seen =
        |of: fn(&Value) -> &Value| lines.iter().map(of).filter(|value| !value.is_null()).map(ToString::to_string);
    let members = &schema["properties"];
    let attempt = &schema["$defs"]["attempt"]["properties"];
    assert_eq!(set(&members["cause"]), seen(|line| &line["cause"]).collect());
    assert_eq!(set(&members["ended_by"]), seen(|line| &line["ended_by"]).collect());
    assert_eq!(set(&attempt["local"]), seen(|line| &line["attempts"][0]["local"]).collect());
    assert_eq!(set(&attempt["transport"]), seen(|line| &line["attempts"][0]["transport"]).collect());
}

#[test]
fn a_line_reads_back_as_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::start(Settings::new(dir.path().to_owned())).unwrap();
    let offered = full(Cause::Bye, Party::Callee, Local::Silence, Transport::Tls);
    records.offer(offered.clone());
    records.stop(Duration::from_secs(60));
    let line = lines(dir.path()).remove(0);
    let read: Record = serde_json::from_value(line.clone()).unwrap();
    assert_eq!((read.setup_ms, read.ring_ms, read.duration_ms), (Some(100), Some(1900), Some(58_000)));
    let id = line["id"].as_str().unwrap().to_owned();
    assert_eq!(read, Record { id, setup_ms: Some(100), ring_ms: Some(1900), duration_ms: Some(58_000), ..offered });
    assert_eq!(line["answered_at"], "2023-11-14T22:13:22.000Z");
}
