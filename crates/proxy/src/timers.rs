//! Timers of contexts, client transactions and calls.

use crate::client::{Cancel, Due};
use crate::reply::Reply;
use crate::responses::Ended;
use crate::server::{self, Server};
use crate::shard::Shard;
use crate::slab::Id;
use crate::wheel::Owner;
use crate::{Cause, Event, LookupId, Outbox, Party, Time};

/// Why an attempt is cancelled that rings for too long, or says nothing (RFC 3326 §2).
const SILENT: &[u8] = b"Reason: SIP;cause=408;text=\"Request Timeout\"\r\n";

impl Shard {
    /// Does what is due.
    pub fn fire(&mut self, now: Time, out: &mut Outbox) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        for owner in due.drain(..) {
            match owner {
                Owner::Call(id) => self.fire_call(now, id, out),
                Owner::Client(id) => self.fire_client(now, id, out),
                Owner::Context(id) => self.fire_context(now, id, out),
            }
        }
        self.due = due;
    }

    fn fire_context(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let config = self.config.clone();
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        if context.armed > now {
            return;
        }
        context.armed = Time(u64::MAX);
        if context.waits_until.is_some_and(|at| at <= now) {
            if context.request.as_deref().is_some_and(|request| request.starts_with(b"REGISTER ")) {
                return self.drop_context(now, id, out);
            }
            // A name that nobody could tell: as if it led nowhere.
            return self.located(now, LookupId::Request(id.into()), Vec::new(), out);
        }
        let server = std::mem::replace(&mut context.server, Server::Trying { hundred_at: None });
        let (server, due) = server.fire(now, &config);
        context.server = server;
        match due {
            server::Due::Nothing => {}
            server::Due::Hundred => self.reply_in(now, id, &Reply::new(100), out),
            server::Due::Resend => {
                if let Some(bytes) = context.server.replay() {
                    out.send(&context.reply, |out| out.extend_from_slice(bytes));
                }
            }
            server::Due::Over => return self.drop_context(now, id, out),
        }
        self.arm_context(id);
    }

    fn fire_client(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let config = self.config.clone();
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.armed > now {
            return;
        }
        client.armed = Time(u64::MAX);
        match client.fire(now, &config) {
            Due::Nothing => {}
            Due::Resend => {
                if let Some(bytes) = client.request() {
                    out.send(&client.hop, |out| out.extend_from_slice(bytes));
                }
            }
            Due::ResendCancel => {
                if let Cancel::Sent { bytes, .. } = &client.cancel {
                    out.send(&client.hop, |out| out.extend_from_slice(bytes));
                }
            }
            Due::GiveUp => {
                let ended = Ended::told(client);
                self.abandon(now, id, SILENT, out);
                if self.contexts.get(ended.context).is_some_and(|context| context.awaits(id)) {
                    self.gave_up(now, &ended, 408, out);
                }
            }
            Due::TimedOut => return self.attempt_over(now, id, 408, out),
            Due::Over => {
                self.clients.remove(id);
                return;
            }
        }
        self.arm_client(id);
    }

    fn fire_call(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.armed > now {
            return;
        }
        call.armed = Time(u64::MAX);
        let cause = match call.next_timeout() {
            Some(at) if at > now => return self.arm_call(id),
            None => return,
            Some(_) if call.ends_at <= now => Cause::MaxDuration,
            Some(_) => Cause::SessionTimer,
        };
        call.record.end(cause, Party::Router, now, None);
        if let Some(leg) = call.legs.first() {
            out.events.push(Event::Lost {
                cause: cause.as_str(),
                trunk: leg.trunk.clone(),
                call_id: String::from_utf8_lossy(call.call_id()).into_owned(),
            });
        }
        self.drop_call(now, id, out);
    }
}
