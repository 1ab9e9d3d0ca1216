//! `/trunks/{id}/quality`: how well a trunk completes calls.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use crate::App;
use crate::error::Problem;
use crate::query::{self, Query};
use crate::wire;

/// Prefixes that are listed unless told.
const LISTED: usize = 100;

pub(crate) fn handle(app: &App, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    let id = wire::trunk_id(parts)?;
    let query = Query::parse(parts, &["prefix", "limit", "after"])?;
    let limit = query::limit(&query)?.unwrap_or(LISTED);
    if app.control.read(|registry, now| registry.view(&id, now)).is_none() {
        return Err(Problem::not_found("unknown trunk"));
    }
    let (found, otherwise) = match query.get("prefix") {
        Some(prefix) => (app.live.quality_of_prefix(&id, prefix), "no call with this prefix is counted"),
        None => (app.live.quality(&id, limit, query.get("after")), "nothing is counted yet"),
    };
    let found = found.ok_or_else(|| Problem::not_found(otherwise))?;
    Ok(wire::json(StatusCode::OK, found.get().as_bytes().to_vec()))
}
