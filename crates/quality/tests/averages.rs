//! Decaying averages: bounds by property, and what they say of trunks that behave in known ways.

use proptest::prelude::*;
use quality::{Attempt, Averages, Decaying, Outcome};

fn good(delay: u64, began: u64) -> Attempt {
    Attempt { began, outcome: Outcome::Answer(200), delay: Some(delay) }
}

fn bad(began: u64) -> Attempt {
    Attempt { began, outcome: Outcome::Answer(503), delay: None }
}

proptest! {
    /// An average lies between 0 and the greatest sample, whatever the order of times; silence only lowers it.
    #[test]
    fn it_stays_within_its_samples(
        samples in prop::collection::vec((0f32..60_000.0, 0f32..1.0, 0u64..100_000), 1..100),
        start in prop_oneof![Just(0u64), Just(u64::from(u32::MAX) * 16 - 500_000), 0u64..1 << 50],
        late in 0u64..2000,
    ) {
        let average = Decaying::default();
        let (mut now, mut most) = (start, 0f32);
        for (sample, rise, pause) in samples {
            now += pause;
            average.add(sample, rise, now.saturating_sub(late));
            most = most.max(sample);
            let value = average.get(now);
            prop_assert!((0.0..=most * 1.0001).contains(&value), "{} of {}", value, most);
            prop_assert!(average.get(now + 50_000) <= value);
        }
    }
}

#[test]
fn steady_samples_are_the_average() {
    for every in [1, 20, 1000, 30_000] {
        let averages = Averages::default();
        for call in 0..1000 {
            averages.attempt(&good(300, call * every), call * every);
        }
        let delay = averages.delay(999 * every);
        assert!((delay - 300.0).abs() < 1.0, "{delay} at a call in {every} ms");
        assert!(averages.failures(999 * every) < 0.001);
    }
}

#[test]
fn a_share_of_failures_is_found() {
    for every in [1, 20, 200] {
        let averages = Averages::default();
        let (mut sum, mut read) = (0.0, 0);
        for call in 0..20_000u64 {
            let now = call * every;
            // One in five, evenly.
            averages.attempt(&if call % 5 == 0 { bad(now) } else { good(100, now) }, now);
            if call > 5000 {
                sum += averages.failures(now);
                read += 1;
            }
        }
        let mean = sum / read as f32;
        assert!((mean - 0.2).abs() < 0.02, "{mean} at a call in {every} ms");
    }
}

#[test]
fn slow_is_believed_fast_and_fast_is_believed_slowly() {
    let averages = Averages::default();
    for call in 0..1000 {
        averages.attempt(&good(100, call * 100), call * 100);
    }
    let mut now = 100_000;
    for _ in 0..3 {
        averages.attempt(&good(4000, now), now);
        now += 100;
    }
    assert!(averages.delay(now) > 3000.0, "{}", averages.delay(now));
    for _ in 0..3 {
        averages.attempt(&good(100, now), now);
        now += 100;
    }
    assert!(averages.delay(now) > 2500.0, "{}", averages.delay(now));
    for _ in 0..1000 {
        averages.attempt(&good(100, now), now);
        now += 100;
    }
    assert!(averages.delay(now) < 150.0, "{}", averages.delay(now));
}

#[test]
fn silence_forgives() {
    let averages = Averages::default();
    for call in 0..100 {
        averages.attempt(&bad(call * 100), call * 100);
        averages.attempt(&good(8000, call * 100), call * 100);
    }
    assert!(averages.cost(10_000) > 8000.0);
    assert!(averages.cost(10_000 + 300_000) < 100.0, "{}", averages.cost(310_000));
    assert!(averages.cost(10_000 + 100 * 86_400_000) < 1.0, "nor does it come back");
}

#[test]
fn redirections_and_challenges_say_nothing() {
    let averages = Averages::default();
    averages.attempt(&bad(1000), 1000);
    let before = averages.failures(1000);
    averages.attempt(&Attempt { began: 1000, outcome: Outcome::Answer(407), delay: None }, 1000);
    assert!((averages.failures(1000) - before).abs() < f32::EPSILON && before > 0.0);
}
