//! What a route asks of the requests that it takes, in the engine's terms.

use std::sync::Arc;

use registry::{Rewrite, Route, Treatment};

/// A route, compiled. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule(Arc<Route>);

impl Rule {
    /// Of a record.
    pub fn new(route: Arc<Route>) -> Rule {
        Rule(route)
    }

    /// The record.
    pub fn route(&self) -> &Arc<Route> {
        &self.0
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.0.id
    }

    /// Its order among routes of the same called number: the lowest wins.
    pub(crate) fn order(&self) -> (std::cmp::Reverse<usize>, u32, &str) {
        (std::cmp::Reverse(self.conditions()), self.0.precedence, &self.0.id)
    }

    /// Conditions beside the called number.
    pub fn conditions(&self) -> usize {
        self.0.conditions.as_ref().map_or(0, |conditions| conditions.count())
    }

    fn treatment(&self) -> Option<&Treatment> {
        self.0.treatment.as_deref()
    }

    /// The called number as it is sent; none where it stays as it came.
    pub fn called(&self, number: &[u8]) -> Option<Vec<u8>> {
        rewritten(&self.treatment()?.called, number)
    }

    /// The calling number as it is sent; none where it stays as it came.
    pub fn calling(&self, number: &[u8]) -> Option<Vec<u8>> {
        rewritten(&self.treatment()?.calling, number)
    }

    /// Headers to set, in place of all lines of their names.
    pub fn headers_set(&self) -> &[(Box<str>, Box<str>)] {
        self.treatment().map(|treatment| &*treatment.set).unwrap_or_default()
    }

    /// Headers to take out.
    pub fn headers_removed(&self) -> &[Box<str>] {
        self.treatment().map(|treatment| &*treatment.remove).unwrap_or_default()
    }

    /// Whether the next trunk is tried after this answer, where the route decides that in place of the trunk.
    pub fn reroutes_on(&self, status: u16, cause: Option<u8>) -> Option<bool> {
        let reroute = self.treatment()?.reroute_on.as_ref()?;
        Some(may_reroute(status) && listed(&reroute.codes, &reroute.causes, status, cause))
    }

    /// Milliseconds until a trunk that says nothing is given up, where the route says so.
    pub fn setup_timeout(&self) -> Option<u64> {
        self.treatment()?.setup_timeout_ms.map(u64::from)
    }

    /// Milliseconds until a trunk that only rings is given up, where the route says so.
    pub fn ring_timeout(&self) -> Option<u64> {
        self.treatment()?.ring_timeout_ms.map(u64::from)
    }

    /// Whether its calls are subject to no limit and no rest.
    pub fn is_emergency(&self) -> bool {
        self.0.emergency
    }
}

fn rewritten(rewrite: &Rewrite, number: &[u8]) -> Option<Vec<u8>> {
    if rewrite.is_identity() {
        return None;
    }
    let kept = number.get(usize::from(rewrite.strip)..).unwrap_or_default();
    Some([rewrite.prepend.as_bytes(), kept].concat())
}

/// Busy and declined (486, 600, 603) and every other 6xx never are rerouted: a person has answered (RFC 3261 §21.6).
pub(crate) fn may_reroute(status: u16) -> bool {
    status < 600 && status != 486
}

/// Whether an answer is among these codes, or its Q.850 cause among these.
pub(crate) fn listed(codes: &[u16], causes: &[u8], status: u16, cause: Option<u8>) -> bool {
    codes.contains(&status) || cause.is_some_and(|cause| causes.contains(&cause))
}
