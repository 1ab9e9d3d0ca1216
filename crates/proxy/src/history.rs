//! What a call's record is told while the call goes on.

use crate::record::{AttemptRecord, CallRecord, Cause, Local, Party};
use crate::shard::Shard;
use crate::slab::Id;
use crate::{Event, Outbox, Time};

impl Shard {
    /// The call of this Call-ID, as it stands; where several have it, any of them.
    pub fn call(&self, call_id: &str) -> Option<Box<CallRecord>> {
        let hash = self.config.keys.hash(&[call_id.as_bytes()]);
        let of = |id: Id| self.calls.get(id).filter(|call| call.record.call_id_bytes() == call_id.as_bytes());
        let (_, id) = self.by_call.find(hash, |(other, id)| *other == hash && of(*id).is_some())?;
        of(*id).map(|call| call.record.clone())
    }

    /// Tells every call that stands as ended, as this process leaves it.
    pub fn leave(&mut self, now: Time, out: &mut Outbox) {
        let calls: Vec<Id> = self.by_call.iter().map(|(_, id)| *id).collect();
        for id in calls {
            if let Some(call) = self.calls.get_mut(id) {
                call.record.end(Cause::Shutdown, Party::Router, now, None);
            }
            self.drop_call(now, id, out);
        }
    }

    /// The record of the call that a context begins.
    pub(crate) fn record_of(&mut self, context: Id) -> Option<&mut CallRecord> {
        let call = self.contexts.get(context).filter(|context| context.begins_call)?.call?;
        Some(&mut self.calls.get_mut(call)?.record)
    }

    /// An attempt of the call that a context begins.
    pub(crate) fn attempt_of(&mut self, context: Id, nth: u8) -> Option<&mut AttemptRecord> {
        self.record_of(context)?.attempts.get_mut(usize::from(nth))
    }

    /// Notes why the caller gets the best answer, before it goes.
    pub(crate) fn note_best(&mut self, now: Time, id: Id) {
        let Some(context) = self.contexts.get(id) else { return };
        let cancelled = context.cancelled;
        let best = context.best.as_ref().map(|best| (best.status, best.response.is_some()));
        let Some(record) = self.record_of(id) else { return };
        let (cause, by, q850) = match best {
            _ if cancelled => (Cause::Cancelled, Party::Caller, record.q850),
            Some((status, true)) => {
                let given = |attempt: &&AttemptRecord| attempt.status == Some(status) && attempt.local.is_none();
                let q850 = record.attempts.iter().rev().find(given).and_then(|attempt| attempt.q850);
                (Cause::Refused, Party::Callee, q850)
            }
            Some((_, false)) => (Cause::Timeout, Party::Router, None),
            None => (Cause::Internal, Party::Router, None),
        };
        record.end(cause, by, now, q850);
    }

    pub(crate) fn drop_call(&mut self, now: Time, id: Id, out: &mut Outbox) {
        let Some(mut call) = self.calls.remove(id) else { return };
        self.loads.remove(call.caller.address.ip());
        if let Ok(entry) = self.by_call.find_entry(call.hash, |(_, other)| *other == id) {
            entry.remove();
        }
        let stays = call.legs.iter_mut().filter_map(|leg| leg.stay.take());
        out.events.extend(stays.map(|stay| stay.over(now)));
        call.record.end(Cause::Internal, Party::Router, now, None);
        out.events.push(Event::Ended(call.record));
    }
}

/// Why an attempt was given up.
pub(crate) fn local_of(status: u16, heard: bool) -> Local {
    match (status, heard) {
        (503, _) => Local::Unsent,
        (_, true) => Local::Unanswered,
        (_, false) => Local::Silence,
    }
}
