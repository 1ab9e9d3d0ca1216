//! Via (RFC 3261 §20.42, RFC 3581).

use crate::{HeaderError, Host, Params, Span, scan};

/// One Via value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, …
    pub transport: &'a [u8],
    /// `host[:port]` as written.
    pub sent_by: &'a [u8],
    /// Its host.
    pub host: Host<'a>,
    /// Its port.
    pub port: Option<u16>,
    /// Its parameters.
    pub params: Params<'a>,
    /// Where the value lies in its message, or in what was parsed.
    pub span: Span,
}

impl<'a> Via<'a> {
    /// Parses one value. White space is allowed round the slashes and the colon. Any version is read, so that a request
    /// of another one can be answered 505.
    pub fn parse(bytes: &'a [u8]) -> Result<Via<'a>, HeaderError> {
        const EXPECTED: HeaderError = HeaderError("Via is malformed");
        let (head, params) = match scan::Outside::default().find(bytes, b';') {
            Some(at) => bytes.split_at(at),
            None => (bytes, &bytes[bytes.len()..]),
        };
        let mut parts = head.splitn(3, |byte| *byte == b'/');
        let (protocol, version, rest) = (parts.next(), parts.next(), parts.next().ok_or(EXPECTED)?);
        let rest = scan::trim(rest);
        let transport_end = rest.iter().position(|byte| scan::is_lws(*byte)).ok_or(EXPECTED)?;
        let (transport, sent_by) = rest.split_at(transport_end);
        let named = protocol.is_some_and(|protocol| scan::trim(protocol).eq_ignore_ascii_case(b"SIP"))
            && version
                .map(scan::trim)
                .is_some_and(|version| !version.is_empty() && version.iter().all(|byte| scan::is_token(*byte)));
        let sent_by = scan::trim(sent_by);
        let (host, _, port) = Host::with_port(sent_by).ok_or(EXPECTED)?;
        if !named || !transport.iter().all(|byte| scan::is_token(*byte)) {
            return Err(EXPECTED);
        }
        Ok(Via { transport, sent_by, host, port, params: Params(params), span: 0..bytes.len() })
    }

    /// The branch.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.params.get(b"branch").flatten()
    }

    /// Where it was received from.
    pub fn received(&self) -> Option<&'a [u8]> {
        self.params.get(b"received").flatten()
    }

    /// `Some(None)`: asked for but not filled in (RFC 3581 §3).
    pub fn rport(&self) -> Option<Option<u16>> {
        let value = self.params.get(b"rport")?;
        Some(value.and_then(scan::number).and_then(|port| u16::try_from(port).ok()))
    }
}
