//! The registry as a pure state machine: commands in, writes or violations out; changes in, events out.
//!
//! It knows no store, no HTTP, no clock: [`Registry::decide`] says what a command would write, and only what
//! comes back by [`Registry::apply`] changes a record, so many processes over one store walk through the
//! same states. Leases are the exception by design: they live in memory alone, a heartbeat is one atomic
//! store, and a restart begins every lease at its full length.
//!
//! Three writers own three parts of a trunk, and none overwrites another's: the registrant its record
//! ([`Trunk`]), the operator the intent ([`Admin`]), the server status and counts ([`View`]). Routes and groups are the
//! operator's alone ([`Route`], [`Group`]).

mod admin;
mod aging;
mod apply;
mod binding;
mod changes;
mod command;
mod decide;
mod event;
mod health;
mod imagine;
mod lease;
mod members;
mod parse;
mod plan;
mod routes;
mod state;
mod trunk;
mod view;

pub use admin::{Admin, AdminState};
pub use binding::Binding;
pub use changes::{Document, HistoryChange, HistoryEntry, is_record};
pub use command::{
    Collection, Command, Condition, Decision, Edit, Expect, Kind, Match, Outcome, Violation, Write, validate_id,
};
pub use event::{Event, EventKind, TrunkEvent};
pub use health::{Health, Verdict};
pub use imagine::Imagined;
pub use lease::Beat;
pub use members::Members;
pub use plan::Kept;
pub use routes::{
    Called, Conditions, Fault, Group, Guard, HashOn, HeaderCondition, Labels, Policy, Rewrite, Route, RouteTarget,
    Treatment, Window, validate_group,
};
pub use sip::Transport;
pub use state::{Now, Registry, Settings};
pub use trunk::{GROUP, Probe, Register, Reroute, Tls, Trunk};
pub use view::{Reason, View};
