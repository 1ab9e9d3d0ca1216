//! The binary under test, and an HTTP client.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use crate::{Certificates, own_address, wait_until};

/// A running `trunkline serve` with its own data, HTTP on port 8080 and SIP on port 5060 of its own address.
pub struct Server {
    /// Its address.
    pub ip: Ipv4Addr,
    sip: Vec<String>,
    dir: TempDir,
    child: Child,
    agent: Agent,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header as text, or empty.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Server {
    /// Starts with the defaults.
    pub fn start() -> Server {
        Server::with("")
    }

    /// Starts with a settings file.
    pub fn with(settings: &str) -> Server {
        let ip = own_address();
        let sip = [format!("udp:{ip}:5060"), format!("tcp:{ip}:5060")];
        Server::at(ip, settings, &sip)
    }

    /// Starts with TLS beside UDP and TCP: the certificate `server` is made for its address, and for `names`.
    pub fn with_tls(certificates: &Certificates, names: &[&str], settings: &str) -> Server {
        let ip = own_address();
        let address = ip.to_string();
        let holds: Vec<&str> = names.iter().copied().chain([address.as_str()]).collect();
        certificates.make("server", &holds);
        Server::at(ip, &format!("{}{settings}", certificates.settings(ip)), &[])
    }

    /// The same with the certificate `name`, and where only a network may place calls beside the trunks.
    pub fn with_tls_allowing(certificates: &Certificates, name: &str, names: &[&str], allow: &str) -> Server {
        let ip = own_address();
        let address = ip.to_string();
        let holds: Vec<&str> = names.iter().copied().chain([address.as_str()]).collect();
        certificates.make(name, &holds);
        let settings = certificates.settings(ip).replace("/server.", &format!("/{name}."));
        let settings = settings.replace("[tls]", &format!("allow = [\"{allow}\"]\n[tls]"));
        Server::at(ip, &settings, &[])
    }

    fn at(ip: Ipv4Addr, settings: &str, sip: &[String]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.toml"), settings).unwrap();
        let child = spawn(ip, dir.path(), sip);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        let mut server = Server { ip, sip: sip.to_vec(), dir, child, agent };
        server.wait_ready();
        server
    }

    fn wait_ready(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the process has ended: {}", self.log());
        wait_until("ready", Duration::from_secs(20), || {
            self.try_request("GET", "/readyz", "", &[]).is_some_and(|a| a.status == 200)
        });
    }

    /// Ends it by SIGKILL and starts it again on the same data.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.child = spawn(self.ip, self.dir.path(), &self.sip);
        self.wait_ready();
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub fn wait_end(&mut self, most: Duration) -> ExitStatus {
        wait_until("the end of the process", most, || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where its registry is kept.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where SIP goes.
    pub fn sip(&self) -> String {
        format!("{}:5060", self.ip)
    }

    /// Sends a request, if anybody listens.
    pub fn try_request(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(format!("http://{}:8080{path}", self.ip));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if body.is_empty() {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body.to_owned()).unwrap())
        };
        let mut response = response.ok()?;
        Some(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.body_mut().read_to_string().ok()?,
        })
    }

    /// Sends a request.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_request(method, path, body, headers).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// Registers a trunk at a port of the own address; `more` are further members.
    #[track_caller]
    pub fn register(&self, id: &str, port: u16, more: &str) {
        let body = format!("{{\"sip_uri\":\"sip:{}:{port}\"{more}}}", self.ip);
        self.put(id, &body);
    }

    /// Puts a trunk's record as it is, and waits until calls are routed by it.
    #[track_caller]
    pub fn put(&self, id: &str, body: &str) {
        let answer = self.request("PUT", &format!("/trunks/{id}"), body, &[]);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        self.wait_routed();
        assert!(
            self.request("GET", "/metrics", "", &[])
                .text
                .contains(&format!("trunkline_trunk_routable{{trunk=\"{id}\"}}"))
        );
    }

    /// Waits until calls are routed by all that was written.
    #[track_caller]
    pub fn wait_routed(&self) {
        wait_until("the table has it", Duration::from_secs(10), || {
            let text = self.request("GET", "/metrics", "", &[]).text;
            let revision =
                |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            revision("trunkline_route_table_revision ") >= revision("trunkline_registry_revision ")
        });
    }

    /// Waits until a trunk's status and its first reason are these, and calls are routed by that; says how long that took.
    #[track_caller]
    pub fn wait_status(&self, id: &str, status: &str, reason: &str, most: Duration) -> Duration {
        let mut last = Value::Null;
        wait_until(&format!("{id} {status} {reason}"), most, || {
            last = self.trunk(id);
            let first = last["status_reasons"][0].as_str().unwrap_or_default();
            let routable = self.metric(&format!("trunkline_trunk_routable{{trunk=\"{id}\"}}")) == 1.0;
            let fits = first.starts_with(reason) && (reason.is_empty() == first.is_empty());
            last["status"] == status && fits && routable == (status == "up")
        })
    }

    /// A trunk's record.
    #[track_caller]
    pub fn trunk(&self, id: &str) -> Value {
        self.request("GET", &format!("/trunks/{id}"), "", &[]).json()
    }

    /// Calls standing on a trunk.
    pub fn active(&self, id: &str) -> u64 {
        self.trunk(id)["active_calls"].as_u64().unwrap()
    }

    /// The value of a metric's series, by its name with labels.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.request("GET", "/metrics", "", &[]).text;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.log());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(ip: Ipv4Addr, dir: &Path, sip: &[String]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(binary())
        .arg("serve")
        .arg("--config")
        .arg(dir.join("t.toml"))
        .arg("--data")
        .arg(dir.join("data"))
        .args(["--http", &format!("{ip}:8080")])
        .args(sip.iter().flat_map(|listen| ["--sip", listen]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The binary: named by TESTED_BINARY, else built here.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || match std::env::var_os("TESTED_BINARY") {
        Some(path) => path.into(),
        None => {
            let built = Command::new(env!("CARGO")).args(["build", "-p", "trunkline"]).status().unwrap();
            assert!(built.success());
            // target/debug/deps/TEST
            std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("trunkline")
        }
    };
    BINARY.get_or_init(build).clone()
}
