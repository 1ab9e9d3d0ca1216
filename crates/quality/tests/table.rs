//! The code does what the tables of `docs/quality.md` say.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use quality::{Attempt, Class, Gate, Guards, Outcome, Rules, State};

const DOCUMENT: &str = include_str!("../../../docs/quality.md");

fn table<const N: usize>(heading: &str) -> Vec<[String; N]> {
    let table = DOCUMENT.split(heading).nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap()
    })
    .collect()
}

#[test]
fn every_end_has_the_class_that_the_table_says() {
    let rows = table::<2>("| Code | Class |");
    assert!(rows.len() >= 10);
    let fits = |cell: &str, outcome: Outcome, rang: bool| {
        let (codes, after_ringing) = match cell.strip_suffix(" after ringing") {
            Some(codes) => (codes, true),
            None => (cell, false),
        };
        rang >= after_ringing
            && codes.split(", ").any(|code| match (outcome, code.split_once('–')) {
                (Outcome::Answer(status), Some((from, to))) => {
                    (from.parse().unwrap()..=to.parse().unwrap()).contains(&status)
                }
                _ => code == "any other" || outcome.to_string() == code,
            })
    };
    let answers = (200..700).map(Outcome::Answer);
    for outcome in answers.chain([Outcome::Timeout, Outcome::Unsent]) {
        for delay in [None, Some(100)] {
            let expected = &rows.iter().find(|[codes, _]| fits(codes, outcome, delay.is_some())).unwrap()[1];
            let class = match (Attempt { began: 0, outcome, delay }).class() {
                Class::Answered => "answered",
                Class::Effective => "effective",
                Class::Failed => "failed",
                Class::Refused => "refused",
                Class::Passing => "passing",
            };
            assert_eq!(class, expected, "{outcome} {delay:?}");
        }
    }
}

/// What decides, besides state and event.
struct Facts {
    calls: u32,
    failed: u32,
    goods: u32,
    place: bool,
    rules: Rules,
}

fn expected(rows: &[[String; 4]], state: &str, event: &str, facts: &Facts) -> String {
    let rules = &facts.rules;
    let bad = f64::from(facts.failed) >= rules.failure_share * f64::from(facts.calls);
    let holds = |condition: &str| {
        condition.split(", ").all(|part| match part {
            "" => true,
            "calls < min_calls" => facts.calls < rules.min_calls,
            "calls ≥ min_calls" => facts.calls >= rules.min_calls,
            "share < failure_share" => !bad,
            "share ≥ failure_share" => bad,
            "place" => facts.place,
            "no place" => !facts.place,
            "goods + 1 < trial_calls" => facts.goods + 1 < rules.trial_calls,
            "goods + 1 ≥ trial_calls" => facts.goods + 1 >= rules.trial_calls,
            other => panic!("the table has a condition that this test does not know: {other}"),
        })
    };
    let named = |row: &str| row == event || (row == "call ended" && event.starts_with("call "));
    let fits: Vec<_> = rows
        .iter()
        .filter(|[of, what, condition, _]| of == state && named(what) && holds(condition))
        .map(|row| &row[3])
        .collect();
    assert_eq!(fits.len(), 1, "{state}, {event}: not one row but {fits:?}");
    fits[0].clone()
}

/// Three trunks of a group, one of which is watched, and what is known of it without its guard.
struct Scene {
    rows: Vec<[String; 4]>,
    rules: Rules,
    guards: Guards,
    gates: [Arc<Gate>; 3],
    /// The window of `a`: when, failed.
    ended: VecDeque<(u64, bool)>,
    now: u64,
}

impl Scene {
    fn new(rules: Rules) -> Scene {
        let mut guards = Guards::new(|at| at.to_string());
        let gates = <[Arc<Gate>; 3]>::default();
        guards.set_rules("g", Some(rules), 0);
        for (id, gate) in ["a", "b", "c"].iter().zip(&gates) {
            guards.set(id, "g", true, gate, 0);
        }
        let rows = table::<4>("| State | Event | Condition | Next |");
        Scene { rows, rules, guards, gates, ended: VecDeque::new(), now: 1000 }
    }

    fn state(&self) -> State {
        self.guards.status("a", self.now).unwrap().state
    }

    fn expected(&self, state: State, event: &str, place: bool) -> String {
        let facts = Facts {
            calls: self.ended.len() as u32,
            failed: self.ended.iter().filter(|(_, failed)| *failed).count() as u32,
            goods: if let State::Trial { goods } = state { goods } else { 0 },
            place,
            rules: self.rules,
        };
        expected(&self.rows, state.name(), event, &facts)
    }

    /// Only a rest ends by time.
    fn pass(&mut self, pause: u64) -> State {
        let before = self.state();
        self.now += pause;
        let found = self.state();
        match before {
            State::Resting { until } if until <= self.now => {
                assert_eq!(found.name(), self.expected(before, "rest over", false));
            }
            _ => assert_eq!(found, before),
        }
        found
    }

    fn call(&mut self, id: &str, failed: bool) {
        let outcome = if failed { Outcome::Answer(503) } else { Outcome::Answer(486) };
        self.guards.ended(id, &Attempt { began: self.now, outcome, delay: None }, self.now);
    }

    fn call_of_a(&mut self, failed: bool) {
        let (before, now) = (self.state(), self.now);
        let place = self.guards.counts("g").1 == 0;
        self.call("a", failed);
        let after = self.state();
        if before == State::Closed {
            self.ended.push_back((now, failed));
            // The window is twelve parts of 5 s, the last of them under way.
            self.ended.retain(|(at, _)| now / 5000 - at / 5000 < 12);
        }
        let event = if failed { "call failed" } else { "call good" };
        assert_eq!(after.name(), self.expected(before, event, place), "{before:?} {event}");
        if before != State::Closed && after == State::Closed {
            self.ended.clear();
        }
        if let (State::Trial { .. }, State::Resting { until }) = (before, after) {
            assert!(until - now >= 2 * self.rules.rest && until - now <= 8 * self.rules.rest);
        }
        assert_eq!(self.gates[0].is_open(), after == State::Closed);
    }

    /// The others go away and come back: alone it may not rest.
    fn alone(&mut self) {
        let before = self.state();
        for (id, able) in [("c", false), ("b", false), ("b", true), ("c", true)] {
            let gate = &self.gates[if id == "b" { 1 } else { 2 }];
            self.guards.set(id, "g", able, gate, self.now);
        }
        if before != State::Closed {
            assert_eq!(self.state().name(), self.expected(before, "too many out", false));
            assert!(self.gates[0].is_open());
            self.ended.clear();
        }
        assert_eq!(self.state(), State::Closed);
    }
}

proptest! {
    /// Of three trunks one may rest: `a` is watched, `b` takes the place at times.
    #[test]
    fn every_event_leads_where_the_table_says(
        min_calls in 1u32..6,
        trial_calls in 1u32..4,
        share in 1u32..=4,
        events in prop::collection::vec((0u8..10, 0u64..3000), 1..200),
    ) {
        let failure_share = f64::from(share) / 4.0;
        let mut scene = Scene::new(Rules { failure_share, min_calls, window: 60_000, rest: 5000, trial_calls });
        for (event, pause) in events {
            let found = scene.pass(pause);
            match event {
                0..=3 => scene.call_of_a(true),
                4..=6 => scene.call_of_a(false),
                7 | 8 => {
                    scene.call("b", event == 7);
                    assert_eq!(scene.state(), found, "what b does says nothing of a");
                }
                _ => scene.alone(),
            }
        }
    }
}
