//! REGISTER (RFC 3261 §10): held here, decided elsewhere.

use crate::reply::{self, Reply};
use crate::shard::Shard;
use crate::slab::Id;
use crate::{ContextId, Inbound, Outbox, Registration, Time};

/// A registrar that does not answer is given up after this time, in milliseconds.
const REGISTRAR: u64 = 10_000;

impl Shard {
    /// Any source may ask to register: what it may do is what the registrar decides.
    pub(crate) fn on_register(&mut self, now: Time, inbound: &Inbound<'_>, hash: u64, out: &mut Outbox) {
        let config = self.config.clone();
        let full = self.contexts.len() >= config.max_transactions;
        if full || config.is_draining() {
            let retry = format!("Retry-After: {}\r\n", config.retry_after);
            let busy = Reply { headers: retry.as_bytes(), ..Reply::new(503) };
            let (cause, why) =
                if full { ("overload", "too many transactions") } else { ("draining", "this node leaves") };
            return self.refuse(now, inbound, cause, &busy, why, out);
        }
        let id = self.new_context(now, inbound, hash, false);
        let Some(context) = self.contexts.get_mut(id) else { return };
        context.waits_until = Some(now.plus_millis(REGISTRAR));
        out.registrations.push(Registration {
            context: id.into(),
            shard: self.index,
            listener: inbound.listener,
            source: inbound.source,
            connection: inbound.connection,
            request: inbound.message.bytes().into(),
        });
        self.arm_context(id);
    }

    /// Answers a [`Registration`], or drops it without an answer. `headers` are lines with their CRLF.
    pub fn reply(&mut self, now: Time, context: ContextId, answer: Option<(u16, &str, &[u8])>, out: &mut Outbox) {
        let id = Id::from(context);
        if self.contexts.get(id).is_none_or(|context| context.waits_until.is_none() || context.server.is_final()) {
            return;
        }
        match answer {
            Some((status, reason, headers)) => {
                let reason = if reason.is_empty() { reply::reason_phrase(status) } else { reason };
                self.reply_in(now, id, &Reply { status, reason, headers }, out);
                // Who is not known yet makes us keep nothing: a repeat of it is judged anew (RFC 3261 §8.2.7).
                if status >= 300 {
                    self.drop_context(now, id, out);
                }
            }
            None => self.drop_context(now, id, out),
        }
    }
}
