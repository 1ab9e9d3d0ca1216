//! Calls of seven messages each: INVITE, 180, 200, ACK, BYE, 200, as a caller and as an answerer of them.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use super::wire::Wire;

const BODY: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n\
                    a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\na=ptime:20\r\n";

/// Who calls, whom, and how.
pub struct Caller {
    pub own: SocketAddr,
    pub target: SocketAddr,
    /// As in a URI.
    pub transport: &'static str,
    /// Tells its calls from those of others.
    pub name: String,
}

impl Caller {
    /// Makes `calls` calls, `at_once` of them under way.
    pub fn run(&self, wire: &mut Wire, calls: usize, at_once: usize) -> Result<()> {
        // Whether each call under way has been answered.
        let mut under_way: HashMap<usize, bool> = HashMap::new();
        let (mut begun, mut over) = (0, 0);
        while over < calls {
            while begun < calls && under_way.len() < at_once {
                wire.send(&self.invite(begun))?;
                under_way.insert(begun, false);
                begun += 1;
            }
            let message = wire.receive()?.context("the connection has ended")?;
            let status: u16 = message.get(8..11).and_then(|text| text.parse().ok()).context("expected a response")?;
            let number = header(&message, "Call-ID").split('-').next().and_then(|text| text.parse().ok());
            let Some(number) = number.filter(|number| under_way.contains_key(number) && status >= 200) else {
                continue;
            };
            if status != 200 {
                bail!("a call has failed: {message}");
            }
            let is_answered = under_way.get(&number).copied().unwrap_or_default();
            if header(&message, "CSeq").ends_with("INVITE") && !is_answered {
                under_way.insert(number, true);
                wire.send(&self.inside("ACK", 1, &message))?;
                wire.send(&self.inside("BYE", 2, &message))?;
            } else if header(&message, "CSeq").ends_with("BYE") {
                under_way.remove(&number);
                over += 1;
            }
        }
        Ok(())
    }

    fn via(&self, branch: &str) -> String {
        let (transport, own) = (self.transport.to_ascii_uppercase(), self.own);
        format!("Via: SIP/2.0/{transport} {own};branch=z9hG4bK{}{branch};rport\r\nMax-Forwards: 70\r\n", self.name)
    }

    fn invite(&self, number: usize) -> String {
        let Caller { own, target, transport, name } = self;
        format!(
            "INVITE sip:1555{number:04}@{target} SIP/2.0\r\n{}From: \"Caller\" <sip:caller@{own}>;tag={name}{number}\r\n\
             To: <sip:1555{number:04}@{target}>\r\nCall-ID: {number}-{name}@{own}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:caller@{own};transport={transport}>\r\nUser-Agent: load\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{BODY}",
            self.via(&format!("{number}i")),
            BODY.len()
        )
    }

    /// A request in the dialog that a 200 made.
    fn inside(&self, method: &str, number: u32, ok: &str) -> String {
        let contact = header(ok, "Contact");
        let uri = contact.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
        let mut routes: Vec<&str> = ok.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).collect();
        routes.reverse();
        let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let call = header(ok, "Call-ID");
        format!(
            "{method} {uri} SIP/2.0\r\n{}{routes}From: {}\r\nTo: {}\r\nCall-ID: {call}\r\nCSeq: {number} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            self.via(&format!("{}{method}", call.split('-').next().unwrap_or_default())),
            header(ok, "From"),
            header(ok, "To"),
        )
    }
}

/// Answers calls until the other side ends.
pub fn answer(wire: &mut Wire, own: SocketAddr, transport: &str) -> Result<()> {
    let contact = format!("Contact: <sip:answerer@{own};transport={transport}>\r\n");
    while let Some(message) = wire.receive()? {
        if message.starts_with("INVITE ") {
            wire.send(&respond(&message, "180 Ringing", &contact, ""))?;
            wire.send(&respond(&message, "200 OK", &contact, BODY))?;
        } else if message.starts_with("BYE ") || message.starts_with("OPTIONS ") {
            wire.send(&respond(&message, "200 OK", "", ""))?;
        }
    }
    Ok(())
}

fn respond(request: &str, status: &str, extra: &str, body: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "From", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
            out.push_str(&format!("{line}\r\n"));
        } else if name == "To" {
            out.push_str(&format!("{line}{}\r\n", if line.contains(";tag=") { "" } else { ";tag=a" }));
        }
    }
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    out + extra + kind + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The value of the first header of a name.
pub fn header(message: &str, name: &str) -> String {
    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}
