//! `cargo xtask hostile`: good calls beside hostile peers; prints what became of both.
//!
//! Each flood comes from an address of its own, as fast as a thread can send: INVITEs without ACK from an address that may call and from one that
//! may not, garbage, registrations with wrong passwords, and half-open TCP connections.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{binary, build_release, root};
use crate::server::{Server, listen, usage};

const IP: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);
/// Calls a second of the good peer.
const RATE: u32 = 200;

/// A flood, and how many messages or connections it brought about.
struct Flood {
    name: &'static str,
    sent: AtomicU64,
}

pub fn run(args: &[&str]) -> Result<()> {
    let seconds: u64 = args.first().map_or(Ok(30), |text| text.parse()).context("SECONDS must be a number")?;
    build_release()?;
    // The good peer and one of the hostile ones may call.
    let settings = format!(
        "[sip]\nallow = [\"{IP}/32\", \"127.66.0.10/32\"]\nmax_calls_per_source = 20000\nthreads = 2\n{}",
        listen(IP)
    );
    let server = Server::start(before_floods(&binary().to_string_lossy()), IP, &settings)?;
    measure(&server, seconds)
}

fn measure(server: &Server, seconds: u64) -> Result<()> {
    server.http("PUT", "/trunks/a", &format!("{{\"sip_uri\":\"sip:{IP}:7001\",\"heartbeat_seconds\":0}}"))?;
    let pbx = r#"{"sip_uri":"sip:pbx@a","register":{"username":"pbx","password":"swordfish"}}"#;
    server.http("PUT", "/trunks/pbx", pbx)?;
    let scenarios = root().join("tests/scenarios");
    let mut answerer = sipp(&["-sf", &scenarios.join("uas_routes.xml").to_string_lossy(), "-p", "7001"])?;
    std::thread::sleep(Duration::from_millis(500));

    println!("── without floods");
    let (start, _) = usage(server.process())?;
    let calm = calls(seconds.min(5), &scenarios)?;
    let (cpu, memory) = usage(server.process())?;
    let capacity = calm.good as f64 / (cpu - start).max(0.01);
    println!("   good calls: {calm}; memory {memory} MiB; at this rate a core serves {capacity:.0} calls a second");

    println!("── with floods, {seconds} s");
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<Arc<Flood>> = [
        "INVITE without ACK, allowed",
        "INVITE, unknown source",
        "garbage",
        "REGISTER, wrong password",
        "TCP connection, half open",
    ]
    .into_iter()
    .map(|name| Arc::new(Flood { name, sent: AtomicU64::new(0) }))
    .collect();
    let threads: Vec<_> = floods
        .iter()
        .enumerate()
        .map(|(n, flood)| {
            let (flood, stop) = (flood.clone(), stop.clone());
            std::thread::spawn(move || if n == 4 { connect(&flood, &stop) } else { send(n, &flood, &stop) })
        })
        .collect();
    let begun = Instant::now();
    let stormy = calls(seconds, &scenarios)?;
    let took = begun.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            bail!("a flood has failed");
        }
    }
    let (after, memory) = usage(server.process())?;
    let mut offered = 0.0;
    for flood in &floods {
        let sent = flood.sent.load(Relaxed);
        offered += sent as f64 / took;
        println!("   {:28} {sent:>10}   {:>8.0} a second", flood.name, sent as f64 / took);
    }
    println!("   together {offered:.0} a second, {:.1} times what a core serves in calls", offered / capacity);
    println!("   good calls: {stormy}; memory {memory} MiB at most, {:.2} cores", (after - cpu) / took);
    for line in server.http("GET", "/metrics", "")?.lines() {
        let wanted = [
            "trunkline_silenced",
            "trunkline_refusals",
            "trunkline_shed",
            "trunkline_registrations",
            "trunkline_sip_connections",
            "trunkline_sip_datagrams",
            "trunkline_sip_transactions ",
        ];
        if wanted.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0") {
            println!("   {line}");
        }
    }
    let _ = answerer.kill();
    let _ = answerer.wait();
    if stormy.share() < 0.99 {
        bail!("fewer than 99 % of the good calls were completed");
    }
    Ok(())
}

/// What SIPp says of its calls.
struct Calls {
    good: u64,
    failed: u64,
}

impl Calls {
    fn share(&self) -> f64 {
        self.good as f64 / (self.good + self.failed).max(1) as f64
    }
}

impl std::fmt::Display for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} completed, {} failed ({:.2} %)", self.good, self.failed, self.share() * 100.0)
    }
}

fn calls(seconds: u64, scenarios: &std::path::Path) -> Result<Calls> {
    let dir = tempfile::tempdir()?;
    let total = (seconds * u64::from(RATE)).to_string();
    let statistics = dir.path().join("statistics.csv");
    let status = before_floods("sipp")
        .args(["-sf", &scenarios.join("uac_routes.xml").to_string_lossy(), "-i", &IP.to_string(), "-p", "5081"])
        .args(["-m", &total, "-r", &RATE.to_string(), "-l", "5000", "-d", "200", "-nostdin", "-timeout", "120s"])
        .args(["-trace_stat", "-stf", &statistics.to_string_lossy(), "-fd", "1", &format!("{IP}:5060")])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("sipp (Debian package sip-tester)")?;
    let text = std::fs::read_to_string(&statistics).with_context(|| format!("sipp ended with {status}"))?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
    let last: Vec<&str> = lines.next_back().unwrap_or_default().split(';').collect();
    let value = |name: &str| {
        let at = names.iter().position(|other| *other == name)?;
        last.get(at)?.parse::<u64>().ok()
    };
    let good = value("SuccessfulCall(C)").context("sipp's statistics")?;
    let failed = value("FailedCall(C)").context("sipp's statistics")?;
    Ok(Calls { good, failed: failed.max((seconds * u64::from(RATE)).saturating_sub(good)) })
}

fn sipp(args: &[&str]) -> Result<Child> {
    let null = Stdio::null;
    let mut sipp = before_floods("sipp");
    sipp.args(args).args(["-i", &IP.to_string(), "-nostdin"]);
    sipp.stdin(null()).stdout(null()).stderr(null()).spawn().context("sipp (Debian package sip-tester)")
}

/// A program that gets its CPU before the floods do, where that may be asked: they would come from other machines.
fn before_floods(program: &str) -> Command {
    let allowed = Command::new("nice").args(["-n", "-10", "true"]).stderr(Stdio::null()).status();
    if allowed.is_ok_and(|status| status.success()) {
        let mut command = Command::new("nice");
        command.args(["-n", "-10", program]);
        return command;
    }
    Command::new(program)
}

fn send(n: usize, flood: &Flood, stop: &AtomicBool) {
    let source = Ipv4Addr::new(127, 66, 0, 10 + n as u8);
    let Ok(socket) = UdpSocket::bind((source, 0)) else { return };
    let _ = socket.set_nonblocking(true);
    let towards = SocketAddr::from((IP, 5060));
    let mut answers = [0; 2048];
    for count in 0u64.. {
        if stop.load(Relaxed) {
            return;
        }
        let message = match n {
            0 | 1 => request("INVITE", source, count, ""),
            2 => format!("\u{1}\u{2}garbage {count} \r\n\r\n: : :"),
            _ => request(
                "REGISTER",
                source,
                count,
                "Authorization: Digest username=\"pbx\", realm=\"trunkline\", nonce=\"0\", uri=\"sip:a\", response=\"0\"\r\n",
            ),
        };
        if socket.send_to(message.as_bytes(), towards).is_ok() {
            flood.sent.fetch_add(1, Relaxed);
        }
        while socket.recv(&mut answers).is_ok() {}
    }
}

fn request(method: &str, source: Ipv4Addr, count: u64, extra: &str) -> String {
    format!(
        "{method} sip:1555{count}@{IP}:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {source}:5060;branch=z9hG4bKh{count};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:x@{source}>;tag=h{count}\r\nTo: <sip:y@{IP}>\r\nCall-ID: h{count}@{source}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:x@{source}>\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// Connections that bring half a message, from many addresses.
fn connect(flood: &Flood, stop: &AtomicBool) {
    let mut held = std::collections::VecDeque::new();
    for count in 0u32.. {
        if stop.load(Relaxed) {
            return;
        }
        let source = Ipv4Addr::new(127, 66, 1 + (count / 200 % 200) as u8, (count % 200) as u8 + 1);
        if let Ok(mut stream) = connect_from(source) {
            let _ = stream.write_all(b"INVITE sip:x SIP/2.0\r\nVia: ");
            flood.sent.fetch_add(1, Relaxed);
            held.push_back(stream);
        }
        if held.len() > 800 {
            held.pop_front();
        }
    }
}

fn connect_from(source: Ipv4Addr) -> std::io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((IP, 5060)).into(), Duration::from_secs(1))?;
    Ok(socket.into())
}
