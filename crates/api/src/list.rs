//! `GET /trunks`: the live set, whole or in pages; or, as `text/event-stream`, the watch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use registry::View;

use crate::error::ApiError;
use crate::filter::Filter;
use crate::stats::Route;
use crate::{App, watch};

/// Trunks that are read at once: changes wait no longer than that takes.
const CHUNK: usize = 256;

pub(crate) async fn list(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let streams = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let result = match Filter::parse(&uri) {
        Err(error) => Err(error),
        Ok(filter) if streams => watch::watch(&app, filter, &headers),
        Ok(filter) => page(&app, filter),
    };
    app.stats.finish(Route::ListTrunks, &headers, result)
}

fn page(app: &Arc<App>, filter: Filter) -> Result<Response, ApiError> {
    let mut pages =
        Pages { app: app.clone(), left: filter.limit, after: filter.after.clone(), filter, state: Place::Begin };
    // Most answers fit one piece; only a long one is worth a stream.
    let first = pages.next().unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    if pages.state == Place::End {
        return Ok((StatusCode::OK, kind, first).into_response());
    }
    let rest = std::iter::once(first).chain(pages).map(Ok::<_, std::convert::Infallible>);
    Ok((StatusCode::OK, kind, Body::from_stream(tokio_stream::iter(rest))).into_response())
}

/// The answer in pieces, each read when the one before has been taken.
struct Pages {
    app: Arc<App>,
    filter: Filter,
    left: Option<usize>,
    after: Option<String>,
    state: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    Middle,
    End,
}

impl Iterator for Pages {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = match self.state {
            Place::Begin => b"{\"trunks\":[".to_vec(),
            Place::Middle => Vec::new(),
            Place::End => return None,
        };
        let mut first = self.state == Place::Begin;
        let wanted = self.left.map_or(CHUNK, |left| left.min(CHUNK));
        let (views, last_seen, more) = self.read(wanted);
        for view in &views {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.app.write_record(view, &mut out);
        }
        if let Some(left) = &mut self.left {
            *left -= views.len();
        }
        self.after = last_seen.or(self.after.take());
        self.state = if views.is_empty() && self.state == Place::Begin { Place::Begin } else { Place::Middle };
        if self.left == Some(0) || !more {
            out.push(b']');
            if more && let Some(last) = views.last() {
                out.extend_from_slice(format!(",\"next\":\"{}\"", last.trunk.id).as_bytes());
            }
            out.push(b'}');
            self.state = Place::End;
        }
        Some(out)
    }
}

impl Pages {
    /// The next trunks that fit, the id up to which all were looked at, and whether another one that fits follows.
    fn read(&self, wanted: usize) -> (Vec<View>, Option<String>, bool) {
        self.app.control.read(|registry, now| {
            let mut fitting = registry.views(self.after.as_deref(), now).filter(|view| self.filter.fits_now(view));
            let views: Vec<View> = fitting.by_ref().take(wanted).collect();
            let last = views.last().map(|view| view.trunk.id.to_string());
            (views, last, fitting.next().is_some())
        })
    }
}
