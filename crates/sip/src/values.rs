//! Comma-separated values.

use crate::message::Field;
use crate::{Span, scan};

/// One value of a header line that may hold several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Without outer white space.
    pub bytes: &'a [u8],
    /// Where it lies.
    pub span: Span,
    /// The line that it is on.
    pub line: Span,
    /// Whether it is the only one of its line.
    pub alone: bool,
}

pub(crate) fn of<'a>(message: &'a [u8], field: Field<'a>) -> impl Iterator<Item = Value<'a>> + use<'a> {
    let whole = field.value_span.clone();
    let mut outside = scan::Outside::default();
    let mut next = Some(whole.start);
    std::iter::from_fn(move || {
        let start = next?;
        let area = &message[start..whole.end];
        let comma = outside.find(area, b',');
        next = comma.map(|comma| start + comma + 1);
        let raw = &area[..comma.unwrap_or(area.len())];
        let lead = raw.len() - scan::trim_start(raw).len();
        let bytes = scan::trim(raw);
        let alone = start == whole.start && comma.is_none();
        let span = start + lead..start + lead + bytes.len();
        Some(Value { bytes, span, line: field.line.clone(), alone })
    })
}
