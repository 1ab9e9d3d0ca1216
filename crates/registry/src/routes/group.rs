//! A group: how the trunks that name it share load.

use std::sync::Arc;

use crate::routes::Labels;

/// A group as the operator describes it. A group without a record is [`Group::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its id: what trunks name in `group`.
    pub id: Arc<str>,
    /// How load is shared inside one priority.
    pub policy: Policy,
    /// What [`Policy::Hash`] is computed from.
    pub hash_on: HashOn,
    /// Takes trunks out that fail too often.
    pub guard: Option<Guard>,
    /// For people.
    pub comment: Option<Box<str>>,
    /// For people and for pruning.
    pub labels: Labels,
}

/// How load is shared inside one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// By weight, smoothly: any run of as many calls as the weights add up to has exactly each trunk's weight of its calls.
    #[default]
    Weighted,
    /// By a hash of the call, so that like calls meet the same trunk; when a trunk leaves, only its share moves.
    Hash,
    /// The fewest active calls for its `max_channels`.
    LeastCalls,
    /// The better of two drawn ones, by post-dial delay and failures.
    Fastest,
}

/// What a hash is computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    /// Call-ID.
    #[default]
    CallId,
    /// User and host of From.
    From,
    /// User and host of the Request-URI.
    To,
    /// A header's value.
    Header(Box<str>),
}

/// When a trunk that fails too often rests, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// Share of failures, above 0 to 1, from which on it rests.
    pub failure_share: f64,
    /// Calls in the window that the share is believed from.
    pub min_calls: u32,
    /// The window, in seconds.
    pub window_seconds: u32,
    /// How long it rests.
    pub rest_seconds: u32,
    /// Good calls in a row, one after another, that bring it back.
    pub trial_calls: u32,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { failure_share: 0.5, min_calls: 20, window_seconds: 60, rest_seconds: 30, trial_calls: 5 }
    }
}

impl Group {
    /// The defaults.
    pub fn new(id: Arc<str>) -> Group {
        Group {
            id,
            policy: Policy::default(),
            hash_on: HashOn::default(),
            guard: None,
            comment: None,
            labels: Box::default(),
        }
    }
}

impl Policy {
    /// All, as the API names them.
    pub(crate) const NAMES: [(&'static str, Policy); 4] = [
        ("fastest", Policy::Fastest),
        ("hash", Policy::Hash),
        ("least_calls", Policy::LeastCalls),
        ("weighted", Policy::Weighted),
    ];

    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        Policy::NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}

impl HashOn {
    /// As the API names it.
    pub fn to_text(&self) -> String {
        match self {
            HashOn::CallId => "call-id".to_owned(),
            HashOn::From => "from".to_owned(),
            HashOn::To => "to".to_owned(),
            HashOn::Header(name) => format!("header:{name}"),
        }
    }
}
