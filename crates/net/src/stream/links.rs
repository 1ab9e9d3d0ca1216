//! All connections: by number, by where they lead, and how many each source has.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use proxy::{Connection, Hop};
use routing::TlsPeer;
use sip::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::link::{Link, keep_alive};
use super::session::Session;
use super::stats::{StreamStats, count};
use super::{BoundStream, Sink, StreamCounts, StreamSettings, Tls};

/// After an error of accepting: what it lacks must come from elsewhere.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a connection leads: listener, address, and how the peer was verified.
type Way = (u8, SocketAddr, Option<Arc<TlsPeer>>);

/// A message that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent;

/// All stream connections of the process.
pub struct Streams {
    pub(super) settings: StreamSettings,
    pub(super) stats: StreamStats,
    pub(super) sink: Arc<dyn Sink>,
    tls: Option<Tls>,
    runtime: Handle,
    /// By the index of the listener: its address and transport.
    listeners: HashMap<u8, (SocketAddr, Transport)>,
    next: AtomicU64,
    table: RwLock<Table>,
    /// Accepted connections that have yet to prove themselves, the oldest first; some have gone since. Held weakly: a socket
    /// closes with its link.
    unproven: Mutex<VecDeque<Weak<Link>>>,
    /// When the log last heard of a peer that connected and could not shake hands.
    complained: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Table {
    links: HashMap<u64, Arc<Link>>,
    ways: HashMap<Way, u64>,
    /// Where peers with a verified certificate want requests sent over the connection that they opened (RFC 5923).
    aliases: HashMap<(u8, SocketAddr), u64>,
    accepted_of: HashMap<IpAddr, usize>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.table.read().links.len()).finish_non_exhaustive()
    }
}

impl Streams {
    /// Begins to accept. A TLS listener needs certificates.
    pub(crate) fn start(
        listeners: Vec<(u8, BoundStream, Transport)>,
        settings: StreamSettings,
        tls: Option<Tls>,
        sink: Arc<dyn Sink>,
        runtime: &Handle,
    ) -> Arc<Streams> {
        let places =
            listeners.iter().map(|(index, bound, transport)| (*index, (bound.local_addr(), *transport))).collect();
        let streams = Arc::new(Streams {
            settings,
            stats: StreamStats::default(),
            sink,
            tls,
            runtime: runtime.clone(),
            listeners: places,
            next: AtomicU64::new(1),
            table: RwLock::default(),
            unproven: Mutex::default(),
            complained: Mutex::default(),
        });
        for (index, bound, transport) in listeners {
            let _inside = runtime.enter();
            match TcpListener::from_std(bound.socket) {
                Ok(socket) => drop(runtime.spawn(streams.clone().accept(index, socket, transport))),
                Err(error) => tracing::error!(%error, "a bound socket cannot be driven"),
            }
        }
        streams
    }

    /// Sends a message: by the connection that the hop names while it stands; else by any that leads there, opened
    /// if need be. Never blocks; may be called from any thread.
    pub(crate) fn send(self: &Arc<Self>, hop: &Hop, message: &[u8]) -> Result<(), Unsent> {
        if let Some(link) = self.find(hop)
            && link.send(self, message)
        {
            return Ok(());
        }
        if hop.only {
            return Err(Unsent);
        }
        let link = self.open(hop)?;
        if link.send(self, message) { Ok(()) } else { Err(Unsent) }
    }

    fn find(&self, hop: &Hop) -> Option<Arc<Link>> {
        let table = self.table.read();
        let named = hop.connection.and_then(|connection| table.links.get(&connection.0));
        if named.is_some() || hop.only {
            return named.cloned();
        }
        let way = (hop.listener, hop.address, hop.tls.clone());
        if let Some(link) = table.ways.get(&way).and_then(|number| table.links.get(number)) {
            return Some(link.clone());
        }
        let alias = table.aliases.get(&(hop.listener, hop.address)).and_then(|number| table.links.get(number))?;
        // It is who we want only where its certificate says so.
        let wanted = hop.tls.as_ref().map(|tls| tls.verify_name.to_ascii_lowercase())?;
        alias.names.get().is_some_and(|names| names.iter().any(|name| **name == *wanted)).then(|| alias.clone())
    }

    fn open(self: &Arc<Self>, hop: &Hop) -> Result<Arc<Link>, Unsent> {
        let (bind, transport) = *self.listeners.get(&hop.listener).ok_or(Unsent)?;
        let session = match (transport, &self.tls) {
            (Transport::Tls, Some(tls)) => match tls.connect(hop.address.ip(), hop.tls.as_deref()) {
                Ok(session) => Session::Tls(Box::new(session)),
                Err(error) => {
                    tracing::warn!(peer = %hop.address, %error, "no TLS connection can be opened");
                    return Err(Unsent);
                }
            },
            (Transport::Tls, None) => return Err(Unsent),
            _ => Session::Plain,
        };
        let way = (hop.listener, hop.address, hop.tls.clone());
        let link = {
            let mut table = self.table.write();
            // Another thread may have been first.
            if let Some(link) = table.ways.get(&way).and_then(|number| table.links.get(number))
                && link.is_open()
            {
                return Ok(link.clone());
            }
            if table.links.len() >= self.settings.total {
                count(&self.stats.refused);
                return Err(Unsent);
            }
            let number = self.next.fetch_add(1, Relaxed);
            let link = Arc::new(Link::new(number, hop.listener, hop.address, hop.tls.clone(), None, session));
            table.links.insert(number, link.clone());
            table.ways.insert(way, number);
            link
        };
        self.runtime.spawn(link.clone().run(self.clone(), bind));
        Ok(link)
    }

    /// Accepts for ever.
    async fn accept(self: Arc<Self>, listener: u8, socket: TcpListener, transport: Transport) {
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => self.take(listener, stream, peer, transport),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, listener: u8, stream: TcpStream, peer: SocketAddr, transport: Transport) {
        let session = match (transport, &self.tls) {
            (Transport::Tls, Some(tls)) => tls.accept().map(|session| Session::Tls(Box::new(session))).ok(),
            (Transport::Tls, None) => None,
            _ => Some(Session::Plain),
        };
        let Some(session) = session.filter(|_| keep_alive(&stream).is_ok()) else { return };
        let Ok(bind) = stream.local_addr() else { return };
        self.make_room();
        let mut table = self.table.write();
        let of_source = table.accepted_of.get(&peer.ip()).copied().unwrap_or(0);
        if table.links.len() >= self.settings.total || of_source >= self.settings.per_source {
            count(&self.stats.refused);
            return;
        }
        count(&self.stats.accepted);
        let number = self.next.fetch_add(1, Relaxed);
        let link = Arc::new(Link::new(number, listener, peer, None, Some(stream), session));
        *table.accepted_of.entry(peer.ip()).or_default() += 1;
        table.links.insert(number, link.clone());
        table.ways.insert((listener, peer, None), number);
        drop(table);
        self.unproven.lock().push_back(Arc::downgrade(&link));
        self.runtime.spawn(link.run(self.clone(), bind));
    }

    /// Connections that have proved nothing may hold half of the places: beyond that the oldest of them goes, so a flood of them
    /// does not lock good peers out.
    fn make_room(&self) {
        let mut unproven = self.unproven.lock();
        while unproven.len() >= self.settings.total.div_ceil(2) {
            let Some(oldest) = unproven.pop_front() else { return };
            let Some(oldest) = oldest.upgrade() else { continue };
            if !oldest.proven.load(Relaxed) && oldest.is_open() {
                count(&self.stats.evicted);
                oldest.end();
            }
        }
        let is_done =
            |link: &Weak<Link>| link.upgrade().is_none_or(|link| link.proven.load(Relaxed) || !link.is_open());
        while unproven.front().is_some_and(is_done) {
            unproven.pop_front();
        }
    }

    /// Takes note where a peer with a verified certificate asks that requests to it use this connection (RFC 5923 §5).
    pub(super) fn note_alias(&self, link: &Link, message: &[u8]) {
        let verified = !link.outgoing && link.names.get().is_some_and(|names| !names.is_empty());
        let head = &message[..message.len().min(1024)];
        if !verified || !head.windows(6).any(|window| window.eq_ignore_ascii_case(b";alias")) {
            return;
        }
        let mut index = sip::Index::new();
        if index.parse(message).is_err() || !index.message(message).is_request() {
            return;
        }
        let Ok(via) = index.message(message).top_via() else { return };
        if via.params.get(b"alias").is_some() {
            let port = via.port.unwrap_or(Transport::Tls.default_port());
            let way = (link.listener, SocketAddr::new(link.peer.ip(), port));
            let known = self.table.read().aliases.get(&way) == Some(&link.number);
            if !known {
                self.table.write().aliases.insert(way, link.number);
            }
        }
    }

    pub(super) fn forget(&self, link: &Link) {
        let mut table = self.table.write();
        table.links.remove(&link.number);
        let way = (link.listener, link.peer, link.tls.clone());
        if table.ways.get(&way) == Some(&link.number) {
            table.ways.remove(&way);
        }
        table.aliases.retain(|_, number| *number != link.number);
        if !link.outgoing
            && let Some(count) = table.accepted_of.get_mut(&link.peer.ip())
        {
            *count -= 1;
            if *count == 0 {
                table.accepted_of.remove(&link.peer.ip());
            }
        }
    }

    /// Once a second, for what others can bring about as often as they like.
    pub(super) fn may_complain(&self) -> bool {
        let mut last = self.complained.lock();
        let may = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    /// Whether a connection stands.
    pub fn is_open(&self, connection: Connection) -> bool {
        self.table.read().links.get(&connection.0).is_some_and(|link| link.is_open())
    }

    /// Counters since the start.
    pub fn counts(&self) -> StreamCounts {
        self.stats.read(self.table.read().links.len() as u64)
    }

    /// The certificates in use.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Ends all connections.
    pub(crate) fn stop(&self) {
        for link in self.table.read().links.values() {
            link.end();
        }
    }
}
