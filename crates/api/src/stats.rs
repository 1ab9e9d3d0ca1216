//! Counts of requests, one atomic for each route and code.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::HeaderMap;
use axum::response::Response;

use crate::error::ApiError;

/// What is counted apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    Admin,
    Calls,
    DeleteTrunk,
    GetTrunk,
    ListTrunks,
    PatchTrunk,
    PutTrunk,
}

const ROUTES: [(Route, &str); 7] = [
    (Route::Admin, "admin"),
    (Route::Calls, "calls"),
    (Route::DeleteTrunk, "delete_trunk"),
    (Route::GetTrunk, "get_trunk"),
    (Route::ListTrunks, "list_trunks"),
    (Route::PatchTrunk, "patch_trunk"),
    (Route::PutTrunk, "put_trunk"),
];

/// Codes are 100 to 599.
const CODES: usize = 500;

#[derive(Debug)]
pub(crate) struct Stats(Box<[AtomicU64]>);

impl Default for Stats {
    fn default() -> Stats {
        Stats((0..ROUTES.len() * CODES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Stats {
    /// Makes the answer of a result, and counts it.
    pub fn finish(&self, route: Route, headers: &HeaderMap, result: Result<Response, ApiError>) -> Response {
        let response = result.unwrap_or_else(|error| error.render(headers));
        let code = usize::from(response.status().as_u16()).saturating_sub(100).min(CODES - 1);
        self.0[route as usize * CODES + code].fetch_add(1, Relaxed);
        response
    }

    pub fn encode(&self, out: &mut String) {
        let _ = writeln!(out, "# HELP trunkline_http_requests_total HTTP requests, by operation and code.");
        let _ = writeln!(out, "# TYPE trunkline_http_requests_total counter");
        for (route, name) in ROUTES {
            for code in 0..CODES {
                let count = self.0[route as usize * CODES + code].load(Relaxed);
                if count > 0 {
                    let code = code + 100;
                    let _ =
                        writeln!(out, "trunkline_http_requests_total{{operation=\"{name}\",code=\"{code}\"}} {count}");
                }
            }
        }
    }
}
