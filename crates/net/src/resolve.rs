//! The resolver: `/etc/hosts`, then DNS.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use routing::Place;

use crate::locate::{Service, locate};

/// A look-up is given up after this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where a service is.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Its places, in a fixed order, so that equal answers compare equal. Never empty.
    pub places: Vec<Place>,
    /// How long that holds.
    pub ttl: Duration,
}

/// Why a name has no addresses, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError(pub String);

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ResolveError {}

/// Looks services up; what [`crate::Names`] needs.
pub trait Lookup: Send + Sync + 'static {
    /// Looks one service up.
    fn lookup(&self, service: &Service) -> impl Future<Output = Result<Resolved, ResolveError>> + Send;
}

/// The system's resolver: its name servers and its hosts file, as they were when it was made.
#[derive(Clone, Debug)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Reads the system's configuration; `servers` are asked instead of its name servers, if there are any. Without any name server
    /// only the hosts file is asked.
    ///
    /// # Errors
    /// When no resolver can be built.
    pub fn new(servers: &[SocketAddr]) -> Result<Resolver, ResolveError> {
        let custom = |servers: Vec<NameServerConfig>| {
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "the system's name servers are unknown; only its hosts file is used");
                custom(Vec::new())
            })
        } else {
            custom(servers.iter().map(|server| name_server(*server)).collect())
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        // Who asks keeps the answers; a second cache would hold failures beyond their back-off.
        options.cache_size = 0;
        builder.build().map(Resolver).map_err(|error| ResolveError(error.to_string()))
    }

    /// Looks a service up (RFC 3263 §4).
    ///
    /// # Errors
    /// When it has no address, or no name server answers in time.
    pub async fn lookup(&self, service: &Service) -> Result<Resolved, ResolveError> {
        let late = |_| ResolveError(format!("{}: no name server answered in time", service.host));
        tokio::time::timeout(PATIENCE, locate(&self.0, service)).await.map_err(late)?
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

impl Lookup for Resolver {
    async fn lookup(&self, service: &Service) -> Result<Resolved, ResolveError> {
        Resolver::lookup(self, service).await
    }
}
