//! Other people's SIP programs: Kamailio as a gateway, baresip as a phone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Certificates, wait_until};

/// Kamailio as a gateway: answers OPTIONS, and sends calls on to an answerer on UDP. Listens on UDP and TCP 5060 and TLS 5061.
pub struct Kamailio {
    child: Child,
    dir: TempDir,
}

impl Kamailio {
    /// Starts it, with the certificate `NAME` where it is to speak TLS.
    pub fn start(ip: Ipv4Addr, answerer: &str, tls: Option<(&Certificates, &str)>) -> Kamailio {
        let dir = tempfile::tempdir().unwrap();
        let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs/gateway.cfg");
        let mut kamailio = Command::new("kamailio");
        kamailio.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(config);
        kamailio.arg("-A").arg(format!("IP={ip}")).arg("-A").arg(format!("ANSWERER=\"sip:{answerer}\""));
        if let Some((certificates, name)) = tls {
            let text = format!(
                "[server:default]\nmethod = TLSv1.2+\ncertificate = {}\nprivate_key = {}\n[client:default]\nmethod = TLSv1.2+\n\
                 verify_certificate = no\n",
                certificates.file(&format!("{name}.crt")).display(),
                certificates.file(&format!("{name}.key")).display()
            );
            let path = dir.path().join("tls.cfg");
            std::fs::write(&path, text).unwrap();
            kamailio.arg("-A").arg(format!("TLSCFG=\"{}\"", path.display()));
        }
        kamailio.arg("-Y").arg(dir.path()).arg("-P").arg(dir.path().join("pid"));
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = kamailio.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let kamailio = Kamailio { child: child.expect("kamailio (Debian package kamailio)"), dir };
        let port = if tls.is_some() { 5061 } else { 5060 };
        wait_until(&format!("Kamailio: {}", kamailio.log()), Duration::from_secs(20), || {
            std::net::TcpStream::connect((ip, port)).is_ok()
        });
        kamailio
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- kamailio\n{}", self.log());
        }
        // Its children go with it; it may have ended already.
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// baresip, which registers and answers calls.
pub struct Baresip {
    child: Child,
    dir: TempDir,
}

impl Baresip {
    /// Starts it with an account (as its `accounts` file has it), listening at an address.
    pub fn start(ip: Ipv4Addr, account: &str) -> Baresip {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "sip_listen {ip}:{port}\nmodule_path /usr/lib/baresip/modules\nmodule account.so\nmodule menu.so\n\
             module g711.so\n"
        );
        std::fs::write(dir.path().join("config"), config).unwrap();
        std::fs::write(dir.path().join("accounts"), format!("{account}\n")).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let null = Stdio::null;
        let child = Command::new("baresip").arg("-f").arg(dir.path()).stdin(null()).stdout(log).stderr(null()).spawn();
        Baresip { child: child.expect("baresip (Debian package baresip-core)"), dir }
    }

    /// Ends it: kindly by SIGTERM, so that it deregisters, or not.
    pub fn end(mut self, kindly: bool) {
        let signal = if kindly { "TERM" } else { "KILL" };
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- baresip\n{}", std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
