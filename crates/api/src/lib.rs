//! The HTTP control plane: one file per resource, and no decision of its own.
//!
//! Changes go to [`Control::execute`], reads to [`Control::read`]; what the router sees comes through [`Live`]. Each
//! resource is one handler that looks at the method itself, so an answer to a wrong method, a count and an error's form
//! are made in one place, and a heartbeat passes through no layer at all: no timer, no body, no allocation of ours.

mod admin;
mod calls;
mod error;
mod etag;
mod explain;
mod export;
mod health;
mod history;
mod list;
mod metrics;
mod pages;
mod plan;
mod quality;
mod query;
mod together;
mod trunks;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use control::Control;
use registry::Fault;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use self::calls::Call;
use self::error::Problem;
use self::metrics::{Metrics, Path};

/// Limits of the HTTP interface.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The longest body that is read, in bytes.
    pub max_body_bytes: usize,
    /// The longest document that `/apply` reads, in bytes.
    pub max_apply_bytes: usize,
    /// From the first byte of a request's body to the decision; a request over it is answered 504.
    pub request_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { max_body_bytes: 64 * 1024, max_apply_bytes: 4 << 20, request_timeout: Duration::from_secs(10) }
    }
}

/// What the router sees, given by whoever joins the two. Called for every record read: it must be quick.
pub trait Live: Send + Sync {
    /// Standing calls over a trunk; 0 for one that it does not know.
    fn active_calls(&self, id: &str) -> u32;
    /// Why a trunk gets no calls, beyond what the registry knows: `full 2/2`, `unresolved: sbc.example.net`.
    fn reasons(&self, id: &str) -> Vec<String>;
    /// What is known of a trunk's targets: a JSON list; none where nothing is.
    fn targets(&self, id: &str) -> Option<Box<RawValue>>;
    /// How well a trunk completes calls: a JSON object with at most `limit` of its called prefixes, those after `after`; none
    /// for a trunk that it does not know.
    fn quality(&self, id: &str, limit: usize, after: Option<&str>) -> Option<Box<RawValue>>;
    /// The same of one called prefix; none where nothing is counted.
    fn quality_of_prefix(&self, id: &str, prefix: &str) -> Option<Box<RawValue>>;
    /// Standing calls in the order of their ids, those after `after`, at most `limit`.
    fn calls(&self, limit: usize, after: Option<&str>) -> Vec<Call>;
    /// Calls that have ended, from the newest to the oldest, those before the one of `after`; at most `limit`.
    fn ended_calls(&self, limit: usize, after: Option<&str>) -> Vec<Value>;
    /// A standing call, or one that has ended and is still kept: how it went, and why.
    fn call(&self, id: &str) -> Option<Value>;
    /// Where a call would go that nobody has placed, and why.
    ///
    /// # Errors
    /// Every fault of the question.
    fn explain(&self, question: &Map<String, Value>) -> Result<Value, Vec<Fault>>;
    /// Whether calls are taken; if not, why.
    fn ready(&self) -> Result<(), String>;
    /// Appends the router's metrics in the Prometheus text format.
    fn encode_metrics(&self, out: &mut String);
}

/// The whole HTTP interface.
pub fn router(control: Arc<Control>, live: Arc<dyn Live>, settings: Settings) -> Router {
    let app = Arc::new(App { control, live, settings, metrics: Metrics::default() });
    Router::new()
        .route("/trunks", any(trunk_list))
        .route("/trunks/{id}", any(trunk))
        .route("/trunks/{id}/admin", any(trunk_admin))
        .route("/trunks/{id}/quality", any(trunk_quality))
        .route("/routes", any(route_list))
        .route("/routes/explain", any(route_explain))
        .route("/routes/{id}", any(route))
        .route("/groups", any(group_list))
        .route("/groups/{id}", any(group))
        .route("/apply", any(apply))
        .route("/export", any(export))
        .route("/history", any(history_list))
        .route("/rollback", any(rollback))
        .route("/calls", any(call_list))
        .route("/calls/{id}", any(call))
        .route("/livez", any(livez))
        .route("/readyz", any(readyz))
        .route("/metrics", any(metrics_text))
        .fallback(nowhere)
        .with_state(app)
}

/// What every handler shares.
pub(crate) struct App {
    control: Arc<Control>,
    live: Arc<dyn Live>,
    settings: Settings,
    metrics: Metrics,
}

impl App {
    /// Counts an answer, and gives an error the form that the client asked for.
    fn finish(&self, path: Path, request: &Parts, answer: Result<Response, Problem>) -> Response {
        let response = answer.unwrap_or_else(|problem| problem.render(&request.headers));
        self.metrics.count(path, &request.method, response.status());
        response
    }
}

type Shared = State<Arc<App>>;

async fn trunk_list(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = list::handle(&app, &parts).await;
    app.finish(Path::Trunks, &parts, answer)
}

async fn trunk(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = trunks::handle(&app, &parts, body).await;
    app.finish(Path::Trunk, &parts, answer)
}

async fn trunk_admin(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = admin::handle(&app, &parts, body).await;
    app.finish(Path::Admin, &parts, answer)
}

async fn route_list(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = plan::list::<registry::Route>(&app, &parts).await;
    app.finish(Path::Routes, &parts, answer)
}

async fn route(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = plan::record::<registry::Route>(&app, &parts, body).await;
    app.finish(Path::Route, &parts, answer)
}

async fn route_explain(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = explain::handle(&app, &parts, body).await;
    app.finish(Path::Explain, &parts, answer)
}

async fn group_list(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = plan::list::<registry::Group>(&app, &parts).await;
    app.finish(Path::Groups, &parts, answer)
}

async fn group(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = plan::record::<registry::Group>(&app, &parts, body).await;
    app.finish(Path::Group, &parts, answer)
}

async fn trunk_quality(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Quality, &parts, quality::handle(&app, &parts))
}

async fn apply(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = together::apply(&app, &parts, body).await;
    app.finish(Path::Apply, &parts, answer)
}

async fn export(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Export, &parts, export::handle(&app, &parts))
}

async fn history_list(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = history::handle(&app, &parts).await;
    app.finish(Path::History, &parts, answer)
}

async fn rollback(State(app): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = together::rollback(&app, &parts, body).await;
    app.finish(Path::Rollback, &parts, answer)
}

async fn call_list(State(app): Shared, request: Request<Body>) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Calls, &parts, calls::handle(&app, &parts))
}

async fn call(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Call, &parts, calls::read(&app, &parts))
}

async fn livez(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Livez, &parts, health::live(&parts))
}

async fn readyz(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Readyz, &parts, health::ready(&app, &parts))
}

async fn metrics_text(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = metrics::handle(&app, &parts);
    app.finish(Path::Metrics, &parts, answer)
}

async fn nowhere(State(app): Shared, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.finish(Path::Other, &parts, Err(Problem::not_found("no such path")))
}
