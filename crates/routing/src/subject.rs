//! What routes look at in a request, and whether a route's conditions hold.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use registry::Conditions;

use crate::RouteTable;

/// Headers of a request, read only when a route or a group asks for one.
pub trait Headers {
    /// Calls `f` with the value of each line of this name, until it says true; whether it did.
    fn any(&self, name: &str, f: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// A request without headers.
impl Headers for () {
    fn any(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

/// What routes look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// User part of the Request-URI, as it came; its parameters may be left out.
    pub called: &'a [u8],
    /// User part of From, likewise.
    pub calling: &'a [u8],
    /// The Request-URI.
    pub request_uri: &'a [u8],
    /// Host of the Request-URI.
    pub domain: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Where the request came from.
    pub source: Option<IpAddr>,
    /// Names of the source's verified certificate, in lower case.
    pub names: &'a [Box<str>],
    /// The time of day.
    pub at: Timestamp,
    /// Its headers.
    pub headers: &'a dyn Headers,
}

impl Default for Subject<'_> {
    fn default() -> Self {
        Subject {
            called: b"",
            calling: b"",
            request_uri: b"",
            domain: b"",
            call_id: b"",
            source: None,
            names: &[],
            at: Timestamp::UNIX_EPOCH,
            headers: &(),
        }
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy;
        write!(f, "Subject({} → {} from {:?} at {})", text(self.calling), text(self.called), self.source, self.at)
    }
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The route is disabled.
    Disabled,
    /// Another calling number.
    Calling,
    /// From another trunk.
    SourceTrunk,
    /// From a trunk of another group, or from none.
    SourceGroup,
    /// Another host in the Request-URI.
    Domain,
    /// Outside its time.
    Time,
    /// A header that is not there, or has another value.
    Header(String),
    /// Another trunk group (RFC 4904).
    Tgrp,
    /// Another context of the trunk group.
    TrunkContext,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unmet::Disabled => "disabled",
            Unmet::Calling => "another calling number",
            Unmet::SourceTrunk => "from another trunk",
            Unmet::SourceGroup => "not from a trunk of its group",
            Unmet::Domain => "another domain",
            Unmet::Time => "outside its time",
            Unmet::Header(name) => return write!(f, "header {name} is missing or has another value"),
            Unmet::Tgrp => "another tgrp",
            Unmet::TrunkContext => "another trunk-context",
        })
    }
}

/// The number in a user part: without its parameters (RFC 4904, RFC 3966), and without the visual separators that people put
/// into telephone numbers (RFC 3966 §5.1.1). What is no telephone number stays as it is.
pub fn number(user: &[u8]) -> Cow<'_, [u8]> {
    let end = user.iter().position(|byte| *byte == b';').unwrap_or(user.len());
    let bare = &user[..end];
    let separator = |byte: u8| matches!(byte, b'-' | b'.' | b'(' | b')');
    let phone = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'*' | b'#') || separator(byte);
    if bare.iter().any(|byte| separator(*byte)) && bare.iter().all(|byte| phone(*byte)) {
        return Cow::Owned(bare.iter().copied().filter(|byte| !separator(*byte)).collect());
    }
    Cow::Borrowed(bare)
}

/// A parameter of the user part of a URI, or of a `tel:` URI.
fn param<'a>(uri: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let uri = sip::Uri::parse(uri).ok()?;
    let user = if uri.scheme == sip::Scheme::Tel { uri.opaque } else { uri.user? };
    user.split(|byte| *byte == b';').skip(1).find_map(|param| {
        let (key, value) = param.split_at_checked(name.len())?;
        key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    })
}

impl Subject<'_> {
    /// The first condition that does not hold.
    pub(crate) fn unmet(&self, conditions: &Conditions, table: &RouteTable) -> Option<Unmet> {
        let calling = number(self.calling);
        if !conditions.calling.is_empty()
            && !conditions.calling.iter().any(|prefix| calling.starts_with(prefix.as_bytes()))
        {
            return Some(Unmet::Calling);
        }
        if let Some(domain) = &conditions.domain
            && !self.domain.eq_ignore_ascii_case(domain.as_bytes())
        {
            return Some(Unmet::Domain);
        }
        if let Some(trunk) = &conditions.source_trunk
            && !self.comes_from(table, |id| id == &**trunk)
        {
            return Some(Unmet::SourceTrunk);
        }
        if let Some(group) = &conditions.source_group
            && !self.comes_from(table, |id| table.trunk(id).is_some_and(|trunk| *trunk.facts.group == **group))
        {
            return Some(Unmet::SourceGroup);
        }
        for (name, wanted, unmet) in
            [("tgrp", &conditions.tgrp, Unmet::Tgrp), ("trunk-context", &conditions.trunk_context, Unmet::TrunkContext)]
        {
            if let Some(wanted) = wanted
                && param(self.request_uri, name).is_none_or(|value| !value.eq_ignore_ascii_case(wanted.as_bytes()))
            {
                return Some(unmet);
            }
        }
        if conditions.time.as_ref().is_some_and(|window| !window.holds(self.at)) {
            return Some(Unmet::Time);
        }
        let missing = conditions.headers.iter().find(|header| {
            let wanted = header.value.as_deref();
            !self.headers.any(&header.name, &mut |value| wanted.is_none_or(|wanted| value == wanted.as_bytes()))
        });
        missing.map(|header| Unmet::Header(header.name.to_string()))
    }

    fn comes_from(&self, table: &RouteTable, is_it: impl Fn(&str) -> bool) -> bool {
        self.source.is_some_and(|source| table.sources().trunks_of(source, self.names).any(|id| is_it(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_no_separators_and_parameters() {
        for (user, expected) in [
            ("+49 30", "+49 30"),
            ("+49-30-123.45(6)", "+4930123456"),
            ("+4930;tgrp=TG1;trunk-context=x.example", "+4930"),
            ("alice.smith", "alice.smith"),
            ("*21#", "*21#"),
            ("", ""),
        ] {
            assert_eq!(number(user.as_bytes()), expected.as_bytes(), "{user}");
        }
        let uri = b"sip:1;TGRP=a;trunk-context=b@c;tgrp=d";
        assert_eq!(param(uri, "tgrp"), Some(b"a".as_slice()));
        assert_eq!(param(uri, "trunk-context"), Some(b"b".as_slice()));
        assert_eq!(param(b"tel:1;tgrp=a;trunk-context=b", "tgrp"), Some(b"a".as_slice()));
        assert_eq!(param(b"sip:1;tgrpx=a@c", "tgrp"), None);
    }
}
