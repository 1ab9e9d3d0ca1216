//! `/trunks` as an event stream: the current set, then every change.
//!
//! A stream begins with `reset` (forget what you know), a `registered` for each trunk of the set, and `synced`; then come
//! changes as they happen. The set is sent in the order of ids while changes go on: the feed is opened before the first
//! trunk is read, so whatever changes meanwhile follows as an event, and readers that keep the latest record of each id
//! end up right. Every id says where to resume: `boot-seq` after a change, `boot-seq/trunk` inside the set.
//!
//! A client that reads slowly holds up nobody: its channel holds a few chunks, and when it falls off the end of the kept
//! events it gets `reset` and the set anew.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use control::{EventId, Feed, Lost};
use registry::{EventKind, View};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::App;
use crate::error::Problem;
use crate::list::Trunks;
use crate::pages::Walk;
use crate::query::{Filter, Query};
use crate::{trunks, wire};

/// Between comments that keep a quiet stream open.
const QUIET: Duration = Duration::from_secs(15);
/// Chunks that wait for a slow client.
const AHEAD: usize = 4;
/// Most clients that watch at once.
const WATCHERS: usize = 4096;

pub(crate) fn handle(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    let query = Query::parse(parts, &Filter::PARAMETERS)?;
    let filter = Filter::parse(&query, None)?;
    let place = Place::of(parts)?;
    let (send, receive) = mpsc::channel(AHEAD);
    if parts.method != Method::HEAD {
        let seat = Seat::take(app).ok_or_else(|| Problem::unavailable("too many clients watch the trunks"))?;
        tokio::spawn(Watcher::new(seat, filter, send).run(place));
    }
    let chunks = ReceiverStream::new(receive).map(Ok::<Bytes, std::convert::Infallible>);
    let mut response = wire::json(StatusCode::OK, Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Where a client stands: after a change, or inside the set.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    after: EventId,
    trunk: Option<String>,
}

impl Place {
    /// From `Last-Event-ID`. An id of another form cannot be resumed from; the client gets the set then.
    fn of(parts: &Parts) -> Result<Option<Place>, Problem> {
        let value = parts.headers.get("last-event-id");
        Ok(value.and_then(|value| value.to_str().ok()?.parse().ok()))
    }
}

impl FromStr for Place {
    type Err = control::InvalidEventId;

    fn from_str(text: &str) -> Result<Place, control::InvalidEventId> {
        let (after, trunk) = match text.split_once('/') {
            Some((after, trunk)) => (after, Some(trunk.to_owned())),
            None => (text, None),
        };
        Ok(Place { after: after.parse()?, trunk })
    }
}

/// One of the seats for watchers, given back when it is dropped.
struct Seat(Arc<App>);

impl Seat {
    fn take(app: &Arc<App>) -> Option<Seat> {
        let seat = Seat(app.clone());
        // Given back by the seat just made if it was one too many.
        (app.metrics.watchers.fetch_add(1, Relaxed) < WATCHERS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.metrics.watchers.fetch_sub(1, Relaxed);
    }
}

/// The client went away.
struct Gone;

struct Watcher {
    seat: Seat,
    filter: Filter,
    send: mpsc::Sender<Bytes>,
    members: Members,
}

impl Watcher {
    fn new(seat: Seat, filter: Filter, send: mpsc::Sender<Bytes>) -> Watcher {
        let members = Members { open: filter.is_open(), ..Members::default() };
        Watcher { seat, filter, send, members }
    }

    /// Feeds one client until it goes away; its end of the channel tells.
    async fn run(mut self, place: Option<Place>) {
        // The channel's error says no more than that.
        let _ = self.serve(place).await;
    }

    async fn serve(&mut self, place: Option<Place>) -> Result<(), Gone> {
        self.send(b"retry: 1000\n\n".to_vec()).await?;
        let mut feed = self.begin(place).await?;
        loop {
            let news = tokio::select! {
                news = timeout(QUIET, feed.next()) => news,
                () = self.send.closed() => return Err(Gone),
            };
            match news {
                Err(_quiet) => self.send(b": still here\n\n".to_vec()).await?,
                Ok(Err(Lost)) => feed = self.begin(None).await?,
                Ok(Ok(events)) => {
                    let mut out = Vec::new();
                    for (id, event) in events {
                        let Some(event) = event.trunk() else { continue };
                        let Some(view) = &event.view else { continue };
                        let gone = event.kind == EventKind::Deregistered;
                        if self.members.concerns(event.kind, &event.id, !gone && self.filter.matches(view)) {
                            self.write(&mut out, event.kind.as_str(), &id.to_string(), Some(view));
                        }
                    }
                    self.send(out).await?;
                }
            }
        }
    }

    /// Takes up where the client stands, or sends the whole set; returns the feed of what follows.
    async fn begin(&mut self, place: Option<Place>) -> Result<Feed, Gone> {
        if let Some(place) = place {
            let feed = self.app().control.events_after(Some(place.after));
            if feed.resumed() {
                // What the client holds is not known: tell it rather once too often of a trunk that leaves.
                self.members.start(true);
                if let Some(trunk) = &place.trunk {
                    self.send_set(&feed, Some(trunk)).await?;
                }
                return Ok(feed);
            }
        }
        let feed = self.app().control.events_after(None);
        self.members.start(false);
        let mut out = Vec::new();
        self.write(&mut out, "reset", "", None);
        self.send(out).await?;
        self.send_set(&feed, None).await?;
        Ok(feed)
    }

    async fn send_set(&mut self, feed: &Feed, after: Option<&str>) -> Result<(), Gone> {
        let position = feed.position().to_string();
        for views in Walk::new(Trunks { app: self.app().clone(), filter: self.filter.clone() }, after) {
            let mut out = Vec::new();
            for view in &views {
                self.members.concerns(EventKind::Registered, &view.trunk.id, true);
                let id = format!("{position}/{}", view.trunk.id);
                self.write(&mut out, EventKind::Registered.as_str(), &id, Some(view));
            }
            self.send(out).await?;
        }
        let mut out = Vec::new();
        self.write(&mut out, "synced", &position, None);
        self.send(out).await
    }

    fn app(&self) -> &Arc<App> {
        &self.seat.0
    }

    fn write(&self, out: &mut Vec<u8>, kind: &str, id: &str, view: Option<&View>) {
        out.extend_from_slice(format!("event: {kind}\n").as_bytes());
        if !id.is_empty() {
            out.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        out.extend_from_slice(b"data: ");
        match view {
            // JSON of ours has no line break; a member that came with one is kept, so it is taken out here.
            Some(view) => {
                let start = out.len();
                trunks::write(self.app(), view, out);
                for byte in &mut out[start..] {
                    if matches!(byte, b'\n' | b'\r') {
                        *byte = b' ';
                    }
                }
            }
            None => out.extend_from_slice(b"{}"),
        }
        out.extend_from_slice(b"\n\n");
    }

    async fn send(&self, chunk: Vec<u8>) -> Result<(), Gone> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.send.send(chunk.into()).await.map_err(|_| Gone)
    }
}

/// Which trunks a filtered client holds, so that it learns of one that no longer passes the filter, once.
#[derive(Default)]
struct Members {
    /// Nothing is filtered: everything concerns the client, and nothing need be remembered.
    open: bool,
    /// What counts for a trunk that has not been seen.
    presumed: bool,
    seen: HashMap<Arc<str>, bool>,
}

impl Members {
    fn start(&mut self, presumed: bool) {
        self.presumed = presumed;
        self.seen.clear();
    }

    /// Whether the client is told of something about a trunk that passes the filter now, or does not.
    fn concerns(&mut self, kind: EventKind, id: &Arc<str>, passes: bool) -> bool {
        if self.open {
            return true;
        }
        let known = self.seen.remove(id).unwrap_or(self.presumed);
        // What is new was held by nobody; so nothing need be remembered of what went, however many come and go.
        let held = known && kind != EventKind::Registered;
        if passes != self.presumed && kind != EventKind::Deregistered {
            self.seen.insert(id.clone(), passes);
        }
        passes || held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trunks_that_come_and_go_leave_nothing_behind() {
        for presumed in [false, true] {
            let mut members = Members::default();
            members.start(presumed);
            for n in 0..100 {
                let id = Arc::from(format!("t{n}"));
                let passes = n % 2 == 0;
                assert_eq!(members.concerns(EventKind::Registered, &id, passes), passes);
                assert_eq!(members.concerns(EventKind::Updated, &id, passes), passes);
                assert_eq!(members.concerns(EventKind::Deregistered, &id, false), passes);
            }
            assert_eq!(members.seen.len(), 0, "presumed {presumed}");
        }
    }

    #[test]
    fn a_resumed_client_is_told_once_of_what_it_may_hold() {
        let mut members = Members::default();
        members.start(true);
        let id = Arc::from("a");
        let told = [EventKind::Updated, EventKind::Updated].map(|kind| members.concerns(kind, &id, false));
        assert_eq!(told, [true, false]);
    }
}
