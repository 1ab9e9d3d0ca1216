//! `/export`: everything that `/apply` takes, as of one revision.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::ETAG;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use registry::{Group, Route, Trunk};

use crate::App;
use crate::error::Problem;
use crate::query::Query;
use crate::{etag, wire};

/// Records of one piece.
const PIECE: usize = 256;

pub(crate) fn handle(app: &App, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    Query::parse(parts, &[])?;
    // Only the records' places are copied under the lock; they are rendered as the reader takes them.
    let export = app.control.read_at(|registry, revision| Export {
        revision,
        trunks: registry.trunks().cloned().collect::<Vec<_>>().into_iter(),
        groups: registry.groups().cloned().collect::<Vec<_>>().into_iter(),
        routes: registry.routes().cloned().collect::<Vec<_>>().into_iter(),
        stage: Stage::Head,
        first: true,
    });
    let tag = format!("W/\"{}\"", export.revision);
    let mut response = if etag::not_modified(&parts.headers, &tag)? {
        wire::empty(StatusCode::NOT_MODIFIED)
    } else {
        let pieces = tokio_stream::iter(export.map(Ok::<_, std::convert::Infallible>));
        wire::json(StatusCode::OK, Body::from_stream(pieces))
    };
    response.headers_mut().insert(ETAG, etag::value(&tag));
    Ok(response)
}

struct Export {
    revision: u64,
    trunks: std::vec::IntoIter<Arc<Trunk>>,
    groups: std::vec::IntoIter<Arc<Group>>,
    routes: std::vec::IntoIter<Arc<Route>>,
    stage: Stage,
    /// Of its kind.
    first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Trunks,
    Groups,
    Routes,
    Done,
}

impl Export {
    fn record(&mut self, out: &mut Vec<u8>) -> bool {
        let found = match self.stage {
            Stage::Trunks => self.trunks.next().map(|trunk| (trunk.id.clone(), trunk.to_description())),
            Stage::Groups => self.groups.next().map(|group| (group.id.clone(), json(&group.to_given()))),
            Stage::Routes => self.routes.next().map(|route| (route.id.clone(), json(&route.to_given()))),
            Stage::Head | Stage::Done => None,
        };
        let Some((id, record)) = found else { return false };
        if !std::mem::take(&mut self.first) {
            out.push(b',');
        }
        wire::push_string(out, &id);
        out.push(b':');
        out.extend_from_slice(&record);
        true
    }

    /// Ends a kind and begins the next.
    fn go_on(&mut self, out: &mut Vec<u8>) {
        let (next, text) = match self.stage {
            Stage::Head => (Stage::Trunks, format!("{{\"base_revision\":{},\"trunks\":{{", self.revision)),
            Stage::Trunks => (Stage::Groups, "},\"groups\":{".to_owned()),
            Stage::Groups => (Stage::Routes, "},\"routes\":{".to_owned()),
            Stage::Routes | Stage::Done => (Stage::Done, "}}\n".to_owned()),
        };
        self.stage = next;
        self.first = true;
        out.extend_from_slice(text.as_bytes());
    }
}

impl Iterator for Export {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.stage == Stage::Done {
            return None;
        }
        let mut out = Vec::new();
        for _ in 0..PIECE {
            if !self.record(&mut out) {
                self.go_on(&mut out);
            }
            if self.stage == Stage::Done {
                break;
            }
        }
        Some(out.into())
    }
}

fn json(value: &serde_json::Value) -> Vec<u8> {
    // Plain data always serialises.
    serde_json::to_vec(value).unwrap_or_default()
}
