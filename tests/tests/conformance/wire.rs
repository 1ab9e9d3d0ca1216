//! Messages as bytes: this test must not lean on the parser that it holds to account.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A socket that speaks bytes.
pub struct Peer {
    socket: UdpSocket,
    /// Where it is bound.
    pub address: SocketAddr,
}

impl Peer {
    pub fn new(ip: Ipv4Addr, port: u16) -> Peer {
        let socket = UdpSocket::bind((ip, port)).unwrap();
        let address = socket.local_addr().unwrap();
        Peer { socket, address }
    }

    pub fn send(&self, to: &str, bytes: &[u8]) {
        self.socket.send_to(bytes, to).unwrap();
    }

    /// The next message that is no 100, if one comes in time.
    pub fn receive(&self, most: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(most)).unwrap();
        let mut buffer = vec![0; 65_536];
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            if !buffer[..length].starts_with(b"SIP/2.0 100 Trying") {
                return Some(buffer[..length].to_vec());
            }
        }
    }
}

/// A name server that knows no name: what a message names must not lead out of this test. Ends with the process.
pub fn knows_no_name() -> SocketAddr {
    let socket = UdpSocket::bind((peers::own_address(), 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let reply = &mut buffer[..length];
            if let Some(flags) = reply.get_mut(2..4) {
                // A response: recursion available, NXDOMAIN (RFC 1035 §4.1.1).
                flags.copy_from_slice(&[0x81, 0x83]);
                let _ = socket.send_to(reply, from);
            }
        }
    });
    address
}

/// Start line, header lines with their folds, body.
pub struct Parts<'a> {
    pub start: &'a [u8],
    pub lines: Vec<&'a [u8]>,
    pub body: &'a [u8],
}

pub fn split(message: &[u8]) -> Parts<'_> {
    let head = find(message, b"\r\n\r\n").unwrap_or(message.len());
    let body = message.get(head + 4..).unwrap_or_default();
    let mut lines = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(end) = find(&message[at..head], b"\r\n").map(|end| at + end) {
        at = end + 2;
        if !matches!(message[at], b' ' | b'\t') {
            lines.push(&message[from..end]);
            from = at;
        }
    }
    lines.push(&message[from..head]);
    Parts { start: lines.remove(0), lines, body }
}

/// The name of a header line: in lower case, and in full.
pub fn name(line: &[u8]) -> String {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    let full = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "l" => "content-length",
        _ => return name,
    };
    full.to_owned()
}

pub fn value(line: &[u8]) -> &[u8] {
    find(line, b":").map_or(b"".as_slice(), |colon| line[colon + 1..].trim_ascii())
}

/// The response that a peer gives to a request.
pub fn respond(request: &[u8], status: &str) -> Vec<u8> {
    let mut out = format!("SIP/2.0 {status}\r\n").into_bytes();
    for line in split(request).lines {
        let name = name(line);
        if ["via", "from", "to", "call-id", "cseq", "record-route"].contains(&name.as_str()) {
            out.extend_from_slice(line);
            if name == "to" && find(line, b"tag").is_none() {
                out.extend_from_slice(b";tag=answerer");
            }
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    out
}

/// The status code of a response.
pub fn status(message: &[u8]) -> Option<u16> {
    let code = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

/// Via lines without what the first hop notes in them.
pub fn vias(message: &[u8]) -> Vec<Vec<u8>> {
    split(message).lines.into_iter().filter(|line| name(line) == "via").map(plain_via).collect()
}

fn plain_via(line: &[u8]) -> Vec<u8> {
    let mut out = line.to_vec();
    for (noted, kept) in [(b";received=".as_slice(), 0), (b";rport=", 6)] {
        if let Some(at) = find(&out, noted) {
            let length = out[at + 1..].iter().position(|byte| matches!(byte, b';' | b',' | b' ' | b'\r'));
            let end = length.map_or(out.len(), |length| at + 1 + length);
            out.drain(at + kept..end);
        }
    }
    out
}

/// Holds a forwarded request to RFC 3261 §16.6: all bytes are those that were sent, but for what a proxy must change, and
/// the headers that it may add.
pub fn compare(sent: &[u8], got: &[u8], server: &str, trunk: &str) -> Result<(), String> {
    let (sent, got) = (split(sent), split(got));
    if sent.body != got.body {
        return Err(format!("the body: {}", got.body.escape_ascii()));
    }
    let expected = request_line(sent.start, trunk);
    if got.start != expected {
        return Err(format!("the request line: {}", got.start.escape_ascii()));
    }
    let mut lines = got.lines.into_iter().peekable();
    let ours = format!("Via: SIP/2.0/UDP {server};branch=z9hG4bK");
    if !lines.next().is_some_and(|line| line.starts_with(ours.as_bytes())) {
        return Err("no Via of ours on top".to_owned());
    }
    let ours = format!("Record-Route: <sip:{server};lr;tl=");
    lines.next_if(|line| line.starts_with(ours.as_bytes()));
    let is_sent = |added: &[u8]| sent.lines.iter().any(|line| name(line) == name(added));
    for added in ["Max-Breadth: 60", "Session-Expires: 1800", "Max-Forwards: 70"].map(str::as_bytes) {
        lines.next_if(|line| *line == added && !is_sent(added));
    }
    let mut first_via = true;
    for line in sent.lines {
        let found = lines.next().unwrap_or_default();
        let same = match name(line).as_str() {
            "via" if std::mem::take(&mut first_via) => plain_via(found) == plain_via(line),
            "max-forwards" => {
                let hops = |line| std::str::from_utf8(value(line)).ok().and_then(|text| text.parse::<u16>().ok());
                let before = |line| line_until_value(line);
                before(found) == before(line) && hops(found).map(|hops| hops + 1) == hops(line)
            }
            _ => found == line,
        };
        if !same {
            return Err(format!("{} became {}", line.escape_ascii(), found.escape_ascii()));
        }
    }
    lines.next().map_or(Ok(()), |more| Err(format!("one line more: {}", more.escape_ascii())))
}

fn line_until_value(line: &[u8]) -> &[u8] {
    &line[..line.len() - value(line).len()]
}

/// The request line towards a trunk: the user and the unknown parameters that were sent, at the trunk's host.
fn request_line(sent: &[u8], trunk: &str) -> Vec<u8> {
    let begin = find(sent, b" ").unwrap() + 1;
    let end = begin + find(&sent[begin..], b" SIP/").unwrap();
    let uri = sent[begin..end].strip_prefix(b"sip:").unwrap();
    let user = find(uri, b"@").map_or(0, |at| at + 1);
    let params = find(&uri[user..], b";").map_or(b"".as_slice(), |at| &uri[user + at..]);
    [&sent[..begin], b"sip:", &uri[..user], trunk.as_bytes(), params, &sent[end..]].concat()
}

pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Replaces the first place of each text.
#[track_caller]
pub fn edited(bytes: &[u8], edits: &[(&str, &str)]) -> Vec<u8> {
    edits.iter().fold(bytes.to_vec(), |bytes, (old, new)| {
        let at = find(&bytes, old.as_bytes()).unwrap_or_else(|| panic!("no {old:?}"));
        [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat()
    })
}
