//! From a host name to addresses, as the system is told to do it: `/etc/hosts`, then DNS.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// A look-up is given up after this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are used; more serve nobody.
const MOST_ADDRESSES: usize = 32;
/// An address as name is valid for ever.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its addresses, in a fixed order (IPv4 first), so that equal answers compare equal. Never empty.
    pub addresses: Vec<IpAddr>,
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

/// Looks names up; what [`crate::Names`] needs.
pub trait Lookup: Send + Sync + 'static {
    /// Looks one name up.
    fn lookup(&self, host: &str) -> impl Future<Output = Result<Resolved, ResolveError>> + Send;
}

/// The system's resolver: its name servers and its hosts file, as they were when it was made.
#[derive(Clone, Debug)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Reads the system's configuration. Without `/etc/resolv.conf` only the hosts file is asked.
    ///
    /// # Errors
    /// When no resolver can be built.
    pub fn new() -> Result<Resolver, ResolveError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "the system's name servers are unknown; only its hosts file is used");
            let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nowhere, TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Who asks keeps the answers; a second cache would hold failures beyond their back-off.
        options.cache_size = 0;
        builder.build().map(Resolver).map_err(|error| ResolveError(error.to_string()))
    }

    /// Addresses of a host name, or of an IP address in text (`[2001:db8::1]` too).
    ///
    /// # Errors
    /// When the name has no address, or no name server answers in time.
    pub async fn lookup(&self, host: &str) -> Result<Resolved, ResolveError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(Resolved { addresses: vec![address], ttl: FOREVER });
        }
        let answer = tokio::time::timeout(PATIENCE, self.0.lookup_ip(host)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_nx_domain() => {
                return Err(ResolveError(format!("{host} does not exist")));
            }
            Ok(Err(error)) if error.is_no_records_found() => {
                return Err(ResolveError(format!("{host} has no address")));
            }
            Ok(Err(error)) => return Err(ResolveError(format!("{host}: {error}"))),
            Err(_) => return Err(ResolveError(format!("{host}: no name server answered in time"))),
        };
        let mut addresses: Vec<IpAddr> = answer.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MOST_ADDRESSES);
        if addresses.is_empty() {
            return Err(ResolveError(format!("{host} has no address")));
        }
        Ok(Resolved { addresses, ttl: answer.valid_until().saturating_duration_since(Instant::now()) })
    }
}

impl Lookup for Resolver {
    async fn lookup(&self, host: &str) -> Result<Resolved, ResolveError> {
        Resolver::lookup(self, host).await
    }
}
