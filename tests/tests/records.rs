//! Records of calls reach the real PostgreSQL and an HTTP receiver, whatever these go through meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use peers::{Certificates, Postgres, Receiver, Reply, Server, own_address, wait_until};
use records::{
    Address, Cause, Party, PostgresSettings, Record, Records, Retry, Secret, Settings, Token, Url, WebhookSettings,
};
use serde_json::Value;
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../../docs/call-records.md");

const SOON: Duration = Duration::from_secs(60);

/// A call; every second one is answered.
fn call(number: usize) -> Record {
    let now = Timestamp::now();
    Record {
        called: Some(format!("+4930{number}")),
        trunk: Some("a".into()),
        answered_at: number.is_multiple_of(2).then_some(now),
        cause: if number.is_multiple_of(2) { Cause::Bye } else { Cause::Refused },
        ended_by: Party::Callee,
        status: Some(200),
        ..Record::new(format!("call-{number}"), ([127, 0, 0, 1], 5060).into(), now)
    }
}

fn settings(dir: &TempDir) -> Settings {
    Settings {
        rotate_bytes: 20_000,
        retry: Retry { first: Duration::from_millis(10), most: Duration::from_millis(200) },
        timeout: Duration::from_secs(5),
        ..Settings::new(dir.path().to_owned())
    }
}

fn to_postgres(dir: &TempDir, url: &str, authorities: Option<&Path>) -> Settings {
    let postgres = PostgresSettings {
        address: Address::parse(url).unwrap(),
        table: "call_records".into(),
        authorities: authorities.map(Path::to_owned),
        batch: 50,
    };
    Settings { postgres: Some(postgres), ..settings(dir) }
}

fn to_webhook(dir: &TempDir, url: &str, token: Option<Token>, authorities: Option<&Path>) -> Settings {
    let url = Url::parse(url).unwrap();
    let webhook = WebhookSettings { url, token, authorities: authorities.map(Path::to_owned), batch: 20 };
    Settings { webhook: Some(webhook), ..settings(dir) }
}

fn offer(records: &Records, calls: std::ops::Range<usize>) {
    calls.for_each(|number| records.offer(call(number)));
}

#[track_caller]
fn wait_failure(records: &Records, more_than: u64) {
    wait_until("a failed delivery", SOON, || records.snapshot().sinks[0].failures > more_than);
}

#[track_caller]
fn wait_delivered(records: &Records) {
    wait_until("all delivered", SOON, || {
        let now = records.snapshot();
        now.waiting == 0 && now.sinks[0].backlog == 0 && now.sinks[0].delivered > 0
    });
}

/// Call-IDs of what a receiver has said yes to, each once, and each by one id.
fn taken(receiver: &Receiver) -> BTreeSet<String> {
    let posts = receiver.posts();
    let lines = posts.iter().filter(|post| post.status == 204).flat_map(|post| post.body.lines());
    let records: BTreeSet<(String, String)> = lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["id"].as_str().unwrap().to_owned(), line["call_id"].as_str().unwrap().to_owned()))
        .collect();
    let calls: BTreeSet<String> = records.iter().map(|(_, call)| call.clone()).collect();
    assert_eq!(calls.len(), records.len(), "a record keeps its id");
    calls
}

#[test]
fn postgres_gets_every_record_though_it_and_we_stop_meanwhile() {
    let (dir, mut postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = postgres.url("postgres", "");
    let count = "SELECT count(*) FROM call_records";
    let records = Records::start(to_postgres(&dir, &url, None)).unwrap();
    offer(&records, 0..120);
    wait_until("rows", SOON, || postgres.count(count) == 120);
    wait_delivered(&records);

    // It crashes under load, and stays away while calls end.
    offer(&records, 120..300);
    postgres.stop();
    offer(&records, 300..500);
    wait_failure(&records, 0);
    wait_until("written", SOON, || records.snapshot().written == 500);
    let away = records.snapshot();
    assert!(away.sinks[0].backlog >= 200 && away.sinks[0].backlog_seconds > 0.0, "{away:?}");
    records.stop(Duration::from_secs(5));
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files > 5, "the spool is many files: {files}");

    // The next process finds it still away.
    let records = Records::start(to_postgres(&dir, &url, None)).unwrap();
    offer(&records, 500..520);
    wait_failure(&records, 0);
    postgres.again();
    wait_delivered(&records);
    assert_eq!(postgres.count(count), 520);
    assert_eq!(postgres.count("SELECT count(DISTINCT call_id) FROM call_records"), 520);
    let row = postgres.query(
        "SELECT call_id, called, trunk, ended_by, cause, status, duration_ms, source, record->>'schema', \
         answered_at >= started_at FROM call_records WHERE call_id = 'call-518'",
    );
    assert_eq!(row.unwrap(), "call-518|+4930518|a|callee|bye|200|0|127.0.0.1:5060|1|t");
    assert_eq!(postgres.count("SELECT count(*) FROM call_records WHERE answered_at IS NULL"), 260);
    for statement in DOCUMENT.lines().filter(|line| line.starts_with("    SELECT")) {
        postgres.query(statement).unwrap();
    }
    let last = records.snapshot();
    assert!(last.shed.iter().all(|(_, _, count)| *count == 0), "{last:?}");
    assert_eq!((last.sinks[0].backlog_seconds, last.sinks[0].refused), (0.0, 0));
    records.stop(SOON);
}

#[test]
fn postgres_speaks_tls_and_may_refuse_single_records() {
    let certificates = Certificates::new();
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::with_tls(&certificates));
    let url = postgres.url("writer", "?sslmode=require");
    let records = Records::start(to_postgres(&dir, &url, Some(&certificates.file("ca.pem")))).unwrap();
    // Nobody by that name yet, then nowhere to write to.
    offer(&records, 0..10);
    wait_failure(&records, 2);
    postgres.query("CREATE ROLE writer LOGIN PASSWORD 's3cret'").unwrap();
    wait_failure(&records, records.snapshot().sinks[0].failures + 1);
    // A table of the operator's own, where we may do nothing but insert, and a rule of his.
    postgres
        .query(
            "CREATE TABLE call_records (id uuid, call_id text CHECK (call_id <> 'call-3'), started_at timestamptz, \
             rang_at timestamptz, answered_at timestamptz, ended_at timestamptz, duration_ms bigint, source text, \
             source_trunk text, calling text, called text, route text, trunk text, ended_by text, cause text, \
             status smallint, record jsonb, PRIMARY KEY (id, ended_at)) PARTITION BY RANGE (ended_at); \
             CREATE TABLE rows PARTITION OF call_records DEFAULT; GRANT INSERT ON call_records TO writer",
        )
        .unwrap();
    wait_delivered(&records);
    assert_eq!(postgres.count("SELECT count(*) FROM call_records"), 9);
    assert_eq!(records.snapshot().sinks[0].refused, 1);
    records.stop(SOON);

    // A certificate of somebody else is not believed.
    let other = tempfile::tempdir().unwrap();
    let stranger = Certificates::new();
    let records = Records::start(to_postgres(&other, &url, Some(&stranger.file("ca.pem")))).unwrap();
    offer(&records, 0..1);
    wait_failure(&records, 2);
    assert_eq!(records.snapshot().sinks[0].delivered, 0);
    records.stop(Duration::from_secs(5));
}

#[test]
fn a_webhook_gets_every_record_though_it_fails_for_a_while() {
    let (dir, ip) = (tempfile::tempdir().unwrap(), own_address());
    let token = dir.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let receiver = Receiver::start(ip, 0, None);
    let port = receiver.address.port();
    let url = format!("http://{}/calls?x=1", receiver.address);
    let settings = to_webhook(&dir, &url, Some(Token::File(token.clone())), None);
    let records = Records::start(settings.clone()).unwrap();
    offer(&records, 0..50);
    wait_until("taken", SOON, || taken(&receiver).len() == 50);
    let first = receiver.posts().remove(0);
    assert_eq!(first.line, "POST /calls?x=1 HTTP/1.1");
    let header = |name: &str| first.headers.get(name).map_or("", String::as_str);
    assert_eq!((header("authorization"), header("content-type")), ("Bearer first", "application/x-ndjson"));
    assert!(first.body.lines().count() <= 20);

    // It fails, is mute about what it took, redirects, then nobody listens at all.
    std::fs::write(&token, "second").unwrap();
    let moods = [Reply::Status(503), Reply::Cut, Reply::Status(401), Reply::Status(302), Reply::Status(400)];
    for (round, reply) in moods.into_iter().enumerate() {
        receiver.reply(reply);
        let before = records.snapshot().sinks[0].failures;
        offer(&records, 50 + 2 * round..52 + 2 * round);
        wait_failure(&records, before + 2);
    }
    // The same lines come with the same key again.
    let cut: Vec<_> = receiver.posts().into_iter().filter(|post| post.status == 0).collect();
    assert!(
        cut.len() >= 2
            && cut.windows(2).all(|pair| pair[0].headers["idempotency-key"] == pair[1].headers["idempotency-key"])
    );
    assert!(cut.windows(2).all(|pair| pair[0].body == pair[1].body));
    let taken_before = taken(&receiver);
    drop(receiver);
    offer(&records, 60..100);
    wait_failure(&records, records.snapshot().sinks[0].failures + 1);
    records.stop(Duration::from_secs(5));

    // The next process delivers what waits, with the token of now.
    let receiver = Receiver::start(ip, port, None);
    receiver.reply(Reply::RefuseWhere("call-77".into()));
    let records = Records::start(settings).unwrap();
    wait_delivered(&records);
    let all: BTreeSet<String> = taken_before.union(&taken(&receiver)).cloned().collect();
    let expected: BTreeSet<String> = (0..100).filter(|n| *n != 77).map(|n| format!("call-{n}")).collect();
    assert_eq!(all, expected);
    assert_eq!(receiver.posts()[0].headers["authorization"], "Bearer second");
    assert_eq!(records.snapshot().sinks[0].refused, 1);
    records.stop(SOON);
}

#[test]
fn a_webhook_is_verified_and_a_mute_one_holds_up_nobody() {
    let certificates = Certificates::new();
    let ip = own_address();
    certificates.make("hook", &[&ip.to_string()]);
    let receiver = Receiver::start(ip, 0, Some((&certificates, "hook")));
    let url = format!("https://{}/", receiver.address);
    let token = || Some(Token::Given(Secret::parse("t").unwrap()));

    let (stranger, dir) = (Certificates::new(), tempfile::tempdir().unwrap());
    let records = Records::start(to_webhook(&dir, &url, token(), Some(&stranger.file("ca.pem")))).unwrap();
    offer(&records, 0..5);
    wait_failure(&records, 1);
    records.stop(Duration::from_secs(5));
    assert!(receiver.posts().is_empty(), "nothing is said to whom we do not know");

    receiver.reply(Reply::Silence);
    let settings = to_webhook(&dir, &url, token(), Some(&certificates.file("ca.pem")));
    let records = Records::start(Settings { timeout: Duration::from_millis(300), ..settings }).unwrap();
    wait_failure(&records, 1);
    offer(&records, 5..2000);
    wait_until("written", SOON, || records.snapshot().written == 1995);
    receiver.reply(Reply::Status(204));
    wait_delivered(&records);
    assert_eq!(taken(&receiver).len(), 2000);
    records.stop(SOON);
    let unreadable = to_webhook(&dir, &url, None, Some(Path::new("/no/such.pem")));
    assert!(Records::start(unreadable).unwrap_err().to_string().contains("/no/such.pem"));
}

#[test]
fn the_server_keeps_its_records_and_reopens_them() {
    let ip = own_address();
    let settings = format!(
        "[records.postgres]\nurl = \"postgres://u:hidden@{ip}/d\"\n[records.webhook]\nurl = \"http://{ip}:1/hidden\"\ntoken = \"hidden\"\n"
    );
    let mut s = Server::with(&settings);
    let text = s.request("GET", "/metrics", "", &[]).text;
    for series in [
        "trunkline_records_backlog{sink=\"postgres\"} 0",
        "trunkline_records_backlog{sink=\"webhook\"} 0",
        "trunkline_records_shed_total{cause=\"queue_full\",answered=\"true\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series}");
    }
    s.signal("HUP");
    wait_until("reopened", SOON, || s.log().contains("a new file of call records begins"));
    assert!(s.data().join("records").is_dir());
    s.signal("TERM");
    assert!(s.wait_end(SOON).success());
    assert!(!s.log().contains("hidden"), "{}", s.log());
}
