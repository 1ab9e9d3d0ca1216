//! `/livez`, `/readyz`, `/metrics`.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::App;

/// The process answers; nothing else is asked.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests and calls should come here; names each check that fails.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let checks = [("registry", app.control.ready()), ("router", app.live.ready())];
    let ready = checks.iter().all(|(_, check)| check.is_ok());
    let failing: serde_json::Map<String, serde_json::Value> =
        checks.into_iter().filter_map(|(name, check)| Some((name.to_owned(), check.err()?.into()))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "failing": failing, "revision": app.control.revision() });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Prometheus' text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>, _: HeaderMap) -> Response {
    let mut out = String::with_capacity(4096);
    app.stats.encode(&mut out);
    let (up, down, expiries) = app.control.read(|registry, now| {
        let up = registry.views(None, now).filter(|view| view.up).count();
        (up, registry.len() - up, registry.lease_expiries())
    });
    let _ = writeln!(out, "# HELP trunkline_trunks Registered trunks, by status.\n# TYPE trunkline_trunks gauge");
    let _ = writeln!(out, "trunkline_trunks{{status=\"up\"}} {up}\ntrunkline_trunks{{status=\"down\"}} {down}");
    let _ = writeln!(out, "# HELP trunkline_lease_expiries_total Leases that ran out.");
    let _ = writeln!(out, "# TYPE trunkline_lease_expiries_total counter\ntrunkline_lease_expiries_total {expiries}");
    let _ = writeln!(out, "# HELP trunkline_lease_clock_age_seconds Time since leases were last looked at.");
    let age = app.control.clock_age().as_secs_f64();
    let _ = writeln!(out, "# TYPE trunkline_lease_clock_age_seconds gauge\ntrunkline_lease_clock_age_seconds {age}");
    app.live.encode_metrics(&mut out);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response()
}
