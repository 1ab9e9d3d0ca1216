//! Header names, with their compact forms (RFC 3261 §7.3.3, §20).

/// A header that is read by name; all others are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the headers by their names
#[repr(u8)]
pub enum Name {
    Via,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    ContentLength,
    Contact,
    Route,
    RecordRoute,
    ProxyRequire,
    SessionExpires,
    Expires,
    MaxBreadth,
    MinSe,
    PAssertedIdentity,
    PPreferredIdentity,
    Privacy,
    Reason,
    RetryAfter,
    Supported,
    Allow,
    Authorization,
    ContentType,
    Date,
    ProxyAuthenticate,
    ProxyAuthorization,
    Require,
    Server,
    Timestamp,
    Unsupported,
    UserAgent,
    Warning,
    WwwAuthenticate,
    Other,
}

/// Compact forms of further headers, as IANA registers them.
const COMPACT: [(&[u8], &[u8]); 11] = [
    (b"a", b"Accept-Contact"),
    (b"b", b"Referred-By"),
    (b"d", b"Request-Disposition"),
    (b"e", b"Content-Encoding"),
    (b"j", b"Reject-Contact"),
    (b"n", b"Identity-Info"),
    (b"o", b"Event"),
    (b"r", b"Refer-To"),
    (b"s", b"Subject"),
    (b"u", b"Allow-Events"),
    (b"y", b"Identity"),
];

/// Whether two names that are [`Name::Other`] are of one header: in any case, long or compact.
pub(crate) fn are_same(name: &[u8], other: &[u8]) -> bool {
    let long = |name: &[u8]| COMPACT.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)).map(|(_, long)| *long);
    name.eq_ignore_ascii_case(other)
        || ((name.len() == 1) != (other.len() == 1)
            && long(name).unwrap_or(name).eq_ignore_ascii_case(long(other).unwrap_or(other)))
}

/// Names whose first line an index remembers.
pub(crate) const REMEMBERED: usize = Name::Supported as usize + 1;

impl Name {
    /// Recognises a name in any case, long or compact.
    pub fn parse(bytes: &[u8]) -> Name {
        if let [letter] = bytes {
            return match letter.to_ascii_lowercase() {
                b'v' => Name::Via,
                b'f' => Name::From,
                b't' => Name::To,
                b'i' => Name::CallId,
                b'l' => Name::ContentLength,
                b'm' => Name::Contact,
                b'c' => Name::ContentType,
                b'k' => Name::Supported,
                b'x' => Name::SessionExpires,
                _ => Name::Other,
            };
        }
        let is = |name: &[u8]| bytes.eq_ignore_ascii_case(name);
        // Length decides nearly always, so most lines cost one comparison.
        let candidates: &[(&[u8], Name)] = match bytes.len() {
            2 => &[(b"To", Name::To)],
            3 => &[(b"Via", Name::Via)],
            4 => &[(b"From", Name::From), (b"CSeq", Name::CSeq), (b"Date", Name::Date)],
            5 => &[(b"Route", Name::Route), (b"Allow", Name::Allow)],
            6 => &[(b"Reason", Name::Reason), (b"Server", Name::Server), (b"Min-SE", Name::MinSe)],
            7 => &[
                (b"Call-ID", Name::CallId),
                (b"Contact", Name::Contact),
                (b"Require", Name::Require),
                (b"Expires", Name::Expires),
                (b"Warning", Name::Warning),
                (b"Privacy", Name::Privacy),
            ],
            9 => &[(b"Supported", Name::Supported), (b"Timestamp", Name::Timestamp)],
            10 => &[(b"User-Agent", Name::UserAgent)],
            11 => &[
                (b"Retry-After", Name::RetryAfter),
                (b"Unsupported", Name::Unsupported),
                (b"Max-Breadth", Name::MaxBreadth),
            ],
            12 => &[
                (b"Max-Forwards", Name::MaxForwards),
                (b"Record-Route", Name::RecordRoute),
                (b"Content-Type", Name::ContentType),
            ],
            13 => &[(b"Proxy-Require", Name::ProxyRequire), (b"Authorization", Name::Authorization)],
            14 => &[(b"Content-Length", Name::ContentLength)],
            15 => &[(b"Session-Expires", Name::SessionExpires)],
            16 => &[(b"WWW-Authenticate", Name::WwwAuthenticate)],
            18 => &[(b"Proxy-Authenticate", Name::ProxyAuthenticate)],
            19 => {
                &[(b"Proxy-Authorization", Name::ProxyAuthorization), (b"P-Asserted-Identity", Name::PAssertedIdentity)]
            }
            20 => &[(b"P-Preferred-Identity", Name::PPreferredIdentity)],
            _ => &[],
        };
        candidates.iter().find(|(name, _)| is(name)).map_or(Name::Other, |(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::are_same;

    #[test]
    fn a_header_has_a_long_and_a_compact_name() {
        for (name, other, same) in [
            ("Subject", "s", true),
            ("S", "SUBJECT", true),
            ("x-tenant", "X-Tenant", true),
            ("z", "Z", true),
            ("s", "Supported", false),
            ("Refer-To", "b", false),
            ("s", "y", false),
        ] {
            assert_eq!(are_same(name.as_bytes(), other.as_bytes()), same, "{name} {other}");
        }
    }
}
