//! Routes and groups in the registry: the operator's plan of where calls go.
//!
//! They have one writer and no lease, so all that is kept of each is the record and the revision that wrote it.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use serde_json::Value;

use crate::command::{Collection, Condition, Decision, Edit, Expect, Match, Outcome, Violation, Write, validate_id};
use crate::event::Event;
use crate::members;
use crate::routes::{Fault, Group, Route, RouteTarget, parse};
use crate::state::{GROUP, ROUTE, Registry};

/// A record as it is kept.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    /// The record.
    pub record: Arc<T>,
    /// The revision that last changed it.
    pub revision: u64,
}

impl<T> Kept<T> {
    /// Names it for conditional requests, without quotes.
    pub fn etag(&self) -> String {
        self.revision.to_string()
    }
}

/// All records of one collection.
pub(crate) type Records<T> = BTreeMap<Arc<str>, Kept<T>>;

/// What routes and groups have in common.
pub(crate) trait Planned: Sized + PartialEq {
    /// Begins the key in the store.
    const PREFIX: &'static str;
    /// What it is called.
    const NOUN: &'static str;

    fn check_id(id: &str) -> Result<(), Violation>;
    fn read(id: &Arc<str>, value: &Value, pointer: &str) -> Result<Self, Vec<Fault>>;
    fn to_json(&self) -> Value;
    /// Only what differs from the defaults.
    fn to_stored(&self) -> Value;
    fn records(registry: &Registry) -> &Records<Self>;
}

impl Planned for Route {
    const PREFIX: &'static str = ROUTE;
    const NOUN: &'static str = "route";

    fn check_id(id: &str) -> Result<(), Violation> {
        validate_id(id)
    }

    fn read(id: &Arc<str>, value: &Value, pointer: &str) -> Result<Route, Vec<Fault>> {
        parse::route(id, value, pointer)
    }

    fn to_json(&self) -> Value {
        self.to_json()
    }

    fn to_stored(&self) -> Value {
        self.to_given()
    }

    fn records(registry: &Registry) -> &Records<Route> {
        &registry.routes
    }
}

impl Planned for Group {
    const PREFIX: &'static str = GROUP;
    const NOUN: &'static str = "group";

    fn check_id(id: &str) -> Result<(), Violation> {
        parse::validate_group(id)
    }

    fn read(id: &Arc<str>, value: &Value, pointer: &str) -> Result<Group, Vec<Fault>> {
        parse::group(id, value, pointer)
    }

    fn to_json(&self) -> Value {
        self.to_json()
    }

    fn to_stored(&self) -> Value {
        self.to_given()
    }

    fn records(registry: &Registry) -> &Records<Group> {
        &registry.groups
    }
}

impl Registry {
    /// All routes, in the order of their ids.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> {
        self.routes.values().map(|kept| &kept.record)
    }

    /// The routes after an id, in the order of their ids.
    pub fn routes_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Kept<Route>> + use<'a> {
        self.routes.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded)).map(|(_, kept)| kept)
    }

    /// A route.
    pub fn route(&self, id: &str) -> Option<&Kept<Route>> {
        self.routes.get(id)
    }

    /// All groups that have a record, in the order of their ids.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &Arc<Group>> {
        self.groups.values().map(|kept| &kept.record)
    }

    /// The groups after an id, in the order of their ids.
    pub fn groups_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Kept<Group>> + use<'a> {
        self.groups.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded)).map(|(_, kept)| kept)
    }

    /// A group's record.
    pub fn group(&self, id: &str) -> Option<&Kept<Group>> {
        self.groups.get(id)
    }

    /// What a route names that is not there, in words: trunks that are not registered, groups without trunks.
    pub fn dangling(&self, route: &Route) -> Vec<String> {
        self.missing(route, |_| false, |_| false)
    }

    /// The same, where these trunks and groups will be there too.
    pub(crate) fn missing(
        &self,
        route: &Route,
        has_trunk: impl Fn(&str) -> bool,
        has_group: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let conditions = route.conditions.as_deref();
        let trunk_named = |id: &str| {
            (!self.trunks.contains_key(id) && !has_trunk(id)).then(|| format!("trunk {id} is not registered"))
        };
        let group_named =
            |id: &str| (!self.members.contains_key(id) && !has_group(id)).then(|| format!("group {id} has no trunks"));
        let targets = route.targets.iter().filter_map(|target| match target {
            RouteTarget::Group(id) => group_named(id),
            RouteTarget::Trunk(id) => trunk_named(id),
        });
        let source_trunk = conditions.and_then(|given| given.source_trunk.as_deref()).and_then(trunk_named);
        let source_group = conditions.and_then(|given| given.source_group.as_deref()).and_then(group_named);
        let mut found: Vec<String> = targets.chain(source_trunk).chain(source_group).collect();
        found.sort();
        found.dedup();
        found
    }

    pub(crate) fn edit(
        &self,
        of: Collection,
        id: &str,
        edit: &Edit,
        condition: &Condition,
    ) -> Result<Decision, Violation> {
        match of {
            Collection::Groups => self.edit_record::<Group>(id, edit, condition),
            Collection::Routes => self.edit_record::<Route>(id, edit, condition),
        }
    }

    fn edit_record<T: Planned>(&self, id: &str, edit: &Edit, condition: &Condition) -> Result<Decision, Violation> {
        T::check_id(id)?;
        let known = T::records(self).get(id);
        if known.is_none() && matches!(edit, Edit::Patch(_)) {
            return Err(Violation::not_found(&format!("unknown {}", T::NOUN)));
        }
        check(T::NOUN, known, condition)?;
        let key = format!("{}{id}", T::PREFIX);
        let expect = known.map_or(Expect::Absent, |known| Expect::Modified(known.revision));
        let value = match edit {
            Edit::Put(body) => object(T::NOUN, body)?,
            Edit::Patch(body) => {
                let mut value = known.map(|known| known.record.to_json()).unwrap_or_default();
                members::merge_value(&mut value, object(T::NOUN, body)?);
                value
            }
            Edit::Delete => {
                let write = known.map(|_| Write { key, expect, value: None });
                let outcome = if write.is_some() { Outcome::Deleted } else { Outcome::Nothing };
                return Ok(Decision { writes: write.into_iter().collect(), outcome });
            }
        };
        let record = T::read(&Arc::from(id), &value, "").map_err(Violation::faults)?;
        let changed = known.is_none_or(|known| *known.record != record);
        let outcome = match (edit, known) {
            (Edit::Patch(_), _) => Outcome::Patched { changed, unknown: Vec::new() },
            (_, None) => Outcome::Created { unknown: Vec::new() },
            (_, Some(_)) => Outcome::Replaced { unknown: Vec::new() },
        };
        let write = changed.then(|| Write { key, expect, value: Some(store(&record)) });
        Ok(Decision { writes: write.into_iter().collect(), outcome })
    }

    pub(crate) fn apply_route(&mut self, id: &str, entry: Option<(&[u8], u64)>) {
        let Some((id, route)) = apply::<Route>(&mut self.routes, id, entry) else { return };
        self.events.push(Event::Route { id, route });
    }

    pub(crate) fn apply_group(&mut self, id: &str, entry: Option<(&[u8], u64)>) {
        let Some((id, group)) = apply::<Group>(&mut self.groups, id, entry) else { return };
        self.events.push(Event::Group { id, group });
    }
}

/// Takes a record over; what changed, if anything did.
fn apply<T: Planned>(
    records: &mut Records<T>,
    id: &str,
    entry: Option<(&[u8], u64)>,
) -> Option<(Arc<str>, Option<Arc<T>>)> {
    let Some((value, revision)) = entry else {
        return records.remove_entry(id).map(|(id, _)| (id, None));
    };
    let known = records.get_mut(id);
    if known.as_ref().is_some_and(|known| known.revision >= revision) {
        return None;
    }
    let id = Arc::from(id);
    let record = Arc::new(load::<T>(&id, value)?);
    match known {
        Some(known) => *known = Kept { record: record.clone(), revision },
        None => drop(records.insert(id.clone(), Kept { record: record.clone(), revision })),
    }
    Some((id, Some(record)))
}

/// As the store keeps it.
pub(crate) fn store<T: Planned>(record: &T) -> Vec<u8> {
    // Plain data always serialises.
    serde_json::to_vec(&record.to_stored()).unwrap_or_default()
}

/// From the store.
pub(crate) fn load<T: Planned>(id: &Arc<str>, stored: &[u8]) -> Option<T> {
    T::read(id, &serde_json::from_slice(stored).ok()?, "").ok()
}

/// Reads a body; no bytes at all count as `{}`.
fn object(noun: &str, body: &[u8]) -> Result<Value, Violation> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|_| Violation::bad(&format!("malformed {noun} record (invalid JSON)")))?;
    if !value.is_object() {
        return Err(Violation::bad(&format!("{noun} record must be a JSON object")));
    }
    Ok(value)
}

/// Holds a command to its conditions (RFC 9110 §13.2.2).
fn check<T>(noun: &str, known: Option<&Kept<T>>, condition: &Condition) -> Result<(), Violation> {
    let etag = known.map(Kept::etag);
    let names = |named: &Match| match (named, &etag) {
        (_, None) => false,
        (Match::Any, Some(_)) => true,
        (Match::Tags(tags), Some(etag)) => tags.contains(etag),
    };
    let failed = |message: String| Err(Violation::precondition(message));
    if condition.if_match.as_ref().is_some_and(|named| !names(named)) {
        return failed(match &etag {
            Some(etag) => format!("the {noun} has changed: its ETag is \"{etag}\" now"),
            None => format!("there is no such {noun}"),
        });
    }
    match condition.if_none_match.as_ref().filter(|named| names(named)) {
        Some(Match::Any) => failed(format!("the {noun} is there already")),
        Some(Match::Tags(_)) => failed(format!("the {noun} still has this ETag")),
        None => Ok(()),
    }
}
