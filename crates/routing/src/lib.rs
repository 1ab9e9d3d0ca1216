//! From what the registry knows to where a call goes.
//!
//! A [`RouteTable`] is immutable: readers hold it while a newer one is swapped in. The only thing
//! that moves below it are the counts of standing calls ([`Live`]), shared by all tables that know
//! the same trunk, so a limit holds across a swap. Who has a [`Seat`] holds a channel; dropping it
//! gives the channel back, so a count can neither leak nor fall below zero.

mod builder;
mod decide;
mod group;
mod hand;
mod policy;
mod random;
mod rate;
mod rule;
mod search;
mod seat;
mod sources;
mod subject;
mod target;
mod tls;
mod trace;
mod trie;
mod trunk;
mod turns;

pub use builder::Builder;
pub use decide::{Ask, Decision, Imagination, Refusal, RouteTable};
pub use rule::Rule;
pub use seat::{Live, Seat};
pub use sources::{Admission, Sources};
pub use subject::{Headers, Subject, Unmet, number};
pub use target::{Place, Target, TargetLive};
pub use tls::TlsPeer;
pub use trace::{Considered, Matched, Trace, Verdict, Words};
pub use trunk::{Facts, Trunk};
