//! Calls, from the INVITE to the BYE.
//!
//! A call holds the seats of its established legs; when it goes, the channels go back. A call ends
//! by BYE, by a final refusal of its INVITE, when its session timer runs out (RFC 4028), or at the
//! longest duration that the settings allow, so a lost BYE cannot hold a channel for ever.

use std::sync::Arc;

use routing::Seat;

use crate::slab::Id;
use crate::{CallRecord, Event, Hop, Inbound, Time};

/// A standing call.
#[derive(Debug)]
pub(crate) struct Call {
    pub hash: u64,
    pub record: Box<CallRecord>,
    /// The response context of its INVITE, while that is undecided.
    pub context: Option<Id>,
    /// Where the caller's INVITE came from.
    pub caller: Hop,
    /// Whether the caller's assertions about identities are believed.
    pub trusted: bool,
    pub ringing: bool,
    pub legs: Vec<Leg>,
    pub ends_at: Time,
    /// When the session timer runs out, where the parties use one.
    pub session_until: Option<Time>,
    pub armed: Time,
}

/// A dialog of a call: usually one, more if downstream forked.
#[derive(Debug)]
pub(crate) struct Leg {
    pub stay: Option<Stay>,
    pub trunk: Arc<routing::Trunk>,
    /// To tag of the 2xx.
    pub tag: Box<[u8]>,
    /// Contact of the 2xx.
    pub contact: Box<[u8]>,
    pub hop: Hop,
}

/// The channel of an answered attempt.
#[derive(Debug)]
pub(crate) struct Stay {
    pub seat: Seat,
    /// When it was answered.
    pub since: Time,
    /// The called prefix that its route matched.
    pub prefix: Option<Arc<str>>,
}

impl Stay {
    /// Gives the channel back.
    pub fn over(self, now: Time) -> Event {
        Event::Over {
            trunk: self.seat.trunk().clone(),
            prefix: self.prefix,
            lasted: now.0.saturating_sub(self.since.0),
        }
    }
}

/// Who sends a request inside a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Callee,
}

/// A standing call, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallView {
    /// Call-ID.
    pub call_id: String,
    /// URI of From.
    pub from: String,
    /// URI of To.
    pub to: String,
    /// Id of the trunk, empty while none is chosen.
    pub trunk: String,
    /// `trying`, `ringing` or `established`.
    pub state: &'static str,
    /// When its INVITE came.
    pub since: Time,
}

impl Call {
    /// Begins with an INVITE that has passed validation.
    pub fn begin(inbound: &Inbound<'_>, hash: u64, transport: sip::Transport, now: Time) -> Call {
        Call {
            hash,
            record: Box::new(CallRecord::begin(inbound, transport, now)),
            context: None,
            caller: Hop { connection: inbound.connection, ..Hop::to(inbound.listener, inbound.source) },
            trusted: inbound.admission.trusted,
            ringing: false,
            legs: Vec::new(),
            ends_at: Time(u64::MAX),
            session_until: None,
            armed: Time(u64::MAX),
        }
    }

    pub fn call_id(&self) -> &[u8] {
        self.record.call_id_bytes()
    }

    pub fn caller_tag(&self) -> &[u8] {
        self.record.caller_tag()
    }

    /// Contact of the caller.
    pub fn caller_contact(&self) -> &[u8] {
        self.record.caller_contact()
    }

    /// Which side sends a request with these tags, and the leg that it belongs to.
    pub fn side(&self, from_tag: &[u8], to_tag: &[u8]) -> Option<(Side, usize)> {
        let leg = |tag: &[u8]| self.legs.iter().position(|leg| &*leg.tag == tag);
        if from_tag == self.caller_tag() {
            Some((Side::Caller, leg(to_tag)?))
        } else if to_tag == self.caller_tag() {
            Some((Side::Callee, leg(from_tag)?))
        } else {
            None
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        if self.legs.is_empty() {
            return None;
        }
        Some(self.session_until.map_or(self.ends_at, |at| at.min(self.ends_at)))
    }

    pub fn view(&self) -> CallView {
        let trying = self.record.attempts.last().map(|attempt| &attempt.trunk);
        let trunk = self.legs.first().map(|leg| &leg.trunk).or(trying);
        CallView {
            call_id: self.record.call_id().into_owned(),
            from: self.record.from().into_owned(),
            to: self.record.to().into_owned(),
            trunk: trunk.map(|trunk| trunk.id.to_string()).unwrap_or_default(),
            state: match (self.legs.is_empty(), self.ringing) {
                (false, _) => "established",
                (true, true) => "ringing",
                (true, false) => "trying",
            },
            since: self.record.began,
        }
    }
}
