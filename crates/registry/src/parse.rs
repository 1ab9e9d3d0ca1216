//! From a body to a record: every member is checked, none is dropped.

use std::sync::Arc;

use ipnet::IpNet;
use registrar::Ha1;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sip::Transport;

use crate::command::Violation;
use crate::members::Members;
use crate::routes::check::{Check, Fault};
use crate::routes::parse::{is_group_name, labels};
use crate::trunk::{HEARTBEAT_SECONDS, Probe, Q850, Register, Reroute, Tls, Trunk, WEIGHT};

/// The server's members: a client may send back what it read, and is not heeded.
const OF_THE_SERVER: [&str; 10] = [
    "id",
    "status",
    "status_reasons",
    "admin",
    "registered_at",
    "lease_expires_at",
    "last_heartbeat_at",
    "active_calls",
    "registration",
    "targets",
];

/// The registrant's members.
const KNOWN: [&str; 17] = [
    "sip_uri",
    "transport",
    "enabled",
    "heartbeat_seconds",
    "max_channels",
    "max_cps",
    "group",
    "priority",
    "weight",
    "sources",
    "probe",
    "reroute_on",
    "trusted",
    "large_over_tcp",
    "tls",
    "register",
    "labels",
];

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// From a registrant, who may leave out a password that is known.
    Client { known: Option<&'a Register>, realm: &'a str },
    /// From a document: whether a password that is left out is known is seen later.
    Document { realm: &'a str },
    /// From the store.
    Store,
}

/// Longest `sip_uri`, in bytes.
const LONGEST_URI: usize = 1024;
/// Most entries of a list member.
const LONGEST_LIST: usize = 256;
const TOO_MANY: &str = "trunk record must have at most 256 members";

/// Reads a JSON object; no bytes at all count as `{}`.
pub(crate) fn object(body: &[u8]) -> Result<Members, Violation> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Members::default());
    }
    let malformed = |_| Violation::bad("malformed trunk record (invalid JSON)");
    let raw: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    if !raw.get().starts_with('{') {
        return Err(Violation::bad("trunk record must be a JSON object"));
    }
    // It is valid JSON and an object, so what is wrong with its data can only be their number.
    serde_json::from_str(raw.get())
        .map_err(|error| if error.is_data() { Violation::bad(TOO_MANY) } else { malformed(error) })
}

/// Checks a registrant's members and makes the record of them. `pointer` is where they stand in their document.
///
/// # Errors
/// Every fault.
pub(crate) fn trunk(id: &Arc<str>, members: &Members, origin: Origin<'_>, pointer: &str) -> Result<Trunk, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut check = Check::at(pointer, &mut faults);
    if members.len() > Members::MOST {
        check.say(TOO_MANY);
        return Err(faults);
    }
    let mut read = Reading { trunk: Trunk::usual(id.clone()), transport: None, origin };
    let mut uri_given = false;
    for (name, raw) in members.iter() {
        if OF_THE_SERVER.contains(&name) {
            continue;
        }
        if !KNOWN.contains(&name) {
            read.trunk.extra.set(name.into(), raw.to_owned());
            continue;
        }
        let mut check = check.below(name);
        let Ok(value) = serde_json::from_str::<Value>(raw.get()) else {
            check.fault("is nested too deeply or out of range");
            continue;
        };
        // Null says the same as nothing, so what was read may be sent back.
        if !value.is_null() {
            uri_given |= name == "sip_uri";
            read.member(name, &mut check, &value);
        }
    }
    if !uri_given {
        check.below("sip_uri").fault("is required");
    }
    let mut trunk = read.trunk;
    trunk.transport_given = read.transport.is_some();
    if !trunk.sip_uri.is_empty() {
        trunk.transport = agree(&mut check, &trunk.sip_uri, read.transport).unwrap_or_default();
    }
    if faults.is_empty() { Ok(trunk) } else { Err(faults) }
}

/// A record that is being read.
struct Reading<'a> {
    trunk: Trunk,
    transport: Option<Transport>,
    origin: Origin<'a>,
}

impl Reading<'_> {
    /// Takes a member over; what is faulty keeps its default.
    fn member(&mut self, name: &str, check: &mut Check<'_>, value: &Value) {
        let trunk = &mut self.trunk;
        match name {
            "sip_uri" => trunk.sip_uri = sip_uri(check, value).unwrap_or_default(),
            "transport" => self.transport = transport(check, value),
            "enabled" => trunk.enabled = check.flag(value).unwrap_or(true),
            "heartbeat_seconds" => {
                trunk.heartbeat_seconds = heartbeat_seconds(check, value).unwrap_or(HEARTBEAT_SECONDS);
            }
            "max_channels" => trunk.max_channels = check.integer(value, 0, u32::MAX),
            "max_cps" => trunk.max_cps = max_cps(check, value),
            "group" => trunk.group = group(check, value),
            "priority" => trunk.priority = check.integer(value, 0, u32::MAX).unwrap_or(0),
            "weight" => trunk.weight = check.integer(value, 1, 10_000).unwrap_or(WEIGHT),
            "sources" => trunk.sources = sources(check, value),
            "probe" => trunk.probe = probe(check, value).map(Box::new),
            "reroute_on" => trunk.reroute_on = Some(Box::new(reroute(check, value))),
            "trusted" => trunk.trusted = check.flag(value).unwrap_or(false),
            "large_over_tcp" => trunk.large_over_tcp = check.flag(value).unwrap_or(false),
            "tls" => trunk.tls = tls(check, value).map(Box::new),
            "register" => trunk.register = register(check, value, self.origin).map(Box::new),
            "labels" => match self.origin {
                Origin::Client { .. } | Origin::Document { .. } => {
                    trunk.labels = labels(check, value).unwrap_or_default()
                }
                // Before labels were known, any member of that name was kept.
                Origin::Store => trunk.labels = labels(&mut Check::at("", &mut Vec::new()), value).unwrap_or_default(),
            },
            // Known, but of no name above: impossible, as the test over the names shows.
            _ => {}
        }
    }
}

fn sip_uri(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    let Some(uri) = value.as_str() else {
        check.fault("must be a string");
        return None;
    };
    if uri.trim().is_empty() {
        check.fault("is required");
        return None;
    }
    let why = match sip::Uri::parse(uri.as_bytes()) {
        _ if uri.len() > LONGEST_URI => "expected at most 1024 bytes".to_owned(),
        Err(error) => error.to_string(),
        Ok(parsed) if !matches!(parsed.scheme, sip::Scheme::Sip | sip::Scheme::Sips) => {
            "expected the scheme sip or sips".to_owned()
        }
        Ok(parsed) if parsed.headers.is_some() => "expected no headers after a question mark".to_owned(),
        Ok(_) => return Some(uri.into()),
    };
    check.fault(&format!("must be a sip: or sips: URI: {why}"));
    None
}

fn is_sip_uri(text: &str) -> bool {
    text.len() <= LONGEST_URI
        && sip::Uri::parse(text.as_bytes())
            .is_ok_and(|uri| matches!(uri.scheme, sip::Scheme::Sip | sip::Scheme::Sips) && uri.headers.is_none())
}

fn transport(check: &mut Check<'_>, value: &Value) -> Option<Transport> {
    let found = value.as_str().and_then(Transport::parse);
    if found.is_none() {
        check.fault("must be one of ['tcp', 'tls', 'udp']");
    }
    found
}

/// The transport that `transport`, the scheme and the URI's own parameter agree on.
fn agree(check: &mut Check<'_>, uri: &str, given: Option<Transport>) -> Option<Transport> {
    let Ok(parsed) = sip::Uri::parse(uri.as_bytes()) else {
        return given;
    };
    let named = match parsed.params.get(b"transport").flatten() {
        None => None,
        Some(named) => {
            let lower = String::from_utf8_lossy(named).to_ascii_lowercase();
            let named = Transport::parse(&lower);
            if named.is_none() {
                check.below("sip_uri").fault("must name the transport tcp, tls or udp, or none");
                return None;
            }
            named
        }
    };
    let secure = parsed.scheme == sip::Scheme::Sips;
    let implied = match named {
        // sips: over tcp is TLS (RFC 3261 §26.2.2).
        Some(Transport::Tcp | Transport::Tls) if secure => Some(Transport::Tls),
        None if secure => Some(Transport::Tls),
        named => named,
    };
    if secure && implied == Some(Transport::Udp) {
        check.below("sip_uri").fault("asks for sips: over udp, which does not exist");
        return None;
    }
    if let (Some(given), Some(implied)) = (given, implied)
        && given != implied
    {
        let conflict = format!("'{given}' conflicts with sip_uri, which asks for '{implied}'");
        check.below("transport").fault(&conflict);
    }
    given.or(implied)
}

fn heartbeat_seconds(check: &mut Check<'_>, value: &Value) -> Option<u32> {
    let fits = value.as_u64().filter(|seconds| *seconds == 0 || (5..=3600).contains(seconds)).map(|n| n as u32);
    if fits.is_none() {
        check.fault("must be an integer, 5 to 3600, or 0 for no lease");
    }
    fits
}

fn max_cps(check: &mut Check<'_>, value: &Value) -> Option<f64> {
    let fits = value.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0);
    if fits.is_none() {
        check.fault("must be a number above 0");
    }
    fits
}

fn group(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    match value.as_str() {
        None => check.fault("must be a string"),
        Some(name) if !is_group_name(name) => check.fault("must have 1 to 128 bytes without control characters"),
        Some(name) => return (name != crate::trunk::GROUP).then(|| name.into()),
    }
    None
}

/// The entries of a list that are as they should be; `of` names them, `read` takes one.
fn entries<T>(
    check: &mut Check<'_>,
    value: &Value,
    (named, of): (&str, &str),
    mut read: impl FnMut(&Value) -> Option<T>,
) -> Vec<T> {
    let Some(list) = value.as_array().filter(|list| list.len() <= LONGEST_LIST) else {
        check.fault(&format!("must be a list of at most {LONGEST_LIST} {named}"));
        return Vec::new();
    };
    let name = check.name();
    let mut found = Vec::with_capacity(list.len());
    for (at, entry) in list.iter().enumerate() {
        match read(entry) {
            Some(entry) => found.push(entry),
            None => check.below(&at.to_string()).say(&format!("{name} must hold {of}, not {entry}")),
        }
    }
    found
}

fn sources(check: &mut Check<'_>, value: &Value) -> Box<[IpNet]> {
    let network = |entry: &Value| {
        let text = entry.as_str()?;
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
    };
    entries(check, value, ("networks", "networks such as \"192.0.2.0/24\""), network).into()
}

fn codes(check: &mut Check<'_>, value: &Value, least: u32) -> Vec<u16> {
    let of = format!("status codes, {least} to 699");
    entries(check, value, (&of, &of), |entry| code(entry, u64::from(least)))
}

fn code(value: &Value, least: u64) -> Option<u16> {
    value.as_u64().filter(|code| (least..700).contains(code)).map(|code| code as u16)
}

fn reroute(check: &mut Check<'_>, value: &Value) -> Reroute {
    let of = "status codes, 300 to 699, or Q.850 causes such as \"Q.850:34\"";
    let mut reroute = Reroute::default();
    entries(check, value, (of, of), |entry| {
        let cause = entry.as_str().and_then(|text| text.strip_prefix(Q850)?.parse::<u8>().ok());
        match (code(entry, 300), cause.filter(|cause| (1..=127).contains(cause))) {
            (Some(code), _) => reroute.codes.push(code),
            (None, Some(cause)) => reroute.causes.push(cause),
            (None, None) => return None,
        }
        Some(())
    });
    reroute
}

/// A string that must fit.
fn fitting(check: &mut Check<'_>, value: &Value, fits: impl Fn(&str) -> bool, expected: &str) -> Option<Box<str>> {
    let text = value.as_str().filter(|text| fits(text));
    if text.is_none() {
        check.fault(&format!("must be {expected}"));
    }
    text.map(Into::into)
}

fn tls(check: &mut Check<'_>, value: &Value) -> Option<Tls> {
    let members = check.object(value, &["verify_name", "authority", "certificate"])?;
    let is_host = |text: &str| {
        let uri = format!("sip:{text}");
        let parsed = sip::Uri::parse(uri.as_bytes());
        parsed.is_ok_and(|uri| uri.user.is_none() && uri.port.is_none() && uri.params.0.is_empty())
    };
    let is_name = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = "1 to 64 of A-Z a-z 0-9 - _: the name of a file in the server's TLS directory";
    Some(Tls {
        verify_name: check.member(members, "verify_name", |check, value| {
            fitting(check, value, is_host, "a host name or an IP address")
        }),
        authority: check.member(members, "authority", |check, value| fitting(check, value, is_name, name)),
        certificate: check.member(members, "certificate", |check, value| fitting(check, value, is_name, name)),
    })
}

fn register(check: &mut Check<'_>, value: &Value, origin: Origin<'_>) -> Option<Register> {
    match origin {
        Origin::Client { realm, .. } | Origin::Document { realm } => {
            let members = check.object(value, &["username", "password"])?;
            let is_plain = |text: &str| {
                (1..=128).contains(&text.len()) && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
            };
            let expected = "1 to 128 bytes without control characters, quotes and backslashes";
            let username = required(check, members, "username", is_plain, expected)?;
            // The password itself is never part of a message.
            let is_password = |text: &str| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control);
            let known = match origin {
                Origin::Client { known, .. } => known.filter(|known| known.username == username),
                _ => None,
            };
            let ha1 = match (members.get("password"), known, origin) {
                (None | Some(Value::Null), Some(known), _) => known.ha1.clone(),
                (None | Some(Value::Null), None, Origin::Document { .. }) => Ha1::new(&username, realm, ""),
                _ => {
                    let expected = "1 to 256 bytes without control characters";
                    Ha1::new(&username, realm, &required(check, members, "password", is_password, expected)?)
                }
            };
            Some(Register { username, ha1 })
        }
        Origin::Store => {
            let members = check.object(value, &["username", "ha1"])?;
            let username = required(check, members, "username", |_| true, "a string")?;
            let ha1 = required(check, members, "ha1", |text| Ha1::from_text(text).is_some(), "a digest")?;
            Some(Register { username, ha1: Ha1::from_text(&ha1)? })
        }
    }
}

/// A string of an object that must be there, and fit.
fn required(
    check: &mut Check<'_>,
    members: &Map<String, Value>,
    name: &str,
    fits: impl Fn(&str) -> bool,
    expected: &str,
) -> Option<Box<str>> {
    let mut check = check.below(name);
    match members.get(name).filter(|value| !value.is_null()) {
        Some(value) => fitting(&mut check, value, fits, expected),
        None => {
            check.fault("is required");
            None
        }
    }
}

fn probe(check: &mut Check<'_>, value: &Value) -> Option<Probe> {
    let members = check.object(value, &["interval_seconds", "fall", "rise", "ok_codes", "from", "host"])?;
    let mut number = |name: &str, default: u32, most: u32| {
        check.member(members, name, |check, value| check.integer(value, 1, most)).unwrap_or(default)
    };
    let (interval_seconds, fall, rise) =
        (number("interval_seconds", 30, 3600), number("fall", 3, 100), number("rise", 2, 100));
    let is_host = |text: &str| is_sip_uri(&format!("sip:{text}"));
    Some(Probe {
        interval_seconds,
        fall,
        rise,
        ok_codes: check.member(members, "ok_codes", |check, value| Some(codes(check, value, 200))),
        from: check.member(members, "from", |check, v| fitting(check, v, is_sip_uri, "a sip: or sips: URI")),
        host: check.member(members, "host", |check, v| fitting(check, v, is_host, "host[:port]")),
    })
}
