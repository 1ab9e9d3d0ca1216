//! One connection: its task connects, shakes hands, reads, frames, and keeps alive.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use proxy::Connection;
use routing::TlsPeer;
use sip::{Frame, Framer};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::links::Streams;
use super::session::{Found, Session};
use super::stats::count;
use super::write::{Output, Taken};
use super::{Arrival, tls};

const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";
/// How often the bounds in time are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A buffer that grew beyond this for a large message is given back.
const KEPT: usize = 64 * 1024;

pub(super) struct Link {
    pub number: u64,
    pub listener: u8,
    pub peer: SocketAddr,
    /// How the peer is verified, where we connected by TLS.
    pub tls: Option<Arc<TlsPeer>>,
    /// We opened it.
    pub outgoing: bool,
    stream: OnceLock<TcpStream>,
    output: Mutex<Output>,
    work: Notify,
    /// Has brought a whole message, or was opened by us.
    pub proven: AtomicBool,
    pub names: OnceLock<Arc<[Box<str>]>>,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The peer ended it, or we were asked to.
    Over,
    Broken(io::Error),
    Slow,
    Malformed(sip::ParseError),
    Dead,
    Handshake(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Over => f.write_str("ended"),
            End::Broken(error) => write!(f, "broken: {error}"),
            End::Slow => f.write_str("no whole message in time"),
            End::Malformed(error) => write!(f, "no SIP: {error}"),
            End::Dead => f.write_str("a ping was not answered"),
            End::Handshake(error) => write!(f, "TLS handshake: {error}"),
        }
    }
}

impl Link {
    pub fn new(
        number: u64,
        listener: u8,
        peer: SocketAddr,
        tls: Option<Arc<TlsPeer>>,
        stream: Option<TcpStream>,
        session: Session,
    ) -> Link {
        let outgoing = stream.is_none();
        Link {
            number,
            listener,
            peer,
            tls,
            outgoing,
            stream: stream.map_or_else(OnceLock::new, OnceLock::from),
            output: Mutex::new(Output::new(session)),
            work: Notify::new(),
            proven: AtomicBool::new(outgoing),
            names: OnceLock::new(),
        }
    }

    /// Sends a message or lets it wait; false when it cannot be taken.
    pub fn send(&self, streams: &Streams, message: &[u8]) -> bool {
        let most = streams.settings.waiting;
        let taken = self.output.lock().send(self.stream.get(), message, most);
        match taken {
            Ok(Taken::Sent) => true,
            Ok(Taken::Waits) => {
                self.work.notify_one();
                true
            }
            Ok(Taken::Closed) => false,
            Ok(Taken::Full) => {
                count(&streams.stats.slow_readers);
                self.end();
                false
            }
            Err(_) => {
                self.end();
                false
            }
        }
    }

    pub fn is_open(&self) -> bool {
        !self.output.lock().closed
    }

    /// Asks the task to end.
    pub fn end(&self) {
        self.output.lock().closed = true;
        self.work.notify_one();
    }

    /// Lives as long as the connection.
    pub async fn run(self: Arc<Link>, streams: Arc<Streams>, bind: SocketAddr) {
        let end = self.live(&streams, bind).await;
        let unsent = {
            let mut output = self.output.lock();
            if let Some(stream) = self.stream.get() {
                output.session.close(stream);
            }
            output.close()
        };
        streams.forget(&self);
        let stats = &streams.stats;
        match &end {
            End::Slow => count(&stats.slow_senders),
            End::Malformed(_) => count(&stats.malformed),
            End::Dead => count(&stats.dead),
            End::Handshake(error) => {
                count(&stats.handshakes_failed);
                // Whoever connects could fill the log.
                if self.outgoing || streams.may_complain() {
                    tracing::warn!(peer = %self.peer, outgoing = self.outgoing, %error, "TLS handshake failed");
                }
            }
            End::Over | End::Broken(_) => {}
        }
        tracing::debug!(peer = %self.peer, outgoing = self.outgoing, %end, "connection over");
        for message in &unsent {
            streams.sink.unsent(message);
        }
        streams.sink.closed(Connection(self.number));
    }

    async fn live(&self, streams: &Arc<Streams>, bind: SocketAddr) -> End {
        let begun = Instant::now();
        if self.outgoing {
            match tokio::time::timeout(streams.settings.connect, connect(bind, self.peer)).await {
                Ok(Ok(stream)) => {
                    count(&streams.stats.connected);
                    // The cell is empty until here.
                    let _ = self.stream.set(stream);
                }
                Ok(Err(error)) => {
                    count(&streams.stats.unreachable);
                    return End::Broken(error);
                }
                Err(_) => {
                    count(&streams.stats.unreachable);
                    return End::Broken(io::ErrorKind::TimedOut.into());
                }
            }
        }
        let Some(stream) = self.stream.get() else { return End::Over };
        let mut life = Life::new(begun);
        let mut look = Box::pin(sleep(LOOK));
        loop {
            let wants_room = {
                let mut output = self.output.lock();
                if output.closed {
                    return End::Over;
                }
                if let Err(error) = output.pump(stream) {
                    return End::Broken(error);
                }
                output.wants_room()
            };
            let interest = if wants_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            tokio::select! {
                ready = stream.ready(interest) => match ready {
                    Ok(ready) if ready.is_readable() || ready.is_read_closed() => {
                        if let Err(end) = self.read(streams, stream, &mut life) {
                            return end;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return End::Broken(error),
                },
                () = self.work.notified() => {}
                () = &mut look => {
                    if let Err(end) = self.look(streams, &mut life) {
                        return end;
                    }
                    look.as_mut().reset(Instant::now() + LOOK);
                }
            }
        }
    }

    fn read(&self, streams: &Arc<Streams>, stream: &TcpStream, life: &mut Life) -> Result<(), End> {
        let (found, is_ready, names) = {
            let mut output = self.output.lock();
            let was_ready = output.session.is_ready();
            let found = output.session.read(stream, &mut life.buffer);
            let is_ready = output.session.is_ready();
            let found = found.map_err(|error| if is_ready { End::Broken(error) } else { End::Handshake(error) })?;
            let names = match &output.session {
                Session::Tls(session) if is_ready && !was_ready => Some(self.verified_names(session)),
                _ => None,
            };
            (found, is_ready, names)
        };
        if let Some(names) = names {
            // The cell is empty until here.
            let _ = self.names.set(names.into());
        }
        match found {
            Found::Nothing => return Ok(()),
            Found::Something => life.heard = Instant::now(),
            Found::End if is_ready => return Err(End::Over),
            Found::End => return Err(End::Handshake(io::ErrorKind::UnexpectedEof.into())),
        }
        self.take_messages(streams, life)
    }

    /// What the peer's certificate proves. Where we connected it was held to one name, by authorities that may be this trunk's
    /// alone: the further names in it prove nothing.
    fn verified_names(&self, session: &rustls::Connection) -> Vec<Box<str>> {
        if !self.outgoing {
            return tls::names(session);
        }
        let peer = self.tls.iter().filter(|peer| !peer.verify_name.is_empty());
        peer.map(|peer| peer.verify_name.to_ascii_lowercase().into()).collect()
    }

    fn take_messages(&self, streams: &Arc<Streams>, life: &mut Life) -> Result<(), End> {
        let arrival = Arrival {
            listener: self.listener,
            source: self.peer,
            connection: Connection(self.number),
            names: self.names.get().cloned().unwrap_or_default(),
        };
        let mut start = 0;
        let mut pinged = false;
        loop {
            let rest = &life.buffer[start..];
            match life.framer.next(rest) {
                Frame::Incomplete => break,
                Frame::Ping => {
                    pinged = true;
                    start += 4;
                }
                Frame::Blank(length) => {
                    life.answers_pings |= life.pinged.take().is_some();
                    start += length;
                }
                Frame::Message(length) => {
                    let message = &rest[..length];
                    life.pinged = None;
                    life.begun = None;
                    self.proven.store(true, Relaxed);
                    streams.note_alias(self, message);
                    streams.sink.received(&arrival, message);
                    start += length;
                }
                Frame::Malformed(error) => return Err(End::Malformed(error)),
            }
        }
        life.buffer.drain(..start);
        // Line ends alone are the beginning of nothing; an answer to a ping may lack what shows that it is one.
        if life.buffer.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            life.begun = None;
            if !life.buffer.is_empty() {
                life.answers_pings |= life.pinged.take().is_some();
            }
        } else if life.begun.is_none() {
            life.begun = Some(Instant::now());
        }
        if life.buffer.is_empty() && life.buffer.capacity() > KEPT {
            life.buffer = Vec::new();
        }
        if pinged {
            count(&streams.stats.pings);
            // One answer is enough, however many asked.
            self.send(streams, PONG);
        }
        Ok(())
    }

    /// Holds the connection to its bounds in time.
    fn look(&self, streams: &Arc<Streams>, life: &mut Life) -> Result<(), End> {
        let now = Instant::now();
        let settings = &streams.settings;
        let is_ready = self.output.lock().session.is_ready();
        if !is_ready {
            let late = now - life.since > settings.connect;
            return if late { Err(End::Handshake(io::ErrorKind::TimedOut.into())) } else { Ok(()) };
        }
        let late = |since: Instant| now - since > settings.message;
        if life.begun.is_some_and(late) || (!self.proven.load(Relaxed) && late(life.since)) {
            return Err(End::Slow);
        }
        if let Some(pinged) = life.pinged {
            // A peer that has never answered one may not know pings (RFC 5626 §4.4.1 binds those who agreed to it).
            return if life.answers_pings && now - pinged > settings.pong { Err(End::Dead) } else { Ok(()) };
        }
        if now - life.heard > settings.keepalive {
            life.heard = now;
            life.pinged = Some(now);
            self.send(streams, PING);
        }
        Ok(())
    }
}

/// What the task remembers.
struct Life {
    buffer: Vec<u8>,
    framer: Framer,
    since: Instant,
    /// When the last byte came.
    heard: Instant,
    /// When the message that is not whole yet began.
    begun: Option<Instant>,
    /// When a ping went out that is not answered yet.
    pinged: Option<Instant>,
    answers_pings: bool,
}

impl Life {
    fn new(since: Instant) -> Life {
        Life {
            buffer: Vec::new(),
            framer: Framer::default(),
            since,
            heard: since,
            begun: None,
            pinged: None,
            answers_pings: false,
        }
    }
}

async fn connect(bind: SocketAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    if !bind.ip().is_unspecified() {
        socket.bind(SocketAddr::new(bind.ip(), 0))?;
    }
    let stream = socket.connect(peer).await?;
    keep_alive(&stream)?;
    Ok(stream)
}

/// The kernel finds a peer that has vanished without a word, within half a minute.
pub(super) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(20)))
}
