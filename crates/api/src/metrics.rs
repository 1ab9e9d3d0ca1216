//! `/metrics`: counts of this interface and of the registry; the router adds its own.
//!
//! Written by hand in the Prometheus text format (0.0.4): all series are fixed, so a count is one relaxed atomic in a
//! table and a heartbeat pays for nothing more.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;

use crate::App;
use crate::error::Problem;
use crate::wire;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Resources, as the label names them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    Admin,
    Apply,
    Call,
    Calls,
    Explain,
    Export,
    Group,
    Groups,
    History,
    Livez,
    Metrics,
    Other,
    Quality,
    Readyz,
    Rollback,
    Route,
    Routes,
    Trunk,
    Trunks,
}

const ROUTES: [&str; 19] = [
    "/trunks/{id}/admin",
    "/apply",
    "/calls/{id}",
    "/calls",
    "/routes/explain",
    "/export",
    "/groups/{id}",
    "/groups",
    "/history",
    "/livez",
    "/metrics",
    "other",
    "/trunks/{id}/quality",
    "/readyz",
    "/rollback",
    "/routes/{id}",
    "/routes",
    "/trunks/{id}",
    "/trunks",
];

const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT", "other"];

/// Every code that a handler answers with.
const CODES: [u16; 14] = [200, 201, 204, 304, 400, 404, 405, 409, 410, 412, 413, 500, 503, 504];

/// Requests by route, method and code; watchers of now.
pub(crate) struct Metrics {
    requests: [[[AtomicU64; CODES.len()]; METHODS.len()]; ROUTES.len()],
    pub(crate) watchers: AtomicUsize,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let zeros = || std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
        Metrics { requests: std::array::from_fn(|_| zeros()), watchers: AtomicUsize::new(0) }
    }
}

impl Metrics {
    pub(crate) fn count(&self, route: Path, method: &Method, status: StatusCode) {
        let other = METHODS.len() - 1;
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(other);
        let Some(code) = CODES.iter().position(|code| *code == status.as_u16()) else { return };
        self.requests[route as usize][method][code].fetch_add(1, Relaxed);
    }

    fn encode(&self, out: &mut String) {
        family(out, "trunkline_http_requests_total", "counter", "HTTP requests by route, method and code.");
        for (route, methods) in ROUTES.iter().zip(&self.requests) {
            for (method, codes) in METHODS.iter().zip(methods) {
                for (code, count) in CODES.iter().zip(codes) {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        let labels = format!("route=\"{route}\",method=\"{method}\",code=\"{code}\"");
                        line(out, &format!("trunkline_http_requests_total{{{labels}}}"), count);
                    }
                }
            }
        }
        family(out, "trunkline_http_watchers", "gauge", "Clients that watch the trunks.");
        line(out, "trunkline_http_watchers", self.watchers.load(Relaxed));
    }
}

pub(crate) fn handle(app: &App, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    let mut out = String::with_capacity(4096);
    app.metrics.encode(&mut out);
    let (all, up, expiries, routes, groups) = app.control.read(|registry, _| {
        let (routes, groups) = (registry.routes().len(), registry.groups().len());
        (registry.len(), registry.up(), registry.lease_expiries(), routes, groups)
    });
    family(&mut out, "trunkline_trunks", "gauge", "Registered trunks by status.");
    line(&mut out, "trunkline_trunks{status=\"up\"}", up);
    line(&mut out, "trunkline_trunks{status=\"down\"}", all - up);
    family(&mut out, "trunkline_routes", "gauge", "Routes.");
    line(&mut out, "trunkline_routes", routes);
    family(&mut out, "trunkline_groups", "gauge", "Groups that have a record.");
    line(&mut out, "trunkline_groups", groups);
    family(&mut out, "trunkline_lease_expiries_total", "counter", "Leases that ran out.");
    line(&mut out, "trunkline_lease_expiries_total", expiries);
    family(&mut out, "trunkline_registry_revision", "gauge", "Revision of the registry that readers see.");
    line(&mut out, "trunkline_registry_revision", app.control.revision());
    family(&mut out, "trunkline_lease_clock_age_seconds", "gauge", "Time since leases were last looked at.");
    line(&mut out, "trunkline_lease_clock_age_seconds", app.control.clock_age().as_secs_f64());
    family(&mut out, "trunkline_lease_overdue_seconds", "gauge", "How long the oldest expiry that was due has waited.");
    let overdue = app.control.read(|registry, now| Duration::from_millis(registry.overdue(now)));
    line(&mut out, "trunkline_lease_overdue_seconds", overdue.as_secs_f64());
    app.live.encode_metrics(&mut out);
    let mut response = wire::json(StatusCode::OK, out);
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    Ok(response)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // A String takes every write.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(out: &mut String, series: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{series} {value}");
}
