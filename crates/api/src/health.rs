//! `/livez` and `/readyz`.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use crate::App;
use crate::error::Problem;
use crate::wire;

/// Whether the process answers at all: restart it when not.
pub(crate) fn live(parts: &Parts) -> Result<Response, Problem> {
    answer(parts, "{\"status\":\"live\"}")
}

/// Whether requests and calls should come here; if not, the check that fails is named.
pub(crate) fn ready(app: &App, parts: &Parts) -> Result<Response, Problem> {
    let checks = app.control.ready().and_then(|()| app.live.ready());
    checks.map_err(Problem::unavailable)?;
    answer(parts, "{\"status\":\"ready\"}")
}

fn answer(parts: &Parts, body: &'static str) -> Result<Response, Problem> {
    match parts.method {
        Method::GET | Method::HEAD => Ok(wire::json(StatusCode::OK, body)),
        _ => Err(Problem::method("GET, HEAD")),
    }
}
