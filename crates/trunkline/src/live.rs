//! What the router sees, for the HTTP interface.

use std::sync::{Arc, OnceLock};

use api::Call;
use jiff::Timestamp;
use records::Records;
use registry::Fault;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::account;
use crate::explain::Explainer;
use crate::keeper::Table;
use crate::merit::Merits;
use crate::metrics::Counters;
use crate::recent::Recent;
use crate::recording;
use crate::watch::Watch;

/// The router's side of the answers.
pub struct Live {
    /// The table of now.
    pub table: Table,
    /// Counters of the router.
    pub counters: Arc<Counters>,
    /// What is seen of targets.
    pub watch: Arc<Watch>,
    /// How well trunks complete calls.
    pub merits: Arc<Merits>,
    /// Records of calls, unless the settings want none.
    pub records: Option<Arc<Records>>,
    /// The last calls that have ended.
    pub recent: Arc<Recent>,
    /// Answers what would be.
    pub explainer: Explainer,
    /// The engine, once it runs.
    pub engine: OnceLock<net::Engine>,
}

impl api::Live for Live {
    fn active_calls(&self, id: &str) -> u32 {
        self.table.load().trunk(id).map_or(0, |trunk| trunk.live().active())
    }

    fn reasons(&self, id: &str) -> Vec<String> {
        let now = self.engine.get().map_or(0, |engine| engine.clock().now().0);
        self.table.load().trunk(id).map(|trunk| trunk.reasons_here(now)).unwrap_or_default()
    }

    fn targets(&self, id: &str) -> Option<Box<RawValue>> {
        let stale = self.table.load().trunk(id).is_some_and(|trunk| trunk.facts.stale);
        self.watch.describe(id, stale)
    }

    fn quality(&self, id: &str, limit: usize, after: Option<&str>) -> Option<Box<RawValue>> {
        self.merits.describe(self.table.load().trunk(id)?, limit, after)
    }

    fn quality_of_prefix(&self, id: &str, prefix: &str) -> Option<Box<RawValue>> {
        self.merits.describe_prefix(self.table.load().trunk(id)?, prefix)
    }

    fn calls(&self, limit: usize, after: Option<&str>) -> Vec<Call> {
        let Some(engine) = self.engine.get() else { return Vec::new() };
        let mut calls = engine.calls();
        calls.sort_unstable_by(|a, b| a.call_id.cmp(&b.call_id));
        let start = after.map_or(0, |after| calls.partition_point(|call| call.call_id.as_str() <= after));
        let clock = engine.clock();
        calls
            .drain(start..)
            .take(limit)
            .map(|call| Call {
                since: Timestamp::try_from(clock.wall(call.since)).unwrap_or_default(),
                id: call.call_id,
                from: call.from,
                to: call.to,
                trunk: call.trunk,
                state: call.state,
            })
            .collect()
    }

    fn ended_calls(&self, limit: usize, after: Option<&str>) -> Vec<Value> {
        let Some(engine) = self.engine.get() else { return Vec::new() };
        let calls = self.recent.list(limit, after);
        calls.iter().map(|call| account::summary(call, engine.clock())).collect()
    }

    fn call(&self, id: &str) -> Option<Value> {
        let engine = self.engine.get()?;
        let tell = |call: &proxy::CallRecord| account::tell(call, &self.table.load(), engine.clock());
        engine.call(id).map(|call| tell(&call)).or_else(|| self.recent.find(id).map(|call| tell(&call)))
    }

    fn explain(&self, question: &Map<String, Value>) -> Result<Value, Vec<Fault>> {
        let now = self.engine.get().map_or(0, |engine| engine.clock().now().0);
        self.explainer.explain(&self.table.load(), question, now)
    }

    fn ready(&self) -> Result<(), String> {
        match self.engine.get() {
            Some(engine) if engine.is_running() => self.watch.ready(),
            Some(_) => Err("the SIP router has stopped".to_owned()),
            None => Err("the SIP router is starting".to_owned()),
        }
    }

    fn encode_metrics(&self, out: &mut String) {
        let table = self.table.load();
        self.counters.encode(out, &table, self.engine.get(), &self.watch);
        self.merits.encode(out, &table);
        recording::encode(out, self.records.as_deref());
    }
}
