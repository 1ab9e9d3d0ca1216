//! `/trunks`: discovery.
//!
//! The registry is read in portions of a few hundred trunks, each under the lock for a fraction of a millisecond and
//! rendered outside it, so that a list of 100,000 holds up no heartbeat. A long list is rendered as fast as its reader
//! takes it and never stands in memory whole; a trunk that changes meanwhile shows its state of the moment it is passed.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::ETAG;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use registry::View;

use crate::App;
use crate::error::Problem;
use crate::query::{self, Filter, Query};
use crate::{etag, trunks, watch, wire};

/// Most trunks looked at in one holding of the lock.
const PORTION: usize = 256;

pub(crate) async fn handle(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    if wire::accepts(&parts.headers, "text/event-stream") {
        return watch::handle(app, parts);
    }
    let [enabled, transport, status, group] = Filter::PARAMETERS;
    let query = Query::parse(parts, &[enabled, transport, status, group, "limit", "after"])?;
    let filter = Filter::parse(&query, Some(true))?;
    let limit = query::limit(&query)?;
    // Moves with every change of a record, an intent or a status. Read before the trunks are, so it is never too new;
    // weak, because the counts beside them move without it.
    let tag = format!("W/\"{}\"", app.control.position());
    let mut response = if etag::not_modified(&parts.headers, &tag)? {
        wire::empty(StatusCode::NOT_MODIFIED)
    } else {
        let walk = Walk::new(app.clone(), filter, query.get("after")).beginning_with(limit);
        wire::json(StatusCode::OK, body(walk, limit).await)
    };
    response.headers_mut().insert(ETAG, etag::value(&tag));
    Ok(response)
}

async fn body(mut walk: Walk, limit: Option<usize>) -> Body {
    let mut out = b"{\"trunks\":[".to_vec();
    let Some(limit) = limit else {
        let parts = Parted { walk, head: Some(out), first: true, done: false };
        return Body::from_stream(tokio_stream::iter(parts.map(Ok::<_, std::convert::Infallible>)));
    };
    let mut last: Option<View> = None;
    let mut count = 0;
    while let Some(views) = walk.next() {
        for view in views {
            if count == limit {
                // There is more than fits the page.
                out.extend_from_slice(b"],\"next\":");
                wire::push_string(&mut out, last.as_ref().map_or("", |last| &last.trunk.id));
                out.push(b'}');
                return out.into();
            }
            if count > 0 {
                out.push(b',');
            }
            trunks::write(&walk.app, &view, &mut out);
            count += 1;
            last = Some(view);
        }
        // A filter that few trunks pass may walk over many.
        tokio::task::yield_now().await;
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// A walk over the trunks in the order of their ids, portion by portion.
pub(crate) struct Walk {
    app: Arc<App>,
    filter: Filter,
    after: Option<Arc<str>>,
    /// Trunks of the next portion.
    portion: usize,
    ended: bool,
}

impl Walk {
    pub(crate) fn new(app: Arc<App>, filter: Filter, after: Option<&str>) -> Walk {
        Walk { app, filter, after: after.map(Arc::from), portion: PORTION, ended: false }
    }

    /// For a page: looks at no more than that takes if all trunks pass, then at more and more.
    fn beginning_with(mut self, limit: Option<usize>) -> Walk {
        self.portion = limit.map_or(PORTION, |limit| PORTION.min(limit + 1));
        self
    }
}

impl Iterator for Walk {
    type Item = Vec<View>;

    /// The next portion; it may be empty though there is more.
    fn next(&mut self) -> Option<Vec<View>> {
        if self.ended {
            return None;
        }
        let (after, portion) = (self.after.clone(), self.portion);
        self.portion = PORTION.min(2 * portion);
        let mut views: Vec<View> =
            self.app.control.read(|registry, now| registry.views(after.as_deref(), now).take(portion).collect());
        self.ended = views.len() < portion;
        self.after = views.last().map(|view| view.trunk.id.clone());
        views.retain(|view| self.filter.matches(view));
        Some(views)
    }
}

/// A whole list in pieces, made when they are asked for.
struct Parted {
    walk: Walk,
    head: Option<Vec<u8>>,
    first: bool,
    done: bool,
}

impl Iterator for Parted {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = self.head.take().unwrap_or_default();
        // An empty piece says nothing to the client, so go on to one that does.
        while let Some(views) = self.walk.next() {
            for view in &views {
                if !std::mem::take(&mut self.first) {
                    out.push(b',');
                }
                trunks::write(&self.walk.app, view, &mut out);
            }
            if !views.is_empty() && !self.walk.ended {
                return Some(out.into());
            }
        }
        self.done = true;
        out.extend_from_slice(b"]}");
        Some(out.into())
    }
}
