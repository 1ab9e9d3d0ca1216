//! Messages of peers, from bytes that say what is in them.

use sip::{Message, Name};

pub const METHODS: [&str; 16] = [
    "INVITE",
    "INVITE",
    "INVITE",
    "REGISTER",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "BYE",
    "UPDATE",
    "PRACK",
    "INFO",
    "REFER",
    "ACK",
    "CANCEL",
    "NOTIFY",
    "ODD",
];

pub const STATUSES: [u16; 24] = [
    200, 100, 180, 183, 202, 301, 302, 400, 401, 404, 407, 408, 415, 422, 481, 482, 486, 487, 488, 500, 503, 504, 600,
    699,
];

const URIS: [&str; 12] = [
    "sip:15551234@192.0.2.1:5060",
    "sips:15551234@192.0.2.1",
    "tel:+1-555-1234;phone-context=x",
    "sip:192.0.2.1",
    "sip:bob@elsewhere.example;user=phone",
    "sip:bob@203.0.113.1;maddr=192.0.2.1;lr",
    "sip:[2001:db8::2]:5060;transport=tcp",
    "sip:bob@192.0.2.1:5060;transport=tcp?Subject=x",
    "http://example.com/",
    "sips:bob@d.example",
    "sip:a%40b:pw@192.0.2.1:5061;x",
    "mailto",
];

const LINES: [&str; 48] = [
    "Contact: <sip:bob@203.0.113.1>\r\n",
    "Contact: <sip:bob@b.example>\r\n",
    "Contact: <sip:bob@unknown.example:5070;transport=tcp>\r\n",
    "Contact: <sips:bob@203.0.113.5>\r\n",
    "Contact: <sip:bob@192.0.2.1:5060>\r\n",
    "Contact: <sip:bob@[2001:db8::f]>\r\n",
    "Contact: *\r\n",
    "Contact: <tel:+1>\r\n",
    "Max-Forwards: 0\r\n",
    "Max-Forwards: 1\r\n",
    "Max-Forwards: 255\r\n",
    "Proxy-Require: x,\r\n y\r\n",
    "Require: 100rel, timer\r\n",
    "Supported: timer\r\n",
    "k: 100rel,timer\r\n",
    "Session-Expires: 90;refresher=uac\r\n",
    "x: 1\r\n",
    "Session-Expires: 4294967295\r\n",
    "Min-SE: 4000000000\r\n",
    "Max-Breadth: 0\r\n",
    "Max-Breadth: 1\r\n",
    "Privacy: id;critical\r\n",
    "Privacy: session;critical\r\n",
    "P-Asserted-Identity: <sip:x@y>, <tel:+1>\r\n",
    "P-Preferred-Identity: <sip:x@y>\r\n",
    "Reason: Q.850;cause=34\r\n",
    "Reason: SIP;cause=200;text=\"x, y\"\r\n",
    "Route: <sip:192.0.2.1;lr>\r\n",
    "Route: <sip:203.0.113.1;lr>, <sip:b.example;lr>\r\n",
    "Route: <sip:192.0.2.1:5060;lr>,<sip:unknown.example>\r\n",
    "Route: <sips:unknown.example;lr>\r\n",
    "Route: <sip:203.0.113.4;transport=tcp;lr>\r\n",
    "Record-Route: <sip:203.0.113.9;lr>\r\n",
    "Record-Route: <sip:192.0.2.1;lr>, <sip:unknown.example;lr>\r\n",
    "Retry-After: 0\r\n",
    "Retry-After: 4294967295 (rest)\r\n",
    "Timestamp: 1.5\r\n",
    "Expires: 60\r\n",
    "Via: SIP/2.0/UDP 198.51.100.9;branch=z9hG4bKx, SIP/2.0/TCP 198.51.100.8:5070;rport\r\n",
    "Via: SIP/2.0/UDP [2001:db8::9];received=192.0.2.9\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 90\r\n",
    "Content-Type: application/sdp\r\n",
    "To: <sip:again@b>;tag=again\r\n",
    "Call-ID: again\r\n",
    "Supported:\r\n",
    "CSeq: 4294967295 INVITE\r\n",
];

/// What follows the last of the lines: a line that makes a message too large for a datagram.
const LARGE: usize = 1400;

/// The bytes that say what happens; nothing is left when all are read.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn number(&mut self) -> usize {
        usize::from(self.byte())
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.number() % all.len()]
    }

    /// Any bytes, up to 255.
    pub fn raw(&mut self) -> &'a [u8] {
        let length = self.number().min(self.0.len());
        let (raw, rest) = self.0.split_at(length);
        self.0 = rest;
        raw
    }

    /// Header lines, up to a byte that stands for none.
    pub fn lines(&mut self, out: &mut Vec<u8>) {
        for _ in 0..8 {
            match self.number() {
                0xff => {
                    out.extend_from_slice(self.raw());
                    out.extend_from_slice(b"\r\n");
                }
                0xfe => {
                    out.extend_from_slice(b"X-Large: ");
                    out.resize(out.len() + LARGE, b'x');
                    out.extend_from_slice(b"\r\n");
                }
                number => match number.checked_sub(1).and_then(|at| LINES.get(at)) {
                    Some(line) => out.extend_from_slice(line.as_bytes()),
                    None => return,
                },
            }
        }
    }

    /// A request of a peer outside any dialog. `sent_by` is its Via, without the branch.
    pub fn request(&mut self, sent_by: &str) -> Vec<u8> {
        let (method, uri) = (self.of(&METHODS), self.of(&URIS));
        let (which, how) = (self.byte(), self.byte());
        let (call, branch) = (which & 7, which >> 3);
        let cookie = if how & 1 == 0 { "z9hG4bK" } else { "" };
        let rport = if how & 2 == 0 { "" } else { ";rport" };
        let to = if how & 4 == 0 { "" } else { ";tag=none" };
        let number = 1 + (how >> 4);
        let mut out = format!(
            "{method} {uri} SIP/2.0\r\nVia: {sent_by};branch={cookie}-{call}-{branch}{rport}\r\n\
             From: Alice <sip:alice@198.51.100.7>;tag=a{call}\r\nTo: <{uri}>{to}\r\nCall-ID: c{call}\r\n\
             CSeq: {number} {method}\r\n"
        )
        .into_bytes();
        if how & 8 == 0 {
            out.extend_from_slice(b"Contact: <sip:alice@198.51.100.7:5060>\r\n");
        }
        self.lines(&mut out);
        out.extend_from_slice(b"\r\nv=0\r\n");
        out
    }

    /// A response to a request that the proxy sent.
    pub fn response(&mut self, request: Message<'_>) -> Vec<u8> {
        let (status, tag) = (self.of(&STATUSES), self.byte());
        let mut out = format!("SIP/2.0 {status} Words\r\n").into_bytes();
        for field in request.fields() {
            match field.name {
                Name::Via | Name::RecordRoute | Name::From | Name::CallId | Name::CSeq => {
                    out.extend_from_slice(&request.bytes()[field.line]);
                }
                Name::To => write_to(request, tag, &mut out),
                _ => {}
            }
        }
        self.lines(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// A request inside the dialog that a message from the proxy is of: the other end's towards whoever sent it.
    pub fn in_dialog(&mut self, base: Message<'_>, sent_by: &str) -> Vec<u8> {
        let (method, how, tag, branch) = (self.of(&METHODS), self.byte(), self.byte(), self.byte());
        let contact = base.contact().and_then(Result::ok).map(|contact| contact.uri);
        let target = contact.filter(|_| how & 1 == 0).unwrap_or(b"sip:192.0.2.1:5060");
        let mut routes: Vec<&[u8]> = base.values(Name::RecordRoute).map(|value| value.bytes).collect();
        if !base.is_request() {
            routes.reverse();
        }
        if how & 2 != 0 {
            routes.clear();
        }
        let mut target = target.to_vec();
        if how & 4 != 0
            && let Some(first) = routes.first().and_then(|first| sip::NameAddr::parse(first).ok())
        {
            // As a strict router does.
            target = first.uri.to_vec();
            routes.remove(0);
        }
        let mut out = [method.as_bytes(), b" ", &target, b" SIP/2.0\r\nVia: "].concat();
        out.extend_from_slice(format!("{sent_by};branch=z9hG4bK-d{branch}\r\n").as_bytes());
        for route in routes {
            out.extend_from_slice(&[b"Route: ", route, b"\r\n"].concat());
        }
        let (mut from, mut to) = (Vec::new(), Vec::new());
        if let Some(field) = base.field(Name::From) {
            from.extend_from_slice(field.value);
        }
        write_to(base, tag, &mut to);
        let to = to.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default().to_vec();
        let (from, to) = if base.is_request() { (to, [from, b"\r\n".to_vec()].concat()) } else { (from, to) };
        out.extend_from_slice(
            &[b"From: ", from.as_slice().trim_ascii(), b"\r\nTo: ", to.trim_ascii(), b"\r\n"].concat(),
        );
        if let Some(field) = base.field(Name::CallId) {
            out.extend_from_slice(&base.bytes()[field.line]);
        }
        out.extend_from_slice(format!("CSeq: {} {method}\r\n", 1 + (how >> 4)).as_bytes());
        self.lines(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The CANCEL of a request, or the ACK of its refusal: on its hop.
    pub fn on_hop(&mut self, base: Message<'_>) -> Vec<u8> {
        let method = self.of(&["CANCEL", "ACK"]);
        let mut out = [method.as_bytes(), b" ", base.request_uri().unwrap_or(b"sip:x"), b" SIP/2.0\r\n"].concat();
        let mut top = true;
        for field in base.fields() {
            let wanted = match field.name {
                Name::Via => std::mem::take(&mut top),
                Name::From | Name::To | Name::CallId => true,
                _ => false,
            };
            if wanted {
                out.extend_from_slice(&base.bytes()[field.line]);
            }
        }
        let number = base.cseq().map_or(1, |cseq| cseq.number);
        out.extend_from_slice(format!("CSeq: {number} {method}\r\n").as_bytes());
        self.lines(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// A message with some of its bytes taken out and others put in.
    pub fn changed(&mut self, base: &[u8]) -> Vec<u8> {
        let at = (self.number() << 8 | self.number()) % (base.len() + 1);
        let end = (at + self.number()).min(base.len());
        [&base[..at], self.raw(), &base[end..]].concat()
    }
}

fn write_to(base: Message<'_>, tag: u8, out: &mut Vec<u8>) {
    let Some(field) = base.field(Name::To) else { return };
    out.extend_from_slice(b"To: ");
    out.extend_from_slice(field.value);
    if tag > 0 && base.to().is_ok_and(|to| to.tag().is_none()) {
        out.extend_from_slice(format!(";tag=b{tag}").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a message that the proxy sent is a request that its receiver answers.
pub fn is_answered(bytes: &[u8]) -> bool {
    !bytes.starts_with(b"SIP/2.0 ") && !bytes.starts_with(b"ACK ")
}
