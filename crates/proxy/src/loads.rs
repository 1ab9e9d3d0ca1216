//! How much of a shard each source holds: INVITEs without their ACK, and standing calls.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::shard::Shard;
use crate::slab::Id;
use crate::{Block, Event, Time};

/// A source that holds too much is left alone for so long, in milliseconds.
const ALONE: u64 = 1000;

#[derive(Debug, Default)]
pub(crate) struct Loads(HashMap<IpAddr, u32>);

/// What a shard holds, for measures and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Server transactions.
    pub transactions: usize,
    /// Client transactions.
    pub clients: usize,
    /// Standing calls.
    pub calls: usize,
    /// Their dialogs.
    pub legs: usize,
    /// ACKs that wait for a look-up.
    pub held_acks: usize,
    /// Sources that any of it is counted for.
    pub sources: usize,
}

impl Loads {
    pub fn add(&mut self, source: IpAddr) {
        *self.0.entry(source).or_default() += 1;
    }

    pub fn remove(&mut self, source: IpAddr) {
        if let Some(count) = self.0.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&source);
            }
        }
    }

    pub fn of(&self, source: IpAddr) -> usize {
        self.0.get(&source).map_or(0, |count| *count as usize)
    }
}

impl Shard {
    /// How much it holds.
    pub fn held(&self) -> Held {
        Held {
            transactions: self.contexts.len().max(self.by_key.len()),
            clients: self.clients.len(),
            calls: self.calls.len().max(self.by_call.len()),
            legs: self.calls.iter().map(|call| call.legs.len()).sum(),
            held_acks: self.acks.len(),
            sources: self.loads.0.len(),
        }
    }

    /// Whether a source holds all that it may. Then it is left alone for a moment, before anything of it is even read.
    pub(crate) fn holds_too_much(&self, source: IpAddr, now: Time, out: &mut crate::Outbox) -> bool {
        if self.loads.of(source) < self.config.max_of_source {
            return false;
        }
        self.config.blocked.block(source, Block::All, now.plus_millis(ALONE), now);
        out.events.push(Event::Silenced { cause: "source_full" });
        true
    }

    /// An INVITE has its ACK, or needs none.
    pub(crate) fn settle_context(&mut self, id: Id) {
        if let Some(context) = self.contexts.get_mut(id)
            && std::mem::take(&mut context.weighs)
        {
            self.loads.remove(context.source.ip());
        }
    }
}
