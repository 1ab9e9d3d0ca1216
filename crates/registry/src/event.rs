//! What readers of the registry are told, in the order in which it happened.

use std::sync::Arc;

use crate::routes::{Group, Route};
use crate::state::{Now, Registry};
use crate::view::View;

/// Something that readers of the registry may want to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// Of a trunk. Boxed, as a view is many times what the others are.
    Trunk(Box<TrunkEvent>),
    /// Of a route.
    Route {
        /// Its id.
        id: Arc<str>,
        /// As it is now; none when it is gone.
        route: Option<Arc<Route>>,
    },
    /// Of a group's record.
    Group {
        /// Its id.
        id: Arc<str>,
        /// As it is now; none when the group is back to the defaults.
        group: Option<Arc<Group>>,
    },
}

/// What happened to a trunk.
#[derive(Clone, Debug)]
pub struct TrunkEvent {
    /// Of which kind.
    pub kind: EventKind,
    /// The trunk.
    pub id: Arc<str>,
    /// The trunk as it reads after it; as it last read, when it went.
    pub view: Option<View>,
}

/// Kinds of events of trunks, in the words of the API.
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

impl Event {
    /// The trunk's, if it is of one.
    pub fn trunk(&self) -> Option<&TrunkEvent> {
        match self {
            Event::Trunk(event) => Some(event),
            Event::Route { .. } | Event::Group { .. } => None,
        }
    }
}

impl Registry {
    pub(crate) fn tell(&mut self, kind: EventKind, id: &Arc<str>, now: Now) {
        let view = self.view(id, now);
        self.push_trunk(kind, id.clone(), view);
    }

    pub(crate) fn push_trunk(&mut self, kind: EventKind, id: Arc<str>, view: Option<View>) {
        self.events.push(Event::Trunk(Box::new(TrunkEvent { kind, id, view })));
    }

    /// What has happened since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
