//! Character classes and small scanners of RFC 3261 §25.1.

/// Linear white space, folds included.
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    bytes
}

pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Decimal digits and nothing else, as a number that fits.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

/// Where a quoted string that begins at `start` ends, past its closing quote.
pub(crate) fn quoted_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Finds bytes outside quotes and angle brackets. One is for one text from front to back: it remembers that
/// a quote is never closed, or hostile text would be looked through again from each of its quotes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    unclosed: bool,
}

impl Outside {
    /// The first `wanted` byte; `bytes` must end where they ended before.
    pub(crate) fn find(&mut self, bytes: &[u8], wanted: u8) -> Option<usize> {
        // Most values have neither quotes nor brackets before what is looked for.
        let mut at = memchr::memchr3(wanted, b'"', b'<', bytes)?;
        if bytes[at] == wanted {
            return Some(at);
        }
        let mut in_angles = false;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' if !in_angles && !self.unclosed => {
                    // Without a closing quote it is an ordinary byte, and so is every quote after it: each is
                    // escaped as seen from here, and the escapes that follow it are the same.
                    match quoted_end(bytes, at) {
                        Some(end) => {
                            at = end;
                            continue;
                        }
                        None => self.unclosed = true,
                    }
                }
                b'<' => in_angles = true,
                b'>' => in_angles = false,
                byte if *byte == wanted && !in_angles => return Some(at),
                _ => {}
            }
            at += 1;
        }
        None
    }
}
