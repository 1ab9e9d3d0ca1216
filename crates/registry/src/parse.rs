//! From a body to a record: every member is checked, none is dropped.

use std::sync::Arc;

use ipnet::IpNet;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sip::Transport;

use crate::command::Violation;
use crate::members::Members;
use crate::trunk::{HEARTBEAT_SECONDS, Probe, Trunk, WEIGHT};

/// The server's members: a client may send back what it read, and is not heeded.
const OF_THE_SERVER: [&str; 7] =
    ["id", "status", "status_reasons", "admin", "registered_at", "lease_expires_at", "active_calls"];

/// The registrant's members.
const KNOWN: [&str; 12] = [
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
];

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
pub(crate) fn trunk(id: &Arc<str>, members: &Members) -> Result<Trunk, Violation> {
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
            "enabled" => trunk.enabled = given.map_or(Ok(true), enabled)?,
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
            "reroute_on" => {
                trunk.reroute_on = given.map(|v| codes(name, v, 300)).transpose()?.map(Vec::into_boxed_slice)
            }
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

fn enabled(value: &Value) -> Result<bool, Violation> {
    value.as_bool().ok_or_else(|| Violation::member("enabled", "enabled must be true or false"))
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

fn probe(value: &Value) -> Result<Probe, Violation> {
    let Value::Object(members) = value else {
        return Err(Violation::member("probe", "probe must be an object"));
    };
    let known = ["interval_seconds", "fall", "rise", "ok_codes"];
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Violation::member(
            "probe",
            &format!("probe.{unknown} is unknown; expected one of {}", known.join(", ")),
        ));
    }
    let number = |name: &str, default: u32, most: u32| member_of(members, name, default, most);
    let ok_codes = members.get("ok_codes").filter(|value| !value.is_null());
    Ok(Probe {
        interval_seconds: number("interval_seconds", 30, 3600)?,
        fall: number("fall", 3, 100)?,
        rise: number("rise", 2, 100)?,
        ok_codes: ok_codes.map(|codes_| codes("probe.ok_codes", codes_, 200)).transpose()?,
    })
}

fn member_of(members: &Map<String, Value>, name: &str, default: u32, most: u32) -> Result<u32, Violation> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => integer(&format!("probe.{name}"), value, 1, most),
    }
}
