//! The monitor as a whole: rests, several targets, the schedule of many probes.

#![allow(clippy::unwrap_used)]

use liveness::{Health, Key, Monitor, Order, Outcome, Probing, Reason, Settings, Verdict};
use proptest::prelude::*;

fn key(port: u16) -> Key {
    Key { address: ([192, 0, 2, 1], port).into(), transport: sip::Transport::Udp, connection: None }
}

fn probing(interval: u64) -> Probing {
    Probing { interval, fall: 3, rise: 2, ok_codes: None }
}

fn health(monitor: &Monitor, id: &str) -> Health {
    monitor.state_of(id).unwrap().health
}

fn tick(monitor: &mut Monitor, now: u64) -> Vec<Order> {
    let mut orders = Vec::new();
    monitor.tick(now, usize::MAX / 2, &mut orders);
    orders
}

#[test]
fn a_trunk_is_down_when_no_target_lives() {
    let mut monitor = Monitor::new(Settings::default(), 1);
    monitor.set("a", Some(probing(1000)), &[key(1), key(2)], 0);
    assert_eq!(health(&monitor, "a"), Health::default());
    let orders = tick(&mut monitor, 10);
    assert_eq!(orders.len(), 2);
    monitor.probed(orders[0].token, Outcome::Timeout, None, 11);
    assert_eq!(health(&monitor, "a").verdict, Verdict::Good, "the other lives");
    let usable: Vec<bool> = monitor.state_of("a").unwrap().targets.iter().map(|flags| flags.usable).collect();
    assert_eq!(usable.iter().filter(|usable| **usable).count(), 1);
    monitor.probed(orders[1].token, Outcome::Answer(503), None, 12);
    let expected = [Reason::Probe(Outcome::Timeout), Reason::Probe(Outcome::Answer(503))];
    let now = health(&monitor, "a");
    assert_eq!(now.verdict, Verdict::Down);
    assert!(expected.iter().all(|reason| now.reasons.contains(reason)), "{now:?}");
    assert_eq!(monitor.take_changes().len(), 1);
    assert!(!monitor.has_changes());
    assert_eq!(monitor.evidence("a")[0].probe.unwrap().at, 11.max(monitor.evidence("a")[0].probe.unwrap().at));
}

#[test]
fn a_rest_is_the_trunks_and_bounded() {
    let mut monitor = Monitor::new(Settings::default(), 1);
    monitor.set("a", None, &[key(1)], 0);
    monitor.rest("a", 5_000, 100);
    assert_eq!(health(&monitor, "a"), Health { verdict: Verdict::Resting, reasons: vec![Reason::Resting(5100)] });
    monitor.rest("a", 1_000, 200);
    tick(&mut monitor, 5099);
    assert_eq!(health(&monitor, "a").verdict, Verdict::Resting, "a shorter one does not cut it short");
    tick(&mut monitor, 5100);
    assert_eq!(health(&monitor, "a").verdict, Verdict::Good);
    monitor.rest("a", 3_600_000, 6000);
    tick(&mut monitor, 35_999);
    assert!(monitor.state_of("a").unwrap().resting);
    tick(&mut monitor, 36_000);
    assert!(!monitor.state_of("a").unwrap().resting, "thirty seconds at most");
}

#[test]
fn what_is_known_stays_with_a_target() {
    let mut monitor = Monitor::new(Settings::default(), 1);
    monitor.set("a", None, &[key(1), key(2)], 0);
    for _ in 0..3 {
        monitor.called("a", &key(1), Outcome::Unsent, 10);
    }
    monitor.set("a", None, &[key(3), key(1)], 20);
    let usable: Vec<bool> = monitor.state_of("a").unwrap().targets.iter().map(|flags| flags.usable).collect();
    assert_eq!(usable, [true, false]);
    assert!(monitor.called("a", &key(2), Outcome::Timeout, 20).is_none(), "it has gone");
    monitor.set("a", Some(probing(1000)), &[key(1)], 30);
    assert!(monitor.state_of("a").unwrap().targets[0].usable, "probes judge anew");
    monitor.remove("a");
    assert_eq!(monitor.counts(), (0, 0));
    assert!(monitor.state_of("a").is_none() && tick(&mut monitor, 100_000).is_empty());
}

#[test]
fn a_probe_without_an_outcome_is_silence_and_a_stall_shows() {
    let mut monitor = Monitor::new(Settings::default(), 1);
    monitor.set("a", Some(probing(60_000)), &[key(1)], 0);
    assert_eq!(tick(&mut monitor, 10).len(), 1);
    assert_eq!(monitor.overdue(10), 0);
    tick(&mut monitor, 6009);
    assert_eq!(health(&monitor, "a").verdict, Verdict::Good);
    tick(&mut monitor, 6010);
    assert_eq!(health(&monitor, "a").reasons, [Reason::Probe(Outcome::Timeout)]);
    let again = tick(&mut monitor, 66_010);
    assert_eq!(monitor.probed(again[0].token, Outcome::Answer(503), None, 66_020).as_deref(), Some("a"));
    assert_eq!(monitor.probed(again[0].token, Outcome::Answer(503), None, 66_020), None, "nobody awaits it");
    let due = monitor.next_due().unwrap();
    assert_eq!(monitor.overdue(due + 7000), 7000);
}

#[test]
fn many_probes_never_come_in_a_burst() {
    const TRUNKS: usize = 100_000;
    for interval in [5_000, 30_000] {
        let mut monitor = Monitor::new(Settings::default(), 42);
        for n in 0..TRUNKS {
            monitor.set(&format!("t{n}"), Some(probing(interval)), &[key(1)], 0);
        }
        let windows = interval / 100;
        let mean = TRUNKS / windows as usize;
        let mut sent = 0;
        for window in 0..3 * windows {
            let orders = tick(&mut monitor, window * 100);
            assert!(orders.len() <= 2 * mean, "{} in 100 ms at {window} of {interval}", orders.len());
            sent += orders.len();
            for order in orders {
                monitor.probed(order.token, Outcome::Answer(200), Some(500), window * 100);
            }
        }
        assert!((sent as f64 / TRUNKS as f64 - 2.5).abs() < 0.6, "{sent}");
    }
}

#[test]
fn a_trunk_that_fails_calls_is_down_and_no_rest_was_asked_for() {
    let mut monitor = Monitor::new(Settings::default(), 1);
    monitor.set("a", None, &[key(1)], 0);
    for _ in 0..3 {
        monitor.called("a", &key(1), Outcome::Timeout, 10);
    }
    let cooling = Health { verdict: Verdict::Down, reasons: vec![Reason::CoolingDown(30_010)] };
    assert_eq!(health(&monitor, "a"), cooling, "damping counts it");
}

proptest! {
    /// `docs/liveness.md`: silence is seen within `fall` × interval × 1.1 and the time-out of a probe, however it falls between two.
    #[test]
    fn silence_is_seen_within_its_bound(interval in 1u64..60, fall in 1u32..6, seed: u64, quiet_after in 0u64..200_000) {
        const LOOK: u64 = 20;
        let interval = interval * 1000;
        let mut monitor = Monitor::new(Settings::default(), seed);
        monitor.set("a", Some(Probing { interval, fall, rise: 1, ok_codes: None }), &[key(1)], 0);
        let mut outcomes: Vec<(u64, u64, Outcome)> = Vec::new();
        let (mut now, mut last_good) = (0, None);
        while health(&monitor, "a").verdict == Verdict::Good {
            now += LOOK;
            outcomes.retain(|(at, token, outcome)| {
                if *at <= now {
                    monitor.probed(*token, *outcome, None, now);
                }
                *at > now
            });
            for order in tick(&mut monitor, now) {
                // The first one proves it.
                if now <= quiet_after || last_good.is_none() {
                    last_good = Some(now);
                    outcomes.push((now, order.token, Outcome::Answer(200)));
                } else {
                    outcomes.push((now + order.timeout, order.token, Outcome::Timeout));
                }
            }
            let cause = last_good.unwrap_or(now).max(quiet_after);
            let bound = u64::from(fall) * interval * 11 / 10 + 4000 + u64::from(fall + 1) * 2 * LOOK;
            prop_assert!(now <= cause + bound, "{} ms after, bound {bound}", now - cause);
        }
    }

    /// One probe at a time for each target, none where none is wanted, and nothing is left behind.
    #[test]
    fn orders_are_sound(steps in prop::collection::vec((0u8..6, 0u16..4, 0u64..3000), 1..200)) {
        let mut monitor = Monitor::new(Settings::default(), 3);
        let mut under_way: Vec<Order> = Vec::new();
        let mut probed = [false; 4];
        let mut now = 0;
        for (step, n, pass) in steps {
            now += pass;
            let id = n.to_string();
            match step {
                0 => {
                    probed[usize::from(n)] = true;
                    monitor.set(&id, Some(probing(1000)), &[key(1), key(2)], now);
                }
                1 => {
                    probed[usize::from(n)] = false;
                    monitor.set(&id, None, &[key(1)], now);
                    under_way.retain(|order| *order.id != *id);
                }
                2 => {
                    monitor.remove(&id);
                    probed[usize::from(n)] = false;
                    under_way.retain(|order| *order.id != *id);
                }
                3 if !under_way.is_empty() => {
                    let order = under_way.swap_remove(usize::from(n) % under_way.len());
                    monitor.probed(order.token, Outcome::Answer(200), None, now);
                }
                _ => {
                    // Silence ends what is under way after six seconds.
                    let orders = tick(&mut monitor, now);
                    for order in orders {
                        prop_assert!(probed[order.id.parse::<usize>().unwrap()]);
                        under_way.retain(|other| (&other.id, other.key) != (&order.id, order.key));
                        under_way.push(order);
                    }
                    let (targets, probes) = monitor.counts();
                    prop_assert!(probes <= targets);
                }
            }
        }
        for n in 0..4 {
            monitor.remove(&n.to_string());
        }
        prop_assert_eq!(monitor.counts(), (0, 0));
    }
}
