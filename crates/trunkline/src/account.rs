//! What became of a call: as a record for keeping, and as an answer for those who ask.

use jiff::Timestamp;
use net::Clock;
use proxy::{AttemptRecord, CallRecord, Cause, Local, Party, Time};
use records::Record;
use routing::RouteTable;
use serde_json::{Value, json};

use crate::story;

/// The time of day, to the millisecond.
fn moment(clock: Clock, at: Time) -> Timestamp {
    let wall = Timestamp::try_from(clock.wall(at)).unwrap_or_default();
    Timestamp::from_millisecond(wall.as_millisecond()).unwrap_or(wall)
}

fn some(text: std::borrow::Cow<'_, str>) -> Option<String> {
    (!text.is_empty()).then(|| text.into_owned())
}

/// The trunk that a call comes from.
fn source_trunk(call: &CallRecord, table: &RouteTable) -> Option<String> {
    let names = call.names.as_deref().unwrap_or_default();
    table.sources().trunks_of(call.source.ip(), names).next().map(ToString::to_string)
}

/// The record of a call that has ended.
pub fn record(call: &CallRecord, table: &RouteTable, clock: Clock) -> Record {
    let at = |time: Time| moment(clock, time);
    let mut record = Record::new(call.call_id().into_owned(), call.source, at(call.began));
    let last = call.attempts.last();
    let sent = |number: Option<&str>, came: &Option<String>| number.map(str::to_owned).or_else(|| came.clone());
    record.source_trunk = source_trunk(call, table);
    record.from = call.from().into_owned();
    record.to = call.to().into_owned();
    record.request_uri = call.request_uri().into_owned();
    record.calling = some(call.calling());
    record.called = some(call.called());
    if let Some(last) = last {
        record.calling_after = sent(last.calling.as_deref(), &record.calling);
        record.called_after = sent(last.called.as_deref(), &record.called);
    }
    record.route = route(call);
    record.table_revision = call.trace().map_or(0, |trace| trace.revision);
    record.trunk = call.attempt().map(|attempt| attempt.trunk.id.to_string());
    record.rang_at = call.rang.map(at);
    record.answered_at = call.answered.map(at);
    record.ended_at = at(call.ended.unwrap_or(call.began));
    record.ended_by = match call.ended_by {
        Some(Party::Caller) => records::Party::Caller,
        Some(Party::Callee) => records::Party::Callee,
        Some(Party::Router) | None => records::Party::Router,
    };
    record.cause = cause(call.cause);
    record.status = call.status;
    record.q850 = call.q850;
    record.emergency = call.emergency;
    record.attempts = call.attempts.iter().map(|attempt| attempt_record(attempt, clock)).collect();
    record
}

fn route(call: &CallRecord) -> Option<String> {
    let by_attempt = call.attempt().and_then(|attempt| attempt.rule.as_ref());
    let rule = by_attempt.or_else(|| call.trace()?.rule.as_ref());
    rule.map(|rule| rule.id().to_string())
}

fn cause(cause: Option<Cause>) -> records::Cause {
    match cause {
        Some(Cause::Bye) => records::Cause::Bye,
        Some(Cause::Cancelled) => records::Cause::Cancelled,
        Some(Cause::Refused) => records::Cause::Refused,
        Some(Cause::NoRoute) => records::Cause::NoRoute,
        Some(Cause::NoTrunk) => records::Cause::NoTrunk,
        Some(Cause::Timeout) => records::Cause::Timeout,
        Some(Cause::SessionTimer) => records::Cause::SessionTimer,
        Some(Cause::MaxDuration) => records::Cause::MaxDuration,
        Some(Cause::Shutdown) => records::Cause::Shutdown,
        Some(Cause::Internal) | None => records::Cause::Internal,
    }
}

fn attempt_record(attempt: &AttemptRecord, clock: Clock) -> records::Attempt {
    let at = |time: Time| moment(clock, time);
    records::Attempt {
        trunk: attempt.trunk.id.to_string(),
        target: attempt.address,
        transport: match attempt.transport {
            sip::Transport::Udp => records::Transport::Udp,
            sip::Transport::Tcp => records::Transport::Tcp,
            sip::Transport::Tls => records::Transport::Tls,
        },
        started_at: at(attempt.began),
        rang_at: attempt.rang.map(at),
        ended_at: attempt.ended.map(at),
        status: attempt.status,
        local: match attempt.local {
            Some(Local::Silence | Local::Unanswered) => Some(records::Local::Silence),
            Some(Local::Unsent) => Some(records::Local::SendError),
            Some(Local::Elsewhere) | None => None,
        },
        cause: (attempt.local == Some(Local::Elsewhere)).then(|| "answered elsewhere".to_owned()),
        q850: attempt.q850,
    }
}

/// A call as the API tells it: how it went, each attempt, and why each decision came out as it did.
pub fn tell(call: &CallRecord, table: &RouteTable, clock: Clock) -> Value {
    let at = |time: Time| moment(clock, time).to_string();
    let state = match (call.ended, call.answered, call.rang) {
        (Some(_), _, _) => "ended",
        (None, Some(_), _) => "established",
        (None, None, Some(_)) => "ringing",
        (None, None, None) => "trying",
    };
    let between = |from: Option<Time>, to: Option<Time>| Some(to?.0.saturating_sub(from?.0) / 1000);
    json!({
        "id": call.call_id(),
        "state": state,
        "from": call.from(),
        "to": call.to(),
        "request_uri": call.request_uri(),
        "called": call.called(),
        "calling": call.calling(),
        "source": call.source,
        "transport": call.transport.as_str(),
        "source_trunk": source_trunk(call, table),
        "route": route(call),
        "trunk": call.attempt().map(|attempt| attempt.trunk.id.to_string()),
        "emergency": call.emergency,
        "since": at(call.began),
        "rang_at": call.rang.map(at),
        "answered_at": call.answered.map(at),
        "ended_at": call.ended.map(at),
        "setup_ms": between(Some(call.began), call.rang.or(call.answered)),
        "duration_ms": call.duration().map(|micros| micros / 1000),
        "status": call.status,
        "ended_by": call.ended_by.map(Party::as_str),
        "cause": call.cause.map(Cause::as_str),
        "q850": call.q850,
        "attempts": call.attempts.iter().map(|attempt| tell_attempt(attempt, clock)).collect::<Vec<_>>(),
        "refusal": call.refusal.as_deref().map(|trace| story::tell(trace, |_| None)),
    })
}

/// A call that has ended, in a list.
pub fn summary(call: &CallRecord, clock: Clock) -> Value {
    let at = |time: Time| moment(clock, time).to_string();
    json!({
        "id": call.call_id(),
        "from": call.from(),
        "to": call.to(),
        "trunk": call.attempt().map(|attempt| attempt.trunk.id.to_string()).unwrap_or_default(),
        "state": "ended",
        "since": at(call.began),
        "ended_at": call.ended.map(at),
        "status": call.status,
        "cause": call.cause.map(Cause::as_str),
    })
}

fn tell_attempt(attempt: &AttemptRecord, clock: Clock) -> Value {
    let at = |time: Time| moment(clock, time).to_string();
    let millis = |to: Option<Time>| Some(to?.0.saturating_sub(attempt.began.0) / 1000);
    json!({
        "trunk": &*attempt.trunk.id,
        "target": attempt.address,
        "transport": attempt.transport.as_str(),
        "route": attempt.rule.as_ref().map(|rule| &**rule.id()),
        "called_after": attempt.called,
        "calling_after": attempt.calling,
        "began_at": at(attempt.began),
        "rang_at": attempt.rang.map(at),
        "ended_at": attempt.ended.map(at),
        "post_dial_delay_ms": millis(attempt.rang),
        "status": attempt.status,
        "failover": failover(attempt),
        "q850": attempt.q850,
        "decision": attempt.trace.as_deref().map(|trace| story::tell(trace, |_| None)),
    })
}

/// Why another attempt followed, or could have; none for one that was answered or is waited for.
fn failover(attempt: &AttemptRecord) -> Option<String> {
    let status = attempt.status;
    match attempt.local {
        Some(Local::Silence) => Some("it said nothing in time".to_owned()),
        Some(Local::Unanswered) => Some("it rang for too long".to_owned()),
        Some(Local::Unsent) => Some("the INVITE could not be sent".to_owned()),
        Some(Local::Elsewhere) => Some("another attempt was answered".to_owned()),
        None => status.filter(|status| *status >= 300).map(|status| format!("it answered {status}")),
    }
}
