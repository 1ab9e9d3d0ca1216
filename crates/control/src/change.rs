//! The way of a change: who asks for it, and how it becomes durable and is told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use registry::{Collection, Command, Decision, Edit, HistoryEntry, Now, Outcome, Registry, Violation};
use store::{Bytes, CommitError, Expect, Revision, Write};
use tokio::time::timeout;

use crate::Core;
use crate::mirror::At;

/// How often a command is decided again after another process changed the same record in between.
const ATTEMPTS: usize = 16;

/// How long a command waits to see its own change before it says that the store is in trouble.
const VISIBLE: Duration = Duration::from_secs(5);

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever sent a request from this address.
    Http(SocketAddr),
    /// The lease clock of this process.
    LeaseClock,
    /// A trunk that registered by SIP.
    Sip,
    /// Nobody has said.
    Unknown,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Http(address) => address.ip().to_canonical().fmt(f),
            Actor::LeaseClock => f.write_str("lease clock"),
            Actor::Sip => f.write_str("sip register"),
            Actor::Unknown => f.write_str("unknown"),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The registry refuses it.
    #[error("{0}")]
    Refused(Violation),
    /// The state is not what it was taken for.
    #[error("{0}")]
    Conflict(String),
    /// What it asks for is no longer kept.
    #[error("{0}")]
    Gone(String),
    /// It changes more than one batch may.
    #[error("{0}")]
    TooLarge(String),
    /// The store cannot take it now, or does not say whether it did. Worth trying again.
    #[error("store unavailable: {0}")]
    Unavailable(String),
}

/// A change that was made, or that would be.
#[derive(Debug)]
pub(crate) struct Made {
    pub outcome: Outcome,
    /// The store's revision since; the revision of now where nothing was written.
    pub revision: Revision,
    /// What changed for people.
    pub history: Option<HistoryEntry>,
}

impl Core {
    pub(crate) async fn execute(&self, command: Command, actor: &Actor) -> Result<Outcome, ExecuteError> {
        let _turn = self.turns.take(record(&command)).await;
        let decide = |registry: &Registry, _, now| registry.decide(&command, now).map_err(ExecuteError::Refused);
        Ok(self.commit(decide, actor, cause(&command)).await?.outcome)
    }

    /// Decides, writes with what history needs, and waits until readers see it; all of it again where another process was
    /// faster. The caller has its turn.
    pub(crate) async fn commit(
        &self,
        decide: impl Fn(&Registry, At, Now) -> Result<Decision, ExecuteError>,
        actor: &Actor,
        cause: &str,
    ) -> Result<Made, ExecuteError> {
        let unavailable = |why: &str| ExecuteError::Unavailable(why.to_owned());
        for _ in 0..ATTEMPTS {
            let (decision, history, revision) = self.mirror.read_at(|registry, at, now| {
                let decision = decide(registry, at, now)?;
                let history = registry.history_of(&decision.writes, &actor.to_string(), cause, now);
                Ok((decision, history, at.applied))
            })?;
            let Decision { writes, outcome } = decision;
            if writes.is_empty() {
                return Ok(Made { outcome, revision, history });
            }
            let mut batch: Vec<Write> = writes.into_iter().map(write).collect();
            if let Some(entry) = &history {
                batch.push(Write::put(self.names.next(self.boot), entry.encode()).expecting(Expect::Absent));
            }
            match self.store.commit(batch).await {
                Ok(revision) => {
                    self.health.write(Ok(()));
                    let shown = timeout(VISIBLE, self.mirror.caught_up(revision)).await;
                    return shown
                        .map(|()| Made { outcome, revision, history })
                        .map_err(|_| unavailable("written, but the change stream does not bring it"));
                }
                Err(CommitError::Conflict { .. }) => {
                    // We decided on what was no longer true: see what is, then decide again.
                    let now = self.store.revision().await;
                    if timeout(VISIBLE, self.mirror.caught_up(now)).await.is_err() {
                        return Err(unavailable("the change stream stands still"));
                    }
                }
                Err(CommitError::Unavailable(why)) => {
                    self.health.write(Err(why.clone()));
                    return Err(ExecuteError::Unavailable(why));
                }
                Err(CommitError::TooLarge(what)) => {
                    let message = format!("this changes too much at once ({what}): do it in parts");
                    return Err(ExecuteError::TooLarge(message));
                }
                Err(refused @ CommitError::Invalid(_)) => {
                    return Err(ExecuteError::Unavailable(refused.to_string()));
                }
            }
        }
        Err(unavailable("the record changes faster than it can be decided on"))
    }
}

/// The registry knows no store; this is the seam between the two.
fn write(decided: registry::Write) -> Write {
    let expect = match decided.expect {
        registry::Expect::Any => Expect::Any,
        registry::Expect::Absent => Expect::Absent,
        registry::Expect::Modified(revision) => Expect::Modified(revision),
    };
    Write { key: decided.key, expect, value: decided.value.map(Bytes::from) }
}

/// The record that a command is about: a trunk with all of its parts, a route or a group.
fn record(command: &Command) -> (Option<Collection>, &str) {
    match command {
        Command::Register { id, .. }
        | Command::Patch { id, .. }
        | Command::Deregister { id, .. }
        | Command::SetAdmin { id, .. }
        | Command::ClearAdmin { id }
        | Command::Bind { id, .. }
        | Command::Unbind { id }
        | Command::Expire { id, .. }
        | Command::PurgeAdmin { id, .. } => (None, id),
        Command::Edit { of, id, .. } => (Some(*of), id),
    }
}

/// What history says a change came from.
fn cause(command: &Command) -> &'static str {
    match command {
        Command::Register { .. } | Command::SetAdmin { .. } | Command::Edit { edit: Edit::Put(_), .. } => "PUT",
        Command::Patch { .. } | Command::Edit { edit: Edit::Patch(_), .. } => "PATCH",
        Command::Deregister { .. } | Command::ClearAdmin { .. } | Command::Edit { edit: Edit::Delete, .. } => "DELETE",
        Command::Bind { .. } | Command::Unbind { .. } => "REGISTER",
        Command::Expire { .. } => "lease expired",
        Command::PurgeAdmin { .. } => "trunk long deregistered",
    }
}
