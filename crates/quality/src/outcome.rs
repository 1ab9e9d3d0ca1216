//! How an attempt ended, and whom that speaks for or against.

use crate::Millis;

/// The end of an attempt: one INVITE sent to one trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When its INVITE was sent.
    pub began: Millis,
    /// How it ended.
    pub outcome: Outcome,
    /// From the INVITE to the first answer that a caller hears of (180 to 199, or 2xx), in milliseconds; none where there was
    /// none.
    pub delay: Option<Millis>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The peer's final answer, with this code.
    Answer(u16),
    /// No final answer in time.
    Timeout,
    /// Nothing could be sent.
    Unsent,
}

/// What that says of the trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The call was answered.
    Answered,
    /// The network did its part: the called party was busy, away, did not answer or declined, or the caller gave up.
    Effective,
    /// The network failed.
    Failed,
    /// The call was refused for what it asked; that is neither the network's merit nor its fault.
    Refused,
    /// A redirection or a challenge: no end of a call at all, so it is left out of every ratio.
    Passing,
}

impl Attempt {
    /// What the end says of the trunk. `docs/quality.md` lists the codes: ITU-T E.425 for the network effectiveness ratio, RFC 6076
    /// §4.7 for its codes in SIP.
    pub fn class(&self) -> Class {
        match self.outcome {
            Outcome::Answer(200..=299) => Class::Answered,
            // 3xx, 401, 402 and 407 are no failures (RFC 6076 §4.3.2, §4.6).
            Outcome::Answer(300..=399 | 401 | 402 | 407) => Class::Passing,
            Outcome::Answer(480 | 486 | 487 | 600 | 603 | 607) => Class::Effective,
            // Silence after ringing is a called party that does not answer, whoever ends the wait.
            Outcome::Answer(408) | Outcome::Timeout if self.delay.is_some() => Class::Effective,
            Outcome::Answer(408 | 500..=599) | Outcome::Timeout | Outcome::Unsent => Class::Failed,
            Outcome::Answer(_) => Class::Refused,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Answer(code) => write!(f, "{code}"),
            Outcome::Timeout => f.write_str("timeout"),
            Outcome::Unsent => f.write_str("not deliverable"),
        }
    }
}
