//! `/livez` and `/readyz`.

use std::collections::BTreeMap;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::App;
use crate::error::Problem;
use crate::wire;

/// What readiness rests on.
#[derive(Serialize)]
struct Readiness {
    /// As in every error.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    ready: bool,
    failing: BTreeMap<&'static str, String>,
    revision: u64,
}

/// Whether the process answers at all: restart it when not.
pub(crate) fn live(parts: &Parts) -> Result<Response, Problem> {
    reads(parts)?;
    let mut response = wire::json(StatusCode::OK, "ok\n");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Whether requests and calls should come here; if not, every check that fails is named.
pub(crate) fn ready(app: &App, parts: &Parts) -> Result<Response, Problem> {
    reads(parts)?;
    let checks = [("registry", app.control.ready()), ("router", app.live.ready())];
    let failing: BTreeMap<_, _> = checks.into_iter().filter_map(|(name, check)| Some((name, check.err()?))).collect();
    let ready = failing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let named: Vec<String> = failing.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let body = Readiness {
        status: (!ready).then_some(status.as_u16()),
        error: (!ready).then(|| named.join("; ")),
        ready,
        failing,
        revision: app.control.revision(),
    };
    // Texts and numbers always serialise.
    let mut response = wire::json(status, serde_json::to_vec(&body).unwrap_or_default());
    if !ready {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

fn reads(parts: &Parts) -> Result<(), Problem> {
    match parts.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method("GET, HEAD")),
    }
}
