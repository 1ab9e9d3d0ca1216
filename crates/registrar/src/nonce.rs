//! Nonces that prove themselves, and how often each was used (RFC 7616 §5.4).
//!
//! A nonce is its time and a random part under a MAC, so handing one out keeps nothing. Only those that were used are
//! remembered, for as long as they live.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher13};

/// Used nonces that are remembered; beyond that the oldest is, which makes it as good as spent.
const REMEMBERED: usize = 65_536;

/// What a nonce turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nonce {
    /// Ours, and in its time.
    Fresh,
    /// Ours, but too old, or too new to be true.
    Stale,
    /// Not ours, or given to another source.
    Foreign,
}

/// Secret that nonces are made with.
#[derive(Clone)]
pub(crate) struct Key(pub [u8; 16]);

impl Key {
    /// For one source: another could use it only to be wrong in that one's name.
    pub fn make(&self, source: IpAddr, now_ms: u64, random: u64) -> String {
        let body = format!("{now_ms:016x}{random:016x}");
        format!("{body}{:032x}", self.mac(source, &body))
    }

    pub fn check(&self, nonce: &str, source: IpAddr, now_ms: u64, lifetime_ms: u64) -> Nonce {
        let Some((body, mac)) = nonce.split_at_checked(32).filter(|_| nonce.len() == 64) else { return Nonce::Foreign };
        if u128::from_str_radix(mac, 16).ok() != Some(self.mac(source, body)) {
            return Nonce::Foreign;
        }
        let made = u64::from_str_radix(&body[..16], 16).unwrap_or(u64::MAX);
        if made <= now_ms && now_ms - made <= lifetime_ms { Nonce::Fresh } else { Nonce::Stale }
    }

    fn mac(&self, source: IpAddr, body: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        match source.to_canonical() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write(body.as_bytes());
        hasher.finish128().as_u128()
    }
}

/// Counts of used nonces.
#[derive(Debug, Default)]
pub(crate) struct Used {
    counts: HashMap<Box<str>, u32>,
    /// In the order of first use, with the time of it.
    order: VecDeque<(u64, Box<str>)>,
    /// Nonces made before this were forgotten.
    floor: u64,
}

impl Used {
    /// Nonces that are remembered.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Takes a use; false where this count, or a later one, was there before.
    pub fn take(&mut self, nonce: &str, count: u32, now_ms: u64, lifetime_ms: u64) -> bool {
        while let Some((since, _)) = self.order.front()
            && (now_ms.saturating_sub(*since) > lifetime_ms || self.order.len() >= REMEMBERED)
        {
            if let Some((_, old)) = self.order.pop_front() {
                self.counts.remove(&old);
                if now_ms.saturating_sub(made(&old)) <= lifetime_ms {
                    self.floor = self.floor.max(made(&old) + 1);
                }
            }
        }
        match self.counts.get_mut(nonce) {
            Some(last) if count <= *last => false,
            Some(last) => {
                *last = count;
                true
            }
            // One that may have been forgotten counts as spent.
            None if made(nonce) < self.floor => false,
            None => {
                self.counts.insert(nonce.into(), count);
                self.order.push_back((now_ms, nonce.into()));
                true
            }
        }
    }
}

fn made(nonce: &str) -> u64 {
    nonce.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn nonces_prove_themselves_and_age() {
        let key = Key([7; 16]);
        let nonce = key.make(SOURCE, 1000, 42);
        assert_eq!(key.check(&nonce, SOURCE, 1000, 500), Nonce::Fresh);
        assert_eq!(key.check(&nonce, SOURCE, 1500, 500), Nonce::Fresh);
        assert_eq!(key.check(&nonce, SOURCE, 1501, 500), Nonce::Stale);
        assert_eq!(key.check(&nonce, SOURCE, 999, 500), Nonce::Stale);
        assert_eq!(Key([8; 16]).check(&nonce, SOURCE, 1000, 500), Nonce::Foreign);
        let forged = nonce.replacen('0', "1", 1);
        assert_eq!(key.check(&forged, SOURCE, 1000, 500), Nonce::Foreign);
        let elsewhere = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(key.check(&nonce, elsewhere, 1000, 500), Nonce::Foreign);
        for garbage in ["", "x", &"é".repeat(32), &"0".repeat(64)] {
            assert_eq!(key.check(garbage, SOURCE, 1000, 500), Nonce::Foreign);
        }
    }

    #[test]
    fn a_count_is_taken_once_and_memory_is_bounded() {
        let (key, mut used) = (Key([7; 16]), Used::default());
        let nonce = key.make(SOURCE, 1, 1);
        assert!(used.take(&nonce, 1, 1, 1000));
        assert!(!used.take(&nonce, 1, 1, 1000));
        assert!(used.take(&nonce, 3, 1, 1000));
        assert!(!used.take(&nonce, 2, 1, 1000));
        for n in 0..REMEMBERED as u64 + 10 {
            assert!(used.take(&key.make(SOURCE, 2 + n, n), 1, 2 + n, 1_000_000));
        }
        assert!(used.order.len() <= REMEMBERED && used.counts.len() <= REMEMBERED);
        assert!(!used.take(&nonce, 4, 70_000, 1_000_000), "forgotten counts as spent");
        assert!(used.take(&key.make(SOURCE, 5_000_000, 1), 1, 5_000_000, 1000));
        assert_eq!(used.order.len(), 1, "the dead are forgotten");
    }
}
