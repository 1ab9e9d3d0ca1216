//! How a TLS peer is met.

/// Whom its certificate must name, and what we show it. Authorities and certificates go by the names that the settings give
/// them: a registrant can name none that the operator has not put there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsPeer {
    /// The DNS name or IP address that its certificate must hold (RFC 5922 §7.2).
    pub verify_name: Box<str>,
    /// Who must have signed it; none: the authorities of the settings, else the system's.
    pub authority: Option<Box<str>>,
    /// Our certificate towards it; none: the server's own.
    pub certificate: Option<Box<str>>,
}
