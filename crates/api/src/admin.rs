//! `/trunks/{id}/admin`: the operator's intent.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use registry::Command;

use crate::error::ApiError;
use crate::stats::Route;
use crate::trunk::{Id, id_of};
use crate::{App, body};

pub(crate) async fn put(State(app): State<Arc<App>>, id: Id, headers: HeaderMap, body: Body) -> Response {
    let result = body::in_time(&app, set(&app, id, body)).await;
    app.stats.finish(Route::Admin, &headers, result)
}

async fn set(app: &App, id: Id, body: Body) -> Result<Response, ApiError> {
    let id = id_of(id)?;
    let body = body::read(app, body).await?;
    app.control.execute(Command::SetAdmin { id: id.clone(), body }).await?;
    show(app, &id)
}

pub(crate) async fn get(State(app): State<Arc<App>>, id: Id, headers: HeaderMap) -> Response {
    let result = id_of(id).and_then(|id| show(&app, &id));
    app.stats.finish(Route::Admin, &headers, result)
}

pub(crate) async fn delete(State(app): State<Arc<App>>, id: Id, headers: HeaderMap) -> Response {
    let result = body::in_time(&app, clear(&app, id)).await;
    app.stats.finish(Route::Admin, &headers, result)
}

async fn clear(app: &App, id: Id) -> Result<Response, ApiError> {
    app.control.execute(Command::ClearAdmin { id: id_of(id)? }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn show(app: &App, id: &str) -> Result<Response, ApiError> {
    registry::validate_id(id)?;
    let admin = app.control.read(|registry, now| registry.admin(id, now));
    let admin =
        admin.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "the operator has set nothing for this trunk"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], admin.to_json()).into_response())
}
