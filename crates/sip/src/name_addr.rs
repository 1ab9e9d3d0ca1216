//! name-addr and addr-spec, as From, To, Contact, Route and Record-Route have them (RFC 3261 §20.10).

use crate::{HeaderError, Params, scan};

/// A URI with an optional display name and header parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// As written, quotes included.
    pub display: Option<&'a [u8]>,
    /// Without angle brackets.
    pub uri: &'a [u8],
    /// Header parameters.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Parses one value. Without angle brackets every semicolon begins a header parameter (§20).
    pub fn parse(bytes: &'a [u8]) -> Result<NameAddr<'a>, HeaderError> {
        const EXPECTED: HeaderError = HeaderError("expected a URI, in angle brackets where it has a display name");
        let bytes = scan::trim(bytes);
        let open = if bytes.first() == Some(&b'"') {
            let end = scan::quoted_end(bytes, 0).ok_or(EXPECTED)?;
            let gap = bytes[end..].iter().position(|byte| !scan::is_lws(*byte)).ok_or(EXPECTED)?;
            if bytes[end + gap] != b'<' {
                return Err(EXPECTED);
            }
            Some(end + gap)
        } else {
            bytes.iter().position(|byte| *byte == b'<')
        };
        let (display, uri, rest) = match open {
            Some(open) => {
                let close = open + bytes[open..].iter().position(|byte| *byte == b'>').ok_or(EXPECTED)?;
                let display = scan::trim(&bytes[..open]);
                (Some(display).filter(|display| !display.is_empty()), &bytes[open + 1..close], &bytes[close + 1..])
            }
            None => {
                let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
                (None, scan::trim(&bytes[..end]), &bytes[end..])
            }
        };
        let rest = scan::trim(rest);
        let uri_ok =
            uri.contains(&b':') && !uri.iter().any(|byte| scan::is_lws(*byte) || matches!(byte, b'<' | b'>' | b'"'));
        if !uri_ok || !(rest.is_empty() || rest[0] == b';') {
            return Err(EXPECTED);
        }
        Ok(NameAddr { display, uri, params: Params(rest) })
    }

    /// The tag of From or To.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.params.get(b"tag").flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_that_was_not_opened_is_no_part_of_a_uri() {
        for bad in ["sip:a@b>", "sip:a@b>c;tag=1", "sip:<a@b", "sip:a\"@b"] {
            assert!(NameAddr::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
