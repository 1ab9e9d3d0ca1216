//! What became of a call: gathered in its shard, told once, at its end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use routing::{Rule, Trace, Trunk};

use crate::Time;
use crate::numbers::number_of;
use crate::shard::OverTrunk;
use crate::treat::Rewritten;

/// A call: one that stands, or in [`crate::Event::Ended`] one that has ended.
#[derive(Clone, Debug)]
pub struct CallRecord {
    text: Box<[u8]>,
    ends: [u32; PARTS],
    /// Where its INVITE came from.
    pub source: SocketAddr,
    /// How it came.
    pub transport: sip::Transport,
    /// The names of the source's verified certificate, in lower case.
    pub names: Option<Arc<[Box<str>]>>,
    /// When its INVITE came.
    pub began: Time,
    /// When the first 180 to 199 went to the caller.
    pub rang: Option<Time>,
    /// When the first 2xx went to the caller.
    pub answered: Option<Time>,
    /// When it ended: its BYE came, another final answer than 2xx went to the caller, or its time was over.
    pub ended: Option<Time>,
    /// The first final answer to the caller.
    pub status: Option<u16>,
    /// Who ended it; none while it stands, as with the next.
    pub ended_by: Option<Party>,
    /// How it ended.
    pub cause: Option<Cause>,
    /// Q.850 cause of what ended it: BYE, CANCEL, or the answer that the caller got (RFC 3326).
    pub q850: Option<u8>,
    /// Whether an emergency route took it.
    pub emergency: bool,
    /// The attempts, in order; the engine bounds their number.
    pub attempts: Vec<AttemptRecord>,
    /// The decision that found no trunk, where there was one.
    pub refusal: Option<Box<Trace>>,
}

/// Call-ID, URI of From, URI of To, Request-URI, tag of From, URI of Contact.
const PARTS: usize = 6;

/// One attempt of a call: one target of one trunk.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// Which of its targets.
    pub target: usize,
    /// Where the INVITE went.
    pub address: SocketAddr,
    /// How it went.
    pub transport: sip::Transport,
    /// The route; none where there are no routes.
    pub rule: Option<Rule>,
    /// The called prefix that the route matched.
    pub prefix: Option<Arc<str>>,
    /// The called number as it was sent, where it was rewritten.
    pub called: Option<Box<str>>,
    /// The calling number as it was sent, where it was rewritten.
    pub calling: Option<Box<str>>,
    /// When the INVITE was sent.
    pub began: Time,
    /// When its first 180 to 199 came.
    pub rang: Option<Time>,
    /// When its final answer came, or it was given up; none while it is waited for.
    pub ended: Option<Time>,
    /// Its final answer, or what stands for it: 408 for silence, 503 for a send error.
    pub status: Option<u16>,
    /// Why it has no final answer of its peer.
    pub local: Option<Local>,
    /// Q.850 cause of its final answer (RFC 3326).
    pub q850: Option<u8>,
    /// How it came to that trunk, where it was told.
    pub trace: Option<Box<Trace>>,
}

/// A party of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who called.
    Caller,
    /// Who was called.
    Callee,
    /// This proxy.
    Router,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was answered, and ended by BYE.
    Bye,
    /// The caller gave it up before it was answered.
    Cancelled,
    /// A peer refused it.
    Refused,
    /// No route matched.
    NoRoute,
    /// There was no trunk to try.
    NoTrunk,
    /// No attempt had a final answer of its peer.
    Timeout,
    /// It was answered, and its session was not refreshed in time (RFC 4028).
    SessionTimer,
    /// It was answered, and reached the longest duration.
    MaxDuration,
    /// This process ended; an answered call goes on without it.
    Shutdown,
    /// An error of ours.
    Internal,
}

/// Why an attempt has no final answer of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The peer said nothing.
    Silence,
    /// The peer rang, or was trying, for too long.
    Unanswered,
    /// The INVITE could not be sent.
    Unsent,
    /// Another attempt was answered.
    Elsewhere,
}

impl Party {
    /// `caller`, `callee` or `router`.
    pub fn as_str(self) -> &'static str {
        match self {
            Party::Caller => "caller",
            Party::Callee => "callee",
            Party::Router => "router",
        }
    }
}

impl Cause {
    /// In lower case, with underscores between the words.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Bye => "bye",
            Cause::Cancelled => "cancelled",
            Cause::Refused => "refused",
            Cause::NoRoute => "no_route",
            Cause::NoTrunk => "no_trunk",
            Cause::Timeout => "timeout",
            Cause::SessionTimer => "session_timer",
            Cause::MaxDuration => "max_duration",
            Cause::Shutdown => "shutdown",
            Cause::Internal => "internal",
        }
    }
}

impl Local {
    /// `silence`, `unanswered`, `unsent` or `elsewhere`.
    pub fn as_str(self) -> &'static str {
        match self {
            Local::Silence => "silence",
            Local::Unanswered => "unanswered",
            Local::Unsent => "unsent",
            Local::Elsewhere => "elsewhere",
        }
    }
}

impl CallRecord {
    /// Begins with an INVITE that has passed validation.
    pub(crate) fn begin(inbound: &crate::Inbound<'_>, transport: sip::Transport, now: Time) -> CallRecord {
        let invite = inbound.message;
        let from = invite.from().ok();
        let contact = invite.contact().and_then(Result::ok);
        let parts: [&[u8]; PARTS] = [
            invite.call_id().unwrap_or_default(),
            from.as_ref().map(|from| from.uri).unwrap_or_default(),
            invite.to().map(|to| to.uri).unwrap_or_default(),
            invite.request_uri().unwrap_or_default(),
            from.as_ref().and_then(|from| from.tag()).unwrap_or_default(),
            contact.map(|contact| contact.uri).unwrap_or_default(),
        ];
        let mut text = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let ends = parts.map(|part| {
            text.extend_from_slice(part);
            text.len() as u32
        });
        CallRecord {
            text: text.into(),
            ends,
            source: inbound.source,
            transport,
            names: inbound.names.cloned(),
            began: now,
            rang: None,
            answered: None,
            ended: None,
            status: None,
            ended_by: None,
            cause: None,
            q850: None,
            emergency: false,
            attempts: Vec::new(),
            refusal: None,
        }
    }

    fn part(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    pub(crate) fn call_id_bytes(&self) -> &[u8] {
        self.part(0)
    }

    pub(crate) fn caller_tag(&self) -> &[u8] {
        self.part(4)
    }

    pub(crate) fn caller_contact(&self) -> &[u8] {
        self.part(5)
    }

    /// Call-ID.
    pub fn call_id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.part(0))
    }

    /// URI of From.
    pub fn from(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.part(1))
    }

    /// URI of To.
    pub fn to(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.part(2))
    }

    /// Request-URI, as it came.
    pub fn request_uri(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.part(3))
    }

    /// The number that was called, as it came; empty where there was none.
    pub fn called(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(number_of(self.part(3)))
    }

    /// The number of the caller, as it came; empty where there was none.
    pub fn calling(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(number_of(self.part(1)))
    }

    /// The last decision, where it was told.
    pub fn trace(&self) -> Option<&Trace> {
        let last = self.attempts.iter().rev().find_map(|attempt| attempt.trace.as_deref());
        self.refusal.as_deref().or(last)
    }

    /// The attempt that was answered; where none was, the last one.
    pub fn attempt(&self) -> Option<&AttemptRecord> {
        let answered = |attempt: &&AttemptRecord| attempt.status.is_some_and(|status| (200..300).contains(&status));
        self.attempts.iter().find(answered).or(self.attempts.last())
    }

    /// From the answer to the end, in microseconds; none where it was not answered, or stands.
    pub fn duration(&self) -> Option<u64> {
        Some(self.ended?.0.saturating_sub(self.answered?.0))
    }

    /// Adds an attempt, and tells its place.
    pub(crate) fn attempted(&mut self, attempt: AttemptRecord) -> u8 {
        self.emergency |= attempt.rule.as_ref().is_some_and(Rule::is_emergency);
        // Most calls have one.
        self.attempts.reserve_exact(1);
        self.attempts.push(attempt);
        u8::try_from(self.attempts.len() - 1).unwrap_or(u8::MAX)
    }

    /// Notes how it ends. What is noted first holds.
    pub(crate) fn end(&mut self, cause: Cause, by: Party, at: Time, q850: Option<u8>) {
        if self.cause.is_none() {
            self.cause = Some(cause);
            self.ended_by = Some(by);
            self.ended = Some(at);
            self.q850 = q850;
        }
    }
}

impl AttemptRecord {
    pub(crate) fn begin(
        over: &OverTrunk,
        place: &routing::Place,
        numbers: &Rewritten,
        trace: Option<Box<Trace>>,
        now: Time,
    ) -> AttemptRecord {
        let text = |number: &Option<Vec<u8>>| Some(String::from_utf8_lossy(number.as_ref()?).into());
        AttemptRecord {
            trunk: over.seat.trunk().clone(),
            target: over.target,
            address: place.address,
            transport: place.transport,
            rule: over.rule.clone(),
            prefix: over.prefix.clone(),
            called: text(&numbers.called),
            calling: text(&numbers.calling),
            began: now,
            rang: None,
            ended: None,
            status: None,
            local: None,
            q850: None,
            trace,
        }
    }

    /// Notes its end.
    pub(crate) fn end(&mut self, status: Option<u16>, local: Option<Local>, q850: Option<u8>, at: Time) {
        self.ended = Some(at);
        self.status = status;
        self.local = local;
        self.q850 = q850;
    }
}
