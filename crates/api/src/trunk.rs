//! `/trunks/{id}`: register, heartbeat, patch, read, deregister.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::Control;
use registry::{Beat, Command, Outcome, View};

use crate::error::ApiError;
use crate::stats::Route;
use crate::{App, body, etag};

/// An id from the path, or why there is none.
pub(crate) type Id = Result<Path<String>, PathRejection>;

/// Names of unknown members in a `Warning`.
const NAMED: usize = 8;

pub(crate) fn id_of(id: Id) -> Result<String, ApiError> {
    id.map(|Path(id)| id).map_err(|_| ApiError::bad("id", "id must be percent-encoded UTF-8"))
}

pub(crate) async fn put(State(app): State<Arc<App>>, id: Id, headers: HeaderMap, body: Body) -> Response {
    let result = body::in_time(&app, register(&app, id, &headers, body)).await;
    app.stats.finish(Route::PutTrunk, &headers, result)
}

async fn register(app: &App, id: Id, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let id = id_of(id)?;
    let condition = etag::conditions(headers)?;
    let body = body::read(app, body).await?;
    match app.control.execute(Command::Register { id: id.clone(), body, condition }).await? {
        Outcome::Created { unknown } => {
            let mut response = record(app, &id, StatusCode::CREATED, &unknown)?;
            if let Ok(location) = HeaderValue::from_str(&format!("/trunks/{id}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Outcome::Replaced { unknown } => record(app, &id, StatusCode::OK, &unknown),
        _ => record(app, &id, StatusCode::OK, &[]),
    }
}

pub(crate) async fn patch(State(app): State<Arc<App>>, id: Id, headers: HeaderMap, body: Body) -> Response {
    let conditional = headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH);
    let result = if body::is_absent(&body) && !conditional {
        // The way of every heartbeat: no budget to arm, nothing to write.
        id_of(id).and_then(|id| heartbeat(&app.control, &id))
    } else {
        body::in_time(&app, merge(&app, id, &headers, body)).await
    };
    app.stats.finish(Route::PatchTrunk, &headers, result)
}

fn heartbeat(control: &Control, id: &str) -> Result<Response, ApiError> {
    match control.heartbeat(id) {
        Beat::Renewed | Beat::Lapsed => Ok(StatusCode::NO_CONTENT.into_response()),
        Beat::Unknown => {
            registry::validate_id(id)?;
            Err(ApiError::new(StatusCode::NOT_FOUND, "unknown trunk — re-register with PUT"))
        }
    }
}

async fn merge(app: &App, id: Id, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let id = id_of(id)?;
    let condition = etag::conditions(headers)?;
    let body = body::read(app, body).await?;
    match app.control.execute(Command::Patch { id: id.clone(), body, condition }).await? {
        Outcome::Patched { changed: true, unknown } => record(app, &id, StatusCode::OK, &unknown),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

pub(crate) async fn get(State(app): State<Arc<App>>, id: Id, headers: HeaderMap) -> Response {
    let result = read(&app, id, &headers);
    app.stats.finish(Route::GetTrunk, &headers, result)
}

fn read(app: &App, id: Id, headers: &HeaderMap) -> Result<Response, ApiError> {
    let id = id_of(id)?;
    registry::validate_id(&id)?;
    let view = view(app, &id)?;
    if etag::is_known(headers, &view)? {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag::tag(&view))]).into_response());
    }
    Ok(show(app, &view, StatusCode::OK))
}

pub(crate) async fn delete(State(app): State<Arc<App>>, id: Id, headers: HeaderMap) -> Response {
    let result = body::in_time(&app, deregister(&app, id, &headers)).await;
    app.stats.finish(Route::DeleteTrunk, &headers, result)
}

async fn deregister(app: &App, id: Id, headers: &HeaderMap) -> Result<Response, ApiError> {
    let id = id_of(id)?;
    let condition = etag::conditions(headers)?;
    app.control.execute(Command::Deregister { id, condition }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn view(app: &App, id: &str) -> Result<View, ApiError> {
    app.control.read(|registry, now| registry.view(id, now)).ok_or_else(ApiError::unknown_trunk)
}

fn show(app: &App, view: &View, status: StatusCode) -> Response {
    let mut out = Vec::with_capacity(512);
    app.write_record(view, &mut out);
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json), (header::ETAG, etag::tag(view))], out).into_response()
}

/// The record as it reads now, with a warning where it has members that the registry does not know.
fn record(app: &App, id: &str, status: StatusCode, unknown: &[String]) -> Result<Response, ApiError> {
    let mut response = show(app, &view(app, id)?, status);
    if !unknown.is_empty() {
        let mut names = unknown.iter().take(NAMED).map(|name| name.escape_default().to_string()).collect::<Vec<_>>();
        if unknown.len() > NAMED {
            names.push(format!("and {} more", unknown.len() - NAMED));
        }
        let names = names.join(", ").replace(['"', '\\'], "'");
        let warning = format!("299 trunkline \"unknown members, kept as they came: {names}\"");
        if let Ok(warning) = HeaderValue::from_str(&warning) {
            response.headers_mut().insert(header::WARNING, warning);
        }
    }
    Ok(response)
}
