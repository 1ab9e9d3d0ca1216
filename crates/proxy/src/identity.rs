//! Asserted identities and privacy at the boundary of trust (RFC 3325 §5, RFC 3323).
//!
//! What one side asserts passes only where both sides are trusted. A proxy can keep an asserted identity back
//! (`Privacy: id`); it cannot rewrite From, Contact or a session, so those levels go on to a privacy service downstream, unless
//! the caller would rather have no call than no privacy (`critical`).

use sip::Name;

use crate::edits::Edits;

/// Takes the asserted and preferred identities out.
pub(crate) fn withhold(message: sip::Message<'_>, edits: &mut Edits) {
    for name in [Name::PAssertedIdentity, Name::PPreferredIdentity] {
        for field in message.fields_named(name) {
            edits.remove(field.line);
        }
    }
}

/// Whether the caller makes a privacy critical that a proxy cannot give (RFC 3323 §4.2).
pub(crate) fn cannot_give(message: sip::Message<'_>) -> bool {
    let asks = |level: &[u8]| {
        message.fields_named(Name::Privacy).any(|field| {
            let mut levels = field.value.split(|byte| matches!(byte, b';' | b',' | b' ' | b'\t'));
            levels.any(|other| other.eq_ignore_ascii_case(level))
        })
    };
    message.field(Name::Privacy).is_some()
        && asks(b"critical")
        && (asks(b"header") || asks(b"session") || asks(b"user"))
}
