//! Transports (RFC 3261 §18, §25.1).

use std::fmt;

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the transports by their names
pub enum Transport {
    Tcp,
    Tls,
    #[default]
    Udp,
}

impl Transport {
    /// Recognises `tcp`, `tls` and `udp`, in lower case as the API has them.
    pub fn parse(text: &str) -> Option<Transport> {
        match text {
            "tcp" => Some(Transport::Tcp),
            "tls" => Some(Transport::Tls),
            "udp" => Some(Transport::Udp),
            _ => None,
        }
    }

    /// The value of a `transport` parameter, or the transport of a Via, in any case.
    pub fn named(name: &[u8]) -> Option<Transport> {
        [Transport::Tcp, Transport::Tls, Transport::Udp]
            .into_iter()
            .find(|transport| name.eq_ignore_ascii_case(transport.as_str().as_bytes()))
    }

    /// As the API and a `transport` parameter have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Udp => "udp",
        }
    }

    /// As Via has it.
    pub fn in_via(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Udp => "UDP",
        }
    }

    /// Whether nothing sent gets lost while the connection stands, so nothing is sent again (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// Where a URI names no port (RFC 3261 §19.1.2).
    pub fn default_port(self) -> u16 {
        if self == Transport::Tls { 5061 } else { 5060 }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
