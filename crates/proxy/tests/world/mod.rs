//! A proxy and its peers in virtual time: no socket, no clock.

#![allow(clippy::unwrap_used, dead_code)] // each test file uses its part

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use proxy::{
    Answer, CallRecord, Config, ContextId, Event, Hop, Inbound, Keys, Listener, Lookup, Outbox, Question, Registration,
    Shard, Target, Time,
};
use registry::{Rewrite, Route, RouteTarget, Treatment};
use routing::{Ask, Builder, Decision, Facts, Place, RouteTable, Rule, Trace};
use sip::Transport;

pub const PROXY: &str = "192.0.2.1:5060";
pub const CALLER: &str = "198.51.100.7:5060";

pub struct World {
    pub shard: Shard,
    pub config: Arc<Config>,
    pub builder: Builder,
    pub table: RouteTable,
    pub now: Time,
    pub events: Vec<Event>,
    /// Calls that were begun, and how many were told as ended.
    pub begun: HashSet<ContextId>,
    pub told: usize,
    /// What was asked.
    pub questions: Vec<Question>,
    /// Answers every question so, where it is set.
    pub refuse: Option<(u16, &'static str)>,
    /// The rule that trunks are chosen by, by their ids; "" is that of all others.
    pub rules: HashMap<&'static str, Rule>,
    /// Told with each choice.
    pub trace: Option<Trace>,
    /// The names of the certificate that requests come with.
    pub names: Option<Arc<[Box<str>]>>,
    pub registrations: Vec<Registration>,
    pub lookups: Vec<Lookup>,
    /// Calls that went to a trunk although all were in doubt.
    pub panics: usize,
    /// Messages that the proxy sent and nobody has taken yet.
    pub wire: VecDeque<(Hop, String)>,
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn trunk(at: &str, priority: u32) -> Facts {
    Facts {
        sip_uri: format!("sip:{at}"),
        places: vec![Place::udp(address(at))],
        priority,
        weight: 100,
        reroute_on: vec![408, 500, 502, 503, 504],
        ..Facts::default()
    }
}

/// A rule with this treatment.
pub fn rule(treatment: Treatment) -> Rule {
    Rule::new(Arc::new(Route {
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
    }))
}

/// Takes so many characters away, and puts these there.
pub fn rewrite(strip: u8, prepend: &str) -> Rewrite {
    Rewrite { strip, prepend: prepend.into() }
}

impl World {
    pub fn new(trunks: &[(&str, Facts)]) -> World {
        World::with(trunks, |_| {})
    }

    pub fn with(trunks: &[(&str, Facts)], change: impl FnOnce(&mut Config)) -> World {
        let listener = |port: u16, transport: Transport| {
            let address = SocketAddr::new(address(PROXY).ip(), port);
            Listener { address, transport, advertised: address.to_string() }
        };
        // By index: UDP, TCP, TLS.
        let listeners = [(5060, Transport::Udp), (5060, Transport::Tcp), (5061, Transport::Tls)];
        let listeners = listeners.map(|(port, transport)| listener(port, transport));
        let mut config = Config::new(listeners.to_vec(), Keys::new([7; 16], [8; 16]));
        config.session_expires = 0;
        change(&mut config);
        let config = Arc::new(config);
        let mut builder =
            Builder::new(vec!["198.51.100.0/24".parse().unwrap()], vec!["198.51.100.128/25".parse().unwrap()]);
        for (id, facts) in trunks {
            builder.set(id, facts.clone());
        }
        let table = builder.build(1);
        World {
            shard: Shard::new(0, config.clone(), 42),
            config,
            builder,
            table,
            now: Time(1_000_000_000),
            events: Vec::new(),
            begun: HashSet::new(),
            told: 0,
            questions: Vec::new(),
            refuse: None,
            rules: HashMap::new(),
            trace: None,
            names: None,
            registrations: Vec::new(),
            lookups: Vec::new(),
            panics: 0,
            wire: VecDeque::new(),
        }
    }

    pub fn change(&mut self, change: impl FnOnce(&mut Builder)) {
        change(&mut self.builder);
        self.table = self.builder.build(2);
    }

    /// A peer sends; whatever the proxy sends in turn lies on the wire afterwards.
    pub fn send(&mut self, from: &str, message: &str) {
        self.send_by(0, None, from, message);
    }

    /// The same, by a listener and a connection of it.
    pub fn send_by(&mut self, listener: u8, connection: Option<u64>, from: &str, message: &str) {
        let (mut index, mut out) = (sip::Index::new(), Outbox::default());
        index.parse(message.as_bytes()).unwrap_or_else(|error| panic!("{error}: {message}"));
        let source = address(from);
        let inbound = Inbound {
            listener,
            source,
            connection: connection.map(proxy::Connection),
            admission: self.table.admit(source.ip(), &[]),
            names: self.names.as_ref(),
            message: index.message(message.as_bytes()),
        };
        self.shard.receive(self.now, inbound, &mut out);
        self.drain(out);
    }

    /// Any other input of the shard.
    pub fn input<T>(&mut self, input: impl FnOnce(&mut Shard, Time, &mut Outbox) -> T) -> T {
        let mut out = Outbox::default();
        let result = input(&mut self.shard, self.now, &mut out);
        self.drain(out);
        result
    }

    pub fn undeliverable(&mut self, message: &str) {
        let mut out = Outbox::default();
        self.shard.undeliverable(self.now, message.as_bytes(), &mut out);
        self.drain(out);
    }

    /// Lets time pass, firing every timer at its moment.
    pub fn wait(&mut self, millis: u64) {
        let end = self.now.plus_millis(millis);
        while let Some(at) = self.shard.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let mut out = Outbox::default();
            self.shard.fire(self.now, &mut out);
            self.drain(out);
        }
        self.now = end;
    }

    fn drain(&mut self, mut out: Outbox) {
        while let Some(question) = out.questions.pop() {
            if question.begins_call {
                self.begun.insert(question.context);
            }
            let (id, tried) = question.again.clone().unwrap_or_default();
            let ask = Ask {
                begins_call: question.begins_call,
                secure: question.secure,
                tried: &question.tried,
                again: question.again.is_some().then_some((&*id, tried.as_slice())),
                now: question.now.0,
                draw: question.draw,
                ..Ask::default()
            };
            let answer = match (self.refuse, self.table.decide(&ask)) {
                (Some((status, reason)), _) => {
                    Answer::Refuse { status, reason: reason.to_owned(), trace: self.trace.clone().map(Box::new) }
                }
                (None, Decision::Trunk { seat, target, panic, .. }) => {
                    self.panics += usize::from(panic);
                    let rules = &self.rules;
                    let rule = rules.get(&*seat.trunk().id).or_else(|| rules.get("")).cloned();
                    let trace = self.trace.clone().map(Box::new);
                    Answer::Forward(Target { seat, index: target, rule, trace })
                }
                (None, Decision::Nobody(refusal)) => Answer::Refuse { status: 503, reason: refusal.why, trace: None },
            };
            self.shard.answer(self.now, question.context, answer, &mut out);
            self.questions.push(question);
        }
        for send in &out.sends {
            let text = String::from_utf8(out.bytes[send.range.clone()].to_vec()).unwrap();
            self.wire.push_back((send.hop.clone(), text));
        }
        self.told += out.events.iter().filter(|event| matches!(event, Event::Ended(_))).count();
        self.events.append(&mut out.events);
        self.registrations.append(&mut out.registrations);
        self.lookups.append(&mut out.lookups);
    }

    /// Everything that has arrived at an address, in order.
    pub fn all(&mut self, at: &str) -> Vec<String> {
        self.all_hops(at).into_iter().map(|(_, text)| text).collect()
    }

    /// The same, with the way that each went.
    pub fn all_hops(&mut self, at: &str) -> Vec<(Hop, String)> {
        let at = address(at);
        let (mine, rest) =
            std::mem::take(&mut self.wire).into_iter().partition::<VecDeque<_>, _>(|(to, _)| to.address == at);
        self.wire = rest;
        mine.into()
    }

    /// The one message that has arrived at an address.
    #[track_caller]
    pub fn one(&mut self, at: &str) -> String {
        let mut all = self.all(at);
        assert_eq!(all.len(), 1, "at {at}: {all:#?}");
        all.remove(0)
    }

    /// Asserts that nothing more is on the wire.
    #[track_caller]
    pub fn silent(&self) {
        assert!(self.wire.is_empty(), "{:#?}", self.wire);
    }

    pub fn active(&self, id: &str) -> u32 {
        self.table.trunk(id).map_or(0, |trunk| trunk.live().active())
    }

    pub fn refusals(&self) -> Vec<&'static str> {
        let cause = |event: &Event| {
            if let Event::Refused { cause, .. } = event { Some(*cause) } else { None }
        };
        self.events.iter().filter_map(cause).collect()
    }

    /// Why the last refusal was made, as the log says it.
    pub fn why(&self) -> &str {
        let refused = self.events.iter().rev().find_map(|event| match event {
            Event::Refused { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        refused.unwrap_or_default()
    }

    /// What was told of the calls that have ended.
    pub fn ended(&self) -> Vec<&CallRecord> {
        let ended = self.events.iter().filter_map(|event| match event {
            Event::Ended(record) => Some(&**record),
            _ => None,
        });
        ended.collect()
    }

    /// The call that has ended, and no other.
    #[track_caller]
    pub fn record(&self) -> &CallRecord {
        let ended = self.ended();
        assert_eq!(ended.len(), 1, "{ended:#?}");
        ended[0]
    }

    /// Places a call up to the INVITE at a trunk, which is returned.
    #[track_caller]
    pub fn invite_to(&mut self, call: &str, trunk: &str) -> String {
        self.send(CALLER, &invite(call));
        self.one(trunk)
    }

    /// Places a call and lets it be answered; returns the 200 as the caller got it.
    #[track_caller]
    pub fn establish(&mut self, call: &str, trunk: &str, extra: &str) -> String {
        let invite = self.invite_to(call, trunk);
        self.send(trunk, &respond(&invite, "200 OK", &format!("Contact: <sip:bob@{trunk}>\r\n{extra}")));
        let ok = self.one(CALLER);
        self.send(CALLER, &in_dialog("ACK", 1, &ok));
        assert!(self.one(trunk).starts_with("ACK "));
        ok
    }
}

/// Whatever a test does: each call is told once, at its end.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.begun.len(), self.told + self.shard.calls().len(), "calls begun, ended and standing");
        }
    }
}

pub fn invite(call: &str) -> String {
    format!(
        "INVITE sip:15551234@{PROXY} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{call}-1\r\n\
         Max-Forwards: 70\r\n\
         From: Alice <sip:alice@198.51.100.7>;tag=a-{call}\r\n\
         To: <sip:15551234@{PROXY}>\r\n\
         Call-ID: {call}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:alice@{CALLER}>\r\n\
         X-Untouched:   as  it came ;x=\"y\"\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: 4\r\n\r\nv=0\n"
    )
}

/// CANCEL, or the ACK of a refusal, for [`invite`].
pub fn on_hop(method: &str, call: &str) -> String {
    format!(
        "{method} sip:15551234@{PROXY} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{call}-1\r\n\
         Max-Forwards: 70\r\n\
         From: Alice <sip:alice@198.51.100.7>;tag=a-{call}\r\n\
         To: <sip:15551234@{PROXY}>\r\n\
         Call-ID: {call}\r\n\
         CSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Values of a header, one for each line.
pub fn headers(message: &str, name: &str) -> Vec<String> {
    let prefix = format!("{}:", name.to_ascii_lowercase());
    message
        .split("\r\n")
        .take_while(|line| !line.is_empty())
        .filter(|line| line.to_ascii_lowercase().starts_with(&prefix))
        .map(|line| line[prefix.len()..].trim().to_owned())
        .collect()
}

#[track_caller]
pub fn header(message: &str, name: &str) -> String {
    headers(message, name).into_iter().next().unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// A response to a request, with a To tag of the responder's.
pub fn respond(request: &str, status: &str, extra: &str) -> String {
    respond_tagged(request, status, "b", extra)
}

pub fn respond_tagged(request: &str, status: &str, tag: &str, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in headers(request, name) {
            let tag = if name == "To" && !value.contains(";tag=") { format!(";tag={tag}") } else { String::new() };
            out.push_str(&format!("{name}: {value}{tag}\r\n"));
        }
    }
    out + extra + "Content-Length: 0\r\n\r\n"
}

/// A request of the caller's inside the dialog that a 200 made, along its route set.
pub fn in_dialog(method: &str, number: u32, ok: &str) -> String {
    let contact = header(ok, "Contact");
    let mut routes: Vec<String> = headers(ok, "Record-Route");
    routes.reverse();
    let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    format!(
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{}-{method}-{number}\r\n{routes}\
         Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        contact.trim_matches(['<', '>']),
        header(ok, "Call-ID"),
        header(ok, "From"),
        header(ok, "To"),
        header(ok, "Call-ID"),
    )
}

/// A request of the callee's inside the dialog, along its route set.
pub fn from_callee(method: &str, number: u32, ok: &str, at: &str) -> String {
    let routes: String = headers(ok, "Record-Route").iter().map(|route| format!("Route: {route}\r\n")).collect();
    format!(
        "{method} sip:alice@{CALLER} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK-callee-{method}-{number}\r\n{routes}\
         Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        header(ok, "To"),
        header(ok, "From"),
        header(ok, "Call-ID"),
    )
}
