//! Responses (RFC 3261 §16.7), and datagrams that came back.

use std::sync::Arc;

use sip::Name;

use crate::call::{Call, Leg, Side, Stay};
use crate::client::{Cancel, Client, ProbeOf, State};
use crate::context::{Context, Hangup};
use crate::history::local_of;
use crate::reply::{self, Upstream};
use crate::requests::dialog_tags;
use crate::server::Server;
use crate::shard::{Failure, OverTrunk, Shard};
use crate::slab::Id;
use crate::{Cause, Event, Local, Outbox, Party, Time, Times};

/// Shorter session intervals than RFC 4028 §5 allows do not end a call.
const SHORTEST_SESSION: u64 = 90;
/// Grace after a session timer has run out, in seconds: the BYE of the party that noticed may be under way.
const SESSION_GRACE: u64 = 32;
/// Dialogs of one call: downstream may fork, and may make up tags.
const MOST_LEGS: usize = 16;
/// Why an attempt is cancelled when another has been answered (RFC 3326 §2).
const ELSEWHERE: &[u8] = b"Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";

impl Shard {
    pub(crate) fn on_response(&mut self, now: Time, message: sip::Message<'_>, out: &mut Outbox) {
        let Some(branch) = message.top_via().ok().and_then(|via| self.config.keys.read_branch(via.branch()?)) else {
            return;
        };
        let (id, Some(status), Ok(cseq)) = (branch.client, message.status(), message.cseq()) else {
            return;
        };
        if let Some(probe) = self.clients.get(id).and_then(|client| client.probe) {
            if status >= 200 {
                self.clients.remove(id);
                self.probed(now, probe, message, out);
            }
            return;
        }
        // Without a second Via it has no way on; without these it cannot be matched upstream.
        let complete = message.values(sip::Name::Via).nth(1).is_some()
            && message.from().is_ok()
            && message.to().is_ok()
            && message.call_id().is_ok();
        let Some(client) = self.clients.get_mut(id) else { return };
        if cseq.method == sip::Method::Cancel {
            if let Cancel::Sent { until, .. } = client.cancel
                && status >= 200
            {
                client.cancel = Cancel::Answered { until };
            }
            return;
        }
        if !complete || (cseq.method == sip::Method::Invite) != client.invite {
            return;
        }
        client.heard = true;
        if client.invite && (180..300).contains(&status) {
            client.times.reached.get_or_insert(now);
        }
        match (status, client.invite) {
            (100..=199, _) => self.on_provisional(now, id, status, message, out),
            (200..=299, true) => self.on_success(now, id, status, message, out),
            (_, true) => self.on_failure(now, id, status, message, out),
            (_, false) => self.on_final(now, id, status, message, out),
        }
    }

    fn on_provisional(&mut self, now: Time, id: Id, status: u16, message: sip::Message<'_>, out: &mut Outbox) {
        let config = self.config.clone();
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.request().is_none() {
            return;
        }
        client.provisional(status, now, &config);
        let (context_id, abandoned, trusted, nth) = (client.context, client.abandoned, client.trusted, client.nth);
        let cancel = if let Cancel::Wanted { reason } = &client.cancel { Some(reason.clone()) } else { None };
        self.arm_client(id);
        if let Some(reason) = cancel {
            self.cancel_client(now, id, &reason, out);
        }
        if status >= 180
            && !abandoned
            && let Some(attempt) = self.attempt_of(context_id, nth)
        {
            attempt.rang.get_or_insert(now);
        }
        let Some(context) = self.contexts.get_mut(context_id) else {
            return;
        };
        // Nothing but 100 is provisional for other methods, and that stays on its hop (RFC 4320 §4.1).
        if status == 100 || abandoned || context.server.is_final() || !context.invite {
            return;
        }
        context.rang = true;
        let edits = &mut self.edits;
        let from = context.from.clone();
        let upstream = Upstream { status, trusted: trusted && context.trusted, session: None, from };
        let range = out.send(&context.reply, |out| reply::forward(message, &upstream, edits, out));
        context.server = Server::Proceeding { last: out.bytes[range].into() };
        if let Some(call) = context.call.filter(|_| context.begins_call).and_then(|call| self.calls.get_mut(call)) {
            call.ringing = true;
            if status >= 180 {
                call.record.rang.get_or_insert(now);
            }
        }
    }

    /// 2xx to INVITE: goes upstream always, late and repeated ones too (§16.7 step 5).
    fn on_success(&mut self, now: Time, id: Id, status: u16, message: sip::Message<'_>, out: &mut Outbox) {
        let config = self.config.clone();
        let Some(client) = self.clients.get_mut(id) else { return };
        let first = match client.state {
            State::Calling { .. } | State::Proceeding { .. } => true,
            State::Accepted { .. } => false,
            State::Completed { .. } => return,
        };
        client.state = State::Accepted { timer_m: now.plus_millis(64 * config.t1) };
        let context_id = client.context;
        let Some(context) = self.contexts.get_mut(context_id) else {
            return;
        };
        let (call_id, begins_call) = (context.call, context.begins_call);
        let answered = message.seconds(Name::SessionExpires);
        let session = context.refreshable.filter(|_| answered.is_none());
        let from = context.from.clone();
        let upstream = Upstream { status, trusted: client.trusted && context.trusted, session, from };
        if begins_call {
            if first {
                out.events.extend(Ended::told(client).answered(status, message));
            }
            if let Some(call) = call_id.and_then(|call| self.calls.get_mut(call)) {
                if first && let Some(attempt) = call.record.attempts.get_mut(usize::from(client.nth)) {
                    attempt.end(Some(status), None, None, now);
                }
                stand(call, client, message, now, config.max_call);
            }
        }
        if let Some(call) = call_id.and_then(|call| self.calls.get_mut(call)) {
            refresh(call, answered.or(session), now);
        }
        if let Some(call) = call_id {
            self.arm_call(call);
        }
        self.arm_client(id);
        let mut edits = std::mem::take(&mut self.edits);
        let write = |out: &mut Vec<u8>| reply::forward(message, &upstream, &mut edits, out);
        match self.contexts.get_mut(context_id) {
            Some(context) if context.server.is_final() => {
                out.send(&context.reply, write);
            }
            Some(context) => {
                // Another attempt may still be awaited, when this answer is of one given up before.
                let other = context.current.filter(|current| *current != id);
                self.answer_with(now, context_id, status, write, out);
                if let Some(other) = other {
                    let nth = self.clients.get(other).map_or(u8::MAX, |client| client.nth);
                    if let Some(attempt) = self.attempt_of(context_id, nth) {
                        attempt.end(None, Some(Local::Elsewhere), None, now);
                    }
                    self.abandon(now, other, ELSEWHERE, out);
                }
            }
            None => {}
        }
        self.edits = edits;
    }

    /// 300 to 699 to INVITE: acknowledged on this hop.
    fn on_failure(&mut self, now: Time, id: Id, status: u16, message: sip::Message<'_>, out: &mut Outbox) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let request = match &client.state {
            State::Calling { request, .. } | State::Proceeding { request, .. } => request,
            State::Completed { ack, .. } => {
                out.send(&client.hop, |out| out.extend_from_slice(ack));
                return;
            }
            State::Accepted { .. } => return,
        };
        if self.kept.parse(request).is_err() {
            return;
        }
        let invite = self.kept.message(request);
        let to = message.field(sip::Name::To).map(|field| &message.bytes()[field.line]);
        let range = out.send(&client.hop, |out| {
            reply::hop_request(invite, sip::Method::Ack, to, b"", out);
        });
        let timer_d = if self.config.is_reliable(&client.hop) { now } else { now.plus_millis(64 * self.config.t1) };
        client.state = State::Completed { ack: out.bytes[range].into(), timer_d };
        let ended = Ended::of(client);
        self.arm_client(id);
        self.failed(now, ended, status, message, out);
    }

    /// Final answer to anything but INVITE. Its transaction ends at once: repeats fall out by the generation.
    fn on_final(&mut self, now: Time, id: Id, status: u16, message: sip::Message<'_>, out: &mut Outbox) {
        let Some(mut client) = self.clients.remove(id) else { return };
        if status >= 300 {
            return self.failed(now, Ended::of(&mut client), status, message, out);
        }
        let Some(context) = self.contexts.get_mut(client.context) else {
            return;
        };
        if context.server.is_final() {
            return;
        }
        let (call, ends_leg) = (context.call, context.ends_leg.take());
        let answered = message.seconds(Name::SessionExpires);
        let session = context.refreshable.filter(|_| answered.is_none());
        let from = context.from.clone();
        let upstream = Upstream { status, trusted: client.trusted && context.trusted, session, from };
        out.events.extend(Ended::told(&client).answered(status, message));
        let mut edits = std::mem::take(&mut self.edits);
        self.answer_with(now, client.context, status, |out| reply::forward(message, &upstream, &mut edits, out), out);
        self.edits = edits;
        let Some(call_id) = call else { return };
        match ends_leg {
            Some(hangup) => self.end_leg(now, call_id, &hangup, out),
            None => {
                if let Some(call) = self.calls.get_mut(call_id) {
                    if cseq_is_update(message) {
                        refresh(call, answered.or(session), now);
                    }
                    self.arm_call(call_id);
                }
            }
        }
    }

    fn failed(&mut self, now: Time, ended: Ended, status: u16, message: sip::Message<'_>, out: &mut Outbox) {
        if ended.abandoned {
            return;
        }
        let context = self.contexts.get(ended.context);
        let believed = context.is_some_and(|context| context.trusted);
        let from = context.and_then(|context| context.from.clone());
        let shown = if status == 503 { 500 } else { status };
        let upstream = Upstream { status: shown, trusted: ended.trusted && believed, session: None, from };
        let mut response = Vec::with_capacity(message.bytes().len());
        reply::forward(message, &upstream, &mut self.edits, &mut response);
        let response = Some(response.as_slice());
        out.events.extend(ended.answered(status, message));
        if let Some(attempt) = self.attempt_of(ended.context, ended.nth) {
            attempt.end(Some(status), None, message.q850_cause(), now);
        }
        match ended.seat {
            Some(mut seat) => {
                seat.release();
                // A 503 speaks for one target (RFC 3263 §4.3), unless it asks for a rest: that is the trunk's.
                let next_target = status == 503 && message.seconds(Name::RetryAfter).is_none();
                let cause = message.q850_cause();
                let by_rule = ended.rule.and_then(|rule| rule.reroutes_on(status, cause));
                let reroutes = by_rule.unwrap_or_else(|| seat.trunk().reroutes_on(status, cause));
                self.conclude(now, ended.context, &Failure { status, response, reroutes, next_target }, out);
            }
            None => {
                // A challenged BYE comes again; any other answer ends the leg.
                let ends = self.contexts.get_mut(ended.context).and_then(|context| {
                    let hangup = context.ends_leg.take().filter(|_| !matches!(status, 401 | 407))?;
                    Some((context.call?, hangup))
                });
                let failure = Failure { status, response, reroutes: false, next_target: false };
                self.conclude(now, ended.context, &failure, out);
                if let Some((call, hangup)) = ends {
                    self.end_leg(now, call, &hangup, out);
                }
            }
        }
    }

    pub(crate) fn end_leg(&mut self, now: Time, call_id: Id, hangup: &Hangup, out: &mut Outbox) {
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        let found = call.side(&hangup.from_tag, &hangup.to_tag);
        if let Some((_, leg)) = found {
            let gone = call.legs.remove(leg);
            // Where downstream forked, one channel carries several dialogs: the last one gives it back.
            if let Some(stay) = gone.stay {
                match call.legs.iter_mut().find(|leg| leg.stay.is_none()) {
                    Some(heir) => heir.stay = Some(stay),
                    None => out.events.push(stay.over(hangup.at)),
                }
            }
        }
        if call.legs.is_empty() && call.context.is_none() {
            let by = if let Some((Side::Callee, _)) = found { Party::Callee } else { Party::Caller };
            call.record.end(Cause::Bye, by, hangup.at, hangup.q850);
            self.drop_call(now, call_id, out);
        }
    }

    /// Waits for an attempt no longer: its channel is free, its INVITE cancelled with these Reason lines.
    pub(crate) fn abandon(&mut self, now: Time, id: Id, reason: &[u8], out: &mut Outbox) {
        let until = now.plus_millis(64 * self.config.t1);
        if let Some(client) = self.clients.get_mut(id) {
            client.abandoned = true;
            client.setup_until = None;
            if let Some(seat) = &mut client.seat {
                seat.release();
            }
            if let State::Proceeding { until: at, .. } = &mut client.state {
                *at = until;
            }
        }
        self.cancel_client(now, id, reason, out);
        self.arm_client(id);
    }

    /// A message that this shard sent came back, or its connection failed; `bytes` is its beginning (RFC 3261 §18.4).
    pub fn undeliverable(&mut self, now: Time, bytes: &[u8], out: &mut Outbox) {
        if bytes.starts_with(b"SIP/2.0") || bytes.starts_with(b"CANCEL") || bytes.starts_with(b"ACK") {
            return;
        }
        let Some(branch) = self.config.keys.find_branch(bytes) else {
            return;
        };
        let id = branch.client;
        let Some(client) = self.clients.get_mut(id) else { return };
        if !matches!(client.state, State::Calling { .. }) {
            return;
        }
        let wanted = self.contexts.get(client.context).is_some_and(|context| !context.cancelled);
        if client.large && !client.abandoned && wanted {
            return self.shrink(now, id, out);
        }
        self.attempt_over(now, id, 503, out);
    }

    /// The large form of a request could not go by TCP: it goes by UDP as it is (§18.1.1).
    fn shrink(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let Some(client) = self.clients.remove(id) else { return };
        let Some(context) = self.contexts.get_mut(client.context) else { return };
        context.small_only = true;
        context.current = None;
        if let Some(attempt) = self.attempt_of(client.context, client.nth) {
            attempt.end(Some(503), Some(Local::Unsent), None, now);
        }
        if let Some(seat) = client.seat {
            let over = OverTrunk { seat, target: client.target, rule: client.rule, prefix: client.prefix, nth: 0 };
            self.forward_to_trunk(now, client.context, over, None, out);
        }
    }

    /// A client transaction ends without an answer: by silence (408) or a send error (503).
    pub(crate) fn attempt_over(&mut self, now: Time, id: Id, status: u16, out: &mut Outbox) {
        let Some(mut client) = self.clients.remove(id) else { return };
        if let Some(ProbeOf { token, sent }) = client.probe {
            let round_trip = now.0.saturating_sub(sent.0);
            let unsent = status == 503;
            out.events.push(Event::Probed { token, status: None, unsent, retry_after: None, round_trip });
        } else if !client.abandoned {
            self.gave_up(now, &Ended::of(&mut client), status, out);
        }
    }

    pub(crate) fn gave_up(&mut self, now: Time, ended: &Ended, status: u16, out: &mut Outbox) {
        out.events.extend(ended.event(status, true, None));
        if let Some(attempt) = self.attempt_of(ended.context, ended.nth) {
            attempt.end(Some(status), Some(local_of(status, ended.heard)), None, now);
        }
        let last = |context: &&mut Context| context.places.is_empty();
        let context = self.contexts.get_mut(ended.context).filter(last);
        let ends = context.and_then(|context| Some((context.call?, context.ends_leg.take()?)));
        // A peer that was heard lives: what was not answered is the trunk's, not the target's.
        let failure = Failure { status, response: None, reroutes: true, next_target: !ended.heard };
        self.conclude(now, ended.context, &failure, out);
        if let Some((call, hangup)) = ends {
            self.end_leg(now, call, &hangup, out);
        }
    }
}

/// What is left of a client transaction that has ended.
pub(crate) struct Ended {
    pub context: Id,
    pub abandoned: bool,
    pub seat: Option<routing::Seat>,
    pub target: usize,
    pub trusted: bool,
    pub heard: bool,
    pub times: Times,
    pub rule: Option<routing::Rule>,
    pub prefix: Option<Arc<str>>,
    pub begins_call: bool,
    pub nth: u8,
}

impl Ended {
    /// Takes the seat along.
    pub fn of(client: &mut Client) -> Ended {
        let seat = client.seat.take();
        Ended { seat, ..Ended::told(client) }
    }

    /// Leaves the seat, as the attempt may be answered yet.
    pub fn told(client: &Client) -> Ended {
        Ended {
            context: client.context,
            abandoned: client.abandoned,
            seat: client.seat.as_ref().map(|seat| routing::Seat::without_channel(seat.trunk())),
            target: client.target,
            trusted: client.trusted,
            heard: client.heard,
            times: client.times,
            rule: client.rule.clone(),
            prefix: client.prefix.clone(),
            begins_call: client.begins_call,
            nth: client.nth,
        }
    }

    fn answered(&self, status: u16, message: sip::Message<'_>) -> Option<Event> {
        self.event(status, false, message.seconds(Name::RetryAfter).filter(|_| status == 503))
    }

    fn event(&self, status: u16, local: bool, retry_after: Option<u32>) -> Option<Event> {
        let seat = self.seat.as_ref()?;
        Some(Event::Attempt {
            trunk: seat.trunk().clone(),
            target: self.target,
            status,
            local,
            heard: self.heard,
            retry_after,
            begins_call: self.begins_call,
            times: self.times,
            rule: self.rule.clone(),
            prefix: self.prefix.clone(),
        })
    }
}

/// A leg stands from its first 2xx. Beyond the most that a call may have the answer goes on all the same, and its dialog finds
/// its way by its route set alone.
fn stand(call: &mut Call, client: &mut Client, message: sip::Message<'_>, now: Time, max_call: u64) {
    let (_, tag) = dialog_tags(message);
    if call.legs.len() >= MOST_LEGS || call.legs.iter().any(|leg| &*leg.tag == tag) {
        return;
    }
    let mut seat = client.seat.take();
    let trunk = match &mut seat {
        Some(seat) => {
            // Given up before, answered after all: the call stands, so it counts.
            seat.retake();
            seat.trunk().clone()
        }
        // A second dialog of the same attempt: downstream forked; one channel carries both.
        None => match call.legs.first() {
            Some(leg) => leg.trunk.clone(),
            None => return,
        },
    };
    if call.legs.is_empty() {
        call.ends_at = now.plus_millis(max_call);
        call.record.answered.get_or_insert(now);
    }
    call.legs.push(Leg {
        stay: seat.map(|seat| Stay { seat, since: now, prefix: client.prefix.clone() }),
        trunk,
        tag: tag.into(),
        contact: message.contact().and_then(Result::ok).map(|contact| contact.uri).unwrap_or_default().into(),
        hop: client.hop.clone(),
    });
}

/// Notes the session timer that a 2xx agrees on, in seconds, or that there is none (RFC 4028 §8.2).
fn refresh(call: &mut Call, seconds: Option<u32>, now: Time) {
    call.session_until =
        seconds.map(|seconds| now.plus_millis((u64::from(seconds).max(SHORTEST_SESSION) + SESSION_GRACE) * 1000));
}

fn cseq_is_update(message: sip::Message<'_>) -> bool {
    message.cseq().is_ok_and(|cseq| cseq.method == sip::Method::Update)
}

impl Context {
    /// Whether anything is awaited from downstream.
    pub(crate) fn awaits(&self, client: Id) -> bool {
        self.current == Some(client) && !self.server.is_final()
    }
}
