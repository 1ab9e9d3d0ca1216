//! The state of one shard, and the steps that requests, responses and timers share.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use routing::{Rule, Seat};

use crate::call::{Call, CallView};
use crate::client::{Cancel, Client, State};
use crate::context::Context;
use crate::dialogs::HeldAck;
use crate::edits::Edits;
use crate::forward::{self, BranchText, Forward};
use crate::keys::{Branch, Token};
use crate::loads::Loads;
use crate::reply::{self, Reply};
use crate::route::Path;
use crate::server::{Resend, Server};
use crate::slab::{Id, Slab};
use crate::wheel::{Owner, Wheel};
use crate::{Config, Event, Hop, Outbox, Time};

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
    pub(crate) loads: Loads,
    /// ACKs whose next hop is being resolved.
    pub(crate) acks: VecDeque<HeldAck>,
    pub(crate) serial: u64,
    draws: u64,
}

/// What an attempt is made of, beside its message.
pub(crate) struct Attempt {
    pub hop: Hop,
    /// None inside a dialog.
    pub over: Option<OverTrunk>,
    /// Whether the peer may hear asserted identities, and is believed in its own.
    pub trusted: bool,
}

/// An attempt over a trunk.
pub(crate) struct OverTrunk {
    pub seat: Seat,
    /// Which of its targets.
    pub target: usize,
    pub rule: Option<Rule>,
    /// The called prefix that the rule matched.
    pub prefix: Option<Arc<str>>,
    /// Its place among the attempts of the call's record.
    pub nth: u8,
}

/// An attempt that ended without an answer, or with one that is no success.
pub(crate) struct Failure<'a> {
    pub status: u16,
    /// The answer as it would go upstream; none for silence and send errors.
    pub response: Option<&'a [u8]>,
    /// Whether the next trunk may be tried.
    pub reroutes: bool,
    /// Whether another target of the same trunk may be (RFC 3263 §4.3).
    pub next_target: bool,
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
            loads: Loads::default(),
            acks: VecDeque::new(),
            serial: 0,
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

    /// 64 bits that peers cannot foresee.
    pub(crate) fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.config.keys.hash(&[&self.draws.to_be_bytes()])
    }

    /// Makes a client transaction for a context and sends its request (§16.6 steps 8 to 11).
    pub(crate) fn send_request(
        &mut self,
        now: Time,
        id: Id,
        message: sip::Message<'_>,
        attempt: Attempt,
        target: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let config = self.config.clone();
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let Attempt { mut hop, over, trusted } = attempt;
        let until = now.plus_millis(64 * config.t1);
        // Silence ends an attempt early only where there is another to make.
        let bounded = over.is_some() || !context.places.is_empty();
        let rule = over.as_ref().and_then(|over| over.rule.clone());
        let setup_timeout = rule.as_ref().and_then(Rule::setup_timeout).unwrap_or(config.setup_timeout);
        let setup_until = bounded.then(|| now.plus_millis(setup_timeout));
        let makes_dialog = context.begins_call
            || matches!(message.method(), Some(sip::Method::Invite | sip::Method::Subscribe | sip::Method::Refer));
        let record = makes_dialog
            .then(|| Token { shard: self.index, call: context.call.unwrap_or(Id { slot: u32::MAX, generation: 0 }) });
        let by_tcp = over.as_ref().is_some_and(|over| over.seat.trunk().facts.large_over_tcp) && !context.small_only;
        let nth = over.as_ref().map_or(0, |over| over.nth);
        let begins_call = context.begins_call;
        let client =
            Client { invite: context.invite, begins_call, trusted, setup_until, ..Client::new(id, hop.clone(), now) };
        let client = self.clients.insert(client.over(over));
        context.current = Some(client);
        let branch = Branch { shard: self.index, client, loop_hash: forward::loop_hash(message, &config) };
        let mut forward = Forward {
            config: &config,
            source: context.source,
            trusted: trusted && context.trusted,
            secure: context.secure,
            rule: rule.as_ref().map(|rule| (rule, context.numbers)),
            session: context.session,
            came_by: context.reply.listener,
            leaves_by: hop.listener,
            target,
            branch: BranchText::Client(branch),
            record,
        };
        let path = Path::read(message, &config);
        let edits = &mut self.edits;
        let mut range = out.send(&hop, |out| forward::write(message, &path, &forward, edits, out));
        let mut large = false;
        if range.len() > LARGEST_DATAGRAM && !config.is_reliable(&hop) {
            // Anything larger goes by a transport with congestion control (RFC 3261 §18.1.1).
            match config.listener_towards(hop.address, sip::Transport::Tcp, hop.listener).filter(|_| by_tcp) {
                Some(listener) => {
                    hop.listener = listener;
                    forward.leaves_by = listener;
                    out.unsend(&range);
                    range = out.send(&hop, |out| forward::write(message, &path, &forward, edits, out));
                    large = true;
                }
                None => out.events.push(Event::Oversized),
            }
        }
        if let Some(client) = self.clients.get_mut(client) {
            let resend = Resend::start(now, config.t1, config.is_reliable(&hop));
            client.state = State::Calling { request: out.bytes[range].into(), resend, until };
            client.hop = hop;
            client.large = large;
        }
        if large && let Some(attempt) = self.attempt_of(id, nth) {
            attempt.transport = sip::Transport::Tcp;
        }
        self.arm_client(client);
    }

    /// An attempt ended without success: keeps its answer and tries the next target or trunk, or ends.
    pub(crate) fn conclude(&mut self, now: Time, id: Id, failure: &Failure<'_>, out: &mut Outbox) {
        let rings_on = self.config.reroute_after_ringing;
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        if context.server.is_final() {
            return;
        }
        context.current = None;
        context.offer(failure.status, failure.response);
        if !failure.next_target {
            context.targets = None;
        }
        let again = failure.reroutes
            && !context.cancelled
            && (rings_on || !context.rang)
            && usize::from(context.attempts) < MOST_ATTEMPTS;
        if again && context.over_trunks {
            self.ask(now, id, out);
        } else if again && failure.response.is_none() && !context.places.is_empty() {
            self.try_place(now, id, out);
        } else {
            self.answer_best(now, id, out);
        }
    }

    /// Sends the best answer upstream (§16.7 steps 6 to 9).
    pub(crate) fn answer_best(&mut self, now: Time, id: Id, out: &mut Outbox) {
        self.note_best(now, id);
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        let best = context.best.take();
        // No 408 to anything but INVITE, not even a received one: it would come too late to be of use (RFC 4320 §4.2).
        if !context.invite && best.as_ref().is_none_or(|best| best.status == 408) {
            return self.drop_context(now, id, out);
        }
        let received = best.as_ref().and_then(|best| Some((best.status, best.response.as_deref()?)));
        match received {
            Some((status, response)) => {
                let status = if status == 503 { 500 } else { status };
                self.answer_with(now, id, status, |out| out.extend_from_slice(response), out);
            }
            None if context.cancelled => self.reply_in(now, id, &Reply::new(487), out),
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
                    let range = out.send(&context.reply, write);
                    context.server = Server::Proceeding { last: out.bytes[range].into() };
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
        let range = out.send(&context.reply, write);
        let reliable = self.config.is_reliable(&context.reply);
        context.server = Server::answered(context.invite, reliable, status, &out.bytes[range], now, &self.config);
        context.request = None;
        context.tried = Vec::new();
        context.targets = None;
        context.places = Vec::new();
        context.waits_until = None;
        if context.begins_call {
            out.events.push(Event::Answered { status });
        }
        let call = context.call.filter(|_| context.begins_call);
        if (200..300).contains(&status) {
            self.settle_context(id);
        }
        self.arm_context(id);
        if let Some(call_id) = call
            && let Some(call) = self.calls.get_mut(call_id)
        {
            call.context = None;
            call.record.status.get_or_insert(status);
            if call.legs.is_empty() {
                self.drop_call(now, call_id, out);
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
        if context.weighs {
            self.loads.add(context.source.ip());
        }
        let id = self.contexts.insert(context);
        self.by_key.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        id
    }

    pub(crate) fn drop_context(&mut self, now: Time, id: Id, out: &mut Outbox) {
        self.settle_context(id);
        if let Some(context) = self.contexts.remove(id) {
            if let Ok(entry) = self.by_key.find_entry(context.hash, |(_, other)| *other == id) {
                entry.remove();
            }
            if let Some(call) = context.call.filter(|_| context.begins_call)
                && self.calls.get(call).is_some_and(|call| call.legs.is_empty())
            {
                self.drop_call(now, call, out);
            }
        }
    }

    pub(crate) fn add_call(&mut self, call: Call) -> Id {
        let hash = call.hash;
        self.loads.add(call.caller.address.ip());
        let id = self.calls.insert(call);
        self.by_call.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        id
    }

    pub(crate) fn arm_context(&mut self, id: Id) {
        if let Some(context) = self.contexts.get_mut(id)
            && let Some(at) = context.next_timeout()
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

    /// Cancels the INVITE of a client transaction, now or when a provisional answer comes (§9.1). `reason` are the Reason
    /// lines that it carries (RFC 3326).
    pub(crate) fn cancel_client(&mut self, now: Time, id: Id, reason: &[u8], out: &mut Outbox) {
        let config = self.config.clone();
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.invite || !matches!(client.cancel, Cancel::No | Cancel::Wanted { .. }) {
            return;
        }
        match &client.state {
            // The first reason stays: a caller who has hung up did so before the time ran out.
            State::Calling { .. } if matches!(client.cancel, Cancel::Wanted { .. }) => {}
            State::Calling { .. } => client.cancel = Cancel::Wanted { reason: reason.into() },
            State::Proceeding { request, .. } => {
                let Ok(()) = self.kept.parse(request) else { return };
                let message = self.kept.message(request);
                let range = out.send(&client.hop, |out| {
                    reply::hop_request(message, sip::Method::Cancel, None, reason, out);
                });
                client.cancel = Cancel::Sent {
                    bytes: out.bytes[range].into(),
                    resend: Resend::start(now, config.t1, config.is_reliable(&client.hop)),
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
/// Largest request that goes by UDP where it can go otherwise (RFC 3261 §18.1.1: the path MTU is not known).
const LARGEST_DATAGRAM: usize = 1300;
