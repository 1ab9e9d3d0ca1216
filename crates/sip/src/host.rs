//! Hosts (RFC 3261 §25.1).

use std::net::{IpAddr, Ipv6Addr};

use crate::scan;

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A host name.
    Name(&'a [u8]),
    /// An address.
    Ip(IpAddr),
}

impl<'a> Host<'a> {
    /// Parses a host name, an IPv4 address or an IPv6 reference in brackets.
    pub fn parse(bytes: &'a [u8]) -> Option<Host<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        if let Some(inner) = text.strip_prefix('[') {
            return Some(Host::Ip(inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into()));
        }
        if let Ok(ip) = text.parse::<std::net::Ipv4Addr>() {
            return Some(Host::Ip(ip.into()));
        }
        let ok = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!bytes.is_empty() && bytes.len() <= 255 && bytes.iter().all(ok)).then_some(Host::Name(bytes))
    }

    /// Parses `host[:port]`, white space round the colon allowed; gives the bytes of the host too.
    pub(crate) fn with_port(bytes: &'a [u8]) -> Option<(Host<'a>, &'a [u8], Option<u16>)> {
        let after_bracket = bytes.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1);
        let colon = bytes[after_bracket..].iter().position(|byte| *byte == b':').map(|at| after_bracket + at);
        let (host, port) = match colon {
            Some(colon) => {
                let port = scan::number(scan::trim(&bytes[colon + 1..]))?;
                (scan::trim(&bytes[..colon]), Some(u16::try_from(port).ok().filter(|port| *port > 0)?))
            }
            None => (scan::trim(bytes), None),
        };
        Some((Host::parse(host)?, host, port))
    }
}
