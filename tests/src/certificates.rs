//! An authority of the test's own, and certificates that it signs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// Files of certificates; gone with it.
pub struct Certificates {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes the authority: `ca.pem`.
    pub fn new() -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Certificates { dir, authority }
    }

    /// Makes or renews `NAME.crt` and `NAME.key`, for names and addresses.
    pub fn make(&self, name: &str, holds: &[&str]) {
        let params = CertificateParams::new(holds.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.crt")), certificate.pem()).unwrap();
    }

    /// Where a file is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings of a server at an address, whose certificate is `server`; peers are verified by this authority, and
    /// asked for certificates of it.
    pub fn settings(&self, ip: Ipv4Addr) -> String {
        let dir = self.dir.path().display();
        format!(
            "[sip]\nlisten = [\"udp:{ip}:5060\", \"tcp:{ip}:5060\", \"tls:{ip}:5061\"]\n[tls]\n\
             certificate = \"{dir}/server.crt\"\nkey = \"{dir}/server.key\"\nauthorities = \"{dir}/ca.pem\"\n\
             client_authorities = \"{dir}/ca.pem\"\ndirectory = \"{dir}\"\n"
        )
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}
