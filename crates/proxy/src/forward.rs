//! A request as it goes on (RFC 3261 §16.6).

use std::net::SocketAddr;

use routing::Rule;
use sip::Name;

use crate::edits::{Edits, decimal};
use crate::keys::{Branch, Token};
use crate::numbers::{Numbers, number_of};
use crate::route::{Path, TOKEN_PARAM};
use crate::{Config, identity, treat, via};

/// What to write into a forwarded request.
pub(crate) struct Forward<'a> {
    pub config: &'a Config,
    /// Where the request came from.
    pub source: SocketAddr,
    /// Whether asserted identities pass: both sides are trusted.
    pub trusted: bool,
    /// It goes by TLS alone, and so do the requests of its dialog.
    pub secure: bool,
    /// What the route asks that took the request, and where its numbers lie.
    pub rule: Option<(&'a Rule, Numbers)>,
    /// Session-Expires to put in, where it has none.
    pub session: Option<u32>,
    /// Listener it came in by.
    pub came_by: u8,
    /// Listener it leaves by.
    pub leaves_by: u8,
    /// The new Request-URI; none to leave it as the path says.
    pub target: Option<&'a [u8]>,
    /// The branch of our Via.
    pub branch: BranchText<'a>,
    /// Names the call in our Record-Route; none for a request that makes no dialog.
    pub record: Option<Token>,
}

pub(crate) enum BranchText<'a> {
    Client(Branch),
    /// Has no transaction: made of these parts.
    Stateless(&'a [&'a [u8]]),
}

/// Writes the request. `path` must be read from the same message.
pub(crate) fn write(
    message: sip::Message<'_>,
    path: &Path<'_>,
    forward: &Forward<'_>,
    edits: &mut Edits,
    out: &mut Vec<u8>,
) {
    let config = forward.config;
    edits.clear();
    if let Some(span) = message.request_uri_span() {
        let target = forward.target.unwrap_or(path.target);
        if &message.bytes()[span.clone()] != target {
            edits.replace(span, |out| out.extend_from_slice(target));
        }
    }
    edits.insert(message.headers_start(), |out| {
        out.extend_from_slice(b"Via: SIP/2.0/");
        out.extend_from_slice(config.transport(forward.leaves_by).in_via().as_bytes());
        out.push(b' ');
        out.extend_from_slice(config.listeners[usize::from(forward.leaves_by)].advertised.as_bytes());
        out.extend_from_slice(b";branch=");
        match &forward.branch {
            BranchText::Client(branch) => config.keys.write_branch(out, *branch),
            BranchText::Stateless(parts) => config.keys.write_stateless_branch(out, parts),
        }
        out.extend_from_slice(via::params(config.transport(forward.leaves_by)));
        out.extend_from_slice(b"\r\n");
        if let Some(token) = forward.record {
            let call_id = message.call_id().unwrap_or_default();
            // A trunk may be a `sips:` one towards a caller who is not (RFC 3261 §16.6 step 4).
            let secure = forward.secure || is_secure(forward.target.unwrap_or(path.target));
            record_route(config, forward.leaves_by, secure, token, call_id, out);
            // Each side meets the address that it can reach (RFC 5658).
            if forward.leaves_by != forward.came_by {
                record_route(config, forward.came_by, forward.secure, token, call_id, out);
            }
        }
        if message.field(Name::MaxBreadth).is_none() {
            out.extend_from_slice(b"Max-Breadth: ");
            decimal(out, u64::from(config.max_breadth));
            out.extend_from_slice(b"\r\n");
        }
        if let Some(seconds) = forward.session {
            out.extend_from_slice(b"Session-Expires: ");
            decimal(out, u64::from(seconds));
            out.extend_from_slice(b"\r\n");
        }
    });
    if !forward.trusted {
        identity::withhold(message, edits);
    }
    if let Some((rule, numbers)) = forward.rule {
        treat::edit(message, rule, numbers, edits);
    }
    via::note_source(message, forward.source, edits);
    path.edit(message, edits);
    match message.field(Name::MaxForwards) {
        Some(field) => {
            let hops = message.max_forwards().ok().flatten().unwrap_or(70);
            edits.replace(field.value_span, |out| decimal(out, u64::from(hops.saturating_sub(1))));
        }
        None => edits.insert(message.headers_start(), |out| out.extend_from_slice(b"Max-Forwards: 70\r\n")),
    }
    edits.apply(message.bytes(), out);
}

fn record_route(config: &Config, listener: u8, secure: bool, token: Token, call_id: &[u8], out: &mut Vec<u8>) {
    let transport = config.transport(listener);
    out.extend_from_slice(if secure { b"Record-Route: <sips:" } else { b"Record-Route: <sip:" });
    out.extend_from_slice(config.listeners[usize::from(listener)].advertised.as_bytes());
    if transport.is_reliable() && !secure {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(transport.as_str().as_bytes());
    }
    out.extend_from_slice(b";lr;");
    out.extend_from_slice(TOKEN_PARAM);
    out.push(b'=');
    config.keys.write_token(out, token, call_id);
    out.extend_from_slice(b">\r\n");
}

/// The Request-URI towards a trunk: the number that was called, or `called` in its place, at the trunk's host. What follows the
/// number in the user part stays (RFC 4904 §4). The trunk's own URI parameters are added, those of the hop to us (`transport`, `maddr`, `ttl`, `lr`) are dropped; a
/// `tel:` number becomes a SIP URI (§19.1.6).
pub(crate) fn trunk_target(request_uri: &[u8], called: Option<&[u8]>, trunk: &routing::Trunk, out: &mut Vec<u8>) {
    let uri = sip::Uri::parse(request_uri).ok();
    let secure = uri.as_ref().is_some_and(|uri| uri.scheme == sip::Scheme::Sips);
    out.extend_from_slice(if secure || trunk.is_secure() { b"sips:" } else { b"sip:" });
    let tel = uri.as_ref().is_some_and(|uri| uri.scheme == sip::Scheme::Tel);
    let user = match &uri {
        Some(uri) if tel => Some(uri.opaque.split(|b| *b == b';').next().unwrap_or_default()),
        Some(uri) => uri.user,
        None => None,
    };
    if let Some(user) = user.or(trunk.user.as_deref()) {
        let kept = called.map_or(0, |_| number_of(request_uri).len());
        out.extend_from_slice(called.unwrap_or_default());
        out.extend_from_slice(user.get(kept..).unwrap_or_default());
        out.push(b'@');
    }
    out.extend_from_slice(&trunk.host_port);
    if tel {
        out.extend_from_slice(b";user=phone");
    }
    let of_the_hop = |name: &[u8]| {
        [b"transport".as_slice(), b"maddr", b"ttl", b"lr"].iter().any(|hop| name.eq_ignore_ascii_case(hop))
    };
    let named_by_trunk = |name: &[u8]| {
        trunk
            .uri_params
            .split(|b| *b == b';')
            .any(|param| param.split(|b| *b == b'=').next().is_some_and(|trunks| trunks.eq_ignore_ascii_case(name)))
    };
    if let Some(uri) = uri.filter(|_| !tel) {
        for (name, value) in uri.params {
            if of_the_hop(name) || named_by_trunk(name) {
                continue;
            }
            out.push(b';');
            out.extend_from_slice(name);
            if let Some(value) = value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
    }
    out.extend_from_slice(&trunk.uri_params);
}

/// Whether a URI may be reached by TLS alone.
pub(crate) fn is_secure(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

/// The Session-Expires to put into an INVITE that has none: ours, but not below its Min-SE (RFC 4028 §8.1).
pub(crate) fn session(message: sip::Message<'_>, config: &Config) -> Option<u32> {
    let absent = config.session_expires > 0
        && message.method() == Some(sip::Method::Invite)
        && message.field(Name::SessionExpires).is_none();
    absent.then(|| config.session_expires.max(message.seconds(Name::MinSe).unwrap_or(0)))
}

/// The interval that its sender can be told to refresh by: what we put in, or what was there, in an INVITE or UPDATE of
/// a party that knows session timers (RFC 4028 §8.2).
pub(crate) fn refreshable(message: sip::Message<'_>, put: Option<u32>, config: &Config) -> Option<u32> {
    let refreshes = matches!(message.method(), Some(sip::Method::Invite | sip::Method::Update));
    if config.session_expires == 0 || !refreshes || !message.lists(Name::Supported, b"timer") {
        return None;
    }
    put.or_else(|| message.seconds(Name::SessionExpires))
}

/// The loop hash of RFC 5393 §4.2.2: whatever decides where a request goes.
pub(crate) fn loop_hash(message: sip::Message<'_>, config: &Config) -> u32 {
    let number = message.cseq().map(|cseq| cseq.number.to_be_bytes()).unwrap_or_default();
    config.keys.hash(&[
        message.request_uri().unwrap_or_default(),
        message.call_id().unwrap_or_default(),
        message.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
        message.to().ok().and_then(|to| to.tag()).unwrap_or_default(),
        &number,
        message.field(Name::Route).map(|field| field.value).unwrap_or_default(),
    ]) as u32
}

/// Whether this very request has passed here before (§16.3 step 4). A spiral, with another
/// target, is no loop.
pub(crate) fn loops(message: sip::Message<'_>, config: &Config) -> bool {
    let mut here = None;
    message.values(Name::Via).skip(1).any(|value| {
        let Some(branch) = sip::Via::parse(value.bytes).ok().and_then(|via| via.branch()) else {
            return false;
        };
        config
            .keys
            .read_branch(branch)
            .is_some_and(|ours| ours.loop_hash == *here.get_or_insert_with(|| loop_hash(message, config)))
    })
}
