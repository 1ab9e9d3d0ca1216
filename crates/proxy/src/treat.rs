//! What a route asks of a request on its way to a trunk: numbers and headers as it wants them.
//!
//! Each attempt starts from the request as it came. From is rewritten in requests outside dialogs alone: a dialog is known by
//! its tags (RFC 3261 §12), and the caller meets its own From in every answer.

use routing::Rule;
use sip::Name;

use crate::edits::{Edits, span_in};
use crate::numbers::{Numbers, number_of};

/// The numbers as they are sent; none where they stay.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub called: Option<Vec<u8>>,
    pub calling: Option<Vec<u8>>,
}

impl Rewritten {
    pub fn of(rule: &Rule, numbers: Numbers, request: &[u8]) -> Rewritten {
        Rewritten {
            called: called(rule, numbers.called.slice(request)),
            calling: calling(rule, numbers.calling.slice(request)),
        }
    }
}

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
        let at = message.fields_called(name.as_bytes()).next().map_or(end, |field| field.line.start);
        edits.insert(at, |out| {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        });
        take_out(message, name, edits);
    }
}

fn take_out(message: sip::Message<'_>, name: &str, edits: &mut Edits) {
    for field in message.fields_called(name.as_bytes()) {
        edits.remove(field.line);
    }
}

/// The calling number as a route wants it; none where it stays.
fn calling(rule: &Rule, number: &[u8]) -> Option<Vec<u8>> {
    if number.is_empty() { None } else { rule.calling(number).filter(|new| is_new(new, number)) }
}

/// The called number as a route wants it; none where it stays.
fn called(rule: &Rule, number: &[u8]) -> Option<Vec<u8>> {
    if number.is_empty() { None } else { rule.called(number).filter(|new| is_new(new, number)) }
}

/// A number of which nothing would be left stays: a URI has something before its @, or no @ (RFC 3261 §25.1).
fn is_new(new: &[u8], number: &[u8]) -> bool {
    !new.is_empty() && new != number
}
