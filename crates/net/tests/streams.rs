//! SIP over TCP: an engine on loopback, and peers that behave, or do not.

#![allow(clippy::unwrap_used)]

mod peer;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use net::{Bound, Clock, Engine, EngineConfig, StreamSettings};
use peer::{PATIENCE, eventually, runtime};
use proxy::{Answer, Config, Event, Keys, Listener, Lookup, Question, Registration, Router, Shard, Target};
use routing::{Admission, Ask, Builder, Decision, Facts, Place, RouteTable};
use sip::Transport;

struct Table {
    table: RouteTable,
    events: Mutex<Vec<Event>>,
}

impl Router for Table {
    fn admit(&self, source: std::net::IpAddr, names: &[Box<str>]) -> Admission {
        self.table.admit(source, names)
    }

    fn route(&self, question: &Question) -> Answer {
        let ask =
            Ask { begins_call: question.begins_call, tried: &question.tried, draw: question.draw, ..Ask::default() };
        match self.table.decide(&ask) {
            Decision::Trunk { seat, target, .. } => {
                Answer::Forward(Target { seat, index: target, rule: None, trace: None })
            }
            Decision::Nobody(refusal) => Answer::Refuse { status: 503, reason: refusal.why, trace: None },
        }
    }

    fn register(&self, registration: Registration) -> Result<(), Registration> {
        Err(registration)
    }

    fn locate(&self, _: Lookup) {}

    fn event(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

struct World {
    engine: Engine,
    router: Arc<Table>,
    tcp: SocketAddr,
    udp: SocketAddr,
}

impl World {
    fn new(trunks: &[Facts], settings: StreamSettings) -> World {
        let mut builder = Builder::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
        for (priority, facts) in trunks.iter().enumerate() {
            let sip_uri = format!("sip:{}", facts.places[0].address);
            builder.set(
                &format!("t{priority}"),
                Facts { sip_uri, priority: priority as u32, weight: 100, ..facts.clone() },
            );
        }
        let udp = net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let tcp = net::bind_stream("127.0.0.1:0".parse().unwrap()).unwrap();
        let (udp_address, tcp_address) = (udp.local_addr(), tcp.local_addr());
        let listener =
            |address: SocketAddr, transport| Listener { address, transport, advertised: address.to_string() };
        let listeners = vec![listener(udp_address, Transport::Udp), listener(tcp_address, Transport::Tcp)];
        let proxy = Arc::new(Config::new(listeners, Keys::new([1; 16], [2; 16])));
        let router = Arc::new(Table { table: builder.build(1), events: Mutex::default() });
        let engine = Engine::start(EngineConfig {
            ports: vec![Bound::Udp(udp), Bound::Stream(tcp)],
            threads: 2,
            streams: settings,
            tls: None,
            runtime: runtime(),
            shards: (0..8).map(|index| Shard::new(index, proxy.clone(), 5)).collect(),
            proxy,
            router: router.clone(),
            clock: Clock::new(),
        })
        .unwrap();
        World { engine, router, tcp: tcp_address, udp: udp_address }
    }

    fn counts(&self) -> net::StreamCounts {
        self.engine.streams().unwrap().counts()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn tcp(at: SocketAddr) -> Facts {
    Facts { places: vec![Place { transport: Transport::Tcp, ..Place::udp(at) }], ..Facts::default() }
}

fn quick() -> StreamSettings {
    StreamSettings { message: Duration::from_millis(600), ..StreamSettings::default() }
}

fn request(method: &str, call: &str, from: &TcpStream, towards: SocketAddr, body: usize) -> String {
    let own = from.local_addr().unwrap();
    format!(
        "{method} sip:1@{towards} SIP/2.0\r\nVia: SIP/2.0/TCP {own};branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\nFrom: <sip:a@{own}>;tag={call}\r\n\
         To: <sip:1@{towards}>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\nContact: <sip:a@{own};transport=tcp>\r\n\
         Content-Length: {body}\r\n\r\n{}",
        "x".repeat(body)
    )
}

/// Reads one message, or what comes before the connection ends; one that stays silent fails the test.
fn read(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\r\n\r\n") || text.trim().is_empty() {
        match stream.read(&mut byte) {
            Ok(1) => text.push(char::from(byte[0])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing within {PATIENCE:?}"),
            _ => return text,
        }
    }
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    text + &String::from_utf8(body).unwrap()
}

#[test]
fn pieces_and_pipelines_are_answered_and_pings_too() {
    let w = World::new(&[], quick());
    let mut peer = w.connect();
    let (one, two) = (request("OPTIONS", "one", &peer, w.tcp, 5), request("OPTIONS", "two", &peer, w.tcp, 0));
    for piece in one.as_bytes().chunks(7) {
        peer.write_all(piece).unwrap();
    }
    assert!(read(&mut peer).contains("Call-ID: one"));
    peer.write_all(format!("\r\n\r\n{two}{one}").as_bytes()).unwrap();
    let answers = [read(&mut peer), read(&mut peer)].concat();
    assert!(answers.contains("Call-ID: two") && answers.contains("Call-ID: one"), "{answers}");
    peer.write_all(b"\r\n\r\n").unwrap();
    let mut pongs = [0; 4];
    peer.read_exact(&mut pongs[..2]).unwrap();
    assert_eq!(&pongs[..2], b"\r\n");
    eventually("both pings", || w.counts().pings == 2);
}

#[test]
fn who_is_slow_or_speaks_no_sip_is_dropped() {
    let w = World::new(&[], quick());
    let mut silent = w.connect();
    let mut half = w.connect();
    half.write_all(b"OPTIONS sip:x SIP/2.0\r\nVia: ").unwrap();
    let mut garbage = w.connect();
    garbage.write_all(b"\x16\x03\x01 hello \r\n\r\n").unwrap();
    for stream in [&mut silent, &mut half, &mut garbage] {
        assert_eq!(read(stream), "", "it is closed without a word");
    }
    let mut good = w.connect();
    good.write_all(request("OPTIONS", "good", &good, w.tcp, 0).as_bytes()).unwrap();
    assert!(read(&mut good).starts_with("SIP/2.0 200"));
    good.write_all(b"OPTIONS sip:x SIP/2.0\r\n").unwrap();
    assert_eq!(read(&mut good), "", "neither may a proven peer stop in the middle");
    let counts = w.counts();
    assert_eq!((counts.slow_senders, counts.malformed), (3, 1));
    eventually("the counts", || w.counts().open == 0);
    let closed = w.router.events.lock().unwrap().iter().filter(|event| matches!(event, Event::Closed { .. })).count();
    assert_eq!(closed, 4, "each end is told");
}

#[test]
fn one_source_has_its_share_and_a_flood_locks_nobody_out() {
    let w = World::new(&[], StreamSettings { per_source: 3, ..StreamSettings::default() });
    let held: Vec<TcpStream> = (0..3).map(|_| w.connect()).collect();
    eventually("the counts", || w.counts().open == 3);
    assert_eq!(read(&mut w.connect()), "", "the fourth is closed");
    assert_eq!(w.counts().refused, 1);
    drop(held);
    eventually("the counts", || w.counts().open == 0);

    let w = World::new(&[], StreamSettings { total: 8, ..StreamSettings::default() });
    let mut good = w.connect();
    good.write_all(request("OPTIONS", "good", &good, w.tcp, 0).as_bytes()).unwrap();
    assert!(read(&mut good).starts_with("SIP/2.0 200"));
    let flood: Vec<TcpStream> = (0..40).map(|_| w.connect()).collect();
    eventually("most have gone", || w.counts().evicted + w.counts().refused >= 35 && w.counts().open <= 6);
    assert!(w.counts().evicted > 0);
    let mut late = w.connect();
    late.write_all(request("OPTIONS", "late", &late, w.tcp, 0).as_bytes()).unwrap();
    assert!(read(&mut late).starts_with("SIP/2.0 200"), "who has something to say gets in");
    good.write_all(request("OPTIONS", "still", &good, w.tcp, 0).as_bytes()).unwrap();
    assert!(read(&mut good).starts_with("SIP/2.0 200"), "who is proven stays");
    drop(flood);
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    let w = World::new(&[], StreamSettings { waiting: 20_000, ..StreamSettings::default() });
    let mut deaf = w.connect();
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let begun = Instant::now();
    for n in 0.. {
        // The answer repeats the Via.
        let long = format!("Via: SIP/2.0/TCP 192.0.2.1;x={}\r\nMax-Forwards", "x".repeat(12_000));
        let message = request("OPTIONS", &format!("deaf{n}"), &deaf, w.tcp, 0).replace("Max-Forwards", &long);
        if deaf.write_all(message.as_bytes()).is_err() || begun.elapsed() > PATIENCE {
            break;
        }
    }
    eventually("the counts", || w.counts().slow_readers == 1 && w.counts().open == 0);
}

#[test]
fn who_answered_pings_and_answers_no_more_is_dead() {
    let settings = StreamSettings {
        keepalive: Duration::from_millis(600),
        pong: Duration::from_millis(600),
        ..StreamSettings::default()
    };
    let w = World::new(&[], settings);
    let (mut alive, mut ignorant) = (w.connect(), w.connect());
    for stream in [&mut alive, &mut ignorant] {
        stream.write_all(request("OPTIONS", "ping", stream, w.tcp, 0).as_bytes()).unwrap();
        assert!(read(stream).starts_with("SIP/2.0 200"));
    }
    let mut ping = [0; 4];
    alive.read_exact(&mut ping).unwrap();
    assert_eq!(&ping, b"\r\n\r\n");
    alive.write_all(b"\r\n").unwrap();
    alive.read_exact(&mut ping).unwrap();
    eventually("the counts", || w.counts().dead == 1);
    assert_eq!(w.counts().open, 1, "who never knew pings is left alone");
}

#[test]
fn a_trunk_by_tcp_has_one_connection_and_a_closed_port_fails_over_at_once() {
    let trunk = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let w = World::new(&[tcp(closed), tcp(trunk.local_addr().unwrap())], quick());
    let mut caller = w.connect();
    let begun = Instant::now();
    for n in 0..3 {
        caller.write_all(request("INVITE", &format!("call{n}"), &caller, w.tcp, 4).as_bytes()).unwrap();
    }
    let (mut stream, _) = trunk.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut acknowledged = 0;
    while acknowledged < 3 {
        let message = read(&mut stream);
        if message.starts_with("ACK ") {
            acknowledged += 1;
            continue;
        }
        assert!(message.starts_with("INVITE ") && message.ends_with("xxxx"), "{message}");
        assert!(message.contains("Via: SIP/2.0/TCP") && message.contains(";transport=tcp;lr"), "{message}");
        let copied = ["Via", "From", "To", "Call-ID", "CSeq"];
        let lines: Vec<&str> =
            message.lines().filter(|line| copied.iter().any(|name| line.starts_with(name))).collect();
        let answer = format!("SIP/2.0 486 Busy Here\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "no attempt waited for a timer");
    for _ in 0..3 {
        let mut answer = read(&mut caller);
        while answer.starts_with("SIP/2.0 100") {
            answer = read(&mut caller);
        }
        assert!(answer.starts_with("SIP/2.0 486"), "{answer}");
    }
    assert_eq!(w.counts().connected, 1);
    assert!(w.counts().unreachable >= 1);
}

#[test]
fn large_requests_go_by_tcp_where_the_trunk_allows_it() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = udp.local_addr().unwrap();
    let by_udp = Facts { places: vec![Place::udp(at)], ..Facts::default() };
    let oversized =
        |w: &World| w.router.events.lock().unwrap().iter().filter(|event| matches!(event, Event::Oversized)).count();

    let w = World::new(std::slice::from_ref(&by_udp), quick());
    let mut caller = w.connect();
    caller.write_all(request("INVITE", "large", &caller, w.udp, 1500).as_bytes()).unwrap();
    let mut buffer = [0; 4096];
    let (length, _) = udp.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"INVITE ") && length > 1300);
    eventually("the counts", || oversized(&w) == 1);

    let allows = Facts { large_over_tcp: true, ..by_udp };
    let w = World::new(std::slice::from_ref(&allows), quick());
    let mut caller = w.connect();
    caller.write_all(request("INVITE", "refused", &caller, w.udp, 1500).as_bytes()).unwrap();
    let (length, _) = udp.recv_from(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(
        text.starts_with("INVITE ") && text.contains("Via: SIP/2.0/UDP"),
        "nobody listens on TCP: UDP as it is: {text}"
    );

    let w = World::new(&[allows], quick());
    let trunk = TcpListener::bind(at).unwrap();
    let mut caller = w.connect();
    caller.write_all(request("INVITE", "taken", &caller, w.udp, 1500).as_bytes()).unwrap();
    let (mut stream, _) = trunk.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let invite = read(&mut stream);
    assert!(invite.starts_with("INVITE ") && invite.contains("Via: SIP/2.0/TCP"), "{invite}");
    assert_eq!(oversized(&w), 0);
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let w = World::new(&[], StreamSettings { per_source: 1000, ..StreamSettings::default() });
    for _ in 0..5 {
        let streams: Vec<TcpStream> = (0..100).map(|_| w.connect()).collect();
        drop(streams);
    }
    eventually("the counts", || w.counts().accepted == 500 && w.counts().open == 0);
}
