//! Who may sign the certificates of receivers.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates of a PEM file, or the system's.
///
/// # Errors
/// The file, and what is wrong with it.
pub fn load(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(file) = file else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    let wrong = |why: String| format!("{}: {why}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("holds no certificate (PEM)".into()));
    }
    Ok(certificates)
}

/// The same as rustls wants them.
///
/// # Errors
/// As [`load`].
pub fn store(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // The system may have some that cannot be read, and does without them.
    roots.add_parsable_certificates(load(file)?);
    Ok(roots)
}

/// The cryptography of all.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
