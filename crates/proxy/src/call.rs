//! Calls, from the INVITE to the BYE.
//!
//! A call holds the seats of its established legs; when it goes, the channels go back. A call ends
//! by BYE, by a final refusal of its INVITE, when its session timer runs out (RFC 4028), or at the
//! longest duration that the settings allow, so a lost BYE cannot hold a channel for ever.

use std::sync::Arc;

use routing::Seat;

use crate::slab::Id;
use crate::{Event, Hop, Time};

/// A standing call.
#[derive(Debug)]
pub(crate) struct Call {
    pub hash: u64,
    text: Box<[u8]>,
    ends: [u32; 4],
    /// The response context of its INVITE, while that is undecided.
    pub context: Option<Id>,
    /// Where the caller's INVITE came from.
    pub caller: Hop,
    /// Whether the caller's assertions about identities are believed.
    pub trusted: bool,
    /// The trunk being tried, before any leg stands.
    pub trying: Option<Arc<routing::Trunk>>,
    pub ringing: bool,
    pub legs: Vec<Leg>,
    pub since: Time,
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
    pub fn begin(invite: sip::Message<'_>, hash: u64, caller: Hop, now: Time) -> Call {
        let from = invite.from().ok();
        let contact = invite.contact().and_then(Result::ok);
        let parts: [&[u8]; 5] = [
            invite.call_id().unwrap_or_default(),
            from.as_ref().map(|from| from.uri).unwrap_or_default(),
            invite.to().map(|to| to.uri).unwrap_or_default(),
            from.as_ref().and_then(|from| from.tag()).unwrap_or_default(),
            contact.map(|contact| contact.uri).unwrap_or_default(),
        ];
        let mut text = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut ends = [0; 4];
        for (at, part) in parts.iter().enumerate() {
            text.extend_from_slice(part);
            if at < 4 {
                ends[at] = text.len() as u32;
            }
        }
        Call {
            hash,
            text: text.into(),
            ends,
            context: None,
            caller,
            trusted: false,
            trying: None,
            ringing: false,
            legs: Vec::new(),
            since: now,
            ends_at: Time(u64::MAX),
            session_until: None,
            armed: Time(u64::MAX),
        }
    }

    pub fn call_id(&self) -> &[u8] {
        &self.text[..self.ends[0] as usize]
    }

    pub fn caller_tag(&self) -> &[u8] {
        &self.text[self.ends[2] as usize..self.ends[3] as usize]
    }

    /// Contact of the caller.
    pub fn caller_contact(&self) -> &[u8] {
        &self.text[self.ends[3] as usize..]
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
        let text = |from: usize, to: usize| String::from_utf8_lossy(&self.text[from..to]).into_owned();
        let trunk = self.legs.first().map(|leg| &leg.trunk).or(self.trying.as_ref());
        CallView {
            call_id: text(0, self.ends[0] as usize),
            from: text(self.ends[0] as usize, self.ends[1] as usize),
            to: text(self.ends[1] as usize, self.ends[2] as usize),
            trunk: trunk.map(|trunk| trunk.id.to_string()).unwrap_or_default(),
            state: match (self.legs.is_empty(), self.ringing) {
                (false, _) => "established",
                (true, true) => "ringing",
                (true, false) => "trying",
            },
            since: self.since,
        }
    }
}
