//! Requests: validation (RFC 3261 §16.3), what is for us, and what begins.

use sip::Name;

use crate::call::Call;
use crate::context::Context;
use crate::edits::Edits;
use crate::forward;
use crate::numbers::Numbers;
use crate::reply::{self, Reply};
use crate::route::Path;
use crate::server::Server;
use crate::shard::Shard;
use crate::slab::Id;
use crate::{Config, Event, Hop, Inbound, Outbox, Time, identity, key, via};

const ALLOW: &[u8] =
    b"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, INFO, REFER, MESSAGE, NOTIFY, SUBSCRIBE, PUBLISH\r\n";

impl Shard {
    /// A inbound came in.
    pub fn receive(&mut self, now: Time, inbound: Inbound<'_>, out: &mut Outbox) {
        if inbound.message.is_request() {
            self.on_request(now, inbound, out);
        } else {
            self.on_response(now, inbound.message, out);
        }
    }

    fn on_request(&mut self, now: Time, inbound: Inbound<'_>, out: &mut Outbox) {
        let message = inbound.message;
        let method = message.method();
        if let Err(violation) = message.validate() {
            return self.violates(now, &inbound, &violation, out);
        }
        let Ok(via) = message.top_via() else { return };
        key::write(message, &via, &mut self.key);
        let hash = key::hash(&self.config.keys, &self.key);
        let known = self.find_context(hash);
        match (method, known) {
            (Some(sip::Method::Ack), known) => return self.on_ack(now, &inbound, known, out),
            (Some(sip::Method::Cancel), known) => return self.on_cancel(now, &inbound, known, out),
            (_, Some(id)) => return self.repeat(id, out),
            (_, None) => {}
        }
        let config = self.config.clone();
        if method == Some(sip::Method::Register) && config.serves_register() {
            return self.on_register(now, &inbound, hash, out);
        }
        let path = Path::read(message, &config);
        if path.token.is_none() && !inbound.admission.allowed {
            let why = "this source may not place calls here";
            return self.refuse(now, &inbound, "forbidden", &Reply::new(403), why, out);
        }
        if message.max_forwards().ok().flatten() == Some(0) {
            return self.refuse(now, &inbound, "hops", &Reply::new(483), "Max-Forwards is used up", out);
        }
        if message.seconds(Name::MaxBreadth) == Some(0) {
            let why = "Max-Breadth is used up";
            return self.refuse(now, &inbound, "breadth", &Reply::new(440), why, out);
        }
        if forward::loops(message, &config) {
            return self.refuse(now, &inbound, "loop", &Reply::new(482), "the request has passed here before", out);
        }
        if let Some(field) = message.field(sip::Name::ProxyRequire) {
            let headers = [b"Unsupported: ", field.value, b"\r\n"].concat();
            let reply = Reply { headers: &headers, ..Reply::new(420) };
            return self.refuse(now, &inbound, "extension", &reply, "no option of Proxy-Require is known here", out);
        }
        let in_dialog = message.to().is_ok_and(|to| to.tag().is_some());
        if in_dialog {
            self.inside_dialog(now, &inbound, &path, hash, out);
        } else {
            self.outside_dialog(now, &inbound, &path, hash, out);
        }
    }

    fn outside_dialog(&mut self, now: Time, inbound: &Inbound<'_>, path: &Path<'_>, hash: u64, out: &mut Outbox) {
        let message = inbound.message;
        let method = message.method();
        let config = self.config.clone();
        let target = sip::Uri::parse(path.target).ok();
        let for_us = target.as_ref().is_some_and(|uri| config.is_us(uri));
        let retry = format!("Retry-After: {}\r\n", config.retry_after);
        let busy = Reply { headers: retry.as_bytes(), ..Reply::new(503) };
        if config.is_draining() {
            return self.refuse(now, inbound, "draining", &busy, "this node takes no new calls", out);
        }
        match method {
            Some(sip::Method::Options) if for_us && path.next_route.is_none() => {
                return self.reply_to(inbound, &Reply { headers: ALLOW, ..Reply::new(200) }, out);
            }
            Some(sip::Method::Register) => {
                let reply = Reply { headers: ALLOW, ..Reply::new(405) };
                return self.refuse(now, inbound, "method", &reply, "REGISTER is not served here", out);
            }
            Some(sip::Method::Bye | sip::Method::Prack | sip::Method::Update) => {
                return self.refuse(now, inbound, "method", &Reply::new(481), "it belongs to no dialog", out);
            }
            _ => {}
        }
        if path.next_route.is_some() || !inbound.admission.allowed {
            let why = "a new request goes to trunks only, not along a Route of its sender";
            return self.refuse(now, inbound, "forbidden", &Reply::new(403), why, out);
        }
        if identity::cannot_give(message) {
            let why = "the privacy that the caller calls critical cannot be given here";
            return self.refuse(now, inbound, "privacy", &Reply::new(500), why, out);
        }
        if self.contexts.len() >= config.max_transactions {
            return self.refuse(now, inbound, "overload", &busy, "too many transactions", out);
        }
        let invite = method == Some(sip::Method::Invite);
        if invite && self.holds_too_much(inbound.source.ip(), now, out) {
            return;
        }
        let id = self.new_context(now, inbound, hash, true);
        if let Some(context) = self.contexts.get_mut(id) {
            context.secure = target.as_ref().is_some_and(|uri| uri.scheme == sip::Scheme::Sips);
            // Only what a strict router has sent goes elsewhere than its Request-URI says (RFC 3261 §16.4).
            context.numbers = Numbers::read(message, target.as_ref().filter(|_| !path.is_strict()));
        }
        if invite {
            let call_hash = config.keys.hash(&[message.call_id().unwrap_or_default()]);
            let mut call = Call::begin(inbound, call_hash, config.transport(inbound.listener), now);
            call.context = Some(id);
            let call = self.add_call(call);
            if let Some(context) = self.contexts.get_mut(id) {
                context.call = Some(call);
                context.begins_call = true;
            }
        }
        self.ask(now, id, out);
    }

    pub(crate) fn new_context(&mut self, now: Time, inbound: &Inbound<'_>, hash: u64, over_trunks: bool) -> Id {
        let message = inbound.message;
        let invite = message.method() == Some(sip::Method::Invite);
        let reply = message.top_via().map_or_else(
            |_| Hop::to(inbound.listener, inbound.source),
            |via| via::reply_to(&via, inbound, &self.config),
        );
        let hundred_after = if invite { self.config.trying_delay } else { self.config.late_trying() };
        let session = forward::session(message, &self.config);
        let id = self.add_context(Context {
            hash,
            key: self.key.as_slice().into(),
            source: inbound.source,
            trusted: inbound.admission.trusted,
            names: inbound.names.cloned(),
            reply,
            invite,
            request: Some(message.bytes().into()),
            numbers: Numbers::default(),
            server: Server::Trying { hundred_at: Some(now.plus_millis(hundred_after)) },
            over_trunks,
            current: None,
            weighs: invite,
            attempts: 0,
            waits_until: None,
            tried: Vec::new(),
            targets: None,
            places: Vec::new(),
            secure: false,
            small_only: false,
            session,
            refreshable: forward::refreshable(message, session, &self.config),
            from: None,
            reason: Box::default(),
            best: None,
            call: None,
            begins_call: false,
            ends_leg: None,
            cancelled: false,
            rang: false,
            armed: Time(u64::MAX),
        });
        self.arm_context(id);
        id
    }

    /// CANCEL is answered 200 whatever becomes of it (§16.10); the answer is a function of the request, so it needs
    /// no transaction of its own.
    fn on_cancel(&mut self, now: Time, inbound: &Inbound<'_>, known: Option<Id>, out: &mut Outbox) {
        let ours = known.filter(|id| {
            self.contexts.get(*id).is_some_and(|context| context.source.ip() == inbound.source.ip() && context.invite)
        });
        let Some(id) = ours else {
            return self.refuse(now, inbound, "dialog", &Reply::new(481), "no such INVITE is pending", out);
        };
        self.reply_to(inbound, &Reply::new(200), out);
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        if context.server.is_final() || std::mem::replace(&mut context.cancelled, true) {
            return;
        }
        context.reason = reason_lines(inbound.message);
        let (reason, current) = (context.reason.clone(), context.current);
        if let Some(record) = self.record_of(id) {
            record.q850 = inbound.message.q850_cause();
        }
        match current {
            Some(client) => self.cancel_client(now, client, &reason, out),
            None => self.answer_best(now, id, out),
        }
    }

    fn repeat(&mut self, id: Id, out: &mut Outbox) {
        if let Some(context) = self.contexts.get(id)
            && let Some(bytes) = context.server.replay()
        {
            out.send(&context.reply, |out| out.extend_from_slice(bytes));
        }
    }

    fn violates(&mut self, now: Time, inbound: &Inbound<'_>, violation: &sip::Violation, out: &mut Outbox) {
        let reply = Reply { reason: violation.reason, ..Reply::new(violation.status) };
        self.refuse(now, inbound, "malformed", &reply, violation.reason, out);
    }

    /// Answers without keeping anything; a source that may not call hears one answer a second.
    pub(crate) fn refuse(
        &mut self,
        now: Time,
        inbound: &Inbound<'_>,
        cause: &'static str,
        reply: &Reply<'_>,
        reason: &str,
        out: &mut Outbox,
    ) {
        let heard = inbound.admission.allowed || self.config.gate.opens(inbound.source.ip(), now);
        let message = inbound.message;
        if !heard || message.method() == Some(sip::Method::Ack) {
            out.events.push(Event::Silenced { cause });
            return;
        }
        self.reply_to(inbound, reply, out);
        out.events.push(Event::Refused {
            cause,
            source: inbound.source,
            call_id: String::from_utf8_lossy(message.call_id().unwrap_or_default()).into_owned(),
            reason: reason.to_owned(),
        });
    }

    fn reply_to(&mut self, inbound: &Inbound<'_>, reply: &Reply<'_>, out: &mut Outbox) {
        write_reply(inbound, reply, &self.config, &mut self.edits, out);
    }
}

fn write_reply(inbound: &Inbound<'_>, reply: &Reply<'_>, config: &Config, edits: &mut Edits, out: &mut Outbox) {
    let message = inbound.message;
    let Ok(via) = message.top_via() else { return };
    out.send(&via::reply_to(&via, inbound, config), |out| {
        reply::write(message, inbound.source, reply, &config.keys, edits, out);
    });
}

/// Answers 400 to a request that names no call and hence has no shard, if it can be answered at all.
pub fn refuse_malformed(inbound: &Inbound<'_>, config: &Config, out: &mut Outbox) {
    let message = inbound.message;
    if !message.is_request() || message.method() == Some(sip::Method::Ack) || !inbound.admission.allowed {
        return;
    }
    let reply = Reply { reason: "Call-ID is missing", ..Reply::new(400) };
    write_reply(inbound, &reply, config, &mut Edits::default(), out);
}

/// Reason lines, as they came.
fn reason_lines(message: sip::Message<'_>) -> Box<[u8]> {
    message.fields_named(Name::Reason).flat_map(|field| &message.bytes()[field.line]).copied().collect()
}

/// Tags of From and To.
pub(crate) fn dialog_tags<'a>(message: sip::Message<'a>) -> (&'a [u8], &'a [u8]) {
    (
        message.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
        message.to().ok().and_then(|to| to.tag()).unwrap_or_default(),
    )
}
