//! A document: trunks, groups and routes as they are to be, all or none of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::command::{Violation, validate_id};
use crate::members::Members;
use crate::parse::{self, Origin};
use crate::plan::Planned;
use crate::routes::check::{Check, escape};
use crate::routes::{Fault, Group, Labels, Route};
use crate::trunk::Trunk;

/// Records as they are to be.
#[derive(Clone, Debug)]
pub struct Document {
    /// The revision that its author has seen: refused where records have changed since.
    pub base_revision: Option<u64>,
    /// Nothing is changed, only the difference told.
    pub dry_run: bool,
    /// Records of its kinds that carry this label and are not in it go.
    pub(crate) prune: Option<(Box<str>, Box<str>)>,
    pub(crate) trunks: Option<Vec<Described>>,
    pub(crate) groups: Option<Vec<Group>>,
    pub(crate) routes: Option<Vec<Route>>,
}

/// A trunk of a document.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub trunk: Trunk,
    /// It registers by SIP and names no password: the one that is known stays.
    pub keeps_password: bool,
}

const MEMBERS: [&str; 6] = ["base_revision", "dry_run", "groups", "prune", "routes", "trunks"];

type Raw = BTreeMap<String, Box<RawValue>>;

impl Document {
    /// Reads a document (JSON). `realm` is that of digests.
    ///
    /// # Errors
    /// Every fault that can be told without the registry.
    pub fn parse(json: &[u8], realm: &str) -> Result<Document, Violation> {
        let malformed =
            |error: serde_json::Error| Violation::bad(&format!("malformed document (invalid JSON): {error}"));
        let raw: &RawValue = serde_json::from_slice(json).map_err(malformed)?;
        let members: Raw = serde_json::from_str(raw.get())
            .map_err(|_| Violation::bad("the document must be an object with trunks, groups or routes"))?;
        let mut faults = Vec::new();
        for name in members.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
            let expected = format!("is unknown; expected one of {}", MEMBERS.join(", "));
            Check::at(&format!("/{}", escape(name)), &mut faults).fault(&expected);
        }
        let plain = |name: &str| {
            let value = members.get(name).map(|raw| serde_json::from_str::<Value>(raw.get()).unwrap_or(Value::Null));
            value.filter(|value| !value.is_null())
        };
        let (base, dry_run, prune) = (plain("base_revision"), plain("dry_run"), plain("prune"));
        let document = Document {
            base_revision: base.and_then(|value| revision(&mut Check::at("/base_revision", &mut faults), &value)),
            dry_run: dry_run.and_then(|value| Check::at("/dry_run", &mut faults).flag(&value)).unwrap_or(false),
            prune: prune.and_then(|value| label(&mut Check::at("/prune", &mut faults), &value)),
            trunks: section(&members, "trunks", &mut faults, |id, raw, pointer, faults| {
                trunk(id, raw, realm, pointer, faults)
            }),
            groups: section(&members, "groups", &mut faults, planned::<Group>),
            routes: section(&members, "routes", &mut faults, planned::<Route>),
        };
        if document.trunks.is_none() && document.groups.is_none() && document.routes.is_none() && faults.is_empty() {
            return Err(Violation::bad("the document must have trunks, groups or routes"));
        }
        if faults.is_empty() { Ok(document) } else { Err(Violation::document(faults)) }
    }

    /// Whether a record that is not in the document goes.
    pub(crate) fn prunes(&self, labels: &Labels) -> bool {
        self.prune.as_ref().is_some_and(|label| labels.contains(label))
    }
}

/// The records of one kind; none where the document says nothing of them.
fn section<T>(
    members: &Raw,
    name: &str,
    faults: &mut Vec<Fault>,
    mut read: impl FnMut(&Arc<str>, &RawValue, &str, &mut Vec<Fault>) -> Option<T>,
) -> Option<Vec<T>> {
    let raw = members.get(name).filter(|raw| raw.get() != "null")?;
    let Ok(records) = serde_json::from_str::<Raw>(raw.get()) else {
        Check::at(&format!("/{name}"), faults).fault("must be an object of ids and records");
        return None;
    };
    let record = |(id, raw): (&String, &RawValue)| {
        read(&Arc::from(id.as_str()), raw, &format!("/{name}/{}", escape(id)), faults)
    };
    Some(records.iter().map(|(id, raw)| (id, &**raw)).filter_map(record).collect())
}

fn trunk(id: &Arc<str>, raw: &RawValue, realm: &str, pointer: &str, faults: &mut Vec<Fault>) -> Option<Described> {
    if let Err(violation) = validate_id(id) {
        Check::at(pointer, faults).say(&violation.message);
        return None;
    }
    let Ok(members) = serde_json::from_str::<Members>(raw.get()) else {
        Check::at(pointer, faults).fault("must be an object of at most 256 members");
        return None;
    };
    let register = members.get("register").and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let keeps_password = register.is_some_and(|register| register.is_object() && register["password"].is_null());
    match parse::trunk(id, &members, Origin::Document { realm }, pointer) {
        Ok(trunk) => Some(Described { trunk, keeps_password }),
        Err(found) => {
            faults.extend(found);
            None
        }
    }
}

fn planned<T: Planned>(id: &Arc<str>, raw: &RawValue, pointer: &str, faults: &mut Vec<Fault>) -> Option<T> {
    if let Err(violation) = T::check_id(id) {
        Check::at(pointer, faults).say(&violation.message);
        return None;
    }
    let Ok(value) = serde_json::from_str::<Value>(raw.get()) else {
        Check::at(pointer, faults).fault("is nested too deeply or out of range");
        return None;
    };
    T::read(id, &value, pointer).map_err(|found| faults.extend(found)).ok()
}

fn revision(check: &mut Check<'_>, value: &Value) -> Option<u64> {
    let revision = value.as_u64();
    if revision.is_none() {
        check.fault("must be a revision: an integer, 0 or more");
    }
    revision
}

fn label(check: &mut Check<'_>, value: &Value) -> Option<(Box<str>, Box<str>)> {
    let label = value.as_str().and_then(|text| text.split_once('=')).filter(|(name, _)| !name.is_empty());
    if label.is_none() {
        check.fault("must be a label such as \"team=x\"");
    }
    label.map(|(name, value)| (name.into(), value.into()))
}
