//! Query parameters of `GET /trunks`.

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use registry::{Transport, View};

use crate::error::ApiError;

/// Which trunks are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub enabled: Option<bool>,
    pub transport: Option<Transport>,
    pub group: Option<String>,
    /// `up` is the default; none stands for `any`.
    pub status: Status,
    pub limit: Option<usize>,
    pub after: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    Any,
    Down,
    #[default]
    Up,
}

/// Most entries of one page.
const LONGEST_PAGE: usize = 1000;

impl Filter {
    pub fn parse(uri: &Uri) -> Result<Filter, ApiError> {
        let mut filter = Filter::default();
        for (name, value) in pairs(uri)? {
            match name.as_str() {
                "enabled" => filter.enabled = Some(boolean(&value)?),
                "transport" => {
                    let transport = Transport::parse(&value.to_ascii_lowercase());
                    let expected = || ApiError::bad("transport", "transport must be one of ['tcp', 'tls', 'udp']");
                    filter.transport = Some(transport.ok_or_else(expected)?);
                }
                "group" => filter.group = Some(value),
                "status" => filter.status = status(&value)?,
                "limit" => filter.limit = Some(limit(&value)?),
                "after" => filter.after = Some(value),
                _ => {
                    let known = "enabled, transport, status, group, limit, after";
                    return Err(ApiError::bad(&name, format!("{name} is no filter; expected one of {known}")));
                }
            }
        }
        Ok(filter)
    }

    /// Whether a trunk is asked for, whatever its status.
    pub fn fits(&self, view: &View) -> bool {
        let trunk = &view.trunk;
        self.enabled.is_none_or(|enabled| enabled == trunk.enabled)
            && self.transport.is_none_or(|transport| transport == trunk.transport)
            && self.group.as_ref().is_none_or(|group| group == trunk.group())
    }

    /// Whether it is asked for with the status that it has.
    pub fn fits_now(&self, view: &View) -> bool {
        let status = match self.status {
            Status::Any => true,
            Status::Down => !view.up,
            Status::Up => view.up,
        };
        status && self.fits(view)
    }

    /// Whether it asks for less than all.
    pub fn is_narrow(&self) -> bool {
        self.enabled.is_some() || self.transport.is_some() || self.group.is_some()
    }
}

pub(crate) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let malformed = |_| ApiError::new(StatusCode::BAD_REQUEST, "the query is malformed");
    Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).map_err(malformed)
}

pub(crate) fn limit(value: &str) -> Result<usize, ApiError> {
    let limit = value.parse().ok().filter(|limit| (1..=LONGEST_PAGE).contains(limit));
    limit.ok_or_else(|| ApiError::bad("limit", format!("limit must be an integer, 1 to {LONGEST_PAGE}")))
}

fn boolean(value: &str) -> Result<bool, ApiError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ApiError::bad("enabled", "enabled must be true or false")),
    }
}

fn status(value: &str) -> Result<Status, ApiError> {
    match value {
        "any" => Ok(Status::Any),
        "down" => Ok(Status::Down),
        "up" => Ok(Status::Up),
        _ => Err(ApiError::bad("status", "status must be one of ['any', 'down', 'up']")),
    }
}
