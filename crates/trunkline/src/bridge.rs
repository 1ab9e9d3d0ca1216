//! What the SIP engine asks, answered from the route table; what it tells, counted and logged.
//!
//! Everything here runs on the threads of the engine, with a shard locked for [`Router::route`]: it only
//! reads the table of now, moves counters, and hands log lines to a thread of their own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use arc_swap::ArcSwap;
use proxy::{Answer, Event, Lookup, Question, Registration, Router, Target};
use routing::{Admission, Ask, Decision, RouteTable};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::metrics::Counters;

/// Log lines that may wait; further ones are counted and dropped.
const WAITING_LINES: usize = 4096;

/// Work for the desk that may wait; further work is counted and dropped, and its peer sends it again.
pub const WAITING_WORK: usize = 4096;

/// What the engine wants done that takes time.
#[derive(Debug)]
pub enum Work {
    /// A name to resolve.
    Locate(Lookup),
}

/// The [`Router`] of the engine.
pub struct Bridge {
    table: Arc<ArcSwap<RouteTable>>,
    counters: Arc<Counters>,
    lines: SyncSender<Event>,
    work: mpsc::Sender<Work>,
}

impl Bridge {
    /// Starts the thread that writes log lines.
    pub fn start(
        table: Arc<ArcSwap<RouteTable>>,
        counters: Arc<Counters>,
        work: mpsc::Sender<Work>,
    ) -> std::io::Result<Arc<Bridge>> {
        let (lines, waiting) = sync_channel(WAITING_LINES);
        std::thread::Builder::new().name("sip-log".into()).spawn(move || write_lines(&waiting))?;
        Ok(Arc::new(Bridge { table, counters, lines, work }))
    }

    fn give(&self, work: Work) {
        if self.work.try_send(work).is_err() {
            self.counters.shed("desk");
        }
    }
}

impl Router for Bridge {
    fn admit(&self, source: IpAddr, names: &[Box<str>]) -> Admission {
        self.table.load().admit(source, names)
    }

    fn route(&self, question: &Question) -> Answer {
        let (again, tried) = question.again.as_ref().map_or(("", [].as_slice()), |(id, tried)| (id, tried));
        let ask = Ask {
            begins_call: question.begins_call,
            secure: question.secure,
            tried: &question.tried,
            again: question.again.is_some().then_some((again, tried)),
            now: question.now.0,
            draw: question.draw,
        };
        match self.table.load().decide(&ask) {
            Decision::Trunk { seat, target, panic } => {
                if panic {
                    self.counters.panic();
                }
                Answer::Forward(Target { seat, index: target })
            }
            Decision::Nobody(why) => Answer::Refuse(why),
        }
    }

    fn register(&self, _: Registration) {
        // Not served: no shard hands one on (`Config::registers`).
        self.counters.shed("registrar");
    }

    fn locate(&self, lookup: Lookup) {
        self.give(Work::Locate(lookup));
    }

    fn event(&self, event: Event) {
        self.counters.count(&event);
        if matches!(event, Event::Refused { .. } | Event::Lost { .. } | Event::Attempt { local: true, .. })
            && let Err(TrySendError::Full(_)) = self.lines.try_send(event)
        {
            self.counters.drop_line();
        }
    }
}

fn write_lines(waiting: &Receiver<Event>) {
    for event in waiting {
        match event {
            Event::Refused { cause, source, call_id, reason } => {
                info!(cause, %source, call_id, reason, "request refused");
            }
            Event::Lost { cause, trunk, call_id } => {
                warn!(cause, trunk = &*trunk.id, call_id, "call given back without its BYE");
            }
            Event::Attempt { trunk, status, .. } => {
                let cause = if status == 408 { "no answer" } else { "not deliverable" };
                warn!(trunk = &*trunk.id, cause, "attempt failed");
            }
            Event::Answered { .. }
            | Event::Closed { .. }
            | Event::Oversized
            | Event::Probed { .. }
            | Event::Silenced { .. } => {}
        }
    }
}
