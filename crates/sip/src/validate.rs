//! What a proxy checks of a message before it forwards it (RFC 3261 §16.3 steps 1 and 2).

use crate::name::Name;
use crate::{HeaderError, Message, Scheme, Uri, Via};

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Status code of the answer.
    pub status: u16,
    /// Its reason phrase.
    pub reason: &'static str,
    /// The header that is wrong.
    pub header: Option<Name>,
}

impl Violation {
    fn bad(reason: &'static str, header: Name) -> Violation {
        Violation { status: 400, reason, header: Some(header) }
    }
}

impl Message<'_> {
    /// Checks what routing relies on: mandatory headers, once each and well-formed; CSeq of the same method;
    /// a Request-URI that can be read. What a proxy only passes on is not looked at.
    pub fn validate(&self) -> Result<(), Violation> {
        if let Some(version) = self.version()
            && !version.eq_ignore_ascii_case(b"SIP/2.0")
        {
            return Err(Violation { status: 505, reason: "Version Not Supported", header: None });
        }
        let mut seen = [0u8; 7];
        for field in self.fields() {
            if let Some(count) = seen.get_mut(field.name as usize) {
                *count = count.saturating_add(1);
            }
        }
        for (name, reason) in [
            (Name::From, "From is there twice"),
            (Name::To, "To is there twice"),
            (Name::CallId, "Call-ID is there twice"),
            (Name::CSeq, "CSeq is there twice"),
            (Name::MaxForwards, "Max-Forwards is there twice"),
            (Name::ContentLength, "Content-Length is there twice"),
        ] {
            if seen[name as usize] > 1 {
                return Err(Violation::bad(reason, name));
            }
        }
        if self.misfit() {
            return Err(Violation::bad("Content-Length does not fit the body", Name::ContentLength));
        }
        let named = |name: Name, missing: &'static str, bad: &'static str| {
            move |HeaderError(text): HeaderError| {
                Violation::bad(if text.ends_with("is missing") { missing } else { bad }, name)
            }
        };
        let mut vias = 0;
        for value in self.values(Name::Via) {
            Via::parse(value.bytes).map_err(named(Name::Via, "Via is missing", "Via is malformed"))?;
            vias += 1;
        }
        if vias == 0 {
            return Err(Violation::bad("Via is missing", Name::Via));
        }
        self.from().map_err(named(Name::From, "From is missing", "From is malformed"))?;
        self.to().map_err(named(Name::To, "To is missing", "To is malformed"))?;
        self.call_id().map_err(named(Name::CallId, "Call-ID is missing", "Call-ID is malformed"))?;
        let cseq = self.cseq().map_err(named(Name::CSeq, "CSeq is missing", "CSeq is malformed"))?;
        self.max_forwards().map_err(named(Name::MaxForwards, "", "Max-Forwards is malformed"))?;
        let (Some(method), Some(uri)) = (self.method(), self.request_uri()) else {
            return Ok(());
        };
        if method != cseq.method {
            return Err(Violation::bad("CSeq has another method", Name::CSeq));
        }
        match Uri::parse(uri) {
            Err(_) => Err(Violation { status: 400, reason: "Request-URI is malformed", header: None }),
            Ok(uri) if uri.scheme == Scheme::Other => {
                Err(Violation { status: 416, reason: "Unsupported URI Scheme", header: None })
            }
            // Not allowed there (§19.1.1), and a proxy must not pass them on.
            Ok(uri) if uri.headers.is_some() => {
                Err(Violation { status: 400, reason: "Request-URI has headers", header: None })
            }
            Ok(_) => Ok(()),
        }
    }
}
