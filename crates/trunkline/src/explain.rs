//! "Where would this call go, and why?" The live decision, asked about a call that nobody has placed, over the table of now or over
//! one that is imagined.

use std::net::IpAddr;
use std::sync::Arc;

use control::Control;
use jiff::Timestamp;
use liveness::State;
use net::Names;
use registry::{Fault, Imagined, Transport};
use routing::{Ask, Builder, Considered, Headers, Imagination, RouteTable, Subject, Verdict, number};
use serde_json::{Map, Value, json};

use crate::watch::Watch;
use crate::{facts, story};

/// Members of the question, beside the imagined changes.
const MEMBERS: [&str; 9] = ["at", "call_id", "domain", "draw", "from", "headers", "secure", "source", "to"];
const IMAGINED: [&str; 3] = ["groups", "routes", "trunks"];

/// What explanations are made from.
pub struct Explainer {
    /// The registry.
    pub control: Arc<Control>,
    /// What names resolve to.
    pub names: Names,
    /// What is seen of targets.
    pub watch: Arc<Watch>,
    /// Transports that we listen on.
    pub transports: Vec<Transport>,
}

/// A call that nobody has placed.
struct Question {
    request_uri: String,
    called: String,
    calling: String,
    domain: String,
    call_id: String,
    source: Option<IpAddr>,
    at: Timestamp,
    secure: bool,
    draw: u64,
    headers: Vec<(String, String)>,
}

impl Headers for Question {
    fn any(&self, name: &str, f: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).any(|(_, value)| f(value.as_bytes()))
    }
}

impl Explainer {
    /// Answers a question. `now` is in microseconds of the router's clock.
    ///
    /// # Errors
    /// Every fault of the question.
    pub fn explain(&self, table: &RouteTable, body: &Map<String, Value>, now: u64) -> Result<Value, Vec<Fault>> {
        let mut faults = Vec::new();
        let question = Question::read(body, &mut faults);
        let imagined = self.control.read(|registry, now| registry.imagine(body, now)).unwrap_or_else(|more| {
            faults.extend(more);
            Imagined::default()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let other = (!is_nothing(&imagined)).then(|| self.table_of(table, &imagined));
        let ask = Ask {
            begins_call: true,
            secure: question.secure,
            now,
            draw: question.draw,
            subject: question.subject(),
            trace: true,
            ..Ask::default()
        };
        let today = table.imagine(&ask);
        let Some(other) = other else { return Ok(self.tell(table, &question, &today)) };
        let then = other.imagine(&ask);
        let mut told = self.tell(&other, &question, &then);
        tell_outsiders(&mut told, &then, &imagined);
        told["without_changes"] = self.tell(table, &question, &today);
        Ok(told)
    }

    fn table_of(&self, table: &RouteTable, imagined: &Imagined) -> RouteTable {
        let mut builder = Builder::of(table);
        for (id, view) in &imagined.trunks {
            match view {
                Some(view) => builder.set(id, facts::of(view, &self.names, &self.transports)),
                None => builder.remove(id),
            }
        }
        for (old, new) in &imagined.routes {
            builder.swap_route(old.as_ref(), new.as_ref());
        }
        for (id, group) in &imagined.groups {
            match group {
                Some(group) => builder.set_group(group),
                None => builder.remove_group(id),
            }
        }
        builder.build(table.revision())
    }

    fn tell(&self, table: &RouteTable, question: &Question, imagined: &Imagination) -> Value {
        let trace = &imagined.trace;
        let rule = trace.rule.as_ref();
        let (called, calling) = (number(question.called.as_bytes()), number(question.calling.as_bytes()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let after = |rewritten: Option<Vec<u8>>, number: &[u8]| rewritten.map_or_else(|| text(number), |n| text(&n));
        let sources: Vec<String> = question
            .source
            .map(|source| table.sources().trunks_of(source, &[]).map(ToString::to_string).collect())
            .unwrap_or_default();
        let mut told = story::tell(trace, |considered| self.words(considered));
        told["called"] = text(&called).into();
        told["calling"] = text(&calling).into();
        told["called_after"] = after(rule.and_then(|rule| rule.called(&called)), &called).into();
        told["calling_after"] = after(rule.and_then(|rule| rule.calling(&calling)), &calling).into();
        told["emergency"] = rule.is_some_and(routing::Rule::is_emergency).into();
        told["at"] = question.at.to_string().into();
        told["source_trunks"] = sources.into();
        if let Some(source) = question.source {
            told["source_allowed"] = table.admit(source, &[]).allowed.into();
        }
        told["chosen"] = match &imagined.chosen {
            Some((trunk, at)) => {
                let place = &trunk.targets[*at].place;
                json!({ "trunk": &*trunk.id, "target": place.address, "transport": place.transport.as_str() })
            }
            None => Value::Null,
        };
        if imagined.chosen.is_none() {
            let status = if imagined.no_route { 404 } else { 503 };
            told["refusal"] =
                json!({ "status": status, "reason": table.why_nobody(imagined, question.called.as_bytes()) });
        }
        told
    }

    /// More of a verdict than the table knows: since when, until when.
    fn words(&self, considered: &Considered) -> Option<String> {
        let id = &*considered.trunk;
        match &considered.verdict {
            Verdict::Obstacle(words) if words.as_str().contains("lease expired") => {
                let (expired, now) = self.control.read(|registry, now| {
                    let view = registry.view(id, now);
                    (view.filter(|view| !view.lease_up).and_then(|view| view.lease_expires_at), now.wall)
                });
                let ago = now.duration_since(expired?).as_secs().max(0);
                Some(words.as_str().replace("lease expired", &format!("lease expired {ago} s ago")))
            }
            Verdict::Doubt(words) if words.as_str().starts_with("probe: ") => {
                let at = self.watch.last_probe(id, |state| matches!(state, State::Down { .. }))?;
                Some(format!("{} at {at}", words.as_str()))
            }
            _ => None,
        }
    }
}

/// Trunks that are imagined to change, but are none of the targets.
fn tell_outsiders(told: &mut Value, then: &Imagination, imagined: &Imagined) {
    let is_told = |id: &str| then.trace.considered.iter().any(|considered| &*considered.trunk == id);
    // Of a set that was cut it is not known who is in it.
    if then.trace.more > 0 {
        return;
    }
    if let Some(trunks) = told["trunks"].as_array_mut() {
        let outside = imagined.trunks.iter().filter(|(id, view)| view.is_some() && !is_told(id));
        trunks.extend(outside.map(|(id, _)| {
            json!({ "trunk": &**id, "code": "not_in_group", "verdict": "not in group: no target of the route" })
        }));
    }
}

fn is_nothing(imagined: &Imagined) -> bool {
    imagined.trunks.is_empty() && imagined.routes.is_empty() && imagined.groups.is_empty()
}

impl Question {
    fn read(body: &Map<String, Value>, faults: &mut Vec<Fault>) -> Question {
        let known = |name: &str| MEMBERS.contains(&name) || IMAGINED.contains(&name);
        for name in body.keys().filter(|name| !known(name)) {
            let expected: Vec<&str> = MEMBERS.into_iter().chain(IMAGINED).collect();
            fault(faults, name, &format!("is unknown; expected one of {}", expected.join(", ")));
        }
        let to = text(body, "to", faults);
        let from = text(body, "from", faults);
        let domain = text(body, "domain", faults);
        if to.is_empty() && !faults.iter().any(|fault| fault.pointer == "/to") {
            fault(faults, "to", "is required: a number such as \"+49301234\", or a SIP URI");
        }
        let (called, host) = parts(&to);
        let (calling, _) = parts(&from);
        let domain = if domain.is_empty() { host } else { domain };
        let request_uri = if is_uri(&to) { to.clone() } else { format!("sip:{to}@{domain}") };
        let at = given(body, "at").map(|value| {
            let at = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
            at.unwrap_or_else(|| {
                fault(faults, "at", "must be a time such as \"2026-12-01T08:30:00Z\"");
                Timestamp::UNIX_EPOCH
            })
        });
        let source = given(body, "source").and_then(|value| {
            let source = value.as_str().and_then(|text| text.parse().ok());
            if source.is_none() {
                fault(faults, "source", "must be an IP address");
            }
            source
        });
        let secure = given(body, "secure").map(|value| {
            value.as_bool().unwrap_or_else(|| {
                fault(faults, "secure", "must be true or false");
                false
            })
        });
        let draw = given(body, "draw").map(|value| {
            let draw = value.as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
            draw.unwrap_or_else(|| {
                fault(faults, "draw", "must be 64 bits in hexadecimal digits, as an answer has them");
                0
            })
        });
        Question {
            secure: secure.unwrap_or_else(|| to.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"))),
            headers: headers(body, &from, &to, faults),
            call_id: text(body, "call_id", faults),
            at: at.unwrap_or_else(Timestamp::now),
            draw: draw.unwrap_or(0),
            request_uri,
            called,
            calling,
            domain,
            source,
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            called: self.called.as_bytes(),
            calling: self.calling.as_bytes(),
            request_uri: self.request_uri.as_bytes(),
            domain: self.domain.as_bytes(),
            call_id: self.call_id.as_bytes(),
            source: self.source,
            names: &[],
            at: self.at,
            headers: self,
        }
    }
}

fn fault(faults: &mut Vec<Fault>, name: &str, expected: &str) {
    faults.push(Fault { pointer: format!("/{name}"), message: format!("{name} {expected}") });
}

fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn text(body: &Map<String, Value>, name: &str, faults: &mut Vec<Fault>) -> String {
    match given(body, name).map(Value::as_str) {
        None => String::new(),
        Some(Some(text)) if text.len() <= 1024 && !text.chars().any(char::is_control) => text.to_owned(),
        Some(_) => {
            fault(faults, name, "must be a text of at most 1024 bytes without control characters");
            String::new()
        }
    }
}

fn is_uri(text: &str) -> bool {
    sip::Uri::parse(text.as_bytes()).is_ok()
}

/// User part and host of a URI; what is none is a number.
fn parts(text: &str) -> (String, String) {
    let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match sip::Uri::parse(text.as_bytes()) {
        Ok(uri) if uri.scheme == sip::Scheme::Tel => (owned(uri.opaque), String::new()),
        Ok(uri) => (owned(uri.user.unwrap_or_default()), owned(uri.host_bytes)),
        Err(_) => (text.to_owned(), String::new()),
    }
}

/// The headers of the question, From and To as a caller would write them.
fn headers(body: &Map<String, Value>, from: &str, to: &str, faults: &mut Vec<Fault>) -> Vec<(String, String)> {
    let address = |text: &str| if is_uri(text) { format!("<{text}>") } else { format!("<sip:{text}@invalid>") };
    let mut headers = vec![("From".to_owned(), address(from)), ("To".to_owned(), address(to))];
    match given(body, "headers") {
        None => {}
        Some(Value::Object(members)) if members.values().all(Value::is_string) => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            headers.extend(members.iter().map(|(name, value)| (name.clone(), text(value))));
        }
        Some(_) => fault(faults, "headers", "must be an object of header names and texts"),
    }
    headers
}
