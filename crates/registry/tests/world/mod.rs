//! A registry over a store that is a map, at a time that the test sets.
#![allow(dead_code, clippy::unwrap_used)] // not every test uses all of it, and what fails here is a test

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use registry::{
    Command, Condition, Event, EventKind, Expect, Now, Outcome, Registry, Settings, View, Violation, Write,
};
use serde_json::Value;

pub type Stored = (Vec<u8>, u64, u64);

pub struct World {
    pub registry: Registry,
    pub store: BTreeMap<String, Stored>,
    /// Every change, in order.
    pub log: Vec<(String, Option<Stored>)>,
    pub mono_ms: u64,
    revision: u64,
}

impl World {
    pub fn new() -> World {
        World {
            registry: Registry::new(Settings::default()),
            store: BTreeMap::new(),
            log: Vec::new(),
            mono_ms: 0,
            revision: 0,
        }
    }

    pub fn now(&self) -> Now {
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        Now { mono_ms: self.mono_ms, wall: start + SignedDuration::from_millis(self.mono_ms as i64) }
    }

    /// Decides, commits and applies.
    pub fn run(&mut self, command: Command) -> Result<Outcome, Violation> {
        let decision = self.registry.decide(&command, self.now())?;
        self.write(decision.writes);
        Ok(decision.outcome)
    }

    /// Commits and applies.
    pub fn write(&mut self, writes: Vec<Write>) {
        if !writes.is_empty() {
            self.revision += 1;
        }
        for write in writes {
            let found = self.store.get(&write.key).map(|stored| stored.2);
            match write.expect {
                Expect::Any => {}
                Expect::Absent => assert_eq!(found, None),
                Expect::Modified(at) => assert_eq!(found, Some(at)),
            }
            let created = self.store.get(&write.key).map_or(self.revision, |stored| stored.1);
            let stored = write.value.map(|value| (value, created, self.revision));
            match &stored {
                Some(stored) => drop(self.store.insert(write.key.clone(), stored.clone())),
                None => drop(self.store.remove(&write.key)),
            }
            let now = self.now();
            apply(&mut self.registry, &write.key, &stored, now);
            self.log.push((write.key, stored));
        }
    }

    pub fn put(&mut self, id: &str, body: &str) -> Result<Outcome, Violation> {
        self.run(Command::Register { id: id.into(), body: body.into(), condition: Condition::default() })
    }

    pub fn patch(&mut self, id: &str, body: &str) -> Result<Outcome, Violation> {
        self.run(Command::Patch { id: id.into(), body: body.into(), condition: Condition::default() })
    }

    pub fn delete(&mut self, id: &str) -> Result<Outcome, Violation> {
        self.run(Command::Deregister { id: id.into(), condition: Condition::default() })
    }

    pub fn set_admin(&mut self, id: &str, body: &str) -> Result<Outcome, Violation> {
        self.run(Command::SetAdmin { id: id.into(), body: body.into() })
    }

    /// Lets time pass in ticks of 100 ms, carrying out what they order.
    pub fn pass(&mut self, ms: u64) {
        let end = self.mono_ms + ms;
        while self.mono_ms < end {
            self.mono_ms = (self.mono_ms + 100).min(end);
            for order in self.registry.tick(self.now()) {
                self.run(order).unwrap();
            }
        }
    }

    pub fn view(&self, id: &str) -> Option<View> {
        self.registry.view(id, self.now())
    }

    /// The record as the API shows it.
    pub fn record(&self, id: &str) -> Value {
        let mut out = Vec::new();
        self.view(id).unwrap().write_json(&mut out, &[], 0, None);
        serde_json::from_slice(&out).unwrap()
    }

    pub fn events(&mut self) -> Vec<(EventKind, String)> {
        let events = self.registry.take_events();
        events.iter().filter_map(Event::trunk).map(|event| (event.kind, event.id.to_string())).collect()
    }
}

pub fn apply(registry: &mut Registry, key: &str, stored: &Option<Stored>, now: Now) {
    registry.apply(key, stored.as_ref().map(|(value, created, modified)| (&value[..], *created, *modified)), now);
}
