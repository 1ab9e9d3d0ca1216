//! `/trunks`: discovery.

use std::sync::Arc;

use axum::http::header::ETAG;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use registry::View;

use crate::App;
use crate::error::Problem;
use crate::pages::{self, Source, Walk};
use crate::query::{self, Filter, Query};
use crate::{etag, trunks, watch, wire};

pub(crate) async fn handle(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    if wire::accepts(&parts.headers, "text/event-stream") {
        return watch::handle(app, parts);
    }
    let [enabled, transport, status, group, label] = Filter::PARAMETERS;
    let query = Query::parse(parts, &[enabled, transport, status, group, label, "limit", "after"])?;
    let filter = Filter::parse(&query, Some(true))?;
    let limit = query::limit(&query)?;
    // Moves with every change of a record, an intent or a status. Read before the trunks are, so it is never too new;
    // weak, because the counts beside them move without it.
    let tag = format!("W/\"{}\"", app.control.position());
    let mut response = if etag::not_modified(&parts.headers, &tag)? {
        wire::empty(StatusCode::NOT_MODIFIED)
    } else {
        let walk = Walk::new(Trunks { app: app.clone(), filter }, query.get("after"));
        wire::json(StatusCode::OK, pages::body(walk, "trunks", limit).await)
    };
    response.headers_mut().insert(ETAG, etag::value(&tag));
    Ok(response)
}

/// The trunks that pass a filter.
pub(crate) struct Trunks {
    pub(crate) app: Arc<App>,
    pub(crate) filter: Filter,
}

impl Source for Trunks {
    type Entry = View;

    fn portion(&self, after: Option<&str>, most: usize) -> Vec<View> {
        self.app.control.read(|registry, now| registry.views(after, now).take(most).collect())
    }

    fn wanted(&self, view: &View) -> bool {
        self.filter.matches(view)
    }

    fn id(view: &View) -> &str {
        &view.trunk.id
    }

    fn write(&self, view: &View, out: &mut Vec<u8>) {
        trunks::write(&self.app, view, out);
    }
}
