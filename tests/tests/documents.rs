//! The documents say what is so: their commands work, and their tables name what there is.
//!
//! Commands are the indented lines of a document, as a reader would type them, only at this test's own address.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use peers::{Server, wait_until};

const README: &str = include_str!("../../README.md");
const API: &str = include_str!("../../docs/api.md");
const CHANGES: &str = include_str!("../../docs/changes.md");
const ROUTES: &str = include_str!("../../docs/routes.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The commands of a document from a heading to the next of its rank.
fn commands(document: &str, heading: &str) -> Vec<String> {
    let start = document.find(heading).unwrap_or_else(|| panic!("no {heading}")) + heading.len();
    let section = document[start..].split("\n## ").next().unwrap_or_default();
    section.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// Runs a command at the address of `s`; curl ends by itself, and fails where the answer is an error.
fn run(s: &Server, command: &str) -> Output {
    let script =
        format!("curl() {{ command curl -sSf -m 5 \"$@\"; }}\n{}", command.replace("127.0.0.1", &s.ip.to_string()));
    let dir = tempfile::tempdir().unwrap();
    Command::new("bash").args(["-c", &script]).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn succeed(s: &Server, command: &str) -> String {
    let output = run(s, command);
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `sipp -bg` left behind; ends with the test.
struct Background(String);

impl Background {
    /// The parent says the process id, and ends by a code of its own.
    fn start(s: &Server, command: &str) -> Background {
        let output = run(s, command);
        let text = String::from_utf8_lossy(&output.stdout);
        let pid = text.split("PID=[").nth(1).and_then(|rest| rest.split(']').next());
        Background(pid.unwrap_or_else(|| panic!("{command}: {output:?}")).to_owned())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = Command::new("kill").args(["-s", "KILL", &self.0]).status();
    }
}

/// Words of a text that begin with `prefix`, as far as `part` holds.
fn words(text: &str, prefix: &str, part: fn(char) -> bool) -> BTreeSet<String> {
    let found = text.match_indices(prefix).map(|(at, _)| text[at..].split(|c| !part(c)).next().unwrap_or_default());
    found.filter(|word| word.len() > prefix.len()).map(str::to_owned).collect()
}

#[test]
fn the_first_call_of_the_readme_comes_about() {
    let s = Server::start();
    let (mut gateways, mut seen) = (Vec::new(), Vec::new());
    let commands = commands(README, "## The first call in five minutes");
    for command in &commands {
        if command.ends_with(" -bg") {
            gateways.push(Background::start(&s, command));
            // A reader types slower than this test.
            let port: u16 = command.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
            wait_until("the gateway listens", Duration::from_secs(10), || {
                std::net::UdpSocket::bind((s.ip, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
            });
        } else {
            seen.push((command.as_str(), succeed(&s, command)));
        }
    }
    let ok =
        |trunk: &str| s.metric(&format!("trunkline_attempts_total{{trunk=\"{trunk}\",code=\"200\",local=\"false\"}}"));
    assert_eq!((ok("a"), ok("b")), (1.0, 0.0), "the lower priority is tried first");
    let read = |path: &str| {
        let url = format!("curl http://127.0.0.1:8080{path}");
        seen.iter().find(|(command, _)| *command == url).unwrap_or_else(|| panic!("no {url}")).1.as_str()
    };
    assert!(read("/trunks/a").contains("\"enabled\":false"));
    assert!(read("/calls").starts_with("{\"calls\":["));
    let call = commands.iter().find(|command| command.starts_with("sipp -sn uac")).unwrap();
    succeed(&s, call);
    assert_eq!((ok("a"), ok("b")), (1.0, 1.0), "and once it is drained, the other");
    wait_until("both calls are over", Duration::from_secs(10), || s.active("a") + s.active("b") == 0);
}

#[test]
fn the_commands_of_the_http_document_work() {
    let s = Server::start();
    for command in commands(API, "## Trunks").iter().chain(&commands(API, "## Routes and groups")) {
        succeed(&s, command);
    }
    assert_eq!(s.request("GET", "/trunks/a", "", &[]).status, 404, "the last one deregisters it");
    assert_eq!(s.request("GET", "/routes/berlin", "", &[]).status, 404, "and takes it away");
    let watch = commands(API, "## Watch").remove(0);
    s.register("a", 7001, "");
    let quality = commands(API, "## Quality");
    assert!(succeed(&s, &quality[0]).contains("\"answer_seizure_ratio\":null"));
    s.request("DELETE", "/trunks/a", "", &[]);
    s.register("b", 7001, "");
    // A watch ends only by the client.
    let output = run(&s, &watch.replace("curl ", "curl -m 2 "));
    let told = String::from_utf8_lossy(&output.stdout);
    let events: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events, ["reset", "registered", "synced"], "{told}");
}

#[test]
fn the_document_of_changes_is_brought_about_told_and_taken_back() {
    let s = Server::start();
    // The document is written and applied in one directory.
    let lines = commands(CHANGES, "## A document");
    let (end, _) = lines.iter().enumerate().find(|(_, line)| line.starts_with("curl -X POST")).unwrap();
    let applied = succeed(&s, &lines[..=end].join("\n"));
    assert!(applied.contains("\"changed\":4") && applied.contains("route berlin: added"), "{applied}");
    let told: Vec<String> =
        lines[end + 1..].iter().filter(|line| line.starts_with("curl")).map(|line| succeed(&s, line)).collect();
    let export = told[0].split_once(",\"trunks\":").unwrap_or_else(|| panic!("{}", told[0]));
    assert!(export.0.starts_with("{\"base_revision\":") && export.1.starts_with("{\"carrier-a\":{\"sip_uri\""));
    for history in &told[1..3] {
        assert!(history.contains("\"actor\":\"127.") && history.contains("\"cause\":\"apply\""), "{history}");
    }
    assert!(told[3].contains("\"dry_run\":true") && told[3].contains("route berlin: removed"), "{}", told[3]);
    assert!(told[4].contains("\"changed\":4"), "{}", told[4]);
    assert_eq!(s.request("GET", "/routes/berlin", "", &[]).status, 404, "the last one takes it back");
}

#[test]
fn every_setting_is_in_its_table_and_no_other() {
    let output = Command::new(peers::binary()).arg("serve").env("TRUNKLINE_NO_SUCH", "1").output().unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    let known = refused.split("expected one of").nth(1).unwrap_or_else(|| panic!("{refused}"));
    let part = |c: char| c.is_ascii_uppercase() || c == '_';
    assert_eq!(words(OPERATIONS, "TRUNKLINE_", part), words(known, "TRUNKLINE_", part));
}

#[test]
fn every_metric_is_in_its_table_and_no_other() {
    let s = Server::start();
    let served = s.request("GET", "/metrics", "", &[]).text;
    let families = served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let part = |c: char| c.is_ascii_lowercase() || c == '_';
    assert_eq!(words(OPERATIONS, "trunkline_", part), families.map(str::to_owned).collect());
}

#[test]
fn the_commands_of_the_routes_page_work() {
    let s = Server::start();
    s.register("a", 7001, r#","group":"carriers""#);
    for heading in ["# Routes: where calls go, and why", "## Groups", "## Why did this call go there?"] {
        let commands = commands(ROUTES, heading);
        assert!(!commands.is_empty(), "{heading}");
        for command in commands.iter().filter(|command| !command.contains("CALL-ID")) {
            let said = succeed(&s, command);
            if command.contains("/routes/explain") {
                assert!(said.contains("\"verdict\""), "{command}: {said}");
            }
        }
    }
}
