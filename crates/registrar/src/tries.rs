//! How often a source may be wrong. Being right in between forgives nothing: who has one password could guess at others for ever.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Sources that are remembered; beyond that the oldest is forgotten.
const REMEMBERED: usize = 16_384;
/// Answers to a blocked source in one window; further requests get silence.
const ANSWERS: u32 = 10;

/// Requests of one source in a second that are judged at all.
const A_SECOND: u32 = 100;

/// What a source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Free,
    /// It hears 403.
    Blocked,
    /// It hears nothing.
    Ignored,
}

#[derive(Debug, Default)]
pub(crate) struct Tries {
    sources: HashMap<IpAddr, Source>,
    order: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct Source {
    since: u64,
    failures: u32,
    answers: u32,
    /// Requests since then.
    second: u64,
    asked: u32,
}

impl Source {
    fn new(now_ms: u64) -> Source {
        Source { since: now_ms, failures: 0, answers: 0, second: now_ms, asked: 0 }
    }
}

impl Tries {
    /// Sources that are remembered.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// A request came from this source.
    pub fn standing(&mut self, source: IpAddr, now_ms: u64, tries: u32, window_ms: u64) -> Standing {
        self.know(source, now_ms);
        let Some(known) = self.sources.get_mut(&source) else { return Standing::Free };
        if now_ms.saturating_sub(known.since) > window_ms {
            *known = Source { second: known.second, asked: known.asked, ..Source::new(now_ms) };
        }
        if now_ms.saturating_sub(known.second) >= 1000 {
            (known.second, known.asked) = (now_ms, 0);
        }
        known.asked += 1;
        if known.asked > A_SECOND {
            return Standing::Ignored;
        }
        if known.failures < tries {
            return Standing::Free;
        }
        known.answers += 1;
        if known.answers <= ANSWERS { Standing::Blocked } else { Standing::Ignored }
    }

    /// Whether a request from this source would be ignored.
    pub fn is_ignored(&self, source: IpAddr, now_ms: u64, tries: u32, window_ms: u64) -> bool {
        self.sources.get(&source).is_some_and(|known| {
            let blocked = known.failures >= tries && known.answers >= ANSWERS;
            let hasty = now_ms.saturating_sub(known.second) < 1000 && known.asked >= A_SECOND;
            hasty || (blocked && now_ms.saturating_sub(known.since) <= window_ms)
        })
    }

    fn know(&mut self, source: IpAddr, now_ms: u64) {
        if self.sources.contains_key(&source) {
            return;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.sources.remove(&oldest);
        }
        self.order.push_back(source);
        self.sources.insert(source, Source::new(now_ms));
    }

    /// It was wrong. The window begins anew when the last try is spent, so a block lasts for all of it.
    pub fn fail(&mut self, source: IpAddr, now_ms: u64, tries: u32) {
        self.know(source, now_ms);
        let Some(known) = self.sources.get_mut(&source) else { return };
        known.failures += 1;
        if known.failures == tries {
            known.since = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_blocked_for_a_window_and_memory_is_bounded() {
        let mut tries = Tries::default();
        let bad = IpAddr::from([192, 0, 2, 1]);
        for n in 0..3 {
            assert_eq!(tries.standing(bad, n, 3, 1000), Standing::Free);
            tries.fail(bad, n, 3);
        }
        assert_eq!(tries.standing(bad, 10, 3, 1000), Standing::Blocked);
        let rest: Vec<_> = (0..20).map(|_| tries.standing(bad, 20, 3, 1000)).collect();
        assert_eq!(rest.iter().filter(|standing| **standing == Standing::Ignored).count(), 11);
        assert_eq!(tries.standing(bad, 1002, 3, 1000), Standing::Ignored);
        assert_eq!(tries.standing(bad, 1003, 3, 1000), Standing::Free);
        let hasty = IpAddr::from([192, 0, 2, 2]);
        let asked: Vec<_> = (0..150).map(|_| tries.standing(hasty, 2000, 3, 1000)).collect();
        assert_eq!(asked.iter().filter(|standing| **standing == Standing::Free).count(), 100);
        assert!(tries.is_ignored(hasty, 2999, 3, 1000) && !tries.is_ignored(hasty, 3000, 3, 1000));
        for n in 0..REMEMBERED as u32 + 100 {
            tries.fail(IpAddr::from(n.to_be_bytes()), 0, 3);
        }
        assert!(tries.sources.len() <= REMEMBERED && tries.order.len() <= REMEMBERED);
    }
}
