//! OPTIONS of our own (RFC 3261 §11), to learn whether a target lives.

use std::io::Write;

use crate::client::{Client, ProbeOf, State};
use crate::keys::{Branch, hex};
use crate::server::Resend;
use crate::shard::Shard;
use crate::slab::Id;
use crate::{Event, Outbox, Probe, Time, via};

impl Shard {
    /// Sends an OPTIONS; its outcome is told by [`Event::Probed`].
    pub fn probe(&mut self, now: Time, probe: &Probe, out: &mut Outbox) {
        let config = self.config.clone();
        let until = now.plus_millis(probe.timeout);
        let client = self.clients.insert(Client {
            probe: Some(ProbeOf { token: probe.token, sent: now }),
            ..Client::new(Id { slot: u32::MAX, generation: 0 }, probe.hop.clone(), now)
        });
        let branch = Branch { shard: self.index, client, loop_hash: 0 };
        let (tag, call) = (self.draw(), self.draw());
        let own = config.listeners[usize::from(probe.hop.listener)].advertised.as_str();
        let transport = config.transport(probe.hop.listener);
        let range = out.send(&probe.hop, |out| {
            // A Vec takes every write.
            let _ = write!(
                out,
                "OPTIONS {} SIP/2.0\r\nVia: SIP/2.0/{} {own};rport;branch=",
                probe.request_uri,
                transport.in_via()
            );
            config.keys.write_branch(out, branch);
            out.extend_from_slice(via::params(transport));
            out.extend_from_slice(b"\r\nMax-Forwards: 70\r\nFrom: <");
            match &probe.from {
                Some(from) => out.extend_from_slice(from.as_bytes()),
                None => {
                    let _ = write!(out, "sip:{own}");
                }
            }
            out.extend_from_slice(b">;tag=");
            hex(out, tag, 16);
            let _ = write!(out, "\r\nTo: <{}>\r\nCall-ID: ", probe.request_uri);
            hex(out, call, 16);
            let _ = write!(out, "@{own}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:{own}");
            if transport.is_reliable() {
                let _ = write!(out, ";transport={transport}");
            }
            out.extend_from_slice(b">\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n");
        });
        if let Some(client) = self.clients.get_mut(client) {
            let resend = Resend::start(now, config.t1, config.is_reliable(&probe.hop));
            client.state = State::Calling { request: out.bytes[range].into(), resend, until };
        }
        self.arm_client(client);
    }

    pub(crate) fn probed(&self, now: Time, probe: ProbeOf, message: sip::Message<'_>, out: &mut Outbox) {
        let status = message.status();
        let retry_after = message.seconds(sip::Name::RetryAfter).filter(|_| status == Some(503));
        let round_trip = now.0.saturating_sub(probe.sent.0);
        out.events.push(Event::Probed { token: probe.token, status, unsent: false, retry_after, round_trip });
    }
}
