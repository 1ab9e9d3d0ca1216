//! The HTTP control plane: thin handlers, one file for each resource.
//!
//! A handler turns a request into a command for [`Control`] or a reading of the registry, and the
//! outcome into an answer; what is decided, the registry decides. What the router sees comes in by
//! [`Live`], so this crate knows nothing of SIP.

mod admin;
mod body;
mod calls;
mod error;
mod etag;
mod filter;
mod health;
mod list;
mod stats;
mod trunk;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, put};
use control::Control;

pub use calls::Call;

/// Limits of the listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest request body, in bytes.
    pub max_body_bytes: usize,
    /// Time budget of a request, reading its body included.
    pub request_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { max_body_bytes: 64 * 1024, request_timeout: Duration::from_secs(10) }
    }
}

/// What the router sees.
pub trait Live: Send + Sync {
    /// Channels taken on a trunk.
    fn active_calls(&self, id: &str) -> u32;
    /// Why a trunk gets no calls, as far as the router alone knows: `full 2/2`, `unresolved: …`.
    fn reasons(&self, id: &str) -> Vec<String>;
    /// Standing calls by id, at most `limit`, from after an id on.
    fn calls(&self, limit: usize, after: Option<&str>) -> Vec<Call>;
    /// Whether calls are routed; if not, why.
    fn ready(&self) -> Result<(), String>;
    /// Appends the router's metrics in Prometheus' text format.
    fn encode_metrics(&self, out: &mut String);
}

/// What the handlers share.
pub(crate) struct App {
    pub control: Arc<Control>,
    pub live: Arc<dyn Live>,
    pub settings: Settings,
    pub stats: stats::Stats,
}

impl App {
    /// Appends a record as the API shows it.
    pub fn write_record(&self, view: &registry::View, out: &mut Vec<u8>) {
        let id = &view.trunk.id;
        view.write_json(out, &self.live.reasons(id), self.live.active_calls(id));
    }
}

/// The routes.
pub fn router(control: Arc<Control>, live: Arc<dyn Live>, settings: Settings) -> Router {
    let app = Arc::new(App { control, live, settings, stats: stats::Stats::default() });
    Router::new()
        .route("/trunks", get(list::list))
        .route("/trunks/{id}", put(trunk::put).patch(trunk::patch).get(trunk::get).delete(trunk::delete))
        .route("/trunks/{id}/admin", put(admin::put).get(admin::get).delete(admin::delete))
        .route("/calls", get(calls::list))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(app)
}
