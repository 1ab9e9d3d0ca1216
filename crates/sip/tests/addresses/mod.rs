//! URIs and the values that hold them; the tests and the fuzz target share it.

use sip::{CSeq, Host, Index, Method, Name, NameAddr, Params, Scheme, Transport, Uri, Via};

/// Reads the bytes as each kind of value, alone and in a message; panics where an invariant does not hold.
pub fn everything(bytes: &[u8]) {
    uri(bytes);
    host(bytes);
    params(Params(bytes));
    name_addr(bytes);
    via(bytes);
    let _ = (Name::parse(bytes), Transport::named(bytes));
    assert_eq!(Method::from(bytes).as_bytes(), bytes);
    if let Ok(cseq) = CSeq::parse(bytes) {
        assert!(cseq.number < 1 << 31);
        let written = format!("{} {}", cseq.number, String::from_utf8_lossy(cseq.method.as_bytes()));
        assert_eq!(CSeq::parse(written.as_bytes()), Ok(cseq));
    }
    in_a_message(bytes);
}

/// The parts of a URI make it up again, and mean the same when they are read again.
fn uri(bytes: &[u8]) {
    let Ok(uri) = Uri::parse(bytes) else { return };
    params(uri.params);
    let _ = (uri.transport(), uri.named_transport());
    let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or_default();
    let mut written = bytes[..=colon].to_vec();
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        written.extend_from_slice(uri.opaque);
        assert_eq!(written, bytes);
        return;
    }
    assert!(uri.opaque.is_empty() && !uri.host_bytes.is_empty());
    assert_eq!(Host::parse(uri.host_bytes), Some(uri.host));
    if let Some(user) = uri.user {
        assert!(!user.is_empty());
        written.extend_from_slice(user);
        written.push(b'@');
    }
    written.extend_from_slice(uri.host_bytes);
    // A port may have leading zeros, so it is compared as it stands.
    let port_end = bytes.len() - uri.params.0.len() - uri.headers.map_or(0, |headers| headers.len() + 1);
    let port = bytes.get(written.len()..port_end).unwrap_or_default();
    assert_eq!(port.is_empty(), uri.port.is_none());
    written.extend_from_slice(port);
    written.extend_from_slice(uri.params.0);
    if let Some(headers) = uri.headers {
        written.push(b'?');
        written.extend_from_slice(headers);
    }
    assert_eq!(written, bytes);
    assert_ne!(uri.port, Some(0));
    assert_eq!(uri.scheme == Scheme::Sips, bytes[..colon].eq_ignore_ascii_case(b"sips"));
}

fn host(bytes: &[u8]) {
    let written = match Host::parse(bytes) {
        None => return,
        Some(Host::Name(name)) => {
            assert_eq!(name, bytes);
            assert!(!name.is_empty() && name.len() <= 255);
            return;
        }
        Some(Host::Ip(ip @ std::net::IpAddr::V4(_))) => ip.to_string(),
        Some(Host::Ip(ip)) => format!("[{ip}]"),
    };
    assert_eq!(Host::parse(written.as_bytes()), Host::parse(bytes));
}

fn params(params: Params<'_>) {
    let mut written = Vec::new();
    for (name, value) in params {
        assert!(params.get(name).is_some());
        written.push(b';');
        written.extend_from_slice(name);
        if let Some(value) = value {
            written.push(b'=');
            written.extend_from_slice(value);
        }
    }
    assert!(Params(&written).into_iter().eq(params), "read again they are others");
}

fn name_addr(bytes: &[u8]) {
    let Ok(address) = NameAddr::parse(bytes) else { return };
    uri(address.uri);
    params(address.params);
    let _ = address.tag();
    let display = address.display.unwrap_or_default();
    let written = [display, b"<", address.uri, b">", address.params.0].concat();
    assert_eq!(NameAddr::parse(&written), Ok(address));
}

fn via(bytes: &[u8]) {
    let Ok(via) = Via::parse(bytes) else { return };
    let _ = (via.branch(), via.received(), via.rport());
    params(via.params);
    let written = [b"SIP/2.0/", via.transport, b" ", via.sent_by, via.params.0].concat();
    let again = Via::parse(&written).expect("its parts are a Via");
    assert_eq!(
        (again.transport, again.sent_by, again.host, again.port),
        (via.transport, via.sent_by, via.host, via.port)
    );
    assert_eq!(again.params, via.params);
}

/// As the Request-URI and in every header that holds addresses.
fn in_a_message(bytes: &[u8]) {
    if bytes.len() > 4096 {
        return;
    }
    let message = [
        b"INVITE ".as_slice(),
        bytes,
        b" SIP/2.0\r\nv: ",
        bytes,
        b"\r\nf: ",
        bytes,
        b"\r\nt: ",
        bytes,
        b"\r\nm: ",
        bytes,
        b"\r\nRoute: ",
        bytes,
        b"\r\nReason: ",
        bytes,
        b"\r\nExpires: ",
        bytes,
        b"\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n",
    ]
    .concat();
    let mut index = Index::new();
    if index.parse(&message).is_err() {
        return;
    }
    let message = index.message(&message);
    let _ = (message.validate(), message.seconds(Name::Expires), message.q850_cause());
    for name in [Name::Via, Name::From, Name::To, Name::Contact, Name::Route] {
        for value in message.values(name) {
            uri(value.bytes);
            via(value.bytes);
            name_addr(value.bytes);
        }
    }
}
