//! What a route asks of a request on its way to a trunk: numbers and headers as it wants them.
//!
//! Each attempt starts from the request as it came. From is rewritten in requests outside dialogs alone: a dialog is known by
//! its tags (RFC 3261 §12), and the caller meets its own From in every answer.

use routing::Rule;
use sip::Name;

use crate::edits::{Edits, span_in};
use crate::numbers::{Numbers, number_of};

/// Compact forms of headers that are none of [`Name`]'s, as IANA registers them.
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

/// Edits the numbers of the caller and the headers.
pub(crate) fn edit(message: sip::Message<'_>, rule: &Rule, numbers: Numbers, edits: &mut Edits) {
    let whole = message.bytes();
    if let Some(new) = calling(rule, numbers.calling.slice(whole)) {
        edits.replace(numbers.calling.range(), |out| out.extend_from_slice(&new));
    }
    for value in message.values(Name::PAssertedIdentity) {
        let number = sip::NameAddr::parse(value.bytes).map(|asserted| number_of(asserted.uri)).unwrap_or_default();
        if let Some(new) = calling(rule, number) {
            edits.replace(span_in(whole, number), |out| out.extend_from_slice(&new));
        }
    }
    for name in rule.headers_removed() {
        take_out(message, name, edits);
    }
    let end = message.fields().last().map_or(message.headers_start(), |field| field.line.end);
    for (name, value) in rule.headers_set() {
        let at = message.fields().find(|field| is_named(field, name)).map_or(end, |field| field.line.start);
        edits.insert(at, |out| {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        });
        take_out(message, name, edits);
    }
}

fn take_out(message: sip::Message<'_>, name: &str, edits: &mut Edits) {
    for field in message.fields().filter(|field| is_named(field, name)) {
        edits.remove(field.line);
    }
}

/// The calling number as a route wants it; none where it stays.
pub(crate) fn calling(rule: &Rule, number: &[u8]) -> Option<Vec<u8>> {
    if number.is_empty() { None } else { rule.calling(number).filter(|new| is_new(new, number)) }
}

/// The called number as a route wants it; none where it stays.
pub(crate) fn called(rule: &Rule, number: &[u8]) -> Option<Vec<u8>> {
    if number.is_empty() { None } else { rule.called(number).filter(|new| is_new(new, number)) }
}

/// A number of which nothing would be left stays: a URI has something before its @, or no @ (RFC 3261 §25.1).
fn is_new(new: &[u8], number: &[u8]) -> bool {
    !new.is_empty() && new != number
}

/// Whether a line is of this header, whichever of its forms either has.
fn is_named(field: &sip::Field<'_>, name: &str) -> bool {
    let long =
        |name: &'_ [u8]| COMPACT.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)).map(|(_, long)| *long);
    match Name::parse(name.as_bytes()) {
        Name::Other if field.name == Name::Other => {
            let (written, wanted) = (field.name_bytes, name.as_bytes());
            long(written).unwrap_or(written).eq_ignore_ascii_case(long(wanted).unwrap_or(wanted))
        }
        known => known != Name::Other && field.name == known,
    }
}
