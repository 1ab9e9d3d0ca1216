//! The code does what the table of `docs/liveness.md` says, and its drawing shows the same table.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use liveness::{Key, Monitor, Outcome, Probing, Settings, State};
use proptest::prelude::*;

const DOCUMENT: &str = include_str!("../../../docs/liveness.md");

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
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

/// From the table to a drawing: states on a fixed grid, one arrow for each pair of states, its label all that leads there.
fn draw(rows: &[Row]) -> String {
    use std::fmt::Write;
    let places =
        [("unproven", 110, 70), ("up", 440, 210), ("down", 770, 70), ("trial", 110, 370), ("resting", 770, 370)];
    let place = |name: &str| places.iter().find(|(other, ..)| *other == name).map(|(_, x, y)| (*x, *y)).unwrap();
    let mut pairs: Vec<(String, String, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| row.state != row.next) {
        let short = row.condition.replace("misses + 1 ≥ fall", "fall").replace("oks + 1 ≥ rise", "rise");
        let short = short.split(", ").next().unwrap_or_default().to_owned();
        let label = if short.is_empty() { row.event.clone() } else { format!("{} ({short})", row.event) };
        match pairs.iter_mut().find(|(from, to, _)| *from == row.state && *to == row.next) {
            Some((.., labels)) => labels.push(label),
            None => pairs.push((row.state.clone(), row.next.clone(), vec![label])),
        }
    }
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -26 880 456\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{fill:#1f2933}.box{fill:#e3f0fb;stroke:#2b6cb0}.off{fill:#fbe3e3;stroke:#b02b2b}\
         .line{fill:none;stroke:#52606d;stroke-width:1.5}.bg{fill:#ffffff}\
         @media (prefers-color-scheme:dark){text{fill:#e4e7eb}.box{fill:#1e3a56;stroke:#63a4e0}.off{fill:#562020;stroke:#e06363}\
         .line{stroke:#9aa5b1}.bg{fill:#161b22}}</style>\n\
         <defs><marker id=\"arrow\" markerWidth=\"9\" markerHeight=\"9\" refX=\"8\" refY=\"4\" orient=\"auto\">\
         <path d=\"M0,0 L9,4 L0,8 z\" fill=\"#7b8794\"/></marker></defs>\n\
         <rect class=\"bg\" y=\"-26\" width=\"880\" height=\"456\" rx=\"8\"/>\n",
    );
    for (from, to, labels) in &pairs {
        let ((x1, y1), (x2, y2)) = (place(from), place(to));
        let (dx, dy) = ((x2 - x1) as f64, (y2 - y1) as f64);
        let length = dx.hypot(dy);
        let (ux, uy) = (dx / length, dy / length);
        // Both directions of a pair bend to their own right, so they do not lie on each other.
        let both = pairs.iter().any(|(a, b, _)| a == to && b == from);
        // Over "up" lies the long way from "unproven" to "down".
        let bend = if from == "unproven" && to == "down" {
            -78.0
        } else if both {
            26.0
        } else {
            0.0
        };
        let (nx, ny) = (-uy, ux);
        let reach = |u: f64, v: f64| if u.abs() * 24.0 > v.abs() * 62.0 { 62.0 / u.abs() } else { 24.0 / v.abs() };
        let r = reach(ux, uy) + 4.0;
        let shift = if both { 9.0 } else { 0.0 };
        let (ax, ay) = (x1 as f64 + ux * r + nx * shift, y1 as f64 + uy * r + ny * shift);
        let (bx, by) = (x2 as f64 - ux * r + nx * shift, y2 as f64 - uy * r + ny * shift);
        let (cx, cy) = ((ax + bx) / 2.0 + nx * bend, (ay + by) / 2.0 + ny * bend);
        let _ = writeln!(
            svg,
            "<path class=\"line\" marker-end=\"url(#arrow)\" d=\"M{ax:.0},{ay:.0} Q{cx:.0},{cy:.0} {bx:.0},{by:.0}\"/>"
        );
        let (mx, my) = ((ax + bx) / 4.0 + cx / 2.0, (ay + by) / 4.0 + cy / 2.0);
        // Beside its line: over or under a flat one, to the side that a steep one bends to.
        let flat = uy.abs() < 0.1;
        let anchor = match (flat, nx > 0.0) {
            (true, _) => "middle",
            (false, true) => "start",
            (false, false) => "end",
        };
        let lines = (labels.len() - 1) as f64 * 16.0;
        let (tx, ty) = match (flat, ny >= 0.0 && both) {
            (true, true) => (mx, my + 18.0),
            (true, false) => (mx, my - 8.0 - lines),
            (false, _) => (mx + nx.signum() * 8.0, my + if ny > 0.0 { 14.0 } else { -4.0 - lines }),
        };
        for (n, label) in labels.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<text x=\"{tx:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{label}</text>",
                ty + n as f64 * 16.0
            );
        }
    }
    for (name, x, y) in places {
        let class = if matches!(name, "down" | "resting") { "off" } else { "box" };
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"120\" height=\"44\" rx=\"8\" stroke-width=\"1.5\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"bold\">{name}</text>",
            x - 60,
            y - 22,
            y + 5
        );
    }
    let notes = ["With probe: begins unproven.", "Without: begins up.", "Calls go to the blue states."];
    for (n, note) in notes.iter().enumerate() {
        let _ = writeln!(svg, "<text x=\"24\" y=\"{}\">{note}</text>", 204 + 18 * n);
    }
    svg.push_str("</svg>\n");
    svg
}

#[test]
fn the_drawing_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/liveness.svg");
    let drawn = draw(&rows());
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
