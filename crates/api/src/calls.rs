//! `/calls`: standing calls.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

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

pub(crate) fn handle(app: &App, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    let query = Query::parse(parts, &["limit", "after"])?;
    let limit = query::limit(&query)?.unwrap_or(query::LONGEST_PAGE);
    // One more than asked for tells whether there is more.
    let found = app.live.calls(limit + 1, query.get("after"));
    let calls = &found[..limit.min(found.len())];
    let next = calls.last().filter(|_| calls.len() < found.len()).map(|call| call.id.as_str());
    // Texts and times always serialise.
    let body = serde_json::to_vec(&Page { calls, next }).unwrap_or_default();
    Ok(wire::json(StatusCode::OK, body))
}
