//! The state of one shard, and the steps that requests, responses and timers share.

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashTable;
use routing::Seat;

use crate::call::{Call, CallView};
use crate::client::{Cancel, Client, State};
use crate::context::Context;
use crate::edits::Edits;
use crate::forward::{self, BranchText, Forward};
use crate::keys::{Branch, Token};
use crate::reply::{self, Reply};
use crate::route::Path;
use crate::server::{Resend, Server};
use crate::slab::{Id, Slab};
use crate::wheel::{Owner, Wheel};
use crate::{Answer, Config, ContextId, Event, Outbox, Question, Target, Time};

/// One shard of the proxy: a single-threaded state machine.
#[derive(Debug)]
pub struct Shard {
    pub(crate) index: u16,
    pub(crate) config: Arc<Config>,
    pub(crate) contexts: Slab<Context>,
    /// Slots of `contexts` by the hash of their key.
    pub(crate) by_key: HashTable<(u64, Id)>,
    pub(crate) clients: Slab<Client>,
    pub(crate) calls: Slab<Call>,
    /// Slots of `calls` by the hash of their Call-ID.
    pub(crate) by_call: HashTable<(u64, Id)>,
    pub(crate) wheel: Wheel,
    pub(crate) due: Vec<Owner>,
    pub(crate) edits: Edits,
    pub(crate) key: Vec<u8>,
    pub(crate) target: Vec<u8>,
    /// Index for messages that we kept.
    pub(crate) kept: sip::Index,
    draws: u64,
}

/// Where a request inside a dialog, or its ACK, goes.
pub(crate) struct Hop {
    pub destination: SocketAddr,
    pub listener: u8,
}

impl Shard {
    /// `index` is its place among the shards, as [`crate::owner`] counts; `seed` starts its draws.
    pub fn new(index: u16, config: Arc<Config>, seed: u64) -> Shard {
        Shard {
            index,
            config,
            contexts: Slab::new(),
            by_key: HashTable::new(),
            clients: Slab::new(),
            calls: Slab::new(),
            by_call: HashTable::new(),
            wheel: Wheel::new(),
            due: Vec::new(),
            edits: Edits::default(),
            key: Vec::new(),
            target: Vec::new(),
            kept: sip::Index::new(),
            draws: seed,
        }
    }

    /// When [`Self::fire`] wants to be called at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        self.wheel.next()
    }

    /// Standing calls, in no order.
    pub fn calls(&self) -> Vec<CallView> {
        self.calls.iter().map(Call::view).collect()
    }

    /// Server transactions held.
    pub fn transactions(&self) -> usize {
        self.contexts.len()
    }

    /// Server transactions without a final answer.
    pub fn undecided(&self) -> usize {
        self.contexts.iter().filter(|context| !context.server.is_final()).count()
    }

    /// Answers a [`Question`] of this shard. A stale one is ignored, and its channel given back.
    pub fn answer(&mut self, now: Time, context: ContextId, answer: Answer, out: &mut Outbox) {
        let id = Id { slot: context.slot, generation: context.generation };
        let waits =
            self.contexts.get(id).is_some_and(|context| context.current.is_none() && !context.server.is_final());
        if !waits {
            return;
        }
        match answer {
            Answer::Forward(target) => self.forward_to_trunk(now, id, target, out),
            Answer::Refuse(reason) => self.nobody_takes_it(now, id, &reason, out),
        }
    }

    pub(crate) fn ask(&mut self, id: Id, out: &mut Outbox) {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = self.config.keys.hash(&[&self.draws.to_be_bytes()]);
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        context.current = None;
        out.questions.push(Question {
            context: ContextId { slot: id.slot, generation: id.generation },
            source: context.source,
            takes_channel: context.begins_call,
            tried: context.tried.clone(),
            draw,
        });
    }

    fn forward_to_trunk(&mut self, now: Time, id: Id, target: Target, out: &mut Outbox) {
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let trunk = target.seat.trunk().clone();
        context.tried.push(trunk.live().serial());
        let listener = self.config.listener_towards(target.address, context.listener);
        if let Some(call) = context.call.and_then(|call| self.calls.get_mut(call)) {
            call.trying = Some(trunk.clone());
        }
        let Some(listener) = listener else {
            out.events.push(Event::Attempt { trunk, status: 503, local: true });
            return self.attempt_failed(now, id, &target.seat, 503, None, out);
        };
        let Some(request) = context.request.take() else { return };
        if self.kept.parse(&request).is_ok() {
            let kept = std::mem::take(&mut self.kept);
            let message = kept.message(&request);
            let mut uri = std::mem::take(&mut self.target);
            uri.clear();
            forward::trunk_target(message.request_uri().unwrap_or_default(), &trunk, &mut uri);
            let hop = Hop { destination: target.address, listener };
            self.send_request(now, id, message, &hop, Some(&uri), Some(target.seat), out);
            self.target = uri;
            self.kept = kept;
        }
        if let Some(context) = self.contexts.get_mut(id) {
            context.request = Some(request);
        }
    }

    /// Makes a client transaction for a context and sends its request (§16.6 steps 8 to 11).
    #[allow(clippy::too_many_arguments)] // the parts of one step; a struct would only rename them
    pub(crate) fn send_request(
        &mut self,
        now: Time,
        id: Id,
        message: sip::Message<'_>,
        hop: &Hop,
        target: Option<&[u8]>,
        seat: Option<Seat>,
        out: &mut Outbox,
    ) {
        let config = self.config.clone();
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let until = now.plus_millis(64 * config.t1);
        let setup_until = seat.is_some().then(|| now.plus_millis(config.setup_timeout));
        let makes_dialog = context.begins_call
            || matches!(message.method(), Some(sip::Method::Invite | sip::Method::Subscribe | sip::Method::Refer));
        let record = makes_dialog
            .then(|| Token { shard: self.index, call: context.call.unwrap_or(Id { slot: u32::MAX, generation: 0 }) });
        let client = self.clients.insert(Client {
            context: id,
            invite: context.invite,
            listener: hop.listener,
            destination: hop.destination,
            seat,
            state: State::Accepted { timer_m: until },
            cancel: Cancel::No,
            abandoned: false,
            setup_until,
            armed: Time(u64::MAX),
        });
        context.current = Some(client);
        let branch = Branch { shard: self.index, client, loop_hash: forward::loop_hash(message, &config) };
        let forward = Forward {
            config: &config,
            source: context.source,
            came_by: context.listener,
            leaves_by: hop.listener,
            target,
            branch: BranchText::Client(branch),
            record,
        };
        let path = Path::read(message, &config);
        let edits = &mut self.edits;
        let range = out.send(hop.listener, hop.destination, |out| {
            forward::write(message, &path, &forward, edits, out);
        });
        if let Some(client) = self.clients.get_mut(client) {
            client.state =
                State::Calling { request: out.bytes[range].into(), resend: Resend::start(now, config.t1), until };
        }
        self.arm_client(client);
    }

    /// An attempt ended without success: keeps its answer and tries the next trunk, or ends.
    pub(crate) fn attempt_failed(
        &mut self,
        now: Time,
        id: Id,
        seat: &Seat,
        status: u16,
        response: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let reroutes = seat.trunk().reroutes_on(status) || (response.is_none() && matches!(status, 408 | 503));
        self.conclude(now, id, reroutes, status, response, out);
    }

    /// The same, where `reroutes` says whether the next trunk may be tried at all.
    pub(crate) fn conclude(
        &mut self,
        now: Time,
        id: Id,
        reroutes: bool,
        status: u16,
        response: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let rings_on = self.config.reroute_after_ringing;
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        if context.server.is_final() {
            return;
        }
        context.current = None;
        context.offer(status, response);
        let again = reroutes
            && context.over_trunks
            && !context.cancelled
            && (rings_on || !context.rang)
            && context.tried.len() < MOST_ATTEMPTS;
        if again { self.ask(id, out) } else { self.answer_best(now, id, out) }
    }

    fn nobody_takes_it(&mut self, now: Time, id: Id, reason: &str, out: &mut Outbox) {
        let Some(context) = self.contexts.get(id) else { return };
        if context.best.is_some() {
            return self.answer_best(now, id, out);
        }
        let headers = format!(
            "Retry-After: {}\r\nReason: SIP;cause=503;text=\"{}\"\r\n",
            self.config.retry_after,
            reason.replace(['"', '\\', '\r', '\n'], "'")
        );
        let source = context.source;
        let call_id = context.request.as_deref().map(|request| call_id_text(&mut self.kept, request));
        self.reply_in(now, id, &Reply { headers: headers.as_bytes(), ..Reply::new(503) }, out);
        out.events.push(Event::Refused {
            cause: "no_trunk",
            source,
            call_id: call_id.unwrap_or_default(),
            reason: reason.to_owned(),
        });
    }

    /// Sends the best answer upstream (§16.7 steps 6 to 9).
    pub(crate) fn answer_best(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let best = context.best.take();
        let received = best.as_ref().and_then(|best| Some((best.status, best.response.as_deref()?)));
        match received {
            Some((status, response)) => {
                let status = if status == 503 { 500 } else { status };
                self.answer_with(now, id, status, |out| out.extend_from_slice(response), out);
            }
            None if context.cancelled => self.reply_in(now, id, &Reply::new(487), out),
            // No 408 to anything but INVITE: it would come too late to be of use (RFC 4320 §4.1).
            None if !context.invite && best.as_ref().is_none_or(|best| best.status == 408) => self.drop_context(id),
            None => {
                let status = best.map_or(500, |best| if best.status == 503 { 500 } else { best.status });
                self.reply_in(now, id, &Reply::new(status), out);
            }
        }
    }

    /// Answers a context by a reply of our own.
    pub(crate) fn reply_in(&mut self, now: Time, id: Id, reply: &Reply<'_>, out: &mut Outbox) {
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let Some(request) = context.request.take() else { return };
        let source = context.source;
        let config = self.config.clone();
        let mut kept = std::mem::take(&mut self.kept);
        let mut edits = std::mem::take(&mut self.edits);
        if kept.parse(&request).is_ok() {
            let message = kept.message(&request);
            let write = |out: &mut Vec<u8>| reply::write(message, source, reply, &config.keys, &mut edits, out);
            if reply.status == 100 {
                if let Some(context) = self.contexts.get_mut(id) {
                    out.send(context.listener, context.reply_to, write);
                    context.request = Some(request.clone());
                }
            } else {
                self.answer_with(now, id, reply.status, write, out);
            }
        }
        self.kept = kept;
        self.edits = edits;
    }

    /// Sends a final answer upstream and moves the server transaction on.
    pub(crate) fn answer_with(
        &mut self,
        now: Time,
        id: Id,
        status: u16,
        write: impl FnOnce(&mut Vec<u8>),
        out: &mut Outbox,
    ) {
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let range = out.send(context.listener, context.reply_to, write);
        context.server = Server::answered(context.invite, status, &out.bytes[range], now, &self.config);
        context.request = None;
        context.tried = Vec::new();
        if context.begins_call {
            out.events.push(Event::Answered { status });
        }
        let call = context.call.filter(|_| context.begins_call);
        self.arm_context(id);
        if let Some(call_id) = call
            && let Some(call) = self.calls.get_mut(call_id)
        {
            call.context = None;
            if call.legs.is_empty() {
                self.drop_call(call_id);
            }
        }
    }

    pub(crate) fn find_context(&self, hash: u64) -> Option<Id> {
        let found = self.by_key.find(hash, |(other, id)| {
            *other == hash && self.contexts.get(*id).is_some_and(|context| *context.key == *self.key)
        });
        found.map(|(_, id)| *id)
    }

    pub(crate) fn add_context(&mut self, context: Context) -> Id {
        let hash = context.hash;
        let id = self.contexts.insert(context);
        self.by_key.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        id
    }

    pub(crate) fn drop_context(&mut self, id: Id) {
        if let Some(context) = self.contexts.remove(id) {
            if let Ok(entry) = self.by_key.find_entry(context.hash, |(_, other)| *other == id) {
                entry.remove();
            }
            if let Some(call) = context.call.filter(|_| context.begins_call)
                && self.calls.get(call).is_some_and(|call| call.legs.is_empty())
            {
                self.drop_call(call);
            }
        }
    }

    pub(crate) fn add_call(&mut self, call: Call) -> Id {
        let hash = call.hash;
        let id = self.calls.insert(call);
        self.by_call.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        id
    }

    pub(crate) fn drop_call(&mut self, id: Id) {
        if let Some(call) = self.calls.remove(id)
            && let Ok(entry) = self.by_call.find_entry(call.hash, |(_, other)| *other == id)
        {
            entry.remove();
        }
    }

    pub(crate) fn arm_context(&mut self, id: Id) {
        if let Some(context) = self.contexts.get_mut(id)
            && let Some(at) = context.server.next_timeout()
            && at < context.armed
        {
            context.armed = at;
            self.wheel.arm(at, Owner::Context(id));
        }
    }

    pub(crate) fn arm_client(&mut self, id: Id) {
        if let Some(client) = self.clients.get_mut(id)
            && let Some(at) = client.next_timeout()
            && at < client.armed
        {
            client.armed = at;
            self.wheel.arm(at, Owner::Client(id));
        }
    }

    pub(crate) fn arm_call(&mut self, id: Id) {
        if let Some(call) = self.calls.get_mut(id)
            && let Some(at) = call.next_timeout()
            && at < call.armed
        {
            call.armed = at;
            self.wheel.arm(at, Owner::Call(id));
        }
    }

    /// Cancels the INVITE of a client transaction, now or when a provisional answer comes (§9.1).
    pub(crate) fn cancel_client(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let config = self.config.clone();
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.invite || !matches!(client.cancel, Cancel::No | Cancel::Wanted) {
            return;
        }
        match &client.state {
            State::Calling { .. } => client.cancel = Cancel::Wanted,
            State::Proceeding { request, .. } => {
                let Ok(()) = self.kept.parse(request) else { return };
                let message = self.kept.message(request);
                let range = out.send(client.listener, client.destination, |out| {
                    reply::hop_request(message, sip::Method::Cancel, None, out);
                });
                client.cancel = Cancel::Sent {
                    bytes: out.bytes[range].into(),
                    resend: Resend::start(now, config.t1),
                    until: now.plus_millis(64 * config.t1),
                };
                self.arm_client(id);
            }
            State::Completed { .. } | State::Accepted { .. } => {}
        }
    }
}

/// Attempts of one request at most, whatever the table holds.
const MOST_ATTEMPTS: usize = 16;

pub(crate) fn call_id_text(index: &mut sip::Index, request: &[u8]) -> String {
    match index.parse(request) {
        Ok(()) => String::from_utf8_lossy(index.message(request).call_id().unwrap_or_default()).into_owned(),
        Err(_) => String::new(),
    }
}
