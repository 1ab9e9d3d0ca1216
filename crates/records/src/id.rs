//! Ids of records: UUIDs of version 7 (RFC 9562 §5.7).

use jiff::Timestamp;

/// Bits of the counter beside those that tell processes apart.
const COUNTER: u32 = 22;

/// Makes ids: a time, a counter, and a random number of this process, so that none comes twice.
pub struct Ids {
    process: u64,
    counter: u64,
}

impl Ids {
    /// Of a process that has drawn this.
    pub fn new(process: u64) -> Ids {
        Ids { process, counter: 0 }
    }

    /// The next one.
    pub fn next(&mut self, now: Timestamp) -> String {
        let millis = now.as_millisecond().max(0) as u128 & 0xffff_ffff_ffff;
        let counter = self.counter;
        self.counter += 1;
        let high = u128::from(counter >> COUNTER) & 0xfff;
        let low = (u128::from(self.process) << COUNTER | u128::from(counter) & ((1 << COUNTER) - 1)) & ((1 << 62) - 1);
        let text = format!("{:032x}", millis << 80 | 7 << 76 | high << 64 | 2 << 62 | low);
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn they_have_their_form_and_never_come_twice() {
        let now = Timestamp::from_millisecond(0x0123_4567_89ab).unwrap();
        let first = Ids::new(u64::MAX).next(now);
        assert_eq!(first, "01234567-89ab-7000-bfff-ffffffc00000");
        let (mut a, mut b) = (Ids::new(1), Ids::new(2));
        a.counter = (1 << COUNTER) - 500;
        b.counter = a.counter;
        let ids: HashSet<String> = (0..1000).flat_map(|_| [a.next(now), b.next(now)]).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == 36 && &id[14..15] == "7" && "89ab".contains(&id[19..20])));
    }
}
