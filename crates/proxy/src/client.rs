//! Client transactions: RFC 3261 §17.1 with RFC 6026 §8.4, and the CANCEL that may follow an INVITE.

use std::sync::Arc;

use routing::{Rule, Seat};

use crate::server::Resend;
use crate::shard::OverTrunk;
use crate::slab::Id;
use crate::{Config, Hop, Time, Times};

/// A ring time-out comes this long before timer C, in milliseconds.
const BEFORE_TIMER_C: u64 = 5000;

/// One attempt of a request.
#[derive(Debug)]
pub(crate) struct Client {
    /// Whose attempt it is; a probe has none.
    pub context: Id,
    pub invite: bool,
    pub hop: Hop,
    /// The trunk, and which of its targets; none for a request inside a dialog.
    pub seat: Option<Seat>,
    pub target: usize,
    pub rule: Option<Rule>,
    /// The called prefix that the rule matched.
    pub prefix: Option<Arc<str>>,
    /// Its place among the attempts of the call's record.
    pub nth: u8,
    pub begins_call: bool,
    /// Whether the peer may hear asserted identities, and is believed in its own.
    pub trusted: bool,
    /// Any response has come.
    pub heard: bool,
    pub times: Times,
    /// It goes by TCP only because it is large.
    pub large: bool,
    pub probe: Option<ProbeOf>,
    pub state: State,
    pub cancel: Cancel,
    /// The context waits no longer for this one.
    pub abandoned: bool,
    /// Given up when no answer at all has come by then.
    pub setup_until: Option<Time>,
    /// Earliest entry of it in the timer wheel.
    pub armed: Time,
}

/// What a probe's outcome is told with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeOf {
    pub token: u64,
    pub sent: Time,
}

#[derive(Debug)]
pub(crate) enum State {
    /// No answer yet: timers A and B, or E and F.
    Calling { request: Box<[u8]>, resend: Resend, until: Time },
    /// Provisional answer: timer C and the ring time-out; for other methods E and F go on.
    Proceeding { request: Box<[u8]>, resend: Option<Resend>, until: Time, rings_until: Option<Time> },
    /// INVITE, 300 to 699: the ACK is repeated until timer D.
    Completed { ack: Box<[u8]>, timer_d: Time },
    /// INVITE, 2xx: repeats pass until timer M (RFC 6026).
    Accepted { timer_m: Time },
}

#[derive(Debug)]
pub(crate) enum Cancel {
    No,
    /// Held back until a provisional answer comes (§9.1).
    Wanted {
        reason: Box<[u8]>,
    },
    Sent {
        bytes: Box<[u8]>,
        resend: Resend,
        until: Time,
    },
    /// It was answered.
    Answered {
        until: Time,
    },
}

/// What a timer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send the request again.
    Resend,
    /// Send the CANCEL again.
    ResendCancel,
    /// Silence, or ringing for too long: the attempt failed, the transaction stays.
    GiveUp,
    /// The attempt failed and the transaction is over.
    TimedOut,
    /// The transaction is over.
    Over,
}

impl Client {
    /// An attempt of a context, or of none, before its request is written.
    pub fn new(context: Id, hop: Hop, now: Time) -> Client {
        Client {
            context,
            invite: false,
            hop,
            seat: None,
            target: 0,
            rule: None,
            prefix: None,
            nth: 0,
            begins_call: false,
            trusted: false,
            heard: false,
            times: Times { sent: now, reached: None },
            large: false,
            probe: None,
            state: State::Accepted { timer_m: now },
            cancel: Cancel::No,
            abandoned: false,
            setup_until: None,
            armed: Time(u64::MAX),
        }
    }

    /// Over this trunk, where it goes over one.
    pub fn over(self, over: Option<OverTrunk>) -> Client {
        match over {
            Some(OverTrunk { seat, target, rule, prefix, nth }) => {
                Client { seat: Some(seat), target, rule, prefix, nth, ..self }
            }
            None => self,
        }
    }

    pub fn request(&self) -> Option<&[u8]> {
        match &self.state {
            State::Calling { request, .. } | State::Proceeding { request, .. } => Some(request),
            State::Completed { .. } | State::Accepted { .. } => None,
        }
    }

    /// A provisional answer came.
    pub fn provisional(&mut self, status: u16, now: Time, config: &Config) {
        let reliable = config.is_reliable(&self.hop);
        let rings = self.rule.as_ref().and_then(Rule::ring_timeout);
        // Timer C must not end what the route lets ring for longer.
        let timer_c = now.plus_millis(config.timer_c.max(rings.map_or(0, |rings| rings + BEFORE_TIMER_C)));
        let rings_until = (status > 100).then(|| now.plus_millis(rings.unwrap_or(config.ring_timeout)));
        let state = std::mem::replace(&mut self.state, State::Accepted { timer_m: now });
        self.state = match state {
            State::Calling { request, until, .. } if self.invite => {
                let until = if self.abandoned { until } else { timer_c };
                State::Proceeding { request, resend: None, until, rings_until }
            }
            State::Calling { request, until, .. } => State::Proceeding {
                request,
                resend: Some(Resend::start(now, config.t2, reliable)),
                until,
                rings_until: None,
            },
            State::Proceeding { request, resend, until, rings_until: since } if self.invite => {
                let until = if status > 100 && !self.abandoned { timer_c } else { until };
                State::Proceeding { request, resend, until, rings_until: since.or(rings_until) }
            }
            other => other,
        };
    }

    pub fn next_timeout(&self) -> Option<Time> {
        let own = match &self.state {
            State::Calling { resend, until, .. } => Some(resend.at.min(*until).min(self.setup_until.unwrap_or(*until))),
            State::Proceeding { resend, until, rings_until, .. } => {
                let rings = rings_until.filter(|_| !self.abandoned).unwrap_or(*until);
                Some(resend.map_or(*until, |resend| resend.at).min(*until).min(rings))
            }
            State::Completed { timer_d: at, .. } | State::Accepted { timer_m: at } => Some(*at),
        };
        let cancel = match &self.cancel {
            Cancel::Sent { resend, until, .. } => Some(resend.at.min(*until)),
            Cancel::Answered { until } => Some(*until),
            Cancel::No | Cancel::Wanted { .. } => None,
        };
        match self.state {
            State::Calling { .. } | State::Proceeding { .. } => own.into_iter().chain(cancel).min(),
            State::Completed { .. } | State::Accepted { .. } => own,
        }
    }

    pub fn fire(&mut self, now: Time, config: &Config) -> Due {
        match &mut self.state {
            State::Calling { until, .. } if *until <= now => return Due::TimedOut,
            State::Calling { .. } if self.setup_until.is_some_and(|at| at <= now) => {
                self.setup_until = None;
                return Due::GiveUp;
            }
            State::Calling { resend, .. } if resend.at <= now => {
                let cap = if self.invite { u64::MAX } else { config.t2 };
                *resend = resend.next(now, cap);
                return Due::Resend;
            }
            State::Proceeding { until, .. } if *until <= now => {
                // An INVITE that was answered provisionally is cancelled first (§16.8).
                return if self.abandoned || !self.invite { Due::TimedOut } else { Due::GiveUp };
            }
            State::Proceeding { rings_until, .. } if !self.abandoned && rings_until.is_some_and(|at| at <= now) => {
                *rings_until = None;
                return Due::GiveUp;
            }
            State::Proceeding { resend: Some(resend), .. } if resend.at <= now => {
                *resend = Resend::start(now, config.t2, false);
                return Due::Resend;
            }
            State::Completed { timer_d: at, .. } | State::Accepted { timer_m: at } if *at <= now => return Due::Over,
            State::Completed { .. } | State::Accepted { .. } => return Due::Nothing,
            State::Calling { .. } | State::Proceeding { .. } => {}
        }
        match &mut self.cancel {
            // A cancelled INVITE without a final answer ends 64*T1 after its CANCEL (§9.1).
            Cancel::Sent { until, .. } | Cancel::Answered { until } if *until <= now => Due::TimedOut,
            Cancel::Sent { resend, .. } if resend.at <= now => {
                *resend = resend.next(now, config.t2);
                Due::ResendCancel
            }
            _ => Due::Nothing,
        }
    }
}
