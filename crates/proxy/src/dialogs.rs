//! Requests inside dialogs, and their ACKs: they follow their route set (RFC 3261 §16.12), or where that is missing, the call
//! that we know.

use std::net::SocketAddr;

use crate::call::Side;
use crate::context::Hangup;
use crate::forward::{self, BranchText, Forward};
use crate::keys::Token;
use crate::reply::Reply;
use crate::requests::dialog_tags;
use crate::route::Path;
use crate::server::Server;
use crate::shard::{Attempt, Failure, Shard};
use crate::slab::Id;
use crate::{Event, Hop, Inbound, Located, Lookup, LookupId, Outbox, Time};

/// ACKs that may wait for a look-up in one shard; the oldest goes first.
const MOST_ACKS: usize = 256;
/// A look-up without an answer has found nothing after this time, in milliseconds.
const LOOKUP: u64 = 10_000;

/// An ACK whose next hop is being resolved.
#[derive(Debug)]
pub(crate) struct HeldAck {
    serial: u64,
    listener: u8,
    source: SocketAddr,
    trusted: bool,
    bytes: Box<[u8]>,
}

/// Where a request goes next.
pub(crate) enum Next {
    Hop(Hop),
    /// A name that is not known here.
    Name(Box<[u8]>),
    Nowhere,
}

/// The other side of a call, as far as it is known here.
struct Known<'a> {
    hop: &'a Hop,
    contact: &'a [u8],
    host: &'a [u8],
    trusted: bool,
}

impl Shard {
    /// A request with a To tag.
    pub(crate) fn inside_dialog(
        &mut self,
        now: Time,
        inbound: &Inbound<'_>,
        path: &Path<'_>,
        hash: u64,
        out: &mut Outbox,
    ) {
        let message = inbound.message;
        if self.contexts.len() >= 2 * self.config.max_transactions {
            let retry = format!("Retry-After: {}\r\n", self.config.retry_after);
            let busy = Reply { headers: retry.as_bytes(), ..Reply::new(503) };
            return self.refuse(now, inbound, "overload", &busy, "too many transactions", out);
        }
        let call = self.find_call(message, path.token);
        let mut target = Vec::new();
        let next = self.next_hop(inbound.listener, path, call, &mut target);
        if matches!(next, Next::Nowhere) {
            return self.refuse(now, inbound, "dialog", &Reply::new(481), "no such call stands here", out);
        }
        let id = self.new_context(now, inbound, hash, false);
        let tags = dialog_tags(message);
        let trusted = self.other_side(call).is_some_and(|known| known.trusted);
        if let Some(context) = self.contexts.get_mut(id) {
            context.call = call.map(|(call, ..)| call);
            context.secure = sip::Uri::parse(path.target).is_ok_and(|uri| uri.scheme == sip::Scheme::Sips);
            if message.method() == Some(sip::Method::Bye) {
                let (from_tag, to_tag) = (tags.0.into(), tags.1.into());
                context.ends_leg = Some(Hangup { from_tag, to_tag, at: now, q850: message.q850_cause() });
            }
        }
        match next {
            Next::Hop(hop) => {
                let target = (!target.is_empty()).then_some(target.as_slice());
                self.send_request(now, id, message, Attempt { hop, over: None, trusted }, target, out);
            }
            Next::Name(uri) => {
                if let Some(context) = self.contexts.get_mut(id) {
                    context.waits_until = Some(now.plus_millis(LOOKUP));
                }
                self.arm_context(id);
                let lookup = LookupId::Request(id.into());
                out.lookups.push(Lookup { id: lookup, shard: self.index, uri });
            }
            Next::Nowhere => {}
        }
    }

    /// The call that a request belongs to, and who of it sent the request.
    pub(crate) fn find_call(&self, message: sip::Message<'_>, token: Option<Token>) -> Option<(Id, Side, usize)> {
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

    fn other_side(&self, call: Option<(Id, Side, usize)>) -> Option<Known<'_>> {
        let (id, side, leg) = call?;
        let call = self.calls.get(id)?;
        let leg = call.legs.get(leg)?;
        Some(match side {
            Side::Caller => {
                Known { hop: &leg.hop, contact: &leg.contact, host: leg.trunk.host(), trusted: leg.trunk.facts.trusted }
            }
            Side::Callee => {
                Known { hop: &call.caller, contact: call.caller_contact(), host: b"", trusted: call.trusted }
            }
        })
    }

    /// Where a request inside a dialog goes. `target` is filled where the Request-URI must change.
    pub(crate) fn next_hop(
        &self,
        came_by: u8,
        path: &Path<'_>,
        call: Option<(Id, Side, usize)>,
        target: &mut Vec<u8>,
    ) -> Next {
        let known = self.other_side(call);
        let next_uri = path.next_route.unwrap_or(path.target);
        let Ok(next) = sip::Uri::parse(next_uri) else { return Next::Nowhere };
        if self.config.is_us(&next) {
            // A peer that keeps no route set and no remote target speaks to us as if we were the other side.
            let Some(known) = known else { return Next::Nowhere };
            let fits = |uri: &[u8]| self.may_go(known.hop, forward::is_secure(uri));
            if path.next_route.is_none() && !known.contact.is_empty() && fits(known.contact) {
                target.extend_from_slice(known.contact);
            } else if !fits(path.target) {
                return Next::Nowhere;
            }
            return Next::Hop(known.hop.clone());
        }
        let secure = next.scheme == sip::Scheme::Sips || forward::is_secure(path.target);
        let known = known.filter(|known| self.may_go(known.hop, secure));
        let transport = next.transport();
        let same_transport = |known: &Known<'_>| self.config.transport(known.hop.listener) == transport;
        match (next.host, known) {
            // From behind a NAT: its Contact leads nowhere.
            (_, Some(known)) if known.hop.only => Next::Hop(known.hop.clone()),
            (sip::Host::Ip(ip), known) => {
                let address = SocketAddr::new(ip, next.port.unwrap_or(transport.default_port()));
                // Over a stream the connection of the call is the surest way, while it stands.
                if let Some(known) = known.as_ref().filter(|known| transport.is_reliable() && same_transport(known)) {
                    return Next::Hop(Hop { address, ..known.hop.clone() });
                }
                let listener = self.config.listener_towards(address, transport, came_by);
                match listener.map(|listener| Hop::to(listener, address)) {
                    Some(hop) if self.may_go(&hop, secure) => Next::Hop(hop),
                    // A route set that leaves TLS on the way to a `sips:` URI.
                    Some(_) => Next::Nowhere,
                    None => known.map_or(Next::Nowhere, |known| Next::Hop(known.hop.clone())),
                }
            }
            (sip::Host::Name(name), Some(known)) if name.eq_ignore_ascii_case(known.host) && same_transport(&known) => {
                Next::Hop(known.hop.clone())
            }
            (sip::Host::Name(name), _) if !name.is_empty() => Next::Name(next_uri.into()),
            (sip::Host::Name(_), known) => known.map_or(Next::Nowhere, |known| Next::Hop(known.hop.clone())),
        }
    }

    /// `sips:` goes by TLS or not at all (RFC 3261 §26.2.2).
    fn may_go(&self, hop: &Hop, secure: bool) -> bool {
        !secure || self.config.transport(hop.listener) == sip::Transport::Tls
    }

    /// A name was resolved: an empty list says that it was not. The first place that answers is taken (RFC 3263 §4.3);
    /// where there is none, the other side of the call as it is known.
    pub fn located(&mut self, now: Time, id: LookupId, places: Vec<Located>, out: &mut Outbox) {
        match id {
            LookupId::Request(id) => {
                let id = Id::from(id);
                let Some(context) = self.contexts.get_mut(id) else { return };
                if context.waits_until.take().is_none() || context.server.is_final() {
                    return;
                }
                context.places = places;
                context.places.reverse();
                self.try_place(now, id, out);
            }
            LookupId::Ack(serial) => {
                let Some(at) = self.acks.iter().position(|ack| ack.serial == serial) else { return };
                if let Some(ack) = self.acks.remove(at) {
                    self.forward_held_ack(&ack, places.first().copied(), out);
                }
            }
        }
    }

    /// Sends a request inside a dialog to the next of its places.
    pub(crate) fn try_place(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let Some(context) = self.contexts.get_mut(id) else { return };
        context.attempts += 1;
        let (place, came_by, secure) = (context.places.pop(), context.reply.listener, context.secure);
        let Some(request) = context.request.take() else { return };
        let mut kept = std::mem::take(&mut self.kept);
        let mut hop = None;
        if kept.parse(&request).is_ok() {
            let message = kept.message(&request);
            let call = self.find_call(message, Path::read(message, &self.config).token);
            let known = self.other_side(call);
            let trusted = known.as_ref().is_some_and(|known| known.trusted);
            hop = match place {
                Some(place) => self
                    .config
                    .listener_towards(place.address, place.transport, came_by)
                    .map(|listener| Hop::to(listener, place.address)),
                None => known.map(|known| known.hop.clone()),
            };
            hop = hop.filter(|hop| self.may_go(hop, secure));
            if let Some(hop) = hop.clone() {
                self.send_request(now, id, message, Attempt { hop, over: None, trusted }, None, out);
            }
        }
        self.kept = kept;
        if let Some(context) = self.contexts.get_mut(id) {
            context.request = Some(request);
        }
        if hop.is_none() {
            let failure = Failure { status: 503, response: None, reroutes: place.is_some(), next_target: false };
            self.conclude(now, id, &failure, out);
        }
    }

    pub(crate) fn on_ack(&mut self, now: Time, inbound: &Inbound<'_>, known: Option<Id>, out: &mut Outbox) {
        let config = self.config.clone();
        if let Some(id) = known
            && let Some(context) = self.contexts.get_mut(id)
        {
            let reliable = config.is_reliable(&context.reply);
            let server = std::mem::replace(&mut context.server, Server::Trying { hundred_at: None });
            let (server, end_to_end) = server.ack(now, &config, reliable);
            context.server = server;
            self.settle_context(id);
            self.arm_context(id);
            if !end_to_end {
                return;
            }
        }
        let message = inbound.message;
        let path = Path::read(message, &config);
        let spent = message.max_forwards().ok().flatten() == Some(0);
        if (path.token.is_none() && !inbound.admission.allowed) || spent {
            return;
        }
        let call = self.find_call(message, path.token);
        let trusted = inbound.admission.trusted && self.other_side(call).is_some_and(|known| known.trusted);
        let mut target = Vec::new();
        match self.next_hop(inbound.listener, &path, call, &mut target) {
            Next::Hop(hop) => {
                let target = (!target.is_empty()).then_some(target.as_slice());
                self.forward_ack(message, inbound.listener, inbound.source, trusted, &hop, target, out);
            }
            Next::Name(uri) => {
                if self.acks.len() >= MOST_ACKS {
                    self.acks.pop_front();
                    out.events.push(Event::Silenced { cause: "held_acks" });
                }
                self.serial += 1;
                self.acks.push_back(HeldAck {
                    serial: self.serial,
                    listener: inbound.listener,
                    source: inbound.source,
                    trusted,
                    bytes: message.bytes().into(),
                });
                out.lookups.push(Lookup { id: LookupId::Ack(self.serial), shard: self.index, uri });
            }
            Next::Nowhere => {}
        }
    }

    fn forward_held_ack(&mut self, ack: &HeldAck, place: Option<Located>, out: &mut Outbox) {
        let mut kept = std::mem::take(&mut self.kept);
        if kept.parse(&ack.bytes).is_ok() {
            let message = kept.message(&ack.bytes);
            let call = self.find_call(message, Path::read(message, &self.config).token);
            let hop = match place {
                Some(place) => self
                    .config
                    .listener_towards(place.address, place.transport, ack.listener)
                    .map(|listener| Hop::to(listener, place.address)),
                None => self.other_side(call).map(|known| known.hop.clone()),
            };
            let secure = message.request_uri().is_some_and(forward::is_secure);
            if let Some(hop) = hop.filter(|hop| self.may_go(hop, secure)) {
                self.forward_ack(message, ack.listener, ack.source, ack.trusted, &hop, None, out);
            }
        }
        self.kept = kept;
    }

    #[allow(clippy::too_many_arguments)] // the parts of one step; a struct would only rename them
    fn forward_ack(
        &mut self,
        message: sip::Message<'_>,
        came_by: u8,
        source: SocketAddr,
        trusted: bool,
        hop: &Hop,
        target: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let config = self.config.clone();
        let branch = message.top_via().ok().and_then(|via| via.branch()).unwrap_or_default();
        let parts: [&[u8]; 3] = [
            branch,
            message.call_id().unwrap_or_default(),
            message.to().ok().and_then(|to| to.tag()).unwrap_or_default(),
        ];
        let forward = Forward {
            config: &config,
            source,
            trusted,
            secure: false,
            rule: None,
            session: None,
            came_by,
            leaves_by: hop.listener,
            target,
            branch: BranchText::Stateless(&parts),
            record: None,
        };
        let path = Path::read(message, &config);
        let edits = &mut self.edits;
        out.send(hop, |out| forward::write(message, &path, &forward, edits, out));
    }
}
