//! Errors as clients see them: `{"status","error"}`, or RFC 9457 for those that ask for it.

use axum::body::Body;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use control::ExecuteError;
use registry::{Fault, Kind, Violation};
use serde::Serialize;

use crate::wire;

/// Why a request is not done. What it says is for the client.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    field: Option<String>,
    allow: Option<&'static str>,
    /// All, where there is more than one.
    violations: Vec<Fault>,
}

/// The form of the original service.
#[derive(Serialize)]
struct Plain<'a> {
    status: u16,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Wrong<'a>>,
}

/// One of several things that are wrong with a document.
#[derive(Serialize)]
struct Wrong<'a> {
    /// Where (RFC 6901).
    pointer: &'a str,
    error: &'a str,
}

/// RFC 9457; no `type` of our own, so its title is the status's (§4.2.1).
#[derive(Serialize)]
struct Detailed<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Wrong<'a>>,
}

const PROBLEM: &str = "application/problem+json";

/// Seconds after which a client may try again what failed for our own reasons.
const AGAIN: HeaderValue = HeaderValue::from_static("1");

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into(), field: None, allow: None, violations: Vec::new() }
    }

    pub(crate) fn bad_request(field: &str, message: impl Into<String>) -> Problem {
        Problem { field: Some(field.to_owned()), ..Problem::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(crate) fn not_found(message: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, message)
    }

    /// `allow`: the methods that the resource knows (RFC 9110 §10.2.1).
    pub(crate) fn method(allow: &'static str) -> Problem {
        Problem {
            allow: Some(allow),
            ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("method must be one of {allow}"))
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The answer, in the form that the request's headers ask for.
    pub(crate) fn render(&self, request: &HeaderMap) -> Response {
        let (status, field) = (self.status.as_u16(), self.field.as_deref());
        let wrong = self.violations.iter().map(|fault| Wrong { pointer: &fault.pointer, error: &fault.message });
        let violations = wrong.collect();
        let (kind, body) = if wire::accepts(request, PROBLEM) {
            let title = self.status.canonical_reason().unwrap_or_default();
            let (kind, detail) = ("about:blank", self.message.as_str());
            let body = serde_json::to_vec(&Detailed { kind, title, status, detail, field, violations });
            (PROBLEM, body)
        } else {
            let error = self.message.as_str();
            (wire::JSON, serde_json::to_vec(&Plain { status, error, field, violations }))
        };
        // Texts and numbers always serialise.
        let mut response = Response::new(Body::from(body.unwrap_or_default()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        // The rest of the body is still under way: nothing else can come by this connection.
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, AGAIN);
        }
        response
    }
}

impl Problem {
    /// Of a document, with all of its faults.
    pub(crate) fn faults(faults: Vec<Fault>) -> Problem {
        let first = faults.first().cloned().unwrap_or_default();
        let field = first.pointer.split('/').nth(1).map(str::to_owned);
        let violations = if faults.len() < 2 { Vec::new() } else { faults };
        Problem { field, violations, ..Problem::new(StatusCode::BAD_REQUEST, first.message) }
    }
}

impl From<Violation> for Problem {
    fn from(violation: Violation) -> Problem {
        let status = match violation.kind {
            Kind::BadRequest => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        };
        // The fixed answers have two members and no more.
        let fixed = is_fixed(&violation.message);
        // What is wrong with a member alone is named by `field`.
        let alone = violation.faults.len() < 2 && violation.field.is_some();
        let violations = if fixed || alone { Vec::new() } else { violation.faults };
        Problem { field: violation.field.filter(|_| !fixed), violations, ..Problem::new(status, violation.message) }
    }
}

/// Whether clients of the original service know this text, and with it the whole answer.
fn is_fixed(message: &str) -> bool {
    matches!(message, "sip_uri is required" | "transport must be one of ['tcp', 'tls', 'udp']")
}

impl From<ExecuteError> for Problem {
    fn from(error: ExecuteError) -> Problem {
        match error {
            ExecuteError::Refused(violation) => violation.into(),
            ExecuteError::Conflict(message) => Problem::new(StatusCode::CONFLICT, message),
            ExecuteError::Gone(message) => Problem::new(StatusCode::GONE, message),
            ExecuteError::TooLarge(message) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message),
            unavailable @ ExecuteError::Unavailable(_) => Problem::unavailable(unavailable.to_string()),
        }
    }
}
