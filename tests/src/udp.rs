//! A peer on a plain socket, for what SIPp does not do: to be silent, or to come from elsewhere.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// A socket with a few words of SIP.
pub struct Phone {
    socket: UdpSocket,
    address: String,
}

impl Phone {
    /// Binds a port; 0 for any.
    pub fn new(ip: Ipv4Addr, port: u16) -> Phone {
        let socket = UdpSocket::bind((ip, port)).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        Phone { socket, address }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request outside any dialog.
    pub fn send(&self, to: &str, method: &str, call: &str) {
        self.send_to_user(to, "15551234", method, call);
    }

    /// The same, to a user.
    pub fn send_to_user(&self, to: &str, user: &str, method: &str, call: &str) {
        let address = &self.address;
        let message = format!(
            "{method} sip:{user}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{address}>;tag=f{call}\r\nTo: <sip:{user}@{to}>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:alice@{address}>\r\nContent-Length: 0\r\n\r\n"
        );
        self.socket.send_to(message.as_bytes(), to).unwrap();
    }

    /// Sends a message as it is.
    pub fn send_text(&self, to: &str, message: &str) {
        self.socket.send_to(message.as_bytes(), to).unwrap();
    }

    /// The next message, if one comes in time.
    pub fn receive(&self, most: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(most)).unwrap();
        let mut buffer = vec![0; 65_536];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// The next message that is no 100.
    #[track_caller]
    pub fn answer(&self) -> String {
        loop {
            let message = self.receive(Duration::from_secs(10)).expect("an answer");
            if !message.starts_with("SIP/2.0 100") {
                return message;
            }
        }
    }
}

/// The value of the first header of a name.
pub fn header(message: &str, name: &str) -> String {
    let line =
        message.lines().find(|line| line.split(':').next().is_some_and(|other| other.eq_ignore_ascii_case(name)));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// A response to a request as it came.
pub fn reply(request: &str, status: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "From", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
            out.push_str(&format!("{line}\r\n"));
        } else if name == "To" {
            let tag = if line.contains(";tag=") { "" } else { ";tag=t" };
            out.push_str(&format!("{line}{tag}\r\n"));
        }
    }
    out + "Content-Length: 0\r\n\r\n"
}
