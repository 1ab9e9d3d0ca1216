//! `/history`: what was changed, by whom, the newest first.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use control::Recorded;
use jiff::Timestamp;
use serde::Serialize;

use crate::App;
use crate::error::Problem;
use crate::query::{self, Query};
use crate::wire;

/// Entries of a page where no limit is asked for.
const PAGE: usize = 100;

/// A change as it is shown: without what was there before, which has secrets.
#[derive(Serialize)]
struct Shown<'a> {
    revision: u64,
    at: Timestamp,
    actor: &'a str,
    cause: &'a str,
    records: Vec<String>,
    difference: Vec<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    history: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

pub(crate) async fn handle(app: &App, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    let query = Query::parse(parts, &["record", "limit", "after"])?;
    let limit = query::limit(&query)?.unwrap_or(PAGE);
    let after = match query.get("after") {
        None => u64::MAX,
        Some(text) => text.parse().map_err(|_| {
            Problem::bad_request("after", format!("after must be a revision: an integer, 0 or more, not '{text}'"))
        })?,
    };
    let record = query.get("record");
    let kinds = ["trunk/", "intent/", "group/", "route/"];
    if let Some(record) = record.filter(|record| !kinds.iter().any(|kind| record.starts_with(kind))) {
        let message = format!("record must be trunk/ID, intent/ID, group/ID or route/ID, not '{record}'");
        return Err(Problem::bad_request("record", message));
    }
    // One more than asked for tells whether there is more.
    let found = wire::within(wire::deadline(app), app.control.history(after, limit + 1, record)).await?;
    let found = found.map_err(|why| Problem::unavailable(why.to_string()))?;
    let shown: Vec<Shown<'_>> = found.iter().take(limit).map(show).collect();
    let next = shown.last().filter(|_| found.len() > limit).map(|last| last.revision);
    // Texts, numbers and times always serialise.
    let body = serde_json::to_vec(&Page { history: shown, next }).unwrap_or_default();
    Ok(wire::json(StatusCode::OK, body))
}

fn show(recorded: &Recorded) -> Shown<'_> {
    let entry = &recorded.entry;
    Shown {
        revision: recorded.revision,
        at: entry.at,
        actor: &entry.actor,
        cause: &entry.cause,
        records: entry.records().collect(),
        difference: entry.difference(),
    }
}
