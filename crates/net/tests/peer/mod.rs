//! An engine on loopback with a real routing table, and peers with real sockets.

#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use net::{Bound, Clock, Engine, EngineConfig, StreamSettings};
use proxy::{Answer, Config, Event, Keys, Listener, Lookup, Question, Registration, Router, Shard, Target};
use routing::{Admission, Ask, Builder, Decision, Facts, Place, RouteTable};
use sip::Transport;

/// Nothing here takes nearly so long, unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub engine: Engine,
    pub router: Arc<Table>,
    pub address: SocketAddr,
}

pub struct Table {
    table: RouteTable,
    pub events: Mutex<Vec<Event>>,
}

impl Router for Table {
    fn admit(&self, source: std::net::IpAddr, names: &[Box<str>]) -> Admission {
        self.table.admit(source, names)
    }

    fn route(&self, question: &Question) -> Answer {
        let (begins_call, tried, draw) = (question.begins_call, &*question.tried, question.draw);
        match self.table.decide(&Ask { begins_call, tried, now: question.now.0, draw, ..Ask::default() }) {
            Decision::Trunk { seat, target, .. } => {
                Answer::Forward(Target { seat, index: target, rule: None, trace: None })
            }
            Decision::Nobody(refusal) => Answer::Refuse { status: 503, reason: refusal.why, trace: None },
        }
    }

    fn register(&self, registration: Registration) -> Result<(), Registration> {
        panic!("nothing registers here: {registration:?}");
    }

    fn locate(&self, lookup: Lookup) {
        panic!("no name is used here: {lookup:?}");
    }

    fn event(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

/// A runtime that outlives every test.
pub fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap()).handle().clone()
}

impl World {
    /// How the calls ended that were told so far.
    pub fn ended(&self) -> Vec<proxy::Cause> {
        let events = self.router.events.lock().unwrap();
        let of = |event: &Event| if let Event::Ended(record) = event { record.cause } else { None };
        events.iter().filter_map(of).collect()
    }

    /// Trunks are tried in their order.
    pub fn new(listen: &str, trunks: &[SocketAddr]) -> World {
        World::with(&[listen], 4, trunks)
    }

    pub fn with(listen: &[&str], threads: usize, trunks: &[SocketAddr]) -> World {
        let mut builder = Builder::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], Vec::new());
        for (priority, address) in trunks.iter().enumerate() {
            let facts = Facts {
                sip_uri: format!("sip:{address}"),
                places: vec![Place::udp(*address)],
                priority: priority as u32,
                weight: 100,
                reroute_on: vec![408, 500, 502, 503, 504],
                ..Facts::default()
            };
            builder.set(&format!("trunk-{priority}"), facts);
        }
        let sockets: Vec<_> = listen.iter().map(|address| net::bind(address.parse().unwrap()).unwrap()).collect();
        let listener = |socket: &net::BoundSocket| Listener {
            address: socket.local_addr(),
            transport: Transport::Udp,
            advertised: socket.local_addr().to_string(),
        };
        let listeners = sockets.iter().map(listener).collect();
        let config = Arc::new(Config::new(listeners, Keys::new([1; 16], [2; 16])));
        let address = sockets[0].local_addr();
        let router = Arc::new(Table { table: builder.build(1), events: Mutex::default() });
        let engine = Engine::start(EngineConfig {
            ports: sockets.into_iter().map(Bound::Udp).collect(),
            threads,
            streams: StreamSettings::default(),
            tls: None,
            runtime: runtime(),
            shards: (0..16).map(|index| Shard::new(index, config.clone(), 5)).collect(),
            proxy: config,
            router: router.clone(),
            clock: Clock::new(),
        })
        .unwrap();
        World { engine, router, address }
    }

    pub fn active(&self, trunk: &str) -> u32 {
        self.router.table.trunk(trunk).unwrap().live().active()
    }

    pub fn local_failures(&self, trunk: &str) -> usize {
        let is_it = |event: &&Event| matches!(event, Event::Attempt { trunk: of, status: 503, local: true, .. } if &*of.id == trunk);
        self.router.events.lock().unwrap().iter().filter(is_it).count()
    }
}

pub struct Peer {
    pub socket: UdpSocket,
    pub address: SocketAddr,
    towards: SocketAddr,
}

impl Peer {
    pub fn new(bind: &str, towards: SocketAddr) -> Peer {
        let socket = UdpSocket::bind(bind).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = socket.local_addr().unwrap();
        Peer { socket, address, towards }
    }

    pub fn send(&self, message: &str) {
        self.socket.send_to(message.as_bytes(), self.towards).unwrap();
    }

    #[track_caller]
    pub fn receive(&self) -> String {
        let mut buffer = [0; 65536];
        let (len, _) = self.socket.recv_from(&mut buffer).expect("nothing came");
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    /// The next message that begins so; others are passed over.
    #[track_caller]
    pub fn expect(&self, beginning: &str) -> String {
        loop {
            let message = self.receive();
            if message.starts_with(beginning) {
                return message;
            }
        }
    }

    pub fn request(&self, method: &str, call: &str) -> String {
        let (us, proxy) = (self.address, self.towards);
        let user = if method == "OPTIONS" { "" } else { "1555@" };
        format!(
            "{method} sip:{user}{proxy} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {us};branch=z9hG4bK-{call}-1\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:a@{us}>;tag=a-{call}\r\n\
             To: <sip:1555@{proxy}>\r\n\
             Call-ID: {call}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:a@{us}>\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}

/// All values of a header, each with its line end.
pub fn lines(message: &str, name: &str) -> String {
    let is_it = |line: &&str| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name));
    message.split("\r\n").filter(is_it).map(|line| format!("{line}\r\n")).collect()
}

pub fn value(message: &str, name: &str) -> String {
    lines(message, name).split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap()
}

/// 200 to a request.
pub fn ok(request: &str, contact: SocketAddr) -> String {
    let copied: String =
        ["Via", "Record-Route", "From", "Call-ID", "CSeq"].iter().map(|name| lines(request, name)).collect();
    let to = value(request, "To");
    let tag = if to.contains(";tag=") { "" } else { ";tag=b" };
    format!("SIP/2.0 200 OK\r\n{copied}To: {to}{tag}\r\nContact: <sip:b@{contact}>\r\nContent-Length: 0\r\n\r\n")
}

/// A request of the caller inside the dialog that `ok` made.
pub fn inside(method: &str, number: u32, ok: &str, branch: &str) -> String {
    let contact = value(ok, "Contact");
    let target = contact.trim_matches(['<', '>']);
    let via = value(ok, "Via");
    let us = via.split(';').next().unwrap();
    let route = lines(ok, "Record-Route").replace("Record-Route", "Route");
    format!(
        "{method} {target} SIP/2.0\r\nVia: {us};branch=z9hG4bK-{branch}\r\nMax-Forwards: 70\r\n{route}{}{}{}\
         CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        lines(ok, "From"),
        lines(ok, "To"),
        lines(ok, "Call-ID"),
    )
}

#[track_caller]
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address of loopback where nobody listens. Its socket stays open, or another test's peer might be
/// given the port; being connected elsewhere, it takes nothing of ours, so the kernel reports the
/// port unreachable.
pub fn nobody(bind: &str) -> SocketAddr {
    let socket = UdpSocket::bind(bind).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(SocketAddr::new(address.ip(), 9)).unwrap();
    std::mem::forget(socket);
    address
}
