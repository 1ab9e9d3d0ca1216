//! Routes and groups: what the operator says about where calls go.
//!
//! A [`Route`] says which calls it takes and to which groups or trunks they go; a [`Group`] says how the trunks that name it
//! share load. Both are the operator's alone. Members that are not known are refused: a condition with a typing error
//! would take calls that it should not.

pub(crate) mod check;
mod group;
pub(crate) mod parse;
mod route;
#[cfg(test)]
mod tests;
mod window;
pub(crate) mod write;

pub use check::Fault;
pub(crate) use check::escape;
pub use group::{Group, Guard, HashOn, Policy};
pub use parse::validate_group;
pub use route::{Called, Conditions, HeaderCondition, Labels, Rewrite, Route, RouteTarget, Treatment};
pub use window::Window;
