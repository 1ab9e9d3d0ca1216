//! From routes and groups to JSON: every member, defaults too, so that what is read may be sent back.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use crate::routes::window::DAYS;
use crate::routes::{Called, Conditions, Group, Labels, Rewrite, Route, RouteTarget, Treatment, Window};

impl Route {
    /// The record as the API shows it.
    pub fn to_json(&self) -> Value {
        let usual = Treatment::default();
        let treatment = self.treatment.as_deref().unwrap_or(&usual);
        let reroute_on = treatment.reroute_on.as_ref().map(crate::trunk::Reroute::to_json);
        let headers = json!({ "set": pairs(&treatment.set), "remove": treatment.remove });
        json!({
            "id": &*self.id,
            "enabled": self.enabled,
            "match": self.match_json(),
            "targets": self.targets.iter().map(RouteTarget::to_json).collect::<Vec<_>>(),
            "rewrite": { "called": rewrite(&treatment.called), "calling": rewrite(&treatment.calling) },
            "headers": headers,
            "reroute_on": reroute_on,
            "setup_timeout_ms": treatment.setup_timeout_ms,
            "ring_timeout_ms": treatment.ring_timeout_ms,
            "emergency": self.emergency,
            "precedence": self.precedence,
            "comment": self.comment,
            "labels": pairs(&self.labels),
        })
    }

    /// What differs from the defaults, without the id: what the store keeps and documents have.
    pub fn to_given(&self) -> Value {
        static USUAL: LazyLock<Value> = LazyLock::new(|| Route::usual(Arc::from("")).to_json());
        given(self.to_json(), &USUAL)
    }

    /// Only what was given.
    fn match_json(&self) -> Value {
        let mut members = self.conditions.as_deref().map(Conditions::members).unwrap_or_default();
        let numbers = |of: fn(&Called) -> Option<&str>| -> Vec<&str> { self.called.iter().filter_map(of).collect() };
        let prefixes = numbers(|called| if let Called::Prefix(number) = called { Some(number) } else { None });
        let exact = numbers(|called| if let Called::Exact(number) = called { Some(number) } else { None });
        for (name, numbers) in [("called_prefix", prefixes), ("called", exact)] {
            if !numbers.is_empty() {
                members.insert(name.to_owned(), one_or_many(&numbers));
            }
        }
        Value::Object(members)
    }
}

impl RouteTarget {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        match self {
            RouteTarget::Group(group) => json!({ "group": &**group }),
            RouteTarget::Trunk(trunk) => json!({ "trunk": &**trunk }),
        }
    }
}

impl Conditions {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        let texts = [
            ("source_trunk", &self.source_trunk),
            ("source_group", &self.source_group),
            ("domain", &self.domain),
            ("tgrp", &self.tgrp),
            ("trunk_context", &self.trunk_context),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                members.insert(name.to_owned(), (&**text).into());
            }
        }
        if !self.calling.is_empty() {
            let numbers: Vec<&str> = self.calling.iter().map(|number| &**number).collect();
            members.insert("calling_prefix".to_owned(), one_or_many(&numbers));
        }
        if let Some(time) = &self.time {
            members.insert("time".to_owned(), time.to_json());
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter();
            let pairs = headers.map(|header| (header.name.to_string(), header.value.as_deref().unwrap_or("*").into()));
            members.insert("headers".to_owned(), Value::Object(pairs.collect()));
        }
        members
    }
}

impl Window {
    fn to_json(&self) -> Value {
        let days = DAYS.iter().enumerate().filter(|(at, _)| self.days & (1 << at) != 0);
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        json!({
            "zone": self.zone.iana_name(),
            "days": days.map(|(_, (name, _))| *name).collect::<Vec<_>>(),
            "from": time(self.from),
            "to": time(self.to),
        })
    }
}

impl Group {
    /// What differs from the defaults, without the id: what the store keeps and documents have.
    pub fn to_given(&self) -> Value {
        static USUAL: LazyLock<Value> = LazyLock::new(|| Group::new(Arc::from("")).to_json());
        given(self.to_json(), &USUAL)
    }

    /// The record as the API shows it.
    pub fn to_json(&self) -> Value {
        let guard = self.guard.map(|guard| {
            json!({
                "failure_share": guard.failure_share,
                "min_calls": guard.min_calls,
                "window_seconds": guard.window_seconds,
                "rest_seconds": guard.rest_seconds,
                "trial_calls": guard.trial_calls,
            })
        });
        json!({
            "id": &*self.id,
            "policy": self.policy.as_str(),
            "hash_on": self.hash_on.to_text(),
            "guard": guard,
            "comment": self.comment,
            "labels": pairs(&self.labels),
        })
    }
}

fn given(record: Value, usual: &Value) -> Value {
    let Value::Object(members) = record else { return record };
    let differs = |(name, value): &(String, Value)| name != "id" && usual.get(name) != Some(value);
    Value::Object(members.into_iter().filter(differs).collect())
}

fn rewrite(rewrite: &Rewrite) -> Value {
    json!({ "strip": rewrite.strip, "prepend": rewrite.prepend })
}

/// Labels, or headers, as an object.
pub(crate) fn pairs(pairs: &Labels) -> Value {
    Value::Object(pairs.iter().map(|(name, value)| (name.to_string(), (&**value).into())).collect())
}

fn one_or_many(texts: &[&str]) -> Value {
    match texts {
        [one] => (*one).into(),
        many => many.into(),
    }
}
