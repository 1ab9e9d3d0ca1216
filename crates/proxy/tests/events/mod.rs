//! A shard under a sequence of events that is decoded from bytes, in virtual time, and what must hold of it; the tests and the
//! fuzz target share it.

mod text;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proxy::{
    Answer, Config, Connection, ContextId, Event, Hop, Inbound, Keys, Listener, Located, Lookup, LookupId, Outbox,
    Probe, Question, Registration, Shard, Target, Time,
};
use registry::{Reroute, Rewrite, Route, RouteTarget, Treatment};
use routing::{Ask, Builder, Decision, Facts, Live, Place, RouteTable, Rule};
use sip::{Index, Scheme, Transport, Uri};

use text::{Script, is_answered};

/// Messages and questions of before that an event may come back to.
const REMEMBERED: usize = 64;
/// Events of one sequence.
const MOST_EVENTS: usize = 400;
/// Messages that one event may cause, timers aside.
const MOST_SENDS: usize = 64;
/// Everything has ended after this time without an event, in milliseconds.
const END: u64 = 3_600_000;
const TLS: u8 = 2;
/// Attempts of one call, with those whose large form could not go by TCP.
const MOST_ATTEMPTS: usize = 32;
const MAX_TRANSACTIONS: usize = 24;
const MAX_OF_SOURCE: usize = 8;

const STEPS: [u64; 16] = [0, 1, 10, 20, 99, 100, 101, 500, 1000, 4000, 5000, 10_001, 32_000, 59_000, 62_000, 122_000];

/// Where peers send from: listener, address, connection. The last two may place no calls.
const PEERS: [(u8, &str, Option<u64>); 9] = [
    (0, "198.51.100.7:5060", None),
    (0, "198.51.100.200:5070", None),
    (1, "198.51.100.7:40000", Some(1)),
    (2, "198.51.100.9:40001", Some(2)),
    (3, "[2001:db8::7]:5060", None),
    (0, "203.0.113.1:5060", None),
    (2, "203.0.113.5:5061", Some(3)),
    (0, "192.0.2.77:5060", None),
    (1, "192.0.2.78:50000", Some(4)),
];

struct Play<'a> {
    script: Script<'a>,
    shard: Shard,
    config: Arc<Config>,
    builder: Builder,
    table: RouteTable,
    /// Names of certificates.
    names: Option<Arc<[Box<str>]>>,
    /// Counts of all trunks that there ever were.
    lives: Vec<Arc<Live>>,
    now: Time,
    index: Index,
    out: Outbox,
    heard: Vec<(u8, SocketAddr, Option<Connection>, Vec<u8>)>,
    sent: Vec<(Hop, Vec<u8>)>,
    rules: [Rule; 4],
    asked: Vec<ContextId>,
    /// INVITEs that began a call, and calls that were told as ended.
    begun: HashSet<ContextId>,
    ended: usize,
    registrations: Vec<Registration>,
    lookups: Vec<LookupId>,
    probes: u64,
}

/// Plays the events that the bytes say; panics where an invariant does not hold.
pub fn everything(bytes: &[u8]) {
    let mut play = Play::new(Script(bytes));
    for _ in 0..MOST_EVENTS {
        if play.script.is_empty() {
            break;
        }
        play.event();
        play.is_bounded();
    }
    play.ends();
}

/// Rules that do what routes can ask for.
fn rules() -> [Rule; 4] {
    let rewrite = |strip: u8, prepend: &str| Rewrite { strip, prepend: prepend.into() };
    let plain = Treatment::default();
    let treatments = [
        Treatment { called: rewrite(2, "00"), calling: rewrite(0, "+49"), ..plain.clone() },
        Treatment { called: rewrite(255, ""), calling: rewrite(255, ";a=?/#%41&=$,"), ..plain.clone() },
        Treatment {
            set: Box::new([("X-A".into(), "1".into()), ("P-Asserted-Identity".into(), "<tel:1>".into())]),
            remove: Box::new(["s".into(), "Privacy".into(), "x-a".into(), "Reason".into()]),
            ..plain.clone()
        },
        Treatment {
            reroute_on: Some(Reroute { codes: vec![302, 404, 486, 600], causes: vec![16] }),
            setup_timeout_ms: Some(100),
            ring_timeout_ms: Some(600_000),
            ..plain
        },
    ];
    treatments.map(|treatment| {
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
    })
}

fn refuse(status: u16, reason: &str) -> Answer {
    Answer::Refuse { status, reason: reason.to_owned(), trace: None }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Trunks of every kind.
fn trunk(number: usize) -> (&'static str, Facts) {
    let at = |text: &str, transport| Place { transport, ..Place::udp(address(text)) };
    let common = Facts {
        weight: 100,
        priority: number as u32 / 2,
        reroute_on: vec![404, 408, 500, 502, 503, 504],
        reroute_causes: vec![34],
        ..Facts::default()
    };
    let (id, uri, places) = match number {
        0 => ("a", "sip:203.0.113.1:5060", vec![at("203.0.113.1:5060", Transport::Udp)]),
        1 => {
            ("b", "sip:b.example", vec![at("203.0.113.2:5060", Transport::Udp), at("203.0.113.3:5060", Transport::Udp)])
        }
        2 => ("c", "sip:c@203.0.113.4;transport=tcp;x=y", vec![at("203.0.113.4:5060", Transport::Tcp)]),
        3 => (
            "d",
            "sips:d.example",
            vec![at("203.0.113.5:5061", Transport::Tls), at("203.0.113.6:5061", Transport::Tls)],
        ),
        4 => {
            let place = at("203.0.113.7:50001", Transport::Tcp);
            ("e", "sip:e@10.0.0.7", vec![Place { connection: Some(77), only: true, ..place }])
        }
        _ => ("f", "sip:[2001:db8::f]:5060", vec![at("[2001:db8::f]:5060", Transport::Udp)]),
    };
    let facts = Facts { sip_uri: uri.to_owned(), places, ..common };
    let facts = match number {
        0 => Facts { max_channels: Some(2), ..facts },
        1 => Facts { large_over_tcp: true, ..facts },
        5 => Facts { trusted: true, max_cps: Some(2.0), ..facts },
        _ => facts,
    };
    (id, facts)
}

impl<'a> Play<'a> {
    fn new(mut script: Script<'a>) -> Play<'a> {
        let listener = |text: &str, transport: Transport| {
            let address = address(text);
            Listener { address, transport, advertised: address.to_string() }
        };
        let listeners = vec![
            listener("192.0.2.1:5060", Transport::Udp),
            listener("192.0.2.1:5060", Transport::Tcp),
            listener("192.0.2.1:5061", Transport::Tls),
            listener("[2001:db8::1]:5060", Transport::Udp),
        ];
        let how = script.byte();
        let mut config = Config::new(listeners, Keys::new([7; 16], [8; 16]));
        config.ring_timeout = 10_000;
        config.timer_c = 15_000;
        config.max_call = 60_000;
        config.max_transactions = MAX_TRANSACTIONS;
        config.max_of_source = MAX_OF_SOURCE;
        config.session_expires = if how & 1 == 0 { 1800 } else { 0 };
        config.reroute_after_ringing = how & 2 != 0;
        config.registers.store(how & 4 == 0, Relaxed);
        let config = Arc::new(config);
        let allow = vec!["198.51.100.0/24".parse().expect("a network"), "2001:db8::/64".parse().expect("a network")];
        let mut builder = Builder::new(allow, vec!["198.51.100.128/25".parse().expect("a network")]);
        for number in 0..6 {
            if how >> 4 & 1 == 0 || number % 2 == 0 {
                let (id, facts) = trunk(number);
                builder.set(id, facts);
            }
        }
        let mut play = Play {
            script,
            shard: Shard::new(0, config.clone(), 42),
            config,
            table: RouteTable::default(),
            builder,
            names: Some(Arc::from(["d.example".into()])),
            lives: Vec::new(),
            now: Time(1_000_000),
            index: Index::new(),
            out: Outbox::default(),
            heard: Vec::new(),
            sent: Vec::new(),
            rules: rules(),
            asked: Vec::new(),
            begun: HashSet::new(),
            ended: 0,
            registrations: Vec::new(),
            lookups: Vec::new(),
            probes: 0,
        };
        play.rebuild();
        play
    }

    fn event(&mut self) {
        match self.script.byte() & 15 {
            0..=2 => self.request(),
            3..=5 => self.response(),
            6 | 7 => self.in_dialog(),
            8 => self.on_hop(),
            9 => self.repeat(),
            10 => self.changed(),
            11 => self.undeliverable(),
            12 => self.answered_elsewhere(),
            13 => self.probe(),
            14 => self.change(),
            _ => self.wait(),
        }
    }

    fn request(&mut self) {
        let (listener, source, connection) = self.script.of(&PEERS);
        let transport = self.config.listeners[usize::from(listener)].transport.in_via();
        let bytes = self.script.request(&format!("SIP/2.0/{transport} {source}"));
        self.receive(listener, address(source), connection.map(Connection), &bytes);
    }

    /// One of the messages that the proxy sent, the last first.
    fn sent(&mut self) -> Option<(Hop, Vec<u8>)> {
        let back = self.script.number() % self.sent.len().max(1);
        self.sent.iter().rev().nth(back).cloned()
    }

    fn response(&mut self) {
        let back = self.script.number();
        let mut index = std::mem::take(&mut self.index);
        let mut requests = Vec::with_capacity(self.sent.len());
        requests.extend((0..self.sent.len()).rev().filter(|at| is_answered(&self.sent[*at].1)));
        if let Some(at) = requests.get(back % requests.len().max(1)) {
            let (hop, request) = self.sent[*at].clone();
            if index.parse(&request).is_ok() {
                let bytes = self.script.response(index.message(&request));
                self.receive(hop.listener, hop.address, hop.connection, &bytes);
            }
        }
        self.index = index;
    }

    fn in_dialog(&mut self) {
        let Some((hop, base)) = self.sent() else { return };
        let mut index = std::mem::take(&mut self.index);
        if index.parse(&base).is_ok() {
            let transport = self.config.listeners[usize::from(hop.listener)].transport.in_via();
            let bytes = self.script.in_dialog(index.message(&base), &format!("SIP/2.0/{transport} {}", hop.address));
            self.receive(hop.listener, hop.address, hop.connection, &bytes);
        }
        self.index = index;
    }

    fn on_hop(&mut self) {
        let back = self.script.number() % self.heard.len().max(1);
        let Some((listener, source, connection, base)) = self.heard.iter().rev().nth(back).cloned() else { return };
        let mut index = std::mem::take(&mut self.index);
        if index.parse(&base).is_ok() {
            let bytes = self.script.on_hop(index.message(&base));
            self.receive(listener, source, connection, &bytes);
        }
        self.index = index;
    }

    fn repeat(&mut self) {
        let back = self.script.number() % self.heard.len().max(1);
        if let Some((listener, source, connection, bytes)) = self.heard.iter().rev().nth(back).cloned() {
            self.receive(listener, source, connection, &bytes);
        }
    }

    /// Something that was heard or sent comes with other bytes in it, or something altogether different.
    fn changed(&mut self) {
        let (listener, source, connection) = self.script.of(&PEERS);
        let base = match self.script.byte() & 3 {
            0 => self.sent().map(|(_, bytes)| bytes),
            1 => Some(Vec::new()),
            _ => self.heard.last().map(|(.., bytes)| bytes.clone()),
        };
        let bytes = self.script.changed(&base.unwrap_or_default());
        self.receive(listener, address(source), connection.map(Connection), &bytes);
    }

    fn undeliverable(&mut self) {
        let Some((_, bytes)) = self.sent() else { return };
        let kept = bytes.len() - self.script.number() % (bytes.len() + 1);
        self.shard.undeliverable(self.now, &bytes[..kept], &mut self.out);
        self.settle(MOST_SENDS);
    }

    /// The registrar or a name server answers, or an answer comes that nobody waits for.
    fn answered_elsewhere(&mut self) {
        let (which, how) = (self.script.number(), self.script.byte());
        let pick = |length: usize| which % length.max(1);
        match how & 3 {
            0 => {
                let Some(context) = self.registrations.get(pick(self.registrations.len())).map(|held| held.context)
                else {
                    return;
                };
                let status = [200, 401, 403, 423, 500][usize::from(how >> 2) % 5];
                let answer = (how >> 5 != 0).then_some((status, "", b"Contact: <sip:a@b>;expires=60\r\n".as_slice()));
                self.shard.reply(self.now, context, answer, &mut self.out);
            }
            1 | 2 => {
                let Some(id) = self.lookups.get(pick(self.lookups.len())).copied() else { return };
                let places = ["203.0.113.1:5060", "203.0.113.30:5070", "[2001:db8::f]:5060", "203.0.113.31:5061"];
                let transports = [Transport::Udp, Transport::Tcp, Transport::Tls];
                let places = (0..how >> 2 & 3).map(|_| {
                    let (address, transport) = (address(self.script.of(&places)), self.script.of(&transports));
                    Located { address, transport }
                });
                let places = places.collect();
                self.shard.located(self.now, id, places, &mut self.out);
            }
            _ => {
                let Some(context) = self.asked.get(pick(self.asked.len())).copied() else { return };
                self.shard.answer(self.now, context, refuse(404, "nobody \"asked\"\r\n"), &mut self.out);
            }
        }
        self.settle(MOST_SENDS);
    }

    fn probe(&mut self) {
        let trunks = self.table.trunks();
        let Some(trunk) = trunks.get(self.script.number() % trunks.len().max(1)) else { return };
        let Some(place) = trunk.targets.first().map(|target| &target.place) else { return };
        let Some(listener) = self.config.listener_towards(place.address, place.transport, 0) else { return };
        let hop =
            Hop { connection: place.connection.map(Connection), only: place.only, ..Hop::to(listener, place.address) };
        self.probes += 1;
        let probe = Probe {
            token: self.probes,
            hop,
            request_uri: trunk.facts.sip_uri.as_str().into(),
            from: None,
            timeout: self.script.of(&[1000, 4000, 0]),
        };
        self.shard.probe(self.now, &probe, &mut self.out);
        self.settle(MOST_SENDS);
    }

    /// The table or the settings change.
    fn change(&mut self) {
        let (which, how) = (self.script.number() % 6, self.script.byte());
        let (id, mut facts) = trunk(which);
        match how & 7 {
            0 => facts.obstacles = vec!["disabled".to_owned()],
            1 => facts.doubts = vec!["probe: timeout".to_owned()],
            2 => facts.max_channels = Some(u32::from(how >> 3)),
            3 => facts.places.clear(),
            4 => {
                if let Some(trunk) = self.table.trunk(id) {
                    trunk.live().set_resting(how & 8 != 0);
                    trunk.targets.iter().for_each(|target| target.live.set_usable(how & 16 != 0));
                }
                return;
            }
            5 => {
                self.config.draining.store(how & 8 != 0, Relaxed);
                self.config.registers.store(how & 16 != 0, Relaxed);
                return;
            }
            6 => {
                self.builder.remove(id);
                return self.rebuild();
            }
            _ => {}
        }
        self.builder.set(id, facts);
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.table = self.builder.build(1);
        for trunk in self.table.trunks() {
            if !self.lives.iter().any(|live| Arc::ptr_eq(live, trunk.live())) {
                self.lives.push(trunk.live().clone());
            }
        }
    }

    /// Time passes; timers fire in time, or all at once when the driver comes late, or not yet.
    fn wait(&mut self) {
        let how = self.script.byte();
        let end = self.now.plus_millis(STEPS[usize::from(how & 15)]);
        match how >> 4 {
            0 => self.now = end,
            1 => {
                self.now = end;
                self.fire();
            }
            _ => self.pass_until(end),
        }
    }

    fn pass_until(&mut self, end: Time) {
        while let Some(at) = self.shard.next_timeout().filter(|at| *at <= end) {
            // A wheel that is behind wants to be fired until it has caught up.
            assert!(at > Time(0));
            self.now = self.now.max(at);
            self.fire();
        }
        self.now = end;
    }

    fn fire(&mut self) {
        self.shard.fire(self.now, &mut self.out);
        self.settle(usize::MAX);
    }

    /// As a driver does.
    fn receive(&mut self, listener: u8, source: SocketAddr, connection: Option<Connection>, bytes: &[u8]) {
        let mut index = Index::new();
        if index.parse(bytes).is_err() {
            return;
        }
        let message = index.message(bytes);
        let is_request = message.is_request();
        let admission = if is_request { self.table.admit(source.ip(), &[]) } else { Default::default() };
        let names = self.names.as_ref().filter(|_| listener == TLS);
        let inbound = Inbound { listener, source, connection, admission, names, message };
        match proxy::owner(message, &self.config.keys, 1) {
            Some(_) => self.shard.receive(self.now, inbound, &mut self.out),
            None if is_request => proxy::refuse_malformed(&inbound, &self.config, &mut self.out),
            None => {}
        }
        self.heard.push((listener, source, connection, bytes.to_vec()));
        if self.heard.len() > REMEMBERED {
            self.heard.remove(0);
        }
        self.settle(MOST_SENDS);
    }

    /// Answers the questions, looks at the messages.
    fn settle(&mut self, most: usize) {
        while let Some(question) = self.out.questions.pop() {
            self.asked.push(question.context);
            if question.begins_call {
                self.begun.insert(question.context);
            }
            let answer = self.decide(&question);
            self.shard.answer(self.now, question.context, answer, &mut self.out);
        }
        assert!(self.out.sends.len() <= most, "one event makes {} messages", self.out.sends.len());
        let out = std::mem::take(&mut self.out);
        for send in &out.sends {
            let bytes = &out.bytes[send.range.clone()];
            self.is_sendable(&send.hop, bytes);
            self.sent.push((send.hop.clone(), bytes.to_vec()));
        }
        for event in &out.events {
            if let Event::Ended(record) = event {
                self.ended += 1;
                assert!(record.cause.is_some() && record.ended >= Some(record.began), "{record:?}");
                assert!(record.attempts.len() <= MOST_ATTEMPTS, "{record:?}");
            }
        }
        self.registrations.extend(out.registrations);
        self.lookups.extend(out.lookups.into_iter().map(|Lookup { id, .. }| id));
        let surplus = |length: usize| length.saturating_sub(REMEMBERED);
        self.sent.drain(..surplus(self.sent.len()));
        self.asked.drain(..surplus(self.asked.len()));
        self.registrations.drain(..surplus(self.registrations.len()));
        self.lookups.drain(..surplus(self.lookups.len()));
    }

    fn decide(&self, question: &Question) -> Answer {
        // What routes match on can be read of any request.
        let read = [question.called(), question.calling(), question.domain(), question.call_id()];
        assert!(read.iter().all(|part| part.len() <= question.request().len()));
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
        match self.table.decide(&ask) {
            Decision::Trunk { seat, target, trace, .. } => {
                let rule = self.rules.get((question.draw >> 8) as usize % (2 * self.rules.len())).cloned();
                Answer::Forward(Target { seat, index: target, rule, trace })
            }
            Decision::Nobody(refusal) => refuse(if question.draw & 1 == 0 { 503 } else { 404 }, &refusal.why),
        }
    }

    /// What goes out is a message, by a way that can carry it.
    fn is_sendable(&self, hop: &Hop, bytes: &[u8]) {
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        let mut index = Index::new();
        assert_eq!(index.parse(bytes), Ok(()), "{}", shown());
        let message = index.message(bytes);
        assert_eq!(message.bytes().len(), bytes.len(), "bytes after the body: {}", shown());
        let listener = &self.config.listeners[usize::from(hop.listener)];
        assert_eq!(listener.address.is_ipv4(), hop.address.is_ipv4(), "{hop:?}");
        if let Some(uri) = message.request_uri() {
            assert_eq!(message.validate(), Ok(()), "{}", shown());
            let secure = Uri::parse(uri).is_ok_and(|uri| uri.scheme == Scheme::Sips);
            assert!(!secure || listener.transport == Transport::Tls, "sips: by {}: {}", listener.transport, shown());
        }
    }

    fn is_bounded(&self) {
        let held = self.shard.held();
        assert!(held.transactions <= 2 * MAX_TRANSACTIONS, "{held:?}");
        assert!(held.calls <= PEERS.len() * MAX_OF_SOURCE, "{held:?}");
        assert!(held.legs <= held.calls * 16, "{held:?}");
        assert!(held.held_acks <= 256, "{held:?}");
        assert_eq!(self.begun.len(), self.ended + held.calls, "a call is told once, at its end");
    }

    /// When no peer says anything more, all of it comes to an end.
    fn ends(&mut self) {
        let end = self.now.plus_millis(END);
        self.pass_until(end);
        let held = self.shard.held();
        let nothing = (0, 0, 0, 0, 0);
        let left = (held.transactions, held.clients, held.calls, held.legs, held.sources);
        assert_eq!(left, nothing, "something is left for ever: {held:?} {:?}", self.shard.calls());
        assert_eq!(self.shard.next_timeout(), None);
        assert!(self.lives.iter().all(|live| live.active() == 0), "a channel is taken for ever");
    }
}
