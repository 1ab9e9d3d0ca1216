//! Parameters after a semicolon.

use crate::scan;

/// Parameters as they stand, with or without the leading semicolon; an iterator of name and value.
/// A quoted value keeps its quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(pub &'a [u8]);

impl<'a> Params<'a> {
    /// The first parameter of this name, in any case: `Some(None)` where it has no value.
    pub fn get(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for Params<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { rest: self.0, outside: scan::Outside::default() }
    }
}

/// Iterates over [`Params`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
    outside: scan::Outside,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bytes = scan::trim_start(self.rest);
            if bytes.is_empty() {
                return None;
            }
            let bytes = bytes.strip_prefix(b";").unwrap_or(bytes);
            let end = self.outside.find(bytes, b';').unwrap_or(bytes.len());
            self.rest = &bytes[end..];
            let param = scan::trim(&bytes[..end]);
            if param.is_empty() {
                continue;
            }
            return Some(match param.iter().position(|byte| *byte == b'=') {
                Some(equal) => (scan::trim_end(&param[..equal]), Some(scan::trim_start(&param[equal + 1..]))),
                None => (param, None),
            });
        }
    }
}
