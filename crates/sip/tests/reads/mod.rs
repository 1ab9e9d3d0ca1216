//! Reads whatever can be read of some bytes; the tests and the fuzz target share it.

use sip::{CSeq, Host, Index, Message, Name, NameAddr, Params, Uri, Via};

const NAMES: [Name; 13] = [
    Name::Via,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::ContentLength,
    Name::Contact,
    Name::Route,
    Name::RecordRoute,
    Name::SessionExpires,
    Name::Warning,
    Name::Other,
];

/// Parses the bytes as a message and as each kind of value; panics where an invariant does not hold.
pub fn everything(bytes: &[u8]) {
    let mut index = Index::new();
    if index.parse(bytes).is_ok() {
        let message = index.message(bytes);
        identity(&message, bytes);
        typed(&message);
    }
    value(bytes);
}

/// Start line, header lines and body follow each other without gap and make up the message.
pub fn identity(message: &Message<'_>, bytes: &[u8]) {
    assert!(bytes.starts_with(message.bytes()));
    let mut written = bytes[..message.headers_start()].to_vec();
    for field in message.fields() {
        assert_eq!(field.line.start, written.len());
        assert_eq!(field.value, &bytes[field.value_span.clone()]);
        assert!(field.line.start < field.value_span.start && field.value_span.end < field.line.end);
        written.extend_from_slice(&bytes[field.line]);
    }
    let empty_line = &bytes[written.len()..message.body_start()];
    assert!(matches!(empty_line, b"\r\n" | b"\n"));
    written.extend_from_slice(empty_line);
    written.extend_from_slice(message.body());
    assert_eq!(written, message.bytes());
}

fn typed(message: &Message<'_>) {
    let _ = (message.validate(), message.start(), message.method(), message.status());
    let _ = (message.top_via(), message.from(), message.to(), message.call_id(), message.cseq());
    let _ = (message.max_forwards(), message.content_length(), message.contact());
    if let Some(span) = message.request_uri_span() {
        assert_eq!(message.request_uri(), Some(&message.bytes()[span]));
        let _ = Uri::parse(&message.bytes()[message.request_uri_span().unwrap_or_default()]);
    }
    for name in NAMES {
        assert_eq!(message.field(name), message.fields_named(name).next());
        assert!(message.fields_named(name).eq(message.fields().filter(|field| field.name == name)));
        for one in message.values(name) {
            assert_eq!(one.bytes, &message.bytes()[one.span.clone()]);
            assert!(one.line.start <= one.span.start && one.span.end <= one.line.end);
            value(one.bytes);
        }
    }
}

fn value(bytes: &[u8]) {
    let _ = (Host::parse(bytes), Name::parse(bytes), CSeq::parse(bytes));
    params(Params(bytes));
    if let Ok(via) = Via::parse(bytes) {
        let _ = (via.branch(), via.received(), via.rport());
        params(via.params);
    }
    if let Ok(address) = NameAddr::parse(bytes) {
        let _ = (address.tag(), Uri::parse(address.uri));
        params(address.params);
    }
    if let Ok(uri) = Uri::parse(bytes) {
        params(uri.params);
    }
}

fn params(params: Params<'_>) {
    for (name, _) in params {
        assert!(params.get(name).is_some());
    }
}
