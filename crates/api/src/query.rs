//! Query parameters: each known, each once, each of a value that makes sense.

use axum::http::request::Parts;
use registry::{Labels, Transport, View};

use crate::error::Problem;
use crate::wire;

/// Most entries of one page.
pub(crate) const LONGEST_PAGE: usize = 1000;

/// Longest name of a group, in bytes, as records may have it.
const LONGEST_GROUP: usize = 128;

/// The parameters of a request.
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads the parameters; one that is not `known` may be a typing error and is refused.
    pub(crate) fn parse(parts: &Parts, known: &[&'static str]) -> Result<Query, Problem> {
        let mut query = Query(Vec::new());
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = wire::percent_decode(raw_name, true);
            let Some(name) = known.iter().find(|known| name.as_deref() == Some(**known)) else {
                let message = format!("query parameter must be one of {}, not '{raw_name}'", known.join(", "));
                return Err(Problem::bad_request(raw_name, message));
            };
            if query.get(name).is_some() {
                return Err(Problem::bad_request(name, format!("{name} must be given once")));
            }
            // A plus is a character of ids and numbers, and they have no spaces.
            let value = wire::percent_decode(raw_value, !matches!(*name, "after" | "prefix"));
            let broken = || Problem::bad_request(name, format!("{name} must be percent-encoded UTF-8"));
            let value = value.ok_or_else(broken)?.into_owned();
            query.0.push((name, value));
        }
        Ok(query)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }
}

/// The page's length, if pages are wanted.
pub(crate) fn limit(query: &Query) -> Result<Option<usize>, Problem> {
    let Some(text) = query.get("limit") else { return Ok(None) };
    let limit = text.parse().ok().filter(|limit| (1..=LONGEST_PAGE).contains(limit));
    let expected = || {
        let message = format!("limit must be an integer, 1 to {LONGEST_PAGE}, not '{text}'");
        Problem::bad_request("limit", message)
    };
    limit.map(Some).ok_or_else(expected)
}

/// `label=name=value`: records that carry this label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    name: String,
    value: String,
}

impl Label {
    pub(crate) fn is_in(&self, labels: &Labels) -> bool {
        labels.iter().any(|(name, value)| **name == *self.name && **value == *self.value)
    }
}

/// The label, if one is asked for.
pub(crate) fn label(query: &Query) -> Result<Option<Label>, Problem> {
    let Some(text) = query.get("label") else { return Ok(None) };
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Some(Label { name: name.to_owned(), value: value.to_owned() })),
        _ => Err(Problem::bad_request("label", format!("label must be name=value, not '{text}'"))),
    }
}

/// `enabled`, in any case.
pub(crate) fn enabled(query: &Query) -> Result<Option<bool>, Problem> {
    match query.get("enabled") {
        None => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(text) => Err(Problem::bad_request("enabled", format!("enabled must be true or false, not '{text}'"))),
    }
}

/// Which trunks are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    enabled: Option<bool>,
    transport: Option<Transport>,
    up: Option<bool>,
    group: Option<String>,
    label: Option<Label>,
}

impl Filter {
    pub(crate) const PARAMETERS: [&'static str; 5] = ["enabled", "transport", "status", "group", "label"];

    /// Reads the filters; `up` is what counts where no `status` is asked for.
    pub(crate) fn parse(query: &Query, up: Option<bool>) -> Result<Filter, Problem> {
        let refuse = |name: &str, expected: &str, value: &str| {
            Err(Problem::bad_request(name, format!("{name} must be {expected}, not '{value}'")))
        };
        let transport = match query.get("transport") {
            None => None,
            Some(text) => match Transport::parse(text) {
                None => return refuse("transport", "one of ['tcp', 'tls', 'udp']", text),
                transport => transport,
            },
        };
        let up = match query.get("status") {
            None => up,
            Some("up") => Some(true),
            Some("down") => Some(false),
            Some("any") => None,
            Some(text) => return refuse("status", "one of ['any', 'down', 'up']", text),
        };
        let group = match query.get("group") {
            // A name that no group can have would only ever find nothing.
            Some(text) if text.is_empty() || text.len() > LONGEST_GROUP || text.chars().any(char::is_control) => {
                let message = format!("group must have 1 to {LONGEST_GROUP} bytes without control characters");
                return Err(Problem::bad_request("group", message));
            }
            group => group.map(str::to_owned),
        };
        Ok(Filter { enabled: enabled(query)?, transport, up, group, label: label(query)? })
    }

    pub(crate) fn matches(&self, view: &View) -> bool {
        self.up.is_none_or(|up| up == view.up)
            && self.enabled.is_none_or(|enabled| enabled == view.trunk.enabled)
            && self.transport.is_none_or(|transport| transport == view.trunk.transport)
            && self.group.as_ref().is_none_or(|group| group == view.trunk.group())
            && self.label.as_ref().is_none_or(|label| label.is_in(&view.trunk.labels))
    }

    /// Whether it lets everything through.
    pub(crate) fn is_open(&self) -> bool {
        *self == Filter::default()
    }
}
