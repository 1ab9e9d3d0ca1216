//! What is written of a call. Its members, their units and their sets are also in docs/call-record.schema.json,
//! which a test holds against what is really written.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time;

/// Version of the schema: it rises only when a member changes its meaning or goes. New members and new values
/// of [`Cause`] may come without.
pub const SCHEMA: u32 = 1;

/// Longest text of a record, in bytes; what is longer is cut and ends with `…`.
const LONGEST: usize = 1024;
/// Longest text of an attempt, in bytes.
const LONGEST_IN_ATTEMPT: usize = 256;
/// Attempts that are written; of more, the last ones.
const MOST_ATTEMPTS: usize = 64;

/// One call, from its INVITE to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`]; set where the record is written.
    pub schema: u32,
    /// A UUID (version 7, RFC 9562) that no other record has, and that it keeps however often it is delivered; set
    /// where the record is written.
    pub id: String,
    /// Call-ID of the INVITE.
    pub call_id: String,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// The trunk that the source belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_trunk: Option<String>,
    /// URI of the From header.
    pub from: String,
    /// URI of the To header.
    pub to: String,
    /// Request-URI as it came.
    pub request_uri: String,
    /// The calling number as it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calling: Option<String>,
    /// The called number as it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub called: Option<String>,
    /// The calling number as the trunk of the last attempt was told it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calling_after: Option<String>,
    /// The called number as the trunk of the last attempt was told it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub called_after: Option<String>,
    /// The route that was taken; none where there was none, or none matched.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<String>,
    /// Revision of the route table that decided.
    pub table_revision: u64,
    /// The trunk that answered; where none did, the last that was tried.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trunk: Option<String>,
    /// When the INVITE came.
    #[serde(with = "time")]
    pub started_at: Timestamp,
    /// When it first rang (18x) at the caller's.
    #[serde(with = "time::optional", skip_serializing_if = "Option::is_none", default)]
    pub rang_at: Option<Timestamp>,
    /// When it was answered (2xx).
    #[serde(with = "time::optional", skip_serializing_if = "Option::is_none", default)]
    pub answered_at: Option<Timestamp>,
    /// When it ended: by its BYE, by another final answer than 2xx, or by a limit.
    #[serde(with = "time")]
    pub ended_at: Timestamp,
    /// From the INVITE to the first ringing (post-dial delay), in milliseconds; set where the record is written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub setup_ms: Option<u64>,
    /// From the first ringing to the answer, or to the end without one, in milliseconds; set where the record is
    /// written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ring_ms: Option<u64>,
    /// From the answer to the end, in milliseconds; set where the record is written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ms: Option<u64>,
    /// Who ended it.
    pub ended_by: Party,
    /// How it ended.
    pub cause: Cause,
    /// The final answer that the caller got; none where it got none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Q.850 cause of the Reason header that came with the end (RFC 3326).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub q850: Option<u8>,
    /// Whether an emergency route took it.
    pub emergency: bool,
    /// Every trunk's target that was tried, in order.
    pub attempts: Vec<Attempt>,
}

/// One try of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The trunk.
    pub trunk: String,
    /// Where the INVITE was sent.
    pub target: SocketAddr,
    /// By which transport.
    pub transport: Transport,
    /// When it was sent.
    #[serde(with = "time")]
    pub started_at: Timestamp,
    /// When it first rang (18x).
    #[serde(with = "time::optional", skip_serializing_if = "Option::is_none", default)]
    pub rang_at: Option<Timestamp>,
    /// When its final answer came, or when it was given up.
    #[serde(with = "time::optional", skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// Its final answer; with `local`, the code that stands for what happened here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Why there was no final answer of the peer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local: Option<Local>,
    /// Why it ended, in words, where status and `local` do not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Q.850 cause of its final answer (RFC 3326).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub q850: Option<u8>,
}

/// Why an attempt has no final answer of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// The peer said nothing, or only rang, until its time was over.
    Silence,
    /// The INVITE could not be sent.
    SendError,
}

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The one who called: by BYE or CANCEL.
    Caller,
    /// The one who was called: by BYE or by a final answer.
    Callee,
    /// Trunkline.
    Router,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was answered, and ended by BYE.
    Bye,
    /// The caller gave up (CANCEL) before an answer.
    Cancelled,
    /// A trunk refused it: the caller got its answer.
    Refused,
    /// No route matched.
    NoRoute,
    /// No trunk could be tried.
    NoTrunk,
    /// Every attempt ended without a final answer of its peer.
    Timeout,
    /// Refused here for what the request was or where it came from; `status` says more.
    Rejected,
    /// It was answered, and its session was not refreshed in time (RFC 4028).
    SessionTimer,
    /// It was answered, and reached the longest duration.
    MaxDuration,
    /// The process ended; an answered call goes on without it.
    Shutdown,
    /// An error of ours.
    Internal,
}

impl Record {
    /// A call of which nothing else is known yet: it ends when it began, by an error of ours.
    pub fn new(call_id: String, source: SocketAddr, started_at: Timestamp) -> Record {
        Record {
            schema: SCHEMA,
            id: String::new(),
            call_id,
            source,
            source_trunk: None,
            from: String::new(),
            to: String::new(),
            request_uri: String::new(),
            calling: None,
            called: None,
            calling_after: None,
            called_after: None,
            route: None,
            table_revision: 0,
            trunk: None,
            started_at,
            rang_at: None,
            answered_at: None,
            ended_at: started_at,
            setup_ms: None,
            ring_ms: None,
            duration_ms: None,
            ended_by: Party::Router,
            cause: Cause::Internal,
            status: None,
            q850: None,
            emergency: false,
            attempts: Vec::new(),
        }
    }

    /// Whether the call was answered: such a record is shed last.
    pub fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// About its size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let texts = [&self.id, &self.call_id, &self.from, &self.to, &self.request_uri];
        let options =
            [&self.source_trunk, &self.calling, &self.called, &self.calling_after, &self.called_after, &self.route];
        let attempts = self
            .attempts
            .iter()
            .map(|a| size_of::<Attempt>() + a.trunk.len() + a.cause.as_ref().map_or(0, String::len));
        size_of::<Record>()
            + texts.iter().map(|text| text.len()).sum::<usize>()
            + options.iter().filter_map(|text| text.as_ref()).map(String::len).sum::<usize>()
            + self.trunk.as_ref().map_or(0, String::len)
            + attempts.sum::<usize>()
    }

    /// Sets what the writer sets, and bounds what peers have a say in: a line has a longest length, and no text that
    /// a receiver cannot hold (PostgreSQL knows no NUL).
    pub(crate) fn seal(&mut self, id: String) {
        let millis = |from: Timestamp, to: Timestamp| u64::try_from(to.as_millisecond() - from.as_millisecond()).ok();
        self.schema = SCHEMA;
        self.id = id;
        self.setup_ms = self.rang_at.and_then(|rang| millis(self.started_at, rang));
        self.ring_ms = self.rang_at.and_then(|rang| millis(rang, self.answered_at.unwrap_or(self.ended_at)));
        self.duration_ms = self.answered_at.and_then(|answered| millis(answered, self.ended_at));
        for text in [&mut self.call_id, &mut self.from, &mut self.to, &mut self.request_uri] {
            bound(text, LONGEST);
        }
        let options = [
            &mut self.source_trunk,
            &mut self.calling,
            &mut self.called,
            &mut self.calling_after,
            &mut self.called_after,
            &mut self.route,
            &mut self.trunk,
        ];
        for text in options.into_iter().flatten() {
            bound(text, LONGEST);
        }
        if self.attempts.len() > MOST_ATTEMPTS {
            self.attempts.drain(..self.attempts.len() - MOST_ATTEMPTS);
        }
        for attempt in &mut self.attempts {
            bound(&mut attempt.trunk, LONGEST_IN_ATTEMPT);
            if let Some(cause) = &mut attempt.cause {
                bound(cause, LONGEST_IN_ATTEMPT);
            }
        }
    }
}

fn bound(text: &mut String, longest: usize) {
    if text.len() > longest {
        let mark = '…';
        let mut end = longest - mark.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push(mark);
    }
    if memchr::memchr(0, text.as_bytes()).is_some() {
        *text = text.replace('\0', "\u{fffd}");
        // The mark of a replaced character is longer than NUL was.
        bound(text, longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new("a".into(), "192.0.2.9:5060".parse().unwrap(), at(0))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    #[test]
    fn durations_follow_from_the_times() {
        let mut record = Record { rang_at: Some(at(150)), ended_at: at(9000), ..record() };
        record.seal("x".into());
        assert_eq!((record.setup_ms, record.ring_ms, record.duration_ms), (Some(150), Some(8850), None));
        record.answered_at = Some(at(2150));
        record.seal("x".into());
        assert_eq!((record.setup_ms, record.ring_ms, record.duration_ms), (Some(150), Some(2000), Some(6850)));
        record.rang_at = None;
        record.seal("x".into());
        assert_eq!((record.setup_ms, record.ring_ms, record.duration_ms), (None, None, Some(6850)));
    }

    #[test]
    fn what_peers_sent_is_bounded_and_without_nul() {
        let attempt = Attempt {
            trunk: "a".repeat(300),
            target: "192.0.2.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            started_at: at(0),
            rang_at: None,
            ended_at: None,
            status: None,
            local: None,
            cause: Some("\0".repeat(400)),
            q850: None,
        };
        let mut attempts = vec![attempt; 100];
        attempts[99].trunk = "last".into();
        // Every byte is one that JSON writes as six.
        let mut record = Record { call_id: "\u{1}".repeat(70_000), from: "ä".repeat(600), attempts, ..record() };
        record.to = "a\0b".into();
        record.seal("x".into());
        assert_eq!((record.call_id.len(), record.from.len()), (1024, 1023));
        assert!(record.from.ends_with("ä…"));
        assert_eq!(record.to, "a\u{fffd}b");
        assert_eq!(record.attempts.len(), 64);
        assert_eq!(record.attempts[63].trunk, "last");
        let line = serde_json::to_vec(&record).unwrap();
        assert!(line.len() < crate::spool::LONGEST_LINE, "{}", line.len());
        assert!(!line.windows(6).any(|text| text == b"\\u0000"));
    }
}
