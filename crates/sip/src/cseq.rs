//! CSeq (RFC 3261 §20.16).

use crate::{HeaderError, Method, scan};

/// A sequence number and its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31 (§8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Parses a value.
    pub fn parse(bytes: &'a [u8]) -> Result<CSeq<'a>, HeaderError> {
        const EXPECTED: HeaderError = HeaderError("CSeq is malformed");
        let split = bytes.iter().position(|byte| scan::is_lws(*byte)).ok_or(EXPECTED)?;
        let number = scan::number(&bytes[..split]).filter(|number| *number < 1 << 31).ok_or(EXPECTED)? as u32;
        let method = scan::trim(&bytes[split..]);
        if method.is_empty() || !method.iter().all(|byte| scan::is_token(*byte)) {
            return Err(EXPECTED);
        }
        Ok(CSeq { number, method: method.into() })
    }
}
