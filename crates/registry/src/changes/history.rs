//! What was changed, by whom, and what was there before.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::apply::store_trunk;
use crate::changes::words;
use crate::command::Write;
use crate::plan;
use crate::state::{ADMIN, GROUP, Now, ROUTE, Registry, TRUNK};

/// The changes of one batch, as they are stored with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// Who asked for it.
    pub actor: String,
    /// By what.
    pub cause: String,
    /// Never none.
    pub changes: Vec<HistoryChange>,
}

/// The change of one record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryChange {
    /// The record's key in the store.
    pub key: String,
    /// The difference; no secret is in it.
    pub words: String,
    /// The record before, as it was stored, with its secrets: for the store alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<RawValue>>,
}

/// Whether a key is that of a trunk's record, a group or a route: what documents describe and a rollback restores.
pub fn is_record(key: &str) -> bool {
    [TRUNK, GROUP, ROUTE].iter().any(|prefix| key.starts_with(prefix))
}

impl HistoryEntry {
    /// From the store.
    pub fn decode(stored: &[u8]) -> Option<HistoryEntry> {
        serde_json::from_slice(stored).ok()
    }

    /// For the store.
    pub fn encode(&self) -> Vec<u8> {
        // Plain data always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The difference, a line for each record: `trunk a: weight 100 → 50`.
    pub fn difference(&self) -> Vec<String> {
        self.changes.iter().map(|change| format!("{}: {}", change.name(), change.words)).collect()
    }

    /// Whether it changed a record, and not intents alone.
    pub fn changes_records(&self) -> bool {
        self.changes.iter().any(|change| is_record(&change.key))
    }

    /// The records, as the API names them: `trunk/a`, `intent/a`.
    pub fn records(&self) -> impl Iterator<Item = String> {
        self.changes.iter().map(HistoryChange::record)
    }
}

impl HistoryChange {
    /// As the API names it.
    pub fn record(&self) -> String {
        match self.key.strip_prefix(ADMIN) {
            Some(id) => format!("intent/{id}"),
            None => self.key.clone(),
        }
    }

    fn name(&self) -> String {
        match self.key.split_once('/') {
            Some(("admin", id)) => format!("intent of trunk {id}"),
            Some((kind, id)) => format!("{kind} {id}"),
            None => self.key.clone(),
        }
    }
}

impl Registry {
    /// What writes change that people may want to know of; none where they change nothing of the kind. They must have
    /// been decided on the state of now.
    pub fn history_of(&self, writes: &[Write], actor: &str, cause: &str, now: Now) -> Option<HistoryEntry> {
        let change = |write: &Write| {
            let tracked = is_record(&write.key) || write.key.starts_with(ADMIN);
            let before = tracked.then(|| self.stored(&write.key)).flatten();
            let words = tracked.then(|| words::between(&write.key, before.as_deref(), write.value.as_deref()))??;
            let before = before.and_then(|stored| RawValue::from_string(String::from_utf8(stored).ok()?).ok());
            Some(HistoryChange { key: write.key.clone(), words, before })
        };
        let changes: Vec<HistoryChange> = writes.iter().filter_map(change).collect();
        let at = Timestamp::from_millisecond(now.wall.as_millisecond()).unwrap_or(now.wall);
        let entry = HistoryEntry { at, actor: actor.to_owned(), cause: cause.to_owned(), changes };
        (!entry.changes.is_empty()).then_some(entry)
    }

    /// A record as it is stored.
    fn stored(&self, key: &str) -> Option<Vec<u8>> {
        let (kind, id) = key.split_at(key.find('/')? + 1);
        match kind {
            TRUNK => self.trunks.get(id).map(|entry| store_trunk(&entry.trunk, entry.registered_at)),
            ADMIN => self.admins.get(id).map(|intent| intent.admin.store(intent.deregistered_at)),
            GROUP => self.groups.get(id).map(|kept| plan::store(&*kept.record)),
            ROUTE => self.routes.get(id).map(|kept| plan::store(&*kept.record)),
            _ => None,
        }
    }
}
