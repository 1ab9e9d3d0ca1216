//! `cargo xtask probes`: what it costs to probe many trunks.
//!
//! Each trunk has an address of its own in 127.0.0.0/8; one socket answers for all of them.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{binary, build_release};
use crate::server::{Server, listen, usage};

const IP: Ipv4Addr = Ipv4Addr::new(127, 68, 0, 1);
const PORT: u16 = 5070;
const INTERVAL: u64 = 30;
/// Who registers the trunks at once; their writes share the disk's time.
const REGISTRANTS: u32 = 16;

/// Probes that came, and the most in one tenth of a second.
#[derive(Default)]
struct Seen {
    probes: AtomicU64,
    burst: AtomicU64,
    stop: AtomicBool,
}

pub fn run(args: &[&str]) -> Result<()> {
    let number =
        |at: usize, default: u64| args.get(at).map_or(Ok(default), |text| text.parse()).context("expected a number");
    let (trunks, seconds) = (number(0, 10_000)?, number(1, 60)?);
    let trunks = u32::try_from(trunks).ok().filter(|trunks| *trunks < 1 << 16).context("TRUNKS must be below 65536")?;
    build_release()?;
    let server = Server::start(Command::new(binary()), IP, &format!("[sip]\n{}", listen(IP)))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let seen = Seen::default();
    scope(|scope| {
        let answering = scope.spawn(|| answer(&socket, &seen));
        let measured = measure(&server, trunks, seconds, &seen);
        seen.stop.store(true, Relaxed);
        if answering.join().is_err() {
            bail!("the answering side has failed");
        }
        measured
    })
}

fn measure(server: &Server, trunks: u32, seconds: u64, seen: &Seen) -> Result<()> {
    register(server, trunks, "")?;
    let idle = cpu(server, seconds.min(20))?;
    println!("── {trunks} trunks without probes: {:.2} % of a core", idle * 100.0);
    register(server, trunks, &format!(",\"probe\":{{\"interval_seconds\":{INTERVAL}}}"))?;
    let until = Instant::now() + Duration::from_secs(3 * INTERVAL);
    // Each has been probed once, and again.
    while seen.probes.load(Relaxed) < 2 * u64::from(trunks) {
        if Instant::now() > until {
            bail!("only {} probes have come", seen.probes.load(Relaxed));
        }
        sleep(Duration::from_millis(100));
    }
    let (before, answered) = (seen.probes.load(Relaxed), answered(server)?);
    seen.burst.store(0, Relaxed);
    let busy = cpu(server, seconds)?;
    let probes = seen.probes.load(Relaxed) - before;
    let rate = probes as f64 / seconds as f64;
    println!("── {trunks} trunks probed each {INTERVAL} s, for {seconds} s");
    println!("   {probes} probes, {rate:.0} a second, at most {} in 100 ms", seen.burst.load(Relaxed));
    println!("   {:.2} % of a core, {:.1} µs a probe beyond idling", busy * 100.0, (busy - idle) / rate * 1e6);
    println!("   memory {} MiB at most", usage(server.process())?.1);
    let (answers, up) = (self::answered(server)? - answered, server.metric("trunkline_trunks{status=\"up\"}")?);
    if answers < 0.99 * probes as f64 || up != f64::from(trunks) {
        bail!("{answers} answers were told, {up} trunks are up");
    }
    Ok(())
}

fn answered(server: &Server) -> Result<f64> {
    server.metric("trunkline_probes_total{outcome=\"answer\"}")
}

/// Cores used, over a while.
fn cpu(server: &Server, seconds: u64) -> Result<f64> {
    let (before, begun) = (usage(server.process())?.0, Instant::now());
    sleep(Duration::from_secs(seconds));
    Ok((usage(server.process())?.0 - before) / begun.elapsed().as_secs_f64())
}

fn register(server: &Server, trunks: u32, members: &str) -> Result<()> {
    let next = AtomicU32::new(0);
    let each = || -> Result<()> {
        loop {
            let n = next.fetch_add(1, Relaxed);
            if n >= trunks {
                return Ok(());
            }
            let [_, _, high, low] = n.to_be_bytes();
            let at = Ipv4Addr::new(127, 69, high, low);
            let body = format!("{{\"sip_uri\":\"sip:{at}:{PORT}\",\"heartbeat_seconds\":0{members}}}");
            server.http("PUT", &format!("/trunks/t{n}"), &body)?;
        }
    };
    scope(|scope| {
        let running: Vec<_> = (0..REGISTRANTS).map(|_| scope.spawn(each)).collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a registrant has failed"))))
    })
}

/// Answers OPTIONS until it is told to stop.
fn answer(socket: &UdpSocket, seen: &Seen) {
    let mut buffer = vec![0; 65_536];
    let (mut window, mut count) = (Instant::now(), 0);
    while !seen.stop.load(Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        seen.probes.fetch_add(1, Relaxed);
        if window.elapsed() > Duration::from_millis(100) {
            (window, count) = (Instant::now(), 0);
        }
        count += 1;
        seen.burst.fetch_max(count, Relaxed);
        let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let mut out = String::from("SIP/2.0 200 OK\r\n");
        for line in request.lines() {
            let name = line.split(':').next().unwrap_or_default();
            if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name) {
                out.push_str(line);
                out.push_str(if name == "To" { ";tag=p\r\n" } else { "\r\n" });
            }
        }
        out.push_str("Content-Length: 0\r\n\r\n");
        // A lost answer is a missed probe, which the figures show.
        let _ = socket.send_to(out.as_bytes(), from);
    }
}
