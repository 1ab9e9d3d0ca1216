//! The numbers of a request: where they lie in it.

use std::ops::Range;

use crate::edits::span_in;

/// Where what routes match on lies in a request, found once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub request_uri: Span,
    pub called: Span,
    pub calling: Span,
    /// Host of the Request-URI.
    pub domain: Span,
    pub call_id: Span,
}

/// A range of a message, which is never longer than 65,535 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span(u16, u16);

impl Span {
    fn of(whole: &[u8], part: &[u8]) -> Span {
        if part.is_empty() {
            return Span::default();
        }
        let Range { start, end } = span_in(whole, part);
        Span(start as u16, end as u16)
    }

    pub fn range(self) -> Range<usize> {
        usize::from(self.0)..usize::from(self.1)
    }

    pub fn slice(self, whole: &[u8]) -> &[u8] {
        whole.get(self.range()).unwrap_or_default()
    }
}

impl Numbers {
    /// Reads a request; `uri` is its Request-URI, where that has been parsed.
    pub fn read(message: sip::Message<'_>, uri: Option<&sip::Uri<'_>>) -> Numbers {
        let whole = message.bytes();
        let request_uri = message.request_uri().unwrap_or_default();
        let parsed = || sip::Uri::parse(request_uri).map(|uri| uri.host_bytes).unwrap_or_default();
        let domain = uri.map_or_else(parsed, |uri| uri.host_bytes);
        let caller = message.from().map(|from| from.uri).unwrap_or_default();
        Numbers {
            request_uri: Span::of(whole, request_uri),
            called: Span::of(whole, number_of(request_uri)),
            calling: Span::of(whole, number_of(caller)),
            domain: Span::of(whole, domain),
            call_id: Span::of(whole, message.call_id().unwrap_or_default()),
        }
    }
}

/// The number in a URI: the user part without password and parameters (RFC 4904 §4), or what a `tel:` URI names; empty
/// where there is none.
pub(crate) fn number_of(uri: &[u8]) -> &[u8] {
    let colon = uri.iter().position(|byte| *byte == b':').unwrap_or(uri.len());
    let (scheme, rest) = (&uri[..colon], uri.get(colon + 1..).unwrap_or_default());
    let is = |name: &[u8]| scheme.eq_ignore_ascii_case(name);
    if !(is(b"sip") || is(b"sips") || is(b"tel")) {
        return b"";
    }
    let end = rest.iter().position(|byte| matches!(byte, b';' | b':' | b'@')).unwrap_or(rest.len());
    let (number, behind) = rest.split_at(end);
    if is(b"tel") || behind.contains(&b'@') { number } else { b"" }
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn a_number_is_the_user_part_alone() {
        for (uri, number) in [
            ("sip:+4930123@example.net;user=phone", "+4930123"),
            ("SIPS:alice:secret@example.net", "alice"),
            ("sip:+49;tgrp=TG1;trunk-context=a.example@example.net", "+49"),
            ("tel:+49-30;phone-context=x", "+49-30"),
            ("sip:example.net", ""),
            ("sip:example.net:5060;user=phone", ""),
            ("sip:1;x=y:z@example.net", "1"),
            ("sip:@example.net", ""),
            ("tel:", ""),
            ("urn:service:sos", ""),
            ("sip:", ""),
            ("nothing", ""),
        ] {
            assert_eq!(number_of(uri.as_bytes()), number.as_bytes(), "{uri}");
        }
    }
}
