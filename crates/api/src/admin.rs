//! `/trunks/{id}/admin`: the operator's intent.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use registry::Command;

use crate::App;
use crate::error::Problem;
use crate::wire;

const METHODS: &str = "GET, HEAD, PUT, DELETE";

pub(crate) async fn handle(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    match parts.method {
        Method::GET | Method::HEAD => read(app, &wire::trunk_id(parts)?),
        Method::PUT => {
            let id = wire::trunk_id(parts)?.into_owned();
            let deadline = wire::deadline(app);
            let body = wire::read(app, parts, body, deadline).await?;
            let command = Command::SetAdmin { id: id.clone(), body };
            wire::within(deadline, app.control.execute(command, &wire::actor(parts))).await??;
            read(app, &id)
        }
        Method::DELETE => {
            let id = wire::trunk_id(parts)?.into_owned();
            let command = Command::ClearAdmin { id };
            wire::within(wire::deadline(app), app.control.execute(command, &wire::actor(parts))).await??;
            Ok(wire::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Problem::method(METHODS)),
    }
}

fn read(app: &App, id: &str) -> Result<Response, Problem> {
    let intent = app.control.read(|registry, now| registry.admin(id, now));
    let intent = intent.ok_or_else(|| Problem::not_found("no intent is set for this trunk"))?;
    Ok(wire::json(StatusCode::OK, intent.to_json()))
}
