//! Many changes as one: documents, history and the way back.

use std::collections::BTreeMap;

use registry::{Decision, Document, HistoryEntry, Now, Outcome, Registry, is_record};
use store::{Revision, StoreError};

use crate::change::{Actor, ExecuteError};
use crate::history::Recorded;
use crate::mirror::At;
use crate::{Control, Core};

/// Differences that the words of a conflict name, at most.
const NAMED: usize = 5;

/// What came of a document or a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision since; that of now where nothing was changed.
    pub revision: Revision,
    /// What changed, or would: a line for each record.
    pub difference: Vec<String>,
    /// What is likely a mistake, in words.
    pub doubts: Vec<String>,
}

impl Control {
    /// Makes records as a document describes them, all or none; or tells only what that would change.
    pub async fn apply(&self, document: &Document, actor: &Actor) -> Result<Applied, ExecuteError> {
        let core = &self.core;
        let _turns = core.turns.take_all().await;
        let decide = |registry: &Registry, at: At, now| match document.base_revision {
            Some(base) if at.changed > base => Err(ExecuteError::Conflict(String::new())),
            _ => registry.decide_document(document, now).map_err(ExecuteError::Refused),
        };
        let doubts = core.mirror.read(|registry, _| registry.doubts_of(document));
        match core.bring_about(decide, document.dry_run, actor, "apply").await {
            Ok(applied) => Ok(Applied { doubts, ..applied }),
            Err(ExecuteError::Conflict(_)) => Err(core.conflict(document.base_revision.unwrap_or_default()).await?),
            Err(other) => Err(other),
        }
    }

    /// Makes trunks, groups and routes as they were at a revision; or tells only what that would change.
    pub async fn rollback(&self, to: Revision, dry_run: bool, actor: &Actor) -> Result<Applied, ExecuteError> {
        let core = &self.core;
        let _turns = core.turns.take_all().await;
        let records = core.records_at(to).await?;
        let decide =
            |registry: &Registry, _: At, now| registry.decide_restore(&records, now).map_err(ExecuteError::Refused);
        core.bring_about(decide, dry_run, actor, &format!("rollback to {to}")).await
    }

    /// Changes of revisions below `before`, the newest first, at most `limit`; only those of one record where it is named
    /// (`trunk/a`, `intent/a`, `group/g`, `route/r`).
    pub async fn history(
        &self,
        before: Revision,
        limit: usize,
        record: Option<&str>,
    ) -> Result<Vec<Recorded>, StoreError> {
        let wanted = |entry: &HistoryEntry| record.is_none_or(|named| entry.records().any(|record| record == named));
        self.core.entries(before, limit, wanted).await
    }

    /// Reads the registry together with the revision that it shows. Hold it short: changes wait.
    pub fn read_at<R>(&self, f: impl FnOnce(&Registry, Revision) -> R) -> R {
        self.core.mirror.read_at(|registry, at, _| f(registry, at.applied))
    }
}

impl Core {
    async fn bring_about(
        &self,
        decide: impl Fn(&Registry, At, Now) -> Result<Vec<registry::Write>, ExecuteError>,
        dry_run: bool,
        actor: &Actor,
        cause: &str,
    ) -> Result<Applied, ExecuteError> {
        let decide = |registry: &Registry, at, now| {
            Ok(Decision { writes: decide(registry, at, now)?, outcome: Outcome::Applied })
        };
        let (revision, history) = if dry_run {
            self.mirror.read_at(|registry, at, now| {
                let writes = decide(registry, at, now)?.writes;
                Ok((at.applied, registry.history_of(&writes, &actor.to_string(), cause, now)))
            })?
        } else {
            let made = self.commit(decide, actor, cause).await?;
            (made.revision, made.history)
        };
        let difference = history.map(|entry| entry.difference()).unwrap_or_default();
        Ok(Applied { revision, difference, doubts: Vec::new() })
    }

    /// Says what has changed since a revision.
    async fn conflict(&self, base: Revision) -> Result<ExecuteError, ExecuteError> {
        let changed = self.mirror.read_at(|_, at, _| at.changed);
        let since = self.entries(Revision::MAX, NAMED + 1, HistoryEntry::changes_records).await.map_err(unavailable)?;
        let since = since.into_iter().take_while(|recorded| recorded.revision > base);
        let mut lines: Vec<String> = since
            .flat_map(|recorded| {
                let revision = recorded.revision;
                recorded.entry.difference().into_iter().map(move |line| format!("{line} (revision {revision})"))
            })
            .collect();
        if lines.len() > NAMED {
            lines.truncate(NAMED);
            lines.push("…".to_owned());
        }
        let what = if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) };
        let message = format!("records have changed since revision {base}, last in revision {changed}{what}");
        Ok(ExecuteError::Conflict(message))
    }

    /// The records that have changed since a revision, as they were at it. The caller has all turns.
    async fn records_at(&self, to: Revision) -> Result<BTreeMap<String, Option<Vec<u8>>>, ExecuteError> {
        let (applied, reach) = self.mirror.history(|index, at| (at.applied, index.reach()));
        if to > applied {
            let message = format!("revision {to} is yet to come: the registry is at {applied}");
            return Err(ExecuteError::Conflict(message));
        }
        let gone = |reach: Revision| ExecuteError::Gone(format!("history reaches back to revision {reach} only"));
        if to < reach {
            return Err(gone(reach));
        }
        let mut records = BTreeMap::new();
        let mut before = Revision::MAX;
        loop {
            let places = self.mirror.history(|index, _| index.newest(before, 64));
            for (revision, key) in &places {
                if *revision <= to {
                    return Ok(records);
                }
                let stored = self.store.get(key).await.map_err(unavailable)?;
                // It may have been trimmed since it was looked up.
                let entry =
                    stored.and_then(|stored| HistoryEntry::decode(&stored.value)).ok_or_else(|| gone(*revision))?;
                for change in entry.changes.into_iter().filter(|change| is_record(&change.key)) {
                    let stored = change.before.map(|before| before.get().as_bytes().to_vec());
                    // The oldest is seen last, and it is what was there at that revision.
                    records.insert(change.key, stored);
                }
            }
            match places.last() {
                Some((revision, _)) => before = *revision,
                None => return Ok(records),
            }
        }
    }
}

fn unavailable(why: StoreError) -> ExecuteError {
    ExecuteError::Unavailable(why.to_string())
}
