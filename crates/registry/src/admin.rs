//! The operator's intent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::command::Violation;

/// What the operator wants of a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// The intent.
    pub state: AdminState,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the intent ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The intent itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// No new calls, standing calls go on.
    Draining,
    /// Calls as the registrant wants them.
    InService,
    /// No calls.
    OutOfService,
}

/// As stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub state: AdminState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When its trunk was deregistered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deregistered_at: Option<Timestamp>,
}

const STATES: &str = "state must be one of ['draining', 'in_service', 'out_of_service']";

impl Admin {
    /// Whether it still holds.
    pub fn holds(&self, wall: Timestamp) -> bool {
        self.until.is_none_or(|until| wall < until)
    }

    /// As the API shows it.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Admin, Violation> {
        let malformed = || Violation::bad("malformed admin record (expected a JSON object)");
        let value: serde_json::Value = serde_json::from_slice(body).map_err(|_| malformed())?;
        let members = value.as_object().ok_or_else(malformed)?;
        if let Some(unknown) = members.keys().find(|name| !["state", "reason", "until"].contains(&name.as_str())) {
            return Err(Violation::member(unknown, &format!("{unknown} is unknown; expected state, reason or until")));
        }
        let state = match members.get("state").and_then(serde_json::Value::as_str) {
            Some("draining") => AdminState::Draining,
            Some("in_service") => AdminState::InService,
            Some("out_of_service") => AdminState::OutOfService,
            _ => return Err(Violation::member("state", STATES)),
        };
        let reason = match members.get("reason") {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(reason)) if reason.len() <= 1024 => Some(reason.clone()),
            Some(_) => {
                return Err(Violation::member("reason", "reason must be a string of at most 1024 bytes"));
            }
        };
        let expected = || Violation::member("until", "until must be a time such as \"2026-12-01T00:00:00Z\"");
        let until = match members.get("until") {
            None | Some(serde_json::Value::Null) => None,
            Some(value) => Some(value.as_str().and_then(|text| text.parse().ok()).ok_or_else(expected)?),
        };
        Ok(Admin { state, reason, until })
    }

    pub(crate) fn store(&self, deregistered_at: Option<Timestamp>) -> Vec<u8> {
        let stored = Stored { state: self.state, reason: self.reason.clone(), until: self.until, deregistered_at };
        serde_json::to_vec(&stored).unwrap_or_default()
    }
}
