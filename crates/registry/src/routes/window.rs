//! A weekly window of time.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// Days of the week, as the API names them.
pub(crate) const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Minutes of a day.
pub(crate) const DAY: u16 = 24 * 60;

/// Some days of the week, from one time of day to another, in a time zone. Where the end is not after the beginning, the
/// window ends on the next day. It follows the wall clock: where that jumps, so does the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The zone.
    pub zone: TimeZone,
    /// Days that it begins on: bit 0 is Monday.
    pub days: u8,
    /// Minute of the day that it begins with.
    pub from: u16,
    /// The first minute after it, up to 1440.
    pub to: u16,
}

impl Window {
    /// Whether it holds a moment.
    pub fn holds(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let today = local.weekday().to_monday_zero_offset() as u8;
        let yesterday = (today + 6) % 7;
        let begins = |day: u8| self.days & (1 << day) != 0;
        if self.from < self.to {
            begins(today) && (self.from..self.to).contains(&minute)
        } else {
            (begins(today) && minute >= self.from) || (begins(yesterday) && minute < self.to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: u8, from: u16, to: u16) -> Window {
        Window { zone: TimeZone::get("Europe/Berlin").unwrap(), days, from, to }
    }

    #[test]
    fn it_holds_its_days_and_times_in_its_zone() {
        let office = window(0b1_1111, 8 * 60, 18 * 60);
        // A Thursday in winter: Berlin is an hour ahead.
        for (at, holds) in [
            ("2026-11-26T06:59:59Z", false),
            ("2026-11-26T07:00:00Z", true),
            ("2026-11-26T16:59:59Z", true),
            ("2026-11-26T17:00:00Z", false),
            ("2026-11-28T10:00:00Z", false),
            // In summer two.
            ("2026-07-02T06:00:00Z", true),
            ("2026-07-02T05:59:00Z", false),
        ] {
            assert_eq!(office.holds(at.parse().unwrap()), holds, "{at}");
        }
    }

    #[test]
    fn it_may_end_on_the_next_day() {
        let night = window(0b1_0000, 22 * 60, 6 * 60);
        for (at, holds) in [
            ("2026-11-27T21:00:00Z", true),
            ("2026-11-28T04:59:00Z", true),
            ("2026-11-28T05:00:00Z", false),
            ("2026-11-27T04:00:00Z", false),
        ] {
            assert_eq!(night.holds(at.parse().unwrap()), holds, "{at}");
        }
        let whole = window(0b1, 0, DAY);
        assert!(whole.holds("2026-11-29T23:00:00Z".parse().unwrap()));
        assert!(!whole.holds("2026-11-29T22:59:00Z".parse().unwrap()));
    }
}
