//! What an operator sees: start, settings, metrics, watch.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use peers::{Server, wait_until};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn one_line_says_what_listens_where() {
    let s = Server::start();
    // Lines are written behind the work, so HTTP may answer before this one is there.
    wait_until("it is written", SOON, || s.log().contains("trunk registry up") && s.log().ends_with('\n'));
    let log = s.log();
    let line = log.lines().find(|line| line.contains("trunk registry up")).unwrap();
    assert!(line.contains(&format!("http://{}:8080", s.ip)) && line.contains(&format!("udp:{}:5060", s.ip)), "{line}");
    assert!(line.contains("curl -X PUT"), "what to try next: {line}");
}

#[test]
fn bad_settings_stop_the_start_and_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    std::fs::write(&file, "[sip]\n\nsetup_timeout = 4\n").unwrap();
    let serve = || {
        let mut command = Command::new(peers::binary());
        command.arg("serve").arg("--data").arg(dir.path().join("data"));
        command
    };
    let output = serve().arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("t.toml:3: unknown key \"setup_timeout\" in [sip]; expected one of"), "{text}");
    let output = serve().env("TRUNKLINE_SIP_LISTEN", "tcp:nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("TRUNKLINE_SIP_LISTEN: expected"));
    let output = serve().args(["--http", "0.0.0.0:8080"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("unauthenticated_beyond_loopback"));
}

#[test]
fn a_second_process_does_not_take_the_same_data() {
    let s = Server::start();
    let output = Command::new(peers::binary())
        .args(["serve", "--http", &format!("{}:8081", s.ip), "--sip", &format!("udp:{}:5061", s.ip), "--data"])
        .arg(s.data())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("registry.redb"), "{output:?}");
}

#[test]
fn every_family_of_metrics_is_there() {
    let s = Server::start();
    s.register("a", 7001, "");
    let text = s.request("GET", "/metrics", "", &[]).text;
    for family in [
        "trunkline_active_calls{trunk=\"a\"} 0",
        "trunkline_trunk_routable{trunk=\"a\"} 1",
        "# TYPE trunkline_attempts_total counter",
        "# TYPE trunkline_calls_answered_total counter",
        "# TYPE trunkline_refusals_total counter",
        "trunkline_lease_expiries_total 0",
        "trunkline_sip_transactions 0",
        "trunkline_sip_datagrams_total{fate=\"received\"} 0",
        "trunkline_http_requests_total{route=\"/trunks/{id}\",method=\"PUT\",code=\"201\"} 1",
        "trunkline_trunks{status=\"up\"} 1",
    ] {
        assert!(text.contains(family), "{family} is not in\n{text}");
    }
    s.request("PATCH", "/trunks/a", r#"{"enabled":false}"#, &[]);
    wait_until("it is shown", SOON, || s.metric("trunkline_trunk_routable{trunk=\"a\"}") == 0.0);
}

/// Lines of a watch until an event of a kind has come; returns its id and data.
fn next_event(lines: &mut impl Iterator<Item = String>, kind: &str) -> (String, String) {
    let (mut id, mut data, mut is_it) = (String::new(), String::new(), false);
    for line in lines {
        if let Some(value) = line.strip_prefix("id: ") {
            value.clone_into(&mut id);
        } else if let Some(value) = line.strip_prefix("data: ") {
            value.clone_into(&mut data);
        } else if line.starts_with("event: ") {
            is_it = line == format!("event: {kind}");
        } else if line.is_empty() && is_it {
            return (id, data);
        }
    }
    panic!("the watch ended before {kind}");
}

fn watch(s: &Server, headers: &str) -> impl Iterator<Item = String> + use<> {
    let mut stream = TcpStream::connect((s.ip, 8080)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET /trunks HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n{headers}\r\n").unwrap();
    BufReader::new(stream).lines().map_while(Result::ok)
}

#[test]
fn a_watch_tells_the_set_and_then_every_change_and_resumes() {
    let s = Server::start();
    s.register("a", 7001, "");
    let mut lines = watch(&s, "");
    assert!(next_event(&mut lines, "registered").1.contains("\"id\":\"a\""));
    let (id, _) = next_event(&mut lines, "synced");
    s.register("b", 7001, "");
    assert!(next_event(&mut lines, "registered").1.contains("\"id\":\"b\""));
    s.request("PATCH", "/trunks/b", r#"{"weight":5}"#, &[]);
    assert!(next_event(&mut lines, "updated").1.contains("\"weight\":5"));
    s.request("DELETE", "/trunks/b", "", &[]);
    next_event(&mut lines, "deregistered");
    drop(lines);

    let mut resumed = watch(&s, &format!("Last-Event-ID: {id}\r\n"));
    let (_, first) = next_event(&mut resumed, "registered");
    assert!(first.contains("\"id\":\"b\""), "it goes on where it stood, without the set: {first}");
    next_event(&mut resumed, "deregistered");
}
