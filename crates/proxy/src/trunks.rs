//! Requests that go over trunks: the question which one takes it, and what follows from the answer.

use std::sync::Arc;

use routing::{Rule, Trace};

use crate::forward;
use crate::reply::Reply;
use crate::shard::{Attempt, Failure, OverTrunk, Shard};
use crate::slab::Id;
use crate::treat::Rewritten;
use crate::{Answer, AttemptRecord, Cause, ContextId, Event, Hop, Local, Outbox, Party, Question, Target, Time, Times};

impl Shard {
    /// Answers a [`Question`] of this shard. A stale one is ignored, and its channel given back.
    pub fn answer(&mut self, now: Time, context: ContextId, answer: Answer, out: &mut Outbox) {
        let id = Id::from(context);
        let waits =
            self.contexts.get(id).is_some_and(|context| context.current.is_none() && !context.server.is_final());
        if !waits {
            return;
        }
        match answer {
            Answer::Forward(Target { seat, index, rule, trace }) => {
                let prefix = trace.as_ref().and_then(|trace| self.prefix_of(id, trace.prefix));
                let over = OverTrunk { seat, target: index, rule, prefix, nth: 0 };
                self.forward_to_trunk(now, id, over, trace, out);
            }
            Answer::Refuse { status, reason, trace } => {
                if let Some(record) = self.record_of(id) {
                    let rule = trace.as_ref().and_then(|trace| trace.rule.as_ref());
                    record.emergency |= rule.is_some_and(Rule::is_emergency);
                    record.refusal = trace;
                }
                self.nobody_takes_it(now, id, status, reason, out);
            }
        }
    }

    pub(crate) fn ask(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let draw = self.draw();
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        context.current = None;
        let Some(request) = context.request.clone() else { return };
        out.questions.push(Question {
            context: id.into(),
            source: context.source,
            names: context.names.clone(),
            request,
            numbers: context.numbers,
            begins_call: context.begins_call,
            secure: context.secure,
            tried: context.tried.clone(),
            again: context.targets.clone(),
            now,
            draw,
        });
    }

    /// Sends a request to a trunk; `trace` tells why to that one.
    pub(crate) fn forward_to_trunk(
        &mut self,
        now: Time,
        id: Id,
        mut over: OverTrunk,
        trace: Option<Box<Trace>>,
        out: &mut Outbox,
    ) {
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let trunk = over.seat.trunk().clone();
        let Some(chosen) = trunk.targets.get(over.target) else { return };
        context.attempts += 1;
        if !context.tried.contains(&trunk.live().serial()) {
            context.tried.push(trunk.live().serial());
            context.targets = None;
        }
        if trunk.targets.len() > 1 {
            let tried = context.targets.get_or_insert_with(|| (trunk.id.clone(), Vec::new()));
            tried.1.push(chosen.live.serial());
        }
        let place = &chosen.place;
        let listener = self.config.listener_towards(place.address, place.transport, context.reply.listener);
        let numbers = match (&over.rule, context.request.as_deref()) {
            (Some(rule), Some(request)) => Rewritten::of(rule, context.numbers, request),
            _ => Rewritten::default(),
        };
        if let Some(record) = self.record_of(id) {
            over.nth = record.attempted(AttemptRecord::begin(&over, place, &numbers, trace, now));
        }
        match listener {
            Some(listener) => {
                let hop = Hop::to_place(listener, place);
                self.send_to_trunk(now, id, over, hop, &numbers, out);
            }
            None => self.no_way_there(now, id, over, out),
        }
    }

    fn send_to_trunk(&mut self, now: Time, id: Id, over: OverTrunk, hop: Hop, numbers: &Rewritten, out: &mut Outbox) {
        let Some(context) = self.contexts.get_mut(id) else { return };
        let Some(request) = context.request.take() else { return };
        if self.kept.parse(&request).is_ok() {
            let kept = std::mem::take(&mut self.kept);
            let message = kept.message(&request);
            let mut uri = std::mem::take(&mut self.target);
            uri.clear();
            let trunk = over.seat.trunk();
            let called = numbers.called.as_deref();
            forward::trunk_target(message.request_uri().unwrap_or_default(), called, trunk, &mut uri);
            if numbers.calling.is_some() && context.from.is_none() {
                context.from = message.field(sip::Name::From).map(|from| from.value.into());
            }
            let attempt = Attempt { hop, trusted: trunk.facts.trusted, over: Some(over) };
            self.send_request(now, id, message, attempt, Some(&uri), out);
            self.target = uri;
            self.kept = kept;
        }
        if let Some(context) = self.contexts.get_mut(id) {
            context.request = Some(request);
        }
    }

    /// No listener of ours leads to the target: as if the request could not be sent.
    fn no_way_there(&mut self, now: Time, id: Id, over: OverTrunk, out: &mut Outbox) {
        if let Some(attempt) = self.attempt_of(id, over.nth) {
            attempt.end(Some(503), Some(Local::Unsent), None, now);
        }
        out.events.push(Event::Attempt {
            trunk: over.seat.trunk().clone(),
            target: over.target,
            status: 503,
            local: true,
            heard: false,
            retry_after: None,
            begins_call: self.contexts.get(id).is_some_and(|context| context.begins_call),
            times: Times { sent: now, reached: None },
            rule: over.rule,
            prefix: over.prefix,
        });
        let failure = Failure { status: 503, response: None, reroutes: true, next_target: true };
        self.conclude(now, id, &failure, out);
    }

    fn nobody_takes_it(&mut self, now: Time, id: Id, status: u16, reason: String, out: &mut Outbox) {
        let Some(context) = self.contexts.get(id) else { return };
        if context.best.is_some() {
            return self.answer_best(now, id, out);
        }
        let mut headers = format!("Reason: SIP;cause={status}");
        // It names trunks and their state: not for everyone.
        if context.trusted {
            headers.push_str(&format!(";text=\"{}\"", reason.replace(['"', '\\', '\r', '\n'], "'")));
        }
        headers.push_str("\r\n");
        if status == 503 {
            headers.push_str(&format!("Retry-After: {}\r\n", self.config.retry_after));
        }
        let source = context.source;
        let call_id = context.request.as_deref().map(|request| context.numbers.call_id.slice(request));
        let call_id = String::from_utf8_lossy(call_id.unwrap_or_default()).into_owned();
        let cause = if status == 404 { Cause::NoRoute } else { Cause::NoTrunk };
        if let Some(record) = self.record_of(id) {
            record.end(cause, Party::Router, now, None);
        }
        self.reply_in(now, id, &Reply { headers: headers.as_bytes(), ..Reply::new(status) }, out);
        out.events.push(Event::Refused { cause: cause.as_str(), source, call_id, reason });
    }

    /// The first so many characters of the number that begins a call.
    fn prefix_of(&self, id: Id, length: u8) -> Option<Arc<str>> {
        let context = self.contexts.get(id).filter(|context| context.begins_call && length > 0)?;
        let called = context.numbers.called.slice(context.request.as_deref()?);
        Some(std::str::from_utf8(called.get(..usize::from(length))?).ok()?.into())
    }
}
