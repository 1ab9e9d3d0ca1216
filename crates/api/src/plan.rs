//! `/routes`, `/routes/{id}`, `/groups`, `/groups/{id}`: the operator's plan of where calls go.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{ETAG, LOCATION, WARNING};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use registry::{Collection, Command, Edit, Group, Kept, Outcome, Registry, Route, RouteTarget};
use serde_json::Value;

use crate::error::Problem;
use crate::pages::{self, Source, Walk};
use crate::query::{self, Label, Query};
use crate::{App, etag, wire};

const METHODS: &str = "GET, HEAD, PUT, PATCH, DELETE";

/// What routes and groups have in common.
pub(crate) trait Resource: Sized + Send + Sync + 'static {
    const COLLECTION: Collection;
    /// The path of the collection.
    const PATH: &'static str;
    /// The answer to an id that is not there.
    const UNKNOWN: &'static str;
    /// Parameters of the list.
    const PARAMETERS: &'static [&'static str];

    /// Checks an id that was percent-decoded.
    fn check_id(id: &str) -> Result<(), Problem>;
    fn find(registry: &Registry, id: &str) -> Option<Kept<Self>>;
    fn after(registry: &Registry, after: Option<&str>, most: usize) -> Vec<Kept<Self>>;
    fn id(&self) -> &str;
    fn json(&self) -> Value;
    /// What is well-formed and yet likely a mistake, in words.
    fn doubts(&self, registry: &Registry) -> Vec<String>;
    fn wanted(&self, filter: &Filter) -> bool;
}

impl Resource for Route {
    const COLLECTION: Collection = Collection::Routes;
    const PATH: &'static str = "/routes";
    const UNKNOWN: &'static str = "unknown route";
    const PARAMETERS: &'static [&'static str] = &["enabled", "target", "label", "limit", "after"];

    fn check_id(id: &str) -> Result<(), Problem> {
        Ok(registry::validate_id(id)?)
    }

    fn find(registry: &Registry, id: &str) -> Option<Kept<Route>> {
        registry.route(id).cloned()
    }

    fn after(registry: &Registry, after: Option<&str>, most: usize) -> Vec<Kept<Route>> {
        registry.routes_after(after).take(most).cloned().collect()
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn json(&self) -> Value {
        self.to_json()
    }

    fn doubts(&self, registry: &Registry) -> Vec<String> {
        registry.dangling(self)
    }

    fn wanted(&self, filter: &Filter) -> bool {
        let is_named = |target: &RouteTarget, name: &str| match target {
            RouteTarget::Group(id) | RouteTarget::Trunk(id) => &**id == name,
        };
        let target = filter.target.as_deref();
        filter.enabled.is_none_or(|enabled| enabled == self.enabled)
            && target.is_none_or(|name| self.targets.iter().any(|target| is_named(target, name)))
            && filter.label.as_ref().is_none_or(|label| label.is_in(&self.labels))
    }
}

impl Resource for Group {
    const COLLECTION: Collection = Collection::Groups;
    const PATH: &'static str = "/groups";
    const UNKNOWN: &'static str = "no record is kept for this group: it has the defaults";
    const PARAMETERS: &'static [&'static str] = &["label", "limit", "after"];

    fn check_id(id: &str) -> Result<(), Problem> {
        Ok(registry::validate_group(id)?)
    }

    fn find(registry: &Registry, id: &str) -> Option<Kept<Group>> {
        registry.group(id).cloned()
    }

    fn after(registry: &Registry, after: Option<&str>, most: usize) -> Vec<Kept<Group>> {
        registry.groups_after(after).take(most).cloned().collect()
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn json(&self) -> Value {
        self.to_json()
    }

    /// A group may be described before its first trunk registers.
    fn doubts(&self, _: &Registry) -> Vec<String> {
        Vec::new()
    }

    fn wanted(&self, filter: &Filter) -> bool {
        filter.label.as_ref().is_none_or(|label| label.is_in(&self.labels))
    }
}

/// Which records of a list are wanted.
pub(crate) struct Filter {
    enabled: Option<bool>,
    /// A group or a trunk among the targets.
    target: Option<String>,
    label: Option<Label>,
}

pub(crate) async fn record<T: Resource>(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    match parts.method {
        Method::GET | Method::HEAD => read::<T>(app, parts),
        Method::PUT | Method::PATCH => write::<T>(app, parts, body).await,
        Method::DELETE => {
            edit::<T>(app, parts, None).await?;
            Ok(wire::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Problem::method(METHODS)),
    }
}

fn read<T: Resource>(app: &App, parts: &Parts) -> Result<Response, Problem> {
    let (kept, _) = find::<T>(app, &id::<T>(parts)?)?;
    let tag = format!("\"{}\"", kept.etag());
    let mut response = if etag::not_modified(&parts.headers, &tag)? {
        wire::empty(StatusCode::NOT_MODIFIED)
    } else {
        wire::json(StatusCode::OK, render(&kept))
    };
    response.headers_mut().insert(ETAG, etag::value(&tag));
    Ok(response)
}

async fn write<T: Resource>(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    let id = id::<T>(parts)?.into_owned();
    let created = matches!(edit::<T>(app, parts, Some(body)).await?, Outcome::Created { .. });
    let (kept, doubts) = find::<T>(app, &id)?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = wire::json(status, render(&kept));
    let headers = response.headers_mut();
    headers.insert(ETAG, etag::value(&format!("\"{}\"", kept.etag())));
    if let Some(warning) = wire::warning("", &doubts, "; ") {
        headers.insert(WARNING, warning);
    }
    let location = format!("{}/{}", T::PATH, wire::percent_encode(&id));
    if let Ok(location) = HeaderValue::from_str(&location)
        && created
    {
        headers.insert(LOCATION, location);
    }
    Ok(response)
}

async fn edit<T: Resource>(app: &App, parts: &Parts, body: Option<Body>) -> Result<Outcome, Problem> {
    let id = id::<T>(parts)?.into_owned();
    let condition = etag::condition(&parts.headers)?;
    let deadline = wire::deadline(app);
    let edit = match body {
        None => Edit::Delete,
        Some(body) => {
            let body = wire::read(app, parts, body, deadline).await?;
            if parts.method == Method::PUT { Edit::Put(body) } else { Edit::Patch(body) }
        }
    };
    let command = Command::Edit { of: T::COLLECTION, id, edit, condition };
    Ok(wire::within(deadline, app.control.execute(command, &wire::actor(parts))).await??)
}

fn id<T: Resource>(parts: &Parts) -> Result<Cow<'_, str>, Problem> {
    let id = wire::last_segment(parts);
    T::check_id(&id)?;
    Ok(id)
}

fn find<T: Resource>(app: &App, id: &str) -> Result<(Kept<T>, Vec<String>), Problem> {
    let found = app.control.read(|registry, _| {
        let kept = T::find(registry, id)?;
        let doubts = kept.record.doubts(registry);
        Some((kept, doubts))
    });
    found.ok_or_else(|| Problem::not_found(T::UNKNOWN))
}

fn render<T: Resource>(kept: &Kept<T>) -> Vec<u8> {
    // Plain data always serialises.
    serde_json::to_vec(&kept.record.json()).unwrap_or_default()
}

pub(crate) async fn list<T: Resource>(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::method("GET, HEAD"));
    }
    let query = Query::parse(parts, T::PARAMETERS)?;
    let filter = Filter {
        enabled: query::enabled(&query)?,
        target: query.get("target").map(str::to_owned),
        label: query::label(&query)?,
    };
    let limit = query::limit(&query)?;
    // Read before the records are, so it is never too new.
    let tag = format!("W/\"{}\"", app.control.position());
    let mut response = if etag::not_modified(&parts.headers, &tag)? {
        wire::empty(StatusCode::NOT_MODIFIED)
    } else {
        let walk =
            Walk::new(Listed::<T> { app: app.clone(), filter, of: std::marker::PhantomData }, query.get("after"));
        wire::json(StatusCode::OK, pages::body(walk, T::PATH.trim_start_matches('/'), limit).await)
    };
    response.headers_mut().insert(ETAG, etag::value(&tag));
    Ok(response)
}

struct Listed<T> {
    app: Arc<App>,
    filter: Filter,
    of: std::marker::PhantomData<T>,
}

impl<T: Resource> Source for Listed<T> {
    type Entry = Kept<T>;

    fn portion(&self, after: Option<&str>, most: usize) -> Vec<Kept<T>> {
        self.app.control.read(|registry, _| T::after(registry, after, most))
    }

    fn wanted(&self, kept: &Kept<T>) -> bool {
        kept.record.wanted(&self.filter)
    }

    fn id(kept: &Kept<T>) -> &str {
        kept.record.id()
    }

    fn write(&self, kept: &Kept<T>, out: &mut Vec<u8>) {
        out.extend_from_slice(&render(kept));
    }
}
