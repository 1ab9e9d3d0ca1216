//! `/apply` and `/rollback`: many changes as one.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WARNING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use control::Applied;
use registry::Document;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::App;
use crate::error::Problem;
use crate::wire;

/// What came of it.
#[derive(Serialize)]
struct Answer<'a> {
    revision: u64,
    dry_run: bool,
    changed: usize,
    difference: &'a [String],
    warnings: &'a [String],
}

/// Where to go back to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    revision: u64,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn apply(app: &Arc<App>, parts: &Parts, body: Body) -> Result<Response, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method("POST"));
    }
    let deadline = wire::deadline(app);
    let body = wire::read_up_to(app.settings.max_apply_bytes, parts, body, deadline).await?;
    let yaml = is_yaml(&parts.headers);
    let (shared, actor) = (app.clone(), wire::actor(parts));
    // Neither the reading of megabytes nor a client that goes away in the middle may hold up or tear anything.
    let work = tokio::spawn(async move {
        let realm = shared.control.read(|registry, _| registry.realm().to_owned());
        let read = move || Document::parse(&if yaml { from_yaml(&body)? } else { body }, &realm).map_err(Problem::from);
        let document = tokio::task::spawn_blocking(read).await.map_err(broken)??;
        let applied = shared.control.apply(&document, &actor).await?;
        Ok::<_, Problem>((document.dry_run, applied))
    });
    let (dry_run, applied) = wire::within(deadline, work).await?.map_err(broken)??;
    Ok(answer(dry_run, &applied))
}

pub(crate) async fn rollback(app: &Arc<App>, parts: &Parts, body: Body) -> Result<Response, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method("POST"));
    }
    let deadline = wire::deadline(app);
    let body = wire::read(app, parts, body, deadline).await?;
    let back: Back = serde_json::from_slice(&body).map_err(|error| {
        let expected = "expected {\"revision\": 42, \"dry_run\": false}";
        Problem::new(StatusCode::BAD_REQUEST, format!("malformed rollback: {error}; {expected}"))
    })?;
    let (shared, actor) = (app.clone(), wire::actor(parts));
    let work = tokio::spawn(async move { shared.control.rollback(back.revision, back.dry_run, &actor).await });
    let applied = wire::within(deadline, work).await?.map_err(broken)??;
    Ok(answer(back.dry_run, &applied))
}

fn answer(dry_run: bool, applied: &Applied) -> Response {
    let body = Answer {
        revision: applied.revision,
        dry_run,
        changed: applied.difference.len(),
        difference: &applied.difference,
        warnings: &applied.doubts,
    };
    // Texts and numbers always serialise.
    let mut response = wire::json(StatusCode::OK, serde_json::to_vec(&body).unwrap_or_default());
    if let Some(warning) = wire::warning("", &applied.doubts, "; ") {
        response.headers_mut().insert(WARNING, warning);
    }
    response
}

fn broken(error: tokio::task::JoinError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the change was broken off: {error}"))
}

/// Whether a body says that it is YAML (RFC 9512, and what was in use before it).
fn is_yaml(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(&*kind, "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml") || kind.ends_with("+yaml")
}

/// YAML as JSON. What expands beyond all measure is refused by the reader's own budget.
fn from_yaml(text: &[u8]) -> Result<Vec<u8>, Problem> {
    let options = serde_saphyr::options! { with_snippet: false, reject_non_finite_typeless_float: true };
    let value: Value = serde_saphyr::from_slice_with_options(text, options).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("malformed document (invalid YAML): {error}"))
    })?;
    // What was read as data can be written as data.
    Ok(serde_json::to_vec(&value).unwrap_or_default())
}
