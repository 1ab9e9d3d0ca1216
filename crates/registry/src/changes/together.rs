//! From records as they are to be to the writes that make them so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::apply::read_trunk;
use crate::changes::document::Document;
use crate::command::{Expect, Outcome, Violation, Write};
use crate::plan::{self, Kept, Planned, Records};
use crate::routes::{Fault, Group, Labels, Route};
use crate::state::{GROUP, Now, ROUTE, Registry, TRUNK};
use crate::trunk::Trunk;

/// Records as they are to be, by id; none is to go.
#[derive(Default)]
struct Wanted {
    trunks: BTreeMap<Arc<str>, Option<Trunk>>,
    groups: BTreeMap<Arc<str>, Option<Group>>,
    routes: BTreeMap<Arc<str>, Option<Route>>,
}

impl Registry {
    /// Realm of digests.
    pub fn realm(&self) -> &str {
        &self.settings.realm
    }

    /// What a document comes to now. A record that is as described is not written, and its lease is not renewed.
    ///
    /// # Errors
    /// Every fault that the registry sees.
    pub fn decide_document(&self, document: &Document, now: Now) -> Result<Vec<Write>, Violation> {
        let mut wanted = Wanted::default();
        let mut faults = Vec::new();
        for described in document.trunks.iter().flatten() {
            let mut trunk = described.trunk.clone();
            if described.keeps_password
                && let Some(register) = &mut trunk.register
            {
                let known = self.trunks.get(&trunk.id).and_then(|entry| entry.trunk.register.as_ref());
                match known.filter(|known| known.username == register.username) {
                    Some(known) => register.ha1 = known.ha1.clone(),
                    None => faults.push(fault(&trunk.id, "password", "register.password is required")),
                }
            }
            wanted.trunks.insert(trunk.id.clone(), Some(trunk));
        }
        wanted.groups.extend(document.groups.iter().flatten().map(|group| (group.id.clone(), Some(group.clone()))));
        wanted.routes.extend(document.routes.iter().flatten().map(|route| (route.id.clone(), Some(route.clone()))));
        if document.prune.is_some() {
            self.prune(document, &mut wanted);
        }
        self.check_usernames(&wanted, &mut faults);
        if faults.is_empty() { Ok(self.bring_about(wanted, now)) } else { Err(Violation::document(faults)) }
    }

    /// What is well-formed in a document and yet likely a mistake, in words: members that nobody knows, routes that name
    /// what will not be there.
    pub fn doubts_of(&self, document: &Document) -> Vec<String> {
        let mut doubts = Vec::new();
        let (mut trunks, mut groups) = (HashSet::new(), HashSet::new());
        for trunk in document.trunks.iter().flatten().map(|described| &described.trunk) {
            trunks.insert(&*trunk.id);
            groups.insert(trunk.group());
            let unknown: Vec<&str> = trunk.extra.iter().map(|(name, _)| name).collect();
            if !unknown.is_empty() {
                doubts.push(format!("trunk {}: unknown members kept: {}", trunk.id, unknown.join(", ")));
            }
        }
        for route in document.routes.iter().flatten() {
            let missing = self.missing(route, |id| trunks.contains(id), |id| groups.contains(id));
            doubts.extend(missing.into_iter().map(|what| format!("route {}: {what}", route.id)));
        }
        doubts
    }

    /// What brings records back to how they were stored; none: they were not there.
    ///
    /// # Errors
    /// One that cannot be read, as a newer version may have written it.
    pub fn decide_restore(
        &self,
        records: &BTreeMap<String, Option<Vec<u8>>>,
        now: Now,
    ) -> Result<Vec<Write>, Violation> {
        let mut wanted = Wanted::default();
        for (key, stored) in records {
            let unreadable = || Violation::bad(&format!("{key} of that time cannot be read"));
            let Some((kind, id)) = key.split_once('/') else { continue };
            let id: Arc<str> = id.into();
            let stored = stored.as_deref();
            match &key[..=kind.len()] {
                TRUNK => {
                    let trunk = stored.map(|stored| read_trunk(&id, stored).map(|(trunk, _)| trunk));
                    wanted.trunks.insert(id, trunk.map(|read| read.ok_or_else(unreadable)).transpose()?);
                }
                GROUP => {
                    let group = stored.map(|stored| plan::load(&id, stored).ok_or_else(unreadable)).transpose()?;
                    wanted.groups.insert(id, group);
                }
                ROUTE => {
                    let route = stored.map(|stored| plan::load(&id, stored).ok_or_else(unreadable)).transpose()?;
                    wanted.routes.insert(id, route);
                }
                _ => {}
            }
        }
        Ok(self.bring_about(wanted, now))
    }

    /// Adds what carries the document's label and is not in it, among the kinds that it has.
    fn prune(&self, document: &Document, wanted: &mut Wanted) {
        fn add<T>(into: &mut BTreeMap<Arc<str>, Option<T>>, gone: impl Iterator<Item = Arc<str>>) {
            for id in gone {
                into.entry(id).or_insert(None);
            }
        }
        let goes = |labels: &Labels| document.prunes(labels);
        if document.trunks.is_some() {
            let carried = self.trunks.values().filter(|entry| goes(&entry.trunk.labels));
            add(&mut wanted.trunks, carried.map(|entry| entry.trunk.id.clone()));
        }
        if document.groups.is_some() {
            let carried = self.groups.values().filter(|kept| goes(&kept.record.labels));
            add(&mut wanted.groups, carried.map(|kept| kept.record.id.clone()));
        }
        if document.routes.is_some() {
            let carried = self.routes.values().filter(|kept| goes(&kept.record.labels));
            add(&mut wanted.routes, carried.map(|kept| kept.record.id.clone()));
        }
    }

    /// A username stands for one trunk once all is as wanted.
    fn check_usernames(&self, wanted: &Wanted, faults: &mut Vec<Fault>) {
        let mut holders: HashMap<&str, &str> = HashMap::new();
        for trunk in wanted.trunks.values().flatten() {
            let Some(register) = &trunk.register else { continue };
            let known = self.usernames.get(&register.username).into_iter().flatten();
            let elsewhere = known.filter(|id| **id != trunk.id).any(|id| !wanted.trunks.contains_key(id));
            let before = holders.insert(&register.username, &trunk.id);
            if elsewhere || before.is_some() {
                faults.push(fault(&trunk.id, "username", "register.username is taken by another trunk"));
            }
        }
    }

    fn bring_about(&self, wanted: Wanted, now: Now) -> Vec<Write> {
        let mut writes = Vec::new();
        for (id, trunk) in wanted.trunks {
            match (self.trunks.get(&id), trunk) {
                (Some(entry), Some(trunk)) if is_same(&entry.trunk, &trunk) => {}
                (Some(entry), Some(trunk)) => writes.extend(self.replace(entry, &trunk, now)),
                (None, Some(trunk)) => writes.extend(self.create(&trunk, now)),
                (Some(entry), None) => writes.extend(self.remove(entry, Outcome::Deregistered, now).writes),
                (None, None) => {}
            }
        }
        writes.extend(wanted.groups.into_iter().filter_map(|(id, group)| planned(&self.groups, &id, group)));
        writes.extend(wanted.routes.into_iter().filter_map(|(id, route)| planned(&self.routes, &id, route)));
        writes
    }
}

fn planned<T: Planned>(records: &Records<T>, id: &str, wanted: Option<T>) -> Option<Write> {
    let known = records.get(id);
    let same = match (known, &wanted) {
        (Some(known), Some(wanted)) => *known.record == *wanted,
        (known, wanted) => known.is_none() && wanted.is_none(),
    };
    let expect = known.map_or(Expect::Absent, |known: &Kept<T>| Expect::Modified(known.revision));
    let write = || Write { key: format!("{}{id}", T::PREFIX), expect, value: wanted.as_ref().map(plan::store) };
    (!same).then(write)
}

/// Whether two records say the same; members that the registry does not know may be written in other ways.
fn is_same(a: &Trunk, b: &Trunk) -> bool {
    let value = |trunk: &Trunk| serde_json::to_value(trunk.to_members(true)).ok();
    a == b || value(a) == value(b)
}

fn fault(id: &str, member: &str, message: &str) -> Fault {
    let id = crate::routes::check::escape(id);
    Fault { pointer: format!("/trunks/{id}/register/{member}"), message: message.to_owned() }
}
