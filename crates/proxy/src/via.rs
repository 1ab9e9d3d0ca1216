//! The top Via of a request: where the answer goes, and what we note in it (RFC 3261 §18.2, RFC 3581).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use sip::Transport;

use crate::edits::{Edits, span_in};
use crate::{Config, Hop, Inbound};

/// Where responses to a request go: to the address it came from, at the port that it came from if
/// it asked so by `rport`, else at the one it names. `maddr` is not followed: an answer never goes
/// to a host that did not ask.
///
/// Over a stream it is the connection that the request came by, or where that has gone, one to the address
/// that the Via names at the port that it names.
pub(crate) fn reply_to(via: &sip::Via<'_>, inbound: &Inbound<'_>, config: &Config) -> Hop {
    let source = inbound.source;
    let transport = config.transport(inbound.listener);
    let address = match via.rport() {
        Some(_) if !transport.is_reliable() => source,
        _ => SocketAddr::new(source.ip(), via.port.unwrap_or(transport.default_port())),
    };
    Hop { connection: inbound.connection, ..Hop::to(inbound.listener, address) }
}

/// Notes `received` and `rport` in the top Via.
pub(crate) fn note_source(message: sip::Message<'_>, source: SocketAddr, edits: &mut Edits) {
    let Ok(via) = message.top_via() else { return };
    let whole = message.bytes();
    let source_ip = source.ip().to_canonical();
    let mut has_received = false;
    let mut wants_rport = false;
    let mut after_value = via.span.end;
    for (name, value) in via.params {
        let end = value.map_or_else(|| span_in(whole, name).end, |value| span_in(whole, value).end);
        after_value = after_value.max(end);
        if name.eq_ignore_ascii_case(b"rport") {
            wants_rport = true;
            edits.replace(span_in(whole, name).end..end, |out| {
                let _ = write!(out, "={}", source.port());
            });
        } else if name.eq_ignore_ascii_case(b"received") {
            has_received = true;
            edits.replace(span_in(whole, name).end..end, |out| {
                let _ = write!(out, "={source_ip}");
            });
        }
    }
    let differs = !matches!(via.host, sip::Host::Ip(ip) if IpAddr::to_canonical(&ip) == source_ip);
    if !has_received && (wants_rport || differs) {
        edits.insert(after_value, |out| {
            let _ = write!(out, ";received={source_ip}");
        });
    }
}

/// Parameters of our own Via beside its branch: whoever verifies our certificate may send its requests to us by the
/// connection that we open (RFC 5923 §5).
pub(crate) fn params(transport: Transport) -> &'static [u8] {
    if transport == Transport::Tls { b";alias" } else { b"" }
}

/// Removes the top Via value.
pub(crate) fn pop(message: sip::Message<'_>, edits: &mut Edits) {
    let mut values = message.values(sip::Name::Via);
    let Some(top) = values.next() else { return };
    match values.next() {
        Some(next) if next.line == top.line => edits.remove(top.span.start..next.span.start),
        _ => edits.remove(top.line),
    }
}
