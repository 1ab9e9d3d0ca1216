//! The code does what the table of `docs/liveness.md` says, and its drawing shows the same table.

#![allow(clippy::unwrap_used)]

mod drawing;

use std::collections::BTreeSet;

use liveness::{Key, Monitor, Outcome, Probing, Settings, State};
use proptest::prelude::*;

const DOCUMENT: &str = include_str!("../../../docs/liveness.md");

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    state: String,
    event: String,
    condition: String,
    next: String,
}

fn rows() -> Vec<Row> {
    let table = DOCUMENT.split("| State | Event | Condition | Next |").nth(1).unwrap();
    let mut rows = Vec::new();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let [state, event, condition, next] = cells.try_into().unwrap();
        rows.push(Row { state, event, condition, next });
    }
    assert!(rows.len() > 15);
    rows
}

/// What the table says: the one row that fits.
fn expected(rows: &[Row], state: &str, event: &str, probed: bool, count: u32, bound: u32) -> Option<String> {
    let holds = |condition: &str| {
        condition.split(", ").all(|part| match part {
            "" => true,
            "misses + 1 < fall" | "oks + 1 < rise" => count + 1 < bound,
            "misses + 1 ≥ fall" | "oks + 1 ≥ rise" => count + 1 >= bound,
            "probed" => probed,
            "not probed" => !probed,
            other => panic!("the table has a condition that this test does not know: {other}"),
        })
    };
    let fits: Vec<&Row> =
        rows.iter().filter(|row| row.state == state && row.event == event && holds(&row.condition)).collect();
    assert!(fits.len() <= 1, "the table is ambiguous: {fits:?}");
    fits.first().map(|row| row.next.clone())
}

fn key() -> Key {
    Key { address: "192.0.2.1:5060".parse().unwrap(), transport: sip::Transport::Udp, connection: None }
}

fn state(monitor: &Monitor) -> State {
    monitor.evidence("a")[0].state
}

/// Lets time pass until a probe is ordered; its token.
fn next_probe(monitor: &mut Monitor, now: &mut u64) -> u64 {
    loop {
        let mut orders = Vec::new();
        monitor.tick(*now, 10, &mut orders);
        if let Some(order) = orders.first() {
            return order.token;
        }
        *now = monitor.next_due().unwrap().max(*now + 1);
    }
}

proptest! {
    #[test]
    fn every_event_leads_where_the_table_says(
        probed: bool,
        fall in 1u32..4,
        rise in 1u32..4,
        events in prop::collection::vec(0u8..5, 1..80),
    ) {
        let rows = rows();
        let probing = probed.then_some(Probing { interval: 10_000, fall, rise, ok_codes: None });
        let settings = Settings { call_fall: fall, ..Settings::default() };
        let mut monitor = Monitor::new(settings, 7);
        let mut now = 1000;
        monitor.set("a", probing, &[key()], now);
        for event in events {
            now += 10;
            let before = state(&monitor);
            let (count, bound) = match before {
                State::Unproven { misses } | State::Up { misses } => (misses, fall),
                State::Down { oks, .. } => (oks, rise),
                State::Resting { .. } | State::Trial => (0, 1),
            };
            let name = match event {
                0 if probed => {
                    let token = next_probe(&mut monitor, &mut now);
                    monitor.probed(token, Outcome::Answer(404), Some(1), now);
                    "probe good"
                }
                1 if probed => {
                    let token = next_probe(&mut monitor, &mut now);
                    monitor.probed(token, Outcome::Answer(503), None, now);
                    "probe missed"
                }
                2 => {
                    monitor.called("a", &key(), Outcome::Answer(486), now);
                    "call answered"
                }
                3 => {
                    monitor.called("a", &key(), Outcome::Timeout, now);
                    "call missed"
                }
                4 if matches!(before, State::Resting { .. }) => {
                    let State::Resting { until } = before else { unreachable!() };
                    monitor.tick(until - 1, 1, &mut Vec::new());
                    prop_assert_eq!(state(&monitor), before, "a rest is not cut short");
                    now = until;
                    monitor.tick(now, 1, &mut Vec::new());
                    "rest over"
                }
                _ => continue,
            };
            let after = state(&monitor);
            let expected = expected(&rows, before.name(), name, probed, count, bound);
            prop_assert_eq!(Some(after.name().to_owned()), expected, "{:?} {}", before, name);
        }
    }
}

#[test]
fn the_drawing_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/liveness.svg");
    let drawn = drawing::draw(&rows());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == drawn, "docs/liveness.svg is not what the table gives; UPDATE_EXPECT=1 draws it anew");
}

#[test]
fn the_table_has_no_row_twice() {
    let rows = rows();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
}
