//! Edits of one message, gathered in any order and applied in one pass.
//!
//! Bytes that no edit touches leave as they came, in their order.

use std::ops::Range;

/// Replacements of spans by texts; an empty span is an insertion.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    list: Vec<(Range<usize>, Range<usize>)>,
    text: Vec<u8>,
}

impl Edits {
    pub fn clear(&mut self) {
        self.list.clear();
        self.text.clear();
    }

    pub fn replace(&mut self, span: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        self.list.push((span, start..self.text.len()));
    }

    pub fn insert(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.replace(at..at, write);
    }

    pub fn remove(&mut self, span: Range<usize>) {
        self.replace(span, |_| {});
    }

    /// Writes `message` with the edits. Insertions at one place keep the order of their making; an edit inside what another
    /// takes out falls away.
    pub fn apply(&mut self, message: &[u8], out: &mut Vec<u8>) {
        // What is put in before a span goes before what becomes of it.
        self.list.sort_by_key(|(span, _)| (span.start, span.end));
        out.reserve(message.len() + self.text.len());
        let mut done = 0;
        for (span, text) in &self.list {
            if span.start < done || span.end > message.len() {
                debug_assert!(span.end <= done, "an edit that overlaps another");
                continue;
            }
            out.extend_from_slice(&message[done..span.start]);
            out.extend_from_slice(&self.text[text.clone()]);
            done = span.end;
        }
        out.extend_from_slice(&message[done..]);
    }
}

/// Where `part`, a slice of `whole`, lies in it.
pub(crate) fn span_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    debug_assert!(start <= whole.len() && part.len() <= whole.len() - start);
    start..start + part.len()
}

/// Appends a number in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
