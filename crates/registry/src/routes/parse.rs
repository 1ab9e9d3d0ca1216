//! From JSON to routes and groups. Every fault is told, not only the first.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::command::{Violation, validate_id};
use crate::routes::check::{Check, Fault};
use crate::routes::window::{DAY, DAYS};
use crate::routes::{
    Called, Conditions, Group, Guard, HashOn, HeaderCondition, Labels, Policy, Rewrite, Route, RouteTarget, Treatment,
    Window,
};
use crate::trunk::{Q850, Reroute};

/// Members of a route.
const ROUTE: [&str; 12] = [
    "comment",
    "emergency",
    "enabled",
    "headers",
    "id",
    "labels",
    "match",
    "precedence",
    "reroute_on",
    "rewrite",
    "ring_timeout_ms",
    "setup_timeout_ms",
];
const TARGETS: &str = "targets";
const MATCH: [&str; 10] = [
    "called",
    "called_prefix",
    "calling_prefix",
    "domain",
    "headers",
    "source_group",
    "source_trunk",
    "tgrp",
    "time",
    "trunk_context",
];
const GROUP: [&str; 6] = ["comment", "guard", "hash_on", "id", "labels", "policy"];

/// Most numbers of a route, most other entries of a list.
const NUMBERS: usize = 10_000;
const ENTRIES: usize = 256;
/// Longest number, in characters.
const LONGEST_NUMBER: usize = 64;

/// Headers that a route may not touch: they are the dialog's and the transaction's, or say what the body is.
const NOT_OURS: [&str; 30] = [
    "via",
    "v",
    "from",
    "f",
    "to",
    "t",
    "call-id",
    "i",
    "cseq",
    "contact",
    "m",
    "route",
    "record-route",
    "max-forwards",
    "max-breadth",
    "content-length",
    "l",
    "content-type",
    "c",
    "content-encoding",
    "e",
    "require",
    "k",
    "supported",
    "proxy-require",
    "rseq",
    "rack",
    "session-expires",
    "x",
    "min-se",
];

/// Reads a route. `pointer` is where it stands in its document.
///
/// # Errors
/// Every fault.
pub(crate) fn route(id: &Arc<str>, value: &Value, pointer: &str) -> Result<Route, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut check = Check::at(pointer, &mut faults);
    let known: Vec<&str> = ROUTE.into_iter().chain([TARGETS]).collect();
    let nothing = Map::new();
    let members = check.object(value, &known).unwrap_or(&nothing);
    let conditions = check.member(members, "match", conditions).unwrap_or_default();
    let targets = check.member(members, TARGETS, |check, value| Some(check.list(value, ENTRIES, false, target)));
    if targets.as_ref().is_none_or(Vec::is_empty) && value.is_object() {
        check.below(TARGETS).fault("must name at least one group or trunk, as in [{\"group\": \"carriers\"}]");
    }
    let route = Route {
        id: id.clone(),
        enabled: check.member(members, "enabled", |check, v| check.flag(v)).unwrap_or(true),
        emergency: check.member(members, "emergency", |check, v| check.flag(v)).unwrap_or(false),
        precedence: check.member(members, "precedence", |check, v| check.integer(v, 0, u32::MAX)).unwrap_or(0),
        called: conditions.0.into(),
        conditions: (conditions.1 != Conditions::default()).then(|| Box::new(conditions.1)),
        targets: targets.unwrap_or_default().into(),
        treatment: treatment(&mut check, members),
        comment: check.member(members, "comment", comment),
        labels: check.member(members, "labels", labels).unwrap_or_default(),
    };
    if faults.is_empty() { Ok(route) } else { Err(faults) }
}

/// Reads a group; see [`route`].
pub(crate) fn group(id: &Arc<str>, value: &Value, pointer: &str) -> Result<Group, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut check = Check::at(pointer, &mut faults);
    let nothing = Map::new();
    let members = check.object(value, &GROUP).unwrap_or(&nothing);
    let group = Group {
        id: id.clone(),
        policy: check.member(members, "policy", policy).unwrap_or_default(),
        hash_on: check.member(members, "hash_on", hash_on).unwrap_or_default(),
        guard: check.member(members, "guard", guard),
        comment: check.member(members, "comment", comment),
        labels: check.member(members, "labels", labels).unwrap_or_default(),
    };
    if faults.is_empty() { Ok(group) } else { Err(faults) }
}

type Matching = (Vec<Called>, Conditions);

fn conditions(check: &mut Check<'_>, value: &Value) -> Option<Matching> {
    let members = check.object(value, &MATCH)?;
    let numbers = |check: &mut Check<'_>, value: &Value| Some(check.list(value, NUMBERS, true, number));
    let prefixes = check.member(members, "called_prefix", numbers).unwrap_or_default();
    let exact = check.member(members, "called", numbers).unwrap_or_default();
    let called = prefixes.into_iter().map(Called::Prefix).chain(exact.into_iter().map(Called::Exact));
    let conditions = Conditions {
        calling: check.member(members, "calling_prefix", numbers).unwrap_or_default().into(),
        source_trunk: check.member(members, "source_trunk", id),
        source_group: check.member(members, "source_group", group_name),
        domain: check.member(members, "domain", domain),
        time: check.member(members, "time", window),
        headers: check.member(members, "headers", header_conditions).unwrap_or_default().into(),
        tgrp: check.member(members, "tgrp", token),
        trunk_context: check.member(members, "trunk_context", token),
    };
    Some((called.collect(), conditions))
}

fn number(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    let fits = |text: &str| {
        (1..=LONGEST_NUMBER).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
    };
    check.text(value, fits, "a number of 1 to 64 characters, such as \"+4930\"")
}

fn id(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    check.text(value, |text| validate_id(text).is_ok(), "an id: 1 to 128 of A-Z a-z 0-9 - . _ ~ : @ +")
}

/// Checks a group's name: 1 to 128 bytes without control characters.
pub fn validate_group(name: &str) -> Result<(), Violation> {
    if is_group_name(name) {
        return Ok(());
    }
    Err(Violation::member("id", "id must be the name of a group: 1 to 128 bytes without control characters"))
}

/// 1 to 128 bytes without control characters.
pub(crate) fn is_group_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn group_name(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    check.text(value, is_group_name, "the name of a group: 1 to 128 bytes without control characters")
}

fn domain(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    let fits = |text: &str| {
        let uri = format!("sip:{text}");
        sip::Uri::parse(uri.as_bytes()).is_ok_and(|uri| uri.user.is_none() && uri.port.is_none())
    };
    check.text(value, fits, "a host name or an IP address, without port").map(|text| text.to_ascii_lowercase().into())
}

fn token(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    let fits = |text: &str| {
        (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && !b";=@".contains(&byte))
    };
    check.text(value, fits, "1 to 128 characters without spaces, ';', '=' and '@'")
}

fn window(check: &mut Check<'_>, value: &Value) -> Option<Window> {
    let members = check.object(value, &["zone", "days", "from", "to"])?;
    let zone = match check.member(members, "zone", |check, value| Some(zone(check, value))) {
        Some(zone) => zone,
        None => {
            check.below("zone").fault("is required: a time zone such as \"Europe/Berlin\"");
            None
        }
    };
    let all = (1 << DAYS.len()) - 1;
    let days = check.member(members, "days", |check, value| {
        let days = check.list(value, DAYS.len(), true, day).into_iter().fold(0, |days, day| days | day);
        Some(days)
    });
    let from = check.member(members, "from", |check, value| minute(check, value, DAY - 1));
    let to = check.member(members, "to", |check, value| minute(check, value, DAY));
    Some(Window { zone: zone?, days: days.unwrap_or(all), from: from.unwrap_or(0), to: to.unwrap_or(DAY) })
}

fn zone(check: &mut Check<'_>, value: &Value) -> Option<TimeZone> {
    let zone = value.as_str().and_then(|name| TimeZone::get(name).ok());
    if zone.is_none() {
        check.fault("must be a time zone of the IANA database, such as \"Europe/Berlin\"");
    }
    zone
}

fn day(check: &mut Check<'_>, value: &Value) -> Option<u8> {
    let found = DAYS.iter().position(|(name, _)| value.as_str() == Some(name));
    if found.is_none() {
        let names: Vec<&str> = DAYS.iter().map(|(name, _)| *name).collect();
        check.fault(&format!("must be one of {}", names.join(", ")));
    }
    found.map(|at| 1 << at)
}

fn minute(check: &mut Check<'_>, value: &Value, most: u16) -> Option<u16> {
    let read = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let (hour, minute) = (Some(hour).filter(|t| digits(t))?, Some(minute).filter(|t| digits(t))?);
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (minute < 60 && hour * 60 + minute <= most).then_some(hour * 60 + minute)
    };
    let minute = value.as_str().and_then(read);
    if minute.is_none() {
        check.fault("must be a time of day such as \"08:30\"");
    }
    minute
}

fn header_conditions(check: &mut Check<'_>, value: &Value) -> Option<Vec<HeaderCondition>> {
    let named = headers(check, value)?;
    let any = |(name, value): (Box<str>, Box<str>)| HeaderCondition { name, value: (&*value != "*").then_some(value) };
    Some(named.into_iter().map(any).collect())
}

fn headers(check: &mut Check<'_>, value: &Value) -> Option<Vec<(Box<str>, Box<str>)>> {
    let Value::Object(members) = value else {
        check.fault("must be an object of header names and values");
        return None;
    };
    if members.len() > ENTRIES {
        check.fault(&format!("must have at most {ENTRIES} entries"));
        return None;
    }
    let mut found = Vec::new();
    for (name, value) in members {
        let mut check = check.below(name);
        if !is_token(name) {
            check.fault("must be the name of a header");
        }
        let plain = |text: &str| !text.chars().any(char::is_control) && text.trim() == text;
        let Some(value) = check.text(value, plain, "a text without control characters and spaces around it") else {
            continue;
        };
        found.push((name.as_str().into(), value));
    }
    Some(found)
}

/// RFC 3261 §25.1.
fn is_token(text: &str) -> bool {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(of_token)
}

fn target(check: &mut Check<'_>, value: &Value) -> Option<RouteTarget> {
    let members = check.object(value, &["group", "trunk"])?;
    let group = check.member(members, "group", group_name);
    let trunk = check.member(members, "trunk", id);
    match (group, trunk) {
        (Some(group), None) => Some(RouteTarget::Group(group.into())),
        (None, Some(trunk)) => Some(RouteTarget::Trunk(trunk.into())),
        (Some(_), Some(_)) => {
            check.fault("must name a group or a trunk, not both");
            None
        }
        (None, None) => {
            if members.is_empty() {
                check.fault("must name a group or a trunk");
            }
            None
        }
    }
}

fn treatment(check: &mut Check<'_>, members: &Map<String, Value>) -> Option<Box<Treatment>> {
    let (called, calling) = check.member(members, "rewrite", rewrites).unwrap_or_default();
    let (set, remove) = check.member(members, "headers", header_edits).unwrap_or_default();
    let treatment = Treatment {
        called,
        calling,
        set: set.into(),
        remove: remove.into(),
        reroute_on: check.member(members, "reroute_on", reroute),
        setup_timeout_ms: check.member(members, "setup_timeout_ms", |check, v| check.integer(v, 100, 32_000)),
        ring_timeout_ms: check.member(members, "ring_timeout_ms", |check, v| check.integer(v, 1000, 600_000)),
    };
    (treatment != Treatment::default()).then(|| Box::new(treatment))
}

fn rewrites(check: &mut Check<'_>, value: &Value) -> Option<(Rewrite, Rewrite)> {
    let members = check.object(value, &["called", "calling"])?;
    let called = check.member(members, "called", rewrite).unwrap_or_default();
    Some((called, check.member(members, "calling", rewrite).unwrap_or_default()))
}

fn rewrite(check: &mut Check<'_>, value: &Value) -> Option<Rewrite> {
    let members = check.object(value, &["strip", "prepend"])?;
    let fits = |text: &str| {
        let of_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,?/#".contains(&byte);
        text.len() <= LONGEST_NUMBER && text.bytes().all(of_user)
    };
    let expected = "at most 64 characters that may stand in the user part of a SIP URI";
    Some(Rewrite {
        strip: check.member(members, "strip", |check, value| check.integer(value, 0, 255)).unwrap_or(0) as u8,
        prepend: check.member(members, "prepend", |check, v| check.text(v, fits, expected)).unwrap_or_default(),
    })
}

type Edits = (Vec<(Box<str>, Box<str>)>, Vec<Box<str>>);

fn header_edits(check: &mut Check<'_>, value: &Value) -> Option<Edits> {
    let members = check.object(value, &["set", "remove"])?;
    let set = check.member(members, "set", headers).unwrap_or_default();
    let expected = "the name of a header";
    let remove = check.member(members, "remove", |check, value| {
        Some(check.list(value, ENTRIES, true, |check, value| check.text(value, is_token, expected)))
    });
    let remove = remove.unwrap_or_default();
    let forbidden = |name: &str| NOT_OURS.iter().any(|other| name.eq_ignore_ascii_case(other));
    let why = "is a header of the dialog or the transaction, which a route may not touch";
    for (name, _) in set.iter().filter(|(name, _)| forbidden(name)) {
        check.below("set").below(name).fault(why);
    }
    for name in remove.iter().filter(|name| forbidden(name)) {
        check.below("remove").fault(&format!("names {name}, which {why}"));
    }
    Some((set, remove))
}

fn reroute(check: &mut Check<'_>, value: &Value) -> Option<Reroute> {
    let mut reroute = Reroute::default();
    check.list(value, ENTRIES, false, |check, entry| {
        let code = entry.as_u64().filter(|code| (300..700).contains(code)).map(|code| code as u16);
        let cause = entry.as_str().and_then(|text| text.strip_prefix(Q850)?.parse::<u8>().ok());
        match (code, cause.filter(|cause| (1..=127).contains(cause))) {
            (Some(code), _) => reroute.codes.push(code),
            (None, Some(cause)) => reroute.causes.push(cause),
            (None, None) => check.fault("must be a status code, 300 to 699, or a Q.850 cause such as \"Q.850:34\""),
        }
        Some(())
    });
    Some(reroute)
}

fn policy(check: &mut Check<'_>, value: &Value) -> Option<Policy> {
    let found = Policy::NAMES.iter().find(|(name, _)| value.as_str() == Some(name));
    if found.is_none() {
        let names: Vec<&str> = Policy::NAMES.iter().map(|(name, _)| *name).collect();
        check.fault(&format!("must be one of {}", names.join(", ")));
    }
    found.map(|(_, policy)| *policy)
}

fn hash_on(check: &mut Check<'_>, value: &Value) -> Option<HashOn> {
    let read = |text: &str| match text {
        "call-id" => Some(HashOn::CallId),
        "from" => Some(HashOn::From),
        "to" => Some(HashOn::To),
        _ => text.strip_prefix("header:").filter(|name| is_token(name)).map(|name| HashOn::Header(name.into())),
    };
    let found = value.as_str().and_then(read);
    if found.is_none() {
        check.fault("must be one of call-id, from, to, or a header such as \"header:X-Tenant\"");
    }
    found
}

fn guard(check: &mut Check<'_>, value: &Value) -> Option<Guard> {
    let members =
        check.object(value, &["failure_share", "min_calls", "window_seconds", "rest_seconds", "trial_calls"])?;
    let usual = Guard::default();
    let mut number = |name: &str, default: u32, most: u32| {
        check.member(members, name, |check, value| check.integer(value, 1, most)).unwrap_or(default)
    };
    let guard = Guard {
        min_calls: number("min_calls", usual.min_calls, 1_000_000),
        window_seconds: number("window_seconds", usual.window_seconds, 300),
        rest_seconds: number("rest_seconds", usual.rest_seconds, 3600),
        trial_calls: number("trial_calls", usual.trial_calls, 1000),
        ..usual
    };
    let share = check.member(members, "failure_share", |check, value| {
        let share = value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0);
        if share.is_none() {
            check.fault("must be a number above 0 and at most 1");
        }
        share
    });
    Some(Guard { failure_share: share.unwrap_or(usual.failure_share), ..guard })
}

fn comment(check: &mut Check<'_>, value: &Value) -> Option<Box<str>> {
    check.text(value, |text| !text.is_empty(), "a text of 1 to 1024 bytes")
}

/// Labels of any record.
pub(crate) fn labels(check: &mut Check<'_>, value: &Value) -> Option<Labels> {
    let Value::Object(members) = value else {
        check.fault("must be an object of names and texts");
        return None;
    };
    if members.len() > 64 {
        check.fault("must have at most 64 entries");
        return None;
    }
    let mut found: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, value) in members {
        let fits = |text: &str| text.len() <= 128 && !text.chars().any(char::is_control);
        let mut check = check.below(name);
        if name.is_empty() || name.contains('=') || !fits(name) {
            check.fault("must have a name of 1 to 128 bytes without '=' and control characters");
        }
        if let Some(value) = check.text(value, fits, "a text of at most 128 bytes without control characters") {
            found.push((name.as_str().into(), value));
        }
    }
    found.sort();
    Some(found.into())
}
