//! Windows against a plain list of what happened, and the bounds of what is held.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use quality::{Attempt, Class, DELAY_BOUNDS, Outcome, Prefixes, Series, Sums};

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => prop::sample::select(vec![200, 302, 404, 407, 408, 480, 486, 487, 500, 503, 603]).prop_map(Outcome::Answer),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Unsent),
    ]
}

proptest! {
    #[test]
    fn windows_hold_what_happened_in_them(
        events in prop::collection::vec((0u64..200_000, outcome(), prop::option::of(0u64..30_000), any::<bool>()), 1..200),
        wait in 0u64..8_000_000,
    ) {
        let mut series = Series::default();
        let (mut now, mut seen) = (5_000, Vec::new());
        for (pause, outcome, delay, ends) in events {
            now += pause;
            let attempt = Attempt { began: now, outcome, delay };
            series.attempt(&attempt, now);
            if ends {
                series.end(pause, now);
            }
            seen.push((now, attempt, ends.then_some(pause)));
        }
        now += wait;
        let windows = series.windows(now);
        for (bucket, count, sums) in [(20_000, 15, &windows.short), (300_000, 12, &windows.long)] {
            let inside: Vec<_> = seen.iter().filter(|(at, ..)| now / bucket - at / bucket < count).collect();
            let of = |class: Class| inside.iter().filter(|(_, attempt, _)| attempt.class() == class).count() as u32;
            let attempts = inside.len() as u32 - of(Class::Passing);
            prop_assert_eq!(sums.attempts, attempts);
            prop_assert_eq!(sums.passing, of(Class::Passing));
            prop_assert_eq!(sums.answered, of(Class::Answered));
            prop_assert_eq!(sums.effective, of(Class::Answered) + of(Class::Effective));
            prop_assert_eq!(sums.failed, of(Class::Failed));
            let durations: Vec<u64> = inside.iter().filter_map(|(.., duration)| *duration).collect();
            prop_assert_eq!((sums.ended as usize, sums.talked), (durations.len(), durations.iter().sum::<u64>()));
            let delays: Vec<u64> = inside
                .iter()
                .filter(|(_, attempt, _)| attempt.class() != Class::Passing)
                .filter_map(|(_, attempt, _)| attempt.delay)
                .collect();
            prop_assert_eq!(sums.delayed, delays.iter().sum::<u64>());
            let mut at_most = 0;
            for (bound, count) in DELAY_BOUNDS.iter().zip(sums.delays) {
                at_most += count;
                prop_assert_eq!(at_most as usize, delays.iter().filter(|delay| *delay <= bound).count());
            }
            prop_assert_eq!(sums.delays.iter().sum::<u32>() as usize, delays.len());
            let codes: u32 = sums.codes.iter().map(|(_, count)| count).sum::<u32>() + sums.codes.others;
            prop_assert_eq!(codes as usize, inside.len());
            for (code, count) in sums.codes.iter() {
                let came = inside.iter().filter(|(_, attempt, _)| attempt.outcome == code).count();
                prop_assert!(count as usize <= came && count > 0, "{} {}", code, count);
            }
            let ratio = |part: u32| (attempts > 0).then(|| f64::from(part) / f64::from(attempts));
            prop_assert_eq!(sums.answer_seizure_ratio(), ratio(sums.answered));
            prop_assert_eq!(sums.network_effectiveness_ratio(), ratio(sums.effective));
            prop_assert_eq!(sums.failure_share(), ratio(sums.failed));
        }
        prop_assert_eq!(series.trim(now), windows.long == Sums::default());
        prop_assert_eq!(series.windows(now), windows, "what is let go is past");
        prop_assert!(series.bytes() <= 64 * size_of::<(u32, Sums)>());
    }

    /// Never more than so many, and those of the last uses are there.
    #[test]
    fn prefixes_are_bounded(most in 1usize..20, uses in prop::collection::vec((0u32..3, 0usize..20), 1..300)) {
        let names: Vec<Arc<str>> = (0..20).map(|n| Arc::from(format!("+{n}"))).collect();
        let mut prefixes = Prefixes::new(most);
        let attempt = Attempt { began: 0, outcome: Outcome::Answer(200), delay: None };
        let mut recent: Vec<(u32, usize)> = Vec::new();
        for (trunk, prefix) in uses {
            prefixes.attempt(trunk, &names[prefix], &attempt, 1000);
            recent.retain(|known| *known != (trunk, prefix));
            recent.push((trunk, prefix));
            prop_assert!(prefixes.len() <= most);
        }
        for (trunk, prefix) in recent.iter().rev().take(most) {
            prop_assert!(prefixes.windows(*trunk, &names[*prefix], 1000).unwrap().short.answered > 0);
        }
        prop_assert_eq!(prefixes.evicted() == 0, recent.len() <= most);
        prop_assert_eq!((0..3).map(|trunk| prefixes.of_trunk(trunk, 1000).count()).sum::<usize>(), prefixes.len());
        prefixes.trim(1000);
        prop_assert!(!prefixes.is_empty());
        prefixes.trim(4_000_000);
        prop_assert!(prefixes.is_empty());
    }
}

#[test]
fn a_busy_trunk_holds_little() {
    let mut series = Series::default();
    for now in (0..7_200_000).step_by(100) {
        let attempt = Attempt { began: now, outcome: Outcome::Answer(200 + (now / 100 % 7) as u16), delay: Some(700) };
        series.attempt(&attempt, now);
    }
    assert!(series.bytes() <= 8192, "{}", series.bytes());
    assert_eq!(series.windows(7_199_900).short.attempts, 3000);
    assert_eq!(series.windows(7_199_900).long.attempts, 36_000);
}
