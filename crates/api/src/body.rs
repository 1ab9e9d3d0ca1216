//! Request bodies, bounded in size; whole requests, bounded in time.

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use tokio_stream::StreamExt;

use crate::App;
use crate::error::ApiError;

/// Whether there is no body at all, known without reading.
pub(crate) fn is_absent(body: &Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

/// Reads a body to its end.
pub(crate) async fn read(app: &App, body: Body) -> Result<Vec<u8>, ApiError> {
    let most = app.settings.max_body_bytes;
    let too_long = || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("body too large: at most {most} bytes"));
    let told = body.size_hint().lower();
    if told > most as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(told as usize);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
        if bytes.len() + chunk.len() > most {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Holds a request to its time budget.
pub(crate) async fn in_time<T>(app: &App, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let budget = app.settings.request_timeout;
    tokio::time::timeout(budget, work).await.unwrap_or_else(|_| {
        let message = format!("the request took longer than {} ms", budget.as_millis());
        Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message))
    })
}
