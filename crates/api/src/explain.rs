//! `/routes/explain`: where a call would go, and why.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};

use crate::error::Problem;
use crate::{App, wire};

pub(crate) async fn handle(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method("POST"));
    }
    let body = wire::read(app, parts, body, wire::deadline(app)).await?;
    let malformed = || {
        let expected = "the question must be a JSON object, as in {\"from\":\"+4989\",\"to\":\"+4930\"}";
        Problem::new(StatusCode::BAD_REQUEST, expected)
    };
    let question: Map<String, Value> = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let told = app.live.explain(&question).map_err(Problem::faults)?;
    // A value always serialises.
    Ok(wire::json(StatusCode::OK, serde_json::to_vec(&told).unwrap_or_default()))
}
