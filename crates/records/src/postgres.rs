//! PostgreSQL: a table whose rows are the records, each with the columns that one asks for and the record whole.

use std::path::PathBuf;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::runtime::Runtime;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use crate::authorities;
use crate::deliver::{Failure, Sink};
use crate::spool::Line;

/// Where a PostgreSQL server is, and who we are there. Nothing of it is ever shown.
#[derive(Clone, PartialEq)]
pub struct Address(Config);

/// Settings of the delivery to PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresSettings {
    /// The server.
    pub address: Address,
    /// The table, with its schema or without.
    pub table: String,
    /// Authorities of the server's certificate (PEM); none: the system's.
    pub authorities: Option<PathBuf>,
    /// Records in a statement at most.
    pub batch: usize,
}

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST/DATABASE?OPTIONS`, or the same as `key=value` pairs; none where it is neither,
    /// or names no host. Beyond loopback TLS is required unless it says `sslmode=disable`; on it there is none unless it
    /// says `sslmode=require`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Address> {
        let mut config: Config = text.parse().ok()?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return None;
        }
        if config.get_ssl_mode() == SslMode::Prefer {
            let near = is_near(&config);
            config.ssl_mode(if near { SslMode::Disable } else { SslMode::Require });
        }
        if config.get_application_name().is_none() {
            config.application_name("trunkline");
        }
        Some(Address(config))
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(…)")
    }
}

fn is_near(config: &Config) -> bool {
    let near = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        Host::Unix(_) => true,
    };
    // An address, where one is given beside the name, is what is connected to.
    match config.get_hostaddrs() {
        [] => config.get_hosts().iter().all(near),
        addresses => addresses.iter().all(std::net::IpAddr::is_loopback),
    }
}

/// Whether it names a table: one name, or two with a dot between, of lower-case letters, digits and `_`.
#[must_use]
pub fn is_table(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let name = |name: &str| {
        let first = name.bytes().next().is_some_and(letter);
        first && name.len() <= 63 && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
    };
    let names: Vec<&str> = text.split('.').collect();
    names.len() <= 2 && names.into_iter().all(name)
}

/// Columns with their types, each filled from the member of the same name.
const COLUMNS: [(&str, &str); 16] = [
    ("id", "uuid"),
    ("call_id", "text"),
    ("started_at", "timestamptz"),
    ("rang_at", "timestamptz"),
    ("answered_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("duration_ms", "bigint"),
    ("source", "text"),
    ("source_trunk", "text"),
    ("calling", "text"),
    ("called", "text"),
    ("route", "text"),
    ("trunk", "text"),
    ("ended_by", "text"),
    ("cause", "text"),
    ("status", "smallint"),
];

/// The delivery.
pub struct Postgres {
    runtime: Runtime,
    timeout: Duration,
    session: Session,
}

struct Session {
    settings: PostgresSettings,
    /// The table as it stands in statements.
    table: String,
    insert: String,
    client: Option<Client>,
}

impl Postgres {
    /// Connects when there is something to deliver.
    ///
    /// # Errors
    /// Where the system gives no runtime.
    pub fn new(settings: PostgresSettings, timeout: Duration) -> std::io::Result<Postgres> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("(r->>'{name}')::{kind}")).collect();
        let table = settings.table.split('.').map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(".");
        // One parameter for any number of rows, and an unnamed statement, which poolers can pass on.
        let insert = format!(
            "INSERT INTO {table} ({}, record) SELECT {}, r FROM jsonb_array_elements($1::text::jsonb) AS r \
             ON CONFLICT DO NOTHING",
            columns.join(", "),
            values.join(", ")
        );
        Ok(Postgres { runtime, timeout, session: Session { settings, table, insert, client: None } })
    }
}

impl Sink for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn send(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let texts: Vec<&str> = lines.iter().map(|line| &*line.text).collect();
        let array = format!("[{}]", texts.join(","));
        let Postgres { runtime, timeout, session } = self;
        let written = runtime.block_on(async { tokio::time::timeout(*timeout, session.write(&array)).await });
        written.unwrap_or_else(|_| Err(Failure::Away(format!("no answer within {} s", timeout.as_secs()))))
    }
}

impl Session {
    async fn write(&mut self, array: &str) -> Result<(), Failure> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect().await?,
        };
        let written = client.execute_typed(&self.insert, &[(&array, Type::TEXT)]).await;
        let result = match &written {
            Ok(_) => Ok(()),
            Err(error) if is_about_data(error) => Err(Failure::Refused(words(error))),
            // A new connection looks for the table anew.
            Err(error) => return Err(Failure::Away(words(error))),
        };
        self.client = Some(client);
        result
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let Address(config) = &self.settings.address;
        let away = |error: Error| Failure::Away(words(&error));
        let client = if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(away)?;
            tokio::spawn(watch(connection));
            client
        } else {
            let roots = authorities::store(self.settings.authorities.as_deref()).map_err(Failure::Away)?;
            let tls = ClientConfig::builder_with_provider(authorities::provider())
                .with_safe_default_protocol_versions()
                .map_err(|error| Failure::Away(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
            let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.map_err(away)?;
            tokio::spawn(watch(connection));
            client
        };
        self.make_table(&client).await.map_err(away)?;
        Ok(client)
    }

    /// Makes the table where it is missing. Looked for first: an account that may only insert can make nothing.
    async fn make_table(&self, client: &Client) -> Result<(), Error> {
        let table = &self.table;
        let found = client.query_typed_one("SELECT to_regclass($1) IS NOT NULL", &[(table, Type::TEXT)]).await?;
        if found.try_get(0)? {
            return Ok(());
        }
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, kind)| {
                let always = matches!(*name, "call_id" | "started_at" | "ended_at" | "source" | "ended_by" | "cause");
                let rule = if *name == "id" {
                    " PRIMARY KEY"
                } else if always {
                    " NOT NULL"
                } else {
                    ""
                };
                format!("{name} {kind}{rule}")
            })
            .collect();
        let columns = columns.join(", ");
        client
            .batch_execute(&format!(
                "CREATE TABLE {table} ({columns}, record jsonb NOT NULL); CREATE INDEX ON {table} (started_at); \
                 CREATE INDEX ON {table} (call_id)"
            ))
            .await
    }
}

async fn watch<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        debug!(why = words(&error), "the connection to PostgreSQL has ended");
    }
}

/// Data exceptions, violated constraints, and limits of the server (classes 22, 23 and 54 of SQLSTATE): the same lines would
/// be refused again.
fn is_about_data(error: &Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    matches!(class, Some("22" | "23" | "54"))
}

/// An error with its causes; of the server's, its message and code.
fn words(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_beyond_loopback() {
        let mode = |text: &str| Address::parse(text).unwrap().0.get_ssl_mode();
        for near in ["postgres://u:p@127.0.0.1/d", "postgres://u@[::1]/d", "host=/run/postgresql", "host=localhost"] {
            assert_eq!(mode(near), SslMode::Disable, "{near}");
        }
        for far in ["postgres://u:p@db.example.net/d", "host=localhost,192.0.2.1", "host=localhost hostaddr=192.0.2.1"]
        {
            assert_eq!(mode(far), SslMode::Require, "{far}");
        }
        assert_eq!(mode("postgres://db.example.net/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://127.0.0.1/d?sslmode=require"), SslMode::Require);
        for bad in ["", "http://a/", "postgres://", "user=u", "host=a port=x"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_is_not_shown() {
        assert_eq!(format!("{:?}", Address::parse("postgres://u:secret@db/d")), "Some(Address(…))");
    }

    #[test]
    fn tables_have_names() {
        for good in ["call_records", "trunkline.calls2", "_x"] {
            assert!(is_table(good), "{good}");
        }
        for bad in ["", "a.b.c", "a b", "\"a\"", "A", "2a", "a;drop", ".a", "a."] {
            assert!(!is_table(bad), "{bad}");
        }
    }
}
