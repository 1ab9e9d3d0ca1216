//! Differences between two states of a record, in words: `weight 100 → 50, max_channels none → 240`.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use crate::routes::{Group, Route};
use crate::state::{ADMIN, GROUP, TRUNK};
use crate::trunk::{HEARTBEAT_SECONDS, REROUTE_ON, WEIGHT};

/// Longest value that is shown whole, in characters.
const LONGEST: usize = 120;

/// What is kept of a password: compared, never shown.
const SECRET: &str = "register.ha1";

static TRUNK_DEFAULTS: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "enabled": true, "heartbeat_seconds": HEARTBEAT_SECONDS, "group": crate::trunk::GROUP, "priority": 0,
        "weight": WEIGHT, "sources": [], "reroute_on": REROUTE_ON, "trusted": false, "large_over_tcp": false,
        "labels": {},
    })
});
static GROUP_DEFAULTS: LazyLock<Value> = LazyLock::new(|| Group::new(Arc::from("")).to_json());
static ROUTE_DEFAULTS: LazyLock<Value> = LazyLock::new(|| Route::usual(Arc::from("")).to_json());

/// What differs between two stored states of a record; none where nothing does that a person can see.
pub(crate) fn between(key: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Option<String> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => return Some("added".to_owned()),
        (Some(_), None) => return Some("removed".to_owned()),
        (Some(before), Some(after)) if before == after => return None,
        (Some(before), Some(after)) => (members(key, before)?, members(key, after)?),
    };
    let defaults = match key {
        _ if key.starts_with(TRUNK) => &TRUNK_DEFAULTS,
        _ if key.starts_with(GROUP) => &GROUP_DEFAULTS,
        _ => &ROUTE_DEFAULTS,
    };
    let nothing = Map::new();
    let defaults = if key.starts_with(ADMIN) { &nothing } else { defaults.as_object().unwrap_or(&nothing) };
    let mut said = Vec::new();
    compare("", &before, &after, defaults, &mut said);
    (!said.is_empty()).then(|| said.join(", "))
}

/// The members of a stored record that people know.
fn members(key: &str, stored: &[u8]) -> Option<Map<String, Value>> {
    let Value::Object(mut members) = serde_json::from_slice(stored).ok()? else { return None };
    if key.starts_with(TRUNK) {
        return match members.remove("record") {
            Some(Value::Object(record)) => Some(record),
            _ => None,
        };
    }
    // When the trunk of an intent went is the server's affair.
    members.remove("deregistered_at");
    Some(members)
}

fn compare(
    path: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    defaults: &Map<String, Value>,
    said: &mut Vec<String>,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let of = |members: &Map<String, Value>| {
            members.get(name).or_else(|| defaults.get(name)).filter(|value| !value.is_null()).cloned()
        };
        let (old, new) = (of(before), of(after));
        if old == new {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (old, new) {
            _ if path == SECRET => said.push("password changed".to_owned()),
            (Some(Value::Object(old)), Some(Value::Object(new))) => compare(&path, &old, &new, &Map::new(), said),
            (old, new) => said.push(format!("{path} {} → {}", show(&path, old), show(&path, new))),
        }
    }
}

fn show(path: &str, value: Option<Value>) -> String {
    let text = match value {
        None => "none".to_owned(),
        Some(Value::String(text)) if is_word(&text) => text,
        Some(Value::Object(mut members)) => {
            members.retain(|name, _| format!("{path}.{name}") != SECRET);
            Value::Object(members).to_string()
        }
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Whether a text reads well without quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, ',' | '"' | '→'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(record: &str) -> Vec<u8> {
        format!(r#"{{"registered_at":"2026-11-01T00:00:00Z","record":{record}}}"#).into_bytes()
    }

    fn told(before: &str, after: &str) -> Option<String> {
        between("trunk/a", Some(&trunk(before)), Some(&trunk(after)))
    }

    #[test]
    fn members_are_told_with_their_defaults() {
        let before = r#"{"sip_uri":"sip:a","weight":50,"labels":{"team":"x"},"note":"a b"}"#;
        let after = r#"{"sip_uri":"sip:b","max_channels":240,"labels":{"site":"y"},"probe":{"fall":1}}"#;
        assert_eq!(
            told(before, after).as_deref(),
            Some(
                "labels.site none → y, labels.team x → none, max_channels none → 240, note \"a b\" → none, \
                 probe none → {\"fall\":1}, sip_uri sip:a → sip:b, weight 50 → 100"
            )
        );
        assert_eq!(told(before, before), None);
        assert_eq!(told(r#"{"weight":100}"#, "{}"), None, "a default that was given is the default");
        assert_eq!(between("route/r", None, Some(b"{}")).as_deref(), Some("added"));
        assert_eq!(between("route/r", Some(b"{}"), None).as_deref(), Some("removed"));
        let route = between("route/r", Some(br#"{"precedence":3}"#), Some(br#"{"enabled":false}"#));
        assert_eq!(route.as_deref(), Some("enabled true → false, precedence 3 → 0"));
    }

    #[test]
    fn secrets_are_told_as_changed_and_no_more() {
        let (a, b) = (r#"{"register":{"username":"u","ha1":"1:2"}}"#, r#"{"register":{"username":"u","ha1":"3:4"}}"#);
        assert_eq!(told(a, b).as_deref(), Some("password changed"));
        assert_eq!(told("{}", a).as_deref(), Some("register none → {\"username\":\"u\"}"));
        assert_eq!(told(a, "{}").as_deref(), Some("register {\"username\":\"u\"} → none"));
    }

    #[test]
    fn what_the_server_keeps_of_an_intent_is_no_difference() {
        let (a, b) = (br#"{"state":"draining"}"#, br#"{"state":"draining","deregistered_at":"2026-11-01T00:00:00Z"}"#);
        assert_eq!(between("admin/a", Some(a), Some(b)), None);
        let c = br#"{"state":"in_service","reason":"all is well"}"#;
        let told = between("admin/a", Some(a), Some(c));
        assert_eq!(told.as_deref(), Some("reason none → \"all is well\", state draining → in_service"));
    }

    #[test]
    fn long_values_are_cut() {
        let told = told("{}", &format!(r#"{{"comment":"{}"}}"#, "ä".repeat(500))).unwrap();
        assert_eq!(told.chars().count(), "comment none → ".chars().count() + LONGEST + 1);
    }
}
