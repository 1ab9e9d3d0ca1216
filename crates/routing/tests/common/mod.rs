//! Trunks, groups and routes of the tests.

#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use registry::{Called, Conditions, Group, HashOn, Policy, Route, RouteTarget};
use routing::{Ask, Builder, Decision, Facts, Place, RouteTable, Seat, Subject};

/// A trunk of a group.
pub fn facts(group: &str, n: u8) -> Facts {
    Facts {
        sip_uri: format!("sip:10.0.0.{n}"),
        group: group.into(),
        places: vec![Place::udp(([10, 0, 0, n], 5060).into())],
        weight: 100,
        ..Facts::default()
    }
}

pub fn group(id: &str, policy: Policy, hash_on: HashOn) -> Group {
    Group { policy, hash_on, ..Group::new(id.into()) }
}

/// A route of one prefix to one group.
pub fn route(id: &str, prefix: &str, to: &str) -> Route {
    Route {
        id: id.into(),
        enabled: true,
        emergency: false,
        precedence: 0,
        called: if prefix.is_empty() { Box::default() } else { Box::new([Called::Prefix(prefix.into())]) },
        conditions: None,
        targets: Box::new([RouteTarget::Group(to.into())]),
        treatment: None,
        comment: None,
        labels: Box::default(),
    }
}

pub fn when(conditions: Conditions, route: Route) -> Route {
    Route { conditions: Some(Box::new(conditions)), ..route }
}

pub fn builder(trunks: &[(&str, Facts)], routes: &[Route]) -> Builder {
    let mut builder = Builder::new(Vec::new(), Vec::new());
    for (id, facts) in trunks {
        builder.set(id, facts.clone());
    }
    for route in routes {
        builder.set_route(&Arc::new(route.clone()));
    }
    builder
}

pub fn call<'a>(called: &'a str, draw: u64) -> Ask<'a> {
    let subject = Subject { called: called.as_bytes(), ..Subject::default() };
    Ask { begins_call: true, draw, subject, trace: true, ..Ask::default() }
}

pub fn seat(table: &RouteTable, ask: &Ask<'_>) -> Option<Seat> {
    match table.decide(ask) {
        Decision::Trunk { seat, .. } => Some(seat),
        Decision::Nobody(_) => None,
    }
}

pub fn trunk(table: &RouteTable, ask: &Ask<'_>) -> Option<String> {
    seat(table, ask).map(|seat| seat.trunk().id.to_string())
}
