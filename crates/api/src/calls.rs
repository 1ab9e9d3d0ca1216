//! `/calls`: standing calls, and those that have ended; `/calls/{id}`: one of them whole.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::App;
use crate::error::Problem;
use crate::query::{self, Query};
use crate::wire;

/// A standing call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Its Call-ID.
    pub id: String,
    /// URI of From.
    pub from: String,
    /// URI of To.
    pub to: String,
    /// Id of the trunk; empty while none is chosen.
    pub trunk: String,
    /// `trying`, `ringing` or `established`.
    pub state: &'static str,
    /// When its INVITE came.
    pub since: Timestamp,
}

#[derive(Serialize)]
struct Page<'a> {
    calls: &'a [Call],
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct EndedPage<'a> {
    calls: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

pub(crate) fn handle(app: &App, parts: &Parts) -> Result<Response, Problem> {
    is_read(parts)?;
    let query = Query::parse(parts, &["limit", "after", "state"])?;
    let limit = query::limit(&query)?.unwrap_or(query::LONGEST_PAGE);
    match query.get("state") {
        None | Some("standing") => {}
        Some("ended") => return Ok(ended(app, limit, query.get("after"))),
        Some(other) => {
            let message = format!("state must be standing or ended, not '{other}'");
            return Err(Problem::bad_request("state", message));
        }
    }
    // One more than asked for tells whether there is more.
    let found = app.live.calls(limit + 1, query.get("after"));
    let calls = &found[..limit.min(found.len())];
    let next = calls.last().filter(|_| calls.len() < found.len()).map(|call| call.id.as_str());
    // Texts and times always serialise.
    let body = serde_json::to_vec(&Page { calls, next }).unwrap_or_default();
    Ok(wire::json(StatusCode::OK, body))
}

fn ended(app: &App, limit: usize, after: Option<&str>) -> Response {
    let found = app.live.ended_calls(limit + 1, after);
    let calls = &found[..limit.min(found.len())];
    let next = calls.last().filter(|_| calls.len() < found.len()).and_then(|call| call["id"].as_str());
    wire::json(StatusCode::OK, serde_json::to_vec(&EndedPage { calls, next }).unwrap_or_default())
}

/// Most bytes of a Call-ID that are told in an error.
const SHOWN: usize = 64;

pub(crate) fn read(app: &App, parts: &Parts) -> Result<Response, Problem> {
    is_read(parts)?;
    let raw = parts.uri.path().strip_prefix("/calls/").unwrap_or_default();
    let id = wire::percent_decode(raw, false)
        .ok_or_else(|| Problem::bad_request("id", "the Call-ID must be percent-encoded UTF-8"))?;
    let call = app.live.call(&id).ok_or_else(|| {
        let shown: String = id.chars().take(SHOWN).collect();
        Problem::not_found(&format!("no call '{shown}' stands, or is kept of those that have ended"))
    })?;
    Ok(wire::json(StatusCode::OK, serde_json::to_vec(&call).unwrap_or_default()))
}

fn is_read(parts: &Parts) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD) { Ok(()) } else { Err(Problem::method("GET, HEAD")) }
}
