//! From a body to a record: every member is checked, none is dropped.

use std::sync::Arc;

use ipnet::IpNet;
use registrar::Ha1;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sip::Transport;

use crate::command::Violation;
use crate::members::Members;
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
const KNOWN: [&str; 16] = [
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
];

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// From a registrant, who may leave out a password that is known.
    Client { known: Option<&'a Register>, realm: &'a str },
    /// From the store.
    Store,
}

/// Longest `sip_uri`, in bytes.
const LONGEST_URI: usize = 1024;
/// Most entries of a list member.
const LONGEST_LIST: usize = 256;
const TRANSPORTS: &str = "transport must be one of ['tcp', 'tls', 'udp']";

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
    serde_json::from_str(raw.get()).map_err(|error| if error.is_data() { too_many() } else { malformed(error) })
}

fn too_many() -> Violation {
    Violation::bad(&format!("trunk record must have at most {} members", Members::MOST))
}

/// Checks a registrant's members and makes the record of them.
pub(crate) fn trunk(id: &Arc<str>, members: &Members, origin: Origin<'_>) -> Result<Trunk, Violation> {
    let mut trunk = Trunk {
        id: id.clone(),
        sip_uri: Box::default(),
        transport: Transport::default(),
        transport_given: false,
        enabled: true,
        heartbeat_seconds: HEARTBEAT_SECONDS,
        max_channels: None,
        max_cps: None,
        group: None,
        priority: 0,
        weight: WEIGHT,
        sources: Box::default(),
        probe: None,
        reroute_on: None,
        trusted: false,
        large_over_tcp: false,
        tls: None,
        register: None,
        extra: Members::default(),
    };
    if members.len() > Members::MOST {
        return Err(too_many());
    }
    let mut transport = None;
    for (name, raw) in members.iter() {
        if OF_THE_SERVER.contains(&name) {
            continue;
        }
        if !KNOWN.contains(&name) {
            trunk.extra.set(name.into(), raw.to_owned());
            continue;
        }
        let value: Value = serde_json::from_str(raw.get())
            .map_err(|_| Violation::member(name, &format!("{name} is nested too deeply or out of range")))?;
        // Null says the same as nothing, so what was read may be sent back.
        let given = (!value.is_null()).then_some(&value);
        match name {
            "sip_uri" => trunk.sip_uri = given.map_or(Ok(Box::default()), sip_uri)?,
            "transport" => transport = given.map(transport_named).transpose()?,
            "enabled" => trunk.enabled = given.map_or(Ok(true), |v| flag(name, v))?,
            "heartbeat_seconds" => {
                trunk.heartbeat_seconds = given.map_or(Ok(HEARTBEAT_SECONDS), heartbeat_seconds)?;
            }
            "max_channels" => trunk.max_channels = given.map(|v| integer(name, v, 0, u32::MAX)).transpose()?,
            "max_cps" => trunk.max_cps = given.map(max_cps).transpose()?,
            "group" => trunk.group = given.map(group).transpose()?.flatten(),
            "priority" => trunk.priority = given.map_or(Ok(0), |v| integer(name, v, 0, u32::MAX))?,
            "weight" => trunk.weight = given.map_or(Ok(WEIGHT), |v| integer(name, v, 1, 10_000))?,
            "sources" => trunk.sources = given.map_or(Ok(Box::default()), sources)?,
            "probe" => trunk.probe = given.map(probe).transpose()?.map(Box::new),
            "reroute_on" => trunk.reroute_on = given.map(reroute).transpose()?.map(Box::new),
            "trusted" => trunk.trusted = given.map_or(Ok(false), |v| flag(name, v))?,
            "large_over_tcp" => trunk.large_over_tcp = given.map_or(Ok(false), |v| flag(name, v))?,
            "tls" => trunk.tls = given.map(tls).transpose()?.map(Box::new),
            "register" => trunk.register = given.map(|v| register(v, origin)).transpose()?.map(Box::new),
            // Known, but of no name above: impossible, as the test over the names shows.
            _ => {}
        }
    }
    if trunk.sip_uri.is_empty() {
        return Err(Violation::member("sip_uri", "sip_uri is required"));
    }
    trunk.transport_given = transport.is_some();
    trunk.transport = agree(&trunk.sip_uri, transport)?;
    Ok(trunk)
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, Violation> {
    value.as_str().ok_or_else(|| Violation::member(name, &format!("{name} must be a string")))
}

fn sip_uri(value: &Value) -> Result<Box<str>, Violation> {
    let uri = text("sip_uri", value)?;
    if uri.trim().is_empty() {
        return Err(Violation::member("sip_uri", "sip_uri is required"));
    }
    let bad = |why: &str| Violation::member("sip_uri", &format!("sip_uri must be a sip: or sips: URI: {why}"));
    if uri.len() > LONGEST_URI {
        return Err(bad("expected at most 1024 bytes"));
    }
    let parsed = sip::Uri::parse(uri.as_bytes()).map_err(|error| bad(&error.to_string()))?;
    if !matches!(parsed.scheme, sip::Scheme::Sip | sip::Scheme::Sips) {
        return Err(bad("expected the scheme sip or sips"));
    }
    if parsed.headers.is_some() {
        return Err(bad("expected no headers after a question mark"));
    }
    Ok(uri.into())
}

fn is_sip_uri(text: &str) -> bool {
    text.len() <= LONGEST_URI
        && sip::Uri::parse(text.as_bytes())
            .is_ok_and(|uri| matches!(uri.scheme, sip::Scheme::Sip | sip::Scheme::Sips) && uri.headers.is_none())
}

fn transport_named(value: &Value) -> Result<Transport, Violation> {
    value.as_str().and_then(Transport::parse).ok_or_else(|| Violation::member("transport", TRANSPORTS))
}

/// The transport that `transport`, the scheme and the URI's own parameter agree on.
fn agree(uri: &str, given: Option<Transport>) -> Result<Transport, Violation> {
    let Ok(parsed) = sip::Uri::parse(uri.as_bytes()) else {
        return Ok(given.unwrap_or_default());
    };
    let named = match parsed.params.get(b"transport").flatten() {
        None => None,
        Some(named) => {
            let lower = String::from_utf8_lossy(named).to_ascii_lowercase();
            Some(Transport::parse(&lower).ok_or_else(|| {
                Violation::member("sip_uri", "sip_uri must name the transport tcp, tls or udp, or none")
            })?)
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
        return Err(Violation::member("sip_uri", "sip_uri asks for sips: over udp, which does not exist"));
    }
    match (given, implied) {
        (Some(given), Some(implied)) if given != implied => Err(Violation::member(
            "transport",
            &format!("transport '{given}' conflicts with sip_uri, which asks for '{implied}'"),
        )),
        (given, implied) => Ok(given.or(implied).unwrap_or_default()),
    }
}

fn flag(name: &str, value: &Value) -> Result<bool, Violation> {
    value.as_bool().ok_or_else(|| Violation::member(name, &format!("{name} must be true or false")))
}

fn integer(name: &str, value: &Value, least: u32, most: u32) -> Result<u32, Violation> {
    let fits = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (least..=most).contains(n));
    fits.ok_or_else(|| {
        let range = if most == u32::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
        Violation::member(name, &format!("{name} must be an integer, {range}"))
    })
}

fn heartbeat_seconds(value: &Value) -> Result<u32, Violation> {
    let expected =
        || Violation::member("heartbeat_seconds", "heartbeat_seconds must be an integer, 5 to 3600, or 0 for no lease");
    match integer("heartbeat_seconds", value, 0, 3600) {
        Ok(seconds) if seconds == 0 || seconds >= 5 => Ok(seconds),
        _ => Err(expected()),
    }
}

fn max_cps(value: &Value) -> Result<f64, Violation> {
    let fits = value.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0);
    fits.ok_or_else(|| Violation::member("max_cps", "max_cps must be a number above 0"))
}

fn group(value: &Value) -> Result<Option<Box<str>>, Violation> {
    let group = text("group", value)?;
    if group.is_empty() || group.len() > 128 || group.chars().any(char::is_control) {
        return Err(Violation::member("group", "group must have 1 to 128 bytes without control characters"));
    }
    Ok((group != crate::trunk::GROUP).then(|| group.into()))
}

fn list<'a>(name: &str, value: &'a Value, of: &str) -> Result<&'a [Value], Violation> {
    let entries = value.as_array().filter(|entries| entries.len() <= LONGEST_LIST);
    let expected = || Violation::member(name, &format!("{name} must be a list of at most {LONGEST_LIST} {of}"));
    entries.map(Vec::as_slice).ok_or_else(expected)
}

fn sources(value: &Value) -> Result<Box<[IpNet]>, Violation> {
    let network = |entry: &Value| {
        let text = entry.as_str()?;
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
    };
    list("sources", value, "networks")?
        .iter()
        .map(|entry| {
            network(entry).ok_or_else(|| {
                Violation::member(
                    "sources",
                    &format!("sources must hold networks such as \"192.0.2.0/24\", not {entry}"),
                )
            })
        })
        .collect()
}

fn codes(name: &str, value: &Value, least: u32) -> Result<Vec<u16>, Violation> {
    let of = format!("status codes, {least} to 699");
    list(name, value, &of)?
        .iter()
        .map(|entry| {
            let code = entry.as_u64().filter(|code| (u64::from(least)..700).contains(code)).map(|code| code as u16);
            code.ok_or_else(|| Violation::member(name, &format!("{name} must hold {of}, not {entry}")))
        })
        .collect()
}

/// An object whose members are all known.
fn inner<'a>(name: &str, value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, Violation> {
    let Value::Object(members) = value else {
        return Err(Violation::member(name, &format!("{name} must be an object")));
    };
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        let expected = known.join(", ");
        return Err(Violation::member(name, &format!("{name}.{unknown} is unknown; expected one of {expected}")));
    }
    Ok(members)
}

/// A string of an object that must fit, if it is there.
fn inner_text(
    name: &str,
    members: &Map<String, Value>,
    fits: impl Fn(&str) -> bool,
    expected: &str,
) -> Result<Option<Box<str>>, Violation> {
    let (_, last) = name.split_once('.').unwrap_or(("", name));
    match members.get(last).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => {
            let text = value.as_str().filter(|text| fits(text));
            text.map(|text| Some(text.into()))
                .ok_or_else(|| Violation::member(name, &format!("{name} must be {expected}")))
        }
    }
}

fn reroute(value: &Value) -> Result<Reroute, Violation> {
    let of = "status codes, 300 to 699, or Q.850 causes such as \"Q.850:34\"";
    let mut reroute = Reroute::default();
    for entry in list("reroute_on", value, of)? {
        let code = entry.as_u64().filter(|code| (300..700).contains(code)).map(|code| code as u16);
        let cause = entry.as_str().and_then(|text| text.strip_prefix(Q850)?.parse::<u8>().ok());
        match (code, cause.filter(|cause| (1..=127).contains(cause))) {
            (Some(code), _) => reroute.codes.push(code),
            (None, Some(cause)) => reroute.causes.push(cause),
            (None, None) => {
                let message = format!("reroute_on must hold {of}, not {entry}");
                return Err(Violation::member("reroute_on", &message));
            }
        }
    }
    Ok(reroute)
}

fn tls(value: &Value) -> Result<Tls, Violation> {
    let members = inner("tls", value, &["verify_name", "authority", "certificate"])?;
    let is_host = |text: &str| {
        let uri = format!("sip:{text}");
        let parsed = sip::Uri::parse(uri.as_bytes());
        parsed.is_ok_and(|uri| uri.user.is_none() && uri.port.is_none() && uri.params.0.is_empty())
    };
    let is_name = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = "1 to 64 of A-Z a-z 0-9 - _: the name of a file in the server's TLS directory";
    Ok(Tls {
        verify_name: inner_text("tls.verify_name", members, is_host, "a host name or an IP address")?,
        authority: inner_text("tls.authority", members, is_name, name)?,
        certificate: inner_text("tls.certificate", members, is_name, name)?,
    })
}

fn register(value: &Value, origin: Origin<'_>) -> Result<Register, Violation> {
    let is_plain = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
    };
    let expected = "1 to 128 bytes without control characters, quotes and backslashes";
    let missing = |name: &str| Violation::member(name, &format!("{name} is required"));
    match origin {
        Origin::Client { known, realm } => {
            let members = inner("register", value, &["username", "password"])?;
            let username = inner_text("register.username", members, |text| is_plain(text, 128), expected)?
                .ok_or_else(|| missing("register.username"))?;
            // The password itself is never part of a message.
            let bytes = |text: &str| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control);
            let of = "1 to 256 bytes without control characters";
            let ha1 = match inner_text("register.password", members, bytes, of)? {
                Some(password) => Ha1::new(&username, realm, &password),
                None => known
                    .filter(|known| known.username == username)
                    .map(|known| known.ha1.clone())
                    .ok_or_else(|| missing("register.password"))?,
            };
            Ok(Register { username, ha1 })
        }
        Origin::Store => {
            let members = inner("register", value, &["username", "ha1"])?;
            let username =
                members.get("username").and_then(Value::as_str).ok_or_else(|| missing("register.username"))?;
            let ha1 = members.get("ha1").and_then(Value::as_str).and_then(Ha1::from_text);
            Ok(Register { username: username.into(), ha1: ha1.ok_or_else(|| missing("register.ha1"))? })
        }
    }
}

fn probe(value: &Value) -> Result<Probe, Violation> {
    let members = inner("probe", value, &["interval_seconds", "fall", "rise", "ok_codes", "from", "host"])?;
    let number = |name: &str, default: u32, most: u32| member_of(members, name, default, most);
    let ok_codes = members.get("ok_codes").filter(|value| !value.is_null());
    Ok(Probe {
        interval_seconds: number("interval_seconds", 30, 3600)?,
        fall: number("fall", 3, 100)?,
        rise: number("rise", 2, 100)?,
        ok_codes: ok_codes.map(|codes_| codes("probe.ok_codes", codes_, 200)).transpose()?,
        from: inner_text("probe.from", members, is_sip_uri, "a sip: or sips: URI")?,
        host: inner_text("probe.host", members, |text| is_sip_uri(&format!("sip:{text}")), "host[:port]")?,
    })
}

fn member_of(members: &Map<String, Value>, name: &str, default: u32, most: u32) -> Result<u32, Violation> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => integer(&format!("probe.{name}"), value, 1, most),
    }
}
