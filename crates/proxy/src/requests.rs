//! Requests: validation (RFC 3261 §16.3), what is for us, what begins, what goes on inside a dialog.

use std::net::SocketAddr;

use crate::call::{Call, Side};
use crate::context::Context;
use crate::edits::Edits;
use crate::forward::{self, BranchText, Forward};
use crate::keys::Token;
use crate::reply::{self, Reply};
use crate::route::Path;
use crate::server::Server;
use crate::shard::{Hop, Shard};
use crate::slab::Id;
use crate::{Config, Datagram, Event, Outbox, Time, key, via};

const ALLOW: &[u8] =
    b"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, INFO, REFER, MESSAGE, NOTIFY, SUBSCRIBE, PUBLISH\r\n";

impl Shard {
    /// A datagram came in.
    pub fn receive(&mut self, now: Time, datagram: Datagram<'_>, out: &mut Outbox) {
        if datagram.message.is_request() {
            self.on_request(now, datagram, out);
        } else {
            self.on_response(now, datagram.message, out);
        }
    }

    fn on_request(&mut self, now: Time, datagram: Datagram<'_>, out: &mut Outbox) {
        let message = datagram.message;
        let method = message.method();
        if let Err(violation) = message.validate() {
            return self.violates(now, &datagram, &violation, out);
        }
        let Ok(via) = message.top_via() else { return };
        key::write(message, &via, &mut self.key);
        let hash = key::hash(&self.config.keys, &self.key);
        let known = self.find_context(hash);
        match (method, known) {
            (Some(sip::Method::Ack), known) => return self.on_ack(now, &datagram, known, out),
            (Some(sip::Method::Cancel), known) => return self.on_cancel(now, &datagram, known, out),
            (_, Some(id)) => return self.repeat(id, out),
            (_, None) => {}
        }
        let config = self.config.clone();
        let path = Path::read(message, &config);
        if path.token.is_none() && !datagram.allowed {
            let why = "this source may not place calls here";
            return self.refuse(now, &datagram, "forbidden", &Reply::new(403), why, out);
        }
        if message.max_forwards().ok().flatten() == Some(0) {
            return self.refuse(now, &datagram, "hops", &Reply::new(483), "Max-Forwards is used up", out);
        }
        if forward::loops(message, &config) {
            return self.refuse(now, &datagram, "loop", &Reply::new(482), "the request has passed here before", out);
        }
        if let Some(field) = message.field(sip::Name::ProxyRequire) {
            let headers = [b"Unsupported: ", field.value, b"\r\n"].concat();
            let reply = Reply { headers: &headers, ..Reply::new(420) };
            return self.refuse(now, &datagram, "extension", &reply, "no option of Proxy-Require is known here", out);
        }
        let in_dialog = message.to().is_ok_and(|to| to.tag().is_some());
        if in_dialog {
            self.inside_dialog(now, &datagram, &path, hash, out);
        } else {
            self.outside_dialog(now, &datagram, &path, hash, out);
        }
    }

    fn outside_dialog(&mut self, now: Time, datagram: &Datagram<'_>, path: &Path<'_>, hash: u64, out: &mut Outbox) {
        let message = datagram.message;
        let method = message.method();
        let config = self.config.clone();
        let target = sip::Uri::parse(path.target).ok();
        let for_us = target.as_ref().is_some_and(|uri| config.is_us(uri));
        let retry = format!("Retry-After: {}\r\n", config.retry_after);
        let busy = Reply { headers: retry.as_bytes(), ..Reply::new(503) };
        if config.is_draining() {
            return self.refuse(now, datagram, "draining", &busy, "this node takes no new calls", out);
        }
        match method {
            Some(sip::Method::Options) if for_us && path.next_route.is_none() => {
                return self.reply_to(datagram, &Reply { headers: ALLOW, ..Reply::new(200) }, out);
            }
            Some(sip::Method::Register) => {
                let reply = Reply { headers: ALLOW, ..Reply::new(405) };
                return self.refuse(now, datagram, "method", &reply, "REGISTER is not served here", out);
            }
            Some(sip::Method::Bye | sip::Method::Prack | sip::Method::Update) => {
                return self.refuse(now, datagram, "method", &Reply::new(481), "it belongs to no dialog", out);
            }
            _ => {}
        }
        if path.next_route.is_some() || !datagram.allowed {
            let why = "a new request goes to trunks only, not along a Route of its sender";
            return self.refuse(now, datagram, "forbidden", &Reply::new(403), why, out);
        }
        if target.is_some_and(|uri| uri.scheme == sip::Scheme::Sips) {
            return self.refuse(now, datagram, "scheme", &Reply::new(416), "sips: needs TLS on every hop", out);
        }
        if self.contexts.len() >= config.max_transactions {
            return self.refuse(now, datagram, "overload", &busy, "too many transactions", out);
        }
        let invite = method == Some(sip::Method::Invite);
        let id = self.new_context(now, datagram, hash, true);
        if invite {
            let call_hash = config.keys.hash(&[message.call_id().unwrap_or_default()]);
            let mut call = Call::begin(message, call_hash, datagram.source, datagram.listener, now);
            call.context = Some(id);
            let call = self.add_call(call);
            if let Some(context) = self.contexts.get_mut(id) {
                context.call = Some(call);
                context.begins_call = true;
            }
        }
        self.ask(id, out);
    }

    fn new_context(&mut self, now: Time, datagram: &Datagram<'_>, hash: u64, over_trunks: bool) -> Id {
        let message = datagram.message;
        let invite = message.method() == Some(sip::Method::Invite);
        let reply_to = message.top_via().map_or(datagram.source, |via| via::reply_to(&via, datagram.source));
        let hundred_at = invite.then(|| now.plus_millis(self.config.trying_delay));
        let id = self.add_context(Context {
            hash,
            key: self.key.as_slice().into(),
            listener: datagram.listener,
            source: datagram.source,
            reply_to,
            invite,
            request: Some(message.bytes().into()),
            server: Server::Trying { hundred_at },
            over_trunks,
            current: None,
            tried: Vec::new(),
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

    /// A request with a To tag: it follows its route set (§16.12), or where that is missing, the call we know.
    fn inside_dialog(&mut self, now: Time, datagram: &Datagram<'_>, path: &Path<'_>, hash: u64, out: &mut Outbox) {
        let message = datagram.message;
        let call = self.find_call(message, path.token);
        let mut target = Vec::new();
        let Some(hop) = self.next_hop(datagram, path, call, &mut target) else {
            return self.refuse(now, datagram, "dialog", &Reply::new(481), "no such call stands here", out);
        };
        let id = self.new_context(now, datagram, hash, false);
        let tags = dialog_tags(message);
        if let Some(context) = self.contexts.get_mut(id) {
            context.call = call.map(|(call, ..)| call);
            if message.method() == Some(sip::Method::Bye) {
                context.ends_leg = Some((tags.0.into(), tags.1.into()));
            }
        }
        let target = (!target.is_empty()).then_some(target.as_slice());
        self.send_request(now, id, message, &hop, target, None, out);
    }

    /// The call that a request belongs to, and who of it sent the request.
    fn find_call(&self, message: sip::Message<'_>, token: Option<Token>) -> Option<(Id, Side, usize)> {
        let call_id = message.call_id().ok()?;
        let (from_tag, to_tag) = dialog_tags(message);
        let fits = |id: Id| {
            let call = self.calls.get(id)?;
            let (side, leg) = call.side(from_tag, to_tag)?;
            (call.call_id() == call_id).then_some((id, side, leg))
        };
        if let Some(found) = token.filter(|token| token.shard == self.index).and_then(|token| fits(token.call)) {
            return Some(found);
        }
        let hash = self.config.keys.hash(&[call_id]);
        let (_, id) = self.by_call.find(hash, |(other, id)| *other == hash && fits(*id).is_some())?;
        fits(*id)
    }

    /// Where a request inside a dialog goes. `target` is filled where the Request-URI must change.
    fn next_hop(
        &self,
        datagram: &Datagram<'_>,
        path: &Path<'_>,
        call: Option<(Id, Side, usize)>,
        target: &mut Vec<u8>,
    ) -> Option<Hop> {
        let known = call.and_then(|(id, side, leg)| {
            let call = self.calls.get(id)?;
            let leg = call.legs.get(leg)?;
            Some(match side {
                Side::Caller => (leg.address, leg.listener, &*leg.contact),
                Side::Callee => (call.caller, call.caller_listener, call.caller_contact()),
            })
        });
        let next = sip::Uri::parse(path.next_route.unwrap_or(path.target)).ok()?;
        let is_us = self.config.is_us(&next);
        if is_us {
            // A peer that keeps no route set and no remote target speaks to us as if we were the other side.
            let (destination, listener, contact) = known?;
            if path.next_route.is_none() && !contact.is_empty() {
                target.extend_from_slice(contact);
            }
            return Some(Hop { destination, listener });
        }
        match next.host {
            sip::Host::Ip(ip) => {
                let destination = SocketAddr::new(ip, next.port.unwrap_or(5060));
                let listener = self.config.listener_towards(destination, datagram.listener)?;
                Some(Hop { destination, listener })
            }
            // Names are never resolved here: the other side is where the call's INVITE went or came from.
            sip::Host::Name(_) => known.map(|(destination, listener, _)| Hop { destination, listener }),
        }
    }

    fn on_ack(&mut self, now: Time, datagram: &Datagram<'_>, known: Option<Id>, out: &mut Outbox) {
        let config = self.config.clone();
        if let Some(id) = known
            && let Some(context) = self.contexts.get_mut(id)
        {
            let server = std::mem::replace(&mut context.server, Server::Trying { hundred_at: None });
            let (server, end_to_end) = server.ack(now, &config);
            context.server = server;
            self.arm_context(id);
            if !end_to_end {
                return;
            }
        }
        let message = datagram.message;
        let path = Path::read(message, &config);
        if (path.token.is_none() && !datagram.allowed) || message.max_forwards().ok().flatten() == Some(0) {
            return;
        }
        let call = self.find_call(message, path.token);
        let mut target = Vec::new();
        let Some(hop) = self.next_hop(datagram, &path, call, &mut target) else {
            return;
        };
        let branch = message.top_via().ok().and_then(|via| via.branch()).unwrap_or_default();
        let parts: [&[u8]; 3] = [
            branch,
            message.call_id().unwrap_or_default(),
            message.to().ok().and_then(|to| to.tag()).unwrap_or_default(),
        ];
        let forward = Forward {
            config: &config,
            source: datagram.source,
            came_by: datagram.listener,
            leaves_by: hop.listener,
            target: (!target.is_empty()).then_some(target.as_slice()),
            branch: BranchText::Stateless(&parts),
            record: None,
        };
        let edits = &mut self.edits;
        out.send(hop.listener, hop.destination, |out| forward::write(message, &path, &forward, edits, out));
    }

    /// CANCEL is answered 200 whatever becomes of it (§16.10); the answer is a function of the request, so it needs
    /// no transaction of its own.
    fn on_cancel(&mut self, now: Time, datagram: &Datagram<'_>, known: Option<Id>, out: &mut Outbox) {
        let ours = known.filter(|id| {
            self.contexts.get(*id).is_some_and(|context| context.source.ip() == datagram.source.ip() && context.invite)
        });
        let Some(id) = ours else {
            return self.refuse(now, datagram, "dialog", &Reply::new(481), "no such INVITE is pending", out);
        };
        self.reply_to(datagram, &Reply::new(200), out);
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        if context.server.is_final() || std::mem::replace(&mut context.cancelled, true) {
            return;
        }
        match context.current {
            Some(client) => self.cancel_client(now, client, out),
            None => self.answer_best(now, id, out),
        }
    }

    fn repeat(&mut self, id: Id, out: &mut Outbox) {
        if let Some(context) = self.contexts.get(id)
            && let Some(bytes) = context.server.replay()
        {
            out.send(context.listener, context.reply_to, |out| out.extend_from_slice(bytes));
        }
    }

    fn violates(&mut self, now: Time, datagram: &Datagram<'_>, violation: &sip::Violation, out: &mut Outbox) {
        let reply = Reply { reason: violation.reason, ..Reply::new(violation.status) };
        self.refuse(now, datagram, "malformed", &reply, violation.reason, out);
    }

    /// Answers without keeping anything; a source that may not call hears one answer a second.
    fn refuse(
        &mut self,
        now: Time,
        datagram: &Datagram<'_>,
        cause: &'static str,
        reply: &Reply<'_>,
        reason: &str,
        out: &mut Outbox,
    ) {
        let heard = datagram.allowed || self.config.gate.opens(datagram.source.ip(), now);
        let message = datagram.message;
        if !heard || message.method() == Some(sip::Method::Ack) {
            out.events.push(Event::Silenced { cause });
            return;
        }
        self.reply_to(datagram, reply, out);
        out.events.push(Event::Refused {
            cause,
            source: datagram.source,
            call_id: String::from_utf8_lossy(message.call_id().unwrap_or_default()).into_owned(),
            reason: reason.to_owned(),
        });
    }

    fn reply_to(&mut self, datagram: &Datagram<'_>, reply: &Reply<'_>, out: &mut Outbox) {
        write_reply(datagram, reply, &self.config, &mut self.edits, out);
    }
}

fn write_reply(datagram: &Datagram<'_>, reply: &Reply<'_>, config: &Config, edits: &mut Edits, out: &mut Outbox) {
    let message = datagram.message;
    let Ok(via) = message.top_via() else { return };
    out.send(datagram.listener, via::reply_to(&via, datagram.source), |out| {
        reply::write(message, datagram.source, reply, &config.keys, edits, out);
    });
}

/// Answers 400 to a request that names no call and hence has no shard, if it can be answered at all.
pub fn refuse_malformed(datagram: &Datagram<'_>, config: &Config, out: &mut Outbox) {
    let message = datagram.message;
    if !message.is_request() || message.method() == Some(sip::Method::Ack) || !datagram.allowed {
        return;
    }
    let reply = Reply { reason: "Call-ID is missing", ..Reply::new(400) };
    write_reply(datagram, &reply, config, &mut Edits::default(), out);
}

/// Tags of From and To.
pub(crate) fn dialog_tags<'a>(message: sip::Message<'a>) -> (&'a [u8], &'a [u8]) {
    (
        message.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
        message.to().ok().and_then(|to| to.tag()).unwrap_or_default(),
    )
}
