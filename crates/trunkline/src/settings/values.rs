//! The keys, and what each takes.

use std::net::SocketAddr;

use ipnet::IpNet;
use records::{Address, Secret, Url};
use registrar::Algorithm;
use sip::Transport;
use toml::Value;

use super::{Listen, Settings};

/// One key of the settings.
pub struct Key {
    /// Its table in the file, or empty.
    pub table: &'static str,
    /// Its name there.
    pub name: &'static str,
    kind: Kind,
    /// Takes the value over, or says what was expected.
    pub set: fn(&mut Settings, &Value) -> Result<(), String>,
}

enum Kind {
    Flag,
    List,
    Number,
    /// A text that no message shows.
    Secret,
    Text,
}

impl Key {
    /// `TRUNKLINE_` with table and name in upper case.
    pub fn variable(&self) -> String {
        let table = if self.table.is_empty() { String::new() } else { format!("{}_", self.table) };
        format!("{}{table}{}", super::PREFIX, self.name).replace('.', "_").to_ascii_uppercase()
    }

    /// A value as messages show it.
    pub fn shown(&self, value: &Value) -> String {
        match self.kind {
            Kind::Secret => "something else, which is not shown".to_owned(),
            _ => value.to_string(),
        }
    }

    /// A variable's text as the value that the file would have; lists are separated by commas.
    pub fn parse_text(&self, text: &str) -> Value {
        let or_text = |value: Option<Value>| value.unwrap_or_else(|| Value::String(text.to_owned()));
        match self.kind {
            Kind::Flag => or_text(text.parse().ok().map(Value::Boolean)),
            Kind::List => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Value::String(part.into()))
                    .collect(),
            ),
            Kind::Number => or_text(text.parse().ok().map(Value::Integer)),
            Kind::Secret | Kind::Text => Value::String(text.to_owned()),
        }
    }
}

macro_rules! key {
    ($table:literal, $name:literal, $kind:ident, |$settings:ident, $value:ident| $set:expr) => {
        Key {
            table: $table,
            name: $name,
            kind: Kind::$kind,
            set: |$settings, $value| {
                $set;
                Ok(())
            },
        }
    };
}

/// All keys.
pub const KEYS: &[Key] = &[
    key!("", "data_dir", Text, |s, v| s.data_dir = text(v, "a directory")?.into()),
    key!("http", "listen", Text, |s, v| s.http.listen = address(text(v, ADDRESS)?)?),
    key!("http", "max_body_bytes", Number, |s, v| s.http.max_body_bytes = number(v, 1024, 16 << 20)? as usize),
    key!("http", "max_apply_bytes", Number, |s, v| s.http.max_apply_bytes = number(v, 1024, 64 << 20)? as usize),
    key!("http", "request_timeout_ms", Number, |s, v| s.http.request_timeout_ms = number(v, 10, 600_000)?),
    key!("http", "unauthenticated_beyond_loopback", Flag, |s, v| s.http.unauthenticated_beyond_loopback = flag(v)?),
    key!("sip", "listen", List, |s, v| s.sip.listen = each(v, sip_address)?),
    key!("sip", "advertise", Text, |s, v| s.sip.advertise = Some(advertised(text(v, HOST)?)?)),
    key!("sip", "threads", Number, |s, v| s.sip.threads = number(v, 1, 64)? as usize),
    key!("sip", "allow", List, |s, v| s.sip.allow = each(v, network)?),
    key!("sip", "trusted", List, |s, v| s.sip.trusted = each(v, network)?),
    key!("sip", "session_expires_seconds", Number, |s, v| s.sip.session_expires_seconds = number_or_0(v, 90, 86_400)?),
    key!("sip", "max_calls_per_source", Number, |s, v| s.sip.max_calls_per_source = number(v, 1, 10_000_000)? as usize),
    key!("sip", "max_connections", Number, |s, v| s.sip.max_connections = number(v, 1, 1_000_000)? as usize),
    key!("sip", "max_connections_per_source", Number, |s, v| {
        s.sip.max_connections_per_source = number(v, 1, 1_000_000)? as usize
    }),
    key!("sip", "setup_timeout_ms", Number, |s, v| s.sip.setup_timeout_ms = number(v, 100, 32_000)?),
    key!("sip", "ring_timeout_ms", Number, |s, v| s.sip.ring_timeout_ms = number(v, 1000, 3_600_000)?),
    key!("sip", "max_call_seconds", Number, |s, v| s.sip.max_call_seconds = number(v, 60, 7 * 86_400)?),
    key!("sip", "reroute_after_ringing", Flag, |s, v| s.sip.reroute_after_ringing = flag(v)?),
    key!("sip", "drain_seconds", Number, |s, v| s.sip.drain_seconds = number(v, 0, 3600)?),
    key!("tls", "certificate", Text, |s, v| s.tls.certificate = Some(text(v, FILE)?.into())),
    key!("tls", "key", Text, |s, v| s.tls.key = Some(text(v, FILE)?.into())),
    key!("tls", "authorities", Text, |s, v| s.tls.authorities = Some(text(v, FILE)?.into())),
    key!("tls", "client_authorities", Text, |s, v| s.tls.client_authorities = Some(text(v, FILE)?.into())),
    key!("tls", "require_client", Flag, |s, v| s.tls.require_client = flag(v)?),
    key!("tls", "directory", Text, |s, v| s.tls.directory = Some(text(v, "a directory")?.into())),
    key!("dns", "servers", List, |s, v| s.dns_servers = each(v, name_server)?),
    key!("register", "realm", Text, |s, v| s.realm = realm(text(v, REALM)?)?),
    key!("register", "algorithms", List, |s, v| s.algorithms = each(v, algorithm)?),
    key!("register", "min_expires_seconds", Number, |s, v| s.min_expires_seconds = number(v, 5, 3600)?),
    key!("register", "max_expires_seconds", Number, |s, v| s.max_expires_seconds = number(v, 60, 86_400)?),
    key!("liveness", "call_fall", Number, |s, v| s.call_fall = number(v, 1, 1000)?),
    key!("liveness", "rest_seconds", Number, |s, v| s.rest_seconds = number(v, 1, 3600)?),
    key!("liveness", "flap_limit", Number, |s, v| s.flap_limit = number(v, 1, 1000)?),
    key!("liveness", "flap_hold_seconds", Number, |s, v| s.flap_hold_seconds = number(v, 1, 3600)?),
    key!("calls", "keep", Number, |s, v| s.keep_calls = number(v, 0, 10_000_000)?),
    key!("lease", "deregister_after_seconds", Number, |s, v| s.deregister_after_seconds = number(v, 1, 30 * 86_400)?),
    key!("records", "enabled", Flag, |s, v| s.records.enabled = flag(v)?),
    key!("records", "directory", Text, |s, v| s.records.directory = Some(text(v, "a directory")?.into())),
    key!("records", "rotate_bytes", Number, |s, v| s.records.rotate_bytes = number(v, 64 << 10, 1 << 40)?),
    key!("records", "rotate_seconds", Number, |s, v| s.records.rotate_seconds = number(v, 60, 366 * 86_400)?),
    key!("records", "keep_files", Number, |s, v| s.records.keep_files = number(v, 0, 1_000_000)?),
    key!("records", "keep_bytes", Number, |s, v| s.records.keep_bytes = number(v, 0, 1 << 50)?),
    key!("records", "max_bytes", Number, |s, v| s.records.max_bytes = number(v, 1 << 20, 1 << 50)?),
    key!("records.postgres", "url", Secret, |s, v| s.records.postgres = Some(given(v, POSTGRES, Address::parse)?)),
    key!("records.postgres", "table", Text, |s, v| s.records.postgres_table = table(text(v, TABLE)?)?),
    key!("records.postgres", "authorities", Text, |s, v| s.records.postgres_authorities = Some(text(v, FILE)?.into())),
    key!("records.webhook", "url", Secret, |s, v| s.records.webhook = Some(given(v, WEBHOOK, Url::parse)?)),
    key!("records.webhook", "token", Secret, |s, v| s.records.webhook_token = Some(given(v, TOKEN, Secret::parse)?)),
    key!("records.webhook", "token_file", Text, |s, v| s.records.webhook_token_file = Some(text(v, "a file")?.into())),
    key!("records.webhook", "authorities", Text, |s, v| s.records.webhook_authorities = Some(text(v, FILE)?.into())),
    key!("records.webhook", "batch", Number, |s, v| s.records.webhook_batch = number(v, 1, 1000)?),
    key!("history", "keep", Number, |s, v| s.history_keep = number(v, 1, 100_000)?),
    key!("log", "level", Text, |s, v| s.log_level = level(text(v, LEVEL)?)?),
    key!("log", "format", Text, |s, v| s.log_json = json(text(v, FORMAT)?)?),
];

const ALGORITHMS: &str = "a list of \"SHA-256\" and \"MD5\"";
const REALM: &str = "1 to 128 characters without quotes and backslashes";
const FILE: &str = "a PEM file";
const POSTGRES: &str = "an address such as \"postgres://user:password@db.example.net/calls\"";
const TABLE: &str = "a table such as \"call_records\" or \"billing.call_records\", in lower case";
const WEBHOOK: &str = "an address such as \"https://example.net/calls\", without user and password";
const TOKEN: &str = "a token of visible ASCII characters";
const NAME_SERVER: &str = "a list of name servers such as \"192.0.2.53\" or \"192.0.2.53:5353\"";
const ADDRESS: &str = "an address such as \"127.0.0.1:8080\"";
const SIP_ADDRESS: &str =
    "a list of addresses such as \"udp:127.0.0.1:5060\", \"tcp:127.0.0.1:5060\", \"tls:127.0.0.1:5061\"";
const NETWORK: &str = "a list of networks such as \"192.0.2.0/24\"";
const HOST: &str = "host[:port] such as \"sip.example.net:5060\"";
const LEVEL: &str = "error, warn, info, debug, trace or a filter such as \"info,proxy=debug\"";
const FORMAT: &str = "\"text\" or \"json\"";

fn text<'a>(value: &'a Value, expected: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| expected.to_owned())
}

fn given<T>(value: &Value, expected: &str, parse: fn(&str) -> Option<T>) -> Result<T, String> {
    value.as_str().and_then(parse).ok_or_else(|| expected.to_owned())
}

fn table(text: &str) -> Result<String, String> {
    records::is_table(text).then(|| text.to_owned()).ok_or_else(|| TABLE.to_owned())
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

fn number(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("a whole number, {least} to {most}"))
}

fn number_or_0(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    let number = number(value, 0, most).ok().filter(|number| *number == 0 || *number >= least);
    number.ok_or_else(|| format!("a whole number, {least} to {most}, or 0"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| ADDRESS.to_owned())
}

/// `udp:ADDR`, `tcp:ADDR` or `tls:ADDR`, as `--sip` has it.
pub fn sip_address(text: &str) -> Result<Listen, String> {
    let parsed = text.split_once(':').and_then(|(transport, address)| {
        Some(Listen { transport: Transport::parse(transport)?, address: address.parse().ok()? })
    });
    parsed.ok_or_else(|| SIP_ADDRESS.to_owned())
}

fn realm(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len()) && !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'));
    fits.then(|| text.to_owned()).ok_or_else(|| REALM.to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = [Algorithm::Sha256, Algorithm::Md5].into_iter().find(|known| known.name() == text);
    known.ok_or_else(|| ALGORITHMS.to_owned())
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = || Some(SocketAddr::new(text.parse().ok()?, 53));
    text.parse().ok().or_else(with_port).ok_or_else(|| NAME_SERVER.to_owned())
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address)));
    network.ok_or_else(|| NETWORK.to_owned())
}

fn each<T>(value: &Value, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let expected = || parse("").err().unwrap_or_default();
    let entries = value.as_array().ok_or_else(expected)?;
    entries.iter().map(|entry| parse(entry.as_str().ok_or_else(expected)?)).collect()
}

fn advertised(text: &str) -> Result<String, String> {
    let uri = format!("sip:{text}");
    let ok = sip::Uri::parse(uri.as_bytes())
        .is_ok_and(|uri| uri.user.is_none() && uri.params.0.is_empty() && uri.headers.is_none());
    ok.then(|| text.to_owned()).ok_or_else(|| HOST.to_owned())
}

fn level(text: &str) -> Result<String, String> {
    let filter: Result<tracing_subscriber::EnvFilter, _> = text.parse();
    let named = !text.is_empty() && !text.contains(char::is_whitespace);
    let plain = ["error", "warn", "info", "debug", "trace", "off"].contains(&text);
    let ok = filter.is_ok() && named && (plain || text.contains([',', '=']));
    ok.then(|| text.to_owned()).ok_or_else(|| LEVEL.to_owned())
}

fn json(text: &str) -> Result<bool, String> {
    match text {
        "json" => Ok(true),
        "text" => Ok(false),
        _ => Err(FORMAT.to_owned()),
    }
}

/// The default of `sip.allow`.
pub fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok()).collect()
}
