//! What a whole call costs a shard: INVITE, 180, 200, ACK, BYE and its 200, over one of ten trunks.
//!
//! `cargo bench -p trunkline-proxy [-- CALLS]`. The figures are medians over the calls, so a machine with other work shows nearly the same.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::{Answer, Config, Inbound, Keys, Listener, Outbox, Shard, Target, Time};
use registry::{Rewrite, Route, RouteTarget, Treatment};
use routing::{Ask, Builder, Decision, Facts, Place, RouteTable, Rule};

const CALLS: usize = 100_000;
const CALLER: &str = "198.51.100.7:5060";

fn main() {
    println!("no rule: {:?} a call", median(None));
    let treatment = Treatment {
        called: Rewrite { strip: 1, prepend: "00".into() },
        calling: Rewrite { strip: 0, prepend: "+".into() },
        set: Box::new([("X-Route".into(), "berlin".into())]),
        remove: Box::new(["X-Secret".into()]),
        ..Treatment::default()
    };
    let route = Route {
        id: "r".into(),
        enabled: true,
        emergency: false,
        precedence: 0,
        called: Box::default(),
        conditions: None,
        targets: Box::new([RouteTarget::Group("default".into())]),
        treatment: Some(Box::new(treatment)),
        comment: None,
        labels: Box::default(),
    };
    println!("both numbers and two headers: {:?} a call", median(Some(Rule::new(Arc::new(route)))));
}

fn median(rule: Option<Rule>) -> Duration {
    let calls = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(CALLS);
    let mut world = World::new(rule);
    let mut took: Vec<Duration> = (0..calls).map(|number| world.call(number)).collect();
    took.sort_unstable();
    took[calls / 2]
}

struct World {
    shard: Shard,
    table: RouteTable,
    rule: Option<Rule>,
    now: Time,
    index: sip::Index,
    out: Outbox,
    spent: Duration,
}

impl World {
    fn new(rule: Option<Rule>) -> World {
        let address: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let listener = Listener { address, transport: sip::Transport::Udp, advertised: address.to_string() };
        let config = Arc::new(Config::new(vec![listener], Keys::new([1; 16], [2; 16])));
        let mut builder = Builder::new(vec!["198.51.100.0/24".parse().unwrap()], Vec::new());
        for trunk in 1..=10 {
            let at = format!("203.0.113.{trunk}:5060");
            let places = vec![Place::udp(at.parse().unwrap())];
            builder.set(&format!("trunk-{trunk}"), Facts { sip_uri: format!("sip:{at}"), places, ..Facts::default() });
        }
        World {
            shard: Shard::new(0, config, 42),
            table: builder.build(1),
            rule,
            now: Time(1_000_000_000),
            index: sip::Index::new(),
            out: Outbox::default(),
            spent: Duration::ZERO,
        }
    }

    /// Gives a message to the shard, and the last one that it sends.
    fn receive(&mut self, from: SocketAddr, message: &str) -> String {
        let begun = Instant::now();
        self.out.clear();
        self.index.parse(message.as_bytes()).unwrap();
        let inbound = Inbound {
            listener: 0,
            source: from,
            connection: None,
            admission: self.table.admit(from.ip(), &[]),
            names: None,
            message: self.index.message(message.as_bytes()),
        };
        self.shard.receive(self.now, inbound, &mut self.out);
        while let Some(question) = self.out.questions.pop() {
            let ask = Ask { begins_call: true, now: self.now.0, draw: question.draw, ..Ask::default() };
            let Decision::Trunk { seat, target, .. } = self.table.decide(&ask) else { panic!("no trunk") };
            let target = Target { seat, index: target, rule: self.rule.clone(), trace: None };
            self.shard.answer(self.now, question.context, Answer::Forward(target), &mut self.out);
        }
        drop(self.out.events.drain(..));
        self.spent += begun.elapsed();
        let sent = self.out.sends.last().map(|send| send.range.clone()).unwrap();
        String::from_utf8(self.out.bytes[sent].to_vec()).unwrap()
    }

    /// One call; what the shard spent on it, its timers included.
    fn call(&mut self, number: usize) -> Duration {
        self.spent = Duration::ZERO;
        let caller: SocketAddr = CALLER.parse().unwrap();
        let invite = self.receive(
            caller,
            &format!(
                "INVITE sip:+49301234567@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{number}-1\r\n\
                 Max-Forwards: 70\r\nFrom: Alice <sip:49891234567@198.51.100.7>;tag=a-{number}\r\n\
                 To: <sip:+49301234567@192.0.2.1>\r\nCall-ID: {number}@198.51.100.7\r\nCSeq: 1 INVITE\r\n\
                 Contact: <sip:alice@{CALLER}>\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY\r\n\
                 User-Agent: bench\r\nX-Secret: 1\r\nContent-Type: application/sdp\r\nContent-Length: 160\r\n\r\n{}",
                "v".repeat(160)
            ),
        );
        let trunk: SocketAddr = line(&invite, "INVITE ").split(['@', ' ']).nth(1).unwrap().parse().unwrap();
        self.now = self.now.plus_millis(2);
        self.receive(trunk, &answer(&invite, "180 Ringing", trunk));
        self.now = self.now.plus_millis(2);
        let ok = self.receive(trunk, &answer(&invite, "200 OK", trunk));
        self.receive(caller, &inside(&ok, "ACK", 1, number, trunk));
        self.now = self.now.plus_millis(2);
        let bye = self.receive(caller, &inside(&ok, "BYE", 2, number, trunk));
        self.receive(trunk, &answer(&bye, "200 OK", trunk));
        let begun = Instant::now();
        self.out.clear();
        self.shard.fire(self.now, &mut self.out);
        self.spent + begun.elapsed()
    }
}

fn line<'a>(message: &'a str, start: &str) -> &'a str {
    message.split("\r\n").find_map(|line| line.strip_prefix(start)).unwrap()
}

fn answer(request: &str, status: &str, at: SocketAddr) -> String {
    let mut answer = format!("SIP/2.0 {status}\r\n");
    for header in request.split("\r\n").skip(1) {
        let name = header.split(':').next().unwrap();
        if matches!(name, "Via" | "Record-Route" | "From" | "To" | "Call-ID" | "CSeq") {
            let tag = if name == "To" && !header.contains(";tag=") { ";tag=b" } else { "" };
            answer += &format!("{header}{tag}\r\n");
        }
    }
    answer + &format!("Contact: <sip:bob@{at}>\r\nContent-Length: 0\r\n\r\n")
}

fn inside(ok: &str, method: &str, cseq: u32, number: usize, trunk: SocketAddr) -> String {
    format!(
        "{method} sip:bob@{trunk} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{number}-{method}\r\n\
         Route: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        line(ok, "Record-Route: "),
        line(ok, "From: "),
        line(ok, "To: "),
        line(ok, "Call-ID: "),
    )
}
