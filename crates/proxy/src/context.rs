//! The response context of a request (RFC 3261 §16.7): its server transaction, what was tried, and
//! the best answer so far.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::numbers::Numbers;
use crate::server::Server;
use crate::slab::Id;
use crate::{Hop, Located, Time};

#[derive(Debug)]
pub(crate) struct Context {
    pub hash: u64,
    pub key: Box<[u8]>,
    pub source: SocketAddr,
    /// Whether the source's assertions about identities are believed.
    pub trusted: bool,
    /// Where responses go; its listener is the one that the request came in by.
    pub reply: Hop,
    pub invite: bool,
    /// The names of the source's verified certificate.
    pub names: Option<Arc<[Box<str>]>>,
    /// The request as it came, until it is answered.
    pub request: Option<Arc<[u8]>>,
    pub numbers: Numbers,
    pub server: Server,
    /// Routed over trunks, hence fails over.
    pub over_trunks: bool,
    /// The attempt that is waited for.
    pub current: Option<Id>,
    /// An INVITE that counts among what its source holds.
    pub weighs: bool,
    /// Attempts made.
    pub attempts: u8,
    /// Waits no longer than this for the registrar or a look-up.
    pub waits_until: Option<Time>,
    /// Serial numbers of the trunks tried.
    pub tried: Vec<u32>,
    /// The trunk being tried, and the serial numbers of its targets that were.
    pub targets: Option<(Arc<str>, Vec<u32>)>,
    /// Further places for a request inside a dialog (RFC 3263 §4.3).
    pub places: Vec<Located>,
    /// It goes by TLS alone.
    pub secure: bool,
    /// Its large form could not go by TCP.
    pub small_only: bool,
    /// What we put into the INVITE as Session-Expires, where it had none.
    pub session: Option<u32>,
    /// The session interval that the request leaves with, where its sender can refresh the session itself (RFC 4028 §8.2).
    pub refreshable: Option<u32>,
    /// From as the caller wrote it, where a route has rewritten it.
    pub from: Option<Arc<[u8]>>,
    /// Reason lines of the CANCEL (RFC 3326).
    pub reason: Box<[u8]>,
    pub best: Option<Best>,
    pub call: Option<Id>,
    /// Begins the call, by an INVITE outside any dialog.
    pub begins_call: bool,
    /// A BYE: the leg goes when this is answered.
    pub ends_leg: Option<Hangup>,
    pub cancelled: bool,
    pub rang: bool,
    pub armed: Time,
}

/// A BYE.
#[derive(Debug)]
pub(crate) struct Hangup {
    pub from_tag: Box<[u8]>,
    pub to_tag: Box<[u8]>,
    pub at: Time,
    /// Q.850 cause of its Reason.
    pub q850: Option<u8>,
}

/// A final answer that was received, or stands for silence (408) or a send error (503).
#[derive(Debug)]
pub(crate) struct Best {
    pub status: u16,
    pub response: Option<Box<[u8]>>,
}

impl Context {
    pub fn next_timeout(&self) -> Option<Time> {
        self.server.next_timeout().into_iter().chain(self.waits_until).min()
    }

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
