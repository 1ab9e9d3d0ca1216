//! `GET /calls`: standing calls.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::App;
use crate::error::ApiError;
use crate::filter::{limit, pairs};
use crate::stats::Route;

/// A standing call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Call-ID.
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

/// Entries of a page where none is asked for.
const PAGE: usize = 1000;

pub(crate) async fn list(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let result = page(&app, &uri);
    app.stats.finish(Route::Calls, &headers, result)
}

fn page(app: &App, uri: &Uri) -> Result<Response, ApiError> {
    let (mut most, mut after) = (PAGE, None);
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "limit" => most = limit(&value)?,
            "after" => after = Some(value),
            _ => return Err(ApiError::bad(&name, format!("{name} is unknown; expected limit or after"))),
        }
    }
    let mut calls = app.live.calls(most + 1, after.as_deref());
    let more = calls.len() > most;
    calls.truncate(most);
    let mut answer = json!({ "calls": calls });
    if more && let Some(last) = calls.last() {
        answer["next"] = last.id.clone().into();
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}
