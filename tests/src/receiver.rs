//! A receiver of HTTP requests, which may be in a bad mood.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Certificates;

/// What it does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Answers with this code.
    Status(u16),
    /// Takes it, and cuts the connection before its answer.
    Cut,
    /// Takes it, and never answers.
    Silence,
    /// Answers 422 where the body holds this text, else 204.
    RefuseWhere(String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Post {
    /// `METHOD PATH VERSION`.
    pub line: String,
    /// Headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
    /// Status that it got; 0: none.
    pub status: u16,
}

/// Receives on a port of its own; stops when dropped.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    reply: Mutex<Reply>,
    posts: Mutex<Vec<Post>>,
    tls: Option<Arc<ServerConfig>>,
    over: AtomicBool,
}

impl Receiver {
    /// Starts; with a certificate by TLS. Port 0: any.
    pub fn start(ip: Ipv4Addr, port: u16, tls: Option<(&Certificates, &str)>) -> Receiver {
        let listener = TcpListener::bind((ip, port)).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tls.map(|(certificates, name)| Arc::new(server_config(certificates, name)));
        let shared = Arc::new(Shared {
            reply: Mutex::new(Reply::Status(204)),
            posts: Mutex::default(),
            tls,
            over: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                for socket in listener.incoming().flatten() {
                    if shared.over.load(SeqCst) {
                        return;
                    }
                    let shared = shared.clone();
                    // Ends with its connection, or when silence is over.
                    std::thread::spawn(move || drop(shared.serve(socket)));
                }
            }
        });
        Receiver { address, shared, thread: Some(thread) }
    }

    /// What it does from now on.
    pub fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
    }

    /// All requests so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.posts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(config) => {
                let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(session, socket))
            }
            None => Box::new(socket),
        };
        let mut stream = BufReader::new(stream);
        while let Some(mut post) = read(&mut stream)? {
            let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).clone();
            post.status = match &reply {
                _ if self.over.load(SeqCst) => return Ok(()),
                Reply::Status(status) => *status,
                Reply::RefuseWhere(text) if post.body.contains(text) => 422,
                Reply::RefuseWhere(_) => 204,
                Reply::Cut | Reply::Silence => 0,
            };
            let status = post.status;
            self.posts.lock().unwrap_or_else(PoisonError::into_inner).push(post);
            if reply == Reply::Cut {
                return Ok(());
            }
            while status == 0 && !self.over.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
                if *self.reply.lock().unwrap_or_else(PoisonError::into_inner) != Reply::Silence {
                    return Ok(());
                }
            }
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", if status == 204 { "" } else { "0" });
            let answer = answer.replace("Content-Length: \r\n", "");
            stream.get_mut().write_all(answer.as_bytes())?;
            stream.get_mut().flush()?;
        }
        Ok(())
    }
}

/// The next request; none at the end of the connection.
fn read(stream: &mut impl BufRead) -> io::Result<Option<Post>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Some(Post { line: line.trim_end().to_owned(), headers, body, status: 0 }))
}

fn server_config(certificates: &Certificates, name: &str) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(certificates.file(&format!("{name}.crt"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.file(&format!("{name}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap()
}
