//! The torture messages of RFC 4475 and RFC 5118 through the running proxy.
//!
//! What became of each is written to `docs/conformance.md`, which must be the same: UPDATE_EXPECT=1 writes it anew.
//! A fate that the RFC does not leave to us fails the test in any case.

mod rows;
mod wire;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peers::{Server, own_address, wait_until};

use rows::{Again, Fate, ROWS, Row, Rule};
use wire::Peer;

const SOON: Duration = Duration::from_secs(10);
const TRUNK: u16 = 7001;

/// A message to send, and whose it is.
struct Trial {
    row: &'static Row,
    again: Option<&'static Again>,
    bytes: Vec<u8>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for row in ROWS {
        let path = root().join("tests/messages").join(row.file.0).join(format!("{}.sip", row.file.1));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        if let Some(again) = &row.again {
            let bytes = wire::edited(&bytes, again.edits);
            trials.push(Trial { row, again: Some(again), bytes });
        }
        trials.push(Trial { row, again: None, bytes });
    }
    trials
}

/// Messages that a server would take for one transaction (RFC 3261 §17.2.3) go to different servers.
fn rounds(trials: Vec<Trial>) -> Vec<Vec<Trial>> {
    let mut rounds: Vec<(HashSet<Vec<u8>>, Vec<Trial>)> = Vec::new();
    for trial in trials {
        let key = wire::vias(&trial.bytes).into_iter().next().unwrap_or_default();
        let round = match rounds.iter_mut().find(|(keys, _)| !keys.contains(&key)) {
            Some(round) => round,
            None => {
                rounds.push(Default::default());
                rounds.last_mut().unwrap()
            }
        };
        round.0.insert(key);
        round.1.push(trial);
    }
    rounds.into_iter().map(|(_, trials)| trials).collect()
}

/// A server with one trunk.
struct Bench {
    server: Server,
    trunk: Peer,
    calls: u32,
}

impl Bench {
    fn start() -> Bench {
        let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", wire::knows_no_name()));
        let trunk = Peer::new(server.ip, TRUNK);
        server.register("a", TRUNK, "");
        // The table that calls are routed by follows the registry, a moment later.
        let routable = "trunkline_trunk_routable{trunk=\"a\"}";
        wait_until("the trunk is routable", SOON, || server.metric(routable) == 1.0);
        Bench { server, trunk, calls: 0 }
    }

    fn trunk_at(&self) -> String {
        format!("{}:{TRUNK}", self.server.ip)
    }

    /// Messages that were dropped so far.
    fn dropped(&self) -> f64 {
        let series = [
            "trunkline_sip_datagrams_total{fate=\"malformed\"}",
            "trunkline_sip_datagrams_total{fate=\"unowned\"}",
            "trunkline_silenced_total{cause=\"malformed\"}",
        ];
        series.iter().map(|series| self.server.metric(series)).sum()
    }

    /// Sends a message as a peer would, and says what becomes of it.
    fn fate(&mut self, trial: &Trial) -> Fate {
        let answers = trial.again.is_some_and(|again| again.answers);
        let caller = Peer::new(own_address(), if answers { 0 } else { port(&trial.bytes) });
        let fate = if answers { self.answer(&caller, &trial.bytes) } else { self.pass(&caller, &trial.bytes) };
        if let Err(why) = self.good_call() {
            return Fate::Wrong(format!("{fate:?}, and then {why}"));
        }
        let later = caller.receive(Duration::from_millis(50));
        match (&fate, later) {
            (Fate::Dropped, Some(more)) => Fate::Wrong(format!("answered late: {}", more.escape_ascii())),
            _ => fate,
        }
    }

    fn pass(&self, caller: &Peer, bytes: &[u8]) -> Fate {
        let dropped = self.dropped();
        caller.send(&self.server.sip(), bytes);
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if let Some(answer) = caller.receive(Duration::from_millis(5)) {
                return answered(bytes, &answer).unwrap_or_else(Fate::Wrong);
            }
            if let Some(request) = self.trunk.receive(Duration::from_millis(5)) {
                return self.forwarded(caller, bytes, &request).map_or_else(Fate::Wrong, |()| Fate::Forwarded);
            }
            if self.dropped() > dropped {
                return Fate::Dropped;
            }
        }
        Fate::Wrong("neither forwarded nor answered nor counted as dropped".to_owned())
    }

    /// The trunk has the request: it must be whole, and its answer must find back.
    fn forwarded(&self, caller: &Peer, sent: &[u8], request: &[u8]) -> Result<(), String> {
        let whole = wire::compare(first_of(sent), request, &self.server.sip(), &self.trunk_at());
        let invite = sent.starts_with(b"INVITE ");
        let status = if invite { "486 Busy Here" } else { "200 OK" };
        self.trunk.send(&self.server.sip(), &wire::respond(request, status));
        if invite {
            let ack = self.trunk.receive(SOON).ok_or("no ACK at the trunk")?;
            if !ack.starts_with(b"ACK ") || wire::vias(&ack) != wire::vias(request)[..1] {
                return Err(format!("the ACK was {}", ack.escape_ascii()));
            }
        }
        let answer = caller.receive(SOON).ok_or("the answer did not come back")?;
        match answered(sent, &answer)? {
            Fate::Answered(200 | 486) => whole,
            other => Err(format!("the answer became {other:?}")),
        }
    }

    /// The trunk gives a response to a call: it must reach the caller without our Via, and with no other change.
    fn answer(&self, caller: &Peer, response: &[u8]) -> Fate {
        let number = format!("answered-{}", caller.address.port());
        caller.send(&self.server.sip(), &request(&self.server, caller, "INVITE", &number, ""));
        let Some(invite) = self.trunk.receive(SOON) else { return Fate::Wrong("no INVITE at the trunk".to_owned()) };
        let parts = wire::split(response);
        let copied = wire::respond(&invite, "200 OK");
        let copied = wire::split(&copied).lines.into_iter().filter(|line| wire::name(line) != "content-length");
        let known = ["via", "from", "to", "call-id", "cseq"];
        let own = parts.lines.into_iter().filter(|line| !known.contains(&wire::name(line).as_str()));
        let mut lines: Vec<&[u8]> = copied.chain(own).collect();
        let message =
            |lines: &[&[u8]]| [parts.start, b"\r\n", &lines.join(&b"\r\n"[..]), b"\r\n\r\n", parts.body].concat();
        self.trunk.send(&self.server.sip(), &message(&lines));
        let got = caller.receive(SOON);
        lines.remove(0);
        match got {
            Some(got) if got == message(&lines) => Fate::Forwarded,
            Some(got) => Fate::Wrong(format!("the response became {}", got.escape_ascii())),
            None => Fate::Dropped,
        }
    }

    /// A call from INVITE to BYE: the proxy lives, and nothing else is on its way to the trunk.
    fn good_call(&mut self) -> Result<(), String> {
        self.calls += 1;
        let caller = Peer::new(own_address(), 0);
        let (sip, id) = (self.server.sip(), format!("good-{}", self.calls));
        let expect = |peer: &Peer, start: &str| {
            let message = peer.receive(SOON).ok_or(format!("no {start:?} of a good call"))?;
            let ours = wire::find(&message, id.as_bytes()).is_some() && message.starts_with(start.as_bytes());
            ours.then_some(message.clone()).ok_or(format!("instead of {start:?}: {}", message.escape_ascii()))
        };
        caller.send(&sip, &request(&self.server, &caller, "INVITE", &id, ""));
        let invite = expect(&self.trunk, "INVITE ").map_err(|why| {
            let answer = caller.receive(Duration::from_millis(50)).unwrap_or_default();
            format!("{why}, and the caller heard {:?}", answer.escape_ascii().to_string())
        })?;
        self.trunk.send(&sip, &wire::respond(&invite, "200 OK"));
        expect(&caller, "SIP/2.0 200 ")?;
        for method in ["ACK", "BYE"] {
            caller.send(&sip, &request(&self.server, &caller, method, &id, ";tag=answerer"));
            let message = expect(&self.trunk, method)?;
            if method == "BYE" {
                self.trunk.send(&sip, &wire::respond(&message, "200 OK"));
            }
        }
        expect(&caller, "SIP/2.0 200 ").map(|_| ())
    }
}

/// A request of a caller who keeps no route set.
fn request(server: &Server, from: &Peer, method: &str, call: &str, to_tag: &str) -> Vec<u8> {
    let (sip, address) = (server.sip(), from.address);
    let number = if method == "BYE" { 2 } else { 1 };
    format!(
        "{method} sip:15551234@{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{call}-{method}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@{address}>;tag=caller\r\nTo: <sip:15551234@{sip}>{to_tag}\r\n\
         Call-ID: {call}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Where the answer to a message goes: the port of its top Via.
fn port(message: &[u8]) -> u16 {
    let via = wire::vias(message).into_iter().next().unwrap_or_default();
    let via = String::from_utf8_lossy(&via).into_owned();
    let sent_by = via.split(';').next().unwrap_or_default();
    let after_host = sent_by.rsplit(']').next().unwrap_or_default();
    after_host.rsplit_once(':').and_then(|(_, port)| port.trim().parse().ok()).unwrap_or(5060)
}

/// The message that a datagram holds: what Content-Length 0 leaves behind it is no part of it.
fn first_of(datagram: &[u8]) -> &[u8] {
    let parts = wire::split(datagram);
    let empty = parts.lines.iter().any(|line| wire::name(line) == "content-length" && wire::value(line) == b"0");
    if empty { &datagram[..datagram.len() - parts.body.len()] } else { datagram }
}

/// The answer that a caller got, if it is one to his request.
fn answered(sent: &[u8], answer: &[u8]) -> Result<Fate, String> {
    let status = wire::status(answer).ok_or_else(|| format!("no answer: {}", answer.escape_ascii()))?;
    if wire::vias(sent) != wire::vias(answer) {
        return Err(format!("an answer with other Vias: {}", answer.escape_ascii()));
    }
    let unsupported = wire::split(answer).lines.iter().any(|line| wire::name(line) == "unsupported");
    if unsupported != (status == 420) {
        return Err(format!("Unsupported belongs to 420: {}", answer.escape_ascii()));
    }
    Ok(Fate::Answered(status))
}

fn words(fate: &Fate) -> String {
    match fate {
        Fate::Forwarded => "forwarded".to_owned(),
        Fate::Answered(status) => status.to_string(),
        Fate::Dropped => "dropped".to_owned(),
        Fate::Wrong(what) => format!("WRONG: {what}"),
    }
}

const HEAD: &str = "\
# Conformance

The torture messages of RFC 4475 and RFC 5118, sent over UDP by a peer that may place calls to a running process with one
trunk. The test `conformance` sends them and writes this page; it fails where the page is not what it saw.

Forwarded: the trunk got every byte as it was sent, but for the Request-URI, which names the trunk and keeps the user, our
Via and Record-Route, `received` and `rport` in the first Via, Max-Forwards, and a Max-Breadth (RFC 5393) and for INVITE a
Session-Expires (RFC 4028) where it has none; its answer came back with the Vias that were sent. A
number is the code of our own answer. Dropped: nobody was sent anything, and a counter says so. After each message a call is
placed, answered and ended.

The messages, in `tests/messages`, have the fault or the oddity of their section byte by byte; identifiers and bodies that do not
matter there are not always those of the RFC. A message that is answered here for what it asks is sent once more with
the change that the row names, so that its bytes have to pass.

Verdict: *asked*, the RFC asks for it; *allowed*, it leaves the choice; *policy*, the message is well-formed and asks for what
this proxy does not do (a new call along a Route of its sender, a request in a dialog that does not stand or along a name that
nobody knows, a registration without an account); *stricter*, the RFC would be more liberal.
";

const STRICTER: &str = "
Stricter in one place: an IPv6 reference with three colons is refused, as RFC 5954 took it out of the grammar.
";

/// The page, from what was seen.
fn page(seen: &[(&Trial, Fate)]) -> String {
    let mut out = HEAD.to_owned();
    for (set, title) in [("rfc4475", "RFC 4475"), ("rfc5118", "RFC 5118")] {
        out.push_str(&format!(
            "\n## {title}\n\n| Section | Message | The RFC | Trunkline | Verdict |\n|---|---|---|---|---|\n"
        ));
        for row in ROWS.iter().filter(|row| row.file.0 == set) {
            let (section, name) = row.file.1.split_once('-').unwrap();
            let fate = |again: bool| {
                let mine = |(trial, _): &&(&Trial, Fate)| trial.row.file == row.file && trial.again.is_some() == again;
                words(&seen.iter().find(mine).unwrap().1)
            };
            let once_more = row.again.as_ref().map(|again| format!("; {}: {}", again.how, fate(true)));
            let verdict = match row.rule {
                Rule::Asked => "asked",
                Rule::Allowed => "allowed",
                Rule::Policy => "policy",
                Rule::Stricter => "stricter",
            };
            let trunkline = fate(false) + &once_more.unwrap_or_default();
            out.push_str(&format!("| {section} | {name} | {} | {trunkline} | {verdict} |\n", row.says));
        }
    }
    out + STRICTER
}

fn run(round: &[Trial]) -> Vec<(&Trial, Fate)> {
    let mut bench = Bench::start();
    round.iter().map(|trial| (trial, bench.fate(trial))).collect()
}

#[test]
fn torture_messages_meet_what_the_rfcs_ask() {
    peers::binary();
    let rounds = rounds(trials());
    let seen: Vec<(&Trial, Fate)> = std::thread::scope(|scope| {
        let running: Vec<_> = rounds.iter().map(|round| scope.spawn(|| run(round))).collect();
        running.into_iter().flat_map(|round| round.join().unwrap()).collect()
    });
    let wrong: Vec<String> = seen
        .iter()
        .filter(|(trial, fate)| match trial.again {
            Some(_) => *fate != Fate::Forwarded,
            None => !trial.row.fates.contains(fate),
        })
        .map(|(trial, fate)| {
            let how = trial.again.map_or("as it is", |again| again.how);
            format!("{} {}, {how}: {}", trial.row.file.0, trial.row.file.1, words(fate))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let (path, page) = (root().join("docs/conformance.md"), page(&seen));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "{path:?} is not what was seen (UPDATE_EXPECT=1 writes it anew):\n{}", diff(&kept, &page));
}

/// Lines that only one of two texts has.
fn diff(old: &str, new: &str) -> String {
    let only = |sign: char, one: &str, other: &str| -> String {
        let other: HashSet<&str> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    only('-', old, new) + &only('+', new, old)
}

#[test]
fn every_message_has_its_row() {
    for set in ["rfc4475", "rfc5118"] {
        let files = std::fs::read_dir(root().join("tests/messages").join(set)).unwrap();
        let files: HashSet<String> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let rows = ROWS.iter().filter(|row| row.file.0 == set).map(|row| format!("{}.sip", row.file.1)).collect();
        assert_eq!(files, rows);
    }
}
