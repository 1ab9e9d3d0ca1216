//! One pass over a message: where its start line, header lines and body lie.

use memchr::{memchr, memchr2};

use crate::message::Message;
use crate::name::{Name, REMEMBERED};
use crate::scan;

/// Longest message, in bytes: what one UDP datagram can hold.
const LONGEST: usize = 65_535;
/// Most header lines.
const MOST_LINES: usize = 512;

/// Where the parts of one message lie. Reusable: parsing again costs no allocation.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub(crate) start: Start,
    pub(crate) headers_start: u32,
    pub(crate) body_start: u32,
    pub(crate) end: u32,
    /// Content-Length of a request is no number, or says more than there is.
    pub(crate) misfit: bool,
    pub(crate) lines: Vec<Line>,
    /// Place in `lines` of the first line of each remembered name, plus one.
    pub(crate) first: [u16; REMEMBERED],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub name: Name,
    pub start: u32,
    pub name_end: u32,
    pub value_start: u32,
    pub value_end: u32,
    pub end: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Request { method: (u32, u32), uri: (u32, u32), version: (u32, u32) },
    Response { status: u16, reason: (u32, u32) },
}

impl Default for Start {
    fn default() -> Start {
        Start::Response { status: 0, reason: (0, 0) }
    }
}

/// Why bytes are no SIP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Longer than 65,535 bytes.
    TooLong,
    /// More than 512 header lines.
    TooManyHeaders,
    /// Neither a request line nor a status line.
    StartLine,
    /// A header line without a name and a colon.
    HeaderLine,
    /// The headers do not end with an empty line.
    Unfinished,
    /// Content-Length of a response is no number, or says more than there is.
    ContentLength,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ParseError::TooLong => "longer than 65535 bytes",
            ParseError::TooManyHeaders => "more than 512 header lines",
            ParseError::StartLine => "expected a request line or a status line",
            ParseError::HeaderLine => "expected a header name and a colon",
            ParseError::Unfinished => "expected an empty line after the headers",
            ParseError::ContentLength => "Content-Length does not fit the body",
        })
    }
}

impl std::error::Error for ParseError {}

impl Index {
    /// An empty index.
    pub fn new() -> Index {
        Index::default()
    }

    /// The message that was parsed last; `bytes` must be the same.
    pub fn message<'a>(&'a self, bytes: &'a [u8]) -> Message<'a> {
        Message::new(bytes.get(..self.end as usize).unwrap_or(bytes), self)
    }

    /// Notes where the parts of one datagram lie. Line ends before the start line are skipped (§7.5), bytes
    /// after the body as Content-Length bounds it are cut off (§18.3); without Content-Length
    /// the body goes to the end. A request that it does not fit can still be answered: [`Message::validate`] refuses
    /// it, where a response is discarded (§18.3).
    pub fn parse(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        if bytes.len() > LONGEST {
            return Err(ParseError::TooLong);
        }
        self.parse_head(bytes)?;
        self.end = bytes.len() as u32;
        let at = self.body_start as usize;
        let end = self.content_length(bytes).map(|length| length.map(|length| at.checked_add(length)));
        self.misfit = false;
        match end {
            Ok(None) => {}
            Ok(Some(Some(end))) if end <= bytes.len() => self.end = end as u32,
            _ if matches!(self.start, Start::Request { .. }) => self.misfit = true,
            _ => return Err(ParseError::ContentLength),
        }
        Ok(())
    }

    /// Notes where the start line and the headers lie, and where the body begins.
    fn parse_head(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.lines.clear();
        self.first = [0; REMEMBERED];
        let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).ok_or(ParseError::StartLine)?;
        let line_end = begin + memchr(b'\n', &bytes[begin..]).ok_or(ParseError::StartLine)?;
        self.start = start_line(bytes, begin, content_end(bytes, begin, line_end))?;
        let mut at = line_end + 1;
        self.headers_start = at as u32;
        loop {
            match bytes.get(at) {
                None => return Err(ParseError::Unfinished),
                Some(b'\n') => break at += 1,
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => break at += 2,
                Some(_) => at = self.header_line(bytes, at)?,
            }
        }
        self.body_start = at as u32;
        Ok(())
    }

    /// Length of the message that begins `bytes`, as a stream has it (§18.3): its headers are whole, and must say the length
    /// of the body once.
    pub(crate) fn length_on_stream(&mut self, bytes: &[u8]) -> Result<usize, ParseError> {
        self.parse_head(bytes)?;
        let mut values = self.lines.iter().filter(|line| line.name == Name::ContentLength);
        let value = |line: &Line| bytes.get(line.value_start as usize..line.value_end as usize);
        let first = values.next().map(value);
        if values.any(|line| Some(value(line)) != first) {
            return Err(ParseError::ContentLength);
        }
        let length = self.content_length(bytes)?.ok_or(ParseError::ContentLength)?;
        let end = (self.body_start as usize).checked_add(length).ok_or(ParseError::TooLong)?;
        if end > LONGEST { Err(ParseError::TooLong) } else { Ok(end) }
    }

    fn header_line(&mut self, bytes: &[u8], start: usize) -> Result<usize, ParseError> {
        if self.lines.len() == MOST_LINES {
            return Err(ParseError::TooManyHeaders);
        }
        let colon = start + memchr2(b':', b'\n', &bytes[start..]).ok_or(ParseError::Unfinished)?;
        let name = scan::trim_end(&bytes[start..colon]);
        if bytes[colon] != b':' || name.is_empty() || !name.iter().all(|byte| scan::is_token(*byte)) {
            return Err(ParseError::HeaderLine);
        }
        let mut end = colon + 1;
        let newline = loop {
            let newline = end + memchr(b'\n', &bytes[end..]).ok_or(ParseError::Unfinished)?;
            end = newline + 1;
            // A line that begins with white space goes on with this one (§7.3.1).
            if !matches!(bytes.get(end), Some(b' ' | b'\t')) {
                break newline;
            }
        };
        let value_end = start + scan::trim_end(&bytes[start..newline]).len();
        let value_end = value_end.max(colon + 1);
        let value_start = value_end - scan::trim_start(&bytes[colon + 1..value_end]).len();
        let kind = Name::parse(name);
        if let Some(first) = self.first.get_mut(kind as usize)
            && *first == 0
        {
            *first = self.lines.len() as u16 + 1;
        }
        self.lines.push(Line {
            name: kind,
            start: start as u32,
            name_end: (start + name.len()) as u32,
            value_start: value_start as u32,
            value_end: value_end as u32,
            end: end as u32,
        });
        Ok(end)
    }

    fn content_length(&self, bytes: &[u8]) -> Result<Option<usize>, ParseError> {
        let first = self.first[Name::ContentLength as usize];
        let Some(line) = first.checked_sub(1).and_then(|at| self.lines.get(usize::from(at))) else {
            return Ok(None);
        };
        let value = &bytes[line.value_start as usize..line.value_end as usize];
        scan::number(value).map(|length| Some(length as usize)).ok_or(ParseError::ContentLength)
    }
}

fn content_end(bytes: &[u8], start: usize, newline: usize) -> usize {
    if newline > start && bytes[newline - 1] == b'\r' { newline - 1 } else { newline }
}

fn start_line(bytes: &[u8], start: usize, end: usize) -> Result<Start, ParseError> {
    let line = &bytes[start..end];
    let is_response = line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/");
    if is_response {
        // SIP/2.0 200 OK: the reason phrase may be empty, and some peers leave its space away.
        let status = line.get(8..11).and_then(scan::number).ok_or(ParseError::StartLine)?;
        let reason = line.get(12..).unwrap_or_default();
        if !line[..8].eq_ignore_ascii_case(b"SIP/2.0 ")
            || !(100..700).contains(&status)
            || line.get(11).is_some_and(|b| *b != b' ')
        {
            return Err(ParseError::StartLine);
        }
        let reason_start = end - reason.len();
        return Ok(Start::Response { status: status as u16, reason: (reason_start as u32, end as u32) });
    }
    let method_end = memchr(b' ', line).ok_or(ParseError::StartLine)?;
    let version_start = memchr::memrchr(b' ', scan::trim_end(line)).ok_or(ParseError::StartLine)? + 1;
    let method_is_token = method_end > 0 && line[..method_end].iter().all(|byte| scan::is_token(*byte));
    let version = scan::trim_end(&line[version_start..]);
    if !method_is_token
        || version_start < method_end + 2
        || !version.get(..4).is_some_and(|sip| sip.eq_ignore_ascii_case(b"SIP/"))
    {
        return Err(ParseError::StartLine);
    }
    let span = |from: usize, to: usize| ((start + from) as u32, (start + to) as u32);
    Ok(Start::Request {
        method: span(0, method_end),
        uri: span(method_end + 1, version_start - 1),
        version: span(version_start, version_start + version.len()),
    })
}
