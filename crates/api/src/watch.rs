//! The watch: the current set, then every change, as server-sent events.
//!
//! The set comes as `registered` events without id, then one `synced` event with the id to resume from;
//! so a client that breaks off in the middle of the set begins anew. A client that falls behind by more
//! than what is kept is sent the set again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use control::{EventId, Feed};
use registry::{EventKind, View};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::App;
use crate::error::ApiError;
use crate::filter::Filter;

/// Events that wait for a slow client; behind them the ring of events keeps more.
const WAITING: usize = 64;
/// Without an event for so long, a comment shows that the connection stands.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

type Sender = mpsc::Sender<Result<Event, Infallible>>;

pub(crate) fn watch(app: &Arc<App>, filter: Filter, headers: &HeaderMap) -> Result<Response, ApiError> {
    let last = match headers.get("last-event-id") {
        // An id that we did not make cannot be resumed from; the set follows.
        Some(id) => id.to_str().ok().and_then(|id| id.parse::<EventId>().ok()),
        None => None,
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let watcher = Watcher { app: app.clone(), filter, shown: HashSet::new(), sender };
    tokio::spawn(watcher.run(last));
    let stream = Sse::new(ReceiverStream::new(receiver));
    Ok(stream.keep_alive(KeepAlive::new().interval(COMMENT_EVERY)).into_response())
}

struct Watcher {
    app: Arc<App>,
    filter: Filter,
    /// With a filter, the trunks that the client has been shown: it hears when one of them fits no more.
    shown: HashSet<Arc<str>>,
    sender: Sender,
}

/// The client has gone.
struct Gone;

impl Watcher {
    async fn run(mut self, last: Option<EventId>) {
        let gone = self.sender.clone();
        tokio::select! {
            _ = self.tell(last) => {}
            () = gone.closed() => {}
        }
    }

    async fn tell(&mut self, last: Option<EventId>) -> Result<(), Gone> {
        let mut feed = self.app.control.events_after(last);
        if !feed.resumed() {
            feed = self.tell_all().await?;
        }
        loop {
            match feed.next().await {
                Ok(events) => {
                    for (id, event) in events {
                        if let Some(view) = &event.view
                            && self.concerns(event.kind, view)
                        {
                            self.send(event.kind.as_str(), Some(id), view).await?;
                        }
                    }
                }
                Err(_) => feed = self.tell_all().await?,
            }
        }
    }

    async fn tell_all(&mut self) -> Result<Feed, Gone> {
        let (views, feed) = self.app.control.read_and_follow(|registry, now| {
            registry.views(None, now).filter(|view| self.filter.fits_now(view)).collect::<Vec<View>>()
        });
        self.shown.clear();
        for view in &views {
            if self.filter.is_narrow() {
                self.shown.insert(view.trunk.id.clone());
            }
            self.send(EventKind::Registered.as_str(), None, view).await?;
        }
        let synced = Event::default().event("synced").id(feed.position().to_string()).data("{}");
        self.sender.send(Ok(synced)).await.map_err(|_| Gone)?;
        Ok(feed)
    }

    fn concerns(&mut self, kind: EventKind, view: &View) -> bool {
        if !self.filter.is_narrow() {
            return true;
        }
        let fits = self.filter.fits(view) && kind != EventKind::Deregistered;
        let was_shown =
            if fits { !self.shown.insert(view.trunk.id.clone()) } else { self.shown.remove(&view.trunk.id) };
        fits || was_shown
    }

    async fn send(&self, kind: &str, id: Option<EventId>, view: &View) -> Result<(), Gone> {
        let mut data = Vec::with_capacity(512);
        self.app.write_record(view, &mut data);
        let mut event = Event::default().event(kind).data(String::from_utf8_lossy(&data));
        if let Some(id) = id {
            event = event.id(id.to_string());
        }
        self.sender.send(Ok(event)).await.map_err(|_| Gone)
    }
}
