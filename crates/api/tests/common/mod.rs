//! The whole interface over a real store, and a router whose sight the test makes up.
#![allow(dead_code, clippy::unwrap_used)] // not every test uses all of it, and what fails here is a test

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{Call, Live, Settings};
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use control::Control;
use serde_json::Value;
use store::embedded::{Embedded, Options};
use store::{CommitError, Entry, Listing, Revision, Store, StoreError, Watch, WatchError, Write};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tower::ServiceExt;

/// What the router is said to see.
#[derive(Default)]
pub struct Sight {
    pub active: Mutex<HashMap<String, u32>>,
    pub reasons: Mutex<HashMap<String, Vec<String>>>,
    pub calls: Mutex<Vec<Call>>,
    pub failing: Mutex<Option<String>>,
}

impl Live for Sight {
    fn active_calls(&self, id: &str) -> u32 {
        self.active.lock().unwrap().get(id).copied().unwrap_or_default()
    }

    fn reasons(&self, id: &str) -> Vec<String> {
        self.reasons.lock().unwrap().get(id).cloned().unwrap_or_default()
    }

    fn targets(&self, _: &str) -> Option<Box<serde_json::value::RawValue>> {
        None
    }

    fn quality(&self, id: &str, limit: usize, after: Option<&str>) -> Option<Box<serde_json::value::RawValue>> {
        let told = serde_json::json!({ "trunk": id, "limit": limit, "after": after });
        (self.active_calls(id) > 0).then(|| serde_json::value::to_raw_value(&told).unwrap())
    }

    fn quality_of_prefix(&self, id: &str, prefix: &str) -> Option<Box<serde_json::value::RawValue>> {
        let told = serde_json::json!({ "trunk": id, "prefix": prefix });
        (prefix == "+49").then(|| serde_json::value::to_raw_value(&told).unwrap())
    }

    fn calls(&self, limit: usize, after: Option<&str>) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| after.is_none_or(|after| &*call.id > after)).take(limit).cloned().collect()
    }

    fn ended_calls(&self, limit: usize, after: Option<&str>) -> Vec<serde_json::Value> {
        let calls = self.calls.lock().unwrap();
        let older = |call: &&Call| after.is_none_or(|after| &*call.id < after);
        calls.iter().rev().filter(older).take(limit).map(|call| serde_json::json!({ "id": call.id })).collect()
    }

    fn call(&self, id: &str) -> Option<serde_json::Value> {
        let calls = self.calls.lock().unwrap();
        calls.iter().find(|call| call.id == id).map(|call| serde_json::json!({ "id": call.id }))
    }

    fn explain(
        &self,
        question: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<serde_json::Value, Vec<registry::Fault>> {
        let fault = |name: &str| registry::Fault { pointer: format!("/{name}"), message: format!("{name} is wrong") };
        let wrong: Vec<_> = question.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| fault(name)).collect();
        if wrong.is_empty() { Ok(serde_json::json!({ "asked": question })) } else { Err(wrong) }
    }

    fn ready(&self) -> Result<(), String> {
        self.failing.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn encode_metrics(&self, out: &mut String) {
        out.push_str("router_says 1\n");
    }
}

/// A store whose writes can be made to fail, or to take for ever.
pub struct Moody {
    inner: Embedded,
    pub mood: AtomicU8,
}

pub const FAILS: u8 = 1;
pub const HANGS: u8 = 2;

#[async_trait]
impl Store for Moody {
    async fn commit(&self, batch: Vec<Write>) -> Result<Revision, CommitError> {
        match self.mood.load(Relaxed) {
            FAILS => Err(CommitError::Unavailable("disk full".to_owned())),
            HANGS => std::future::pending().await,
            _ => self.inner.commit(batch).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.inner.list(prefix).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, WatchError> {
        self.inner.watch(after).await
    }

    async fn revision(&self) -> Revision {
        self.inner.revision().await
    }
}

pub struct World {
    pub router: Router,
    pub control: Arc<Control>,
    pub sight: Arc<Sight>,
    pub store: Arc<Moody>,
    _dir: TempDir,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl World {
    pub async fn new() -> World {
        World::with(Settings::default(), registry::Settings::default()).await
    }

    pub async fn with(settings: Settings, rules: registry::Settings) -> World {
        let dir = tempfile::tempdir().unwrap();
        let inner = Embedded::open(dir.path(), Options::default()).unwrap();
        let store = Arc::new(Moody { inner, mood: AtomicU8::new(0) });
        let control = Control::open(store.clone(), rules).await.unwrap();
        let sight = Arc::new(Sight::default());
        let router = api::router(control.clone(), sight.clone(), settings);
        World { router, control, sight, store, _dir: dir }
    }

    pub async fn request(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = timeout(Duration::from_secs(20), to_bytes(body, usize::MAX)).await.unwrap().unwrap();
        Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let body = if body.is_empty() { Body::empty() } else { Body::from(body.to_owned()) };
        self.request(build(method, path, headers, body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, &[], body).await
    }

    pub async fn patch(&self, path: &str, body: &str) -> Answer {
        self.send("PATCH", path, &[], body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    /// Opens an event stream.
    pub async fn watch(&self, path: &str, last: Option<&str>) -> Events {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|last| ("last-event-id", last)));
        let response = self.router.clone().oneshot(build("GET", path, &headers, Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { stream: response.into_body().into_data_stream(), pending: String::new() }
    }

    /// Ids of a list.
    pub async fn ids(&self, path: &str) -> Vec<String> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let trunks = answer.json()["trunks"].as_array().unwrap().clone();
        trunks.iter().map(|trunk| trunk["id"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn build(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// An event stream being read.
pub struct Events {
    stream: BodyDataStream,
    pending: String,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: String,
    pub id: Option<String>,
    pub data: Value,
}

impl Events {
    /// The next event; comments and such are passed over.
    pub async fn next(&mut self) -> Event {
        loop {
            while let Some((block, rest)) = self.pending.split_once("\n\n") {
                let field = |name: &str| {
                    let prefix = format!("{name}: ");
                    block.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
                };
                let event = field("event").map(|kind| Event {
                    kind,
                    id: field("id"),
                    data: serde_json::from_str(&field("data").unwrap()).unwrap(),
                });
                self.pending = rest.to_owned();
                if let Some(event) = event {
                    return event;
                }
            }
            let chunk = timeout(Duration::from_secs(30), self.stream.next()).await.expect("an event in time");
            self.pending.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
    }

    /// The next events' kinds and trunks.
    pub async fn take(&mut self, count: usize) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let event = self.next().await;
            taken.push((event.kind, event.data["id"].as_str().unwrap_or_default().to_owned()));
        }
        taken
    }
}

/// For comparison with [`Events::take`].
pub fn told(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(kind, id)| ((*kind).to_owned(), (*id).to_owned())).collect()
}
