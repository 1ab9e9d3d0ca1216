//! Entity tags and conditions (RFC 9110 §8.8.3, §13.1).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use registry::{Condition, Match, View};

use crate::error::ApiError;

/// The strong tag of a view.
pub(crate) fn tag(view: &View) -> HeaderValue {
    // Quoted digits, dots and letters are always a valid header value.
    HeaderValue::from_str(&format!("\"{}\"", view.etag())).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The conditions of a write.
pub(crate) fn conditions(headers: &HeaderMap) -> Result<Condition, ApiError> {
    let named = |tags: Tags, weak_too: bool| match tags {
        Tags::Any => Match::Any,
        Tags::List(tags) => {
            Match::Tags(tags.into_iter().filter(|tag| weak_too || !tag.weak).map(|tag| tag.text).collect())
        }
    };
    Ok(Condition {
        // Weak tags never match in the strong comparison that If-Match wants.
        if_match: tags(headers, &header::IF_MATCH)?.map(|tags| named(tags, false)),
        if_none_match: tags(headers, &header::IF_NONE_MATCH)?.map(|tags| named(tags, true)),
    })
}

/// Whether a reader has this view already (`If-None-Match`, weak comparison).
pub(crate) fn is_known(headers: &HeaderMap, view: &View) -> Result<bool, ApiError> {
    let own = view.etag();
    Ok(match tags(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::List(tags)) => tags.iter().any(|tag| tag.text == own),
    })
}

enum Tags {
    Any,
    List(Vec<Tag>),
}

struct Tag {
    weak: bool,
    text: String,
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ApiError> {
    let mut list = Vec::new();
    let mut seen = false;
    for value in headers.get_all(name) {
        seen = true;
        let malformed = || ApiError::new(StatusCode::BAD_REQUEST, format!("{name} must be * or a list of quoted tags"));
        let value = value.to_str().map_err(|_| malformed())?;
        for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part == "*" {
                return Ok(Some(Tags::Any));
            }
            let (weak, quoted) = part.strip_prefix("W/").map_or((false, part), |rest| (true, rest));
            let text = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(malformed)?;
            list.push(Tag { weak, text: text.to_owned() });
        }
    }
    Ok(seen.then_some(Tags::List(list)))
}
