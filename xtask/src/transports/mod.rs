//! `cargo xtask transports`: CPU per call by UDP, TCP and TLS, on both sides of the proxy, beside Kamailio's in the same run.
//!
//! The same caller and answerer for both; what is measured is the CPU of the proxy's processes. Kamailio runs the gateway of the tests:
//! stateful, record-routing, one destination.

mod calls;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::run::{binary, build_release, has, root};
use crate::server::{Server, usage};
use calls::{Caller, answer};
use wire::{Stream, Wire};

const TRUNKLINE: Ipv4Addr = Ipv4Addr::new(127, 70, 0, 1);
const KAMAILIO: Ipv4Addr = Ipv4Addr::new(127, 70, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(127, 70, 0, 3);
const ANSWERER: u16 = 7001;
const CALLERS: usize = 2;
const AT_ONCE: usize = 25;
const WARM_UP: usize = 2000;
const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

pub fn run(args: &[&str]) -> Result<()> {
    let calls: usize = args.first().map_or(Ok(20_000), |text| text.parse()).context("CALLS must be a number")?;
    build_release()?;
    let papers = Arc::new(Papers::make()?);
    for transport in TRANSPORTS {
        answerer(transport, &papers)?;
    }
    println!("── {calls} calls by each transport, {} at once", CALLERS * AT_ONCE);
    for transport in TRANSPORTS {
        let server = trunkline(transport, &papers)?;
        let process = server.process();
        measure("Trunkline", TRUNKLINE, transport, calls, &papers, &|| Ok(usage(process)?.0))?;
    }
    if !has("kamailio") {
        println!("   Kamailio is not installed");
        return Ok(());
    }
    for transport in TRANSPORTS {
        let kamailio = Kamailio::start(transport, &papers)?;
        measure("Kamailio", KAMAILIO, transport, calls, &papers, &|| kamailio.cpu())?;
    }
    Ok(())
}

fn measure(
    name: &str,
    ip: Ipv4Addr,
    transport: &'static str,
    calls: usize,
    papers: &Papers,
    cpu: &dyn Fn() -> Result<f64>,
) -> Result<()> {
    drive(ip, transport, WARM_UP, papers, "w").with_context(|| format!("{name} by {transport}"))?;
    let (before, begun) = (cpu()?, Instant::now());
    drive(ip, transport, calls, papers, "m").with_context(|| format!("{name} by {transport}"))?;
    let (took, used) = (begun.elapsed().as_secs_f64(), cpu()? - before);
    let each = used * 1e6 / calls as f64;
    println!("   {name:10} {transport}: {each:6.1} µs CPU a call, {:.0} calls a second", calls as f64 / took);
    Ok(())
}

/// Makes calls through a proxy; all must be completed.
fn drive(ip: Ipv4Addr, transport: &'static str, calls: usize, papers: &Papers, run: &str) -> Result<()> {
    let target = SocketAddr::from((ip, if transport == "tls" { 5061 } else { 5060 }));
    let one = |number: usize| -> Result<()> {
        let (own, mut wire) = if transport == "udp" {
            let socket = UdpSocket::bind((PEER, 0))?;
            (socket.local_addr()?, Wire::datagrams(socket, target)?)
        } else {
            let socket = TcpStream::connect(target)?;
            (socket.local_addr()?, Wire::stream(socket, |socket| papers.connect(transport, socket, ip))?)
        };
        let name = format!("{run}{number}{transport}");
        Caller { own, target, transport, name }.run(&mut wire, calls / CALLERS, AT_ONCE)
    };
    scope(|scope| {
        let running: Vec<_> = (0..CALLERS).map(|number| scope.spawn(move || one(number))).collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a caller has failed"))))
    })
}

/// Answers on a transport until the process ends.
fn answerer(transport: &'static str, papers: &Arc<Papers>) -> Result<()> {
    let own = SocketAddr::from((PEER, if transport == "tls" { ANSWERER + 1 } else { ANSWERER }));
    if transport == "udp" {
        let mut wire = Wire::datagrams(UdpSocket::bind(own)?, own)?;
        spawn(move || {
            loop {
                // Silence ends nothing here.
                let _ = answer(&mut wire, own, transport);
            }
        });
        return Ok(());
    }
    let listener = TcpListener::bind(own)?;
    let papers = papers.clone();
    spawn(move || {
        for socket in listener.incoming().flatten() {
            let papers = papers.clone();
            spawn(move || -> Result<()> {
                let mut wire = Wire::stream(socket, |socket| papers.accept(transport, socket))?;
                answer(&mut wire, own, transport)
            });
        }
    });
    Ok(())
}

fn trunkline(transport: &str, papers: &Papers) -> Result<Server> {
    let (ip, dir) = (TRUNKLINE, papers.dir.path().display());
    let settings = format!(
        "[sip]\nthreads = 2\nlisten = [\"udp:{ip}:5060\", \"tcp:{ip}:5060\", \"tls:{ip}:5061\"]\n[tls]\n\
         certificate = \"{dir}/own.crt\"\nkey = \"{dir}/own.key\"\nauthorities = \"{dir}/ca.pem\"\n"
    );
    let server = Server::start(Command::new(binary()), ip, &settings)?;
    server.http(
        "PUT",
        "/trunks/a",
        &format!("{{\"sip_uri\":\"{}\",\"heartbeat_seconds\":0}}", destination(transport)),
    )?;
    let until = Instant::now() + Duration::from_secs(10);
    while server.metric("trunkline_trunk_routable{trunk=\"a\"}")? != 1.0 {
        if Instant::now() > until {
            bail!("the trunk does not get ready");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(server)
}

fn destination(transport: &str) -> String {
    let port = if transport == "tls" { ANSWERER + 1 } else { ANSWERER };
    format!("sip:{PEER}:{port};transport={transport}")
}

/// Kamailio and its children; they end with it.
struct Kamailio {
    child: Child,
    _dir: TempDir,
}

impl Kamailio {
    fn start(transport: &str, papers: &Papers) -> Result<Kamailio> {
        let dir = tempfile::tempdir()?;
        let own = papers.dir.path().display();
        let tls = format!(
            "[server:default]\nmethod = TLSv1.2+\ncertificate = {own}/own.crt\nprivate_key = {own}/own.key\n\
             [client:default]\nmethod = TLSv1.2+\nverify_certificate = no\n"
        );
        let file = dir.path().join("tls.cfg");
        std::fs::write(&file, tls)?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = Command::new("kamailio")
            // Debian's default allocator is for finding faults.
            .args(["-DD", "-E", "-m", "1024", "-M", "16", "-x", "tlsf", "-X", "tlsf", "-f"])
            .arg(root().join("tests/programs/gateway.cfg"))
            .args(["-A", &format!("IP={KAMAILIO}"), "-A", &format!("ANSWERER=\"{}\"", destination(transport))])
            .args(["-A", &format!("TLSCFG=\"{}\"", file.display())])
            .arg("-Y")
            .arg(dir.path())
            .arg("-P")
            .arg(dir.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let kamailio = Kamailio { child, _dir: dir };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((KAMAILIO, 5061)).is_err() {
            if Instant::now() > until {
                bail!("Kamailio does not listen for TLS (Debian package kamailio-tls-modules)");
            }
            sleep(Duration::from_millis(50));
        }
        Ok(kamailio)
    }

    /// Seconds of CPU of all its processes.
    fn cpu(&self) -> Result<f64> {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let all = children.split_whitespace().filter_map(|text| text.parse().ok()).chain([own]);
        all.map(|process| Ok(usage(process)?.0)).sum()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // It takes its children along; it may have ended already.
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// An authority, and one certificate of it for all: files, and settings of rustls.
struct Papers {
    dir: TempDir,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Papers {
    fn make() -> Result<Papers> {
        let dir = tempfile::tempdir()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let holds: Vec<String> = [TRUNKLINE, KAMAILIO, PEER].iter().map(ToString::to_string).collect();
        let key = KeyPair::generate()?;
        let own = CertificateParams::new(holds)?.signed_by(&key, &authority)?;
        for (name, text) in [("ca.pem", authority.pem()), ("own.crt", own.pem()), ("own.key", key.serialize_pem())] {
            std::fs::write(dir.path().join(name), text)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(own.pem().as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?,
            )?;
        Ok(Papers { dir, client: Arc::new(client), server: Arc::new(server) })
    }

    fn connect(&self, transport: &str, socket: TcpStream, ip: Ipv4Addr) -> Result<Box<dyn Stream>> {
        if transport != "tls" {
            return Ok(Box::new(socket));
        }
        let session =
            ClientConnection::new(self.client.clone(), ServerName::IpAddress(std::net::IpAddr::V4(ip).into()))?;
        Ok(Box::new(StreamOwned::new(session, socket)))
    }

    fn accept(&self, transport: &str, socket: TcpStream) -> Result<Box<dyn Stream>> {
        if transport != "tls" {
            return Ok(Box::new(socket));
        }
        Ok(Box::new(StreamOwned::new(ServerConnection::new(self.server.clone())?, socket)))
    }
}
