//! The response context of a request (RFC 3261 §16.7): its server transaction, what was tried, and
//! the best answer so far.

use std::net::SocketAddr;

use crate::Time;
use crate::server::Server;
use crate::slab::Id;

#[derive(Debug)]
pub(crate) struct Context {
    pub hash: u64,
    pub key: Box<[u8]>,
    pub listener: u8,
    pub source: SocketAddr,
    pub reply_to: SocketAddr,
    pub invite: bool,
    /// The request as it came, until it is answered.
    pub request: Option<Box<[u8]>>,
    pub server: Server,
    /// Routed over trunks, hence fails over.
    pub over_trunks: bool,
    /// The attempt that is waited for.
    pub current: Option<Id>,
    /// Serial numbers of the trunks tried.
    pub tried: Vec<u32>,
    pub best: Option<Best>,
    pub call: Option<Id>,
    /// Begins the call, by an INVITE outside any dialog.
    pub begins_call: bool,
    /// A BYE: the leg goes when this is answered.
    pub ends_leg: Option<Tags>,
    pub cancelled: bool,
    pub rang: bool,
    pub armed: Time,
}

/// Tags of From and To of a request inside a dialog.
pub(crate) type Tags = (Box<[u8]>, Box<[u8]>);

/// A final answer that was received, or stands for silence (408) or a send error (503).
#[derive(Debug)]
pub(crate) struct Best {
    pub status: u16,
    pub response: Option<Box<[u8]>>,
}

impl Context {
    /// Keeps the better of two answers (§16.7 step 6): 6xx before all, then the lowest class; in a class the
    /// more telling one, and a received one before one of ours.
    pub fn offer(&mut self, status: u16, response: Option<&[u8]>) {
        let rank = |status: u16, received: bool| {
            let class = if status >= 600 { 0 } else { status / 100 };
            let telling = match status {
                401 | 407 | 415 | 420 | 484 => 0,
                503 => 2,
                _ => 1,
            };
            (class, telling, !received)
        };
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| rank(status, response.is_some()) <= rank(best.status, best.response.is_some()));
        if better {
            self.best = Some(Best { status, response: response.map(Into::into) });
        }
    }
}
