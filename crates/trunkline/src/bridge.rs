//! What the SIP engine asks, answered from the route table; what it tells, counted and logged.
//!
//! Everything here runs on the threads of the engine, with a shard locked for [`Router::route`]: it only
//! reads the table of now, moves counters, and hands log lines to a thread of their own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use arc_swap::ArcSwap;
use proxy::{Answer, Event, Question, Router, Target};
use routing::{Decision, RouteTable};
use tracing::{info, warn};

use crate::metrics::Counters;

/// Log lines that may wait; further ones are counted and dropped.
const WAITING_LINES: usize = 4096;

/// The [`Router`] of the engine.
pub struct Bridge {
    table: Arc<ArcSwap<RouteTable>>,
    counters: Arc<Counters>,
    lines: SyncSender<Event>,
}

impl Bridge {
    /// Starts the thread that writes log lines.
    pub fn start(table: Arc<ArcSwap<RouteTable>>, counters: Arc<Counters>) -> std::io::Result<Arc<Bridge>> {
        let (lines, waiting) = sync_channel(WAITING_LINES);
        std::thread::Builder::new().name("sip-log".into()).spawn(move || write_lines(&waiting))?;
        Ok(Arc::new(Bridge { table, counters, lines }))
    }
}

impl Router for Bridge {
    fn allowed(&self, source: IpAddr) -> bool {
        self.table.load().allows(source)
    }

    fn route(&self, question: &Question) -> Answer {
        match self.table.load().decide(question.takes_channel, &question.tried, question.draw) {
            Decision::Trunk(seat) => {
                let addresses = &seat.trunk().addresses;
                match addresses.get(question.draw as usize % addresses.len().max(1)).copied() {
                    Some(address) => Answer::Forward(Target { seat, address }),
                    None => Answer::Refuse("no trunk: unresolved".to_owned()),
                }
            }
            Decision::Nobody(why) => Answer::Refuse(why),
        }
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
            Event::Answered { .. } | Event::Silenced { .. } => {}
        }
    }
}
