//! Typed reading of an indexed message.

use crate::index::{Index, Line, Start};
use crate::name::{self, Name};
use crate::{CSeq, HeaderError, Method, NameAddr, Span, Value, Via, scan, values};

/// A message and its index.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Index,
}

/// The start line (RFC 3261 §7.1, §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the parts by their names
pub enum StartLine<'a> {
    Request { method: Method<'a>, uri: &'a [u8] },
    Response { status: u16, reason: &'a [u8] },
}

/// One header line, with its folds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which header it is.
    pub name: Name,
    /// Its name as written.
    pub name_bytes: &'a [u8],
    /// Its value without outer white space.
    pub value: &'a [u8],
    /// The whole line or lines, with the last line end.
    pub line: Span,
    /// Where `value` lies.
    pub value_span: Span,
}

impl<'a> Message<'a> {
    pub(crate) fn new(bytes: &'a [u8], index: &'a Index) -> Message<'a> {
        Message { bytes, index }
    }

    /// The whole message, cut at the end that Content-Length gives.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn slice(&self, (start, end): (u32, u32)) -> &'a [u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The start line.
    pub fn start(&self) -> StartLine<'a> {
        match self.index.start {
            Start::Request { method, uri, .. } => {
                StartLine::Request { method: self.slice(method).into(), uri: self.slice(uri) }
            }
            Start::Response { status, reason } => StartLine::Response { status, reason: self.slice(reason) },
        }
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// Method of a request.
    pub fn method(&self) -> Option<Method<'a>> {
        match self.index.start {
            Start::Request { method, .. } => Some(self.slice(method).into()),
            Start::Response { .. } => None,
        }
    }

    /// Status code of a response.
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            Start::Response { status, .. } => Some(status),
            Start::Request { .. } => None,
        }
    }

    /// Request-URI of a request.
    pub fn request_uri(&self) -> Option<&'a [u8]> {
        self.request_uri_span().map(|span| &self.bytes[span])
    }

    /// Where the Request-URI lies.
    pub fn request_uri_span(&self) -> Option<Span> {
        match self.index.start {
            Start::Request { uri, .. } => Some(uri.0 as usize..uri.1 as usize),
            Start::Response { .. } => None,
        }
    }

    pub(crate) fn version(&self) -> Option<&'a [u8]> {
        match self.index.start {
            Start::Request { version, .. } => Some(self.slice(version)),
            Start::Response { .. } => None,
        }
    }

    pub(crate) fn misfit(&self) -> bool {
        self.index.misfit
    }

    /// Where the first header line begins.
    pub fn headers_start(&self) -> usize {
        self.index.headers_start as usize
    }

    /// Where the body begins.
    pub fn body_start(&self) -> usize {
        self.index.body_start as usize
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(self.body_start()..).unwrap_or_default()
    }

    fn to_field(self, line: &Line) -> Field<'a> {
        Field {
            name: line.name,
            name_bytes: self.slice((line.start, line.name_end)),
            value: self.slice((line.value_start, line.value_end)),
            line: line.start as usize..line.end as usize,
            value_span: line.value_start as usize..line.value_end as usize,
        }
    }

    /// All header lines in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let message = *self;
        self.index.lines.iter().map(move |line| message.to_field(line))
    }

    /// The first line of a header.
    pub fn field(&self, name: Name) -> Option<Field<'a>> {
        let line = match self.index.first.get(name as usize) {
            Some(first) => self.index.lines.get(usize::from(first.checked_sub(1)?))?,
            None => self.index.lines.iter().find(|line| line.name == name)?,
        };
        Some(self.to_field(line))
    }

    /// Whether a comma-separated header of tokens holds this one, in any case.
    pub fn lists(&self, name: Name, token: &[u8]) -> bool {
        self.field(name).is_some() && self.values(name).any(|value| value.bytes.eq_ignore_ascii_case(token))
    }

    /// A header of whole seconds, parameters aside: Session-Expires, Min-SE, Expires, Retry-After.
    pub fn seconds(&self, name: Name) -> Option<u32> {
        let value = self.field(name)?.value;
        let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
        u32::try_from(scan::number(&value[..end])?).ok()
    }

    /// The Q.850 cause of a Reason header (RFC 3326 §2).
    pub fn q850_cause(&self) -> Option<u8> {
        self.values(Name::Reason).find_map(|value| {
            let end = value.bytes.iter().position(|byte| *byte == b';').unwrap_or(value.bytes.len());
            let (protocol, params) = value.bytes.split_at(end);
            if !scan::trim(protocol).eq_ignore_ascii_case(b"Q.850") {
                return None;
            }
            u8::try_from(scan::number(crate::Params(params).get(b"cause")??)?).ok()
        })
    }

    /// All lines of a header.
    pub fn fields_named(&self, name: Name) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let message = *self;
        let first = self.index.first.get(name as usize).map_or(0, |first| usize::from(first.saturating_sub(1)));
        let absent = self.index.first.get(name as usize) == Some(&0);
        let lines = if absent { &[] } else { self.index.lines.get(first..).unwrap_or_default() };
        lines.iter().filter(move |line| line.name == name).map(move |line| message.to_field(line))
    }

    /// All lines of a header by its name in any case, long or compact.
    pub fn fields_called<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = Field<'a>> + use<'a, 'n> {
        let known = Name::parse(name);
        self.fields_named(known).filter(move |field| known != Name::Other || name::are_same(field.name_bytes, name))
    }

    /// The values of a header over all its lines: commas separate them, but not inside quotes or angle
    /// brackets (RFC 3261 §7.3.1).
    pub fn values(&self, name: Name) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let bytes = self.bytes;
        self.fields_named(name).flat_map(move |field| values::of(bytes, field))
    }

    fn first_value(&self, name: Name) -> Option<Value<'a>> {
        values::of(self.bytes, self.field(name)?).next()
    }

    /// The first Via value.
    pub fn top_via(&self) -> Result<Via<'a>, HeaderError> {
        let value = self.first_value(Name::Via).ok_or(HeaderError("Via is missing"))?;
        let mut via = Via::parse(value.bytes)?;
        via.span = value.span;
        Ok(via)
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.field(Name::From).ok_or(HeaderError("From is missing"))?.value)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.field(Name::To).ok_or(HeaderError("To is missing"))?.value)
    }

    /// Call-ID.
    pub fn call_id(&self) -> Result<&'a [u8], HeaderError> {
        let value = self.field(Name::CallId).ok_or(HeaderError("Call-ID is missing"))?.value;
        if value.is_empty() || value.iter().any(|byte| scan::is_lws(*byte)) {
            return Err(HeaderError("Call-ID is malformed"));
        }
        Ok(value)
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq<'a>, HeaderError> {
        CSeq::parse(self.field(Name::CSeq).ok_or(HeaderError("CSeq is missing"))?.value)
    }

    /// Max-Forwards, if it is there.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        let Some(field) = self.field(Name::MaxForwards) else {
            return Ok(None);
        };
        let hops = scan::number(field.value).and_then(|hops| u8::try_from(hops).ok());
        hops.map(Some).ok_or(HeaderError("Max-Forwards is malformed"))
    }

    /// Content-Length, if it is there.
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        let Some(field) = self.field(Name::ContentLength) else {
            return Ok(None);
        };
        let length = scan::number(field.value).map(|length| length as usize);
        length.map(Some).ok_or(HeaderError("Content-Length is malformed"))
    }

    /// The first Contact value.
    pub fn contact(&self) -> Option<Result<NameAddr<'a>, HeaderError>> {
        self.first_value(Name::Contact).map(|value| NameAddr::parse(value.bytes))
    }
}
