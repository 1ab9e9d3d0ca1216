//! What a decision costs, among few and many trunks and prefixes, and what a change costs. `cargo xtask decisions` runs it.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use registry::{Called, Group, Policy, Route, RouteTarget};
use routing::{Ask, Builder, Decision, Facts, Place, RouteTable, Subject};

/// Numbers of trunks.
const TRUNKS: [u32; 3] = [10, 1000, 100_000];
/// Prefixes in the large table.
const PREFIXES: u64 = 1_000_000;
/// Decisions measured for each figure.
const ROUNDS: usize = 100_000;

/// `-- prefixes` measures the million prefixes alone.
fn main() {
    if std::env::args().any(|argument| argument == "prefixes") {
        return prefixes();
    }
    for trunks in TRUNKS {
        for policy in [Policy::Weighted, Policy::Hash, Policy::LeastCalls, Policy::Fastest] {
            let slow = trunks > 10_000 && matches!(policy, Policy::Hash | Policy::LeastCalls);
            let mut builder = builder(trunks, policy);
            builder.set_route(&route("all", Box::default()));
            report(
                &format!("{trunks} trunks, {}", policy.as_str()),
                &builder.build(1),
                if slow { 100 } else { ROUNDS },
            );
        }
    }
    shares();
    prefixes();
}

fn builder(trunks: u32, policy: Policy) -> Builder {
    let mut builder = Builder::new(Vec::new(), Vec::new());
    for n in 0..trunks {
        let address = (std::net::Ipv4Addr::from(0x0A00_0000 + n), 5060).into();
        let facts = Facts {
            sip_uri: "sip:10.0.0.1".into(),
            group: "g".into(),
            places: vec![Place::udp(address)],
            weight: 1 + n % 100,
            max_channels: Some(1000),
            ..Facts::default()
        };
        builder.set(&format!("trunk-{n}"), facts);
    }
    builder.set_group(&Group { policy, ..Group::new("g".into()) });
    builder
}

fn route(id: &str, called: Box<[Called]>) -> Arc<Route> {
    Arc::new(Route {
        id: id.into(),
        enabled: true,
        emergency: false,
        precedence: 0,
        called,
        conditions: None,
        targets: Box::new([RouteTarget::Group("g".into())]),
        treatment: None,
        comment: None,
        labels: Box::default(),
    })
}

/// Decides many times; numbers and Call-IDs vary.
fn report(what: &str, table: &RouteTable, rounds: usize) {
    for trace in [false, true] {
        let mut took = Vec::with_capacity(rounds);
        for n in 0..rounds as u64 {
            let number = number(n.wrapping_mul(7919) % PREFIXES);
            let subject = Subject { called: number.as_bytes(), call_id: number.as_bytes(), ..Subject::default() };
            let draw = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let ask = Ask { begins_call: true, draw, subject, trace, now: n, ..Ask::default() };
            let begun = Instant::now();
            let decision = black_box(table.decide(&ask));
            took.push(begun.elapsed());
            assert!(matches!(decision, Decision::Trunk { .. }));
        }
        took.sort();
        let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_nanos();
        let with = if trace { "with its trace" } else { "alone" };
        println!("{what:40} {with:15} p50 {:>8} ns   p99 {:>8} ns", at(50), at(99));
    }
}

/// A number of 8 digits behind a plus; a million of them are spread over all of their prefixes.
fn number(n: u64) -> String {
    format!("+{:08}", n * 97 % 100_000_000)
}

fn shares() {
    let mut builder = Builder::new(Vec::new(), Vec::new());
    for (n, weight) in [500u32, 300, 150, 50].into_iter().enumerate() {
        let place = Place::udp(([10, 0, 0, n as u8], 5060).into());
        builder.set(&format!("w{weight}"), Facts { places: vec![place], weight, ..Facts::default() });
    }
    let table = builder.build(1);
    let mut counts = std::collections::BTreeMap::new();
    for draw in 0..100_000 {
        let Decision::Trunk { seat, .. } = table.decide(&Ask { begins_call: true, draw, ..Ask::default() }) else {
            return;
        };
        *counts.entry(seat.trunk().id.to_string()).or_insert(0u32) += 1;
    }
    println!("shares of 100,000 calls by weights 500, 300, 150, 50: {counts:?}");
}

fn prefixes() {
    for per_route in [1, 1000] {
        let mut builder = builder(10, Policy::Weighted);
        let routes: Vec<Arc<Route>> = (0..PREFIXES / per_route)
            .map(|at| {
                let numbers = (at * per_route..(at + 1) * per_route).map(|n| Called::Prefix(number(n).into()));
                route(&format!("r{at}"), numbers.collect())
            })
            .collect();
        let (before, begun) = (memory(), Instant::now());
        routes.iter().for_each(|route| builder.set_route(route));
        let table = builder.build(1);
        println!(
            "{PREFIXES} prefixes in {} routes: built in {:.2} s, {:.0} MB beside the records",
            routes.len(),
            begun.elapsed().as_secs_f64(),
            (memory() - before) as f64 / 1e6
        );
        look_up(&table);
        report(&format!("{PREFIXES} prefixes in {} routes", routes.len()), &table, ROUNDS);
        let mut took = Vec::new();
        for n in 0..200u64 {
            let begun = Instant::now();
            builder.set_route(&route("new", Box::new([Called::Prefix(number(n * 5000 + 1).into())])));
            drop(black_box(builder.build(n)));
            took.push(begun.elapsed());
        }
        took.sort();
        println!("one change among them: p50 {:.3} ms, p99 {:.3} ms", millis(took[100]), millis(took[197]));
        drop(table);
    }
}

/// The route alone, of numbers in no order.
fn look_up(table: &RouteTable) {
    let numbers: Vec<String> = (0..ROUNDS as u64).map(|n| number(n.wrapping_mul(7919) % PREFIXES)).collect();
    let mut took: Vec<_> = numbers
        .iter()
        .map(|number| {
            let subject = Subject { called: number.as_bytes(), ..Subject::default() };
            let begun = Instant::now();
            assert!(black_box(table.route_of(&subject)).is_some());
            begun.elapsed()
        })
        .collect();
    took.sort();
    let at = |share: usize| took[took.len() * share / 100].as_nanos();
    let begun = Instant::now();
    for number in &numbers {
        let subject = Subject { called: number.as_bytes(), ..Subject::default() };
        black_box(table.route_of(&subject));
    }
    // The clock itself costs as much as a few nodes.
    let mean = begun.elapsed().as_nanos() / numbers.len() as u128;
    println!("one look-up among them: p50 {} ns, p99 {} ns with the clock; {mean} ns in a row", at(50), at(99));
}

fn millis(took: std::time::Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// Memory in use, in bytes.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
