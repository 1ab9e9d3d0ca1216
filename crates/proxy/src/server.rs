//! Server transactions: RFC 3261 §17.2 with RFC 6026 §8.5.
//!
//! One value is one transaction's state; an event consumes it and yields the next.

use crate::{Config, Time};

/// State of a server transaction, INVITE and other alike; each variant holds only what it needs.
#[derive(Debug)]
pub(crate) enum Server {
    /// No answer yet. Our own 100 is due at the time given.
    Trying { hundred_at: Option<Time> },
    /// The last provisional answer, for repeats of the request.
    Proceeding { last: Box<[u8]> },
    /// INVITE, answered by 300 to 699; timers G and H run.
    Completed { response: Box<[u8]>, resend: Resend, timer_h: Time },
    /// INVITE, the ACK is there; timer I absorbs its repeats.
    Confirmed { timer_i: Time },
    /// INVITE, answered by 2xx; repeats are absorbed until timer L (RFC 6026).
    Accepted { timer_l: Time },
    /// Not INVITE, answered; timer J.
    Replied { response: Box<[u8]>, timer_j: Time },
}

/// A retransmission timer with exponential back-off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resend {
    pub at: Time,
    interval: u64,
}

impl Resend {
    /// Over a reliable transport nothing is sent again.
    pub fn start(now: Time, interval: u64, reliable: bool) -> Resend {
        Resend { at: if reliable { Time(u64::MAX) } else { now.plus_millis(interval) }, interval }
    }

    /// The next one: twice the interval, at most `cap`.
    pub fn next(self, now: Time, cap: u64) -> Resend {
        Resend::start(now, (self.interval * 2).min(cap), false)
    }
}

/// What a timer asks for.
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// Send our own 100 (§17.2.1; RFC 4320 §4.1).
    Hundred,
    /// Send the final answer again (timer G).
    Resend,
    /// The transaction is over.
    Over,
}

impl Server {
    /// Whether a final answer has gone out.
    pub fn is_final(&self) -> bool {
        !matches!(self, Server::Trying { .. } | Server::Proceeding { .. })
    }

    /// What a repeat of the request is answered with.
    pub fn replay(&self) -> Option<&[u8]> {
        match self {
            Server::Proceeding { last: bytes }
            | Server::Completed { response: bytes, .. }
            // Over a reliable transport nothing was kept.
            | Server::Replied { response: bytes, .. } => Some(&**bytes).filter(|bytes| !bytes.is_empty()),
            Server::Trying { .. } | Server::Confirmed { .. } | Server::Accepted { .. } => None,
        }
    }

    /// After a final answer.
    pub fn answered(invite: bool, reliable: bool, status: u16, response: &[u8], now: Time, config: &Config) -> Server {
        let life = now.plus_millis(64 * config.t1);
        match (invite, status) {
            (true, 200..=299) => Server::Accepted { timer_l: life },
            (true, _) => {
                let resend = Resend::start(now, config.t1, reliable);
                Server::Completed { response: response.into(), resend, timer_h: life }
            }
            // Nothing is repeated over a reliable transport (timer J is zero).
            (false, _) if reliable => Server::Replied { response: Box::default(), timer_j: now },
            (false, _) => Server::Replied { response: response.into(), timer_j: life },
        }
    }

    /// An ACK that matches. True: it belongs to a 2xx and must go on end to end, as some peers reuse the branch.
    pub fn ack(self, now: Time, config: &Config, reliable: bool) -> (Server, bool) {
        let timer_i = if reliable { now } else { now.plus_millis(config.t4) };
        match self {
            Server::Completed { .. } => (Server::Confirmed { timer_i }, false),
            Server::Accepted { .. } => (self, true),
            other => (other, false),
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        match self {
            Server::Trying { hundred_at } => *hundred_at,
            Server::Proceeding { .. } => None,
            Server::Completed { resend, timer_h, .. } => Some(resend.at.min(*timer_h)),
            Server::Confirmed { timer_i: at }
            | Server::Accepted { timer_l: at }
            | Server::Replied { timer_j: at, .. } => Some(*at),
        }
    }

    pub fn fire(self, now: Time, config: &Config) -> (Server, Due) {
        match self {
            Server::Trying { hundred_at: Some(at) } if at <= now => (Server::Trying { hundred_at: None }, Due::Hundred),
            Server::Completed { timer_h, .. } if timer_h <= now => (self, Due::Over),
            Server::Completed { response, resend, timer_h } if resend.at <= now => {
                (Server::Completed { response, resend: resend.next(now, config.t2), timer_h }, Due::Resend)
            }
            Server::Confirmed { timer_i: at } | Server::Accepted { timer_l: at } if at <= now => (self, Due::Over),
            Server::Replied { timer_j, .. } if timer_j <= now => (self, Due::Over),
            other => (other, Due::Nothing),
        }
    }
}
