//! SIPp, as caller and as answerer.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait_until;

/// A running SIPp.
pub struct Peer {
    child: Child,
    dir: TempDir,
}

/// How a caller is run.
pub struct Uac<'a> {
    /// Address that it calls from.
    pub from: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Whom it calls.
    pub to: String,
    /// A built-in scenario by name, or a file of `tests/scenarios`.
    pub scenario: &'a str,
    /// Calls to make.
    pub calls: u32,
    /// Pause of the scenario, in milliseconds.
    pub pause: u32,
    /// `u1` for UDP, `t1` for TCP.
    pub mode: &'a str,
}

impl Uac<'_> {
    /// Begins to call.
    pub fn start(&self) -> Peer {
        let mut sipp = command(self.scenario, self.from, self.port, self.mode);
        sipp.args(["-m", &self.calls.to_string(), "-d", &self.pause.to_string(), "-timeout", "40s", &self.to]);
        Peer::spawn(sipp)
    }

    /// Calls, and says whether every call went as the scenario has it.
    pub fn run(&self) -> bool {
        self.start().ends_well(Duration::from_secs(45))
    }
}

/// Starts an answerer and waits until it listens.
pub fn uas(scenario: &str, ip: Ipv4Addr, port: u16) -> Peer {
    uas_by(scenario, ip, port, "u1")
}

/// The same, by UDP (`u1`) or TCP (`t1`). It answers OPTIONS by itself.
pub fn uas_by(scenario: &str, ip: Ipv4Addr, port: u16, mode: &str) -> Peer {
    let mut sipp = command(scenario, ip, port, mode);
    sipp.arg("-aa");
    let peer = Peer::spawn(sipp);
    let is_taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    wait_until("an answerer's socket", Duration::from_secs(10), || {
        if mode == "t1" {
            std::net::TcpListener::bind((ip, port)).is_err_and(is_taken)
        } else {
            std::net::UdpSocket::bind((ip, port)).is_err_and(is_taken)
        }
    });
    peer
}

fn command(scenario: &str, ip: Ipv4Addr, port: u16, mode: &str) -> Command {
    let mut sipp = Command::new("sipp");
    if scenario.ends_with(".xml") {
        sipp.arg("-sf").arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(scenario));
    } else {
        sipp.args(["-sn", scenario]);
    }
    sipp.args([
        "-t",
        mode,
        "-i",
        &ip.to_string(),
        "-p",
        &port.to_string(),
        "-nostdin",
        "-trace_err",
        "-error_file",
        "errors",
    ]);
    sipp
}

impl Peer {
    fn spawn(mut sipp: Command) -> Peer {
        let dir = tempfile::tempdir().unwrap();
        let null = Stdio::null;
        let child = sipp.current_dir(dir.path()).stdin(null()).stdout(null()).stderr(null()).spawn();
        Peer { child: child.expect("sipp (Debian package sip-tester)"), dir }
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end; true when every call went as the scenario has it.
    pub fn ends_well(mut self, most: Duration) -> bool {
        wait_until("the end of sipp", most, || self.child.try_wait().unwrap().is_some());
        let well = self.child.wait().unwrap().success();
        if !well {
            eprintln!("--- sipp\n{}", std::fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default());
        }
        well
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
