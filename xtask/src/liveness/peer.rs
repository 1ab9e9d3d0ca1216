//! Peers on plain sockets: a gateway that can be told to die, and a caller who keeps calling.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use md5::Digest;

/// Between two calls.
const PACE: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(20);

/// What a gateway has seen, and how it behaves.
#[derive(Default)]
pub struct Manner {
    /// It says nothing any more.
    pub is_silent: AtomicBool,
    /// It answers calls by 503 with a Retry-After.
    pub is_busy: AtomicBool,
    /// When the last call came that was not seen before.
    last: Mutex<Option<Instant>>,
    calls: AtomicU64,
}

impl Manner {
    /// When the last call came.
    pub fn last_call(&self) -> Option<Instant> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that have come.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// The answer to a message, if it gets one.
    fn hear(&self, message: &str, seen: &mut HashSet<String>) -> Option<String> {
        let method = message.split(' ').next().unwrap_or_default();
        if method == "INVITE" && seen.insert(header(message, "Call-ID")) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.calls.fetch_add(1, Relaxed);
        }
        match method {
            _ if self.is_silent.load(Relaxed) => None,
            "INVITE" if self.is_busy.load(Relaxed) => {
                Some(reply(message, "503 Service Unavailable", "Retry-After: 30\r\n"))
            }
            "INVITE" => Some(reply(message, "486 Busy Here", "")),
            "OPTIONS" => Some(reply(message, "200 OK", "")),
            _ => None,
        }
    }
}

/// A gateway on UDP; its port closes with it.
pub struct Gateway {
    pub manner: Arc<Manner>,
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    pub fn start(at: SocketAddr) -> Result<Gateway> {
        let socket = Arc::new(UdpSocket::bind(at)?);
        socket.set_read_timeout(Some(TICK))?;
        let (manner, stop) = (Arc::new(Manner::default()), Arc::new(AtomicBool::new(false)));
        let (mine, heard, ends) = (socket.clone(), manner.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut seen) = (vec![0; 65_536], HashSet::new());
            while !ends.load(Relaxed) {
                let Ok((length, from)) = mine.recv_from(&mut buffer) else { continue };
                if let Some(answer) = heard.hear(&String::from_utf8_lossy(&buffer[..length]), &mut seen) {
                    // The caller tries again.
                    let _ = mine.send_to(answer.as_bytes(), from);
                }
            }
        });
        Ok(Gateway { manner, socket, stop, thread: Some(thread) })
    }

    /// Registers by digest, from the gateway's own port; when that was granted. The password is `swordfish`.
    pub fn register(&self, to: SocketAddr, expires: u32) -> Result<Instant> {
        let own = self.socket.local_addr()?;
        // Another socket asks for the challenge and could not hear it on this one: the thread above takes all that comes. So the
        // digest is made from a challenge that the same address, at another port, was given.
        let asks = UdpSocket::bind((own.ip(), 0))?;
        asks.set_read_timeout(Some(Duration::from_secs(5)))?;
        let ask = |text: &str| -> Result<String> {
            asks.send_to(text.as_bytes(), to)?;
            let mut buffer = vec![0; 65_536];
            let length = asks.recv(&mut buffer).context("no answer to REGISTER")?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        let challenge = ask(&registration("UDP", asks.local_addr()?, to, 1, expires, ""))?;
        let authorization = authorize(&challenge, to)?;
        let registered = registration("UDP", own, to, 2, expires, &authorization);
        self.socket.send_to(registered.as_bytes(), to)?;
        Ok(Instant::now())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Registers over TCP; the connection, over which calls come.
pub fn register_by_tcp(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let own = stream.local_addr()?;
    let mut authorization = String::new();
    for number in 1..=2 {
        stream.write_all(registration("TCP", own, to, number, 600, &authorization).as_bytes())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.starts_with("SIP/2.0 200 ") {
            return Ok(stream);
        }
        authorization = authorize(&answer, to)?;
    }
    anyhow::bail!("not registered by TCP")
}

/// Takes calls over a connection until it ends.
pub fn take_calls(mut stream: TcpStream, manner: &Manner) {
    let (mut buffer, mut seen, mut chunk) = (Vec::new(), HashSet::new(), [0; 16_384]);
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        buffer.extend_from_slice(&chunk[..length]);
        // No message here has a body.
        while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let message = String::from_utf8_lossy(&buffer[..end + 4]).into_owned();
            buffer.drain(..end + 4);
            if let Some(answer) = manner.hear(&message, &mut seen)
                && stream.write_all(answer.as_bytes()).is_err()
            {
                return;
            }
        }
    }
}

/// Calls without an end, and acknowledges what it gets.
pub struct Caller {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    pub fn start(ip: Ipv4Addr, to: SocketAddr) -> Result<Caller> {
        let socket = UdpSocket::bind((ip, 0))?;
        let own = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            for number in 0u64.. {
                if ends.load(Relaxed) {
                    return;
                }
                // What is lost is one call of many.
                let _ = socket.send_to(invite(own, to, number).as_bytes(), to);
                let next = Instant::now() + PACE;
                while Instant::now() < next {
                    match socket.recv(&mut buffer) {
                        Ok(length) => {
                            if let Some(ack) = ack(&String::from_utf8_lossy(&buffer[..length]), to) {
                                let _ = socket.send_to(ack.as_bytes(), to);
                            }
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(1)),
                    }
                }
            }
        });
        Ok(Caller { stop, thread: Some(thread) })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn invite(own: SocketAddr, to: SocketAddr, number: u64) -> String {
    format!(
        "INVITE sip:15551234@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKc{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:caller@{own}>;tag=c{number}\r\nTo: <sip:15551234@{to}>\r\nCall-ID: c{number}@{own}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:caller@{own}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The ACK of a refusal.
fn ack(answer: &str, to: SocketAddr) -> Option<String> {
    let status: u16 = answer.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    (status >= 300).then(|| {
        let line = |name: &str| format!("{name}: {}\r\n", header(answer, name));
        let copied: String = ["Via", "From", "To", "Call-ID"].map(line).concat();
        format!("ACK sip:15551234@{to} SIP/2.0\r\n{copied}Max-Forwards: 70\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n")
    })
}

/// The value of the first header of a name.
fn header(message: &str, name: &str) -> String {
    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn reply(request: &str, status: &str, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "From", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
            out.push_str(&format!("{line}\r\n"));
        } else if name == "To" {
            out.push_str(&format!("{line};tag=g\r\n"));
        }
    }
    out + extra + "Content-Length: 0\r\n\r\n"
}

fn registration(
    transport: &str,
    own: SocketAddr,
    to: SocketAddr,
    number: u32,
    expires: u32,
    authorization: &str,
) -> String {
    format!(
        "REGISTER sip:{to} SIP/2.0\r\nVia: SIP/2.0/{transport} {own};branch=z9hG4bKr{number}-{expires}\r\nMax-Forwards: 70\r\n\
         From: <sip:pbx@{to}>;tag=r\r\nTo: <sip:pbx@{to}>\r\nCall-ID: r-{expires}@{own}\r\nCSeq: {number} REGISTER\r\n\
         Contact: <sip:pbx@{own}>\r\nExpires: {expires}\r\n{authorization}Content-Length: 0\r\n\r\n"
    )
}

/// The digest of RFC 2069.
fn authorize(challenge: &str, to: SocketAddr) -> Result<String> {
    let line = challenge.lines().find(|line| line.contains("algorithm=MD5"));
    let nonce = line.and_then(|line| line.split("nonce=\"").nth(1)?.split('"').next());
    let nonce = nonce.with_context(|| format!("no challenge: {challenge}"))?;
    let md5 = |text: String| -> String { md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect() };
    let (ha1, ha2) = (md5("pbx:trunkline:swordfish".to_owned()), md5(format!("REGISTER:sip:{to}")));
    let response = md5(format!("{ha1}:{nonce}:{ha2}"));
    Ok(format!(
        "Authorization: Digest username=\"pbx\", realm=\"trunkline\", nonce=\"{nonce}\", uri=\"sip:{to}\", \
         response=\"{response}\"\r\n"
    ))
}
