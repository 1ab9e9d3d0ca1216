//! Answers of our own (RFC 3261 §8.2.6).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::edits::{Edits, decimal, span_in};
use crate::keys::hex;
use crate::{Keys, identity, via};

/// An answer of our own.
pub(crate) struct Reply<'a> {
    pub status: u16,
    pub reason: &'a str,
    /// Further header lines, each with its CRLF.
    pub headers: &'a [u8],
}

impl<'a> Reply<'a> {
    pub fn new(status: u16) -> Reply<'a> {
        Reply { status, reason: reason_phrase(status), headers: b"" }
    }
}

/// Writes an answer to a request. Its To tag is a function of the request, so a repeated request
/// gets the same one although nothing is kept.
pub(crate) fn write(
    message: sip::Message<'_>,
    source: SocketAddr,
    reply: &Reply<'_>,
    keys: &Keys,
    edits: &mut Edits,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"SIP/2.0 ");
    decimal(out, u64::from(reply.status));
    out.push(b' ');
    out.extend_from_slice(reply.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let whole = message.bytes();
    let mut top = true;
    for field in message.fields() {
        match field.name {
            sip::Name::Via if std::mem::take(&mut top) => {
                // The edits speak of the whole message; this line is cut out of it.
                edits.clear();
                via::note_source(message, source, edits);
                let mut line = Vec::with_capacity(field.line.len() + 64);
                edits.remove(0..field.line.start);
                edits.remove(field.line.end..whole.len());
                edits.apply(whole, &mut line);
                out.extend_from_slice(&line);
                edits.clear();
            }
            sip::Name::To if reply.status > 100 && !has_tag(message) => {
                out.extend_from_slice(&whole[field.line.start..field.value_span.end]);
                out.extend_from_slice(b";tag=");
                hex(out, to_tag(message, keys), 16);
                out.extend_from_slice(b"\r\n");
            }
            sip::Name::Via | sip::Name::From | sip::Name::To | sip::Name::CallId | sip::Name::CSeq => {
                out.extend_from_slice(&whole[field.line.clone()]);
            }
            sip::Name::Timestamp if reply.status == 100 => out.extend_from_slice(&whole[field.line.clone()]),
            _ => {}
        }
    }
    out.extend_from_slice(reply.headers);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

fn has_tag(message: sip::Message<'_>) -> bool {
    message.to().is_ok_and(|to| to.tag().is_some())
}

fn to_tag(message: sip::Message<'_>, keys: &Keys) -> u64 {
    keys.hash(&[
        b"tag",
        message.call_id().unwrap_or_default(),
        message.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
        message.top_via().ok().and_then(|via| via.branch()).unwrap_or_default(),
    ])
}

/// How a response changes on its way upstream, beside losing our Via.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// Status code to show: a lone 503 becomes 500 (§16.7 step 6).
    pub status: u16,
    /// Whether asserted identities pass.
    pub trusted: bool,
    /// The session interval of the request, where the answer has none and the caller can refresh the session (RFC 4028
    /// §8.2).
    pub session: Option<u32>,
    /// From as the caller wrote it, where a route had rewritten it.
    pub from: Option<Arc<[u8]>>,
}

/// Writes a response as it goes upstream.
pub(crate) fn forward(message: sip::Message<'_>, upstream: &Upstream, edits: &mut Edits, out: &mut Vec<u8>) {
    edits.clear();
    via::pop(message, edits);
    if let sip::StartLine::Response { status: old, reason } = message.start()
        && old != upstream.status
    {
        let end = span_in(message.bytes(), reason).end;
        let start = message.bytes().windows(8).position(|window| window == b"SIP/2.0 ").unwrap_or(0);
        edits.replace(start..end, |out| {
            out.extend_from_slice(b"SIP/2.0 ");
            decimal(out, u64::from(upstream.status));
            out.push(b' ');
            out.extend_from_slice(reason_phrase(upstream.status).as_bytes());
        });
    }
    if !upstream.trusted {
        identity::withhold(message, edits);
    }
    if let (Some(from), Some(field)) = (&upstream.from, message.field(sip::Name::From)) {
        edits.replace(field.value_span, |out| out.extend_from_slice(from));
    }
    if let Some(seconds) = upstream.session {
        edits.insert(message.headers_start(), |out| {
            out.extend_from_slice(b"Require: timer\r\nSession-Expires: ");
            decimal(out, u64::from(seconds));
            out.extend_from_slice(b";refresher=uac\r\n");
        });
    }
    edits.apply(message.bytes(), out);
}

/// Writes a request that stays on this hop, CANCEL or the ACK of a non-2xx, from the INVITE as we
/// sent it (RFC 3261 §9.1, §17.1.1.3). `to` is the To line of the response, for an ACK; `extra` are further lines.
pub(crate) fn hop_request(
    invite: sip::Message<'_>,
    method: sip::Method<'_>,
    to: Option<&[u8]>,
    extra: &[u8],
    out: &mut Vec<u8>,
) {
    let whole = invite.bytes();
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(invite.request_uri().unwrap_or_default());
    out.extend_from_slice(b" SIP/2.0\r\n");
    let mut top = true;
    for field in invite.fields() {
        match field.name {
            sip::Name::Via if !std::mem::take(&mut top) => {}
            sip::Name::To if to.is_some() => out.extend_from_slice(to.unwrap_or_default()),
            sip::Name::CSeq => {
                out.extend_from_slice(b"CSeq: ");
                decimal(out, u64::from(invite.cseq().map(|cseq| cseq.number).unwrap_or_default()));
                out.push(b' ');
                out.extend_from_slice(method.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            sip::Name::Via | sip::Name::From | sip::Name::To | sip::Name::CallId | sip::Name::Route => {
                out.extend_from_slice(&whole[field.line.clone()]);
            }
            _ => {}
        }
    }
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    out.extend_from_slice(extra);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// The words of RFC 3261 §21 for the codes that we send.
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        440 => "Max-Breadth Exceeded",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        487 => "Request Terminated",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        _ => "Refused",
    }
}
