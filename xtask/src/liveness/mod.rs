//! `cargo xtask liveness`: how long each proof of life takes to keep calls away, beside its bound (`docs/liveness.md`).
//!
//! Each case has a release build of its own with two trunks, one that dies in the manner of the case and one behind it. Where calls flow,
//! the last one that came to the dead trunk counts; where none do, the moment from which the trunk is out of the table, and calls that
//! are placed afterwards must not reach it.

mod peer;

use std::net::{Ipv4Addr, Shutdown};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::run::{binary, build_release};
use crate::server::{Server, listen};
use peer::{Caller, Gateway, Manner, register_by_tcp, take_calls};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long calls go on after the last.
const AFTER: Duration = Duration::from_secs(1);
const NO_LEASE: &str = "\"heartbeat_seconds\":0";

/// A cause and its bound in seconds.
struct Case {
    name: &'static str,
    bound: f64,
    run: fn(&Bench) -> Result<Figures>,
}

/// Seconds from the cause.
struct Figures {
    /// To the last call that came there, where calls flowed.
    last_call: Option<f64>,
    /// To the table without it.
    table: f64,
}

const CASES: &[Case] = &[
    Case { name: "heartbeats of 5 s end", bound: 15.2, run: |b| lease(b, 5) },
    Case { name: "heartbeats of 30 s end", bound: 90.2, run: |b| lease(b, 30) },
    Case { name: "REGISTER of 5 s is not refreshed", bound: 5.2, run: |b| registration(b, 5) },
    Case { name: "REGISTER with Expires 0", bound: 0.1, run: deregistration },
    Case { name: "connection that registered: FIN", bound: 0.1, run: |b| connection(b, false) },
    Case { name: "connection that registered: RST", bound: 0.1, run: |b| connection(b, true) },
    Case { name: "probes of 1 s, fall 3: silence", bound: 7.3, run: |b| probes(b, 1, false) },
    Case { name: "probes of 1 s, fall 3: port closed", bound: 7.3, run: |b| probes(b, 1, true) },
    Case { name: "probes of 30 s, fall 3: silence", bound: 103.0, run: |b| probes(b, 30, false) },
    Case { name: "calls flow: silence", bound: 4.2, run: silence },
    Case { name: "calls flow: port closed", bound: 0.1, run: closed },
    Case { name: "503 with Retry-After", bound: 0.1, run: busy },
    Case { name: "the operator takes it out", bound: 0.1, run: operator },
    Case { name: "DELETE", bound: 0.1, run: delete },
];

/// Measures all cases at once; fails where a bound does not hold.
pub fn run() -> Result<()> {
    build_release()?;
    println!("── {} cases at once, as long as the slowest: 105 s", CASES.len());
    let measured: Vec<(&Case, Result<Figures>)> = scope(|scope| {
        let running: Vec<_> =
            CASES.iter().enumerate().map(|(n, case)| (case, scope.spawn(move || each(n, case)))).collect();
        let join = |(case, thread): (_, std::thread::ScopedJoinHandle<'_, _>)| {
            (case, thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a defect of the measurement"))))
        };
        running.into_iter().map(join).collect()
    });
    println!("   {:36} {:>9} {:>12} {:>12}", "cause", "bound", "last call", "table");
    let mut late = Vec::new();
    for (case, figures) in measured {
        let figures = figures.map_err(|error| error.context(case.name))?;
        let last = figures.last_call.map_or("-".to_owned(), |last| format!("{last:.3} s"));
        println!("   {:36} {:>7} s {last:>12} {:>10.3} s", case.name, case.bound, figures.table);
        if figures.last_call.unwrap_or(figures.table) > case.bound {
            late.push(case.name);
        }
    }
    if late.is_empty() { Ok(()) } else { bail!("beyond the bound: {}", late.join(", ")) }
}

fn each(number: usize, case: &Case) -> Result<Figures> {
    (case.run)(&Bench::start(number, Duration::from_secs_f64(case.bound + 20.0))?)
}

/// A server with the trunk behind the other.
struct Bench {
    server: Server,
    _behind: Gateway,
    most: Duration,
}

impl Bench {
    fn start(number: usize, most: Duration) -> Result<Bench> {
        let ip = Ipv4Addr::new(127, 67, 0, number as u8 + 1);
        let settings = format!("[sip]\nthreads = 1\n{}[register]\nmin_expires_seconds = 5\n", listen(ip));
        let server = Server::start(Command::new(binary()), ip, &settings)?;
        let behind = Gateway::start((ip, 7002).into())?;
        server.http(
            "PUT",
            "/trunks/behind",
            &format!("{{\"sip_uri\":\"sip:{ip}:7002\",\"priority\":9,{NO_LEASE}}}"),
        )?;
        Ok(Bench { server, _behind: behind, most })
    }

    /// The gateway that is to die.
    fn gateway(&self) -> Result<Gateway> {
        Gateway::start((self.server.ip, 7001).into())
    }

    fn put(&self, members: &str) -> Result<()> {
        let body = format!("{{\"sip_uri\":\"sip:{}:7001\",{members}}}", self.server.ip);
        self.server.http("PUT", "/trunks/a", &body)?;
        Ok(())
    }

    fn provision(&self) -> Result<()> {
        self.put(r#""register":{"username":"pbx","password":"swordfish"}"#)
    }

    fn wait_routable(&self, wanted: bool) -> Result<Instant> {
        let until = Instant::now() + self.most;
        while (self.server.metric("trunkline_trunk_routable{trunk=\"a\"}")? == 1.0) != wanted {
            if Instant::now() > until {
                bail!(
                    "not within {:?}; {}\n{}",
                    self.most,
                    self.server.http("GET", "/trunks/a", "")?,
                    self.server.log()
                );
            }
            sleep(LOOK);
        }
        Ok(Instant::now())
    }

    /// Lets calls flow until some have come.
    fn calls(&self, manner: &Manner) -> Result<Caller> {
        self.wait_routable(true)?;
        let caller = Caller::start(self.server.ip, self.server.sip())?;
        let until = Instant::now() + self.most;
        while manner.calls() < 10 {
            if Instant::now() > until {
                bail!("no calls come: {}", self.server.http("GET", "/trunks/a", "")?);
            }
            sleep(LOOK);
        }
        Ok(caller)
    }

    /// Measures from the cause; calls flow.
    fn flowing(&self, cause: Instant, manner: &Manner) -> Result<Figures> {
        let table = (self.wait_routable(false)? - cause).as_secs_f64();
        sleep(AFTER);
        let last = manner.last_call().and_then(|last| last.checked_duration_since(cause));
        Ok(Figures { last_call: Some(last.unwrap_or_default().as_secs_f64()), table })
    }

    /// Measures from the cause; nobody can hear calls there, or there are none before.
    fn unheard(&self, cause: Instant, manner: &Manner) -> Result<Figures> {
        let table = (self.wait_routable(false)? - cause).as_secs_f64();
        let before = manner.calls();
        let caller = Caller::start(self.server.ip, self.server.sip())?;
        sleep(AFTER);
        drop(caller);
        if manner.calls() > before {
            bail!("a call came although the trunk is out of the table");
        }
        Ok(Figures { last_call: None, table })
    }
}

fn lease(bench: &Bench, seconds: u32) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(&format!("\"heartbeat_seconds\":{seconds}"))?;
    let _caller = bench.calls(&gateway.manner)?;
    bench.server.http("PATCH", "/trunks/a", "")?;
    bench.flowing(Instant::now(), &gateway.manner)
}

fn registration(bench: &Bench, expires: u32) -> Result<Figures> {
    bench.provision()?;
    let gateway = bench.gateway()?;
    let granted = gateway.register(bench.server.sip(), expires)?;
    let _caller = bench.calls(&gateway.manner)?;
    bench.flowing(granted, &gateway.manner)
}

fn deregistration(bench: &Bench) -> Result<Figures> {
    bench.provision()?;
    let gateway = bench.gateway()?;
    gateway.register(bench.server.sip(), 600)?;
    let _caller = bench.calls(&gateway.manner)?;
    let gone = gateway.register(bench.server.sip(), 0)?;
    bench.flowing(gone, &gateway.manner)
}

fn connection(bench: &Bench, reset: bool) -> Result<Figures> {
    bench.provision()?;
    let stream = register_by_tcp(bench.server.ip, bench.server.sip())?;
    stream.set_read_timeout(None)?;
    let manner = Arc::new(Manner::default());
    let (reads, heard) = (stream.try_clone()?, manner.clone());
    let reader = spawn(move || take_calls(reads, &heard));
    let caller = bench.calls(&manner)?;
    let cause = Instant::now();
    if reset {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        // Both handles must go for the socket to go.
        socket2::SockRef::from(&stream).shutdown(Shutdown::Read)?;
        drop(stream);
    } else {
        stream.shutdown(Shutdown::Both)?;
    }
    let figures = bench.unheard(cause, &manner);
    drop(caller);
    if reader.join().is_err() {
        bail!("the reader has failed");
    }
    figures
}

fn probes(bench: &Bench, interval: u32, closes: bool) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(&format!("\"probe\":{{\"interval_seconds\":{interval}}},{NO_LEASE}"))?;
    bench.wait_routable(true)?;
    let until = Instant::now() + bench.most;
    while !bench.server.http("GET", "/trunks/a", "")?.contains("\"outcome\":\"200\"") {
        if Instant::now() > until {
            bail!("no probe was answered");
        }
        sleep(LOOK);
    }
    let manner = gateway.manner.clone();
    let cause = Instant::now();
    if closes {
        drop(gateway);
        return bench.unheard(cause, &manner);
    }
    manner.is_silent.store(true, Relaxed);
    bench.unheard(cause, &manner)
}

fn silence(bench: &Bench) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(NO_LEASE)?;
    let _caller = bench.calls(&gateway.manner)?;
    gateway.manner.is_silent.store(true, Relaxed);
    bench.flowing(Instant::now(), &gateway.manner)
}

fn closed(bench: &Bench) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(NO_LEASE)?;
    let _caller = bench.calls(&gateway.manner)?;
    let manner = gateway.manner.clone();
    drop(gateway);
    bench.unheard(Instant::now(), &manner)
}

fn busy(bench: &Bench) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(NO_LEASE)?;
    let _caller = bench.calls(&gateway.manner)?;
    let cause = Instant::now();
    gateway.manner.is_busy.store(true, Relaxed);
    bench.flowing(cause, &gateway.manner)
}

fn operator(bench: &Bench) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(NO_LEASE)?;
    let _caller = bench.calls(&gateway.manner)?;
    let cause = Instant::now();
    bench.server.http("PUT", "/trunks/a/admin", r#"{"state":"out_of_service"}"#)?;
    bench.flowing(cause, &gateway.manner)
}

fn delete(bench: &Bench) -> Result<Figures> {
    let gateway = bench.gateway()?;
    bench.put(NO_LEASE)?;
    let _caller = bench.calls(&gateway.manner)?;
    let cause = Instant::now();
    bench.server.http("DELETE", "/trunks/a", "")?;
    bench.flowing(cause, &gateway.manner)
}
