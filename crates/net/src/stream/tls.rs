//! Certificates (RFC 5922), read from files, and read again without a restart.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use routing::TlsPeer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::net::IpAddr;

/// Where certificates are.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Our certificate with its chain (PEM).
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// Authorities that peers we connect to must be signed by (PEM); none: the system's.
    pub authorities: Option<PathBuf>,
    /// Authorities that certificates of peers that connect to us must be signed by (PEM); none: they are not asked for.
    pub client_authorities: Option<PathBuf>,
    /// Whether a peer that connects without a certificate is refused.
    pub require_client: bool,
    /// Certificates and authorities that trunks name: `NAME.crt`, `NAME.key`, `NAME.ca.pem`.
    pub directory: Option<PathBuf>,
}

/// Why certificates cannot be used: which file, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(pub String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// Certificates in use. A connection keeps those that it began with.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<Arc<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    server: Option<Arc<ServerConfig>>,
    roots: Arc<RootCertStore>,
    own: Option<Own>,
    stamps: Vec<Option<SystemTime>>,
    /// By authority and certificate, as trunks name them.
    clients: Mutex<HashMap<Named, Arc<ClientConfig>>>,
}

/// Authority and certificate, as a trunk names them.
type Named = (Option<Box<str>>, Option<Box<str>>);

/// A certificate and its key.
#[derive(Debug)]
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn load(settings: TlsSettings) -> Result<Tls, TlsError> {
        let loaded = Loaded::read(&settings)?;
        Ok(Tls { settings, current: RwLock::new(Arc::new(loaded)) })
    }

    /// Reads all files again, for new connections; when that fails the old ones stay in use.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.settings)?;
        *self.current.write() = Arc::new(loaded);
        Ok(())
    }

    /// Whether a file has changed since it was read.
    pub fn has_changed(&self) -> bool {
        stamps(&self.settings) != self.current.read().stamps
    }

    /// A session for a peer that connects to us.
    pub(super) fn accept(&self) -> Result<rustls::Connection, TlsError> {
        let server = self.current.read().server.clone();
        let server = server.ok_or_else(|| TlsError("no certificate is set".to_owned()))?;
        ServerConnection::new(server).map(Into::into).map_err(|error| TlsError(error.to_string()))
    }

    /// A session to a peer: without a name to verify its address must be in its certificate.
    pub(super) fn connect(&self, address: IpAddr, peer: Option<&TlsPeer>) -> Result<rustls::Connection, TlsError> {
        let current = self.current.read().clone();
        let config = current.client(&self.settings, peer)?;
        let name = match peer.map(|peer| &*peer.verify_name).filter(|name| !name.is_empty()) {
            Some(name) => ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
                .map_err(|_| TlsError(format!("{name} is no name that a certificate can hold")))?,
            None => ServerName::IpAddress(address.into()),
        };
        ClientConnection::new(config, name).map(Into::into).map_err(|error| TlsError(error.to_string()))
    }
}

impl Loaded {
    fn read(settings: &TlsSettings) -> Result<Loaded, TlsError> {
        let stamps = stamps(settings);
        let own = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => Some(Own::read(certificate, key)?),
            _ => None,
        };
        let roots = match &settings.authorities {
            Some(path) => read_roots(path)?,
            None => system_roots(),
        };
        let server = own.as_ref().map(|own| server_config(settings, own)).transpose()?.map(Arc::new);
        Ok(Loaded { server, roots: Arc::new(roots), own, stamps, clients: Mutex::default() })
    }

    fn client(&self, settings: &TlsSettings, peer: Option<&TlsPeer>) -> Result<Arc<ClientConfig>, TlsError> {
        let named = peer.map(|peer| (peer.authority.clone(), peer.certificate.clone())).unwrap_or_default();
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get(&named) {
            return Ok(known.clone());
        }
        let file = |name: &str, kind: &str| {
            let directory = settings.directory.as_ref();
            let directory =
                directory.ok_or_else(|| TlsError(format!("{name}: no directory of certificates is set")))?;
            Ok(directory.join(format!("{name}{kind}")))
        };
        let roots = match &named.0 {
            Some(authority) => Arc::new(read_roots(&file(authority, ".ca.pem")?)?),
            None => self.roots.clone(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?
            .with_root_certificates(roots);
        let with = |own: &Own| {
            let built = builder.clone().with_client_auth_cert(own.chain.clone(), own.key.clone_key());
            built.map_err(|error| TlsError(format!("our certificate cannot be used: {error}")))
        };
        let config = match (&named.1, &self.own) {
            (Some(certificate), _) => with(&Own::read(&file(certificate, ".crt")?, &file(certificate, ".key")?)?)?,
            (None, Some(own)) => with(own)?,
            (None, None) => builder.with_no_client_auth(),
        };
        let config = Arc::new(config);
        clients.insert(named, config.clone());
        Ok(config)
    }
}

impl Own {
    fn read(certificate: &Path, key: &Path) -> Result<Own, TlsError> {
        let chain = read_certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TlsError(format!("{}: expected a private key (PEM): {error}", key.display())))?;
        Ok(Own { chain, key })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(settings: &TlsSettings, own: &Own) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?;
    let builder = match &settings.client_authorities {
        Some(path) => {
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(read_roots(path)?), provider());
            if !settings.require_client {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(|error| TlsError(format!("{}: {error}", path.display())))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    builder
        .with_single_cert(own.chain.clone(), own.key.clone_key())
        .map_err(|error| TlsError(format!("tls.certificate and tls.key cannot be used: {error}")))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let expected =
        |error: &dyn fmt::Display| TlsError(format!("{}: expected certificates (PEM): {error}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| expected(&error))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| expected(&error))?;
    if certificates.is_empty() { Err(expected(&"there is none")) } else { Ok(certificates) }
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError(format!("{}: {error}", path.display())))?;
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(ignored, "the system has no certificate authorities: no TLS peer can be verified by them");
    }
    roots
}

/// When each file was changed last.
fn stamps(settings: &TlsSettings) -> Vec<Option<SystemTime>> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let named = [&settings.certificate, &settings.key, &settings.authorities, &settings.client_authorities];
    let mut stamps: Vec<_> = named.into_iter().map(|path| path.as_deref().and_then(changed)).collect();
    if let Some(directory) = &settings.directory {
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.sort();
        stamps.extend(files.iter().map(|file| changed(file)));
    }
    stamps
}

/// DNS names and URI hosts of a verified certificate, in lower case (RFC 5922 §7.1).
pub(super) fn names(session: &rustls::Connection) -> Vec<Box<str>> {
    let Some(end) = session.peer_certificates().and_then(|chain| chain.first()) else { return Vec::new() };
    let Ok(certificate) = webpki::EndEntityCert::try_from(end) else { return Vec::new() };
    let uris = certificate.valid_uri_names().filter_map(|uri| uri.split_once(':').map(|(_, host)| host));
    certificate.valid_dns_names().chain(uris).map(|name| name.to_ascii_lowercase().into()).collect()
}
