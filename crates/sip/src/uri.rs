//! URIs (RFC 3261 §19.1, RFC 3966 for tel).

use crate::{Host, Params, Transport, scan};

/// Which kind of URI it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the schemes by their names
pub enum Scheme {
    Other,
    Sip,
    Sips,
    Tel,
}

/// A URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Its scheme.
    pub scheme: Scheme,
    /// User part, with a password if there is one.
    pub user: Option<&'a [u8]>,
    /// Its host; an empty name unless the scheme is `sip` or `sips`.
    pub host: Host<'a>,
    /// The host as written.
    pub host_bytes: &'a [u8],
    /// Its port.
    pub port: Option<u16>,
    /// URI parameters, with the leading semicolon.
    pub params: Params<'a>,
    /// What follows a question mark.
    pub headers: Option<&'a [u8]>,
    /// What follows the scheme, where it is not `sip` or `sips`.
    pub opaque: &'a [u8],
}

/// Why bytes are no URI: what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UriError(pub &'static str);

impl std::fmt::Display for UriError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UriError {}

impl<'a> Uri<'a> {
    /// Parses a URI. Any scheme is accepted; `sip` and `sips` must follow their grammar.
    pub fn parse(bytes: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let colon = bytes.iter().position(|byte| *byte == b':').ok_or(UriError("expected a scheme such as sip:"))?;
        let (name, rest) = (&bytes[..colon], &bytes[colon + 1..]);
        let scheme = match name {
            name if name.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
            name if name.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
            name if name.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
            _ => Scheme::Other,
        };
        let named = name.first().is_some_and(u8::is_ascii_alphabetic)
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !named {
            return Err(UriError("expected a scheme such as sip:"));
        }
        if let Some(bad) =
            bytes.iter().find(|byte| byte.is_ascii_control() || matches!(byte, b' ' | b'<' | b'>' | b'"'))
        {
            return Err(UriError(if *bad == b' ' {
                "expected no space in a URI"
            } else {
                "expected no control, quote or angle bracket in a URI"
            }));
        }
        if !matches!(scheme, Scheme::Sip | Scheme::Sips) {
            if rest.is_empty() {
                return Err(UriError("expected something after the scheme"));
            }
            return Ok(Uri {
                scheme,
                user: None,
                host: Host::Name(b""),
                host_bytes: b"",
                port: None,
                params: Params::default(),
                headers: None,
                opaque: rest,
            });
        }
        sip_uri(scheme, rest)
    }
}

impl Uri<'_> {
    /// The transport that scheme and `transport` parameter ask for; without either UDP (RFC 3263 §4.1). `sips` is TLS over whatever
    /// else is named (RFC 3261 §26.2.2).
    pub fn transport(&self) -> Transport {
        if self.scheme == Scheme::Sips {
            return Transport::Tls;
        }
        self.named_transport().unwrap_or_default()
    }

    /// The transport that the `transport` parameter names.
    pub fn named_transport(&self) -> Option<Transport> {
        Transport::named(self.params.get(b"transport")??)
    }
}

fn sip_uri(scheme: Scheme, rest: &[u8]) -> Result<Uri<'_>, UriError> {
    let (user, rest) = match rest.iter().position(|byte| *byte == b'@') {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    if let Some(user) = user {
        let ok = |byte: &u8| {
            byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/:%#[]|^`{}\\".contains(byte) || *byte >= 0x80
        };
        if user.is_empty() || !user.iter().all(ok) || !escapes_ok(user) {
            return Err(UriError("expected a user part of RFC 3261 section 19.1.1 before the @"));
        }
    }
    let (rest, headers) = match rest.iter().position(|byte| *byte == b'?') {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let end = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
    let (host_port, params) = rest.split_at(end);
    if host_port.iter().any(|byte| scan::is_lws(*byte)) {
        return Err(UriError("expected host[:port]"));
    }
    let (host, host_bytes, port) = Host::with_port(host_port).ok_or(UriError("expected host[:port]"))?;
    if !escapes_ok(params) || !headers.is_none_or(escapes_ok) {
        return Err(UriError("expected two hexadecimal digits after %"));
    }
    Ok(Uri { scheme, user, host, host_bytes, port, params: Params(params), headers, opaque: b"" })
}

fn escapes_ok(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}
