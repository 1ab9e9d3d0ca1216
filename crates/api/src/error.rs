//! Errors: `{"status","error"}`, with `field` where one member is at fault; RFC 9457 for who asks for it.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use control::ExecuteError;
use registry::{Kind, Violation};
use serde::Serialize;

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    field: Option<String>,
    retry_after: Option<u32>,
}

/// As the original service had it, member by member.
#[derive(Serialize)]
struct Plain<'a> {
    status: u16,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), field: None, retry_after: None }
    }

    pub fn bad(field: &str, message: impl Into<String>) -> ApiError {
        ApiError { field: Some(field.to_owned()), ..ApiError::new(StatusCode::BAD_REQUEST, message) }
    }

    pub fn unknown_trunk() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "unknown trunk")
    }

    /// Renders it as the request's `Accept` wants it.
    pub fn render(self, headers: &HeaderMap) -> Response {
        let problem = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|accept| accept.to_str().ok())
            .any(|accept| accept.contains("application/problem+json"));
        let status = self.status.as_u16();
        let field = self.field.as_deref();
        let body = if problem {
            let title = self.status.canonical_reason().unwrap_or_default();
            serde_json::to_string(&Problem { r#type: "about:blank", title, status, detail: &self.message, field })
        } else {
            serde_json::to_string(&Plain { status, error: &self.message, field })
        };
        let body = body.unwrap_or_default();
        let kind = if problem { "application/problem+json" } else { "application/json" };
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Violation> for ApiError {
    fn from(violation: Violation) -> ApiError {
        let status = match violation.kind {
            Kind::BadRequest => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        };
        ApiError { field: violation.field, ..ApiError::new(status, violation.message) }
    }
}

impl From<ExecuteError> for ApiError {
    fn from(error: ExecuteError) -> ApiError {
        match error {
            ExecuteError::Refused(violation) => violation.into(),
            unavailable => ApiError {
                retry_after: Some(1),
                ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string())
            },
        }
    }
}

pub(crate) async fn no_such_path(uri: Uri, headers: HeaderMap) -> Response {
    ApiError::new(StatusCode::NOT_FOUND, format!("no such path: {}", uri.path())).render(&headers)
}

/// `Allow` is added by the router.
pub(crate) async fn no_such_method(method: Method, headers: HeaderMap) -> Response {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed here")).render(&headers)
}
