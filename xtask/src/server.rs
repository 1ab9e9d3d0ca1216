//! The release build at an address of its own, and what can be asked of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tempfile::TempDir;

/// A running server; ends with it.
pub struct Server {
    /// Its address: HTTP on port 8080.
    pub ip: Ipv4Addr,
    child: Child,
    dir: TempDir,
}

impl Server {
    /// Starts `program` (the binary, or what runs it) with settings, and waits until it is ready.
    pub fn start(mut program: Command, ip: Ipv4Addr, settings: &str) -> Result<Server> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("t.toml");
        std::fs::write(&file, settings)?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = program
            .args(["serve", "--config"])
            .arg(&file)
            .arg("--data")
            .arg(dir.path().join("data"))
            .args(["--http", &format!("{ip}:8080")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Server { ip, child, dir };
        let until = Instant::now() + Duration::from_secs(10);
        while http(ip, "GET", "/readyz", "").is_err() {
            if server.child.try_wait()?.is_some() || Instant::now() > until {
                bail!("the server does not get ready:\n{}", server.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Where SIP goes over UDP and TCP.
    pub fn sip(&self) -> std::net::SocketAddr {
        (self.ip, 5060).into()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request; the body of a good answer.
    pub fn http(&self, method: &str, path: &str, body: &str) -> Result<String> {
        http(self.ip, method, path, body)
    }

    /// The value of a metric's series, by its name with labels; 0 where there is none.
    pub fn metric(&self, series: &str) -> Result<f64> {
        let text = self.http("GET", "/metrics", "")?;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `listen` of the settings: UDP and TCP on port 5060.
pub fn listen(ip: Ipv4Addr) -> String {
    format!("listen = [\"udp:{ip}:5060\", \"tcp:{ip}:5060\"]\n")
}

/// Seconds of CPU, and the most MiB of memory, of a process since its start.
pub fn usage(process: u32) -> Result<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let memory =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    // USER_HZ is 100 on Linux.
    Ok(((ticks(11) + ticks(12)) as f64 / 100.0, memory.unwrap_or(0) / 1024))
}

fn http(ip: Ipv4Addr, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect((ip, 8080))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {ip}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    if status.contains(" 20") { Ok(text) } else { bail!("{method} {path}: {}", status.trim()) }
}
