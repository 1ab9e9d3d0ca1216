//! What the SIP engine asks, answered from the route table; what it tells, counted and logged.
//!
//! Everything here runs on the threads of the engine, with a shard locked for [`Router::route`]: it only
//! reads the table of now, moves counters, and hands log lines to a thread of their own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use arc_swap::ArcSwap;
use control::Control;
use jiff::Timestamp;
use net::Clock;
use proxy::{Answer, Block, Config, Event, Lookup, Question, Registration, Router, Target};
use records::Records;
use registrar::Registrar;
use routing::{Admission, Ask, Decision, Refusal, RouteTable, Subject};
use tokio::sync::mpsc::{self, error::TrySendError as TrySend};
use tracing::{info, warn};

use crate::account;
use crate::merit::Merits;
use crate::metrics::Counters;
use crate::recent::Recent;
use crate::request::Request;
use crate::watch::Watch;

/// Log lines that may wait; further ones are counted and dropped.
const WAITING_LINES: usize = 4096;

/// Work for the desk that may wait; further work is counted and dropped, and its peer sends it again.
pub const WAITING_WORK: usize = 4096;

/// A source whose REGISTER requests are ignored is not even read for so long, in milliseconds.
const IGNORED: u64 = 1000;

/// What the engine wants done that takes time.
#[derive(Debug)]
pub enum Work {
    /// A name to resolve.
    Locate(Lookup),
    /// A REGISTER to decide.
    Register(Registration),
}

/// The [`Router`] of the engine.
pub struct Bridge {
    /// The table of now.
    pub table: Arc<ArcSwap<RouteTable>>,
    /// Counters of the router.
    pub counters: Arc<Counters>,
    /// What is seen of targets.
    pub watch: Arc<Watch>,
    /// How well trunks complete calls.
    pub merits: Arc<Merits>,
    /// Judges REGISTER requests.
    pub registrar: Arc<Registrar>,
    /// The registry, for connections that end.
    pub control: Arc<Control>,
    /// The clock of the engine.
    pub clock: Clock,
    /// Settings of the shards, where sources are blocked.
    pub proxy: Arc<Config>,
    /// The desk.
    pub work: mpsc::Sender<Work>,
    /// The log.
    pub lines: SyncSender<Event>,
    /// Takes the records of calls that have ended, unless the settings want none.
    pub records: Option<Arc<Records>>,
    /// The last calls that have ended.
    pub recent: Arc<Recent>,
    /// Whether all trunks were in doubt at the last call.
    pub in_panic: AtomicBool,
}

/// Starts the thread that writes log lines.
pub fn start_log() -> std::io::Result<SyncSender<Event>> {
    let (lines, waiting) = sync_channel(WAITING_LINES);
    std::thread::Builder::new().name("sip-log".into()).spawn(move || write_lines(&waiting))?;
    Ok(lines)
}

impl Bridge {
    fn give(&self, work: Work) {
        if self.work.try_send(work).is_err() {
            self.counters.shed("desk");
        }
    }

    /// Says once when a panic begins and when it ends.
    fn note_panic(&self, panic: bool) {
        if panic {
            self.counters.panic();
        }
        if self.in_panic.load(Relaxed) != panic && self.in_panic.swap(panic, Relaxed) != panic {
            if panic {
                warn!("panic: every trunk is in doubt, calls are tried over all of them nevertheless");
            } else {
                info!("panic over: a trunk is well again");
            }
        }
    }
}

impl Router for Bridge {
    fn admit(&self, source: IpAddr, names: &[Box<str>]) -> Admission {
        self.table.load().admit(source, names)
    }

    fn route(&self, question: &Question) -> Answer {
        let (again, tried) = question.again.as_ref().map_or(("", [].as_slice()), |(id, tried)| (id, tried));
        let headers = Request::new(question.request());
        let wall = Timestamp::try_from(self.clock.wall(question.now)).unwrap_or_default();
        let ask = Ask {
            begins_call: question.begins_call,
            secure: question.secure,
            tried: &question.tried,
            again: question.again.is_some().then_some((again, tried)),
            now: question.now.0,
            draw: question.draw,
            subject: Subject {
                called: question.called(),
                calling: question.calling(),
                request_uri: headers.request_uri(),
                domain: question.domain(),
                call_id: question.call_id(),
                source: Some(question.source.ip()),
                names: question.names.as_deref().unwrap_or_default(),
                at: wall,
                headers: &headers,
            },
            trace: question.begins_call,
        };
        match self.table.load().decide(&ask) {
            Decision::Trunk { seat, target, panic, rule, trace } => {
                self.note_panic(panic);
                Answer::Forward(Target { seat, index: target, rule, trace })
            }
            Decision::Nobody(Refusal { no_route, why, trace }) => {
                let status = if no_route { 404 } else { 503 };
                Answer::Refuse { status, reason: why, trace: Some(trace) }
            }
        }
    }

    fn register(&self, registration: Registration) -> Result<(), Registration> {
        if self.registrar.ignores(registration.source.ip(), self.clock.now().0 / 1000) {
            self.counters.registration("ignored");
            let now = self.clock.now();
            let source = registration.source.ip();
            self.proxy.blocked.block(source, Block::Register, now.plus_millis(IGNORED), now);
            return Err(registration);
        }
        match self.work.try_send(Work::Register(registration)) {
            Ok(()) => Ok(()),
            Err(TrySend::Full(work) | TrySend::Closed(work)) => {
                self.counters.shed("desk");
                match work {
                    Work::Register(registration) => Err(registration),
                    Work::Locate(_) => Ok(()),
                }
            }
        }
    }

    fn locate(&self, lookup: Lookup) {
        self.give(Work::Locate(lookup));
    }

    fn event(&self, event: Event) {
        self.counters.count(&event);
        self.watch.tell(&event);
        self.merits.tell(&event);
        let event = match event {
            Event::Ended(call) => {
                if let Some(records) = &self.records {
                    records.offer(account::record(&call, &self.table.load(), self.clock));
                }
                return self.recent.push(call);
            }
            other => other,
        };
        if let Event::Closed { connection } = event {
            self.control.connection_closed(connection.0);
        }
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
            | Event::Ended(_)
            | Event::Closed { .. }
            | Event::Over { .. }
            | Event::Oversized
            | Event::Probed { .. }
            | Event::Silenced { .. } => {}
        }
    }
}
