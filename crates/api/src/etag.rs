//! Conditional requests (RFC 9110 §13).

use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use registry::{Condition, Match};

use crate::error::Problem;

/// What a field of entity tags says; weak tags apart, as only some comparisons heed them.
enum Tags {
    Any,
    Listed { strong: Vec<String>, weak: Vec<String> },
}

/// The conditions of a write.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let if_match = tags(headers, &IF_MATCH)?.map(|tags| match tags {
        Tags::Any => Match::Any,
        // Compared strongly, so a weak tag matches nothing (§13.1.1).
        Tags::Listed { strong, .. } => Match::Tags(strong),
    });
    Ok(Condition { if_match, if_none_match: tags(headers, &IF_NONE_MATCH)?.map(Tags::into_weak) })
}

/// Whether a reader already has what `etag` (in quotes, perhaps weak) names: the answer is 304 then.
pub(crate) fn not_modified(headers: &HeaderMap, etag: &str) -> Result<bool, Problem> {
    let opaque = etag.trim_start_matches("W/").trim_matches('"');
    Ok(match tags(headers, &IF_NONE_MATCH)?.map(Tags::into_weak) {
        None => false,
        Some(Match::Any) => true,
        Some(Match::Tags(tags)) => tags.iter().any(|tag| tag == opaque),
    })
}

/// An `ETag` field's value.
pub(crate) fn value(etag: &str) -> HeaderValue {
    // Ours are made of digits and a few letters.
    HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static("\"\""))
}

impl Tags {
    /// For weak comparison, as `If-None-Match` wants it (§13.1.2).
    fn into_weak(self) -> Match {
        match self {
            Tags::Any => Match::Any,
            Tags::Listed { mut strong, weak } => {
                strong.extend(weak);
                Match::Tags(strong)
            }
        }
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let (mut strong, mut weak) = (Vec::new(), Vec::new());
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| malformed(name))?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        let mut rest = text;
        while !rest.is_empty() {
            let is_weak = rest.starts_with("W/");
            let opened = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"');
            let (tag, after) = opened.and_then(|opened| opened.split_once('"')).ok_or_else(|| malformed(name))?;
            if is_weak { &mut weak } else { &mut strong }.push(tag.to_owned());
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                return Err(malformed(name));
            }
            rest = after.trim_start_matches([',', ' ', '\t']);
        }
    }
    Ok(Some(Tags::Listed { strong, weak }))
}

fn malformed(name: &HeaderName) -> Problem {
    let message = format!("{name} must be * or a list of entity tags in double quotes");
    Problem::bad_request(name.as_str(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_none_match(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(text).unwrap())])
    }

    #[test]
    fn reads_lists_weak_tags_and_the_star() {
        for (field, hit) in [
            ("\"1\"", true),
            ("W/\"1\"", true),
            ("\"0\" ,, W/\"1\"", true),
            ("*", true),
            ("\"2\", \"11\"", false),
            ("", false),
        ] {
            assert_eq!(not_modified(&if_none_match(field), "\"1\"").unwrap(), hit, "{field}");
        }
    }

    #[test]
    fn refuses_what_is_no_list_of_tags() {
        for field in ["1", "\"1", "\"1\" \"2\"", "w/\"1\"", "\"1\", *"] {
            assert!(not_modified(&if_none_match(field), "\"1\"").is_err(), "{field}");
        }
    }

    #[test]
    fn a_weak_tag_never_satisfies_if_match() {
        let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static("W/\"1\""))]);
        assert_eq!(condition(&headers).unwrap().if_match, Some(Match::Tags(Vec::new())));
    }
}
