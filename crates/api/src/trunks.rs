//! `/trunks/{id}`: register, heartbeat, change, read, deregister.

use axum::body::Body;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, WARNING};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use registry::{Beat, Command, Outcome, View};

use crate::App;
use crate::error::Problem;
use crate::{etag, wire};

const METHODS: &str = "GET, HEAD, PUT, PATCH, DELETE";

pub(crate) async fn handle(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    match parts.method {
        Method::PATCH => patch(app, parts, body).await,
        Method::GET | Method::HEAD => read(app, parts),
        Method::PUT => register(app, parts, body).await,
        Method::DELETE => deregister(app, parts).await,
        _ => Err(Problem::method(METHODS)),
    }
}

async fn patch(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    let id = wire::trunk_id(parts)?;
    let conditional = parts.headers.contains_key(IF_MATCH) || parts.headers.contains_key(IF_NONE_MATCH);
    if wire::is_empty(&body) && !conditional {
        return match app.control.heartbeat(&id) {
            Beat::Renewed | Beat::Lapsed => Ok(wire::empty(StatusCode::NO_CONTENT)),
            Beat::Unknown => Err(Problem::not_found("unknown trunk — re-register with PUT")),
        };
    }
    let condition = etag::condition(&parts.headers)?;
    let deadline = wire::deadline(app);
    let body = wire::read(app, parts, body, deadline).await?;
    let id = id.into_owned();
    let command = Command::Patch { id: id.clone(), body, condition };
    match wire::within(deadline, app.control.execute(command, &wire::actor(parts))).await?? {
        Outcome::Patched { changed: true, unknown } => record(app, &id, StatusCode::OK, &unknown),
        _ => Ok(wire::empty(StatusCode::NO_CONTENT)),
    }
}

fn read(app: &App, parts: &Parts) -> Result<Response, Problem> {
    let id = wire::trunk_id(parts)?;
    let view = find(app, &id)?;
    let tag = format!("\"{}\"", view.etag());
    let mut response = if etag::not_modified(&parts.headers, &tag)? {
        wire::empty(StatusCode::NOT_MODIFIED)
    } else {
        wire::json(StatusCode::OK, render(app, &view))
    };
    response.headers_mut().insert(ETAG, etag::value(&tag));
    Ok(response)
}

async fn register(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    let id = wire::trunk_id(parts)?.into_owned();
    let condition = etag::condition(&parts.headers)?;
    let deadline = wire::deadline(app);
    let body = wire::read(app, parts, body, deadline).await?;
    let command = Command::Register { id: id.clone(), body, condition };
    match wire::within(deadline, app.control.execute(command, &wire::actor(parts))).await?? {
        Outcome::Created { unknown } => {
            let mut response = record(app, &id, StatusCode::CREATED, &unknown)?;
            if let Ok(location) = HeaderValue::from_str(&format!("/trunks/{id}")) {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
        Outcome::Replaced { unknown } => record(app, &id, StatusCode::OK, &unknown),
        _ => record(app, &id, StatusCode::OK, &[]),
    }
}

async fn deregister(app: &App, parts: &Parts) -> Result<Response, Problem> {
    let id = wire::trunk_id(parts)?.into_owned();
    let condition = etag::condition(&parts.headers)?;
    let command = Command::Deregister { id, condition };
    wire::within(wire::deadline(app), app.control.execute(command, &wire::actor(parts))).await??;
    Ok(wire::empty(StatusCode::NO_CONTENT))
}

/// The record as it reads after a change.
fn record(app: &App, id: &str, status: StatusCode, unknown: &[String]) -> Result<Response, Problem> {
    let view = find(app, id)?;
    let mut response = wire::json(status, render(app, &view));
    let headers = response.headers_mut();
    headers.insert(ETAG, etag::value(&format!("\"{}\"", view.etag())));
    // Likely a typing error.
    if let Some(warning) = wire::warning("unknown members kept: ", unknown, ", ") {
        headers.insert(WARNING, warning);
    }
    Ok(response)
}

fn find(app: &App, id: &str) -> Result<View, Problem> {
    let view = app.control.read(|registry, now| registry.view(id, now));
    view.ok_or_else(|| Problem::not_found("unknown trunk"))
}

fn render(app: &App, view: &View) -> Vec<u8> {
    let mut out = Vec::with_capacity(640);
    write(app, view, &mut out);
    out
}

/// Appends a record with what the router sees of it.
pub(crate) fn write(app: &App, view: &View, out: &mut Vec<u8>) {
    let id = &*view.trunk.id;
    let targets = app.live.targets(id);
    view.write_json(out, &app.live.reasons(id), app.live.active_calls(id), targets.as_deref());
}
