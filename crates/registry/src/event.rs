//! What readers of the registry are told.

use std::sync::Arc;

use crate::state::{Now, Registry};
use crate::view::View;

/// Something that readers of the registry may want to know.
#[derive(Clone, Debug)]
pub struct Event {
    /// Of which kind.
    pub kind: EventKind,
    /// The trunk.
    pub id: Arc<str>,
    /// The trunk as it reads after it; as it last read, when it went.
    pub view: Option<View>,
}

/// Kinds of events, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventKind {
    Deregistered,
    Down,
    Registered,
    Up,
    Updated,
}

impl EventKind {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Deregistered => "deregistered",
            EventKind::Down => "down",
            EventKind::Registered => "registered",
            EventKind::Up => "up",
            EventKind::Updated => "updated",
        }
    }
}

impl Registry {
    pub(crate) fn tell(&mut self, kind: EventKind, id: &Arc<str>, now: Now) {
        let view = self.view(id, now);
        self.events.push(Event { kind, id: id.clone(), view });
    }

    /// What has happened since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
