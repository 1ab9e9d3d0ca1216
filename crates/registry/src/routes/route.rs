//! A route.

use std::sync::Arc;

use crate::routes::Window;
use crate::trunk::Reroute;

/// Names and values that people give records, to find and to prune them by.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// A route as the operator describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its id.
    pub id: Arc<str>,
    /// False: no call matches.
    pub enabled: bool,
    /// Its calls are subject to no limit and no rest.
    pub emergency: bool,
    /// Among routes that are as specific, the lowest wins.
    pub precedence: u32,
    /// Called numbers, of which one must match; empty: any.
    pub called: Box<[Called]>,
    /// What else must hold.
    pub conditions: Option<Box<Conditions>>,
    /// Where its calls go, in order; never empty.
    pub targets: Box<[RouteTarget]>,
    /// What is done to its calls.
    pub treatment: Option<Box<Treatment>>,
    /// For people.
    pub comment: Option<Box<str>>,
    /// For people and for pruning.
    pub labels: Labels,
}

impl Route {
    /// The defaults; it has no targets, so it is no route yet.
    pub(crate) fn usual(id: Arc<str>) -> Route {
        Route {
            id,
            enabled: true,
            emergency: false,
            precedence: 0,
            called: Box::default(),
            conditions: None,
            targets: Box::default(),
            treatment: None,
            comment: None,
            labels: Box::default(),
        }
    }
}

/// A called number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// It begins so; never empty.
    Prefix(Box<str>),
    /// It is this.
    Exact(Box<str>),
}

/// Conditions beside the called number; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Prefixes of the calling number, of which one must match; empty: any.
    pub calling: Box<[Box<str>]>,
    /// The call comes from this trunk.
    pub source_trunk: Option<Box<str>>,
    /// The call comes from a trunk of this group.
    pub source_group: Option<Box<str>>,
    /// Host of the Request-URI, in lower case.
    pub domain: Option<Box<str>>,
    /// When.
    pub time: Option<Window>,
    /// Headers of the request.
    pub headers: Box<[HeaderCondition]>,
    /// `tgrp` of the Request-URI (RFC 4904 §4).
    pub tgrp: Option<Box<str>>,
    /// `trunk-context` of the Request-URI (RFC 4904 §4).
    pub trunk_context: Option<Box<str>>,
}

/// A header that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCondition {
    /// Its name.
    pub name: Box<str>,
    /// The value of one of its lines; none: any.
    pub value: Option<Box<str>>,
}

impl Conditions {
    /// How many are given; of headers each counts.
    pub fn count(&self) -> usize {
        let options = [&self.source_trunk, &self.source_group, &self.domain, &self.tgrp, &self.trunk_context]
            .into_iter()
            .flatten();
        options.count() + usize::from(!self.calling.is_empty()) + usize::from(self.time.is_some()) + self.headers.len()
    }
}

/// Where calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// The trunks of a group, as the group shares load.
    Group(Arc<str>),
    /// One trunk.
    Trunk(Arc<str>),
}

/// What is done to calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Of the called number.
    pub called: Rewrite,
    /// Of the calling number.
    pub calling: Rewrite,
    /// Headers set, in place of all lines of their names.
    pub set: Box<[(Box<str>, Box<str>)]>,
    /// Headers taken out.
    pub remove: Box<[Box<str>]>,
    /// Answers after which the next trunk is tried, in place of the trunk's own.
    pub reroute_on: Option<Reroute>,
    /// A trunk that says nothing at all is given up, in milliseconds.
    pub setup_timeout_ms: Option<u32>,
    /// A trunk that only rings is given up, in milliseconds.
    pub ring_timeout_ms: Option<u32>,
}

/// How a number changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Characters taken from its beginning.
    pub strip: u8,
    /// What is put there then.
    pub prepend: Box<str>,
}

impl Rewrite {
    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.strip == 0 && self.prepend.is_empty()
    }
}
