//! What requests and answers are made of: paths, bodies within their limits, JSON.

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;

use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use control::Actor;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt;

use crate::App;
use crate::error::Problem;

/// Most texts of a warning, and most characters of each.
const WARNED: (usize, usize) = (8, 160);

pub(crate) const JSON: &str = "application/json";

/// The id in `/trunks/{id}` or `/trunks/{id}/admin`, percent-decoded and of the right form.
pub(crate) fn trunk_id(parts: &Parts) -> Result<Cow<'_, str>, Problem> {
    let path = parts.uri.path();
    let rest = path.strip_prefix("/trunks/").unwrap_or(path);
    let raw = rest.split('/').next().unwrap_or(rest);
    let id = percent_decode(raw, false).unwrap_or(Cow::Borrowed(raw));
    registry::validate_id(&id)?;
    Ok(id)
}

/// The last segment of a path, percent-decoded; as it came where that cannot be.
pub(crate) fn last_segment(parts: &Parts) -> Cow<'_, str> {
    let path = parts.uri.path();
    let raw = path.rsplit('/').next().unwrap_or(path);
    percent_decode(raw, false).unwrap_or(Cow::Borrowed(raw))
}

/// A segment of a path with what may not stand in it escaped (RFC 3986 §3.3).
pub(crate) fn percent_encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@+".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A warning (RFC 7234 §5.5) of a few texts, bounded and plain, as a field's value is ASCII and the texts need not be.
pub(crate) fn warning(about: &str, texts: &[String], between: &str) -> Option<HeaderValue> {
    if texts.is_empty() {
        return None;
    }
    let (most, longest) = WARNED;
    let plain = |text: &String| -> String {
        let safe = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '?' };
        text.chars().take(longest).map(safe).collect()
    };
    let said: Vec<String> = texts.iter().take(most).map(plain).collect();
    let more = match texts.len().saturating_sub(most) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    HeaderValue::from_str(&format!("299 trunkline \"{about}{}{more}\"", said.join(between))).ok()
}

/// Decodes percent escapes (RFC 3986 §2.1); none where they are broken or no UTF-8. In a form a plus is a space.
pub(crate) fn percent_decode(text: &str, form: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || (form && byte == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            b'+' if form => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Whether an `Accept` field names this media type itself; wildcards do not.
pub(crate) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let named = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(kind));
        let refused = |part: &str| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse() == Ok(0.0))
        };
        is_it && !parts.any(refused)
    };
    let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(named)
}

/// Whether a request comes without a body, known before anything is read.
pub(crate) fn is_empty(body: &Body) -> bool {
    body.is_end_stream()
}

/// The moment until which a request that begins now must be decided.
pub(crate) fn deadline(app: &App) -> Instant {
    Instant::now() + app.settings.request_timeout
}

/// Waits for a step of a request, but not beyond its deadline.
pub(crate) async fn within<T>(deadline: Instant, step: impl Future<Output = T>) -> Result<T, Problem> {
    let late = || Problem::new(StatusCode::GATEWAY_TIMEOUT, "request took longer than its time budget");
    timeout_at(deadline, step).await.map_err(|_| late())
}

/// Who sends a request.
pub(crate) fn actor(parts: &Parts) -> Actor {
    let from = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    from.map_or(Actor::Unknown, |from| Actor::Http(from.0))
}

/// Reads a body up to the limit of the settings.
pub(crate) async fn read(app: &App, parts: &Parts, body: Body, deadline: Instant) -> Result<Vec<u8>, Problem> {
    read_up_to(app.settings.max_body_bytes, parts, body, deadline).await
}

/// Reads a body of at most so many bytes.
pub(crate) async fn read_up_to(most: usize, parts: &Parts, body: Body, deadline: Instant) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let message = format!("request body must have at most {most} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let gather = async {
        let mut read = Vec::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "request body broke off");
            let chunk = chunk.map_err(broken)?;
            if read.len() + chunk.len() > most {
                return Err(too_large());
            }
            read.extend_from_slice(&chunk);
        }
        Ok(read)
    };
    within(deadline, gather).await?
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Appends a string as JSON has it.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    // A Vec takes every write.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes_and_refuses_broken_ones() {
        assert_eq!(percent_decode("a%40b+c", false).as_deref(), Some("a@b+c"));
        assert_eq!(percent_decode("a%2Bb+c", true).as_deref(), Some("a+b c"));
        for broken in ["%", "%4", "%4g", "%+1", "%ff"] {
            assert_eq!(percent_decode(broken, false), None, "{broken}");
        }
    }

    #[test]
    fn accept_must_name_the_type() {
        let accept = |text: &'static str| HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]);
        assert!(accepts(&accept("text/html, Text/Event-Stream;q=0.5"), "text/event-stream"));
        for no in ["*/*", "text/*", "text/event-stream;q=0", "application/json"] {
            assert!(!accepts(&accept(no), "text/event-stream"), "{no}");
        }
    }

    #[test]
    fn a_warning_is_bounded_and_plain() {
        let names: Vec<String> = (0..10).map(|n| format!("{n}\r\n\"é{}", "x".repeat(200))).collect();
        let warning = warning("unknown members kept: ", &names, ", ").unwrap();
        let text = warning.to_str().unwrap();
        assert!(text.len() < 1500, "{text}");
        assert!(text.starts_with("299 trunkline \"unknown members kept: 0????xxx"), "{text}");
        assert!(text.ends_with("x and 2 more\""), "{text}");
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        for text in ["a", "a b/c", "100%", "é?#", "+49"] {
            assert_eq!(percent_decode(&percent_encode(text), false).as_deref(), Some(text));
        }
    }
}
