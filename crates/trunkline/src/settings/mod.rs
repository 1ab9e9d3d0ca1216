//! Settings: `trunkline.toml`, then `TRUNKLINE_*` variables, then flags; the later one wins.
//!
//! Nothing is guessed: an unknown key or a value that does not fit stops the start with the place and
//! what was expected there.

mod file;
mod flags;
mod records;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use registrar::Algorithm;
use sip::Transport;

pub use self::records::Records;
pub use flags::ServeFlags;

/// Why the settings cannot be used: where, what, and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// All settings of `serve`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the registry is kept.
    pub data_dir: PathBuf,
    /// HTTP.
    pub http: Http,
    /// SIP.
    pub sip: Sip,
    /// TLS, for SIP.
    pub tls: Tls,
    /// Realm of the digests of trunks that register by SIP.
    pub realm: String,
    /// Digest algorithms that are offered, in their order.
    pub algorithms: Vec<Algorithm>,
    /// Shortest registration by SIP.
    pub min_expires_seconds: u64,
    /// Longest registration by SIP.
    pub max_expires_seconds: u64,
    /// Failed calls in a row after which a target rests.
    pub call_fall: u64,
    /// How long it rests; the longest rest that a Retry-After gets.
    pub rest_seconds: u64,
    /// Times that a trunk may go down in ten minutes.
    pub flap_limit: u64,
    /// How long it must stay good after more.
    pub flap_hold_seconds: u64,
    /// Name servers; none: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Seconds from the end of a lease to deregistration.
    pub deregister_after_seconds: u64,
    /// Calls that stay readable after their end.
    pub keep_calls: u64,
    /// Records of calls.
    pub records: Records,
    /// Changes that history keeps.
    pub history_keep: u64,
    /// Filter of log lines, as `tracing` has it: `info`, `trunkline=debug`, ….
    pub log_level: String,
    /// Whether log lines are JSON.
    pub log_json: bool,
}

/// Settings of the HTTP listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Its address.
    pub listen: SocketAddr,
    /// Longest request body.
    pub max_body_bytes: usize,
    /// Longest document that `/apply` takes.
    pub max_apply_bytes: usize,
    /// Time budget of a request.
    pub request_timeout_ms: u64,
    /// Said in words: a listener beyond loopback without authentication is wanted.
    pub unauthenticated_beyond_loopback: bool,
}

/// A place to listen at for SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Transport.
    pub transport: Transport,
    /// Address.
    pub address: SocketAddr,
}

/// Settings of TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Our certificate with its chain (PEM).
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// Authorities that trunks must be signed by (PEM); none: the system's.
    pub authorities: Option<PathBuf>,
    /// Authorities that certificates of callers must be signed by (PEM); none: they are not asked for.
    pub client_authorities: Option<PathBuf>,
    /// Whether a caller without a certificate is refused.
    pub require_client: bool,
    /// Certificates and authorities that trunks name: `NAME.crt`, `NAME.key`, `NAME.ca.pem`.
    pub directory: Option<PathBuf>,
}

/// Settings of the SIP router.
#[derive(Clone, Debug, PartialEq)]
pub struct Sip {
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// `host[:port]` in Via and Record-Route, where it is not the address that is listened on.
    pub advertise: Option<String>,
    /// Threads for each address.
    pub threads: usize,
    /// Networks that may place calls beside the trunks.
    pub allow: Vec<IpNet>,
    /// Networks whose asserted identities are believed.
    pub trusted: Vec<IpNet>,
    /// Seconds of the Session-Expires that an INVITE without one gets; 0: none.
    pub session_expires_seconds: u64,
    /// Calls, and INVITEs without their ACK, that one source may hold.
    pub max_calls_per_source: usize,
    /// Stream connections at most.
    pub max_connections: usize,
    /// Stream connections of one source at most.
    pub max_connections_per_source: usize,
    /// An attempt without any answer ends after this time.
    pub setup_timeout_ms: u64,
    /// An attempt that only rings ends after this time.
    pub ring_timeout_ms: u64,
    /// Longest duration of a call that shows no life.
    pub max_call_seconds: u64,
    /// Whether another trunk may be tried after ringing has begun.
    pub reroute_after_ringing: bool,
    /// Time for transactions to finish after SIGTERM.
    pub drain_seconds: u64,
}

impl Sip {
    /// How many of its listeners are UDP's: these have threads of their own.
    pub fn udp_listeners(&self) -> usize {
        self.listen.iter().filter(|listen| listen.transport == Transport::Udp).count()
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data_dir: "./trunkline-data".into(),
            http: Http {
                listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
                max_body_bytes: 64 * 1024,
                max_apply_bytes: 4 << 20,
                request_timeout_ms: 10_000,
                unauthenticated_beyond_loopback: false,
            },
            sip: Sip {
                listen: vec![Listen { transport: Transport::Udp, address: SocketAddr::from(([127, 0, 0, 1], 5060)) }],
                advertise: None,
                threads: std::thread::available_parallelism().map_or(2, usize::from).min(4),
                allow: values::loopback(),
                trusted: Vec::new(),
                session_expires_seconds: 1800,
                max_calls_per_source: 100_000,
                max_connections: 10_000,
                max_connections_per_source: 64,
                setup_timeout_ms: 4000,
                ring_timeout_ms: 180_000,
                max_call_seconds: 4 * 3600,
                reroute_after_ringing: false,
                drain_seconds: 10,
            },
            tls: Tls::default(),
            realm: "trunkline".into(),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            min_expires_seconds: 30,
            max_expires_seconds: 3600,
            call_fall: 3,
            rest_seconds: 30,
            flap_limit: 3,
            flap_hold_seconds: 120,
            dns_servers: Vec::new(),
            deregister_after_seconds: 600,
            keep_calls: 10_000,
            records: Records::default(),
            history_keep: 1000,
            log_level: "info".into(),
            log_json: false,
        }
    }
}

/// The file that is read when none is named, if it is there.
const USUAL_FILE: &str = "trunkline.toml";
/// Begins the names of our variables.
const PREFIX: &str = "TRUNKLINE_";

/// Gathers the settings. `env` is the process environment or a stand-in for it.
pub fn load(flags: &ServeFlags, env: impl Iterator<Item = (String, String)>) -> Result<Settings, SettingsError> {
    let mut settings = Settings::default();
    let path = match &flags.config {
        Some(path) => Some(path.as_path()),
        None => Some(Path::new(USUAL_FILE)).filter(|path| path.exists()),
    };
    if let Some(path) = path {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError(format!("{}: cannot be read: {error}", path.display())))?;
        file::apply(&mut settings, &path.display().to_string(), &text)?;
    }
    let mut variables: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let key = values::KEYS.iter().find(|key| key.variable() == name).ok_or_else(|| {
            let known: Vec<String> = values::KEYS.iter().map(values::Key::variable).collect();
            SettingsError(format!("{name}: unknown variable; expected one of {}", known.join(", ")))
        })?;
        let value = key.parse_text(&value);
        (key.set)(&mut settings, &value)
            .map_err(|expected| SettingsError(format!("{name}: expected {expected}, found {}", key.shown(&value))))?;
    }
    flags.apply(&mut settings)?;
    check(&settings)?;
    Ok(settings)
}

/// What only the whole can tell.
fn check(settings: &Settings) -> Result<(), SettingsError> {
    let http = &settings.http;
    if !http.listen.ip().is_loopback() && !http.unauthenticated_beyond_loopback {
        return Err(SettingsError(format!(
            "http.listen: {} is beyond loopback and the HTTP interface has no authentication: anyone who reaches it \
             may change trunks. Listen on loopback, or set http.unauthenticated_beyond_loopback = true if a proxy \
             or a firewall guards it",
            http.listen
        )));
    }
    if settings.sip.listen.is_empty() || settings.sip.listen.len() > 64 {
        return Err(SettingsError("sip.listen: expected 1 to 64 addresses".into()));
    }
    if let Some(any) = settings.sip.listen.iter().find(|listen| listen.address.ip().is_unspecified())
        && settings.sip.advertise.is_none()
    {
        let any = any.address;
        return Err(SettingsError(format!(
            "sip.listen: {any} is every address of this host; say by sip.advertise which one peers shall answer to"
        )));
    }
    let serves_tls = settings.sip.listen.iter().any(|listen| listen.transport == Transport::Tls);
    if settings.tls.certificate.is_some() != settings.tls.key.is_some() {
        return Err(SettingsError("tls.certificate and tls.key: expected both or neither".into()));
    }
    if serves_tls && settings.tls.certificate.is_none() {
        return Err(SettingsError("sip.listen: tls needs tls.certificate and tls.key".into()));
    }
    if settings.tls.require_client && settings.tls.client_authorities.is_none() {
        return Err(SettingsError("tls.require_client needs tls.client_authorities".into()));
    }
    settings.records.check()
}
