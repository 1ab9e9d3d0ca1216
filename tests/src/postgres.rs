//! PostgreSQL, with data of the test's own.

use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Certificates, own_address, wait_until};

/// A server on port 5432 of its own address; it starts and stops as often as wanted.
pub struct Postgres {
    /// Its address.
    pub ip: Ipv4Addr,
    dir: TempDir,
    child: Option<Child>,
    tls: bool,
}

/// The password of its only user, `postgres`.
const PASSWORD: &str = "s3cret";

impl Postgres {
    /// Makes its data and starts it.
    pub fn start() -> Postgres {
        Postgres::at(own_address(), None)
    }

    /// The same with TLS, by a certificate that is made for its address.
    pub fn with_tls(certificates: &Certificates) -> Postgres {
        let ip = own_address();
        certificates.make("postgres", &[&ip.to_string()]);
        Postgres::at(ip, Some((certificates, "postgres")))
    }

    fn at(ip: Ipv4Addr, tls: Option<(&Certificates, &str)>) -> Postgres {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if let Some((certificates, name)) = tls {
            for end in ["crt", "key"] {
                let (from, to) =
                    (certificates.file(&format!("{name}.{end}")), dir.path().join(format!("server.{end}")));
                std::fs::copy(from, &to).unwrap();
                std::fs::set_permissions(&to, PermissionsExt::from_mode(0o600)).unwrap();
                give(&to);
            }
        }
        give(&password);
        give(dir.path());
        let mut initdb = command("initdb");
        initdb.args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C", "--pwfile"]);
        let output = initdb.arg(password).arg("-D").arg(dir.path().join("data")).output().unwrap();
        assert!(output.status.success(), "initdb: {output:?}");
        let mut postgres = Postgres { ip, dir, child: None, tls: tls.is_some() };
        postgres.again();
        postgres
    }

    /// Starts it again.
    pub fn again(&mut self) {
        let dir = self.dir.path();
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(dir.join("data")).args(["-h", &self.ip.to_string(), "-c", "fsync=off", "-k"]).arg(dir);
        if self.tls {
            let file = |name: &str| dir.join(name).display().to_string();
            let (certificate, key) = (file("server.crt"), file("server.key"));
            postgres.args(["-l", "-c", &format!("ssl_cert_file={certificate}"), "-c", &format!("ssl_key_file={key}")]);
        }
        self.child = Some(postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        wait_until("PostgreSQL", Duration::from_secs(60), || self.query("SELECT 1").is_ok());
    }

    /// Ends it as a crash would: connections are cut, nothing is brought to an end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It may have ended already.
        let _ = Command::new("kill").args(["-s", "QUIT", &child.id().to_string()]).status();
        child.wait().unwrap();
    }

    /// Where it is, for a user; `options` are those of the address.
    pub fn url(&self, user: &str, options: &str) -> String {
        format!("postgres://{user}:{PASSWORD}@{}/postgres{options}", self.ip)
    }

    /// What a statement gives, by psql: one line a row, columns with `|` between.
    ///
    /// # Errors
    /// What psql says.
    pub fn query(&self, statement: &str) -> Result<String, String> {
        let mut psql = Command::new(program("psql"));
        psql.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-h",
            &self.ip.to_string(),
            "-c",
        ]);
        let output = psql.arg(statement).env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "prefer").output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The number that a statement gives; 0 where it fails, as before there is a table.
    pub fn count(&self, statement: &str) -> u64 {
        self.query(statement).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- PostgreSQL\n{log}");
        }
    }
}

/// Debian keeps the programs of each version beside the path.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    programs.retain(|program| program.exists());
    programs.sort();
    programs.pop().unwrap_or_else(|| name.into())
}

/// PostgreSQL refuses to run as root: then it runs as the user of its package.
fn command(name: &str) -> Command {
    if id("-u", None) != 0 {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program(name));
    command.current_dir("/");
    command
}

fn give(path: &Path) {
    if id("-u", None) == 0 {
        chown(path, Some(id("-u", Some("postgres"))), Some(id("-g", Some("postgres")))).unwrap();
    }
}

fn id(what: &str, user: Option<&str>) -> u32 {
    let output = Command::new("id").arg(what).args(user).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("no user postgres (Debian package postgresql): {output:?}"))
}
